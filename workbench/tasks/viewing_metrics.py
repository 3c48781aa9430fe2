"""The metrics of human viewing, of two ``uint8 [H, W, 3]`` sRGB images: an output and its reference.

PSNR is mostly exposure and white balance, and SSIM has no colour, so beside them:

- **aligned PSNR**: PSNR after the 3×3 matrix that brings the output's colours nearest to the reference's. What is left
  is tone curve, detail and noise. The matrix is fitted in linear light, where exposure, white balance and a colour
  matrix are one exactly and a tone curve is none.
- **ΔE2000**: the mean difference of colour as people see it.
- **gradient error**: how far the aligned output's gradients are from the reference's, which smoothing and noise both
  raise. **Texture lost** tells which: the share of the reference's gradients that are not in the output, which noise
  does not touch. (MS-SSIM has no such second figure, and its five scales need 176 pixels a side.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

import cv2
import numpy as np

from drivers.all_cores import on_all_cores
from drivers.errors import FrameError
from workbench.tasks.task import Metric

METRICS = (
    Metric("psnr", "PSNR", "dB", decimals=2),
    Metric("ssim", "SSIM"),
    Metric("aligned_psnr", "aligned PSNR", "dB", decimals=2, aside=True),
    Metric("delta_e", "ΔE2000", higher_is_better=False, decimals=2, aside=True),
    Metric("gradient_error", "gradient error", higher_is_better=False, decimals=2, aside=True),
    Metric("texture_lost", "texture lost", higher_is_better=False, aside=True),
)
# An exact match has no finite PSNR; this cap keeps means finite and is far above what an 8-bit JPEG reaches.
MAX_PSNR_DB = 99.0
# Side of the Gaussian window of sigma 1.5.
SSIM_WINDOW = 11
# Below this share of unclipped pixels there is nothing to fit a matrix to.
_LEAST_UNCLIPPED = 0.01
# Pixels that ΔE2000 is of, at most; of smaller images every pixel.
_DELTA_E_PIXELS = 1 << 15
_MIDDLE = 128
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
_TEXTURE_CELL = 16
# Large images are gone through in strips of so many pixels, and so many at once at most: all of one in float, several
# times over, is gigabytes.
_STRIP_PIXELS = 1 << 20
_STRIPS_AT_ONCE = 4
_Found = TypeVar("_Found")


def psnr(output: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, at most ``MAX_PSNR_DB``.

    Raises:
        FrameError: the sizes differ.
    """
    _check(output, reference)
    difference = output.astype(np.int16) - reference
    mse = float(np.einsum("ijk,ijk->", difference, difference, dtype=np.int64, casting="unsafe")) / difference.size
    return _decibels(mse / 255.0**2)


def ssim(output: np.ndarray, reference: np.ndarray) -> float:
    """Mean structural similarity (Gaussian window, sigma 1.5), in [-1, 1].

    Raises:
        FrameError: the sizes differ, or a side is shorter than the window.
    """
    _check(output, reference)
    if min(output.shape[:2]) < SSIM_WINDOW:
        raise FrameError(
            f"output of {output.shape[1]}×{output.shape[0]} is too small for SSIM, whose window is "
            f"{SSIM_WINDOW}×{SSIM_WINDOW}: give larger RAWs"
        )
    edge = SSIM_WINDOW // 2
    height, width, channels = output.shape

    def total(rows: slice) -> float:
        halo = slice(rows.start, rows.stop + 2 * edge)
        return float(_similarity(output[halo], reference[halo])[edge:-edge, edge:-edge].sum(dtype=np.float64))

    totals = _of_strips(total, height - 2 * edge, width)
    return sum(totals) / float((height - 2 * edge) * (width - 2 * edge) * channels)


