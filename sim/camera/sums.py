"""Sums over large pictures whose values never lie in memory all at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_VALUES = 1 << 16
"""That are made at a time, at most."""


def summed(values: Callable[[int, int], np.ndarray], start: int, stop: int) -> np.floating:
    """The sum of the values ``start`` to ``stop``: to the bit what ``numpy.sum`` gives of all of them in one array.

    NumPy adds by halves, and halves are cut here where it cuts them.

    Args:
        values: gives those from one place up to another, contiguous, of one floating type.
        start, stop: places.
    """
    count = stop - start
    if count <= _VALUES:
        result: np.floating = values(start, stop).sum()
        return result
    half = count // 2
    half -= half % 8
    return summed(values, start, start + half) + summed(values, start + half, stop)
