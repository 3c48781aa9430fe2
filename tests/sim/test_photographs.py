"""Photographs as scenes: upright by their flag whatever their kind, bounded, and refused in one line."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drivers.orientation import ORIENTATIONS, to_sensor
from drivers.splits import Split
from sim.scenes.coco_scenes import AnnotatedPhotograph, make_annotated_raws
from sim.scenes.photographs import SceneError, folder_photographs, read_photograph

PICTURE = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8), 16, 0), 16, 1)


def write(path: Path, flag: int | None = None, picture: np.ndarray = PICTURE) -> Path:
    exif = Image.Exif()
    if flag is not None:
        exif[274] = flag
    Image.fromarray(picture if flag is None else to_sensor(picture, flag)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("flag", ORIENTATIONS)
def test_a_png_is_turned_as_a_jpeg_is(tmp_path: Path, flag: int) -> None:
    assert np.array_equal(read_photograph(write(tmp_path / "a.png", flag)), PICTURE)
    jpeg = read_photograph(write(tmp_path / "a.jpg", flag))
    assert jpeg.shape == PICTURE.shape
    assert np.abs(jpeg.astype(int) - PICTURE).mean() < 20


def test_a_grey_photograph_is_a_scene_and_a_transparent_one_is_none(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).convert("L").save(tmp_path / "grey.jpg")
    grey = read_photograph(tmp_path / "grey.jpg")
    assert np.array_equal(grey[..., 0], grey[..., 2])
    image = Image.fromarray(PICTURE)
    image.putalpha(128)
    image.save(tmp_path / "glass.png")
    with pytest.raises(SceneError, match=r"glass\.png: the photograph is transparent in places"):
        read_photograph(tmp_path / "glass.png")


def test_what_is_no_photograph_is_one_line(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("1", (16_400, 16_400)).save(stream, "PNG")  # just over the limit
    for content, told in (
        (b"", "is not a photograph that can be read"),
        (b"hello", "is not a photograph that can be read"),
        (stream.getvalue(), "can be read|is too large for a scene"),
    ):
        (tmp_path / "a\x1b.png").write_bytes(content)
        with pytest.raises(SceneError, match=told) as caught:
            read_photograph(tmp_path / "a\x1b.png")
        assert str(caught.value).isprintable()
    with pytest.raises(SceneError, match="is too small"):
        read_photograph(write(tmp_path / "small.png", picture=PICTURE[:40]))


def test_a_name_that_is_not_utf8_is_a_scene_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        write(tmp_path / "a.png").rename(path)
    except OSError:
        pytest.skip("this disk knows only names in UTF-8")
    (found,) = folder_photographs(tmp_path)
    assert found.scene.isascii()
    assert read_photograph(found.paths[0]).shape == PICTURE.shape


@pytest.mark.parametrize("flag", [2, 3, 4, 5, 6, 7, 8])
def test_a_flag_that_leaves_two_readings_of_the_annotations_is_refused(tmp_path: Path, flag: int) -> None:
    square = PICTURE[:80, :80] if flag >= 5 else PICTURE
    size = (square.shape[1], square.shape[0])
    path = write(tmp_path / "a.png", flag, square)
    one = AnnotatedPhotograph("a", Split.TEST, 1, path, size, size, size)
    with pytest.raises(
        SceneError, match=f"has the Exif orientation {flag}, and annotations of {size[0]}×{size[1]} may"
    ):
        make_annotated_raws(tmp_path / "raws", [one], b'{"images": []}')


@pytest.mark.parametrize("flag", [5, 6, 7, 8])
def test_a_size_that_tells_which_way_it_was_annotated_is_followed(tmp_path: Path, flag: int) -> None:
    path = write(tmp_path / "a.png", flag)
    for size in ((96, 80), (80, 96)):
        one = AnnotatedPhotograph("a", Split.TEST, 1, path, size, size, size)
        (made,) = make_annotated_raws(tmp_path / f"raws{size[0]}", [one], b'{"images": []}')
        reference = np.asarray(Image.open(made.with_name("a.reference.png"))).astype(int)
        expected = PICTURE if size == (96, 80) else to_sensor(PICTURE, flag)
        assert np.abs(reference - expected).mean() < 30
        assert np.abs(reference[::-1, ::-1] - expected).mean() > 30
