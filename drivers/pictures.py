"""PNG and JPEG files that somebody else made: what their header says, whether they are whole, and their pixels.

Size and form are read from the header before memory is taken, so that a small file of a huge picture costs nothing.
Decoding takes at most 16 bytes for each pixel that the header states.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from drivers.errors import FrameError
from drivers.foreign_text import shown
from drivers.jpeg_damage import JPEG_FRAMES, JPEG_SCAN, whole_jpeg

Kind = Literal["PNG", "JPEG"]

MAX_SIDE = 32768
MAX_PIXELS = 2**28
"""Largest picture that is decoded where nothing is known of the size that it should have: 268 megapixels."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_PNG_ALPHA = {4, 6}
_JPEG_WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xD9)}
# What a file that names its colour space holds, within its first bytes.
_OF_SPACE = (b"ICC_PROFILE\0", b"iCCP", b"cICP", b"gAMA", b"cHRM", b"Exif\0\0", b"eXIf")
_OF_SPACE_WITHIN = 1 << 18


@dataclass(frozen=True)
class Header:
    """What a file says of its picture.

    Attributes:
        kind: ``PNG`` or ``JPEG``.
        width, height: pixels.
        bits: of a channel, or of an index into the palette.
        alpha: whether it may have transparent pixels.
    """

    kind: Kind
    width: int
    height: int
    bits: int = 8
    alpha: bool = False


def kind_of(data: bytes) -> Kind | None:
    """The kind that the first bytes tell, or None."""
    if data.startswith(_PNG):
        return "PNG"
    return "JPEG" if data.startswith(_JPEG) else None


def read_header(data: bytes) -> Header:
    """The header of a PNG or JPEG file.

    Raises:
        FrameError: another kind of file, a broken header, or a form that is not read (animated, CMYK).
    """
    kind = kind_of(data)
    if kind == "PNG":
        return _png_header(data)
    if kind == "JPEG":
        return _jpeg_header(data)
    raise FrameError(f"it starts as neither PNG nor JPEG does ({data[:8].hex(' ')})" if data else "it is empty")


