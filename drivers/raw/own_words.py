"""Sets a camera file's own tags against LibRaw's summary of it: the file's word counts, and the difference is told."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from drivers.errors import FrameError
from drivers.raw import dng_colour, dng_tags, dng_unfollowed, exif_words
from drivers.raw.colour_matrix import colour_matrix_of
from drivers.raw.dng_tags import Window
from drivers.raw.raw_notes import RawNote
from drivers.raw.tiff_tags import Directory, FileTags

_ALIKE = 0.01  # relative difference of an ISO or a time below which LibRaw's rounding explains it
_MATRIX_ALIKE = 1e-3
_GAIN_ALIKE = 1e-3
_LEVEL_ALIKE = 1e-3
_FULL_SCALE = 65535


def amend(fields: dict[str, Any], tags: FileTags, stored: Window, window: Window, file: BinaryIO) -> list[RawNote]:
    """Put the file's own words in the place of LibRaw's where they differ.

    Args:
        fields: the fields of a :class:`~drivers.frames.RawFrame` as LibRaw has them; changed in place.
        tags: the file's tags.
        stored: the whole stored mosaic, its corner at 0, 0.
        window: the part of it that the frame holds.
        file: the open file.

    Returns:
        What differed, to be told.

    Raises:
        FrameError: the file says what a frame cannot, such as black levels that differ within a position of the 2×2
            block.
    """
    notes: list[RawNote] = []
    _amend_exif(fields, tags, notes)
    mosaic = tags.mosaic_of(stored.height, stored.width)
    if tags.is_dng:
        _amend_colour(fields, {**(mosaic or {}), **tags.first}, notes)
        if mosaic is not None:
            _amend_levels(fields, mosaic, window, file, notes)
        else:
            text = "none of its directories is clearly that of the mosaic; LibRaw's word of its levels is taken"
            notes.append(RawNote("no_mosaic", text))
    return notes


def _amend_exif(fields: dict[str, Any], tags: FileTags, notes: list[RawNote]) -> None:
    for key, what, (value, tag) in (
        ("iso", "ISO", exif_words.iso_of(tags)),
        ("exposure_s", "exposure time", exif_words.exposure_of(tags)),
    ):
        libraw = fields[key]
        if not tag or (value is None and libraw is None):
            continue
        if value is None:
            if key == "iso" and libraw > 65535:
                continue  # LibRaw found in the maker's own tags what the ISO tag has no room for
            notes.append(RawNote(key, f"{what}: the file says {tag}, so unknown; LibRaw's {libraw:g} is left out"))
        elif libraw is not None and abs(libraw / value - 1) <= _ALIKE:
            continue
        else:
            notes.append(_differs(key, what, f"{value:g} ({tag})", "none" if libraw is None else f"{libraw:g}"))
        fields[key] = None if value is None else float(f"{value:.6g}")
    flag = exif_words.orientation_of(tags)
    if flag is not None and flag != fields["orientation"]:
        notes.append(_differs("orientation", "orientation", str(flag), str(fields["orientation"])))
        fields["orientation"] = flag


def _amend_colour(fields: dict[str, Any], directory: Directory, notes: list[RawNote]) -> None:
    gains, tag = dng_colour.white_balance_of(directory)
    libraw = fields["as_shot_wb"]
    if gains is not None and (libraw is None or not np.allclose(gains, libraw, rtol=_GAIN_ALIKE)):
        notes.append(_differs("as_shot_wb", "as-shot white balance", f"{_row(gains)} ({tag})", _row(libraw)))
        fields["as_shot_wb"] = gains
    elif gains is None and tag and libraw is not None:  # LibRaw makes gains of any numbers
        notes.append(RawNote("as_shot_wb", f"as-shot white balance: the file's {tag} is none; LibRaw's is left out"))
        fields["as_shot_wb"] = None
    own = dng_colour.cam_from_xyz(directory)
    matrix = None if own is None else colour_matrix_of(own)
    libraw = fields["colour_matrix"]
    if own is not None and matrix is None:
        notes.append(
            RawNote(
                "colour_matrix",
                "colour matrix: the file's ColorMatrix has no inverse or gives a negative white; none is kept",
            )
        )
        fields["colour_matrix"] = None
    elif own is None and dng_colour.states_matrix(directory) and libraw is not None:
        notes.append(
            RawNote("colour_matrix", "colour matrix: the file's ColorMatrix is not nine numbers; none is kept")
        )
        fields["colour_matrix"] = None
    elif matrix is not None and (libraw is None or not np.allclose(matrix, libraw, atol=_MATRIX_ALIKE)):
        first = "none" if libraw is None else _row(libraw[0])
        notes.append(_differs("colour_matrix", "colour matrix (first row)", _row(matrix[0]), first))
        fields["colour_matrix"] = matrix


def _amend_levels(
    fields: dict[str, Any], mosaic: Directory, window: Window, file: BinaryIO, notes: list[RawNote]
) -> None:
    if opcodes := dng_unfollowed.opcodes_left_out(mosaic):
        notes.append(RawNote("opcodes", f"asks for {opcodes}, which is not done: the RAW stays as the sensor read it"))
    area = dng_tags.active_area(mosaic)
    beyond = window.top < area.top or window.left < area.left
    if beyond or window.bottom > area.bottom or window.right > area.right:
        raise FrameError(
            f"{fields['source']}: LibRaw reads rows or columns outside of its ActiveArea (is its type SHORT or LONG?); "
            "correct ActiveArea in the file"
        )
    letters = dng_tags.cfa_of(mosaic, window)
    if letters == "":
        raise FrameError(
            f"{fields['source']}: its colour filter array repeats over more than 2×2 pixels (CFARepeatPatternDim, "
            "CFAPattern), so it is not Bayer; only Bayer RAWs work"
        )
    if letters is not None and letters != fields["cfa"]:
        notes.append(_differs("cfa", "colour filter array", letters, fields["cfa"]))
        fields["cfa"] = letters
    if dng_tags.is_float(mosaic):
        pixels = dng_tags.float_pixels(file, mosaic, fields["source"])
        fields["mosaic"] = pixels[window.top : window.top + window.height, window.left : window.left + window.width]
        fields["white_level"], fields["black_level"] = _FULL_SCALE, (0.0,) * 4  # LibRaw's are of its own pixels
    white = dng_tags.white_of(mosaic)
    if white is not None and round(white) != fields["white_level"]:
        if not dng_tags.is_float(mosaic):
            notes.append(_differs("white_level", "white level", f"{white:g}", f"{fields['white_level']}"))
        fields["white_level"] = round(white)
    if (largest := dng_tags.largest_of(mosaic)) is not None and fields["white_level"] > largest:
        text = f"white level {fields['white_level']}, its pixels are {largest} at most: none is white; is it right?"
        notes.append(RawNote("white_beyond", text))
    if len(set(stated := dng_tags.white_levels(mosaic))) > 1:
        notes.append(RawNote("white_levels", f"white level: the file says {_row(stated)}; the lowest is taken"))
    black = dng_tags.black_of(mosaic, window)
    if black is None:
        if dng_tags.states_black(mosaic):
            raise FrameError(
                f"{fields['source']}: its black levels cannot be understood (their number does not fit "
                "BlackLevelRepeatDim, that of BlackLevelDeltaH or V not the picture, or one is no number); correct "
                "BlackLevel in the file"
            )
        return
    levels = tuple(round(level, 6) for level in black.levels)
    _check_spread(black.spread, fields["white_level"] - max(levels), fields["source"], notes)
    if black.doubt:
        notes.append(RawNote("black_repeat", black.doubt))
    if not np.allclose(levels, fields["black_level"], atol=_LEVEL_ALIKE, rtol=0):
        if not dng_tags.is_float(mosaic):
            notes.append(_differs("black_level", "black level", _row(levels), _row(fields["black_level"])))
        fields["black_level"] = levels


def _check_spread(spread: float, range_dn: float, name: str, notes: list[RawNote]) -> None:
    """A frame has one black level a position of the 2×2 block; more cannot be said with it."""
    if spread > max(0.5, range_dn / 8192):  # half a DN, of 12 bits at least
        raise FrameError(
            f"{name}: its black level differs by up to {spread:.3g} DN from the mean of its position in the 2×2 block "
            "(BlackLevel, BlackLevelDeltaH, BlackLevelDeltaV), and only one level a position can be kept; convert it "
            "to a DNG whose black is subtracted or repeats over 2×2"
        )
    if spread:
        text = f"black level: differs by up to {spread:.3g} DN within a position of the 2×2 block; the mean is taken"
        notes.append(RawNote("black_spread", text))


def _differs(kind: str, what: str, own: str, libraw: str) -> RawNote:
    return RawNote(kind, f"{what}: the file says {own}, LibRaw {libraw}; the file's is taken")


def _row(values: Any) -> str:
    return "none" if values is None else " ".join(f"{v:g}" for v in values)
