"""How pixels of 10, 12 or 14 bits share bytes (MIPI CSI-2, as V4L2 stores them), or lie in two bytes each.

A group of pixels gives first the upper 8 bits of each, a byte a pixel, then their lower bits together, as one
little-endian number whose lowest bits are the first pixel's.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Packing = Literal["u16", "raw10", "raw12", "raw14"]
PACKINGS: tuple[Packing, ...] = ("u16", "raw10", "raw12", "raw14")
BITS: dict[Packing, int] = {"u16": 16, "raw10": 10, "raw12": 12, "raw14": 14}
"""Bits of a pixel that each packing holds."""

_GROUP = {"raw10": 4, "raw12": 2, "raw14": 4}


def row_bytes(packing: Packing, width: int) -> int:
    """Bytes of a row without padding: whole groups, the pixels that the last one lacks being zero."""
    if packing == "u16":
        return 2 * width
    group = _GROUP[packing]
    return -(-width // group) * group * BITS[packing] // 8


def pack(mosaic: np.ndarray, packing: Packing) -> np.ndarray:
    """Rows of bytes, ``uint8 [H, row_bytes]``, of ``uint16 [H, W]``; bits above the packing's are lost.

    ``u16`` is little-endian.
    """
    if packing == "u16":
        return np.ascontiguousarray(mosaic, dtype="<u2").view(np.uint8)
    height, width = mosaic.shape
    group, low = _GROUP[packing], BITS[packing] - 8
    groups = -(-width // group)
    pixels = np.zeros((height, groups * group), np.uint16)
    pixels[:, :width] = mosaic
    pixels = pixels.reshape(height, groups, group)
    rows = np.empty((height, groups, group + group * low // 8), np.uint8)
    rows[:, :, :group] = pixels >> low
    shifts = np.arange(group, dtype=np.uint32) * low
    together = ((pixels & ((1 << low) - 1)).astype(np.uint32) << shifts).sum(axis=2, dtype=np.uint32)
    for place in range(group, rows.shape[2]):
        rows[:, :, place] = (together >> np.uint32(8 * (place - group))) & 255
    return rows.reshape(height, -1)


def unpack(rows: np.ndarray, packing: Packing, width: int) -> np.ndarray:
    """``uint16 [H, width]`` of rows of bytes, ``uint8 [H, ≥ row_bytes]``; what follows a row's bytes is padding.

    Of ``u16`` whose rows are contiguous the result is a view where the machine is little-endian.
    """
    rows = rows[:, : row_bytes(packing, width)]
    if packing == "u16":
        return np.ascontiguousarray(rows.view("<u2"), dtype=np.uint16)
    group, low = _GROUP[packing], BITS[packing] - 8
    grouped = rows.reshape(rows.shape[0], -1, group + group * low // 8)
    together = np.zeros(grouped.shape[:2], np.uint32)
    for place in range(group, grouped.shape[2]):
        together |= grouped[:, :, place].astype(np.uint32) << np.uint32(8 * (place - group))
    pixels = grouped[:, :, :group].astype(np.uint16) << low
    for place in range(group):
        pixels[:, :, place] |= ((together >> np.uint32(place * low)) & ((1 << low) - 1)).astype(np.uint16)
    return np.ascontiguousarray(pixels.reshape(rows.shape[0], -1)[:, :width])
