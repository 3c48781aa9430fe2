"""References: read by their own flag, turned to lie as their RAW, and refused where they could not be compared."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from drivers.frames import RawFrame
from drivers.orientation import ORIENTATIONS, to_sensor, upright
from drivers.raw.raw_files import save_npz
from drivers.raw.raw_notes import RawNote
from workbench.collect.raw_folder import read_raw_folder
from workbench.collect.raw_import import import_raws
from workbench.collect.references import read_reference
from workbench.errors import RawFolderError
from workbench.lab.dataset import Dataset

SCENE = np.random.default_rng(3).integers(0, 256, (24, 36, 3), dtype=np.uint8)


def raw(flag: int = 1, height: int = 24, width: int = 36) -> RawFrame:
    """A RAW whose scene is upright of that size; its own pixels lie as the flag says."""
    sides = (width, height) if flag >= 5 else (height, width)
    return RawFrame(np.full(sides, 500 + flag, np.uint16), "RGGB", (64,) * 4, 4095, orientation=flag)


def write(path: Path, pixels: np.ndarray = SCENE, flag: int | None = None) -> Path:
    """A file that shows the pixels when it is turned by its flag."""
    exif = Image.Exif()
    if flag is not None:
        exif[274] = flag
    Image.fromarray(pixels if flag is None else to_sensor(pixels, flag)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("file_flag", [None, 3, 6])
@pytest.mark.parametrize("raw_flag", ORIENTATIONS)
def test_a_reference_lies_as_its_raw(tmp_path: Path, raw_flag: int, file_flag: int | None, suffix: str) -> None:
    pixels, notes = read_reference(write(tmp_path / f"r{suffix}", flag=file_flag), raw(raw_flag))
    assert np.array_equal(pixels, to_sensor(SCENE, raw_flag))
    assert np.array_equal(upright(pixels, raw_flag), SCENE)
    assert len(notes) == (raw_flag != 1 or file_flag is not None)


def test_a_jpeg_reference_is_turned_alike(tmp_path: Path) -> None:
    smooth = cv2.resize(SCENE[:4, :6], (36, 24), interpolation=cv2.INTER_CUBIC)
    pixels, _ = read_reference(write(tmp_path / "r.jpg", smooth, 8), raw(3))
    assert np.abs(pixels.astype(int) - to_sensor(smooth, 3)).mean() < 12


@pytest.mark.parametrize(
    ("pixels", "file_flag", "raw_flag", "told"),
    [
        (SCENE, None, 6, "the reference is 36×24, its RAW 36×24, orientation flag 6;"),
        (SCENE, 6, 1, "the reference is 36×24, orientation flag 6, its RAW 36×24, upright;"),
        (SCENE[:12], None, 1, "the reference is 36×12, its RAW 36×24, upright;"),
        (SCENE[:, :12], 8, 3, "the reference is 12×24, orientation flag 8, its RAW 36×24, orientation flag 3;"),
    ],
)
def test_sizes_that_do_not_fit_name_both_and_the_flags(
    tmp_path: Path, pixels: np.ndarray, file_flag: int | None, raw_flag: int, told: str
) -> None:
    exif = Image.Exif()
    if file_flag:
        exif[274] = file_flag
    Image.fromarray(pixels).save(tmp_path / "r.png", exif=exif)
    frame = RawFrame(np.full((24, 36), 500, np.uint16), "RGGB", (64,) * 4, 4095, orientation=raw_flag)
    with pytest.raises(RawFolderError) as caught:
        read_reference(tmp_path / "r.png", frame)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def image(kind: str) -> bytes:
    """A file of the right size that cannot be compared."""
    picture = Image.fromarray(SCENE)
    stream = io.BytesIO()
    if kind == "grey":
        picture.convert("L").save(stream, "PNG")
    elif kind == "transparent":
        picture.putalpha(200)
        picture.save(stream, "PNG")
    elif kind == "inks":
        picture.convert("CMYK").save(stream, "JPEG")
    elif kind == "other format":
        picture.save(stream, "BMP")
    elif kind == "profile":
        picture.save(stream, "PNG", icc_profile=b"of another space")
    elif kind == "cut":
        picture.save(stream, "PNG")
        return stream.getvalue()[:200]
    elif kind == "empty":
        return b""
    else:
        return b"hello"
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("grey", "the reference is grey; save it as RGB"),
        ("transparent", "the reference is transparent in places"),
        ("inks", "the reference is in CMYK"),
        ("other format", "the reference is a BMP; save it as JPEG, PNG or TIFF"),
        ("profile", "the reference is in an unreadable colour profile, not sRGB"),
        ("cut", "the reference is not a picture that can be read"),
        ("empty", "the reference is not a picture that can be read"),
        ("text", "the reference is not a picture that can be read"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path: Path, kind: str, told: str) -> None:
    path = tmp_path / "r.png"
    path.write_bytes(image(kind))
    with pytest.raises(RawFolderError) as caught:
        read_reference(path, raw())
    assert str(caught.value).startswith(f"{path}: {told}")
    assert "\n" not in str(caught.value)


def test_a_picture_far_larger_than_its_raw_is_refused_by_its_header(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (12_000, 9_000)).save(stream, "PNG")
    (tmp_path / "r.png").write_bytes(stream.getvalue())
    with pytest.raises(RawFolderError, match="the reference is 12000×9000, its RAW 36×24"):
        read_reference(tmp_path / "r.png", raw())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_in_the_references_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.png")
    with pytest.raises(RawFolderError, match="is a named pipe, not a file"):
        read_reference(tmp_path / "r.png", raw())


def test_sixteen_bits_are_rounded_and_said(tmp_path: Path) -> None:
    values = SCENE.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "r.png"), values[..., ::-1])
    pixels, notes = read_reference(tmp_path / "r.png", raw())
    assert np.array_equal(pixels, SCENE)
    assert [note.text for note in notes] == ["its reference has 16 bits a channel, which are rounded to 8"]


def test_the_data_set_keeps_references_as_their_raws_lie(tmp_path: Path) -> None:
    (tmp_path / "raws").mkdir()
    for name, flag in (("a", 3), ("b", 6), ("c", 1)):
        save_npz(tmp_path / "raws" / f"{name}.npz", raw(flag))
        write(tmp_path / "raws" / f"{name}.reference.png")
    notes: list[tuple[str, RawNote]] = []
    with Dataset.open(tmp_path / "lab", create=True) as dataset:
        import_raws(dataset, read_raw_folder(tmp_path / "raws"), notes=notes)
        kept = {record.name: record.reference() for record in dataset.raws()}
    for name, flag in (("a", 3), ("b", 6), ("c", 1)):
        assert np.array_equal(np.asarray(kept[f"{name}.npz"]), to_sensor(SCENE, flag))
    assert [name for name, _ in notes if name != "c.npz"][:2] == ["a.npz", "b.npz"]


def pictured(height: int = 64, width: int = 96) -> tuple[RawFrame, np.ndarray]:
    """A RAW and the picture that it shows."""
    y, x = np.mgrid[:height, :width]
    light = 0.1 + 0.3 * (x / width) ** 2 + 0.5 * ((x // 24 + y // 16) % 2) * (y < 40)
    noise = np.random.default_rng(1).normal(0, 8, (height, width))
    frame = RawFrame((64 + 4000 * light + noise).astype(np.uint16), "RGGB", (64,) * 4, 4095)
    return frame, np.repeat((255 * light ** (1 / 2.2)).astype(np.uint8)[..., None], 3, axis=2)


def halved(pixels: np.ndarray, value: int, top: bool = False) -> np.ndarray:
    half = pixels.copy()
    (half[: len(half) // 2] if top else half[len(half) // 2 :])[:] = value
    return half


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: halved(p, 0), "the last 32 of 64 rows of its reference hold one colour"),
        (lambda p: halved(p, 128), "the last 32 of 64 rows of its reference hold one colour"),
        (lambda p: halved(p, 0, top=True), "the first 32 of 64 rows of its reference hold one colour"),
        (lambda p: np.full_like(p, 90), "the last 64 of 64 rows of its reference hold one colour"),
        (lambda p: p[::-1, ::-1], "does not look like it"),
        (lambda p: 255 - p, "does not look like it"),
        (lambda p: np.roll(p, (30, 24), (0, 1)), "does not look like it"),
    ],
)
def test_a_reference_that_can_hardly_be_meant_is_said(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], told: str
) -> None:
    frame, pixels = pictured()
    _, notes = read_reference(write(tmp_path / "r.png", change(pixels)), frame)
    assert [told in note.text for note in notes] == [True]


def test_a_reference_that_fits_has_no_note(tmp_path: Path) -> None:
    frame, pixels = pictured()
    assert read_reference(write(tmp_path / "r.png", pixels), frame)[1] == []
    sky = pixels.copy()
    sky[:20] = 255
    assert read_reference(write(tmp_path / "s.png", sky), frame)[1] == []
