"""Noise reduction after demosaicking, apart for luma and chroma, on companded data."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

# Companded DN at strength 1.
_LUMA_SIGMA = 640.0
_CHROMA_LIMIT = 640.0
_EDGE_FULL = 1024.0
_CHROMA_WINDOW = (7, 7)


class Values(NamedTuple):
    """The least and the largest value of a picture of which a filter sees a strip.

    OpenCV's bilateral filter of floats works by a table over the range of the values that it finds: so a strip of a
    picture gets a further row with the values of the whole, away from the rows that count.

    Attributes:
        least, largest: of the picture.
        above: whether that row lies above the strip; else below.
    """

    least: int
    largest: int
    above: bool

    def in_sight(self, strip: np.ndarray) -> np.ndarray:
        """The strip ``float32 [H, W]`` with that row."""
        row = np.full((1, strip.shape[1]), self.least, np.float32)
        row[0, 0] = self.largest
        return np.concatenate([row, strip] if self.above else [strip, row])

    def out_of_sight(self, strip: np.ndarray) -> np.ndarray:
        """The strip without it."""
        return strip[1:] if self.above else strip[:-1]


def reduce_luma_noise(
    luma: np.ndarray, strength: float, radius: int, edge: float = 0.0, values: Values | None = None
) -> np.ndarray:
    """Bilateral filter.

    Args:
        luma: ``int16 [H, W]``, companded 12 bit.
        strength: 0 (off) to 1: the spread of values that are averaged.
        radius: of the window, 1 to 3 pixels.
        edge: 0 to 1: how much of the unfiltered luma comes back where the gradient is high.
        values: of the whole picture, where ``luma`` is a strip of it.

    Returns:
        ``int16 [H, W]``.
    """
    if strength == 0:
        return luma
    noisy = luma.astype(np.float32)
    window = 2 * radius + 1, _LUMA_SIGMA * strength, 0.6 * radius + 0.4
    if values is None:
        smooth = cv2.bilateralFilter(noisy, *window)
    else:
        smooth = values.out_of_sight(cv2.bilateralFilter(values.in_sight(noisy), *window))
    if edge:
        gradient = cv2.morphologyEx(cv2.GaussianBlur(luma, (3, 3), 0), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        weight = np.minimum(gradient.astype(np.float32) * np.float32(edge / _EDGE_FULL), np.float32(edge))
        smooth += weight * (noisy - smooth)
    return np.rint(smooth, out=smooth).astype(np.int16)


def reduce_chroma_noise(chroma: np.ndarray, strength: float) -> np.ndarray:
    """Pull a colour difference towards its local mean, by at most a limit, so that real colour edges stay.

    Args:
        chroma: ``int16 [H, W]``, companded 12 bit, signed.
        strength: 0 (off) to 1: the limit.

    Returns:
        ``int16 [H, W]``.
    """
    limit = round(strength * _CHROMA_LIMIT)
    if limit == 0:
        return chroma
    mean = cv2.blur(chroma, _CHROMA_WINDOW, borderType=cv2.BORDER_REFLECT_101)
    return chroma - np.clip(chroma - mean, -limit, limit)
