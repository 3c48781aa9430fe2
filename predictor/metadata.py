"""The metadata of a RAW as inputs of the predictor: ISO, exposure and as-shot white balance.

The paper's network sees the image alone. A RAW file holds more, and what a camera's meter and white balance believed is
worth having even though they err. What the metadata give away: ISO tells the noise; as-shot white balance tells the
camera's guess of the illuminant; ISO and exposure time together tell how dark the scene was, not how bright its picture
should be.
"""

from __future__ import annotations

import math

import numpy as np

from drivers.frames import RawFrame

LENGTH = 7


def metadata_vector(raw: RawFrame) -> np.ndarray:
    """``float32 [LENGTH]``: log ISO, log exposure time, log red and blue gain, each group with a flag that it is known.

    Missing values are 0 with flag 0; known values lie roughly within [-2, 2].
    """
    vector = np.zeros(LENGTH, dtype=np.float32)
    if raw.iso:
        vector[0:2] = (math.log2(raw.iso / 800) / 3.5, 1)
    if raw.exposure_s:
        vector[2:4] = (math.log2(raw.exposure_s * 100) / 5, 1)
    if raw.as_shot_wb:
        red, green, blue = raw.as_shot_wb
        vector[4:7] = (2 * math.log2(red / green) - 1.5, 2 * math.log2(blue / green) - 1.5, 1)
    return vector


def balanced(vector: np.ndarray, red: float, blue: float) -> np.ndarray:
    """The vector of the same RAW with its red and blue pixels multiplied by ``red`` and ``blue`` (for augmentation)."""
    changed = vector.copy()
    if changed[6]:
        changed[4] -= 2 * math.log2(red)
        changed[5] -= 2 * math.log2(blue)
    return changed
