"""TIFF pictures: of which form they are, told before they are decoded, for decoders read some as another picture."""

from __future__ import annotations

import io
import logging
import struct
from dataclasses import dataclass
from itertools import islice

from drivers.errors import FrameError

_GREY, _RGB, _PALETTE, _YCBCR = 1, 2, 3, 6
_ORIENTATION, _PROFILE = 274, 34675
_PAGES = 16  # of which others than the first may be previews
_PACKED = {1: "B", 3: "H", 4: "I"}

# tifffile tells what is odd in a file through this logger; without a handler Python prints it on the terminal.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Tiff:
    """What a TIFF says of its first picture.

    Attributes:
        width, height: pixels, as stored.
        alpha: whether it may have transparent pixels.
        profile: the colour profile, or None.
        several: whether it holds other pictures than previews of the first.
        unread: what is in the way of reading it right, such as ``of floating-point or signed numbers``; often empty.
        flag: of an orientation that is not upright: how it is packed, and where it stands.
    """

    width: int
    height: int
    alpha: bool
    profile: bytes | None
    several: bool
    unread: str
    flag: tuple[str, int] | None

    def as_stored(self, data: bytes) -> bytes:
        """The file with its orientation set to upright, for libtiff turns what has another, and only some kinds."""
        if self.flag is None:
            return data
        changed = bytearray(data)
        struct.pack_into(self.flag[0], changed, self.flag[1], 1)
        return bytes(changed)


def read_tiff(data: bytes) -> Tiff:
    """What a file says.

    Raises:
        FrameError: its directory cannot be read.
    """
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data), _multifile=False) as tiff:
            page = tiff.pages.first
            several = any(not int(getattr(p, "subfiletype", 0)) & 1 for p in islice(tiff.pages, 1, _PAGES))
            order = str(tiff.byteorder)
            tag = page.tags.get(_ORIENTATION)
            flag = (order + _PACKED[int(tag.dtype)], int(tag.valueoffset)) if tag and tag.value != 1 else None
            extra = len(page.extrasamples)
            unread = _unread(
                bits=_one(page.bitspersample),
                form=_one(page.sampleformat),
                colours=int(page.photometric),
                channels=int(page.samplesperpixel),
                planes=int(page.planarconfig),
                extra=extra,
            )
            width, height = int(page.imagewidth), int(page.imagelength)
            profile = page.tags.valueof(_PROFILE)
    except Exception as error:  # a damaged directory raises whatever its bytes lead to
        raise FrameError("its TIFF directory is damaged or cut short") from error
    return Tiff(width, height, extra > 0, profile if isinstance(profile, bytes) else None, several, unread, flag)


def _one(values: int | tuple[int, ...]) -> int:
    several = set(values) if isinstance(values, tuple) else {values}
    return int(several.pop()) if len(several) == 1 else -1


def _unread(*, bits: int, form: int, colours: int, channels: int, planes: int, extra: int) -> str:
    """What is in the way of reading the picture right, or nothing."""
    if form != 1:
        return "of floating-point or signed numbers"
    if bits not in (1, 8, 16):
        return f"of {bits} bits a channel" if bits > 0 else "whose channels have different bits"
    if colours not in (_GREY, _RGB, _PALETTE, _YCBCR):
        return f"of photometric interpretation {colours}"
    plain = 3 if colours in (_RGB, _YCBCR) else 1
    if channels - extra != plain or extra > (1 if plain == 3 else 0):
        return f"of {channels} channels"
    return "of 16 bits whose colours lie in planes apart" if planes == 2 and bits == 16 else ""
