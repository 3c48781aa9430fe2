"""The suite that third parties run on their drivers, run on ours, on a small foreign one, and on broken ones."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from test_command_device import FAKE, RECIPE

from drivers.device import Capture, Device, DeviceInfo, Failure, FrameFailedError
from drivers.errors import DeviceError, ParameterError, WorkbenchError
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import Parameter, ParameterSet, ParameterSpace
from drivers.programs import recipes
from drivers.programs.command_device import CommandDevice
from drivers.registry import open_device
from drivers.testing import DeviceSuite
from sim.firmware.registers import emulated


class TestSim(DeviceSuite):
    def open_device(self) -> Device:
        return open_device("sim:sim20")


class TestZmq(DeviceSuite):
    @pytest.fixture(autouse=True)
    def _served(self, serving: Callable[..., str]) -> None:
        self.url = serving(emulated("sim20"))

    def open_device(self) -> Device:
        return open_device(self.url, 20.0)


class TestLibRaw(DeviceSuite):
    def open_device(self) -> Device:
        return open_device("libraw:", 60.0)


class TestCommand(DeviceSuite):
    @pytest.fixture(autouse=True)
    def _program(self, tmp_path: Path) -> None:
        (tmp_path / "isp.py").write_text(FAKE, "utf-8")
        self.recipe = tmp_path / "recipe.toml"
        self.recipe.write_text(RECIPE, "utf-8")

    def open_device(self) -> Device:
        return CommandDevice(f"command:{self.recipe}", recipes.load(str(self.recipe)), 60.0)

    def sets(self, space: ParameterSpace) -> list[ParameterSet]:
        return [space.defaults.replace(gain=gain) for gain in (0.1, 0.2, 0.3)]


# ---- a driver as somebody else would write it ------------------------------------------------------------------------

GAIN = ParameterSpace(
    name="one gain",
    parameters=(
        Parameter(name="gain", block="gain", kind="continuous", low=0.0, high=4.0, step=1 / 64, default=1.0),
        Parameter(name="invert", block="gain", kind="bool", default=False),
    ),
)
HUGE = 512


class Gain(Device):
    """Grey pictures of the mosaic times a gain; RAWs of 512 rows and more are too large for it."""

    def __init__(self) -> None:
        self.url = "gain:"
        self._info = DeviceInfo("gain", "1", "", secrets.token_hex(4), GAIN)
        self._frame = 0

    def info(self) -> DeviceInfo:
        return self._info

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        if parameters.space.hash != GAIN.hash:
            raise ParameterError(f"{self.url}: parameters of {parameters.space.name}, not of {GAIN.name}")
        values = parameters.values
        if raw.height >= HUGE:
            failure = Failure(raw.hash, parameters, "bad_raw", f"{raw.height} rows are too many", self._info.boot_id)
            raise FrameFailedError.of(self.url, failure, raw.source)
        grey = np.clip(raw.mosaic / 4 * float(values["gain"]), 0, 255).astype(np.uint8)
        grey = 255 - grey if values["invert"] else grey
        self._frame += 1
        return Capture(
            raw_hash=raw.hash,
            parameters=parameters,
            parameters_in_force=parameters.by_name,
            rgb=RgbFrame.from_pixels(np.repeat(grey[:, :, None], 3, axis=2)),
            boot_id=self._info.boot_id,
            frame=self._frame,
            device_s=0.0,
            total_s=0.0,
        )

    def close(self) -> None:
        """Nothing is held."""


class GainSuite(DeviceSuite):
    def __init__(self, kind: type[Device] = Gain) -> None:
        self.kind = kind

    def open_device(self) -> Device:
        return self.kind()

    def refused_raw(self) -> RawFrame | None:
        return RawFrame(np.full((HUGE, 8), 100, np.uint16), "RGGB", (64.0,) * 4, 1023)


TESTS = [name for name in dir(DeviceSuite) if name.startswith("test_")]


@pytest.mark.parametrize("name", TESTS)
def test_a_foreign_driver_passes(name: str) -> None:
    getattr(GainSuite(), name)()


# ---- drivers that are wrong in one thing -----------------------------------------------------------------------------


class OtherBoot(Gain):
    def info(self) -> DeviceInfo:
        return dataclasses.replace(super().info(), boot_id=secrets.token_hex(4))


class Nameless(Gain):
    url = ""

    def counts_by_unit(self) -> dict[str, object]:  # type: ignore[override]
        return {}


class Changed(Gain):
    """What comes back is not what was asked for: each kind changes one thing of the capture."""

    def change(self, raw: RawFrame, capture: Capture) -> Capture:
        return capture

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        return self.change(raw, super().process(raw, parameters))


class OtherRaw(Changed):
    def change(self, raw: RawFrame, capture: Capture) -> Capture:
        return dataclasses.replace(capture, raw_hash="0" * 64)


class HalfAPicture(Changed):
    def change(self, raw: RawFrame, capture: Capture) -> Capture:
        return dataclasses.replace(capture, rgb=RgbFrame.from_pixels(capture.rgb.pixels[::2]))


class Blind(Changed):
    def change(self, raw: RawFrame, capture: Capture) -> Capture:
        black = np.zeros((raw.height, raw.width, 3), np.uint8)
        return dataclasses.replace(capture, rgb=RgbFrame.from_pixels(black))


class Filtering(Changed):
    def change(self, raw: RawFrame, capture: Capture) -> Capture:
        pixels = capture.rgb.pixels.copy()
        pixels[0, 0] = self._frame % 256
        return dataclasses.replace(capture, rgb=RgbFrame.from_pixels(pixels))


class Uncounted(Changed):
    def change(self, raw: RawFrame, capture: Capture) -> Capture:
        return dataclasses.replace(capture, frame=7)


class Credulous(Gain):
    """Takes any set, and codes beyond their range as the nearest ones."""

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        codes = parameters.by_name
        near = {p.name: min(max(codes[p.name], p.low_code), p.high_code) for p in GAIN.parameters}
        made = super().process(raw, GAIN.from_codes(near))
        return dataclasses.replace(made, parameters=parameters, parameters_in_force=codes)


class Posing(Gain):
    def capture(self, parameters: ParameterSet) -> tuple[RawFrame, Capture]:
        raw = GainSuite().raws()[0]
        return raw, self.process(raw, parameters)


class Backwards(Gain):
    def process_many(self, jobs: Iterable[tuple[RawFrame, ParameterSet]]) -> Iterator[Capture | Failure]:
        yield from super().process_many(list(jobs)[::-1])


class Greedy(Gain):
    def process_many(self, jobs: Iterable[tuple[RawFrame, ParameterSet]]) -> Iterator[Capture | Failure]:
        yield from super().process_many(list(jobs))


class Fussy(Gain):
    def process_many(self, jobs: Iterable[tuple[RawFrame, ParameterSet]]) -> Iterator[Capture | Failure]:
        jobs = list(jobs)
        if not jobs:
            raise DeviceError("gain: no jobs")
        yield from super().process_many(jobs)


class Fragile(Gain):
    """One frame that fails ends the stream."""

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        try:
            return super().process(raw, parameters)
        except FrameFailedError as error:
            raise DeviceError(str(error)) from None


class OnceOnly(Gain):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise DeviceError("gain: closed already")
        self.closed = True


class Registers(Gain):
    """With registers, one of whose banks does not do what it should."""

    wrong = ""

    def __init__(self) -> None:
        super().__init__()
        self._banks = {"active": GAIN.defaults.by_name, "shadow": GAIN.defaults.by_name}

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        capture = super().process(raw, parameters)
        self._banks = {"active": parameters.by_name, "shadow": parameters.by_name}
        return capture

    def read_registers(self, bank: str = "active") -> dict[str, int]:
        return dict(self._banks[bank])

    def write_registers(self, codes: dict[str, int]) -> dict[str, int]:
        for name, code in codes.items():
            if name not in GAIN.names or not GAIN[name].low_code <= code <= GAIN[name].high_code:
                if self.wrong == "some":
                    self._banks["shadow"].update({n: c for n, c in codes.items() if n != name})
                raise ParameterError(f"{self.url}: {name}={code}")
        self._banks["shadow"].update(codes)
        if self.wrong == "at once":
            self._banks["active"].update(codes)
        return {name: self._banks["shadow"][name] for name in codes}


class AtOnce(Registers):
    wrong = "at once"


class Some(Registers):
    wrong = "some"


BROKEN: list[tuple[type[Device], str]] = [
    (OtherBoot, "test_info_stays_the_same"),
    (Nameless, "test_messages_can_name_it"),
    (OtherRaw, "test_codes_in_force_are_those_asked_for"),
    (HalfAPicture, "test_the_output_is_a_whole_picture_of_the_raws_size"),
    (Blind, "test_raw_and_parameters_both_count"),
    (Filtering, "test_the_same_frame_again_gives_the_same_output"),
    (Uncounted, "test_frames_are_counted"),
    (Credulous, "test_a_code_out_of_range_is_refused_and_changes_nothing"),
    (Credulous, "test_a_set_of_another_space_is_refused"),
    (Posing, "test_a_device_without_a_camera_does_not_photograph"),
    (Backwards, "test_captures_come_in_the_order_of_the_jobs"),
    (Greedy, "test_jobs_are_drawn_as_they_are_taken"),
    (Fussy, "test_no_jobs_give_no_captures"),
    (Fragile, "test_a_frame_that_fails_fails_in_its_place"),
    (AtOnce, "test_registers_are_written_for_the_next_frame"),
    (Some, "test_a_register_out_of_range_is_refused_and_changes_nothing"),
    (OnceOnly, "test_closing_twice_is_allowed"),
]


@pytest.mark.parametrize(("kind", "name"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_driver_fails(kind: type[Device], name: str) -> None:
    with pytest.raises((AssertionError, WorkbenchError)):
        getattr(GainSuite(kind), name)()


def test_every_test_of_the_suite_has_a_driver_that_fails_it() -> None:
    assert {name for _, name in BROKEN} == set(TESTS)


@pytest.mark.parametrize("name", TESTS)
def test_a_driver_with_registers_passes(name: str) -> None:
    getattr(GainSuite(Registers), name)()


def test_a_suite_without_a_device_says_so() -> None:
    with pytest.raises(NotImplementedError, match="does not say how its device is opened"):
        DeviceSuite().test_closing_twice_is_allowed()
