"""Constants of the sRGB colour space (D65)."""

from __future__ import annotations

import numpy as np

XYZ_FROM_SRGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Linear sRGB → CIE XYZ, ``float64 [3, 3]``."""

LIBRAW_XYZ_FROM_SRGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
"""The same with the digits that LibRaw uses. A camera file's colour matrix is compared with LibRaw's and goes into the
RAW's hash, so these digits stay; and the emulated camera's RAWs rest on the others."""

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Share of each channel of linear sRGB in its luminance, ``float32 [3]``."""
