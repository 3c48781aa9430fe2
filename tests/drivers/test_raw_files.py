from __future__ import annotations

import io
import json
import os
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.cfa import CFA_PATTERNS
from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.raw import camera_files
from drivers.raw.camera_files import load_camera_file
from drivers.raw.dng import dng_bytes
from drivers.raw.raw_files import RAW_SUFFIXES, load_raw, save_npz
from drivers.raw.tiff_tags import FileTags, read_tags

MATRIX = ((1.5, -0.4, -0.1), (-0.2, 1.5, -0.3), (0.0, -0.5, 1.5))


def picture(height: int = 128, width: int = 192, cfa: str = "RGGB") -> np.ndarray:
    """A smooth colourful scene as a mosaic: blobs of light, each channel with its own gain, 10 bits."""
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(3)
    light = np.zeros((height, width))
    for _ in range(60):
        cy, cx, r = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(6, 25)
        light += rng.uniform(0.2, 1) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / r**2)
    tint = np.cos(x / 23) * np.sin(y / 17)
    channels = {"R": light * (0.4 + 0.2 * tint), "G": light, "B": light * (0.6 - 0.3 * tint)}
    mosaic = np.empty((height, width))
    for i, c in enumerate(cfa):
        mosaic[i // 2 :: 2, i % 2 :: 2] = channels[c][i // 2 :: 2, i % 2 :: 2]
    scaled = 64 + mosaic / mosaic.max() * 900 + rng.normal(0, 2, mosaic.shape)
    return np.asarray(np.clip(scaled, 0, 1023), np.uint16)


def frame(**changes: Any) -> RawFrame:
    fields = {
        "mosaic": picture(),
        "cfa": "RGGB",
        "black_level": (64.0, 65.0, 66.0, 67.0),
        "white_level": 1023,
        "iso": 400.0,
        "exposure_s": 0.004,
        "as_shot_wb": (2.0, 1.0, 1.5),
        "colour_matrix": MATRIX,
    }
    return RawFrame(**{**fields, **changes})


def refusal(path: Path) -> str:
    with pytest.raises(FrameError) as caught:
        load_raw(path)
    text = str(caught.value)
    assert text.startswith(str(path.parent))
    assert "\n" not in text
    return text


# .npz


@pytest.mark.parametrize("changes", [{}, {"iso": None, "exposure_s": None, "as_shot_wb": None, "colour_matrix": None}])
def test_npz_round_trip(tmp_path: Path, changes: dict[Any, Any]) -> None:
    raw = frame(**changes)
    save_npz(tmp_path / "a.npz", raw)
    again = load_raw(tmp_path / "a.npz")
    assert again.hash == raw.hash
    assert again.source == str(tmp_path / "a.npz")


def test_npz_is_the_same_bytes_for_the_same_frame_and_leaves_nothing_else(tmp_path: Path) -> None:
    save_npz(tmp_path / "a.npz", frame())
    save_npz(tmp_path / "b.npz", frame())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    save_npz(path, frame())
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        save_npz(path, frame(iso=800.0))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_npz_written_by_hand_with_one_black_level(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", mosaic=picture(), cfa="GRBG", black_level=64, white_level=1023)
    raw = load_raw(tmp_path / "a.npz")
    assert (raw.cfa, raw.black_level, raw.iso) == ("GRBG", (64.0, 64.0, 64.0, 64.0), None)


GOOD = {"mosaic": np.zeros((4, 4), np.uint16), "cfa": "RGGB", "black_level": 0, "white_level": 255}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({**GOOD, "mosaic": np.zeros((4, 4), np.float32)}, "uint16 [H, W], not float32 [4, 4]"),
        ({**GOOD, "mosaic": np.array([[{}]])}, "Python objects"),
        ({k: v for k, v in GOOD.items() if k != "cfa"}, "no cfa in it"),
        ({**GOOD, "isso": 100}, "unknown key isso"),
        ({**GOOD, "cfa": "XTRA"}, "'XTRA' is not one of"),
        ({**GOOD, "black_level": [1, 2]}, "4 values"),
        ({**GOOD, "white_level": [1, 2]}, "bad RAW metadata"),
        ({**GOOD, "iso": "fast"}, "iso is fast, not a number"),
    ],
)
def test_wrong_npz_is_one_clear_line(tmp_path: Path, arrays: dict[Any, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    assert message in refusal(tmp_path / "a.npz")


@pytest.mark.parametrize("member", ["mosaic.npy", "mosaic"])
def test_an_npz_with_two_mosaics_is_refused(tmp_path: Path, member: str) -> None:
    """As where an archive was added to: readers differ in which of the two they take."""
    path = tmp_path / "a.npz"
    save_npz(path, frame())
    other = io.BytesIO()
    np.lib.format.write_array(other, np.asarray(frame().mosaic[::-1]))
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(member, other.getvalue())
    assert "mosaic stands in it twice" in refusal(path)


def test_npz_that_is_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"hello")
    assert "not an .npz" in refusal(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert "not an .npz" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "no black_level, cfa, mosaic, white_level in it" in refusal(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_npz_is_a_frame_error_or_the_frame(tmp_path: Path, at: int, value: int, cut: bool) -> None:
    path = tmp_path / "a.npz"
    save_npz(path, frame(mosaic=picture(16, 16)))
    data = bytearray(path.read_bytes())
    at %= len(data)
    if cut:
        data = data[:at]
    else:
        data[at] = value
    path.write_bytes(data)
    try:
        load_raw(path)
    except FrameError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_save_wants_the_suffix(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match=r"saved as \.npz"):
        save_npz(tmp_path / "a.raw", frame())


# Any file


@pytest.mark.parametrize("suffix", [".npz", ".dng", ".NEF", ".raw"])
def test_missing_empty_and_folders(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    assert "No such file" in refusal(path)
    path.touch()
    assert "0 bytes" in refusal(path)
    path.unlink()
    path.mkdir()
    assert "is a folder" in refusal(path)


def test_other_kinds_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    text = refusal(tmp_path / "a.jpg")
    assert ".jpg is not a RAW kind" in text
    assert ".dng" in text
    assert {".npz", ".raw", ".bin", ".dng", ".nef", ".cr2", ".arw", ".crw", ".kdc"} <= RAW_SUFFIXES


# Camera files


@pytest.mark.parametrize("cfa", CFA_PATTERNS)
def test_dng_reads_back(tmp_path: Path, cfa: str) -> None:
    raw = frame(mosaic=picture(130, 194, cfa), cfa=cfa, white_level=1000)
    path = tmp_path / "a.DNG"
    path.write_bytes(dng_bytes(raw))
    again = load_raw(path)
    np.testing.assert_array_equal(again.mosaic, raw.mosaic)
    np.testing.assert_allclose(np.array(again.colour_matrix), np.array(raw.colour_matrix), atol=2e-4)
    same = {k: v for k, v in raw.metadata.items() if k != "colour_matrix"}
    assert {k: v for k, v in again.metadata.items() if k != "colour_matrix"} == same


def test_dng_without_metadata_reads_back_without(tmp_path: Path) -> None:
    raw = frame(iso=None, exposure_s=None, as_shot_wb=None, colour_matrix=None)
    path = tmp_path / "a.dng"
    path.write_bytes(dng_bytes(raw))
    assert load_raw(path).hash == raw.hash


def test_a_camera_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.cr2"
    path.write_bytes(b"this is no RAW file" * 10)
    assert "LibRaw cannot read it as a RAW file" in refusal(path)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_that_becomes_another_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    """Its tags are read before LibRaw reads its pixels."""
    path, other = tmp_path / "a.dng", tmp_path / "b.dng"
    path.write_bytes(dng_bytes(frame(iso=100.0)))
    other.write_bytes(dng_bytes(frame(iso=800.0, white_level=1000)))
    os.utime(path, ns=(1_000, 1_000))  # another time than now, however coarse the clock

    def read_and_replace(file: BinaryIO) -> FileTags | None:
        tags = read_tags(file)
        path.write_bytes(other.read_bytes()) if in_place else other.replace(path)
        return tags

    with monkeypatch.context() as patch:
        patch.setattr(camera_files, "read_tags", read_and_replace)
        with pytest.raises(FrameError, match=r"a\.dng: was changed while it was read; wait until it is whole"):
            load_raw(path)
    assert load_raw(path).iso == 800


def test_a_truncated_dng(tmp_path: Path) -> None:
    data = dng_bytes(frame())
    path = tmp_path / "a.dng"
    path.write_bytes(data[: len(data) // 2])
    assert "copy it again" in refusal(path)


def test_a_dng_that_is_already_rgb(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "a.dng"
    ok, tiff = cv2.imencode(".tiff", np.zeros((64, 64, 3), np.uint8))
    assert ok
    path.write_bytes(tiff.tobytes())
    refusal(path)


def test_a_pattern_that_rawpy_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    import rawpy

    class Odd:
        color_desc = b"RGBG"

        @property
        def raw_colors_visible(self) -> np.ndarray:
            raise NotImplementedError("filters: 148")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.raw, name)

        def __enter__(self) -> Odd:
            self.raw = opened(stream)
            return self

        def __exit__(self, *_: object) -> None:
            self.raw.close()

    opened, stream = rawpy.imread, io.BytesIO(dng_bytes(frame(mosaic=picture(32, 32))))
    monkeypatch.setattr(rawpy, "imread", lambda file: Odd())
    with pytest.raises(FrameError, match=r"^x.dng: its colour filter array is unknown \(filters: 148; a damaged file"):
        load_camera_file(stream, "x.dng")


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_a_dng_with_a_damaged_directory_never_crashes(junk: bytes, at: int) -> None:
    data = bytearray(dng_bytes(frame(mosaic=picture(32, 32))))
    start = 8 + 32 * 32 * 2 + at
    data[start : start + len(junk)] = junk[: max(0, len(data) - start)]
    try:
        load_camera_file(io.BytesIO(bytes(data)), "x.dng")
    except FrameError as error:
        assert str(error).startswith("x.dng: ")  # noqa: PT017


# file, width, height, CFA, black level, white level, ISO, has white balance, has colour matrix
CAMERA = [
    ("canon_powershot_g2_CRW_0304.CRW", 2312, 1720, "RGGB", 32, 1023, 50, True, True),
    ("canon_powershot_s40_CRW_0117.CRW", 2312, 1720, "RGGB", 32, 1023, 50, True, True),
    ("kodak_DC120_P003908.KDC", 848, 976, "GRBG", 0, 255, 160, False, False),
    ("kodak_DC50_DC0012L.KDC", 768, 512, "GRBG", 0, 16383, 84, False, False),
    ("nikon_d1_hsexif.NEF", 2012, 1324, "BGGR", 0, 4095, 200, False, True),
    ("tinydng_colorchart.dng", 1734, 1156, "RGGB", 2056, 15000, None, True, True),
]


@pytest.mark.needs_data
@pytest.mark.parametrize(("name", "width", "height", "cfa", "black", "white", "iso", "wb", "matrix"), CAMERA)
def test_real_camera_files(
    data_dir: Path, name: Any, width: Any, height: Any, cfa: Any, black: Any, white: Any, iso: Any, wb: Any, matrix: Any
) -> None:
    raw = load_raw(data_dir / "raw" / "camera" / name)
    assert (raw.width, raw.height, raw.cfa, raw.iso) == (width, height, cfa, iso)
    assert raw.black_level == (black,) * 4
    assert raw.white_level == white
    assert (raw.exposure_s is not None) == (name != "tinydng_colorchart.dng")  # which says 0/1000000
    assert (raw.as_shot_wb is not None, raw.colour_matrix is not None) == (wb, matrix)
    if raw.colour_matrix:
        np.testing.assert_allclose(np.sum(raw.colour_matrix, axis=1), 1, atol=1e-5)
        assert min(np.diag(raw.colour_matrix)) > 1
    # The pattern fits the pixels: the two greens match each other better than red matches blue.
    quads = {i: raw.mosaic[i // 2 :: 2, i % 2 :: 2].astype(float) for i in range(4)}
    greens = [quads[i] for i in range(4) if cfa[i] == "G"]
    others = [quads[i] for i in range(4) if cfa[i] != "G"]
    assert np.abs(greens[0] - greens[1]).mean() < np.abs(others[0] - others[1]).mean()


@pytest.mark.needs_data
def test_as_shot_white_balance_makes_the_real_chart_greyer(data_dir: Path) -> None:
    raw = load_raw(data_dir / "raw" / "camera" / "canon_powershot_g2_CRW_0304.CRW")
    patch = raw.planes()[:, 620:680, 460:520].mean(axis=(1, 2))  # a grey of the chart's last row
    assert raw.as_shot_wb is not None
    balanced = patch * raw.as_shot_wb
    assert balanced.max() / balanced.min() < 1.35  # the camera judged the lamp a little too cold
    assert patch.max() / patch.min() > 1.6


@pytest.mark.needs_data
def test_a_real_file_cut_short_is_refused_or_read(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "raw" / "camera" / "nikon_d1_hsexif.NEF"
    path = tmp_path / "cut.nef"
    path.write_bytes(source.read_bytes()[:100_000])
    assert "cut.nef" in refusal(path)


# Headerless dumps


def sidecar(path: Path, **keys: Any) -> None:
    given = {k: list(v) if isinstance(v, tuple) else v for k, v in keys.items() if v is not None}
    lines = [f"{k} = {json.dumps(v)}" for k, v in given.items()]
    path.with_name(path.name + ".toml").write_text("\n".join(lines), encoding="utf-8")


RIGHT = {
    "width": 192,
    "height": 128,
    "container": "u16",
    "endianness": "little",
    "bits": 10,
    "cfa": "RGGB",
    "black_level": 64,
    "white_level": 1023,
}


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "a.raw"
    path.write_bytes(picture().astype("<u2").tobytes())
    return path


def test_headerless_with_the_right_sidecar(dump: Path) -> None:
    sidecar(dump, **RIGHT, iso=800, exposure_s=0.01, as_shot_wb=(2.0, 1.0, 1.5))
    raw = load_raw(dump)
    np.testing.assert_array_equal(raw.mosaic, picture())
    assert (
        raw.metadata
        == frame(
            black_level=(64.0,) * 4, iso=800.0, exposure_s=0.01, as_shot_wb=(2.0, 1.0, 1.5), colour_matrix=None
        ).metadata
    )


def test_headerless_big_endian_with_an_offset_and_four_black_levels(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"HEADER" + picture().astype(">u2").tobytes())
    sidecar(path, **{**RIGHT, "endianness": "big", "offset": 6, "black_level": (61, 62, 63, 64)})
    (tmp_path / "a.bin.toml").rename(tmp_path / "a.toml")  # the other name that a sidecar may have
    raw = load_raw(path)
    np.testing.assert_array_equal(raw.mosaic, picture())
    assert raw.black_level == (61.0, 62.0, 63.0, 64.0)


def test_headerless_without_sidecar(dump: Path) -> None:
    assert "needs a sidecar a.raw.toml" in refusal(dump)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 194}, "49152 bytes, but a.raw.toml says 194×128 u16 = 49664 bytes"),
        ({"offset": 2}, "after 2 bytes"),
        ({"bits": 9, "white_level": 511}, "above 511 that bits = 9"),
        ({"endianness": "big"}, 'endianness = "little" would fit'),
        ({"endianness": "big", "bits": 16, "white_level": 65535}, '"little" fits'),
        ({"width": 128, "height": 192}, "they look 192 pixels long"),
        ({"width": 256, "height": 96}, "they look 192 pixels long"),
        ({"cfa": "GRBG"}, "the pixels look like RGGB or BGGR"),
        ({"cfa": "GBRG"}, "the pixels look like RGGB or BGGR"),
        ({"container": "u8", "width": 384, "bits": 8, "black_level": 1, "white_level": 255}, 'container = "u16" fits'),
        ({"black_level": 1000}, "lie below black_level = 1000"),
        ({"white_level": 1024}, "does not fit bits = 10"),
        ({"black_level": 1023}, "not below white_level"),
        ({"container": "u8"}, "bits = 10 does not fit"),
        ({"container": "packed"}, "container = 'packed'"),
        ({"endianness": None}, 'needs endianness = "little" or "big"'),
        ({"cfa": "RGBG"}, "cfa = 'RGBG'"),
        ({"cfa": None}, "cfa: missing"),
        ({"widht": 192}, "unknown key 'widht' in the sidecar; did you mean 'width'?"),
        ({"width": 191, "height": 128}, "bytes"),
        ({"width": -2}, "width = -2"),
        ({"width": 192.0}, "width = 192.0"),
        ({"black_level": (1, 2)}, "black_level"),
        ({"iso": 0}, "iso = 0"),
    ],
)
def test_wrong_sidecars_are_caught(dump: Path, change: dict[Any, Any], message: str) -> None:
    sidecar(dump, **{**RIGHT, **change})
    assert message in refusal(dump)


def test_left_aligned_pixels_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes((picture() << 6).astype("<u2").tobytes())
    sidecar(path, **RIGHT)
    assert "left-aligned: say bits = 16 and multiply both levels by 64" in refusal(path)
    sidecar(path, **{**RIGHT, "bits": 16, "black_level": 64 * 64, "white_level": 1023 * 64})
    assert load_raw(path).white_level == 1023 * 64


def test_eight_bit_pixels_taken_for_sixteen(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    grey = np.repeat(np.repeat(picture()[::2, ::2] >> 2, 2, 0), 2, 1)
    path.write_bytes(grey.astype("u1").tobytes())
    sidecar(path, **{**RIGHT, "width": 96, "bits": 16, "white_level": 65535, "black_level": 0})
    assert 'container = "u8" fits' in refusal(path)


def test_a_sidecar_that_is_not_toml(dump: Path) -> None:
    dump.with_name("a.raw.toml").write_text("width: 192", encoding="utf-8")
    assert "a.raw.toml: not valid TOML" in refusal(dump)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(["noise", "flat", "stripes", "columns", "bars", "repeated bars", "diagonal", "edge"]),
    cfa=st.sampled_from(CFA_PATTERNS),
    level=st.integers(65, 700),
    period=st.sampled_from([2, 4, 8, 64]),
    seed=st.integers(0, 99),
)
def test_right_sidecars_of_unnatural_frames_pass(
    tmp_path: Path, kind: Any, cfa: Any, level: int, period: Any, seed: int
) -> None:
    """Dark frames, flat fields and test patterns decide nothing, so nothing may be refused."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:96, 0:128]
    wave = {
        "stripes": y // period % 2,
        "columns": x // period % 2,
        "bars": x // 16,
        "repeated bars": x // 16 % 4,
        "diagonal": (x + y) // period % 2,
        "edge": x + y > 100,
    }.get(kind, np.zeros((96, 128)))
    mosaic = level + wave * 40 + (rng.normal(0, 5, (96, 128)) if kind != "flat" else 0)
    path = tmp_path / "a.raw"
    path.write_bytes(np.clip(mosaic, 0, 1023).astype("<u2").tobytes())
    sidecar(path, **{**RIGHT, "width": 128, "height": 96, "cfa": cfa})
    assert load_raw(path).cfa == cfa


# file, width, height, container, bits, CFA as its maker states it
HEADERLESS = [
    ("infiniteisp_Indoor1_2592x1536_8bit_GRBG.raw", 2592, 1536, "u8", 8, "GRBG"),
    ("infiniteisp_Outdoor1_2592x1536_8bit_GRBG.raw", 2592, 1536, "u8", 8, "GRBG"),
    ("infiniteisp_Outdoor2_2592x1536_8bit_GRBG.raw", 2592, 1536, "u8", 8, "GRBG"),
    ("infiniteisp_dark_1920x1080_12bit_BGGR.raw", 1920, 1080, "u16", 12, "BGGR"),
    ("openisp_test_1920x1080_u16.raw", 1920, 1080, "u16", 10, "RGGB"),
    ("mushfiqulalam_DSC_1339_768x512_u16_rggb.raw", 768, 512, "u16", 14, "RGGB"),
]


@pytest.mark.needs_data
@pytest.mark.parametrize(("name", "width", "height", "container", "bits", "cfa"), HEADERLESS)
def test_real_headerless_dumps(
    data_dir: Path, tmp_path: Path, name: Any, width: Any, height: Any, container: Any, bits: Any, cfa: Any
) -> None:
    """Seen: the green positions of the declared order differ by 4-8 %, those of the other diagonal by 12-53 %; a wrong
    row length misses a perfect match 3 to 100 times as much as the right one. The dark frame shows no picture, so only
    its size and its bit depth can be checked."""
    path = tmp_path / name
    shutil.copyfile(data_dir / "raw" / "headerless" / name, path)
    right = {
        "width": width,
        "height": height,
        "container": container,
        "endianness": "little" if container == "u16" else None,
        "bits": bits,
        "cfa": cfa,
        "black_level": 0,
        "white_level": (1 << bits) - 1,
    }
    sidecar(path, **right)
    raw = load_raw(path)
    assert (raw.width, raw.height, raw.cfa) == (width, height, cfa)

    always = [{"height": height - 2}, {"bits": bits - 1, "white_level": (1 << (bits - 1)) - 1}]
    if container == "u16":
        always.append({"endianness": "big"})
    pictures = [{"width": height, "height": width}]
    pictures += [{"cfa": c} for c in ({"RGGB", "BGGR"} if cfa == "GRBG" else {"GRBG", "GBRG"})]
    if container == "u16":
        pictures.append({"endianness": "big", "bits": 16, "white_level": 65535})
    for change in always if "dark" in name else always + pictures:
        sidecar(path, **{**right, **change})
        refusal(path)


@pytest.mark.needs_data
@pytest.mark.parametrize("name", ["canon_powershot_g2_CRW_0305.CRW", "kodak_DC120_P003909.KDC", "nikon_d1_hsexif.NEF"])
def test_right_sidecars_of_real_crops_pass(data_dir: Path, tmp_path: Path, name: str) -> None:
    raw = load_raw(data_dir / "raw" / "camera" / name)
    rng = np.random.default_rng(1)
    path = tmp_path / "crop.raw"
    for height, width in [(raw.height, raw.width)] + [(128, 128), (96, 256), (256, 320)] * 8:
        y, x = rng.integers(0, raw.height - height + 1) // 2 * 2, rng.integers(0, raw.width - width + 1) // 2 * 2
        crop = raw.mosaic[y : y + height, x : x + width]
        path.write_bytes(crop.astype("<u2").tobytes())
        sidecar(path, **{**RIGHT, "width": width, "height": height, "bits": 16, "cfa": raw.cfa,
                         "black_level": raw.black_level, "white_level": raw.white_level})  # fmt: skip
        np.testing.assert_array_equal(load_raw(path).mosaic, crop)