def check(data: bytes, kind: Kind, width: int, height: int) -> None:
    """Make sure that a file is one whole picture of that kind and size, 8 bits a channel and nowhere transparent.

    One that says that its colours are in another space than sRGB is refused too.

    Raises:
        FrameError: it is not; the text gives one reason.
    """
    import cv2

    if not data:
        raise FrameError("it is empty")
    if kind_of(data) != kind:
        raise FrameError(f"it does not start as {kind} does ({data[:8].hex(' ')})")
    header = read_header(data)
    if (header.width, header.height) != (width, height):
        raise FrameError(f"it has {header.width}×{header.height} pixels, not {width}×{height}")
    if header.bits > 8:
        raise FrameError(f"it has {header.bits} bits a channel: write 8")
    if kind == "JPEG":
        rows, columns, part = *whole_jpeg(data), 8
    else:
        make_sure_whole(data, header)
        rows, columns = opened(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION).shape[:2]
        part = 1
    if (rows, columns) != (-(-height // part), -(-width // part)):
        told = f"{part * columns}×{part * rows}"
        raise FrameError(f"it decodes to {told} pixels, its header says {width}×{height}")
    if header.alpha and not is_opaque(data):
        raise FrameError("it has transparent pixels: write it without alpha")
    make_sure_srgb(data)


def make_sure_srgb(data: bytes) -> None:
    """Look whether a PNG or JPEG file says that its colours are in another space than sRGB, in which all is compared.

    Raises:
        FrameError: it does.
    """
    within = _OF_SPACE_WITHIN
    if kind_of(data) == "JPEG":  # nothing of the colours stands behind the first pixels
        within = next((at for marker, at in _jpeg_markers(data) if marker == JPEG_SCAN), within)
    else:
        within = max(within, data.find(b"IDAT"))
    start = data[:within]
    if not any(mark in start for mark in _OF_SPACE):
        return
    from drivers.given_pictures import read_header as read_given

    try:
        space = read_given(data).space
    except FrameError:
        return  # whether it can be read is looked at elsewhere
    if space:
        raise FrameError(f"its colours are in {shown(space)}: write sRGB")


def make_sure_whole(data: bytes, header: Header) -> None:
    """Look for damage that decoders pass over: a PNG's checksums and end, a JPEG's warnings.

    Raises:
        FrameError: cut short or damaged.
    """
    if header.kind == "JPEG":
        whole_jpeg(data)
        return
    for _ in _png_chunks(data):
        pass


def decode(data: bytes, most_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The pixels as they are stored, ``uint8 [H, W, 3]``, red first; an orientation in the file's Exif is ignored.

    Grey is given as three equal channels, a palette as its colours, 16 bits as their upper 8; alpha is dropped.
    A file that was cut short may be decoded in part: see :func:`check`.

    Args:
        data: a PNG or JPEG file.
        most_pixels: largest width × height to decode.

    Raises:
        FrameError: no picture, or a larger one.
    """
    import cv2

    header = read_header(data)
    if max(header.width, header.height) > MAX_SIDE or header.width * header.height > most_pixels:
        raise FrameError(f"it has {header.width}×{header.height} pixels, more than {most_pixels:,} in all are not read")
    image = opened(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def opened(data: bytes, flags: int) -> np.ndarray:
    """What OpenCV makes of a file whose size was looked at before.

    Raises:
        FrameError: it cannot decode it.
    """
    import cv2

    # What is wrong with a file is said once, by whoever reads it.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise FrameError(f"it is damaged ({len(data):,} bytes)")
    return image


def is_opaque(data: bytes) -> bool:
    """Whether no pixel of a picture with an alpha channel is transparent.

    Raises:
        FrameError: no picture.
    """
    import cv2

    image = opened(data, cv2.IMREAD_UNCHANGED)
    if image.ndim != 3 or image.shape[2] != 4:
        return True
    return bool(image[:, :, 3].min() == np.iinfo(image.dtype).max)


def _png_header(data: bytes) -> Header:
    if len(data) < 33 or data[8:16] != b"\0\0\0\rIHDR":
        raise FrameError("its PNG header is cut short or broken")
    width, height, bits, colours = struct.unpack_from(">IIBB", data, 16)
    alpha = colours in _PNG_ALPHA
    # Chunks before the pixels' say the rest.
    for name in _png_chunks(data, until=b"IDAT"):
        if name == b"acTL":
            raise FrameError("it is an animated PNG: write a single picture")
        alpha |= name == b"tRNS"
    return Header("PNG", width, height, bits, alpha)


def _png_chunks(data: bytes, until: bytes = b"IEND") -> Iterator[bytes]:
    """The names of the chunks up to the first of the given name."""
    view, at = memoryview(data), len(_PNG)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            break
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(view[at + 4 : at + 8 + length]) != checksum:
            raise FrameError(f"it is damaged: the checksum of chunk {ascii(name)[2:-1]} at byte {at:,} is wrong")
        yield name
        if name == until:
            return
        at += 12 + length
    raise FrameError(f"it is cut short: {len(data):,} bytes without a chunk {until.decode()}")


def _jpeg_markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Each marker, and where what belongs to it begins; as libjpeg, what is no marker is passed over."""
    at = 2
    while True:
        at = data.find(b"\xff", at)
        while 0 <= at < len(data) and data[at] == 0xFF:
            at += 1
        if not 0 <= at < len(data) - 2:
            return
        marker, at = data[at], at + 1
        yield marker, at
        if marker not in _JPEG_WITHOUT_LENGTH:
            at += max(int.from_bytes(data[at : at + 2], "big"), 2)


def _jpeg_header(data: bytes) -> Header:
    # Found as libjpeg does, so that both mean the same frame header.
    at = next((at for marker, at in _jpeg_markers(data) if marker in JPEG_FRAMES), None)
    if at is None:
        raise FrameError(f"it is cut short: {len(data):,} bytes without a JPEG's size")
    if at + 8 > len(data):
        raise FrameError("its JPEG header is cut short")
    bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 2)
    if channels not in (1, 3):
        raise FrameError(f"it is a JPEG of {channels} channels, such as CMYK: write sRGB")
    return Header("JPEG", width, height, bits)
