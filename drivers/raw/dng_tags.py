"""What a DNG's own tags say of its mosaic: pattern, black and white level, compression, floating-point pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from drivers.errors import FrameError
from drivers.raw.dng_jpeg import jpeg_at
from drivers.raw.tiff_tags import Directory, FileTags, Values, one

_COMPRESSION, _SAMPLE_FORMAT, _BITS = 259, 339, 258
_STRIPS, _TILES = (273, 279), (324, 325)
_CFA_SIZE, _CFA_PATTERN, _ACTIVE_AREA = 33421, 33422, 50829
_LINEARIZATION = 50712
_BLACK_REPEAT, _BLACK, _BLACK_DELTA_H, _BLACK_DELTA_V, _WHITE = 50713, 50714, 50715, 50716, 50717

_UNCOMPRESSED, _LOSSLESS_JPEG = 1, 7
_DEFLATE, _LOSSY_JPEG, _JPEG_XL = 8, 34892, 52546
_READ_BY_LIBRAW = {_UNCOMPRESSED, _LOSSLESS_JPEG, _LOSSY_JPEG}
_COMPRESSIONS = {5: "LZW", 8: "deflate", 9: "VC-5", 34892: "lossy JPEG", 52546: "JPEG XL", 32773: "PackBits"}


@dataclass(frozen=True)
class Window:
    """A part of the stored mosaic: its top-left pixel and its size."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The row after the last."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The column after the last."""
        return self.left + self.width


@dataclass(frozen=True)
class BlackLevels:
    """Black at the four positions of a window's 2×2 block, in reading order.

    Attributes:
        levels: mean DN at each position.
        spread: the most that a pixel's own black level differs from its position's.
        doubt: how the tags had to be read, or empty.
    """

    levels: tuple[float, float, float, float]
    spread: float
    doubt: str = ""


def unreadable(tags: FileTags) -> str:
    """Why LibRaw cannot read the file's mosaic though the file may be whole; empty where no reason is seen."""
    for mosaic in tags.mosaics:
        code, bits = int(one(mosaic.get(_COMPRESSION)) or _UNCOMPRESSED), int(one(mosaic.get(_BITS)) or 0)
        readable = _READ_BY_LIBRAW | ({_DEFLATE} if is_float(mosaic) else set())
        if code == _JPEG_XL or (tags.is_dng and code not in readable):
            name = _COMPRESSIONS.get(code, "a method unknown to it")
            return f"its pixels are compressed with {name} (TIFF compression {code})"
        if tags.is_dng and bits > 16 and not is_float(mosaic):
            return f"its pixels have {bits} bits"
    return ""


def broken_off(tags: FileTags, file: BinaryIO) -> str:
    """Where a mosaic's pixels are said to be but are not, or empty.

    Strips and tiles must lie within the file; those of lossless JPEG must begin as one does. A file too small for as
    many pixels as it claims is told before memory is taken for them.
    """
    for mosaic in tags.mosaics:
        pixels = int(one(mosaic.get(256)) or 0) * int(one(mosaic.get(257)) or 0)
        code, bits = one(mosaic.get(_COMPRESSION)), one(mosaic.get(_BITS)) or 16
        least = {_UNCOMPRESSED: pixels * bits / 8, _LOSSLESS_JPEG: pixels / 8}.get(int(code or 0), 0)  # 1 bit a pixel
        if tags.is_dng and least > tags.size:
            return f"it claims {pixels:,} pixels, the file has {tags.size} bytes"
        for offsets_tag, counts_tag in (_STRIPS, _TILES):
            offsets, counts = mosaic.get(offsets_tag, ()), mosaic.get(counts_tag, ())
            if len(offsets) != len(counts) or not offsets:
                continue
            end = max(o + c for o, c in zip(offsets, counts, strict=True))
            if end > tags.size:
                return f"its pixels end at byte {end:.0f}, the file has {tags.size}"
            if not tags.is_dng or one(mosaic.get(_COMPRESSION)) != _LOSSLESS_JPEG:
                continue
            for number, offset in enumerate(offsets, 1):
                if jpeg_at(file, int(offset)) is None:
                    return f"part {number} of {len(offsets)} of its pixels does not begin as the JPEG that it should be"
    return ""


