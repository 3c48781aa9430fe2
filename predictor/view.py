"""What the network sees of a RAW of any size: its planes averaged down, and windows of its pixels; without torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

INPUT_SIDE = 512
LEAST = 32
"""Sides that the network needs at least; the last row and column are repeated up to there."""
CELL = 16
"""Side of the cells of the averaged planes, in pixels; each has one window of its own size at full resolution."""


@dataclass(frozen=True)
class View:
    """What a network sees, and is told, of a RAW.

    Attributes:
        longest: longer side of what it sees at most. Larger planes are averaged down by a whole factor, as the paper
            down-samples by 2, which takes their noise away.
        windows: whether it also sees, in three further channels, the pixels of full resolution: for each cell of
            :data:`CELL` × :data:`CELL` averaged pixels the window of that size in the middle of the cell's place.
        statistics: whether it is told :func:`predictor.raw_features.raw_statistics`, which are of full resolution.
    """

    longest: int = INPUT_SIDE
    windows: bool = False
    statistics: bool = False

    def factor(self, rows: int, columns: int) -> int:
        """By how much planes of that size are averaged down."""
        return -(-max(rows, columns) // self.longest)

    def size(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of what is seen of planes of that size; at least :data:`LEAST`."""
        factor = self.factor(rows, columns)
        return max(-(-rows // factor), LEAST), max(-(-columns // factor), LEAST)

    def of(self, planes: np.ndarray) -> np.ndarray:
        """What is seen of planes ``float32 [3, rows, columns]``, see :func:`seen`."""
        return seen(planes, self.factor(*planes.shape[1:]), windows=self.windows)


def view_for(wanted: View, sizes: Iterable[tuple[int, int]]) -> View:
    """The view for a training on RAWs of these sizes (rows and columns of the mosaics).

    Windows and statistics say what averaging takes away: where it takes nothing the whole of each RAW is seen.
    """
    plain = View(max(wanted.longest, INPUT_SIDE))
    return wanted if any(wanted.factor(h // 2, w // 2) > 1 for h, w in sizes) else plain


def seen(planes: np.ndarray, factor: int, *, windows: bool) -> np.ndarray:
    """The network's input from planes ``float32 [3, rows, columns]``, averaged down by a whole factor.

    What is left at the edges is averaged as it is.

    Returns:
        ``float32 [3 or 6, h, w]``, at least :data:`LEAST` a side: the averaged planes and, with ``windows``, the pixels
        of full resolution around the middle of each cell.
    """
    made = _averaged(planes, factor)
    if windows:
        made = np.concatenate([made, _windows(planes, factor, *made.shape[1:])])
    short = [(0, max(LEAST - side, 0)) for side in made.shape[1:]]
    return np.pad(made, [(0, 0), *short], mode="edge") if any(more for _, more in short) else made


def _averaged(planes: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return planes
    for axis in (1, 2):
        size = planes.shape[axis]
        shape = list(planes.shape)
        shape[axis] = -(-size // factor)
        total = np.zeros(shape, dtype=np.float32)
        for first in range(min(factor, size)):
            part = planes[:, first::factor] if axis == 1 else planes[:, :, first::factor]
            total[:, : part.shape[1], : part.shape[2]] += part
        counts = np.minimum(factor, size - factor * np.arange(shape[axis])).astype(np.float32)
        planes = total / (counts[:, None] if axis == 1 else counts)
    return planes


def _windows(planes: np.ndarray, factor: int, rows: int, columns: int) -> np.ndarray:
    down, across = (places(size, factor, n) for size, n in zip(planes.shape[1:], (rows, columns), strict=True))
    return planes[:, down[:, None], across]


def places(size: int, factor: int, count: int) -> np.ndarray:
    """Where along an axis of ``size`` pixels the ``count`` pixels of its cells' windows lie."""
    first = np.arange(count) // CELL * CELL
    length = np.minimum(CELL, count - first)
    begin = np.clip(first * factor + length * (factor - 1) // 2, 0, size - length)
    found: np.ndarray = begin + np.arange(count) - first
    return found
