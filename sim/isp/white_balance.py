"""Stage (3), second half: digital gain, white-balance gains and green balance."""

from __future__ import annotations

import numpy as np

from sim.isp.formats import LINEAR_WHITE, by_row

_FRACTION = 10


def apply_gains(
    mosaic: np.ndarray,
    cfa: str,
    digital_gain: float,
    red_gain: float,
    blue_gain: float,
    green_balance: float = 1.0,
) -> np.ndarray:
    """Multiply by the gains in Q10 fixed point and saturate at white.

    Args:
        mosaic: ``int16 [H, W]``, linear 14 bit.
        cfa: colours of the top-left 2×2 block.
        digital_gain: of all colours; ``red_gain`` and ``blue_gain``: relative to green.
        green_balance: gain of the greens in red rows (Gr) relative to those in blue rows (Gb).

    Returns:
        ``int16 [H, W]``, -8192..16383.
    """
    height, width = mosaic.shape
    gains = []
    for position, colour in enumerate(cfa):
        in_red_row = cfa[position ^ 1] == "R"
        gains.append({"R": red_gain, "B": blue_gain}.get(colour, green_balance if in_red_row else 1.0))
    codes = np.rint(np.array(gains) * digital_gain * (1 << _FRACTION)).astype(np.int32)
    product = mosaic.reshape(-1, 2, width) * by_row(codes, width)
    product += 1 << (_FRACTION - 1)
    product >>= _FRACTION
    result: np.ndarray = np.clip(product, -8192, LINEAR_WHITE, out=product).astype(np.int16).reshape(height, width)
    return result
