"""The RAWs that a device is tried with where none is given."""

from __future__ import annotations

import numpy as np

from drivers.frames import RawFrame
from drivers.raw_input import RawInput

SIDE = 64


def chart(source: str) -> RawFrame:
    """A ramp with squares on it: 64×64 pixels, 10 bits; ``source`` names it, for people."""
    y, x = np.mgrid[:SIDE, :SIDE]
    ramp = 64 + 800 * x / SIDE + 90 * ((x // 8 + y // 8) % 2)
    return RawFrame(np.rint(ramp).astype(np.uint16), "RGGB", (64.0,) * 4, 1023, iso=100.0, source=source)


def chart_for(taken: RawInput, source: str) -> RawFrame:
    """The chart as the device takes it: repeated to its least size, of its first CFA and bits."""
    return taken.fitted(chart(source))


def blocks_for(taken: RawInput, source: str) -> RawFrame:
    """Squares of 8×8 pixels, each of a grey of its own, so that it shows how a picture lies; as the device takes it."""
    greys = np.random.default_rng(1).permutation(np.linspace(100, 720, (SIDE // 8) ** 2)).reshape(SIDE // 8, -1)
    mosaic = np.rint(greys.repeat(8, axis=0).repeat(8, axis=1)).astype(np.uint16)
    return taken.fitted(RawFrame(mosaic, "RGGB", (64.0,) * 4, 1023, iso=100.0, source=source))


def negative(raw: RawFrame, source: str) -> RawFrame:
    """Another RAW of the same size: dark where the first is bright."""
    black = int(min(raw.black_level))
    mosaic = np.clip(black + raw.white_level - raw.mosaic.astype(np.int64), 0, raw.white_level).astype(np.uint16)
    return RawFrame.from_metadata(mosaic, raw.metadata, source=source)
