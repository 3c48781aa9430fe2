"""Simple figures of a RAW's pixels and metadata: light, colour, noise and detail at four scales."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from drivers.all_cores import on_all_cores
from drivers.frames import RawFrame
from predictor.metadata import LENGTH as METADATA
from predictor.metadata import metadata_vector

_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_CLIPPED = 0.98
_SCALES = 4
_LEAST = 1e-4
_SAMPLE = 1 << 19
"""Pixels that percentiles and deviations are taken of at most: an even grid of those of a larger plane."""
_STRIP = 1 << 16
"""Pixels of a plane that are worked on at a time."""
_MANY = 1 << 16
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
    parts = (_light_and_colour, _colour_spread, _noise_and_detail, _noise_of_red_and_blue)
    at_once = len(parts) if planes[0].size >= _MANY else 1
    (*light, saturation), *others = on_all_cores(lambda part: part(planes), parts, at_once)
    return np.array([*light, *(figure for part in others for figure in part), saturation], dtype=np.float32)


def _light_and_colour(planes: np.ndarray) -> list[float]:
    """Of means and percentiles, clipped pixels and colour ratios; the last is saturation."""
    green = planes[1]
    kept = np.empty(green.shape, dtype=bool)
    for rows in _strips(green):
        np.less_equal(planes[:, rows].max(0), _CLIPPED, out=kept[rows])
    unclipped = np.count_nonzero(kept)
    *percentiles, light = _percentiles(_sampled(green), (*_PERCENTILES, 90))
    told = [*planes.mean((1, 2)), *percentiles, _centre_mean(green)]
    figures = [*_log2(told), (kept.size - unclipped) / kept.size]
    if not unclipped:
        kept[:] = True
    bright = green > light
    bright &= kept
    means = _means(planes, kept)
    for red, level, blue in (_means(planes, bright) if np.count_nonzero(bright) > 10 else means, means):
        figures += _log2([max(red, _LEAST) / max(level, _LEAST), max(blue, _LEAST) / max(level, _LEAST)])
    return [*figures, _saturation(planes, means)]


def _colour_spread(planes: np.ndarray) -> list[float]:
    level = np.maximum(_sampled(planes[1]), 1e-3)
    return [
        figure
        for plane in (planes[0], planes[2])
        for figure in _log2(_percentiles(_sampled(plane) / level, (10, 50, 90)))
    ]


def _noise_and_detail(planes: np.ndarray) -> list[float]:
    """Of green, at every scale."""
    figures, current = [], _root(planes[1])
    for _ in range(_SCALES):
        low = _blurred(current)
        figures += _band(current, low, (25, 50, 95))
        current = low[::2, ::2] if min(low.shape) >= 4 else low
    return figures


def _noise_of_red_and_blue(planes: np.ndarray) -> list[float]:
    """At the finest scale."""
    roots = (_root(planes[0]), _root(planes[2]))
    return [figure for root in roots for figure in _band(root, _blurred(root), (50,))]


def _strips(plane: np.ndarray) -> Iterator[slice]:
    """Rows of a plane, so few at a time that what is made of them stays in the processor's cache."""
    step = max(_STRIP // plane.shape[1], 1)
    return (slice(first, first + step) for first in range(0, plane.shape[0], step))


def _means(planes: np.ndarray, mask: np.ndarray) -> list[float]:
    """Of each plane's pixels in the mask."""
    totals = np.zeros(len(planes))
    for rows in _strips(mask):
        totals += np.vecdot(planes[:, rows], mask[rows].astype(np.float32)).sum(1, dtype=np.float64)
    return [float(total) for total in totals / np.count_nonzero(mask)]


def _root(plane: np.ndarray) -> np.ndarray:
    root = np.empty_like(plane)
    for rows in _strips(plane):
        np.maximum(plane[rows], 0, out=root[rows])
        np.sqrt(root[rows], out=root[rows])
    return root


def _saturation(planes: np.ndarray, means: list[float]) -> float:
    """Mean of largest less smallest colour, where the planes' means are 1."""
    over = np.maximum(means, _LEAST).astype(np.float32)[:, None, None]
    total = 0.0
    for rows in _strips(planes[0]):
        balanced = planes[:, rows] / over
        total += float((balanced.max(0) - balanced.min(0)).sum(dtype=np.float64))
    return total / float(planes[0].size)


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


def _percentiles(values: np.ndarray, percents: Sequence[float]) -> list[float]:
    """What :func:`numpy.percentile` gives of float32; of many values a partition for each percentile is faster."""
    if values.size < _MANY:
        return [float(value) for value in np.percentile(values, percents)]
    found = {}
    above, first = np.ravel(values), 0
    for percent in sorted(percents):
        rank, share = divmod((values.size - 1) * percent / 100, 1)
        above = np.partition(above, int(rank) - first)[int(rank) - first :]
        first = int(rank)
        low = float(above[0])
        found[percent] = low + share * (float(above[1:].min()) - low) if share else low
    return [found[percent] for percent in percents]


def _band(whole: np.ndarray, low: np.ndarray, percentiles: tuple[int, ...]) -> list[float]:
    """Of what a blur took away, as far as it is sampled."""
    band = _sampled(whole) - _sampled(low)
    return _log2([*_percentiles(np.abs(band), percentiles), band.std()])


def _centre_mean(plane: np.ndarray) -> float:
    y, x = (np.exp(-0.5 * (np.linspace(-1, 1, side) / 0.6) ** 2).astype(np.float32) for side in plane.shape)
    # Row by row: NumPy's library takes threads for a whole plane, which then spin on whoever else has the processor.
    return float(np.vecdot(plane, x) @ y / (y.sum() * x.sum()))


def _log2(values: object) -> list[float]:
    return [float(v) for v in np.log2(np.maximum(np.asarray(values, dtype=np.float64), _LEAST))]
