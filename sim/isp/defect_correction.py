"""Stage (2), first half: dynamic defect correction of hot and dead pixels."""

from __future__ import annotations

import cv2
import numpy as np

from sim.isp.formats import LINEAR_WHITE

# The eight nearest pixels of the same colour in a Bayer mosaic; the pixel itself is left out.
_NEIGHBOURS = np.array(
    [[1, 0, 1, 0, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [1, 0, 1, 0, 1]], dtype=np.uint8
)


def correct_defects(mosaic: np.ndarray, threshold: float) -> np.ndarray:
    """Pull pixels that stick out of their same-colour neighbours back to the nearest of them.

    Args:
        mosaic: ``int16 [H, W]``, 14-bit DN.
        threshold: how far above the brightest or below the darkest neighbour a pixel may be, fraction of full scale.

    Returns:
        ``int16 [H, W]``; pixels within the threshold are untouched.
    """
    limit = np.int16(round(threshold * LINEAR_WHITE))
    padded = cv2.copyMakeBorder(mosaic, 2, 2, 2, 2, cv2.BORDER_REFLECT_101)
    brightest = cv2.dilate(padded, _NEIGHBOURS)[2:-2, 2:-2]
    darkest = cv2.erode(padded, _NEIGHBOURS)[2:-2, 2:-2]
    corrected = np.where(mosaic - brightest > limit, brightest, mosaic)
    return np.where(darkest - mosaic > limit, darkest, corrected)
