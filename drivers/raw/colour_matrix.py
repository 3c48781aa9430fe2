"""The colour matrix of a camera: white-balanced camera RGB → linear sRGB."""

from __future__ import annotations

from typing import cast

import numpy as np

from drivers.colour import LIBRAW_XYZ_FROM_SRGB
from drivers.errors import FrameError

_WORST_CONDITION = 1e4  # real cameras: below 10
_LARGEST = 1000.0


def colour_matrix_of(cam_from_xyz: np.ndarray) -> tuple[tuple[float, float, float], ...] | None:
    """White-balanced camera RGB → linear sRGB from a 3×3 XYZ → camera RGB matrix.

    None where it has no inverse, or a colour of the camera sees less than nothing of white.
    """
    cam_from_srgb = np.asarray(cam_from_xyz, dtype=np.float64) @ LIBRAW_XYZ_FROM_SRGB
    sums = cam_from_srgb.sum(axis=1, keepdims=True)
    if not np.all(np.isfinite(cam_from_srgb)) or np.any(sums < 1e-6):
        return None
    cam_from_srgb = cam_from_srgb / sums
    if abs(np.linalg.det(cam_from_srgb)) < 1e-6:
        return None
    return plain_rows(np.linalg.inv(cam_from_srgb))


def plain_rows(matrix: np.ndarray) -> tuple[tuple[float, float, float], ...]:
    """The matrix as plain numbers; six decimals, so that the same file has the same hash with any BLAS."""
    return cast(
        tuple[tuple[float, float, float], ...],
        tuple(tuple(round(float(v), 6) + 0.0 for v in row) for row in matrix),
    )


def inverse_of(matrix: object, name: str = "") -> np.ndarray:
    """Linear sRGB → white-balanced camera RGB, ``float64 [3, 3]``, from a frame's colour matrix.

    Raises:
        FrameError: the matrix has no inverse, or none that eight bits of colour would survive.
    """
    values = np.array(matrix, dtype=np.float64)
    with np.errstate(all="ignore"):
        sound = values.shape == (3, 3) and np.all(np.isfinite(values)) and np.abs(values).max() <= _LARGEST
        condition = np.linalg.cond(values) if sound else np.inf
    if not condition <= _WORST_CONDITION:
        told = "; ".join(" ".join(f"{v:.6g}" for v in row) for row in np.atleast_2d(values))
        raise FrameError(
            f"{name or 'RAW frame'}: its colour matrix ({told}) has no usable inverse; "
            "leave colour_matrix out or give the camera's"
        )
    return np.linalg.inv(values)
