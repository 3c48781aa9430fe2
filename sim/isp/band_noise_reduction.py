"""Noise reduction in frequency bands, each with a strength of its own, on companded data."""

from __future__ import annotations

import cv2
import numpy as np

from sim.isp.formats import COMPANDED_WHITE

# Companded DN below which a band's value counts as noise, at strength 1.
_LIMIT = 640.0
_SPLINE = np.array([1, 4, 6, 4, 1], np.float32) / np.float32(16)


def reduce_in_bands(plane: np.ndarray, strengths: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    """Soft thresholding in the bands of an undecimated wavelet transform.

    Args:
        plane: ``int16 [H, W]``, companded 12 bit; luma, or a colour difference.
        strengths: 0 (off) to 1 of each band, the finest first; each is an octave below the one before.
        keep: ``float32 [H, W]``, 0 to 1: how much of the pixel stays as it is.

    Returns:
        ``int16 [H, W]``.
    """
    if not np.any(strengths):
        return plane
    rest = plane.astype(np.float32)
    taken = np.zeros_like(rest)
    for octave, strength in enumerate(strengths):
        kernel = np.zeros((1 << (octave + 2)) + 1, np.float32)
        kernel[:: 1 << octave] = _SPLINE
        smooth = cv2.sepFilter2D(rest, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
        limit = np.float32(strength * _LIMIT)
        taken += np.clip(rest - smooth, -limit, limit)
        rest = smooth.astype(np.float32, copy=False)
    if keep is not None:
        taken *= 1 - keep
    return plane - np.rint(taken).astype(np.int16)


def edges(luma: np.ndarray, low: float, high: float) -> np.ndarray:
    """How much of an edge each pixel is: 0 where the gradient is up to ``low``, 1 from ``high`` on, ``float32 [H, W]``.

    Args:
        luma: ``int16 [H, W]``, companded 12 bit.
        low, high: fractions of full scale, low below high.
    """
    smooth = cv2.GaussianBlur(luma, (3, 3), 0, borderType=cv2.BORDER_REFLECT_101)
    gradient = cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    share = (gradient.astype(np.float32) / np.float32(COMPANDED_WHITE) - np.float32(low)) / np.float32(high - low)
    result: np.ndarray = np.clip(share, 0, 1)
    return result
