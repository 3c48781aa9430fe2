"""Exif's orientation flag: how stored pixels are turned to lie upright, and back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from drivers.errors import FrameError

UPRIGHT = 1
ORIENTATIONS = tuple(range(1, 9))

_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: np.swapaxes(p, 0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.swapaxes(p[::-1, ::-1], 0, 1),
    8: lambda p: np.rot90(p, 1),
}
_INVERSE = {flag: {6: 8, 8: 6}.get(flag, flag) for flag in ORIENTATIONS}


def upright(pixels: np.ndarray, flag: int) -> np.ndarray:
    """Stored pixels turned as the flag says, so that the picture lies upright.

    Args:
        pixels: ``[H, W, …]``, any dtype.
        flag: Exif orientation, 1..8; 5 to 8 exchange height and width.

    Returns:
        A contiguous array, ``[H, W, …]`` or ``[W, H, …]``.

    Raises:
        FrameError: no such flag.
    """
    if flag not in _TURNS:
        raise FrameError(f"orientation {flag!r} is not one of Exif's 1 to 8")
    return np.ascontiguousarray(_TURNS[flag](pixels))


def to_sensor(pixels: np.ndarray, flag: int) -> np.ndarray:
    """The inverse of :func:`upright`: upright pixels turned to lie as those of a file with the flag.

    Raises:
        FrameError: no such flag.
    """
    return upright(pixels, _INVERSE.get(flag, flag))


def exif_of_libraw(flip: int) -> int:
    """Exif's flag for LibRaw's ``flip`` (bits: 1 mirrors columns, 2 rows, 4 exchanges the two); 1 for another value."""
    return {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}.get(flip, UPRIGHT)
