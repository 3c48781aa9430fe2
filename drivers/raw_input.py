"""Which RAWs a device takes, and how their pixels travel to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.packing import BITS, PACKINGS, Packing, pack, row_bytes, unpack

MOST_ROW_MULTIPLE = 4096


@dataclass(frozen=True)
class RawInput:
    """What a device takes; one that tells nothing has the defaults.

    Attributes:
        packing: how pixels lie in the payload.
        row_multiple: bytes to a multiple of which each row is padded, with zeros.
    """

    packing: Packing = "u16"
    row_multiple: int = 1

    def __post_init__(self) -> None:
        if self.packing not in PACKINGS:
            raise FrameError(f"packing {self.packing!r:.40} is not one of {', '.join(PACKINGS)}")
        if type(self.row_multiple) is not int or not 1 <= self.row_multiple <= MOST_ROW_MULTIPLE:
            raise FrameError(f"row_multiple {self.row_multiple!r:.40} is not a whole number in 1..{MOST_ROW_MULTIPLE}")
        if self.packing == "u16" and self.row_multiple > 1 and self.row_multiple % 2:
            raise FrameError(f"row_multiple {self.row_multiple} is odd, pixels have two bytes")

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

    def refusal(self, raw: RawFrame) -> str | None:
        """Why the device does not take a RAW, as the end of a line, or None."""
        most = (1 << BITS[self.packing]) - 1
        if raw.white_level > most or (most < 65535 and int(raw.mosaic.max()) > most):
            largest = max(raw.white_level, int(raw.mosaic.max()))
            return f"it has values up to {largest}, the device takes {self.packing}, up to {most}"
        return None

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
