"""The pictures that programs write: PNG, JPEG, TIFF and PPM, 8 or 16 bits, as ``uint8 [H, W, 3]`` sRGB.

The size is read before memory is taken for the pixels. What would be decoded to something else than the program meant
(floating point, CMYK, white as zero, planes apart) is refused in one line.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np

from drivers import pictures
from drivers.errors import FrameError
from drivers.foreign_text import shown
from drivers.given_pictures import profile_space
from drivers.tiff_forms import Tiff, read_tiff

Kind = Literal["png", "jpeg", "tiff", "ppm"]
STARTS: dict[str, tuple[bytes, ...]] = {
    "png": (b"\x89PNG",),
    "jpeg": (b"\xff\xd8\xff",),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "ppm": (b"P3", b"P6"),
}

_PPM = re.compile(rb"P([36])" + rb"(?:\s|#[^\n]*\n)+(\d{1,9})" * 3 + rb"\s")


def size_of(data: bytes, kind: Kind) -> tuple[int, int]:
    """Width and height as the header states them.

    Raises:
        FrameError: the header is broken, or the picture is of a form that is not read.
    """
    header: pictures.Header | _Ppm | Tiff
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
        values = _numbers(data[header.start :])
        more = len(values) > count
    else:
        kind = np.dtype("u1" if header.largest < 256 else ">u2")
        rest = data[header.start + count * kind.itemsize :]
        # A line feed at the end is let through; behind a carriage return the pixels begin a byte later than is read.
        more = bool(rest.strip()) or (bool(rest) and data[header.start - 1 : header.start] == b"\r")
        values = np.frombuffer(data, kind, min(count, (len(data) - header.start) // kind.itemsize), header.start)
    if len(values) < count:
        raise FrameError(f"it is cut short: {len(values):,} of {count:,} values")
    if more:  # which would be read askew
        raise FrameError(
            f"it holds more than the {header.width}×{header.height} pixels of its header: write one picture, its rows "
            "without padding and one byte (LF) behind the header"
        )
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


def _tiff(data: bytes) -> Tiff:
    tiff = read_tiff(data)
    if tiff.several:
        raise FrameError("it holds several pictures: write one")
    if tiff.unread:
        raise FrameError(f"it is a TIFF {tiff.unread}: write RGB of 8 or 16 bits")
    if tiff.profile and (space := profile_space(tiff.profile)):
        raise FrameError(f"its colours are in {shown(space)}: write sRGB")
    return tiff