def _similarity(output: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """SSIM of each pixel and channel: what scikit-image gives, faster, for searches ask for it often.

    Single precision is enough once the values lie around 0: variances are differences of mean squares.
    """
    one, other = (image.astype(np.float32) - np.float32(_MIDDLE) for image in (output, reference))
    mean, mean_other = _windowed(one), _windowed(other)
    variances = _windowed(one * one + other * other) - mean * mean - mean_other * mean_other
    covariance = _windowed(one * other) - mean * mean_other
    mean += np.float32(_MIDDLE)
    mean_other += np.float32(_MIDDLE)
    small, small_variance = np.float32((0.01 * 255) ** 2), np.float32((0.03 * 255) ** 2)
    similarity: np.ndarray = (2 * mean * mean_other + small) * (2 * covariance + small_variance)
    similarity /= (mean * mean + mean_other * mean_other + small) * (variances + small_variance)
    return similarity


def _of_strips(work: Callable[[slice], _Found], height: int, width: int, multiple: int = 1) -> list[_Found]:
    """What the work finds in slices of all rows, in their order; on all cores.

    Each slice but the last is of a multiple of so many rows.
    """
    step = max(_STRIP_PIXELS // width // multiple, 1) * multiple
    strips = [slice(top, min(top + step, height)) for top in range(0, height, step)]
    return on_all_cores(work, strips, _STRIPS_AT_ONCE)


def _windowed(image: np.ndarray) -> np.ndarray:
    result: np.ndarray = cv2.GaussianBlur(image, (SSIM_WINDOW, SSIM_WINDOW), 1.5)
    return result


def aligned(output: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The output with the 3×3 matrix in linear light that brings its colours nearest to the reference's.

    The fit is least squares of the means over cells of up to 8×8 pixels: noise, which a fit to pixels would answer with
    too dark a picture, and detail do not sway it. Squares are weighted by the slope of the sRGB curve at the reference,
    so that they count as in the pictures themselves. Pixels with a channel at 0 or 255 in either image are left out:
    what they were is lost. Where fewer than 1 % are left, the output is given as it is.

    Returns:
        ``float32 [H, W, 3]`` in [0, 1], sRGB.

    Raises:
        FrameError: the sizes differ.
    """
    _check(output, reference)
    height, width = output.shape[:2]
    side = int(np.clip(min(height, width) // 16, 1, 8))
    parts = _of_strips(lambda rows: _sums(output[rows], reference[rows], side), height // side * side, width, side)
    counts, of_own, of_aim = (np.concatenate(part) for part in zip(*parts, strict=True))
    there = counts > 0
    if _unclipped_share(output, reference) < _LEAST_UNCLIPPED or not there.any():
        return output.astype(np.float32) / 255
    counts = counts[there].astype(float)
    of_own, of_aim = (sums[there].astype(float) / counts[:, None] for sums in (of_own, of_aim))
    weights = np.sqrt(counts)[:, None] * _slope(of_aim)
    # A channel's own weights: three fits of three numbers each. Greys alone leave them open; lstsq takes the smallest.
    fitted = [
        np.linalg.lstsq(of_own * w[:, None], y * w, rcond=None)[0] for w, y in zip(weights.T, of_aim.T, strict=True)
    ]
    matrix = np.array(fitted, np.float32)
    brought = np.empty(output.shape, np.float32)

    def bring(rows: slice) -> None:
        brought[rows] = _encoded(cv2.transform(cv2.LUT(output[rows], _LINEAR), matrix))

    _of_strips(bring, height, width)
    return brought


def _sums(output: np.ndarray, reference: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each cell the count of unclipped pixels, and their sums in linear light in the output and the reference."""
    unclipped = _unclipped(output, reference)
    own, aim = (_cells(cv2.copyTo(cv2.LUT(image, _LINEAR), unclipped), side) for image in (output, reference))
    return _cells(np.minimum(unclipped, 1), side), own, aim


def _unclipped(output: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Pixels that have no channel at 0 or 255 in either image: 255, the others 0."""
    inner = [cv2.inRange(image, (1, 1, 1), (254, 254, 254)) for image in (output, reference)]
    return np.asarray(cv2.bitwise_and(*inner))


def _unclipped_share(output: np.ndarray, reference: np.ndarray) -> float:
    height, width = output.shape[:2]
    counts = _of_strips(lambda rows: cv2.countNonZero(_unclipped(output[rows], reference[rows])), height, width)
    return sum(counts) / float(height * width)


def aligned_psnr(output: np.ndarray, reference: np.ndarray) -> float:
    """PSNR in dB of the :func:`aligned` output, never below that of the output as it is, at most ``MAX_PSNR_DB``.

    Raises:
        FrameError: the sizes differ.
    """
    return max(psnr(output, reference), _psnr_of(aligned(output, reference), reference))


def delta_e(output: np.ndarray, reference: np.ndarray) -> float:
    """Mean CIEDE2000 colour difference; 1 is about what is just seen, lower is better.

    Of images above 32,768 pixels it is of every third, fifth, … row and column, as few as stay below: the mean of so
    many is known well enough, and an odd step meets every place of the colour filter array and of JPEG's blocks.

    Raises:
        FrameError: the sizes differ.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    _check(output, reference)
    step = 1
    while output.shape[0] * output.shape[1] > _DELTA_E_PIXELS * step**2:
        step += 2
    one, other = (rgb2lab(image[::step, ::step]) for image in (output, reference))
    return float(deltaE_ciede2000(one, other).mean())


def gradient_error(output: np.ndarray, reference: np.ndarray) -> float:
    """RMS difference of the luma gradients of the :func:`aligned` output and the reference, in levels of 255 a pixel.

    The mean over cells of 16×16 pixels, so that a few strong edges do not decide; lower is better.

    Raises:
        FrameError: the sizes differ.
    """
    return _texture(aligned(output, reference), reference)["gradient_error"]


def texture_lost(output: np.ndarray, reference: np.ndarray) -> float:
    """The share of the reference's luma gradients that the :func:`aligned` output lacks, 0 to 1; lower is better.

    In each cell of 16×16 pixels the output's gradients are projected on the reference's: what noise adds is at right
    angles to them and does not count, as in the texture MTF of dead-leaves charts.

    Raises:
        FrameError: the sizes differ.
    """
    return _texture(aligned(output, reference), reference)["texture_lost"]


FUNCTIONS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = MappingProxyType(
    {
        "psnr": psnr,
        "ssim": ssim,
        "aligned_psnr": aligned_psnr,
        "delta_e": delta_e,
        "gradient_error": gradient_error,
        "texture_lost": texture_lost,
    }
)
"""Each metric alone, for a search."""


def score(output: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """All :data:`METRICS`, by key; what several of them need is computed once.

    Raises:
        FrameError: the sizes differ, or a side is shorter than SSIM's window.
    """
    plain, similar = psnr(output, reference), ssim(output, reference)
    brought = aligned(output, reference)
    return {
        "psnr": plain,
        "ssim": similar,
        "aligned_psnr": max(plain, _psnr_of(brought, reference)),
        "delta_e": delta_e(output, reference),
        **_texture(brought, reference),
    }


def _check(output: np.ndarray, reference: np.ndarray) -> None:
    if output.shape != reference.shape:
        raise FrameError(
            f"output is {output.shape[1]}×{output.shape[0]}, its reference {reference.shape[1]}×{reference.shape[0]}: "
            "give a reference of the device's output size"
        )


def _decibels(mse: float) -> float:
    return MAX_PSNR_DB if mse == 0 else float(min(-10 * np.log10(mse), MAX_PSNR_DB))


def _psnr_of(image: np.ndarray, reference: np.ndarray) -> float:
    def squares(rows: slice) -> float:
        return cv2.norm(image[rows] - reference[rows].astype(np.float32) / 255, cv2.NORM_L2SQR)

    return _decibels(sum(_of_strips(squares, *image.shape[:2])) / image.size)


def _texture(image: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Gradient error and texture lost of an aligned image."""
    side = min(_TEXTURE_CELL, *(n - 1 for n in image.shape[:2]))
    if side < 1:
        return {"gradient_error": 0.0, "texture_lost": 0.0}

    def products(rows: slice) -> list[np.ndarray]:
        more = slice(rows.start, rows.stop + 1)
        own = _gradients(cv2.transform(image[more], 255 * _LUMA))
        aim = _gradients(cv2.transform(reference[more].astype(np.float32), _LUMA))
        made = ([(a - b) ** 2, a * b, b * b] for a, b in zip(own, aim, strict=True))
        return [_cells(across + down, side) for across, down in zip(*made, strict=True)]

    parts = _of_strips(products, (image.shape[0] - 1) // side * side, image.shape[1], side)
    error, common, strength = (np.concatenate(part) for part in zip(*parts, strict=True))
    there = strength > 0
    lost = np.clip(1 - common[there] / strength[there], 0, 1)
    weights = np.sqrt(strength[there])
    return {
        "gradient_error": float(np.sqrt(error / side**2).mean()),
        "texture_lost": float((lost * weights).sum() / weights.sum()) if there.any() else 0.0,
    }


def _gradients(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Differences to the right and downwards, ``float32 [H - 1, W - 1]`` each."""
    return luma[:-1, 1:] - luma[:-1, :-1], luma[1:, :-1] - luma[:-1, :-1]


def _cells(image: np.ndarray, side: int) -> np.ndarray:
    """Sums over cells of ``[H, W, …]``; what does not fill a cell at the right and the bottom is left out."""
    rows, columns = image.shape[0] // side, image.shape[1] // side
    whole = np.ascontiguousarray(image[: rows * side, : columns * side])
    # Whole rows are added first, for those lie together in memory.
    summed = whole.reshape(rows, side, -1).sum(axis=1, dtype=np.float64)
    result: np.ndarray = summed.reshape(rows, columns, side, *image.shape[2:]).sum(axis=2)
    return result


def _encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light as sRGB, clipped to [0, 1]."""
    light = np.clip(linear, 0, 1)
    encoded = cv2.pow(light, 1 / 2.4)
    encoded *= np.float32(1.055)
    encoded -= np.float32(0.055)
    np.multiply(light, np.float32(12.92), out=encoded, where=light <= np.float32(0.0031308))
    return np.asarray(encoded)


def _slope(linear: np.ndarray) -> np.ndarray:
    """Of the sRGB curve."""
    return np.where(linear <= 0.0031308, 12.92, 1.055 / 2.4 * np.maximum(linear, 0.0031308) ** (1 / 2.4 - 1))


def _linear_light() -> np.ndarray:
    level = np.arange(256) / 255
    return np.asarray(np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4), np.float32)


_LINEAR = _linear_light()
