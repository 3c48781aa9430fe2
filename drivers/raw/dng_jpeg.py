"""How lossless JPEG lies in a DNG: LibRaw reads some layouts as another picture, without a word."""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

from drivers.jpeg_damage import JPEG_FRAMES, JPEG_SCAN
from drivers.raw.tiff_tags import Directory, FileTags, one

_WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _LOSSLESS_JPEG = 256, 257, 259, 277, 7
_STRIP_OFFSETS, _TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS = 273, 322, 323, 324
_LOSSLESS = 0xC3
_RESTARTS = 0xDD
_MOST_SEGMENTS = 64


class Jpeg(NamedTuple):
    """What the header of a JPEG says.

    Attributes:
        kind: the marker of its frame, 0xC3 where it is lossless.
        rows, columns, components: its sides, and values at each place.
        restarts: whether its decoding begins anew within it.
        predictor: of a lossless one, 1 to 7: from which neighbours a value is told.
        shift: bits that were taken off each value.
    """

    kind: int
    rows: int
    columns: int
    components: int
    restarts: bool
    predictor: int
    shift: int


def misread(tags: FileTags, file: BinaryIO) -> str:
    """Why the pixels of a DNG in lossless JPEG would not be read as they are; empty where they are.

    By DNG's specification the pixels of a strip or tile may be a JPEG of other sides, filled row by row. LibRaw counts
    columns by the picture where a tile is wider, takes a row twice over where the JPEG's components times its row are
    as wide as the picture, and reads the first of several strips alone. Values whose lowest bits were taken off stay
    small, and where decoding begins anew it still looks at the row above.
    """
    for mosaic in tags.mosaics if tags.is_dng else ():
        is_plain = one(mosaic.get(_COMPRESSION)) == _LOSSLESS_JPEG and mosaic.get(_SAMPLES, (1,)) == (1,)
        if is_plain and (reason := _misread(mosaic, file)):
            return reason
    return ""


def _misread(mosaic: Directory, file: BinaryIO) -> str:
    width, height = int(one(mosaic.get(_WIDTH)) or 0), int(one(mosaic.get(_HEIGHT)) or 0)
    offsets = mosaic.get(_TILE_OFFSETS, ())
    part_width, part_rows = int(one(mosaic.get(_TILE_WIDTH)) or 0), int(one(mosaic.get(_TILE_LENGTH)) or 0)
    if not offsets or not part_width or not part_rows:
        offsets, part_width, part_rows = mosaic.get(_STRIP_OFFSETS, ()), width, height
        if len(offsets) > 1:
            return f"its lossless JPEG lies in {len(offsets)} strips, of which LibRaw reads one"
    across = max(-(-width // max(part_width, 1)), 1)
    if 0 < len(offsets) < (needed := across * -(-height // max(part_rows, 1))):
        return f"it has {len(offsets)} tiles of pixels, its picture needs {needed}"
    for number, offset in enumerate(offsets):
        jpeg = jpeg_at(file, int(offset))
        if jpeg is None or jpeg.kind != _LOSSLESS:
            continue
        if jpeg.shift or (jpeg.restarts and jpeg.predictor > 1):
            what = f"a point transform of {jpeg.shift}" if jpeg.shift else f"restarts and predictor {jpeg.predictor}"
            return f"its lossless JPEG has {what}, which LibRaw reads wrongly"
        row, wanted = jpeg.columns * jpeg.components, min(part_width, width)
        needed = wanted * min(part_rows, height - number // across * part_rows)
        twice = jpeg.components > 1 and jpeg.components * row == width
        apart = row != width if part_width > width else row % wanted != 0 and wanted % row != 0
        if row * jpeg.rows < needed or twice or apart:
            return (
                f"its lossless JPEG of {jpeg.components} components and {jpeg.columns}×{jpeg.rows} pixels in parts of "
                f"{part_width}×{part_rows}, for a picture {width} wide, is a layout that LibRaw reads wrongly"
            )
    return ""


def jpeg_at(file: BinaryIO, offset: int) -> Jpeg | None:
    """The JPEG at a place in a file; None where what is there is no JPEG with a frame header and pixels after it."""
    file.seek(offset)
    if file.read(2) != b"\xff\xd8":
        return None
    frame: tuple[int, int, int, int] | None = None
    restarts = False
    for _ in range(_MOST_SEGMENTS):
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF:
            return None
        marker, content = head[1], file.read(max(int.from_bytes(head[2:], "big") - 2, 0))
        if marker in JPEG_FRAMES and len(content) >= 6:
            rows, columns, components = struct.unpack_from(">xHHB", content)
            frame = (marker, rows, columns, components) if rows and columns and components else None
        elif marker == _RESTARTS:
            restarts = any(content)
        elif marker == JPEG_SCAN:
            known = frame is not None and len(content) >= 3
            return Jpeg(*frame, restarts, content[-3], content[-1] & 15) if known and frame else None
    return None
