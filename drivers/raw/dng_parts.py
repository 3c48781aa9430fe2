"""How uncompressed pixels lie in a camera file's strips or tiles: LibRaw reads some layouts as another picture."""

from __future__ import annotations

from drivers.raw.tiff_tags import Directory, FileTags, one

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _UNCOMPRESSED = 256, 257, 258, 259, 277, 1
_STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325


def misplaced(tags: FileTags) -> str:
    """Why uncompressed pixels would not be read as they are; empty where they are.

    LibRaw takes for granted that strips follow each other and that rows do within a part, whatever bytes the file
    states, goes on past a part that is too short, and counts a tile's columns by the picture where that fits within it.
    Of files that are no DNG it knows ways of their makers; there only the strips' places count.
    """
    for mosaic in tags.mosaics:
        if one(mosaic.get(_COMPRESSION, (_UNCOMPRESSED,))) == _UNCOMPRESSED and mosaic.get(_SAMPLES, (1,)) == (1,):
            reason = _scattered(mosaic)
            if tags.is_dng:
                reason = reason or (_of_tiles(mosaic) if _TILE_OFFSETS in mosaic else _of_strips(mosaic))
            if reason:
                return reason
    return ""


def _scattered(mosaic: Directory) -> str:
    offsets, counts = mosaic.get(_STRIP_OFFSETS, ()), mosaic.get(_STRIP_BYTES, ())
    ends = [o + c for o, c in zip(offsets, counts, strict=False)]
    if len(offsets) == len(counts) and any(end != start for end, start in zip(ends, offsets[1:], strict=False)):
        return "its strips of pixels do not follow each other, which LibRaw takes for granted"
    return ""


def _of_strips(mosaic: Directory) -> str:
    width, height, bits = _size(mosaic)
    counts, each = mosaic.get(_STRIP_BYTES, ()), min(int(one(mosaic.get(_ROWS_PER_STRIP)) or height), height)
    if each <= 0:
        return ""
    if len(counts) != -(-height // each):  # what it says of its rows is not so: they are one after the other
        counts, each = (sum(counts),), height
    rows = [each] * (len(counts) - 1) + [height - (len(counts) - 1) * each]
    for number, (count, wanted) in enumerate(zip(counts, rows, strict=True), 1):
        if reason := _unlike(count, width, wanted, bits):
            return reason
        row = -(-width * bits // 8)
        # After the last strip there may be anything; of one alone whole bytes for each row are no accident.
        if count > row * wanted and (number < len(counts) or (len(counts) == 1 and count % wanted == 0)):
            return f"its rows of pixels take {count / wanted:.10g} bytes each, of which LibRaw takes {row}"
    return ""


def _of_tiles(mosaic: Directory) -> str:
    width, height, bits = _size(mosaic)
    columns, rows = int(one(mosaic.get(_TILE_WIDTH)) or 0), int(one(mosaic.get(_TILE_LENGTH)) or 0)
    if min(width, height, columns, rows) <= 0:
        return ""
    across, down = -(-width // columns), -(-height // rows)
    if (count := len(mosaic[_TILE_OFFSETS])) < across * down:
        return f"it has {count} tiles of pixels, its picture needs {across * down}"
    if columns > width and rows >= height:
        return f"its tile of {columns}×{rows} pixels is wider than its picture, which LibRaw reads wrongly"
    for number, held in enumerate(mosaic.get(_TILE_BYTES, ())):
        # Below the picture's end a tile may be left out.
        if reason := _unlike(held, columns, min(rows, height - number // across * rows), bits, rows):
            return reason
    return ""


def _unlike(count: float, width: int, rows: int, bits: int, stored: int = 0) -> str:
    """Why a part cannot hold its rows as LibRaw reads them; a part of 0 bytes says nothing.

    Args:
        count: bytes of the part.
        width: pixels of a row, which begins with a byte of its own.
        rows: rows that are needed of it; ``stored`` where it holds more.
        bits: bits of a pixel.
    """
    if count == 2 * width * (stored or rows) and 8 < bits < 16:
        return f"its pixels take 16 bits each, but its BitsPerSample is {bits}, which means packed ones"
    if 0 < count < (wanted := -(-width * bits // 8) * rows):
        return f"a part of its pixels has {count:.0f} bytes, its {rows} rows need {wanted}"
    return ""


def _size(mosaic: Directory) -> tuple[int, int, int]:
    width, height, bits = (int(one(mosaic.get(tag)) or 0) for tag in (_WIDTH, _HEIGHT, _BITS))
    return width, height, bits or 1
