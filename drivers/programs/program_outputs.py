"""The pictures that programs write: PNG, JPEG, TIFF and PPM, 8 or 16 bits, as ``uint8 [H, W, 3]`` sRGB.

The size is read before memory is taken for the pixels. What would be decoded to something else than the program meant
(floating point, CMYK, white as zero, planes apart) is refused in one line.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import warnings
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from drivers import pictures
from drivers.errors import FrameError
from drivers.foreign_text import shown
from drivers.given_pictures import profile_space

Kind = Literal["png", "jpeg", "tiff", "ppm"]
STARTS: dict[str, tuple[bytes, ...]] = {
    "png": (b"\x89PNG",),
    "jpeg": (b"\xff\xd8\xff",),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "ppm": (b"P3", b"P6"),
}

# tifffile tells what is odd in a file through this logger; without a handler Python prints it on the terminal.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_TIFF_GREY, _TIFF_RGB, _TIFF_PALETTE, _TIFF_YCBCR = 1, 2, 3, 6
_TIFF_ORIENTATION, _TIFF_PROFILE = 274, 34675
_TIFF_PAGES = 16  # of which others than the first may be previews
_PACKED = {1: "B", 3: "H", 4: "I"}
_PPM = re.compile(rb"P([36])" + rb"(?:\s|#[^\n]*\n)+(\d{1,9})" * 3 + rb"\s")


def size_of(data: bytes, kind: Kind) -> tuple[int, int]:
    """Width and height as the header states them.

    Raises:
        FrameError: the header is broken, or the picture is of a form that is not read.
    """
    header: pictures.Header | _Ppm | _Tiff
    if kind == "ppm":
        header = _ppm(data)
    elif kind == "tiff":
        header = _tiff(data)
    else:
        header = pictures.read_header(data)
    return header.width, header.height


def pixels_of(data: bytes, kind: Kind) -> np.ndarray:
    """``uint8 [H, W, 3]``, red first, as they lie in the file; 16 bits are rounded to 8, grey is three equal channels.

    Raises:
        FrameError: damaged, cut short, transparent, or of a form that is not read; one reason.
    """
    if kind == "ppm":
        return _ppm_pixels(data, _ppm(data))
    if kind == "tiff":
        tiff = _tiff(data)
        return _decoded(tiff.as_stored(data), (tiff.width, tiff.height), tiff.alpha)
    header = pictures.read_header(data)
    pictures.make_sure_whole(data, header)
    pictures.make_sure_srgb(data)
    return _decoded(data, (header.width, header.height), header.alpha)


def _decoded(data: bytes, size: tuple[int, int], alpha: bool) -> np.ndarray:
    import cv2

    if max(size) > pictures.MAX_SIDE or size[0] * size[1] > pictures.MAX_PIXELS:
        raise FrameError(f"it has {size[0]}×{size[1]} pixels, which is more than is read")
    if alpha and not pictures.is_opaque(data):
        raise FrameError("it has transparent pixels: write it without alpha")
    image = pictures.opened(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    if image.dtype not in (np.uint8, np.uint16) or image.shape != (size[1], size[0], 3):
        raise FrameError("it is not an image of 8 or 16 bits")
    if image.dtype == np.uint16:
        image = _eight_bits(image, 65535)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _eight_bits(values: np.ndarray, largest: int) -> np.ndarray:
    return ((values.astype(np.uint32) * 255 + largest // 2) // largest).astype(np.uint8)


@dataclass(frozen=True)
class _Ppm:
    plain: bool
    width: int
    height: int
    largest: int
    start: int


def _ppm(data: bytes) -> _Ppm:
    match = _PPM.match(data[:4096])
    if match is None:
        raise FrameError("its PPM header is broken or cut short")
    width, height, largest = (int(match.group(i)) for i in (2, 3, 4))
    if not (width and height and 1 <= largest <= 65535):
        raise FrameError(f"its PPM header says {width}×{height} pixels and {largest} as the largest value")
    return _Ppm(match.group(1) == b"3", width, height, largest, match.end())


def _ppm_pixels(data: bytes, header: _Ppm) -> np.ndarray:
    count = header.width * header.height * 3
    if header.plain:
        values = _numbers(data[header.start :])[:count]
    else:
        kind = np.dtype("u1" if header.largest < 256 else ">u2")
        values = np.frombuffer(data, kind, min(count, (len(data) - header.start) // kind.itemsize), header.start)
    if len(values) < count:
        raise FrameError(f"it is cut short: {len(values):,} of {count:,} values")
    if values.min() < 0 or values.max() > header.largest:
        raise FrameError(f"it has values of {values.min()} to {values.max()}, its header says 0 to {header.largest}")
    if header.largest != 255:
        values = _eight_bits(values, header.largest)
    return values.astype(np.uint8).reshape(header.height, header.width, 3)


def _numbers(text: bytes) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns where it stops at something else
            return np.fromstring(text.decode("ascii"), np.int64, sep=" ")
    except (ValueError, DeprecationWarning, OverflowError):
        raise FrameError("it is a plain PPM with something in it that is no number") from None


@dataclass(frozen=True)
class _Tiff:
    width: int
    height: int
    alpha: bool
    flag: tuple[str, int] | None  # of an orientation: how it is packed, and where it stands

    def as_stored(self, data: bytes) -> bytes:
        """The file with its orientation set to upright, for libtiff turns what has another, and only some kinds."""
        if self.flag is None:
            return data
        changed = bytearray(data)
        struct.pack_into(self.flag[0], changed, self.flag[1], 1)
        return bytes(changed)


def _tiff(data: bytes) -> _Tiff:
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data), _multifile=False) as tiff:
            page = tiff.pages.first
            more = any(not int(getattr(p, "subfiletype", 0)) & 1 for p in islice(tiff.pages, 1, _TIFF_PAGES))
            order = str(tiff.byteorder)
            tag = page.tags.get(_TIFF_ORIENTATION)
            flag = (order + _PACKED[int(tag.dtype)], int(tag.valueoffset)) if tag and tag.value != 1 else None
            facts = {
                "bits": _one(page.bitspersample),
                "form": _one(page.sampleformat),
                "colours": int(page.photometric),
                "channels": int(page.samplesperpixel),
                "planes": int(page.planarconfig),
                "extra": len(page.extrasamples),
            }
            width, height = int(page.imagewidth), int(page.imagelength)
            profile = page.tags.valueof(_TIFF_PROFILE)
    except Exception as error:  # a damaged directory raises whatever its bytes lead to
        raise FrameError("its TIFF directory is damaged or cut short") from error
    if more:
        raise FrameError("it holds several pictures: write one")
    if reason := _unread(**facts):
        raise FrameError(f"it is a TIFF {reason}: write RGB of 8 or 16 bits")
    if isinstance(profile, bytes) and (space := profile_space(profile)):
        raise FrameError(f"its colours are in {shown(space)}: write sRGB")
    return _Tiff(width, height, facts["extra"] > 0, flag)


def _one(values: int | tuple[int, ...]) -> int:
    several = set(values) if isinstance(values, tuple) else {values}
    return int(several.pop()) if len(several) == 1 else -1


def _unread(*, bits: int, form: int, colours: int, channels: int, planes: int, extra: int) -> str:
    """What is in the way of reading the picture right, or nothing."""
    if form != 1:
        return "of floating-point or signed numbers"
    if bits not in (1, 8, 16):
        return f"of {bits} bits a channel" if bits > 0 else "whose channels have different bits"
    if colours not in (_TIFF_GREY, _TIFF_RGB, _TIFF_PALETTE, _TIFF_YCBCR):
        return f"of photometric interpretation {colours}"
    plain = 3 if colours in (_TIFF_RGB, _TIFF_YCBCR) else 1
    if channels - extra != plain or extra > (1 if plain == 3 else 0):
        return f"of {channels} channels"
    return "of 16 bits whose colours lie in planes apart" if planes == 2 and bits == 16 else ""
