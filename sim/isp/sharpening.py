"""Stage (6): sharpening of luma by unsharp masking, on companded data."""

from __future__ import annotations

import math

import cv2
import numpy as np

from sim.isp.formats import COMPANDED_WHITE

_AMOUNT_FRACTION = 6
# Overshoot that limit 1 allows beyond the 3×3 neighbourhood's own range.
_FULL_OVERSHOOT = COMPANDED_WHITE // 4
_BLOCK = np.ones((3, 3), np.uint8)


def sharpen(
    luma: np.ndarray, amount: float, radius: float, threshold: float, overshoot: float | None = None
) -> np.ndarray:
    """Add the detail above a threshold.

    Args:
        luma: ``int16 [H, W]``, companded 12 bit.
        amount: 0 (off) to 3: how many times the detail is added.
        radius: sigma of the Gaussian that the detail is the difference to, in pixels.
        threshold: detail up to this fraction of full scale is left alone (coring).
        overshoot: 0 to 1, limit of the halo beyond the range of the 3×3 neighbourhood; None: no limit.

    Returns:
        ``int16 [H, W]``, 0..4095.
    """
    code = round(amount * (1 << _AMOUNT_FRACTION))
    if code == 0:
        return luma
    size = 2 * math.ceil(2 * radius) + 1
    detail = luma - cv2.GaussianBlur(luma, (size, size), radius, borderType=cv2.BORDER_REFLECT_101)
    core = round(threshold * COMPANDED_WHITE)
    if core:
        detail = detail - np.clip(detail, -core, core)
    sharp = luma + ((detail.astype(np.int32) * code) >> _AMOUNT_FRACTION)
    if overshoot is not None:
        halo = round(overshoot * _FULL_OVERSHOOT)
        sharp = np.clip(sharp, cv2.erode(luma, _BLOCK) - np.int16(halo), cv2.dilate(luma, _BLOCK) + np.int16(halo))
    result: np.ndarray = np.clip(sharp, 0, COMPANDED_WHITE).astype(np.int16)
    return result
