"""Picture files that people give (references, photographs): what their headers say, and their pixels upright.

Whatever the kind, JPEG, PNG or TIFF, the Exif orientation is followed alike: decoders differ in which they turn. The
header is read first, so that a caller can bound the size before pixels take memory.
"""

from __future__ import annotations

import contextlib
import functools
import io
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from drivers.errors import FrameError
from drivers.jpeg_damage import SubsamplingError, whole_jpeg
from drivers.orientation import ORIENTATIONS, UPRIGHT, upright
from drivers.tiff_forms import read_tiff

if TYPE_CHECKING:
    from PIL import Image

_ORIENTATION, _WIDTH, _HEIGHT, _BITS, _COLOUR_SPACE, _EXIF, _INTEROPERABILITY = 274, 256, 257, 258, 40961, 34665, 40965
_PNG_START = b"\x89PNG\r\n\x1a\n"
# x and y of white, red, green and blue of sRGB, and how far rounding may take them.
_SRGB_CORNERS = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_CORNERS_ALIKE = 0.005
# Code points of a cICP chunk (ITU-T H.273): sRGB's primaries or none stated; curves that are shown as sRGB's is.
_SRGB_PRIMARIES, _SRGB_CURVES = (1, 2), (1, 2, 6, 13, 14, 15)
# Levels of 255 by which a profile may move a colour and still be sRGB: profiles of one space are rounded differently.
_PROFILE_LEVELS = 4
# What is ignored while a header is read is the whole program's, and threads that read at once would leave it so.
_ignoring = threading.Lock()


@dataclass(frozen=True)
class PictureHeader:
    """What a picture file says of itself.

    Attributes:
        kind: ``JPEG``, ``PNG``, ``TIFF``, …
        width: pixels as stored; ``height`` too.
        orientation: Exif's flag, 1..8; 1 where the file has none or no such.
        bits: of each channel.
        grey: one channel only; ``cmyk``: inks; ``alpha``: has transparency; ``real``: numbers with a point.
        space: what the file's colours are in where it says that they are not in sRGB, else empty.
    """

    kind: str
    width: int
    height: int
    orientation: int
    bits: int
    grey: bool
    cmyk: bool
    alpha: bool
    real: bool
    space: str

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height once it is turned upright."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(data: bytes) -> PictureHeader:
    """What a picture file's header says; no pixel is decoded.

    Raises:
        FrameError: it is no picture that can be read; the text names no file.
    """
    from PIL import Image

    try:
        with _ignoring, warnings.catch_warnings():
            # Of a large picture, whose size is the caller's to bound, and of odd tags, which then are none.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                return _header(image, data)
    except Image.DecompressionBombError as error:
        raise FrameError(f"has far more pixels than can be read ({error})") from error
    except Exception as error:  # what a damaged file raises is not documented
        raise FrameError("is not a picture that can be read") from error


def decode_upright(data: bytes, header: PictureHeader, *, turn: bool = True) -> np.ndarray:
    """The pixels of a picture, turned upright by its flag.

    16-bit values are rounded to 8 bits (v / 257), grey is given to all three channels, and transparency is dropped
    where every pixel is opaque.

    Args:
        data: the file.
        header: of the same file, its size found to be acceptable.
        turn: False: as stored.

    Returns:
        ``uint8 [H, W, 3]``, red first.

    Raises:
        FrameError: it cannot be decoded, is damaged, of another size than its header says or of a form that would be
            read as another picture, holds numbers with a point or several pictures, or is transparent in places.
    """
    import cv2

    if header.real or header.bits > 16:
        raise FrameError(f"has {header.bits} bits a channel; save it with 8 or 16")
    _check_form(data, header)
    buffer = np.frombuffer(data, np.uint8)
    if header.alpha:
        _check_opaque(_decoded(buffer, cv2.IMREAD_UNCHANGED))
    image = _decoded(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_ANYDEPTH)
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise FrameError(f"holds {image.dtype} values; save it with 8 or 16 bits a channel")
    pixels = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if header.kind == "TIFF":  # OpenCV turns these itself, asked or not
        if not turn:
            raise FrameError("is a TIFF, which is read upright only")
        expected = header.upright_size
    else:
        if turn:
            pixels = upright(pixels, header.orientation)
        expected = header.upright_size if turn else (header.width, header.height)
    if (pixels.shape[1], pixels.shape[0]) != expected:
        raise FrameError(f"decodes to {pixels.shape[1]}×{pixels.shape[0]}, its header says {expected[0]}×{expected[1]}")
    return pixels


def _check_form(data: bytes, header: PictureHeader) -> None:
    """Look for what OpenCV passes over: a JPEG's damage, a TIFF that it reads as another picture."""
    try:
        if header.kind == "JPEG" and not header.cmyk:
            with contextlib.suppress(SubsamplingError):  # of photographs many kinds are about
                whole_jpeg(data)
        elif header.kind == "TIFF" and not header.cmyk:
            tiff = read_tiff(data)
            if tiff.several:
                raise FrameError("holds several pictures; save one")
            if tiff.unread:
                raise FrameError(f"is a TIFF {tiff.unread}; save it as RGB of 8 or 16 bits")
    except FrameError as error:
        raise FrameError(str(error).removeprefix("it ")) from error


