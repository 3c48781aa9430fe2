"""Drivers of other packages are held to the interface before what they give is stored."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest

from drivers import registry
from drivers.device import Capture, Device, DeviceInfo, Failure
from drivers.errors import DeviceChangedError, DeviceError, ParameterError
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import Parameter, ParameterSet, ParameterSpace
from drivers.registry import open_device
from drivers.testing import DeviceSuite

GAIN = Parameter(name="gain", block="exposure", kind="continuous", low=0.5, high=8, step=1 / 256, default=1, unit="×")
SPACE = ParameterSpace(name="gain-isp", parameters=(GAIN,))
INFO = DeviceInfo(model="gain-isp", firmware="1", serial="1", boot_id="1", space=SPACE)
RAWS = [RawFrame(np.full((8, 8), 100 + n, np.uint16), "RGGB", (0.0,) * 4, 1023) for n in range(3)]
JOBS = [(raw, SPACE.defaults.replace(gain=2)) for raw in RAWS]
Process = Callable[..., Any]


class Gain(Device):
    """As somebody else would write it, with what a test puts in place of a part of it."""

    def __init__(self, url: str, deadline_s: float, parts: dict[str, Any]) -> None:
        self.url, self.deadline_s, self.parts, self.frames = url, deadline_s, parts, 0

    def info(self) -> DeviceInfo:
        return self.parts["info"]() if "info" in self.parts else INFO

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        if parameters.space.hash != SPACE.hash:
            raise ParameterError("parameters of another space")
        self.frames += 1
        light = np.clip(raw.planes() * parameters["gain"], 0, 1).transpose(1, 2, 0)
        rgb = RgbFrame.from_pixels(np.rint(255 * light).astype(np.uint8).repeat(2, 0).repeat(2, 1))
        capture = Capture(raw.hash, parameters, parameters.by_name, rgb, "1", self.frames, 0.001, 0.001)
        return self.parts["answer"](capture) if "answer" in self.parts else capture

    def process_many(self, jobs: Iterable[tuple[RawFrame, ParameterSet]]) -> Iterator[Capture | Failure]:
        if "stream" in self.parts:
            return self.parts["stream"](jobs, self.process)  # type: ignore[no-any-return]
        return super().process_many(jobs)

    def close(self) -> None:
        if "close" in self.parts:
            self.parts["close"]()


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What stands in place of parts of the driver behind ``gain:``, which is installed as a package would be."""
    put: dict[str, Any] = {}

    class Installed(EntryPoint):
        def load(self) -> Any:
            return put.get("open", lambda url, deadline_s: Gain(url, deadline_s, put))

    found = Installed("gain", "my_package.gain:open_device", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [found])
    return put


class TestGain(DeviceSuite):
    @pytest.fixture(autouse=True)
    def _installed(self, parts: dict[str, Any]) -> None:
        self.parts = parts

    def open_device(self) -> Device:
        return open_device("gain:board?deadline=20")


def last_left_out(jobs: Iterable[Any], process: Process) -> Iterator[Any]:
    for raw, parameters in list(jobs)[:-1]:
        yield process(raw, parameters)


def none_drawn(jobs: Iterable[Any], process: Process) -> Iterator[Any]:
    return iter(())


def twice(jobs: Iterable[Any], process: Process) -> Iterator[Any]:
    for raw, parameters in jobs:
        yield from itertools.repeat(process(raw, parameters), 2)


def backwards(jobs: Iterable[Any], process: Process) -> Iterator[Any]:
    return (process(raw, parameters) for raw, parameters in reversed(list(jobs)))


def pixels(jobs: Iterable[Any], process: Process) -> Iterator[Any]:
    return (process(raw, parameters).rgb.pixels for raw, parameters in jobs)


def breaks(jobs: Iterable[Any], process: Process) -> Iterator[Any]:
    next(iter(jobs))
    raise OSError("libisp.so\nis gone")
    yield


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (last_left_out, "ended after 2 answers, with frames left"),
        (none_drawn, "ended after 0 answers, with frames left"),
        (twice, "an answer more than the 1 frames"),
        (backwards, "where that of RAW .* was due"),
        (pixels, "gives a ndarray, neither a Capture nor a Failure"),
        (breaks, r"fails with OSError: libisp.so is gone \(test_foreign_driver.py, line \d+\)"),
    ],
)
def test_a_stream_answers_each_frame_once_and_in_order(parts: dict[str, Any], stream: Any, words: str) -> None:
    parts["stream"] = stream
    with (
        open_device("gain:board") as device,
        pytest.raises(DeviceError, match=f"^gain:board: .*process_many.* {words}"),
    ):
        list(device.process_many(JOBS))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"device_s": np.nan}, "device_s nan"),
        ({"total_s": -1.0}, "total_s -1.0"),
        ({"device_s": None}, "device_s None"),
        ({"frame": 1 << 64}, "the frame number 18446744073709551616"),
        ({"rgb": None}, "a NoneType as output"),
        ({"raw_hash": "0" * 64}, "the answer of RAW 000000000000"),
        ({"statistics": {"mean": 0.5}}, r"the statistics \['mean'\], its space announces \[\]"),
    ],
)
def test_an_answer_that_is_none_is_not_stored(parts: dict[str, Any], change: dict[str, Any], words: str) -> None:
    parts["answer"] = lambda capture: replace(capture, **change)
    with open_device("gain:board") as device:
        for ask in (lambda: device.process(*JOBS[0]), lambda: list(device.process_many(JOBS))):
            with pytest.raises(DeviceError, match=words):
                ask()


def test_another_device_than_at_first_is_refused(parts: dict[str, Any]) -> None:
    firmware = itertools.count(1)
    parts["info"] = lambda: replace(INFO, firmware=str(next(firmware)))
    with open_device("gain:board") as device:
        device.info()
        with pytest.raises(DeviceChangedError, match=r"is gain-isp/2/.* now and was gain-isp/1/"):
            device.info()


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (lambda: None, "info gives a NoneType, not a DeviceInfo"),
        (lambda: replace(INFO, model=None), "info says model None, not a text"),  # type: ignore[arg-type]
        (lambda: 1 // 0, "info fails with ZeroDivisionError"),
    ],
)
def test_a_device_that_does_not_say_who_it_is_is_refused(parts: dict[str, Any], info: Any, words: str) -> None:
    parts["info"] = info
    with open_device("gain:board") as device, pytest.raises(DeviceError, match=words):
        device.info()


def test_what_cannot_be_opened_is_one_line(parts: dict[str, Any]) -> None:
    parts["open"] = lambda url, deadline_s: None
    with pytest.raises(DeviceError, match="gain:board: its driver gives a NoneType, not a Device"):
        open_device("gain:board")
    parts["open"] = lambda url: None
    with pytest.raises(DeviceError, match="gain:board: its driver's open_device fails with TypeError"):
        open_device("gain:board")


def test_closing_that_fails_is_told_and_hides_nothing(parts: dict[str, Any]) -> None:
    parts["close"] = lambda: 1 // 0
    with pytest.raises(DeviceError, match="close fails with ZeroDivisionError"), open_device("gain:board"):
        pass
    with pytest.raises(KeyError, match="before"), open_device("gain:board"):
        raise KeyError("before")
