"""The emulated ISP as a device in the bench's process."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from drivers.device import Capture
from drivers.errors import DeviceError, ParameterError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSpace
from drivers.registry import open_device
from sim import profiles
from sim.device import SimDevice
from sim.isp.pipeline import VERSION, Pipeline


@pytest.fixture
def raw() -> RawFrame:
    mosaic = np.random.default_rng(0).integers(256, 3000, (32, 48)).astype(np.uint16)
    return RawFrame(mosaic, "GBRG", (256, 256, 256, 256), 4095, source="noise")


@pytest.mark.parametrize("name", ["sim20", "sim32"])
def test_the_url_opens_the_profile(name: Any, raw: RawFrame) -> None:
    with open_device(f"sim:{name}", 5.0) as device:
        info = device.info()
        assert info.model == f"emulated-isp {name}"
        assert info.firmware == VERSION
        assert info.space.hash == profiles.space(name).hash
        assert device.url == f"sim:{name}"
        assert device.deadline_s == 5.0
        capture = device.process(raw, profiles.expert(name))
    assert capture.raw_hash == raw.hash
    assert capture.rgb.pixels.shape == (32, 48, 3)
    assert capture.rgb.media_type == "image/jpeg"
    assert capture.rgb.encoded == Pipeline(name).process(raw, profiles.expert(name))


def test_boot_id_changes_with_every_instance_and_frames_are_counted(raw: RawFrame) -> None:
    one, other = open_device("sim:sim20"), open_device("sim:sim20")
    assert one.info().boot_id != other.info().boot_id
    assert one.info().identity == other.info().identity
    space = one.info().space
    captures = [
        c for c in one.process_many([(raw, space.defaults), (raw, profiles.expert("sim20"))]) if isinstance(c, Capture)
    ]
    assert [c.frame for c in captures] == [1, 2]
    assert {c.boot_id for c in captures} == {one.info().boot_id}
    assert captures[0].rgb.hash != captures[1].rgb.hash


def test_the_capture_reports_what_was_latched_and_a_stuck_register_is_caught(raw: RawFrame) -> None:
    class StuckRegister(dict[Any, Any]):
        """The blue gain cannot be written any more."""

        def update(self, values: Any) -> None:  # type: ignore[override]
            super().update((n, c) for n, c in values if n != "blue_gain")

    device = SimDevice("sim:sim20", "sim20")
    space = device.info().space
    capture = device.process(raw, space.defaults.replace(blue_gain=2.0))
    assert capture.parameters_in_force["blue_gain"] == 512
    device._registers = StuckRegister(device._registers)
    with pytest.raises(DeviceError, match="blue_gain"):
        device.process(raw, space.defaults.replace(blue_gain=3.0))


@pytest.mark.parametrize("url", ["sim:", "sim:sim21", "sim://sim20"])
def test_an_unknown_profile_is_one_clear_error(url: str) -> None:
    with pytest.raises(DeviceError, match="known are sim:sim20, sim:sim32") as caught:
        open_device(url)
    assert repr(url) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parameters_of_another_device_are_refused(raw: RawFrame) -> None:
    device = open_device("sim:sim20")
    with pytest.raises(ParameterError):
        device.process(raw, profiles.space("sim32").defaults)
    narrower = device.info().space.to_dict()
    next(p for p in narrower["parameters"] if p["name"] == "gamma")["high"] = 3.0
    other = ParameterSpace.from_dict(narrower)
    with pytest.raises(ParameterError, match="make it with this device's space"):
        device.process(raw, other.defaults)


def test_a_closed_device_refuses_and_closing_twice_is_allowed(raw: RawFrame) -> None:
    device = open_device("sim:sim20")
    device.close()
    device.close()
    with pytest.raises(DeviceError, match="closed"):
        device.process(raw, device.info().space.defaults)


def test_the_colour_matrix_of_the_raw_matters(raw: RawFrame) -> None:
    device = open_device("sim:sim20")
    matrix = ((2.0, -0.8, -0.2), (-0.3, 1.6, -0.3), (0.0, -0.6, 1.6))
    parameters = profiles.expert("sim20")
    other = dataclasses.replace(raw, colour_matrix=matrix)
    assert device.process(raw, parameters).rgb.hash != device.process(other, parameters).rgb.hash