def active_area(mosaic: Directory) -> Window:
    """The part of the stored mosaic that pattern and black levels are counted from."""
    height, width = int(one(mosaic.get(257)) or 0), int(one(mosaic.get(256)) or 0)
    area = mosaic.get(_ACTIVE_AREA, ())
    if _lies_within(area, height, width):
        top, left, bottom, right = map(int, area)
        return Window(top, left, bottom - top, right - left)
    return Window(0, 0, height, width)


def misplaced_area(tags: FileTags) -> str:
    """An ``ActiveArea`` that is no part of its mosaic, as text; empty where every one is."""
    for mosaic in tags.mosaics if tags.is_dng else ():
        area = mosaic.get(_ACTIVE_AREA)
        if area is not None and not _lies_within(area, int(one(mosaic.get(257)) or 0), int(one(mosaic.get(256)) or 0)):
            return " ".join(f"{v:g}" for v in area[:8])
    return ""


def _lies_within(area: Values, height: int, width: int) -> bool:
    if len(area) != 4 or not all(map(math.isfinite, area)):
        return False
    top, left, bottom, right = area
    return 0 <= top < bottom <= height and 0 <= left < right <= width


def cfa_of(mosaic: Directory, window: Window) -> str | None:
    """Colours of the window's first 2×2 block in reading order, as the file states them.

    None where it does not; empty where what it states repeats over more than 2×2 pixels.
    """
    pattern = mosaic.get(_CFA_PATTERN, ())
    size = [int(v) if math.isfinite(v) else 0 for v in mosaic.get(_CFA_SIZE, (2, 2))]
    if len(size) != 2 or not 0 < size[0] * size[1] == len(pattern) or not all(v in (0, 1, 2) for v in pattern):
        return None
    tile = np.tile(np.reshape(pattern, size).astype(int), (2, 2))
    y, x = np.indices(tile.shape) % 2
    if not np.array_equal(tile, tile[y, x]):
        return ""
    area = active_area(mosaic)
    rows, columns = window.top - area.top, window.left - area.left
    return "".join("RGB"[tile[(y + rows) % 2, (x + columns) % 2]] for y in (0, 1) for x in (0, 1))


def white_of(mosaic: Directory) -> float | None:
    """The file's white level, of several the lowest: above it some colour is clipped. None where it does not say."""
    return min((level for level in mosaic.get(_WHITE, ()) if math.isfinite(level)), default=None)


def white_levels(mosaic: Directory) -> Values:
    """All white levels that the file states."""
    return mosaic.get(_WHITE, ())


def largest_of(mosaic: Directory) -> int | None:
    """The largest DN that the file's whole numbers can have; None where a table turns them into others, or floats."""
    bits = int(one(mosaic.get(_BITS)) or 0)
    return (1 << bits) - 1 if 0 < bits <= 16 and _LINEARIZATION not in mosaic and not is_float(mosaic) else None


def states_black(mosaic: Directory) -> bool:
    """Whether the file states black levels at all; without, its specification says 0 and LibRaw may know better."""
    return _BLACK in mosaic


