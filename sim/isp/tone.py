"""Stage (7): gamma, contrast, histogram operations and saturation; one look-up table takes 12 bit to 8 bit."""

from __future__ import annotations

import cv2
import numpy as np

from sim.isp.formats import COMPANDED_WHITE
from sim.isp.strips import Strip, each, strips

_LEVELS = COMPANDED_WHITE + 1
_LINEAR = (np.arange(_LEVELS) / COMPANDED_WHITE) ** 2  # undoes the square root of the companding
_LINEAR[0] = 0.0
# Share of the pixels' mean count above which a histogram bin is cut off and spread over all.
_HISTOGRAM_CLIP = 4.0
_CLAHE_CLIP = 3.0
_SATURATION_FRACTION = 7


def tone_curve(gamma: float, contrast: float, shadow_lift: float = 0.0, highlight_rolloff: float = 0.0) -> np.ndarray:
    """The fixed part of the tone curve: ``float64 [4096]`` in [0, 1], from companded 12-bit values.

    Args:
        gamma: the curve is ``x^(1/gamma)`` of the linear value x.
        contrast: blends towards the smoothstep 3y² − 2y³, which is reached at 1; negative blends away from it.
        shadow_lift: 0 to 1, brightens the dark tones and leaves black and white in place.
        highlight_rolloff: 0 to 1, bends the upper end down to a soft shoulder.
    """
    y = _LINEAR ** (1.0 / gamma)
    y += contrast * (y * y * (3 - 2 * y) - y)
    if shadow_lift:
        y += shadow_lift * y * (1 - y) ** 3
    shoulder = 0.3 * highlight_rolloff
    if shoulder:  # the smallest roll-offs underflow to none
        t = np.maximum(y - (1 - shoulder), 0) / shoulder
        y -= shoulder * 0.5 * highlight_rolloff * t * t
    return np.clip(y, 0, 1)


def knot_curve(knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A tone curve of straight lines between knots: ``float64 [4096]`` in [0, 1], from companded 12-bit values.

    Args:
        knots: ``float64 [K]``, ascending from 0 to 1, of the companded value.
        values: ``float64 [K]`` in [0, 1], of the output.
    """
    result: np.ndarray = np.interp(np.arange(_LEVELS) / COMPANDED_WHITE, knots, values)
    return result


def equalise(curve: np.ndarray, luma: np.ndarray, strength: float) -> np.ndarray:
    """Bend a tone curve towards global histogram equalisation of the luma that goes through it.

    Args:
        curve: ``float64 [4096]`` in [0, 1].
        luma: ``int16 [H, W]``, companded 12 bit, 0..4095.
        strength: 0 (off) to 1 (the clipped equalisation itself).
    """
    if strength == 0:
        return curve
    bins = np.minimum((curve * 256).astype(np.intp), 255)
    counts = sum(np.bincount(luma[s.rows].ravel(), minlength=_LEVELS) for s in strips(*luma.shape))
    histogram = np.bincount(bins, weights=counts, minlength=256)
    limit = _HISTOGRAM_CLIP * luma.size / 256
    clipped = np.minimum(histogram, limit)
    clipped += (luma.size - clipped.sum()) / 256
    cumulative = np.concatenate([[0.0], np.cumsum(clipped)]) / luma.size
    result: np.ndarray = curve + strength * (np.interp(curve, np.linspace(0, 1, 257), cumulative) - curve)
    return result


def apply_curve(rgb: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Companded ``int16 [3, H, W]`` through the curve as a table of 8-bit values: ``uint8 [3, H, W]``."""
    return np.take(np.rint(curve * 255).astype(np.uint8), rgb)


def luma8(rgb: np.ndarray) -> np.ndarray:
    """BT.601 luma of ``uint8 [3, H, W]`` in Q8: ``uint8 [H, W]``."""
    total = rgb[0] * np.uint16(77)
    total += rgb[1] * np.uint16(150)
    total += rgb[2] * np.uint16(29)
    total >>= np.uint16(8)
    result: np.ndarray = total.astype(np.uint8)
    return result


def adjust_local_contrast(rgb: np.ndarray, strength: float, tiles: int) -> np.ndarray:
    """Blend in contrast-limited adaptive histogram equalisation (CLAHE) of luma; colour differences stay.

    Args:
        rgb: ``uint8 [3, H, W]``.
        strength: 0 (off) to 1.
        tiles: the picture is cut into ``tiles`` × ``tiles`` tiles.
    """
    code = round(strength * 128)
    if code == 0:
        return rgb
    luma, result = np.empty_like(rgb[0]), np.empty_like(rgb)
    found = strips(*luma.shape)

    def to_luma(strip: Strip) -> None:
        luma[strip.rows] = luma8(rgb[:, strip.rows])

    each(to_luma, found)
    equalised = cv2.createCLAHE(_CLAHE_CLIP, (tiles, tiles)).apply(luma)

    def changed(strip: Strip) -> None:
        rows = strip.rows
        change = ((equalised[rows].astype(np.int16) - luma[rows]) * np.int16(code)) >> 7
        result[:, rows] = np.clip(rgb[:, rows] + change, 0, 255)

    each(changed, found)
    return result


def adjust_saturation(rgb: np.ndarray, saturation: float) -> np.ndarray:
    """Scale the distance of each pixel to its luma in Q7: 0 is grey, 1 leaves all as it is; ``uint8 [3, H, W]``."""
    code = round(saturation * (1 << _SATURATION_FRACTION))
    if code == 1 << _SATURATION_FRACTION:
        return rgb
    luma = luma8(rgb).astype(np.int16)
    colour = rgb - luma
    colour *= np.int16(code - (1 << _SATURATION_FRACTION))
    colour >>= _SATURATION_FRACTION
    colour += rgb
    return np.clip(colour, 0, 255, out=colour).astype(np.uint8)
