"""Simple figures of a RAW's pixels and metadata: light, colour, noise and detail at four scales."""

from __future__ import annotations

import math

import numpy as np

from drivers.frames import RawFrame
from predictor.metadata import LENGTH as METADATA
from predictor.metadata import metadata_vector

_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_CLIPPED = 0.98
_SCALES = 4
_LEAST = 1e-4
_SAMPLE = 1 << 19
"""Pixels that percentiles and deviations are taken of at most: an even grid of those of a larger plane."""
STATISTICS = 3 + len(_PERCENTILES) + 2 + 4 + 6 + 4 * _SCALES + 4 + 1
"""Length of :func:`raw_statistics`."""
LENGTH = STATISTICS + METADATA
"""Length of :func:`raw_features`."""


def raw_features(raw: RawFrame) -> np.ndarray:
    """What is told of a RAW beside its image: its statistics and the predictor's metadata, ``float32 [LENGTH]``."""
    return np.concatenate([raw_statistics(raw), metadata_vector(raw)])


def told_of(raw: RawFrame, *, metadata: bool, statistics: bool, planes: np.ndarray | None = None) -> np.ndarray:
    """What a network is told beside a RAW's image, ``float32 [M + S]``: metadata, then statistics, if asked for.

    ``planes``: of the RAW, where they are there already.
    """
    parts = [*([metadata_vector(raw)] if metadata else ()), *([raw_statistics(raw, planes)] if statistics else ())]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def raw_statistics(raw: RawFrame, planes: np.ndarray | None = None) -> np.ndarray:
    """What a RAW looks like, from pixels of its full resolution; ``planes`` of it where they are there already.

    Returns:
        ``float32 [STATISTICS]``: log2 of the planes' means, of the green plane's percentiles and of its mean around the
        centre; the share of clipped pixels; log2 of red and blue over green among bright and among all pixels, and of
        their percentiles; log2 of the band-passed square root's median, deviation and 95th percentile at four scales
        of green and at the finest of red and blue (shot noise has the same size in bright and dark areas under the
        square root, so the median tells noise and the deviation detail); and saturation.
    """
    planes = raw.planes() if planes is None else planes
    green = planes[1]
    clipped = planes.max(0) > _CLIPPED
    *percentiles, light = np.percentile(_sampled(green), (*_PERCENTILES, 90))
    told = [*planes.mean((1, 2)), *percentiles, _centre_mean(green)]
    figures = [*_log2(told), float(clipped.mean())]
    kept = ~clipped if not clipped.all() else np.ones_like(clipped)
    bright = kept & (green > light)
    for mask in (bright if bright.sum() > 10 else kept, kept):
        red, level, blue = (max(float(plane[mask].mean()), _LEAST) for plane in planes)
        figures += _log2([red / level, blue / level])
    for plane in (planes[0], planes[2]):
        figures += _log2(np.percentile(_sampled(plane) / np.maximum(_sampled(green), 1e-3), (10, 50, 90)))
    current = np.sqrt(np.maximum(green, 0))
    for _ in range(_SCALES):
        low = _blurred(current)
        figures += _band(current - low, (25, 50, 95))
        current = low[::2, ::2] if min(low.shape) >= 4 else low
    for plane in (planes[0], planes[2]):
        root = np.sqrt(np.maximum(plane, 0))
        figures += _band(root - _blurred(root), (50,))
    balanced = planes / np.maximum([[[plane[kept].mean()]] for plane in planes], _LEAST)
    figures.append(float((balanced.max(0) - balanced.min(0)).mean()))
    return np.array(figures, dtype=np.float32)


def _blurred(plane: np.ndarray) -> np.ndarray:
    """A plane after a Gaussian of deviation 1, nine taps a side; its edges are mirrored about their pixels."""
    try:
        import cv2
    except ImportError:  # beside a device there may be numpy alone
        taps = np.exp(-0.5 * np.arange(-4, 5) ** 2)
        taps /= taps.sum()
        for axis in (0, 1):
            # A side may be shorter than the mirrored edge.
            places = np.arange(-4, plane.shape[axis] + 4)
            period = max(2 * (plane.shape[axis] - 1), 1)
            mirrored = np.abs(places) % period
            edged = plane.take(np.minimum(mirrored, period - mirrored) if plane.shape[axis] > 1 else 0 * places, axis)
            size = plane.shape[axis]
            plane = sum(tap * edged.take(np.arange(k, k + size), axis) for k, tap in enumerate(taps))
        return plane.astype(np.float32)
    blurred: np.ndarray = cv2.GaussianBlur(plane, (0, 0), 1.0)
    return blurred


def _sampled(plane: np.ndarray) -> np.ndarray:
    step = math.ceil(math.sqrt(plane.size / _SAMPLE))
    return plane[::step, ::step]


def _band(band: np.ndarray, percentiles: tuple[int, ...]) -> list[float]:
    band = _sampled(band)
    return _log2([*np.percentile(np.abs(band), percentiles), band.std()])


def _centre_mean(plane: np.ndarray) -> float:
    y, x = (np.exp(-0.5 * (np.linspace(-1, 1, side) / 0.6) ** 2) for side in plane.shape)
    return float(y @ plane @ x / (y.sum() * x.sum()))


def _log2(values: object) -> list[float]:
    return [float(v) for v in np.log2(np.maximum(np.asarray(values, dtype=np.float64), _LEAST))]
