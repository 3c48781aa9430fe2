"""Stage (2), second half: noise reduction in the RAW domain."""

from __future__ import annotations

import cv2
import numpy as np

from sim.isp.formats import LINEAR_WHITE, by_row, filtered

# The pixel and its eight nearest neighbours of the same colour.
_SAME_COLOUR = np.zeros((5, 5), np.float32)
_SAME_COLOUR[::2, ::2] = 1

# Variance at strength 1 of a full-scale signal and of black, as fractions of full scale squared: a very high ISO.
_SHOT = 0.012
_READ = 2.0e-4
# Deviations are kept to 11 bits, so that nine squares add up without rounding.
_DEVIATION_SHIFT = 2
_DEVIATION_LIMIT = 1023


def reduce_noise(
    mosaic: np.ndarray, black: tuple[float, float, float, float], strength: float, edge: float = 0.0
) -> np.ndarray:
    """Local Wiener filter over the 3×3 same-colour neighbourhood.

    Each pixel moves towards the mean of its neighbourhood as far as the variance there is explained by a noise model
    that grows with the signal: sigma² = strength² · (shot · signal + read).

    Args:
        mosaic: ``int16 [H, W]``, 14-bit DN with black included.
        black: black level at the four CFA positions, 14-bit DN.
        strength: 0 (off) to 1.
        edge: 0 to 1; keeps more of a pixel where the variance is well above the model's, so at edges.

    Returns:
        ``int16 [H, W]``.
    """
    if strength == 0:
        return mosaic
    height, width = mosaic.shape
    mean = filtered(mosaic, _SAME_COLOUR, cv2.CV_32F)
    mean *= np.float32(1 / 9)
    deviation = mosaic - mean.astype(np.int16)
    small = np.clip(deviation >> _DEVIATION_SHIFT, -_DEVIATION_LIMIT, _DEVIATION_LIMIT).astype(np.float32)
    variance = filtered(small * small, _SAME_COLOUR)
    variance *= np.float32(1 / 9)

    scale = strength * strength * LINEAR_WHITE / 4**_DEVIATION_SHIFT
    signal = mean.reshape(-1, 2, width) - by_row(np.asarray(black, np.float32), width)
    noise = np.maximum(signal, 0, out=signal).reshape(height, width)
    noise *= np.float32(scale * _SHOT)
    noise += np.float32(scale * _READ * LINEAR_WHITE)

    np.maximum(variance, np.float32(1), out=variance)
    keep = 1 - np.minimum(noise / variance, 1)
    if edge:
        keep += np.float32(edge) * (1 - keep) * np.minimum(variance / (noise * np.float32(8)), 1)
    result: np.ndarray = mosaic - np.rint((1 - keep) * deviation).astype(np.int16)
    return result
