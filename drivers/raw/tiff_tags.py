"""The tags of TIFF-like camera files (DNG, NEF, CR2, ARW, …), read with tifffile and turned into plain numbers."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

import numpy as np

Values = tuple[float, ...]
Directory = Mapping[int, Values]

PHOTOMETRIC = 262
CFA = 32803
_EXIF = 34665
_RATIONALS = {5, 10}
_NUMBERS = {1, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 16, 17}
_BYTES_OF_KIND = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_DNG_TAGS = range(50706, 52600)
_TEXTS = {50931, 50932}  # compared only, so kept as the numbers of their characters
_OPCODE_LISTS = {51008, 51009}  # kept as the numbers of their opcodes
_MOST_VALUES = 200_000  # the longest table of a DNG has 65,536
_MOST_DIRECTORIES = 16
_EXIF_TAGS = (33434, 34855, 34864, 34865, 34866, 34867, 37377)

# tifffile tells what is odd in a file through this logger; without a handler Python prints it on the terminal.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class FileTags:
    """A file's own words, by tag number, as numbers (a rational with denominator 0 is NaN).

    Attributes:
        first: the first directory.
        mosaics: the directories that hold a colour filter array, in the file's order.
        exif: the Exif directory's exposure tags.
        size: bytes in the file.
        big: whether it is a BigTIFF, with offsets of 64 bits.
        twice: the name of a tag that one of these directories has twice, with other values; empty where none has.
    """

    first: Directory
    mosaics: tuple[Directory, ...]
    exif: Directory
    size: int
    big: bool = False
    twice: str = ""

    @property
    def is_dng(self) -> bool:
        """Whether the file calls itself a DNG."""
        return 50706 in self.first

    def mosaic_of(self, height: int, width: int) -> Directory | None:
        """The directory of the mosaic with that size, or the only one; None where the file leaves it open."""
        fitting = [m for m in self.mosaics if m.get(256) == (width,) and m.get(257) == (height,)]
        main = _whole(fitting) or fitting
        if main:
            return main[0]
        return self.mosaics[0] if len(self.mosaics) == 1 else None

    def whole_mosaics(self, height: int, width: int) -> int:
        """How many mosaics of that size there are that are no previews."""
        return len(_whole([m for m in self.mosaics if m.get(256) == (width,) and m.get(257) == (height,)]))


def _whole(mosaics: Sequence[Directory]) -> list[Directory]:
    return [mosaic for mosaic in mosaics if mosaic.get(254, (0,)) == (0,)]


def read_tags(file: BinaryIO) -> FileTags | None:
    """The tags of an open file, or None where it is no TIFF that can be read; the position is left anywhere."""
    import tifffile

    try:
        size = file.seek(0, 2)
        file.seek(0)
        with tifffile.TiffFile(file, _multifile=False) as tiff:
            first = _numbers(tiff.pages[0])
            pages = [(_numbers(page), page) for page in islice(_pages(tiff.pages), _MOST_DIRECTORIES)]
            mosaics = [(found, page) for found, page in pages if found.get(PHOTOMETRIC) == (CFA,)]
            twice = next(filter(None, map(_twice, [tiff.pages[0], *(page for _, page in mosaics)])), "")
            exif = _exif(tiff.pages[0])
            big = bool(tiff.is_bigtiff)
    except Exception:  # a damaged directory raises whatever its bytes lead to; LibRaw's word is left
        return None
    return FileTags(first, tuple(found for found, _ in mosaics), exif, size, big, twice)


def begins_as_tiff(file: BinaryIO) -> bool:
    """Whether a file begins as a TIFF of 32-bit offsets, as DNG, NEF, CR2 and ARW do."""
    file.seek(0)
    return file.read(4) in (b"II*\0", b"MM\0*")


def is_cut_short(file: BinaryIO) -> bool:
    """Whether a TIFF's first directory, or a value of DNG's own tags in it, lies beyond the file's end."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return False
    version, start = struct.unpack(order + "HI", head[2:])
    if version != 42 or start < 8:
        return False
    file.seek(start)
    count = struct.unpack(order + "H", file.read(2).ljust(2, b"\0"))[0]
    entries = file.read(12 * count)
    if start + 2 + 12 * count > size:
        return True
    for tag, kind, values, offset in struct.iter_unpack(order + "HHII", entries):
        length = values * _BYTES_OF_KIND.get(kind, 0)
        if tag in _DNG_TAGS and length > 4 and offset + length > size:
            return True
    return False


