"""Camera RAW files (DNG, NEF, CR2, CRW, ARW, …) read through LibRaw."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from drivers.errors import FrameError
from drivers.frames import CfaPattern, RawFrame
from drivers.orientation import exif_of_libraw

# Linear sRGB (D65) to CIE XYZ.
XYZ_FROM_SRGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)

_COLOURS = "RGBG"  # LibRaw's colour indices


def load_camera_file(file: Path | BinaryIO, source: str = "") -> RawFrame:
    """The RAW frame of a camera file.

    The mosaic is LibRaw's visible area as the sensor read it, cut to an even size; levels and pattern are those of its
    top-left corner; the file's orientation is kept beside it.

    Args:
        file: path, or an open binary file.
        source: name for messages; a path's own name where left out.

    Raises:
        FrameError: LibRaw cannot read it, or it is not a Bayer file.
    """
    import rawpy

    name = source or str(file)
    try:
        with rawpy.imread(str(file) if isinstance(file, Path) else file) as raw:
            return _to_frame(raw, name)
    except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
        raise FrameError(f"{name}: LibRaw cannot read it as a RAW file ({_text(error)}); copy it again") from error
    except (MemoryError, OSError, ValueError) as error:
        raise FrameError(f"{name}: damaged RAW file ({error}); copy it again") from error


def colour_matrix_of(cam_from_xyz: np.ndarray) -> tuple[tuple[float, float, float], ...] | None:
    """White-balanced camera RGB → linear sRGB from a 3×3 XYZ → camera RGB matrix; None where it has no inverse."""
    cam_from_srgb = np.asarray(cam_from_xyz, dtype=np.float64) @ XYZ_FROM_SRGB
    sums = cam_from_srgb.sum(axis=1, keepdims=True)
    if not np.all(np.isfinite(cam_from_srgb)) or np.any(np.abs(sums) < 1e-6):
        return None
    cam_from_srgb = cam_from_srgb / sums
    if abs(np.linalg.det(cam_from_srgb)) < 1e-6:
        return None
    return _rows(np.linalg.inv(cam_from_srgb))


def _to_frame(raw: Any, name: str) -> RawFrame:
    import rawpy

    if raw.raw_type != rawpy.RawType.Flat or raw.raw_image_visible is None or raw.raw_image_visible.ndim != 2:
        raise FrameError(f"{name}: not a mosaic (already RGB, or a stacked sensor); only Bayer RAWs can be processed")
    visible = raw.raw_image_visible
    height, width = visible.shape[0] // 2 * 2, visible.shape[1] // 2 * 2
    indices = _bayer_indices(raw, name)
    letters = "".join(_COLOURS[i] for i in indices)
    if height < 2 or width < 2:
        raise FrameError(f"{name}: the visible area is only {visible.shape[1]}×{visible.shape[0]} pixels")
    black = raw.black_level_per_channel
    return RawFrame(
        mosaic=np.array(visible[:height, :width], dtype=np.uint16, order="C"),
        cfa=cast(CfaPattern, letters),
        black_level=cast(tuple[float, float, float, float], tuple(float(black[i]) for i in indices)),
        white_level=int(raw.white_level),
        iso=_positive(getattr(_other(raw), "iso_speed", None)),
        exposure_s=_positive(getattr(_other(raw), "shutter_speed", None)),
        as_shot_wb=_as_shot(raw.camera_whitebalance),
        colour_matrix=_matrix(raw),
        source=name,
        orientation=exif_of_libraw(raw.sizes.flip),
    )


def _bayer_indices(raw: Any, name: str) -> list[int]:
    """LibRaw's colour index at the four positions of the visible area's first 2×2 block."""
    description = raw.color_desc.decode("ascii", "replace")
    corner = raw.raw_colors_visible[:12, :12]  # twice X-Trans's period
    indices = [int(i) for i in corner[:2, :2].ravel()] if min(corner.shape) >= 2 else []
    tiled = np.resize(corner[:2, :2], (2, 2)) if indices else corner
    repeats = bool(indices) and np.array_equal(corner, np.tile(tiled, (6, 6))[: corner.shape[0], : corner.shape[1]])
    letters = "".join(description[i] if i < len(description) else "?" for i in indices)
    diagonal = letters[0:4:3], letters[1:3]
    if description != _COLOURS or not repeats or sorted(letters) != ["B", "G", "G", "R"] or "GG" not in diagonal:
        raise FrameError(f"{name}: its colour filter array is not Bayer (colours {description}); only Bayer RAWs work")
    return indices


def _as_shot(multipliers: Any) -> tuple[float, float, float] | None:
    """Gains with green = 1; None where the file has none (zeros, or LibRaw's placeholder of ones)."""
    red, green, blue = (float(m) for m in multipliers[:3])
    if not all(math.isfinite(m) and m > 0 for m in (red, green, blue)) or red == green == blue:
        return None
    return round(red / green, 6), 1.0, round(blue / green, 6)


def _matrix(raw: Any) -> tuple[tuple[float, float, float], ...] | None:
    cam_from_xyz = np.array(raw.rgb_xyz_matrix, dtype=np.float64)[:3, :3]
    if np.any(cam_from_xyz):
        return colour_matrix_of(cam_from_xyz)
    matrix = np.array(raw.color_matrix, dtype=np.float64)[:3, :3]  # DNG: LibRaw derived it from the file's own matrices
    sums = matrix.sum(axis=1, keepdims=True)
    if not np.any(matrix) or np.any(np.abs(sums) < 1e-6) or not np.all(np.isfinite(matrix)):
        return None
    return _rows(matrix / sums)


def _rows(matrix: np.ndarray) -> tuple[tuple[float, float, float], ...]:
    """The matrix as plain numbers; six decimals, so that the same file has the same hash with any BLAS."""
    return cast(
        tuple[tuple[float, float, float], ...],
        tuple(tuple(round(float(v), 6) + 0.0 for v in row) for row in matrix),
    )


def _other(raw: Any) -> Any:
    return getattr(raw, "other", None)  # rawpy before 0.26 does not tell


def _positive(value: Any) -> float | None:
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) and value > 0 else None


def _text(error: BaseException) -> str:
    argument = error.args[0] if error.args else type(error).__name__
    return argument.decode("ascii", "replace") if isinstance(argument, bytes) else str(argument)
