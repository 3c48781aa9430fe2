"""Stage (8) of an ISP that feeds a video encoder: YUV 4:2:0 in place of a file."""

from __future__ import annotations

import numpy as np

from drivers.plain_pictures import PictureOutput
from sim.isp.strips import Strip, each, strips

NV12 = PictureOutput(format="nv12", matrix="bt601", range="full")
"""What :func:`to_nv12` gives."""


def to_nv12(rgb: np.ndarray) -> bytes:
    """Luma, then Cb and Cr in turn at half the size, of ``uint8 [3, H, W]`` with even sides; BT.601, full range."""
    _, height, width = rgb.shape
    planes = np.empty((height, width), np.uint8), np.empty((height // 2, width // 2, 2), np.uint8)

    def converted(strip: Strip) -> None:
        top, bottom = strip.rows.start, strip.rows.stop
        red, green, blue = rgb[:, strip.rows].astype(np.float32)
        luma = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
        pairs = np.empty((len(luma) // 2, width // 2, 2), np.float32)
        for place, (colour, weight) in enumerate(((blue, 0.114), (red, 0.299))):
            difference = (colour - luma).reshape(len(luma) // 2, 2, width // 2, 2).mean(axis=(1, 3))
            pairs[..., place] = difference / np.float32(2 * (1 - weight)) + 128
        for plane, rows, values in zip(planes, (strip.rows, slice(top // 2, bottom // 2)), (luma, pairs), strict=True):
            plane[rows] = np.rint(np.clip(values, 0, 255))

    each(converted, strips(height, width))
    return b"".join(plane.tobytes() for plane in planes)
