"""A RAW of the right form whose values make no sense: refused or noted; honest odd frames pass."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_dng import RATIONAL, flat, made_dng

from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.raw.camera_files import load_camera_file
from drivers.raw.dng import dng_bytes
from drivers.raw.raw_files import load_raw, save_npz
from drivers.raw.raw_notes import RawNote
from drivers.raw.sense import look_at


def scene(height: int = 100, width: int = 64, seed: int = 0, black: float = 64, noise: float = 8) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    random = np.random.default_rng(seed)
    light = 0.5 + 0.5 * np.sin(x / 7) * np.cos(y / 9)
    shot = black + 1500 * light + random.normal(0, noise, (height, width))
    return np.asarray(np.clip(shot, 0, 4095), np.uint16)


def frame(mosaic: np.ndarray | None = None, **changes: Any) -> RawFrame:
    fields = {"cfa": "RGGB", "black_level": (64.0,) * 4, "white_level": 4095, "source": "x"}
    return RawFrame(mosaic=scene() if mosaic is None else mosaic.astype(np.uint16), **{**fields, **changes})


def notes_of(raw: RawFrame) -> list[str]:
    notes: list[RawNote] = []
    look_at(raw, notes)
    return [n.kind for n in notes]


def refusal(raw: RawFrame) -> str:
    with pytest.raises(FrameError) as caught:
        look_at(raw, [])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("value", [0, 64, 255, 0xCDCD & 0xFFF, 65535])
@pytest.mark.parametrize("rows", [4, 10, 40, 90])
@pytest.mark.parametrize("end", ["last", "first"])
def test_rows_of_one_value_beside_a_picture_are_refused(value: int, rows: int, end: str) -> None:
    mosaic = scene()
    mosaic[slice(-rows, None) if end == "last" else slice(rows)] = value
    raw = frame(mosaic, white_level=4095)
    assert f"its {end} {rows} of 100 rows hold nothing but {value}" in refusal(raw)


def test_a_copy_that_breaks_off_in_mid_row_is_refused() -> None:
    mosaic = scene()
    mosaic.ravel()[3333:] = 0
    assert "rows hold nothing but 0" in refusal(frame(mosaic))


@pytest.mark.parametrize("value", [0, 64, 65535])
@pytest.mark.parametrize(("first", "rows"), [(1, 4), (30, 10), (40, 40), (95, 4)])
def test_a_hole_between_rows_of_a_picture_is_refused(value: int, first: int, rows: int) -> None:
    """A bad sector, or a download of parts that one is missing of."""
    mosaic = scene()
    mosaic[first : first + rows] = value
    assert f"its rows {first} to {first + rows - 1} of 100 hold nothing but {value}" in refusal(frame(mosaic))


def test_a_small_hole_and_several_in_a_large_picture_are_refused() -> None:
    mosaic = scene(height=1000)
    mosaic[300:304] = 0
    assert "its rows 300 to 303 of 1000 hold nothing but 0" in refusal(frame(mosaic))
    mosaic = scene()
    mosaic[10:40] = mosaic[50:80] = 0
    assert "its rows 10 to 39 of 100 hold nothing but 0" in refusal(frame(mosaic))


@pytest.mark.parametrize("suffix", [".npz", ".raw", ".dng"])
def test_every_kind_of_file_is_looked_at(tmp_path: Path, suffix: str) -> None:
    mosaic = scene()
    mosaic[60:] = 0
    raw = frame(mosaic)
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        save_npz(path, raw)
    elif suffix == ".dng":
        path.write_bytes(dng_bytes(raw))
    else:
        path.write_bytes(mosaic.astype("<u2").tobytes())
        path.with_suffix(".toml").write_text(
            'width = 64\nheight = 100\ncontainer = "u16"\nendianness = "little"\nbits = 12\ncfa = "RGGB"\n'
            "black_level = 64\nwhite_level = 4095\n",
            encoding="utf-8",
        )
    with pytest.raises(FrameError, match="40 of 100 rows hold nothing but 0"):
        load_raw(path)


@pytest.mark.parametrize(("place", "what"), [(0, "hole"), (1, "hole"), (1, "far above white")])
def test_each_frame_of_a_burst_is_looked_at(tmp_path: Path, place: int, what: str) -> None:
    earlier = np.stack([scene()] * 2)
    whole, broken = tmp_path / "whole.npz", tmp_path / "broken.npz"
    save_npz(whole, frame(earlier=earlier.copy()))
    assert load_raw(whole).earlier is not None
    earlier[place, 60 if what == "hole" else 0 :] = 65535 if what == "far above white" else 0
    save_npz(broken, frame(earlier=earlier))
    told = {"hole": "40 of 100 rows hold nothing", "far above white": "above its white"}
    with pytest.raises(FrameError, match=rf"broken\.npz: frame {place + 1} of 3: .*{told[what]}"):
        load_raw(broken)


HONEST: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "dark": lambda r: r.normal(64, 3, (100, 64)),
    "dark, black taken away": lambda r: np.maximum(r.normal(0, 0.3, (100, 64)), 0) // 1,
    "all zeros": lambda r: np.zeros((100, 64)),
    "flat": lambda r: np.full((100, 64), 900),
    "bright sky above": lambda r: np.where(np.arange(100)[:, None] < 40, 4095, scene()),
    "all saturated": lambda r: np.full((100, 64), 4095),
    "drawn stripes": lambda r: np.repeat(np.where(np.arange(100)[:, None] // 10 % 2, 300, 900), 64, axis=1),
    "hot pixels on black": lambda r: np.where(r.random((100, 64)) > 0.999, 3000, 64),
    "bright sky between": lambda r: np.where(abs(np.arange(100)[:, None] - 50) < 20, 4095, scene()),
    "three rows of the middle": lambda r: np.where(abs(np.arange(100)[:, None] - 50) < 1.5, 0, scene()),
    "two rows at the edge": lambda r: np.where(np.arange(100)[:, None] < 2, 0, scene()),
    "zeros with a few ones": lambda r: r.random((100, 64)) > 0.98,
    "noise": lambda r: r.integers(0, 4095, (100, 64)),
}


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("turn", [1, -1])
def test_honest_odd_frames_pass(name: str, turn: int) -> None:
    mosaic = np.clip(HONEST[name](np.random.default_rng(1)), 0, 4095)[::turn]
    black = 0.01 if "few ones" in name else 0 if "taken away" in name or "zeros" in name else 64
    look_at(frame(mosaic, black_level=(float(black),) * 4), [])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), level=st.floats(0, 200), noise=st.floats(0.5, 50), black=st.floats(0, 100))
def test_noise_about_any_level_is_never_a_broken_file(seed: int, level: float, noise: float, black: float) -> None:
    random = np.random.default_rng(seed)
    mosaic = np.clip(random.normal(black + level, noise, (60, 64)), 0, 4095)
    look_at(frame(mosaic, black_level=(black,) * 4), [])


@pytest.mark.parametrize("black", [1800, 2500, 4000])
def test_a_black_level_above_the_picture_is_refused(black: float) -> None:
    assert "lie below its black level" in refusal(frame(black_level=(float(black),) * 4))


@pytest.mark.parametrize("white", [255, 500, 1000])
def test_a_white_level_far_below_the_picture_is_refused(white: int) -> None:
    assert "far above its white level" in refusal(frame(white_level=white))


def test_a_few_pixels_above_white_are_noted() -> None:
    mosaic = scene()
    mosaic[10:12, 10:20] = 4000
    assert notes_of(frame(mosaic, white_level=2000)) == ["above_white"]


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, []),
        ({"as_shot_wb": (40.0, 1.0, 1.5)}, ["odd_white_balance"]),
        ({"as_shot_wb": (2.0, 1.0, 0.01)}, ["odd_white_balance"]),
        ({"as_shot_wb": (4.0, 2.0, 3.0)}, ["green_gain"]),
        ({"exposure_s": 1e-9}, ["odd_exposure"]),
        ({"exposure_s": 1e6}, ["odd_exposure"]),
        ({"iso": 1e9}, ["odd_iso"]),
        ({"colour_matrix": ((0.6, -0.1, -0.1), (-0.4, 1.2, 0.2), (-0.1, 0.2, 0.6))}, ["odd_colour_matrix"]),
        ({"colour_matrix": ((1.6, -0.3, 0.1), (-0.4, 1.5, -0.6), (-0.2, -0.2, 1.5))}, ["odd_colour_matrix"]),
        ({"colour_matrix": ((1.6, -0.4, -0.201), (-0.3, 1.5, -0.2), (0.1, -0.6, 1.5))}, []),
        ({"iso": 409600.0, "exposure_s": 1 / 32000, "as_shot_wb": (8.0, 1.0, 0.2)}, []),
    ],
)
def test_metadata_that_looks_odd_is_noted(changes: dict[Any, Any], kinds: list[str]) -> None:
    assert notes_of(frame(**changes)) == kinds


# Colour matrices without inverse


THIRD = ((1 / 3,) * 3,) * 3
SINGULAR = {
    "equal numbers": THIRD,
    "zeros": ((0.0,) * 3,) * 3,
    "two rows alike": ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
    "nearly singular": ((1.0, 0.0, 0.0), (1.0, 1e-9, 0.0), (0.0, 0.0, 1.0)),
    "huge": ((1e300, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "large": ((1e7, 1.0 - 1e7, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_a_colour_matrix_without_inverse_is_one_line(tmp_path: Path, name: str) -> None:
    raw = frame(colour_matrix=SINGULAR[name])
    save_npz(tmp_path / "a.npz", raw)
    for use in (lambda: load_raw(tmp_path / "a.npz"), lambda: dng_bytes(raw)):
        with pytest.raises(FrameError, match="has no usable inverse") as caught:
            use()
        assert "\n" not in str(caught.value)


def test_libraw_as_a_device_fails_the_frame_and_goes_on() -> None:
    from drivers.device import Capture, Failure
    from drivers.programs.libraw_device import open_device

    with open_device("libraw:") as device:
        parameters = device.info().space.defaults
        good = frame(colour_matrix=((1.5, -0.4, -0.1), (-0.2, 1.5, -0.3), (0.0, -0.5, 1.5)))
        results = list(device.process_many([(frame(colour_matrix=THIRD), parameters), (good, parameters)]))
    assert isinstance(results[0], Failure)
    assert "no usable inverse" in results[0].reason
    assert isinstance(results[1], Capture)


def test_a_program_as_a_device_fails_the_frame_and_goes_on(tmp_path: Path) -> None:
    from drivers.device import Capture, Failure
    from drivers.programs.command_device import open_device

    (tmp_path / "isp.py").write_text(
        "import sys; open(sys.argv[1], 'wb').write(b'P6 64 100 255\\n' + bytes(3 * 64 * 100))", encoding="utf-8"
    )
    python = sys.executable.replace("\\", "/")
    (tmp_path / "r.toml").write_text(
        f'model = "one"\ncommand = ["{python}", "-S", "{{recipe}}/isp.py", "{{output}}", "{{raw}}", "{{gain}}"]\n'
        'raw = "dng"\n'
        '[output]\nfile = "out.ppm"\nkind = "ppm"\n'
        '[[parameters]]\nname = "gain"\nblock = "exposure"\nkind = "integer"\nlow = 0\nhigh = 9\ndefault = 1\n',
        encoding="utf-8",
    )
    with open_device(f"command:{tmp_path / 'r.toml'}") as device:
        parameters = device.info().space.defaults
        results = list(device.process_many([(frame(colour_matrix=THIRD), parameters), (frame(), parameters)]))
    assert isinstance(results[0], Failure)
    assert "no usable inverse" in results[0].reason
    assert isinstance(results[1], Capture), results[1]


@settings(max_examples=60, deadline=None)
@given(
    matrix=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=9, max_size=9),
    exposure=st.none() | st.floats(min_value=1e-12, max_value=1e12),
    gain=st.floats(min_value=1e-6, max_value=1e6),
    iso=st.none() | st.floats(min_value=0.1, max_value=1e9),
)
def test_any_metadata_makes_a_dng_or_one_line(matrix: list[Any], exposure: Any, gain: float, iso: Any) -> None:
    rows = tuple(tuple(matrix[i : i + 3]) for i in (0, 3, 6))
    raw = frame(colour_matrix=rows, exposure_s=exposure, as_shot_wb=(gain, 1.0, 1.0), iso=iso)
    try:
        assert dng_bytes(raw)[:2] == b"II"
    except FrameError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("seconds", [1e-7, 1 / 8000, 30.5, 1e6])
def test_long_and_short_exposures_survive_a_dng(seconds: float) -> None:
    again = load_camera_file(io.BytesIO(dng_bytes(frame(exposure_s=seconds))), "x.dng")
    assert again.exposure_s == pytest.approx(seconds, rel=1e-4)


def test_odd_white_balance_of_a_camera_file_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a.dng").write_bytes(made_dng(flat() + scene(48) % 9, {50728: (RATIONAL, [0.01, 1, 1])}))
    notes: list[RawNote] = []
    assert load_raw(tmp_path / "a.dng", notes).as_shot_wb is not None
    assert [n.kind for n in notes] == ["odd_white_balance"]


def test_a_frame_keeps_its_orientation_when_it_is_changed() -> None:
    assert replace(frame(orientation=3), iso=100.0).orientation == 3
