"""Stage (8) of an ISP that feeds a video encoder: YUV 4:2:0 in place of a file."""

from __future__ import annotations

import numpy as np

from drivers.plain_pictures import PictureOutput

NV12 = PictureOutput(format="nv12", matrix="bt601", range="full")
"""What :func:`to_nv12` gives."""


def to_nv12(rgb: np.ndarray) -> bytes:
    """Luma, then Cb and Cr in turn at half the size, of ``uint8 [3, H, W]`` with even sides; BT.601, full range."""
    red, green, blue = rgb.astype(np.float32)
    luma = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    height, width = luma.shape
    pairs = np.empty((height // 2, width // 2, 2), np.float32)
    for place, (colour, weight) in enumerate(((blue, 0.114), (red, 0.299))):
        difference = (colour - luma).reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
        pairs[..., place] = difference / np.float32(2 * (1 - weight)) + 128
    codes = [np.rint(np.clip(plane, 0, 255)).astype(np.uint8) for plane in (luma, pairs)]
    return b"".join(plane.tobytes() for plane in codes)
