"""Reference images: read by their own Exif flag, checked, and turned to lie as their RAW does.

A reference is a picture of RGB pixels in sRGB, opaque, that fits its RAW. 16 bits a channel are rounded to 8. What is
grey, in inks, transparent in places or in another colour space is refused, for it would be compared as what it is not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drivers.errors import FrameError
from drivers.foreign_text import shown
from drivers.frames import RawFrame
from drivers.given_pictures import PictureHeader, decode_upright, read_header
from drivers.orientation import UPRIGHT, to_sensor
from drivers.raw.raw_notes import RawNote
from drivers.regular_files import read_regular
from workbench.errors import RawFolderError

KINDS = ("JPEG", "PNG", "TIFF")
# Of a file without compression 6 bytes a pixel are colours of 16 bits; what else lies in it is small.
_BYTES_A_PIXEL, _BYTES_BESIDE = 8, 64 << 20

_FEWEST_BLOCKS = 64
_LIKE = 0.3  # correlation; a rendering of the RAW itself has 0.8 and more, another scene about 0


def read_reference(path: Path, raw: RawFrame) -> tuple[np.ndarray, list[RawNote]]:
    """The image that a RAW should become, lying as the RAW's pixels do.

    Args:
        path: the image file.
        raw: the RAW that it is the reference of; its size bounds what is read.

    Returns:
        ``uint8 [H, W, 3]`` sRGB of the RAW's size, and what is worth telling.

    Raises:
        RawFolderError: it cannot be read, does not fit the RAW, or is of a kind that cannot be compared.
    """
    where = shown(path)
    try:
        data = read_regular(path, _BYTES_A_PIXEL * raw.width * raw.height + _BYTES_BESIDE)
    except OSError as error:
        raise RawFolderError(f"{where}: the reference cannot be read: {error.strerror or error}") from error
    try:
        header = read_header(data)
    except FrameError as error:
        raise RawFolderError(f"{where}: the reference {error}") from error
    _check(header, raw, where)
    try:
        pixels = to_sensor(decode_upright(data, header), raw.orientation)
    except FrameError as error:
        raise RawFolderError(f"{where}: the reference {error}") from error
    notes = []
    if raw.orientation != UPRIGHT:
        notes.append(
            RawNote(
                f"reference turned {raw.orientation}",
                f"its reference is turned from upright to lie as the RAW, whose orientation flag is {raw.orientation}",
            )
        )
    elif header.orientation != UPRIGHT:
        notes.append(
            RawNote(
                f"reference upright {header.orientation}",
                f"its reference is turned upright by its Exif orientation flag {header.orientation}",
            )
        )
    if odd := _odd(pixels, raw):
        notes.append(RawNote("odd reference", odd))
    if header.bits == 16:
        notes.append(RawNote("reference 16 bits", "its reference has 16 bits a channel, which are rounded to 8"))
    return pixels, notes


def _check(header: PictureHeader, raw: RawFrame, where: str) -> None:
    if header.kind not in KINDS:
        raise RawFolderError(f"{where}: the reference is a {header.kind}; save it as {', '.join(KINDS[:-1])} or TIFF")
    upright = header.upright_size
    fits = (upright[1], upright[0]) if raw.orientation >= 5 else upright
    if fits != (raw.width, raw.height):
        flag = f", orientation flag {header.orientation}" if header.orientation != UPRIGHT else ""
        raw_flag = f"orientation flag {raw.orientation}" if raw.orientation != UPRIGHT else "upright"
        raise RawFolderError(
            f"{where}: the reference is {header.width}×{header.height}{flag}, its RAW {raw.width}×{raw.height}, "
            f"{raw_flag}; give a reference that is of the RAW's size when both are turned upright"
        )
    if header.grey or header.cmyk:
        kind = "grey" if header.grey else "in CMYK"
        raise RawFolderError(f"{where}: the reference is {kind}; save it as RGB")
    if header.space:
        raise RawFolderError(
            f"{where}: the reference is in {shown(header.space)}, not sRGB, and would be compared with wrong colours; "
            "convert it to sRGB"
        )


def _odd(pixels: np.ndarray, raw: RawFrame) -> str:
    """What of a reference's values can hardly be meant for its RAW, or empty."""
    for where, rows, light in (("last", pixels[::-1], raw.mosaic[::-1]), ("first", pixels, raw.mosaic)):
        count = _of_one_colour(rows)
        # A clipped sky is white; a dark frame or a drawn one is even in its RAW too.
        if count >= max(4, len(rows) // 50) and rows[0, 0].min() < 255 and np.ptp(light[:count]) > 0:
            return f"the {where} {count} of {len(rows)} rows of its reference hold one colour; is it whole?"
    likeness = _likeness(pixels, raw)
    if likeness is not None and likeness < _LIKE:
        return f"its reference does not look like it (correlation {likeness:.2f}); is it of another RAW, or turned?"
    return ""


def _of_one_colour(rows: np.ndarray) -> int:
    """How many rows, from the first on, hold its first pixel's colour alone."""
    for count, row in enumerate(rows):  # a picture ends it at once, however large it is
        if (row != rows[0, 0]).any():
            return count
    return len(rows)


def _likeness(pixels: np.ndarray, raw: RawFrame) -> float | None:
    """Correlation of brightness in blocks of the two, -1 to 1; None where either shows no picture to compare."""
    side = max(2, min(raw.height, raw.width) // 16 // 2 * 2)
    height, width = raw.height // side * side, raw.width // side * side
    blocks = []
    for values in (raw.mosaic, pixels):
        means = []
        for top in range(0, height, side):  # a row of blocks at a time: of a large frame all in float is much
            row = values[top : top + side, :width].astype(np.float32)
            row = row if row.ndim == 2 else row.mean(axis=2)
            means.append(row.reshape(1, side, width // side, side).mean(axis=(1, 3)).ravel())
        blocks.append(np.concatenate(means))
    light = np.sqrt(np.maximum(blocks[0] - np.mean(raw.black_level), 0) / (raw.white_level - np.mean(raw.black_level)))
    if len(light) < _FEWEST_BLOCKS or light.std() < 0.02 or blocks[1].std() < 5:
        return None
    return float(np.corrcoef(light, blocks[1])[0, 1])
