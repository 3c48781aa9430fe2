"""Which RAWs a device takes, and how their pixels travel to it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from drivers.cfa import CFA_PATTERNS, IN_WORDS, KINDS, tile_side
from drivers.errors import FrameError
from drivers.frames import MAX_BURST, MAX_SIDE, RawFrame
from drivers.packing import BITS, PACKINGS, Packing, pack, row_bytes, unpack

MOST_ROW_MULTIPLE = 4096


@dataclass(frozen=True)
class RawInput:
    """What a device takes; one that tells nothing has the defaults.

    Attributes:
        packing: how pixels lie in the payload.
        row_multiple: bytes to a multiple of which each row is padded, with zeros.
        cfa: the patterns taken.
        bits: most bits of a pixel: white level and values are below 2 to their power.
        min_size, max_size: width and height taken; ``multiple``: of what width and height must be multiples.
        frames: of one scene that the device filters over time, one after the other, for each picture.
        counts: ``last``: the picture of a burst of all of them alone; ``each``: that of every frame, so bursts may be
            shorter.
    """

    packing: Packing = "u16"
    row_multiple: int = 1
    cfa: tuple[str, ...] = CFA_PATTERNS
    bits: int = 16
    min_size: tuple[int, int] = (2, 2)
    max_size: tuple[int, int] = (MAX_SIDE, MAX_SIDE)
    multiple: tuple[int, int] = (2, 2)
    frames: int = 1
    counts: Literal["last", "each"] = "last"

    def __post_init__(self) -> None:
        if self.packing not in PACKINGS:
            raise FrameError(f"packing {self.packing!r:.40} is not one of {', '.join(PACKINGS)}")
        if type(self.row_multiple) is not int or not 1 <= self.row_multiple <= MOST_ROW_MULTIPLE:
            raise FrameError(f"row_multiple {self.row_multiple!r:.40} is not a whole number in 1..{MOST_ROW_MULTIPLE}")
        if self.packing == "u16" and self.row_multiple > 1 and self.row_multiple % 2:
            raise FrameError(f"row_multiple {self.row_multiple} is odd, pixels have two bytes")
        if not isinstance(self.cfa, tuple) or not self.cfa or any(c not in tuple(KINDS) for c in self.cfa):
            raise FrameError(f"cfa {self.cfa!r:.60} is not one or more of {IN_WORDS}")
        if type(self.bits) is not int or not 1 <= self.bits <= 16:
            raise FrameError(f"bits {self.bits!r:.40} is not a whole number in 1..16")
        if type(self.frames) is not int or not 1 <= self.frames <= MAX_BURST:
            raise FrameError(f"frames {self.frames!r:.40} is not a whole number in 1..{MAX_BURST}")
        if self.counts not in ("last", "each") or (self.counts == "each" and self.frames == 1):
            raise FrameError(f"counts {self.counts!r:.40} of {self.frames} frames is not last, or each of several")
        for name in ("min_size", "max_size", "multiple"):
            pair = getattr(self, name)
            if not isinstance(pair, tuple) or len(pair) != 2 or not all(type(n) is int for n in pair):
                raise FrameError(f"{name} {pair!r:.60} is not two whole numbers, width and height")
            if not all(2 <= n <= MAX_SIDE and n % 2 == 0 for n in pair):
                raise FrameError(f"{name} {pair!r:.60} is not even and within 2..{MAX_SIDE}")
        for low, high, step in zip(self.min_size, self.max_size, self.multiple, strict=True):
            if -(-low // step) * step > high:
                raise FrameError(f"no multiple of {step} lies within {low}..{high}: no RAW has such a size")

    def stride(self, width: int) -> int:
        """Bytes from one row to the next."""
        return -(-row_bytes(self.packing, width) // self.row_multiple) * self.row_multiple

    def size(self, width: int, height: int) -> int:
        """Bytes of the payload."""
        return self.stride(width) * height

    @property
    def is_plain(self) -> bool:
        """Whether a RAW travels as the bench keeps it: two bytes a pixel, no padding."""
        return self.packing == "u16" and self.row_multiple == 1

    @property
    def depth(self) -> int:
        """Bits of a pixel that arrive: those taken, as far as the packing holds them."""
        return min(self.bits, BITS[self.packing])

    def burst_refusal(self, frames: int) -> str | None:
        """Why a burst of so many frames gives no picture that counts, as the end of a line, or None."""
        if self.frames == 1 or frames == self.frames or (self.counts == "each" and frames < self.frames):
            return None
        most = " at most" if self.counts == "each" else ""
        return f"it has {frames} frame{'s'[frames == 1 :]}, the device filters over bursts of {self.frames}{most}"

    def refusal(self, raw: RawFrame) -> str | None:
        """Why the device does not take a RAW, as the end of a line, or None."""
        size = raw.width, raw.height
        shown = f"it has {raw.width}×{raw.height} pixels, the device takes"
        if any(n < low for n, low in zip(size, self.min_size, strict=True)):
            return f"{shown} {self.min_size[0]}×{self.min_size[1]} at least"
        if any(n > high for n, high in zip(size, self.max_size, strict=True)):
            return f"{shown} {self.max_size[0]}×{self.max_size[1]} at most"
        if any(n % step for n, step in zip(size, self.multiple, strict=True)):
            return f"{shown} widths that are multiples of {self.multiple[0]} and heights of {self.multiple[1]}"
        if raw.cfa not in self.cfa:
            return f"its CFA is {raw.cfa}, the device takes {', '.join(self.cfa)}"
        most = (1 << self.depth) - 1
        # Of 16 bits every mosaic is taken: the pixels are not gone through.
        if raw.white_level > most or (self.depth < 16 and int(raw.mosaic.max()) > most):
            largest = max(raw.white_level, int(raw.mosaic.max()))
            return f"it has values up to {largest}, the device takes {self.depth} bits, up to {most}"
        return None

    def fitted(self, raw: RawFrame) -> RawFrame:
        """A made-up RAW as the device takes it: repeated or cut to its sizes, of its CFA and bits."""
        cfa = raw.cfa if raw.cfa in self.cfa else self.cfa[0]
        steps = (math.lcm(step, tile_side(cfa)) for step in self.multiple)
        sides = zip((raw.width, raw.height), self.min_size, self.max_size, steps, strict=True)
        width, height = (min(-(-max(side, low) // step) * step, high // step * step) for side, low, high, step in sides)
        shift = max(raw.white_level.bit_length() - self.depth, 0)
        mosaic = np.tile(raw.mosaic, (-(-height // raw.height), -(-width // raw.width)))[:height, :width] >> shift
        return replace(
            raw,
            mosaic=np.ascontiguousarray(mosaic),
            cfa=cfa,
            black_level=tuple(float(int(b) >> shift) for b in raw.black_level),  # type: ignore[arg-type]
            white_level=raw.white_level >> shift,
        )

    def payload(self, raw: RawFrame) -> memoryview:
        """The mosaic as it travels; in the plain form it is referred to, not copied."""
        rows = pack(raw.mosaic, self.packing)
        padding = self.stride(raw.width) - rows.shape[1]
        if padding:
            rows = np.pad(rows, ((0, 0), (0, padding)))
        return rows.data.cast("B")

    def mosaic(self, payload: bytes | memoryview, width: int, height: int) -> np.ndarray:
        """``uint16 [H, W]`` of a payload of :meth:`size` bytes; in the plain form a view of it."""
        rows = np.frombuffer(payload, np.uint8).reshape(height, self.stride(width))
        return unpack(rows, self.packing, width)