def black_of(mosaic: Directory, window: Window) -> BlackLevels | None:
    """The file's black levels in the window; None where it states none, or none that can be understood.

    The levels repeat over ``BlackLevelRepeatDim`` from the active area's corner; ``BlackLevelDeltaH`` adds one value a
    column, ``BlackLevelDeltaV`` one a row.
    """
    stated = mosaic.get(_BLACK)
    if stated is None or not all(map(math.isfinite, stated)):
        return None
    (rows, columns), doubt = _repeat(mosaic.get(_BLACK_REPEAT), stated)
    if not rows:
        return None
    area = active_area(mosaic)
    pattern = np.array(stated[: rows * columns], dtype=np.float64).reshape(rows, columns)
    y = np.arange(min(window.height, math.lcm(rows, 2))) + window.top - area.top
    x = np.arange(min(window.width, math.lcm(columns, 2))) + window.left - area.left
    block = pattern[y % rows][:, x % columns]
    down = _deltas(mosaic.get(_BLACK_DELTA_V), window.top - area.top, window.height)
    across = _deltas(mosaic.get(_BLACK_DELTA_H), window.left - area.left, window.width)
    if down is None or across is None:
        return None
    levels, spread = [], 0.0
    for i in range(4):
        parts = block[i // 2 :: 2, i % 2 :: 2], down[i // 2 :: 2], across[i % 2 :: 2]
        means = [float(part.mean()) for part in parts]
        levels.append(sum(means))
        spread = max(spread, sum(float(np.abs(p - m).max()) for p, m in zip(parts, means, strict=True)))
    return BlackLevels((levels[0], levels[1], levels[2], levels[3]), spread if spread > 1e-6 else 0.0, doubt)


def is_float(mosaic: Directory) -> bool:
    """Whether the pixels are stored as floating-point numbers."""
    return one(mosaic.get(_SAMPLE_FORMAT)) == 3


def float_pixels(file: BinaryIO, mosaic: Directory, name: str) -> np.ndarray:
    """The stored mosaic of a floating-point DNG, ``uint16 [H, W]``, where it holds whole numbers of DN.

    LibRaw multiplies such pixels by a factor that it does not tell, and its black level loses its fraction.

    Raises:
        FrameError: they are no whole numbers (a frame has no others), or compressed, tiled, or of another depth than 16
            or 32 bits.
    """
    bits, code = int(one(mosaic.get(_BITS)) or 0), int(one(mosaic.get(_COMPRESSION)) or _UNCOMPRESSED)
    offsets, counts = mosaic.get(_STRIPS[0], ()), mosaic.get(_STRIPS[1], ())
    height, width = int(one(mosaic.get(257)) or 0), int(one(mosaic.get(256)) or 0)
    whole = sum(counts) == height * width * bits // 8
    if code != _UNCOMPRESSED or bits not in (16, 32) or len(offsets) != len(counts) or not whole:
        raise FrameError(
            f"{name}: its pixels are floating-point numbers ({bits} bits, TIFF compression {code}), readable are only "
            "uncompressed ones of 16 or 32 bits in strips; convert it to whole numbers"
        )
    file.seek(0)
    order = "<" if file.read(2) == b"II" else ">"
    data = bytearray()
    for offset, count in zip(offsets, counts, strict=True):
        file.seek(int(offset))
        data += file.read(int(count))
    pixels = np.frombuffer(bytes(data), f"{order}f{bits // 8}").reshape(height, width)
    with np.errstate(invalid="ignore"):
        dn = pixels.astype(np.uint16)
        if not np.array_equal(dn, pixels):
            raise FrameError(
                f"{name}: its pixels are floating-point numbers that are not whole (white at "
                f"{white_of(mosaic) or 1:g}), a RAW frame has whole DN of 0 to 65535; convert it to a DNG of 16-bit "
                "integers"
            )
    return dn


def _repeat(dimensions: Values | None, stated: Values) -> tuple[tuple[int, int], str]:
    """Rows and columns over which the levels repeat, (0, 0) where it stays open; and what was doubtful."""
    count = len(stated)
    if dimensions is not None and len(dimensions) == 2 and all(map(math.isfinite, dimensions)):
        rows, columns = int(dimensions[0]), int(dimensions[1])
        if rows > 0 and columns > 0 and rows * columns == count:
            return (rows, columns), ""
    if count and len(set(stated)) == 1:
        return (1, 1), ""
    side = math.isqrt(count)
    if count > 1 and side * side == count and dimensions is None:
        return (side, side), f"{count} black levels without BlackLevelRepeatDim: taken to repeat over {side}×{side}"
    return (0, 0), ""


def _deltas(values: Values | None, start: int, count: int) -> np.ndarray | None:
    """A value a row or column of the window, zeros where the file has no such tag; None where they do not fit."""
    if values is None:
        return np.zeros(count)
    if start < 0 or len(values) < start + count or not all(map(math.isfinite, values)):
        return None
    return np.array(values[start : start + count], dtype=np.float64)
