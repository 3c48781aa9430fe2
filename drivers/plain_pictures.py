"""Pictures as ISPs give them without a file around: RGB, monochrome and YUV 4:2:0, read as 8-bit sRGB.

YUV is taken for sRGB through a matrix: the matrix and the range are undone, the transfer curve and the primaries are
sRGB's, whichever matrix it is. A chroma sample is that of its 2×2 pixels, all four (no interpolation). Values are
brought to 0..255 in one step, clipped and rounded to the nearest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from drivers.errors import FrameError
from drivers.geometry import Geometry

Format = Literal["file", "rgb", "mono", "nv12", "p010", "i420", "i010"]
FORMATS: tuple[Format, ...] = ("file", "rgb", "mono", "nv12", "p010", "i420", "i010")
PLAIN: Literal["video/raw"] = "video/raw"
"""The media type of a picture without a file around."""
MOST_ROW_MULTIPLE = 4096

_YUV_BITS = {"nv12": 8, "p010": 10, "i420": 8, "i010": 10}
_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}  # of red and blue in luma
_RANGES = ("full", "limited")


@dataclass(frozen=True)
class PlainPicture:
    """A picture on its way, as the device's ISP gave it; which format it has is the device's to say."""

    encoded: bytes
    media_type: Literal["video/raw"] = PLAIN

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the bytes, 64 hexadecimal digits."""
        return hashlib.sha256(self.encoded).hexdigest()


