"""Camera RAW files (DNG, NEF, CR2, CRW, ARW, …) read through LibRaw."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from drivers.errors import FrameError
from drivers.foreign_text import shown
from drivers.frames import RawFrame
from drivers.orientation import exif_of_libraw
from drivers.raw.colour_matrix import colour_matrix_of, plain_rows
from drivers.raw.dng_jpeg import misread
from drivers.raw.dng_parts import misplaced
from drivers.raw.dng_tags import Window, broken_off, misplaced_area, unreadable
from drivers.raw.dng_unfollowed import unfollowed
from drivers.raw.own_words import amend
from drivers.raw.raw_notes import RawNote
from drivers.raw.tiff_tags import FileTags, begins_as_tiff, is_cut_short, read_tags

_COLOURS = "RGBG"  # LibRaw's colour indices


def load_camera_file(file: Path | BinaryIO, source: str = "", notes: list[RawNote] | None = None) -> RawFrame:
    """The RAW frame of a camera file.

    The mosaic is LibRaw's visible area as the sensor read it, cut to an even size; levels and pattern are those of its
    top-left corner; the file's orientation is kept beside it. Where the file's own tags say otherwise than LibRaw, the
    file's word is taken (see :mod:`drivers.raw.own_words`).

    Args:
        file: path, or an open binary file.
        source: name for messages; a path's own name where left out.
        notes: gets what is worth telling of the file.

    Raises:
        FrameError: LibRaw cannot read it, it was cut short, or it is not a Bayer file.
    """
    name = source or shown(file)
    try:
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(file.open("rb")) if isinstance(file, Path) else file
            tags = read_tags(stream)
            _check_whole(stream, tags, name)
            frame, told = _decode(file, stream, tags, name)
    except (MemoryError, OSError, ValueError) as error:
        raise FrameError(f"{name}: damaged RAW file ({_text(error)}); copy it again") from error
    if notes is not None:
        notes += told
    return frame


def _decode(
    file: Path | BinaryIO, stream: BinaryIO, tags: FileTags | None, name: str
) -> tuple[RawFrame, list[RawNote]]:
    import rawpy

    # LibRaw opens a path itself, without a copy in memory, but takes only names in UTF-8, and prints them as they are.
    by_path = isinstance(file, Path) and shown(file) == str(file)
    stream.seek(0)
    try:
        with rawpy.imread(str(file) if by_path else stream) as raw:
            return _to_frame(raw, tags, stream, name)
    except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
        raise FrameError(_refusal(error, tags, name)) from error


def _check_whole(stream: BinaryIO, tags: FileTags | None, name: str) -> None:
    if tags is not None and (where := broken_off(tags, stream)):
        raise FrameError(f"{name}: the file is not whole: {where}; copy it again")
    if tags is not None and tags.is_dng and tags.twice:
        raise FrameError(f"{name}: one of its directories has {tags.twice} twice, with other values; take one out")
    if tags is not None and (area := misplaced_area(tags)):
        raise FrameError(f"{name}: its ActiveArea {area} is no part of its picture; correct ActiveArea in the file")
    if tags is not None and (reason := unfollowed(tags)):
        raise FrameError(f"{name}: {reason}; convert it to a DNG of another layout, or correct the tag in the file")
    if tags is not None and (reason := misplaced(tags)):
        raise FrameError(f"{name}: {reason}; convert it to a DNG with one strip, or correct the tags in the file")
    if tags is not None and (reason := misread(tags, stream)):
        raise FrameError(f"{name}: {reason}; convert it to a DNG without compression, or of another layout")
    if is_cut_short(stream):
        raise FrameError(f"{name}: the file is cut short: its directory lies beyond its end; copy it again")


def _refusal(error: Exception, tags: FileTags | None, name: str) -> str:
    """What LibRaw's refusal means, with a step that can help."""
    import rawpy

    version = ".".join(map(str, rawpy.libraw_version))
    if tags is not None and (reason := unreadable(tags)):
        return (
            f"{name}: {reason}, which LibRaw {version} cannot read; convert it to a DNG without compression or with "
            "lossless JPEG"
        )
    if tags is not None and tags.big:
        return (
            f"{name}: it is a BigTIFF (64-bit offsets), which LibRaw {version} cannot read; write it as a DNG with "
            "32-bit offsets"
        )
    if isinstance(error, (rawpy.LibRawFileUnsupportedError, rawpy.NotSupportedError)):
        return (
            f"{name}: LibRaw cannot read it as a RAW file ({_text(error)}); convert it to DNG if another "
            "program opens it, else copy it again"
        )
    return f"{name}: LibRaw cannot read it as a RAW file ({_text(error)}); copy it again"


def _to_frame(raw: Any, tags: FileTags | None, stream: BinaryIO, name: str) -> tuple[RawFrame, list[RawNote]]:
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
    fields: dict[str, Any] = {
        "mosaic": np.array(visible[:height, :width], dtype=np.uint16, order="C"),
        "cfa": letters,
        "black_level": tuple(float(black[i]) for i in indices),
        "white_level": int(raw.white_level),
        "iso": _positive(getattr(_other(raw), "iso_speed", None)),
        "exposure_s": _positive(getattr(_other(raw), "shutter_speed", None)),
        "as_shot_wb": _as_shot(raw.camera_whitebalance),
        "colour_matrix": _matrix(raw),
        "source": name,
        "orientation": exif_of_libraw(raw.sizes.flip),
    }
    notes: list[RawNote] = []
    if tags is not None:
        stored = Window(0, 0, raw.sizes.raw_height, raw.sizes.raw_width)
        window = Window(raw.sizes.top_margin, raw.sizes.left_margin, height, width)
        notes = amend(fields, tags, stored, window, stream)
        if (count := tags.whole_mosaics(stored.height, stored.width)) > 1:
            text = f"it holds {count} mosaics of one size (a burst?), of which LibRaw reads one; write each into a file"
            notes.append(RawNote("several_mosaics", text))
    elif begins_as_tiff(stream):
        notes.append(RawNote("no_tags", "its own tags cannot be read (damaged?); LibRaw's word of it is taken"))
    return RawFrame(**fields), notes


def _bayer_indices(raw: Any, name: str) -> list[int]:
    """LibRaw's colour index at the four positions of the visible area's first 2×2 block."""
    description = raw.color_desc.decode("ascii", "replace")
    try:
        corner = raw.raw_colors_visible[:12, :12]  # twice X-Trans's period
    except NotImplementedError as error:  # rawpy's word for a pattern that no sensor has
        raise FrameError(
            f"{name}: its colour filter array is unknown ({shown(error):.60}; a damaged file?); only Bayer RAWs work"
        ) from error
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
    return plain_rows(matrix / sums)


def _other(raw: Any) -> Any:
    return getattr(raw, "other", None)  # rawpy before 0.26 does not tell


def _positive(value: Any) -> float | None:
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) and value > 0 else None


def _text(error: BaseException) -> str:
    argument = error.args[0] if error.args else type(error).__name__
    return argument.decode("ascii", "replace") if isinstance(argument, bytes) else str(argument)
