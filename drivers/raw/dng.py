"""Writes a RAW frame as a minimal DNG: uncompressed 16-bit CFA, for programs that read camera files."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from drivers.colour import LIBRAW_XYZ_FROM_SRGB
from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.raw.colour_matrix import inverse_of

FieldType = tuple[int, str, int]  # TIFF's number, struct letter, numbers a value
_BYTE: FieldType = (1, "B", 1)
_ASCII: FieldType = (2, "B", 1)
_SHORT: FieldType = (3, "H", 1)
_LONG: FieldType = (4, "I", 1)
_RATIONAL: FieldType = (5, "I", 2)
_SRATIONAL: FieldType = (10, "i", 2)
_D65 = 21
_CFA_PHOTOMETRIC = 32803
_HEADER = 8
_LARGEST = (1 << 31) - 1  # numerator or denominator of a signed rational


def dng_bytes(raw: RawFrame) -> bytes:
    """The bytes of a DNG 1.4 file holding the frame: pixels, pattern, levels, and the metadata that is known.

    The frame's pixels, CFA pattern and levels read back exactly (fractions of a DN in the black level to 1/1000);
    ISO above 65535 is left out, for EXIF has no room for it.

    Raises:
        FrameError: the colour matrix has no inverse, or a number is too large for a DNG.
    """
    count = raw.height * raw.width * 2
    entries: list[tuple[int, FieldType, Sequence[int]]] = [
        (254, _LONG, [0]),
        (256, _LONG, [raw.width]),
        (257, _LONG, [raw.height]),
        (258, _SHORT, [16]),
        (259, _SHORT, [1]),
        (262, _SHORT, [_CFA_PHOTOMETRIC]),
        (271, _ASCII, b"RawFrame\0"),
        (272, _ASCII, b"RawFrame\0"),
        (273, _LONG, [_HEADER]),
        (274, _SHORT, [1]),
        (277, _SHORT, [1]),
        (278, _LONG, [raw.height]),
        (279, _LONG, [count]),
        (284, _SHORT, [1]),
        (33421, _SHORT, [2, 2]),
        (33422, _BYTE, ["RGB".index(c) for c in raw.cfa]),
        (50706, _BYTE, [1, 4, 0, 0]),
        (50707, _BYTE, [1, 1, 0, 0]),
        (50708, _ASCII, b"RawFrame\0"),
        (50713, _SHORT, [2, 2]),
        (50714, _RATIONAL, _rationals(raw.black_level, 1000)),
        (50717, _LONG, [raw.white_level]),
        (50778, _SHORT, [_D65]),
    ]
    if raw.colour_matrix is not None:
        entries.append((50721, _SRATIONAL, _rationals(_cam_from_xyz(raw).ravel(), 1_000_000)))
    if raw.as_shot_wb is not None:
        neutral = np.array([1 / gain for gain in raw.as_shot_wb])
        entries.append((50728, _RATIONAL, _rationals(neutral / neutral.max(), 1_000_000)))
    exif: list[tuple[int, FieldType, Sequence[int]]] = []
    if raw.exposure_s:
        exif.append((33434, _RATIONAL, _rationals([raw.exposure_s], 1_000_000)))
    if raw.iso and round(raw.iso) <= 65535:
        exif.append((34855, _SHORT, [round(raw.iso)]))
    pixels = np.ascontiguousarray(raw.mosaic, dtype="<u2").tobytes()
    start = _HEADER + len(pixels)
    exif_bytes = _directory(exif, start) if exif else b""
    if exif:
        entries.append((34665, _LONG, [start]))
    header = struct.pack("<2sHI", b"II", 42, start + len(exif_bytes))
    return b"".join([header, pixels, exif_bytes, _directory(sorted(entries), start + len(exif_bytes))])


def _cam_from_xyz(raw: RawFrame) -> np.ndarray:
    """XYZ → camera RGB before white balance, ``float64 [3, 3]``."""
    cam_from_srgb = inverse_of(raw.colour_matrix, raw.source)
    neutral = 1 / np.array(raw.as_shot_wb or (1.0, 1.0, 1.0))
    result: np.ndarray = np.diag(neutral) @ cam_from_srgb @ np.linalg.inv(LIBRAW_XYZ_FROM_SRGB)
    return result


def _rationals(values: object, denominator: int) -> list[int]:
    """Numerators and denominators in turn; a value that needs it gets another denominator, within 31 bits."""
    out: list[int] = []
    for value in np.asarray(values, dtype=np.float64).tolist():
        fraction = Fraction(value).limit_denominator(denominator)
        if abs(fraction.numerator) > _LARGEST:
            fraction = Fraction(value).limit_denominator(max(1, int(_LARGEST / abs(value))))
        elif value and not fraction:
            fraction = Fraction(value).limit_denominator(_LARGEST)
        if abs(fraction.numerator) > _LARGEST:
            raise FrameError(f"{value:g} is too large a number for a DNG; correct the RAW's metadata")
        out += [fraction.numerator, fraction.denominator]
    return out


def _directory(entries: list[tuple[int, FieldType, Sequence[int]]], offset: int) -> bytes:
    """One TIFF directory that starts at ``offset``, its long values after it."""
    head = struct.pack("<H", len(entries))
    tail = b""
    after = offset + 2 + 12 * len(entries) + 4
    for tag, (kind, letter, each), values in entries:
        data = struct.pack(f"<{len(values)}{letter}", *values)
        number = len(values) // each
        if len(data) <= 4:
            field = data.ljust(4, b"\0")
        else:
            tail += b"\0" * (len(tail) % 2)
            field = struct.pack("<I", after + len(tail))
            tail += data
        head += struct.pack("<HHI", tag, kind, number) + field
    return head + struct.pack("<I", 0) + tail
