"""Stage (3), first half: black level; from here on black is 0 and the sensor's white 16383."""

from __future__ import annotations

import numpy as np

from sim.isp.formats import LINEAR_WHITE, by_row

_SHIFT = 16


def subtract_black(
    mosaic: np.ndarray,
    cfa: str,
    black: tuple[float, float, float, float],
    white: int,
    offset: int = 0,
    offset_red: int = 0,
    offset_blue: int = 0,
) -> np.ndarray:
    """Subtract the black level and stretch to 14 bit; noise below black stays negative.

    Args:
        mosaic: ``int16 [H, W]``, 14-bit DN, at most ``white``.
        cfa: colours of the top-left 2×2 block.
        black: black level at its four positions, in DN of the mosaic; ``white``: saturation.
        offset: added to the black level of every colour, 14-bit DN; positive makes the picture darker.
        offset_red: added at the red pixels only; ``offset_blue`` at the blue ones.

    Returns:
        ``int16 [H, W]``, -8192..16383.
    """
    height, width = mosaic.shape
    whole = np.floor(black)
    # At least 2 DN between black and white: with less the product would not fit 32 bits.
    scale = np.rint(LINEAR_WHITE / np.maximum(white - np.asarray(black), 2) * (1 << _SHIFT))
    by_colour = np.array([{"R": offset_red, "B": offset_blue}.get(c, 0) + offset for c in cfa])
    correction = np.rint((np.asarray(black) - whole) * scale) + by_colour * (1 << _SHIFT) - (1 << (_SHIFT - 1))

    # The range below black is limited first, for black levels near white: the product must fit 32 bits.
    signal = mosaic.reshape(-1, 2, width) - by_row(whole.astype(np.int32), width)
    np.maximum(signal, by_row(-(white - whole).astype(np.int32) // 2, width), out=signal)
    signal *= by_row(scale.astype(np.int32), width)
    signal -= by_row(correction.astype(np.int32), width)
    signal >>= _SHIFT
    result: np.ndarray = np.clip(signal, -8192, LINEAR_WHITE, out=signal).astype(np.int16).reshape(height, width)
    return result
