"""A tiny deterministic device and RAWs for the tests of the bench."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from drivers.device import Capture, Device, DeviceInfo
from drivers.errors import DeviceUnreachableError
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import ParameterSet, ParameterSpace

SPACE = ParameterSpace.from_dict(
    {
        "name": "tiny",
        "parameters": [
            {"name": "gain", "block": "gain", "kind": "continuous", "low": 0, "high": 4, "step": 1 / 256, "default": 1},
            {"name": "level", "block": "tone", "kind": "integer", "low": 0, "high": 99, "default": 5},
            {"name": "mode", "block": "tone", "kind": "choice", "choices": ["a", "b", "c"], "default": "b"},
            {"name": "sharp", "block": "tone", "kind": "bool", "default": False},
        ],
    }
)


def make_raw(seed: int, side: int = 16) -> RawFrame:
    mosaic = np.random.default_rng(seed).integers(64, 4000, (side, side), dtype=np.uint16)
    return RawFrame(mosaic, "RGGB", (64, 64, 64, 64), 4095, iso=100.0 + seed, exposure_s=0.01, as_shot_wb=(2, 1, 1.5))


def make_set(i: int) -> ParameterSet:
    return SPACE.from_codes({"gain": i % 1025, "level": i // 1025, "mode": i % 3, "sharp": i % 2})


class FakeIsp(Device):
    """Answers with bytes that depend on the RAW and the parameters; goes away after ``answers`` captures."""

    url = "fake:"

    def __init__(self, answers: int | None = None, firmware: str = "1") -> None:
        self.answers = answers
        self.firmware = firmware
        self.asked: list[tuple[str, str]] = []
        self.ahead = 0

    def info(self) -> DeviceInfo:
        return DeviceInfo("fake", self.firmware, "unit 7", "boot-1", SPACE)

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        if self.answers is not None and len(self.asked) >= self.answers:
            raise DeviceUnreachableError("fake: gone")
        self.asked.append((raw.hash, parameters.hash))
        encoded = hashlib.sha512(f"{raw.hash}{parameters.hash}".encode()).digest()
        codes = dict(zip(parameters.space.names, parameters.codes, strict=True))
        return Capture(raw.hash, parameters, codes, RgbFrame(encoded), "boot-1", len(self.asked), 0.001, 0.002)

    def process_many(self, jobs: Iterable[tuple[RawFrame, ParameterSet]]) -> Iterator[Capture]:
        """Four in flight, as a real driver has."""
        flight = []
        for job in jobs:
            flight.append(job)
            if len(flight) == 4:
                yield self.process(*flight.pop(0))
        for job in flight:
            yield self.process(*job)

    def close(self) -> None:
        pass