@dataclass(frozen=True)
class PictureOutput(Geometry):
    """What a device gives, and how it lies on the RAW; one that tells nothing gives files of the RAW's pixels.

    Attributes:
        format: ``file``: a JPEG or PNG. ``rgb``, ``mono``: one or two bytes a value, in the low ``bits``. ``nv12``:
            luma, then Cb and Cr in turn at half the size; ``p010``: the same of 10 bits, in the upper bits of two
            bytes. ``i420``: luma, Cb, Cr; ``i010``: the same of 10 bits, in the low bits of two bytes.
        bits: of a value, 8..16; ``rgb`` and ``mono`` only.
        matrix: ``bt601``, ``bt709`` or ``bt2020``; YUV only.
        range: ``full`` or ``limited``; None: full, and YUV has to say.
        row_multiple: bytes to a multiple of which each row is padded; 1, or an even number. Chroma rows of ``i420`` and
            ``i010`` take half as many bytes as those of luma, padding included.
    """

    format: Format = "file"
    bits: int = 8
    matrix: Literal["bt601", "bt709", "bt2020"] | None = None
    range: Literal["full", "limited"] | None = None
    row_multiple: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format not in FORMATS:
            raise FrameError(f"format {self.format!r:.40} is not one of {', '.join(FORMATS)}")
        yuv = self.format in _YUV_BITS
        if self.matrix not in (_WEIGHTS if yuv else (None,)):
            wanted = f"one of {', '.join(_WEIGHTS)}" if yuv else f"for YUV alone, not for {self.format}"
            raise FrameError(f"matrix {self.matrix!r:.40} is not right: it is {wanted}")
        if self.range not in (_RANGES if yuv else (None,) if self.format == "file" else (None, *_RANGES)):
            raise FrameError(f"range {self.range!r:.40} of {self.format} is not right: YUV says full or limited")
        has_bits = self.format in ("rgb", "mono")
        if type(self.bits) is not int or not 8 <= self.bits <= (16 if has_bits else 8):
            wanted = "8..16" if has_bits else f"for rgb and mono alone, not for {self.format}"
            raise FrameError(f"bits {self.bits!r:.40} is not right: it is {wanted}")
        m = self.row_multiple
        if type(m) is not int or not (m == 1 or (m % 2 == 0 and 2 <= m <= MOST_ROW_MULTIPLE)):
            raise FrameError(f"row_multiple {m!r:.40} is not 1 or an even number up to {MOST_ROW_MULTIPLE}")

    @property
    def is_file(self) -> bool:
        """Whether it gives JPEG or PNG files."""
        return self.format == "file"

    @property
    def depth(self) -> int:
        """Bits of a value."""
        return _YUV_BITS.get(self.format, self.bits)

    def refusal(self, width: int, height: int) -> str | None:
        """See :meth:`drivers.geometry.Geometry.refusal`."""
        reason = super().refusal(width, height)
        if reason is None and self.format in _YUV_BITS and any(n % 2 for n in self.picture_size(width, height)):
            across, down = self.picture_size(width, height)
            return f"the device's picture has {across}×{down} pixels then, and {self.format} has even sides"
        return reason

    def stride(self, width: int) -> int:
        """Bytes from one row to the next; of YUV the luma's."""
        row = width * (3 if self.format == "rgb" else 1) * self._bytes
        return -(-row // self.row_multiple) * self.row_multiple

    def size(self, width: int, height: int) -> int:
        """Bytes of a picture; width and height are even."""
        luma = self.stride(width) * height
        return luma + luma // 2 if self.format in _YUV_BITS else luma

    def pixels(self, payload: bytes | memoryview, width: int, height: int) -> np.ndarray:
        """``uint8 [H, W, 3]`` sRGB, red first, of a picture of even width and height.

        Raises:
            FrameError: it has another number of bytes, or values above its bits; it begins with "the output".
        """
        if len(payload) != (wanted := self.size(width, height)):
            told = f"{self.format} of {width}×{height} pixels in rows of {self.stride(width)} bytes has {wanted}"
            raise FrameError(f"the output has {len(payload)} bytes, {told}")
        data = np.frombuffer(payload, np.uint8)
        stride = self.stride(width)
        rows = data[: stride * height].reshape(height, stride)
        first = self._values(rows, width * (3 if self.format == "rgb" else 1))
        if self.format == "rgb":
            return _to_bytes(self._luma(first).reshape(height, width, 3))
        luma = self._luma(first)
        if self.format == "mono":
            return np.repeat(_to_bytes(luma)[:, :, None], 3, axis=2)
        return _to_bytes(self._rgb(luma, *self._chroma(data[stride * height :], stride, width, height)))

    @property
    def _bytes(self) -> int:
        return 1 if self.depth == 8 else 2

    def _values(self, rows: np.ndarray, count: int) -> np.ndarray:
        """Whole numbers ``[rows, count]`` of ``depth`` bits."""
        rows = rows[:, : count * self._bytes]
        if self._bytes == 1:
            return rows
        values = rows.view("<u2")
        if self.format == "p010":
            return values >> 6
        if self.depth < 16 and values.size and (largest := int(values.max())) >> self.depth:
            raise FrameError(f"the output holds the value {largest}, {self.depth} bits go to {(1 << self.depth) - 1}")
        return values

    def _chroma(self, data: np.ndarray, stride: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Cb and Cr, -0.5 to 0.5, at full size."""
        if self.format in ("nv12", "p010"):
            pairs = self._values(data.reshape(height // 2, stride), width)
            planes = pairs[:, 0::2], pairs[:, 1::2]
        else:
            both = data.reshape(2, height // 2, stride // 2)
            planes = self._values(both[0], width // 2), self._values(both[1], width // 2)
        whole = 224 << (self.depth - 8) if self.range == "limited" else (1 << self.depth) - 1
        cb, cr = ((p.astype(np.float32) - (1 << (self.depth - 1))) / whole for p in planes)
        return cb.repeat(2, axis=0).repeat(2, axis=1), cr.repeat(2, axis=0).repeat(2, axis=1)

    def _luma(self, values: np.ndarray) -> np.ndarray:
        """Values of luma or of a colour as 0 (black) to 1 (white), ``float32``."""
        if self.range == "limited":
            return (values.astype(np.float32) - (16 << (self.depth - 8))) / (219 << (self.depth - 8))
        return values.astype(np.float32) / ((1 << self.depth) - 1)

    def _rgb(self, luma: np.ndarray, cb: np.ndarray, cr: np.ndarray) -> np.ndarray:
        assert self.matrix is not None
        red, blue = _WEIGHTS[self.matrix]
        green = 1 - red - blue
        r, b = luma + 2 * (1 - red) * cr, luma + 2 * (1 - blue) * cb
        return np.stack([r, (luma - red * r - blue * b) / green, b], axis=2)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """0..1 as 0..255, clipped and rounded to the nearest."""
    rounded: np.ndarray = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return rounded
