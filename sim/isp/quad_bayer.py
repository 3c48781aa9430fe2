"""Quad Bayer sensors, each filter on 2×2 pixels: four pixels as one, or the pixels of a Bayer mosaic of full size."""

from __future__ import annotations

import cv2
import numpy as np

from sim.isp.demosaic import demosaic
from sim.isp.formats import LINEAR_WHITE

_FRACTION = 8


def binned(quad: np.ndarray) -> np.ndarray:
    """The mean of each filter's 2×2 pixels: a Bayer mosaic of half the sides and a quarter of the noise's variance.

    Args:
        quad: ``int16 [H, W]``, both multiples of 4.

    Returns:
        ``int16 [H/2, W/2]``.
    """
    height, width = quad.shape
    total = quad.reshape(height // 2, 2, width // 2, 2).sum(axis=(1, 3), dtype=np.int32)
    result: np.ndarray = ((total + 2) >> 2).astype(np.int16)
    return result


def enlarged(rgb: np.ndarray, method: str) -> np.ndarray:
    """Planes at twice the sides, ``int16 [3, 2 H, 2 W]``, pixel centres kept; ``bilinear`` or ``bicubic``."""
    height, width = rgb.shape[1:]
    interpolation = cv2.INTER_CUBIC if method == "bicubic" else cv2.INTER_LINEAR
    return np.stack([cv2.resize(plane, (2 * width, 2 * height), interpolation=interpolation) for plane in rgb])


def remosaicked(quad: np.ndarray, pattern: str, bayer: str, detail: float) -> np.ndarray:
    """A Bayer mosaic of the same size.

    Where a pixel has another colour than Bayer wants there, it gets that colour of the binned picture and, after the
    assumption that colours change together, a share of how far the pixel is from its own colour there.

    Args:
        quad: ``int16 [H, W]``, both multiples of 4, black 0 and white balanced.
        pattern: 16 letters of the 4×4 tile; ``bayer``: four letters of what is made.
        detail: 0 to 1, the share.

    Returns:
        ``int16 [H, W]``.
    """
    coarse = enlarged(demosaic(binned(quad), bayer, "malvar"), "bilinear").astype(np.int32)
    code = round(detail * (1 << _FRACTION))
    result = quad.copy()
    for place, own in enumerate(pattern):
        y, x = divmod(place, 4)
        wanted = bayer[2 * (y % 2) + x % 2]
        if wanted != own:
            site = (slice(y, None, 4), slice(x, None, 4))
            one, other = (coarse["RGB".index(colour)][site] for colour in (own, wanted))
            estimate = other + ((quad[site] - one) * code >> _FRACTION)
            result[site] = np.clip(estimate, -8192, LINEAR_WHITE)
    return result
