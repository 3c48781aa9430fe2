"""Stage (4): demosaicking. Three methods, any CFA order; integer arithmetic with exact binary fractions."""

from __future__ import annotations

import cv2
import numpy as np

from sim.isp.formats import filtered


def _kernel(rows: list[list[float]], divisor: float) -> np.ndarray:
    return np.array(rows, np.float32) / np.float32(divisor)


# Bilinear interpolation: the mean of the nearest neighbours of the wanted colour.
_CROSS = _kernel([[0, 1, 0], [1, 0, 1], [0, 1, 0]], 4)
_DIAGONAL = _kernel([[1, 0, 1], [0, 0, 0], [1, 0, 1]], 4)
_ROW = _kernel([[1, 0, 1]], 2)
_COLUMN = _ROW.T.copy()

# High-quality linear interpolation (Malvar, He, Cutler 2004): bilinear plus a gradient correction.
_HQ_CROSS = _kernel([[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]], 8)
_HQ_ROW = _kernel([[0, 0, 1, 0, 0], [0, -2, 0, -2, 0], [-2, 8, 10, 8, -2], [0, -2, 0, -2, 0], [0, 0, 1, 0, 0]], 16)
_HQ_COLUMN = _HQ_ROW.T.copy()
_HQ_DIAGONAL = _kernel([[0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0]], 16)

# Hamilton-Adams: green along a line, and how much the line changes (half scale, to stay within 16 bits).
_GREEN_ALONG = _kernel([[-1, 2, 2, 2, -1]], 4)
_SLOPE = _kernel([[-1, 0, 1]], 2)
_CURVATURE = _kernel([[-1, 0, 2, 0, -1]], 2)


def demosaic(mosaic: np.ndarray, cfa: str, method: str) -> np.ndarray:
    """RGB planes of a Bayer mosaic.

    Args:
        mosaic: ``int16 [H, W]``, linear 14 bit.
        cfa: colours of the top-left 2×2 block: RGGB, BGGR, GRBG or GBRG.
        method: ``bilinear``, ``malvar`` (5×5 linear) or ``edge_aware`` (Hamilton-Adams).

    Returns:
        ``int16 [3, H, W]``, red first; overshoots of the interpolation are kept.
    """
    if method == "bilinear":
        row, column = filtered(mosaic, _ROW), filtered(mosaic, _COLUMN)
        return _assemble(mosaic, cfa, filtered(mosaic, _CROSS), row, column, filtered(mosaic, _DIAGONAL))
    if method == "malvar":
        row, column = filtered(mosaic, _HQ_ROW), filtered(mosaic, _HQ_COLUMN)
        return _assemble(mosaic, cfa, filtered(mosaic, _HQ_CROSS), row, column, filtered(mosaic, _HQ_DIAGONAL))
    return _edge_aware(mosaic, cfa)


def _assemble(
    mosaic: np.ndarray, cfa: str, cross: np.ndarray, row: np.ndarray, column: np.ndarray, diagonal: np.ndarray
) -> np.ndarray:
    """Pick for every site of the 2×2 block the estimate that looks where the wanted colour lies."""
    rgb = np.empty((3, *mosaic.shape), np.int16)
    for position, colour in enumerate(cfa):
        site = (slice(position // 2, None, 2), slice(position % 2, None, 2))
        if colour == "G":
            in_row = "RGB".index(cfa[position ^ 1])
            rgb[1][site] = mosaic[site]
            rgb[in_row][site] = row[site]
            rgb[2 - in_row][site] = column[site]
        else:
            own = "RGB".index(colour)
            rgb[own][site] = mosaic[site]
            rgb[1][site] = cross[site]
            rgb[2 - own][site] = diagonal[site]
    return rgb


def _edge_aware(mosaic: np.ndarray, cfa: str) -> np.ndarray:
    """Green along the direction of least change; red and blue by their smooth differences to green."""
    across = cv2.add(np.abs(filtered(mosaic, _SLOPE)), np.abs(filtered(mosaic, _CURVATURE)))
    down = cv2.add(np.abs(filtered(mosaic, _SLOPE.T)), np.abs(filtered(mosaic, _CURVATURE.T)))
    along_row, along_column = filtered(mosaic, _GREEN_ALONG), filtered(mosaic, _GREEN_ALONG.T)
    green = np.where(across < down, along_row, along_column)
    same = across == down
    green[same] = ((along_row[same].astype(np.int32) + along_column[same]) >> 1).astype(np.int16)
    for position, colour in enumerate(cfa):
        if colour == "G":
            site = (slice(position // 2, None, 2), slice(position % 2, None, 2))
            green[site] = mosaic[site]

    difference = cv2.subtract(mosaic, green)
    return _assemble(
        mosaic,
        cfa,
        green,
        cv2.add(green, filtered(difference, _ROW)),
        cv2.add(green, filtered(difference, _COLUMN)),
        cv2.add(green, filtered(difference, _DIAGONAL)),
    )


def suppress_false_colour(rgb: np.ndarray, passes: int) -> np.ndarray:
    """Median filter (3×3, ``passes`` times) of red − green and blue − green.

    Args:
        rgb: ``int16 [3, H, W]``, linear 14 bit.
        passes: 0 (off) to 3.
    """
    if passes == 0:
        return rgb
    cleaned = rgb.copy()
    for channel in (0, 2):
        difference = cv2.subtract(rgb[channel], rgb[1])
        for _ in range(passes):
            difference = cv2.medianBlur(difference, 3)
        cv2.add(rgb[1], difference, dst=cleaned[channel])
    return cleaned