def _decoded(buffer: np.ndarray, flags: int) -> np.ndarray:
    import cv2

    # What is wrong with a file is said once, by whoever reads it.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        image = cv2.imdecode(buffer, flags)
    except cv2.error:
        image = None
    if image is None:
        raise FrameError("is not a picture that can be read")
    return image


def _check_opaque(image: np.ndarray) -> None:
    if image.ndim == 3 and image.shape[2] in (2, 4):
        alpha = image[..., -1]
        if (alpha != np.iinfo(alpha.dtype).max).any():
            raise FrameError("is transparent in places; save it without transparency")


def _header(image: Image.Image, data: bytes) -> PictureHeader:
    kind, (width, height), bits = str(image.format), image.size, getattr(image, "bits", 8)
    if kind == "MPO":  # a JPEG with further pictures behind it, as many cameras write
        kind = "JPEG"
    tags: dict[int, Any] = {}
    chunks: dict[bytes, bytes] = {}
    if kind == "PNG":
        chunks = dict(_png_chunks(data))
        bits = chunks[b"IHDR"][8]
        with contextlib.suppress(Exception):  # damaged Exif data are none
            tags = _exif(chunks.get(b"eXIf"))
    elif kind == "TIFF":
        known: Any = getattr(image, "tag_v2", {})
        width, height = int(known.get(_WIDTH, width)), int(known.get(_HEIGHT, height))
        bits = max(known.get(_BITS, (1,)))
        tags = {_ORIENTATION: known.get(_ORIENTATION)}
    else:
        with contextlib.suppress(Exception):
            tags = _exif(image.info.get("exif"))
    flag = tags.get(_ORIENTATION)
    mode = image.mode
    return PictureHeader(
        kind=kind,
        width=width,
        height=height,
        orientation=flag if isinstance(flag, int) and flag in ORIENTATIONS else UPRIGHT,
        bits=int(bits),
        grey=mode in ("1", "L", "LA", "La", "F", "I") or mode.startswith("I;"),
        cmyk=mode == "CMYK",
        alpha=mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info,
        real=mode == "F",
        space=_space(image, tags, chunks),
    )


def _exif(encoded: bytes | None) -> dict[int, Any]:
    from PIL import Image

    if not encoded:
        return {}
    exif = Image.Exif()
    exif.load(encoded)
    return {**exif, **exif.get_ifd(_EXIF), "interoperability": exif.get_ifd(_INTEROPERABILITY).get(1)}  # type: ignore[dict-item]


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of the chunks other than the pixels; of several with one name ``dict`` keeps the last."""
    at = len(_PNG_START)
    while at + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        if name != b"IDAT":
            yield name, data[at + 8 : at + 8 + length]
        at += 12 + length


def _space(image: Image.Image, tags: dict[Any, Any], chunks: dict[bytes, bytes]) -> str:
    """The colour space that the file says it is in, where that is not sRGB; of a PNG by the chunk that counts first."""
    if len(code := chunks.get(b"cICP", b"")) == 4:
        primaries, curve, _, full = code
        if primaries in _SRGB_PRIMARIES and curve in _SRGB_CURVES and full:
            return ""
        return f"{'full' if full else 'limited'} range, H.273's primaries {primaries} and curve {curve} (cICP)"
    if profile := image.info.get("icc_profile"):
        return profile_space(profile)
    if tags.get(_COLOUR_SPACE) == 2 or tags.get("interoperability") == "R03":
        return "Adobe RGB (1998)"
    if not chunks or "srgb" in image.info:
        return ""
    gamma, corners = image.info.get("gamma"), image.info.get("chromaticity")
    if gamma and abs(gamma - 1 / 2.2) > 0.02:
        return f"values of gamma {1 / gamma:.3g}"
    if corners and not np.allclose(corners, _SRGB_CORNERS, rtol=0, atol=_CORNERS_ALIKE):
        return f"primaries of their own (cHRM, red at {corners[2]:.3g}, {corners[3]:.3g})"
    return ""


@functools.lru_cache(maxsize=16)
def profile_space(profile: bytes) -> str:
    """A colour profile's name, empty where it means sRGB: where it moves no colour by more than rounding does."""
    from PIL import Image, ImageCms

    levels = np.linspace(0, 255, 5).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(25, 5, 3)
    name = "an unreadable colour profile"
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = (ImageCms.getProfileDescription(opened).strip() or "an unnamed colour profile")[:60]
        moved = ImageCms.profileToProfile(Image.fromarray(grid), opened, ImageCms.createProfile("sRGB"))
        difference = np.abs(np.asarray(moved).astype(int) - grid).max()
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return name
    return "" if difference <= _PROFILE_LEVELS else name
