"""Stage (8): JPEG."""

from __future__ import annotations

import cv2
import numpy as np


def compress(rgb: np.ndarray, quality: int, chroma_subsampling: bool) -> bytes:
    """JPEG bytes of ``uint8 [3, H, W]``.

    Args:
        rgb: planes, red first.
        quality: 1 to 100, the IJG scale.
        chroma_subsampling: true for 4:2:0, false for 4:4:4.
    """
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if chroma_subsampling else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _, data = cv2.imencode(".jpg", cv2.merge([rgb[2], rgb[1], rgb[0]]), options)
    return data.tobytes()
