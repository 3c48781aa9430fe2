from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.cfa import CFA_PATTERNS
from drivers.device import Capture, Device, DeviceInfo, Failure, FrameFailedError
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.programs.libraw_child import postprocess_arguments
from drivers.programs.libraw_device import LibRawDevice, open_device
from drivers.raw.raw_files import load_raw

BLACK, WHITE = 64, 4095


def scene(height: int = 96, width: int = 128) -> np.ndarray:
    """Linear RGB in [0, 1]: smooth shades, an edge and a clipped spot, so that every parameter has work to do."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    red = 0.15 + 0.25 * x
    green = 0.2 + 0.2 * y
    blue = 0.3 - 0.2 * x * y
    rgb = np.stack([red, green, blue], axis=-1)
    rgb[height // 3 :, width // 2 :] *= 0.4
    rgb[(y - 0.2) ** 2 + (x - 0.25) ** 2 < 0.01] = (0.95, 1.2, 1.1)
    rng = np.random.default_rng(7)
    return rgb + rng.normal(0, 0.01, rgb.shape)


def frame(height: int = 96, width: int = 128, cfa: str = "RGGB", **changes: Any) -> RawFrame:
    rgb = scene(height, width)
    mosaic = np.empty((height, width))
    for i, c in enumerate(cfa):
        mosaic[i // 2 :: 2, i % 2 :: 2] = rgb[i // 2 :: 2, i % 2 :: 2, "RGB".index(c)]
    dn = np.clip(np.round(BLACK + mosaic * (WHITE - BLACK)), 0, WHITE).astype(np.uint16)
    return RawFrame(**{"mosaic": dn, "cfa": cfa, "black_level": (BLACK,) * 4, "white_level": WHITE, **changes})


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with open_device("libraw:", 60.0) as opened:
        yield opened


@pytest.fixture(scope="module")
def info(device: Device) -> DeviceInfo:
    return device.info()


@pytest.fixture
def plain(info: DeviceInfo) -> ParameterSet:
    """Neutral gains, no stretching, linear tone: the output is the scene."""
    return info.space.defaults.replace(
        red_gain=1, blue_gain=1, auto_bright=False, gamma_power=1, gamma_slope=1, saturation_threshold=0.99
    )


def test_info_tells_versions_and_at_least_twelve_parameters(info: DeviceInfo) -> None:
    import rawpy

    assert info.model == "libraw"
    assert info.firmware == f"LibRaw {'.'.join(map(str, rawpy.libraw_version))} rawpy {rawpy.__version__}"
    assert len(info.space) >= 12
    assert {p.kind for p in info.space.parameters} == {"continuous", "integer", "choice", "bool"}
    assert (info.space.role("red_gain"), info.space.role("blue_gain")) == (
        info.space["red_gain"],
        info.space["blue_gain"],
    )
    for name in info.space["demosaic"].choices:
        assert getattr(rawpy.DemosaicAlgorithm, name.upper()).isSupported


def test_a_capture_proves_its_parameters(device: Device, info: DeviceInfo) -> None:
    raw = frame()
    asked = info.space.from_unit(np.linspace(0.2, 0.8, len(info.space)))
    capture = device.process(raw, asked)
    assert capture.raw_hash == raw.hash
    assert capture.parameters_in_force == asked.by_name
    assert capture.boot_id == info.boot_id
    assert capture.rgb.media_type == "image/png"
    assert capture.rgb.pixels.shape == (96, 128, 3)
    assert 0 < capture.device_s <= capture.total_s
    again = device.process(raw, asked)
    assert again.rgb.hash == capture.rgb.hash
    assert again.frame == capture.frame + 1


@pytest.mark.parametrize("cfa", CFA_PATTERNS)
def test_the_picture_is_the_scene_for_every_cfa_order(device: Device, plain: ParameterSet, cfa: Any) -> None:
    """Right mosaic, levels, pattern and place: the linear output is the scene itself."""
    pixels = device.process(frame(cfa=cfa), plain).rgb.pixels
    expected = np.clip(scene(), 0, 1) * 255
    inner = np.abs(pixels.astype(float) - expected)[4:-4, 4:-4]
    assert np.median(inner) < 3
    assert inner.mean() < 6


def test_four_black_levels_are_each_taken_from_its_position(device: Device, plain: ParameterSet) -> None:
    black = (64.0, 164.0, 264.0, 364.0)
    offsets = np.tile(np.array(black).reshape(2, 2), (48, 64)).astype(int)
    dark = RawFrame((offsets + 400).astype(np.uint16), "GRBG", black, WHITE)
    pixels = device.process(dark, plain).rgb.pixels[4:-4, 4:-4]
    assert pixels.max() - pixels.min() <= 3
    shifted = device.process(dark, plain.replace(black_offset=0.04)).rgb.pixels[4:-4, 4:-4]
    assert shifted.max() - shifted.min() <= 3
    assert shifted.mean() == pytest.approx(pixels.mean() * (400 - 0.04 * (WHITE - 64)) / 400, abs=2)


def test_every_parameter_moves_the_picture(device: Device, info: DeviceInfo) -> None:
    raw = frame(colour_matrix=((1.5, -0.4, -0.1), (-0.2, 1.5, -0.3), (0.0, -0.5, 1.5)))
    # where a parameter only works together with another one
    together: dict[str, Any] = {
        "exposure_preserve_highlights": {"exposure_shift": 4, "auto_bright": False},
        "auto_bright_clip": {"auto_bright": True},
        "dcb_iterations": {"demosaic": "dcb"},
        "dcb_enhance": {"demosaic": "dcb"},
        "highlight_mode": {"auto_bright": False},
    }
    still = []
    for p in info.space.parameters:
        base = info.space.defaults.replace(**together.get(p.name, {}))
        ends = [p.from_code(p.low_code), p.from_code(p.high_code)]
        one, other = (device.process(raw, base.replace(**{p.name: end})).rgb.pixels for end in ends)
        if np.array_equal(one, other):
            still.append(p.name)
    # every pixel value up to white is used, so the white level has nowhere to go
    assert still == ["saturation_threshold"]
    dim = RawFrame(np.minimum(raw.mosaic, 3000), raw.cfa, raw.black_level, raw.white_level)
    low, high = (
        device.process(dim, info.space.defaults.replace(saturation_threshold=t, auto_bright=False)).rgb.pixels
        for t in (0.5, 0.9)
    )
    assert low.mean() > high.mean() + 3


def test_the_gains_are_relative_to_green(device: Device, plain: ParameterSet) -> None:
    grey = RawFrame(np.full((64, 64), BLACK + 500, np.uint16), "RGGB", (BLACK,) * 4, WHITE)
    red, green, blue = device.process(grey, plain.replace(red_gain=2, blue_gain=1.5)).rgb.pixels.mean(axis=(0, 1))
    assert (red / green, blue / green) == (pytest.approx(2, rel=0.05), pytest.approx(1.5, rel=0.05))


def test_arguments_for_libraw_are_the_native_values(info: DeviceInfo) -> None:
    chosen = info.space.defaults.replace(black_offset=-0.01, highlight_mode="rebuild_5", fbdd="full", red_gain=3)
    arguments = postprocess_arguments(chosen, [100, 102, 104, 106], 1100)
    assert arguments["user_black"] == 90
    assert arguments["user_cblack"] == [0, 2, 4, 6]
    assert arguments["highlight_mode"] == 5
    assert arguments["fbdd_noise_reduction"].value == 2
    assert arguments["user_wb"] == [3, 1, 1.5, 1]
    assert "user_black" not in postprocess_arguments(info.space.defaults, [100] * 4, 1100)


@pytest.mark.parametrize(("height", "width"), [(22, 22), (24, 130), (128, 128), (600, 22)])
def test_output_has_the_mosaic_s_size(device: Device, info: DeviceInfo, height: int, width: int) -> None:
    for name in info.space["demosaic"].choices:
        capture = device.process(frame(height, width), info.space.defaults.replace(demosaic=name))
        assert capture.rgb.pixels.shape == (height, width, 3)


def test_process_many_keeps_the_order(device: Device, info: DeviceInfo) -> None:
    raws = [frame(64, 64 + 2 * i) for i in range(6)]
    sets = [info.space.defaults.replace(bright=1 + i / 4) for i in range(6)]
    captures = [c for c in device.process_many(zip(raws, sets, strict=True)) if isinstance(c, Capture)]
    assert [c.raw_hash for c in captures] == [r.hash for r in raws]
    assert [c.parameters for c in captures] == sets
    assert captures[3].rgb.hash == device.process(raws[3], sets[3]).rgb.hash


def test_an_abandoned_process_many_does_not_mix_up_answers(device: Device, info: DeviceInfo) -> None:
    raws = [frame(64, 64 + 2 * i) for i in range(4)]
    next(iter(device.process_many((r, info.space.defaults) for r in raws)))
    capture = device.process(raws[3], info.space.defaults)
    assert capture.rgb.pixels.shape == (64, 70, 3)


def test_refusals_are_one_clear_line(device: Device, info: DeviceInfo) -> None:
    with pytest.raises(DeviceError, match="22×22 or more, not 20×64"):
        device.process(frame(64, 20), info.space.defaults)
    told = info.space.to_dict()
    other = ParameterSpace.from_dict({"name": "another", "parameters": told["parameters"][:-1]})
    with pytest.raises(DeviceError, match="parameters of another"):
        device.process(frame(), other.defaults)
    with pytest.raises(DeviceError, match="takes nothing after the colon"):
        open_device("libraw:fast", 1.0)


def test_a_crash_is_an_error_and_the_next_call_starts_again() -> None:
    with LibRawDevice(deadline_s=60) as device:
        info = device.info()
        device.process(frame(), info.space.defaults)
        assert device._child is not None
        device._child._process.kill()
        device._child.code()
        # Ended between calls: started again without a word.
        fresh = device.process(frame(), info.space.defaults)
        assert fresh.boot_id != info.boot_id

        jobs = device.process_many((frame(64, 64 + 2 * i), info.space.defaults) for i in range(3))
        next(jobs)
        device._child._process.kill()
        crashed, after = list(jobs)
        assert isinstance(crashed, Failure)
        assert re.search(r"LibRaw crashed on RAW .* the next call starts it again", crashed.reason)
        assert isinstance(after, Capture)
        assert device.process(frame(), info.space.defaults).rgb.hash == fresh.rgb.hash


@pytest.mark.skipif(sys.platform == "win32", reason="stops a process with SIGSTOP")
def test_a_hang_ends_at_the_deadline() -> None:
    with LibRawDevice(deadline_s=60) as device:
        info = device.info()
        assert device._child is not None
        hung = device._child
        os.kill(hung.pid, signal.SIGSTOP)
        device.deadline_s = 0.3
        # larger than any pipe, so that handing it over blocks as well
        with pytest.raises(FrameFailedError, match=r"no answer to RAW .* within 0.3 s"):
            device.process(frame(512, 512), info.space.defaults)
        assert not hung.alive
        device.deadline_s = 60
        assert device.process(frame(), info.space.defaults).boot_id != info.boot_id


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to another process")
def test_ctrl_c_leaves_the_frame_in_work(info: DeviceInfo) -> None:
    with LibRawDevice(deadline_s=60) as device:
        boot_id = device.info().boot_id
        assert device._child is not None
        os.kill(device._child.pid, signal.SIGINT)
        assert device.process(frame(), info.space.defaults).boot_id == boot_id


def test_closing_ends_the_process_and_twice_is_fine(info: DeviceInfo) -> None:
    device = LibRawDevice(deadline_s=60)
    device.info()
    child = device._child
    assert child is not None
    device.close()
    device.close()
    assert not child.alive


@pytest.mark.needs_data
@pytest.mark.parametrize(
    "name", ["canon_powershot_g2_CRW_0304.CRW", "kodak_DC50_DC0012L.KDC", "tinydng_colorchart.dng"]
)
def test_real_files(device: Device, info: DeviceInfo, data_dir: Path, name: str) -> None:
    raw = load_raw(data_dir / "raw" / "camera" / name)
    capture = device.process(raw, info.space.defaults)
    assert capture.rgb.pixels.shape == (raw.height, raw.width, 3)
    assert capture.rgb.pixels.std() > 10


@pytest.mark.needs_data
def test_a_canon_file_looks_as_libraw_makes_it_from_the_camera_s_own(
    device: Device, info: DeviceInfo, data_dir: Path
) -> None:
    """The DNG that the device hands over loses nothing: colours, levels and place are those of the original."""
    import rawpy

    path = data_dir / "raw" / "camera" / "canon_powershot_g2_CRW_0304.CRW"
    mine = device.process(load_raw(path), info.space.defaults).rgb.pixels.astype(int)
    with rawpy.imread(str(path)) as original:
        arguments = postprocess_arguments(info.space.defaults, original.black_level_per_channel, original.white_level)
        theirs = original.postprocess(**arguments).astype(int)
    assert np.abs(mine - theirs).mean() < 0.5
