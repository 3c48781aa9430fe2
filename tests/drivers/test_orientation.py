from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.orientation import ORIENTATIONS, exif_of_libraw, to_sensor, upright
from drivers.raw.dng import dng_bytes
from drivers.raw.raw_files import load_raw, save_npz


def frame(**changes: Any) -> RawFrame:
    mosaic = np.random.default_rng(0).integers(64, 1023, (32, 48), dtype=np.uint16)
    return RawFrame(**{"mosaic": mosaic, "cfa": "GRBG", "black_level": (64.0,) * 4, "white_level": 1023, **changes})


def turned_dng(raw: RawFrame, flag: int) -> bytes:
    return dng_bytes(raw).replace(struct.pack("<HHII", 274, 3, 1, 1), struct.pack("<HHII", 274, 3, 1, flag))


@pytest.mark.parametrize("flag", ORIENTATIONS)
def test_upright_is_what_opencv_makes_of_the_flag_and_has_an_inverse(flag: int) -> None:
    stored = np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, np.ones((16, 16), np.uint8))
    stored = np.repeat(stored[..., None], 3, axis=2)
    ok, jpeg = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 100])
    assert ok
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 274, 3, 1, flag, 0)
    flagged = jpeg.tobytes()[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg.tobytes()[2:]
    want = cv2.imdecode(np.frombuffer(flagged, np.uint8), cv2.IMREAD_COLOR)
    got = upright(stored, flag)
    assert got is not None
    assert want is not None
    assert got.shape == want.shape
    assert np.abs(got.astype(int) - want).max() <= 2
    np.testing.assert_array_equal(to_sensor(got, flag), stored)
    np.testing.assert_array_equal(to_sensor(upright(stored[..., 0], flag), flag), stored[..., 0])


@pytest.mark.parametrize("flag", [0, 9, -1, None, "3"])
def test_another_flag_is_refused(flag: Any) -> None:
    with pytest.raises(FrameError, match="1 to 8"):
        upright(np.zeros((2, 2)), flag)
    with pytest.raises(FrameError, match="1 to 8"):
        to_sensor(np.zeros((2, 2)), flag)
    with pytest.raises(FrameError, match="1 to 8"):
        frame(orientation=flag)


@pytest.mark.parametrize("flag", ORIENTATIONS)
def test_every_kind_of_file_keeps_flag_and_sensor_pixels(tmp_path: Path, flag: int) -> None:
    raw = frame()
    (tmp_path / "a.dng").write_bytes(turned_dng(raw, flag))
    save_npz(tmp_path / "a.npz", replace(raw, orientation=flag))
    (tmp_path / "a.raw").write_bytes(raw.mosaic.astype("<u2").tobytes())
    (tmp_path / "a.toml").write_text(
        'width = 48\nheight = 32\ncontainer = "u16"\nendianness = "little"\nbits = 10\ncfa = "GRBG"\n'
        f"black_level = 64\nwhite_level = 1023\norientation = {flag}\n",
        encoding="utf-8",
    )
    for name in ("a.dng", "a.npz", "a.raw"):
        again = load_raw(tmp_path / name)
        assert again.orientation == flag, name
        assert again.hash == raw.hash, name
        assert "orientation" not in again.metadata


def test_a_frame_that_lies_upright_has_the_file_it_always_had(tmp_path: Path) -> None:
    save_npz(tmp_path / "a.npz", frame())
    with np.load(tmp_path / "a.npz") as file:
        assert sorted(file.files) == ["black_level", "cfa", "mosaic", "white_level"]


def test_a_frame_handed_to_a_program_lies_as_the_sensor_read_it() -> None:
    assert dng_bytes(frame(orientation=6)) == dng_bytes(frame())


@pytest.mark.parametrize("value", [0, 9, 2.5, "left", [1, 2], float("nan"), True])
def test_an_npz_with_another_flag_is_refused(tmp_path: Path, value: Any) -> None:
    np.savez(
        tmp_path / "a.npz",
        mosaic=np.zeros((4, 4), np.uint16),
        cfa="RGGB",
        black_level=0,
        white_level=9,
        orientation=value,
    )
    with pytest.raises(FrameError, match="orientation"):
        load_raw(tmp_path / "a.npz")


def test_an_unknown_flip_of_libraw_is_upright() -> None:
    assert [exif_of_libraw(flip) for flip in (0, 3, 5, 6, 90, -1)] == [1, 3, 8, 6, 1, 1]
