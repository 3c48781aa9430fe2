"""Number formats between the blocks.

Linear data are 14-bit integers kept in ``int16`` (noise below black stays negative); companded data, on which noise
reduction and sharpening work, are 12-bit integers in ``int16``; what leaves the tone block is ``uint8``.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from drivers.frames import RawFrame

LINEAR_BITS = 14
LINEAR_WHITE = (1 << LINEAR_BITS) - 1
COMPANDED_WHITE = (1 << 12) - 1


@dataclass(frozen=True, eq=False)
class AlignedRaw:
    """A RAW shifted to the 14-bit bus of the ISP; black is not yet subtracted.

    Attributes:
        mosaic: ``int16 [H, W]``, 0..16383.
        cfa: colours of the top-left 2×2 block in reading order.
        black: black level at the four positions, in 14-bit DN; ``white``: saturation, in 14-bit DN.
    """

    mosaic: np.ndarray
    cfa: str
    black: tuple[float, float, float, float]
    white: int


def align(raw: RawFrame, rows: slice = slice(None)) -> AlignedRaw:
    """Shift a RAW of 1 to 16 bits so that its most significant bit is bit 13; values above white are clipped.

    ``rows``: those wanted, from one on with the colours of the first.
    """
    shift = LINEAR_BITS - raw.white_level.bit_length()
    clipped = np.minimum(raw.mosaic[rows], np.uint16(raw.white_level))
    moved = clipped << np.uint16(shift) if shift >= 0 else clipped >> np.uint16(-shift)
    black = tuple(level * 2.0**shift for level in raw.black_level)
    white = raw.white_level << shift if shift >= 0 else raw.white_level >> -shift
    return AlignedRaw(moved.view(np.int16), raw.cfa, black, white)  # type: ignore[arg-type]


def by_row(values: np.ndarray, width: int) -> np.ndarray:
    """Four values of the 2×2 block, tiled to ``[2, W]``: ``mosaic.reshape(H/2, 2, W)`` meets them row by row."""
    return np.tile(np.asarray(values).reshape(2, 2), (1, width // 2))


def compand(linear: np.ndarray) -> np.ndarray:
    """Linear 14 bit to companded 12 bit by a square root: ``int16`` of any shape; negative values become 0.

    Shot noise has the same spread at every level there, so one threshold serves shadows and lights.
    """
    scaled = np.maximum(linear, 0).astype(np.float32)
    scaled *= np.float32(COMPANDED_WHITE**2 / LINEAR_WHITE)
    np.sqrt(scaled, out=scaled)
    scaled += np.float32(0.5)
    result: np.ndarray = scaled.astype(np.int16)
    return result


def to_ycc(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Luma (R + 2G + B) / 4 and the colour differences B − G, R − G of ``int16 [3, H, W]``; reversible integers."""
    red, green, blue = rgb
    return (red + 2 * green + blue) >> 2, blue - green, red - green


def from_ycc(luma: np.ndarray, blue_difference: np.ndarray, red_difference: np.ndarray) -> np.ndarray:
    """The inverse of :func:`to_ycc`, clipped to the companded range: ``int16 [3, H, W]``."""
    rgb = np.empty((3, *luma.shape), np.int16)
    np.subtract(luma, (blue_difference + red_difference) >> 2, out=rgb[1])
    np.add(red_difference, rgb[1], out=rgb[0])
    np.add(blue_difference, rgb[1], out=rgb[2])
    return np.clip(rgb, 0, COMPANDED_WHITE, out=rgb)


def filtered(plane: np.ndarray, kernel: np.ndarray, depth: int = -1) -> np.ndarray:
    """Correlation with a small kernel; the border mirrors without repeating the edge, which keeps the CFA's parity."""
    return cv2.filter2D(plane, depth, kernel, borderType=cv2.BORDER_REFLECT_101)