def one(values: Values | None) -> float | None:
    """The first value, where there is one and it is finite."""
    return values[0] if values and math.isfinite(values[0]) else None


def _pages(pages: Any, depth: int = 0) -> Iterator[Any]:
    for index in range(_MOST_DIRECTORIES):
        try:
            page = pages[index]
        except (IndexError, ValueError, RuntimeError):
            return
        yield page
        if depth < 2 and getattr(page, "subifds", None):
            yield from _pages(page.pages, depth + 1)


def _numbers(page: Any) -> dict[int, Values]:
    found = {}
    for tag in page.tags:
        if tag.code in _TEXTS:  # of characters or of bytes
            text = tag.value if isinstance(tag.value, bytes) else str(tag.value).encode()
            found[int(tag.code)] = tuple(map(float, text[:1000].rstrip(b"\0")))
        elif tag.code in _OPCODE_LISTS:
            if isinstance(tag.value, bytes):
                found[int(tag.code)] = _opcodes(tag.value)
        elif _of_numbers(tag):
            values = _values(tag)
            if values is not None:
                found[int(tag.code)] = values
    return found


def _twice(page: Any) -> str:
    """The name of the first tag of numbers that a directory has twice, with other values; empty where it has none."""
    seen: dict[int, Values | None] = {}
    told = ((tag, _values(tag)) for tag in page.tags if _of_numbers(tag))
    return next((str(tag.name) for tag, values in told if seen.setdefault(tag.code, values) != values), "")


def _of_numbers(tag: Any) -> bool:
    return tag.dtype in _NUMBERS and tag.count <= _MOST_VALUES and tag.code not in (_EXIF, 34853)


def _values(tag: Any) -> Values | None:
    """A tag's numbers; of more than 1024, tifffile gives an array, with rationals cut short."""
    value, file = tag.value, tag.parent
    if isinstance(value, np.ndarray):
        file.filehandle.seek(tag.valueoffset)
        data = file.filehandle.read(tag.valuebytecount)
        value = np.frombuffer(data, file.tiff.byteorder + tag.dataformat[-1]).tolist()
    return _plain(value, tag.dtype in _RATIONALS)


def _opcodes(data: bytes) -> Values:
    """The numbers of a list's opcodes, big-endian in any file: count, then number, version, flags and size of each."""
    found: list[float] = []
    (count,) = struct.unpack(">I", data[:4].ljust(4, b"\0"))
    at = 4
    while len(found) < count and at + 16 <= len(data):
        number, _, _, size = struct.unpack_from(">IIII", data, at)
        found.append(float(number))
        at += 16 + size
    return tuple(found)


def _exif(page: Any) -> dict[int, Values]:
    import tifffile

    tag = page.tags.get(_EXIF)
    named = tag.value if tag is not None and isinstance(tag.value, dict) else {}
    found = {}
    for code in _EXIF_TAGS:
        value = named.get(tifffile.TIFF.EXIF_TAGS[code])
        values = _plain(value, code in (33434, 37377) and isinstance(value, tuple)) if value is not None else None
        if values is not None:
            found[code] = values
    return found


def _plain(value: Any, rational: bool) -> Values | None:
    if isinstance(value, bytes):
        return tuple(float(b) for b in value)
    flat = value if isinstance(value, (tuple, list)) else (value,)
    try:
        numbers = [float(v) for v in flat]
    except (TypeError, ValueError, OverflowError):
        return None
    if rational:
        pairs = zip(numbers[0::2], numbers[1::2], strict=False)
        return tuple(n / d if d else math.nan for n, d in pairs)
    return tuple(numbers)
