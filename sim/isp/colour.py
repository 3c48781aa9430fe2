"""Stage (5): colour transform from white-balanced camera RGB to linear sRGB."""

from __future__ import annotations

import math

import numpy as np

from sim.isp.formats import LINEAR_WHITE

_FRACTION = 12

# For RAWs that bring no matrix: a typical consumer sensor under daylight. Rows sum to 1, so that grey stays grey.
BUILT_IN_MATRIX: tuple[tuple[float, float, float], ...] = (
    (1.66, -0.52, -0.14),
    (-0.20, 1.55, -0.35),
    (0.02, -0.52, 1.50),
)


def matrix_codes(
    matrix: tuple[tuple[float, float, float], ...] | None, strength: float, hue_degrees: float = 0.0
) -> np.ndarray:
    """The matrix as Q12 integers, ``int32 [3, 3]``: identity at strength 0, the full matrix at 1, then a hue rotation.

    The diagonal takes the rounding error of its row, so that a grey pixel stays exactly grey.
    """
    full = np.array(BUILT_IN_MATRIX if matrix is None else matrix, dtype=np.float64)
    wanted = np.eye(3) + strength * (full - np.eye(3))
    if hue_degrees:
        wanted = _hue_rotation(hue_degrees) @ wanted
    codes = np.rint(np.clip(wanted, -7.9, 7.9) * (1 << _FRACTION)).astype(np.int32)
    sums = np.rint(wanted.sum(axis=1) * (1 << _FRACTION)).astype(np.int32)
    codes[np.diag_indices(3)] += np.clip(sums - codes.sum(axis=1), -2, 2).astype(np.int32)
    return codes


def _hue_rotation(degrees: float) -> np.ndarray:
    """Rotation about the grey axis (1, 1, 1)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees)) / math.sqrt(3)
    a = (1 - c) / 3
    return np.array([[c + a, a - s, a + s], [a + s, c + a, a - s], [a - s, a + s, c + a]])


def transform_colour(rgb: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Apply a Q12 matrix.

    Args:
        rgb: ``int16 [3, H, W]``, linear 14 bit.
        codes: ``int32 [3, 3]`` from :func:`matrix_codes`.

    Returns:
        ``int16 [3, H, W]``, clipped to 0..16383.
    """
    wide = np.clip(rgb, -8192, LINEAR_WHITE).astype(np.int32)
    out = np.empty_like(rgb)
    for channel in range(3):
        total = wide[0] * codes[channel, 0]
        total += wide[1] * codes[channel, 1]
        total += wide[2] * codes[channel, 2]
        total += 1 << (_FRACTION - 1)
        total >>= _FRACTION
        np.clip(total, 0, LINEAR_WHITE, out=out[channel], casting="unsafe")
    return out
