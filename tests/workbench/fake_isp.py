"""A tiny deterministic device and RAWs for the tests of the bench."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from drivers.device import Capture, Device, DeviceInfo, Failure, FrameFailedError
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


def picture(raw: RawFrame, parameters: ParameterSet) -> bytes:
    """A PNG of the RAW's size, flat but for eight pixels, that depends on both."""
    digest = hashlib.sha256(f"{raw.hash}{parameters.hash}".encode()).digest()
    pixels = np.full((raw.height, raw.width, 3), digest[0], np.uint8)
    pixels.reshape(-1)[:24] = np.frombuffer(digest, np.uint8)[:24]
    return RgbFrame.from_pixels(pixels).encoded


Refusal = Callable[[RawFrame, ParameterSet], str]
Output = Callable[[RawFrame, ParameterSet, bytes], bytes]


class FakeIsp(Device):
    """Answers with a picture that depends on the RAW and the parameters; goes away after ``answers`` captures.

    ``refuses`` gives the reason why a frame fails, or nothing; ``spoils`` makes another output of the good one.
    """

    url = "fake:"

    def __init__(
        self,
        answers: int | None = None,
        firmware: str = "1",
        refuses: Refusal = lambda raw, parameters: "",
        spoils: Output = lambda raw, parameters, good: good,
    ) -> None:
        self.refuses, self.spoils = refuses, spoils
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
        if reason := self.refuses(raw, parameters):
            raise FrameFailedError(f"fake: {reason}", Failure(raw.hash, parameters, "failed", reason, "boot-1"))
        encoded = self.spoils(raw, parameters, picture(raw, parameters))
        codes = parameters.by_name
        rgb = RgbFrame(encoded, "image/png")
        return Capture(raw.hash, parameters, codes, rgb, "boot-1", len(self.asked), 0.001, 0.002)

    def process_many(self, jobs: Iterable[tuple[RawFrame, ParameterSet]]) -> Iterator[Capture | Failure]:
        """Four in flight, as a real driver has."""
        flight = []
        for job in jobs:
            flight.append(job)
            if len(flight) == 4:
                yield from super().process_many([flight.pop(0)])
        yield from super().process_many(flight)

    def close(self) -> None:
        pass
