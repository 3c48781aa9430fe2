"""Uncompressed strips and tiles are read as they lie in the file, or refused: never as another picture."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from made_dng import LONG, SHORT, made_dng

from drivers.errors import FrameError
from drivers.raw.camera_files import load_camera_file

HEIGHT, WIDTH = 48, 64
PIXELS = (np.arange(HEIGHT)[:, None] * 40 + np.arange(WIDTH) * 13 + 100).astype(np.uint16)
NO_STRIPS: dict[int, Any] = {273: None, 278: None, 279: None}
NO_DNG: dict[int, Any] = dict.fromkeys((50706, 50708, 50713, 50714, 50717, 50721, 50728, 50778))


def made(parts: list[bytes], tags: dict[int, Any], *, tiled: bool = False, rest: int = 0) -> bytes:
    """A DNG that says it has ``PIXELS``, its parts one after the other, then as many pixels of something else."""
    data = b"".join(parts) + bytes([3, 1]) * rest
    places = [8 + sum(map(len, parts[:i])) for i in range(len(parts))]
    offsets, counts = (324, 325) if tiled else (273, 279)
    where = {256: (LONG, [WIDTH]), 257: (LONG, [HEIGHT]), offsets: (LONG, places), counts: (LONG, [*map(len, parts)])}
    return made_dng(np.frombuffer(data, "u1")[None], {**where, 258: (SHORT, [16]), **tags}, dtype="u1")


def rows(first: int, end: int, bits: int = 16, padding: int = 0, left: int = 0, width: int = WIDTH) -> bytes:
    """Some rows of the picture, zeros where it has no pixels, with bytes after each row."""
    part = np.zeros((end - first, width), np.uint16)
    kept = PIXELS[first:end, left : left + width]
    part[: kept.shape[0], : kept.shape[1]] = kept
    if bits == 16:
        data = part.astype("<u2").view(np.uint8)
    else:
        data = np.packbits((part[:, :, None] >> np.arange(bits)[::-1] & 1).reshape(len(part), -1) != 0, axis=1)
    return np.pad(data, ((0, 0), (0, padding))).tobytes()


def tiles(width: int, height: int, bits: int = 16, keep: float = 1) -> list[bytes]:
    """The tiles of the picture, of each the first bytes."""
    corners = [(y, x) for y in range(0, HEIGHT, height) for x in range(0, WIDTH, width)]
    whole = [rows(y, y + height, bits, left=x, width=width) for y, x in corners]
    return [tile[: int(len(tile) * keep)] for tile in whole]


def tiled(width: int, height: int) -> dict[int, Any]:
    return {**NO_STRIPS, 322: (LONG, [width]), 323: (LONG, [height])}


def strips(each: int, padding: int = 0) -> list[bytes]:
    return [rows(y, y + each) + bytes(padding) for y in range(0, HEIGHT, each)]


IN_STRIPS = {278: (LONG, [8])}
READ: dict[str, bytes] = {
    "strips": made(strips(8), IN_STRIPS),
    "bytes after the last strip": made([*strips(8)[:-1], rows(40, 48) + bytes(64)], IN_STRIPS),
    "a strip in whole sectors": made([rows(0, 48) + bytes(500)], {278: (LONG, [48])}),
    "strips that are not as many as rows a strip say": made(strips(8), {278: (LONG, [48])}),
    "bytes of strips that are not told": made([rows(0, 48)], {278: (LONG, [48]), 279: (LONG, [0])}),
    "12 bits": made([rows(0, 48, 12)], {278: (LONG, [48]), 258: (SHORT, [12])}),
    "tiles": made(tiles(16, 16), tiled(16, 16), tiled=True),
    "tiles of 12 bits": made(tiles(48, 32, 12), {**tiled(48, 32), 258: (SHORT, [12])}, tiled=True),
    "tiles with bytes after them": made([t + bytes(512) for t in tiles(32, 32)], tiled(32, 32), tiled=True),
    "a tile that is higher": made(tiles(64, 128), tiled(64, 128), tiled=True),
    "tiles that are wider": made(tiles(80, 16), tiled(80, 16), tiled=True),
    "the last tiles end with the picture": made(
        [t[: 32 * 2 * 16] if i > 1 else t for i, t in enumerate(tiles(32, 32))], tiled(32, 32), tiled=True
    ),
}


@pytest.mark.parametrize("name", READ)
def test_a_layout_that_libraw_knows_is_read_to_the_pixel(name: str) -> None:
    np.testing.assert_array_equal(load_camera_file(io.BytesIO(READ[name]), "x.dng").mosaic, PIXELS)


REFUSED: dict[str, tuple[bytes, str]] = {
    "padded strips": (made(strips(8, 64), IN_STRIPS), "rows of pixels take 136 bytes each, of which LibRaw takes 128"),
    "padded rows": (made([rows(0, 48, 16, 32)], {278: (LONG, [48])}), "rows of pixels take 160 bytes each"),
    "padded rows of 12 bits": (
        made([rows(0, 48, 12, 4)], {278: (LONG, [48]), 258: (SHORT, [12])}),
        "rows of pixels take 100 bytes each, of which LibRaw takes 96",
    ),
    "a strip without its end": (made([rows(0, 40)], {278: (LONG, [48])}, rest=600), "its 48 rows need 6144"),
    "strips without their ends": (made([s[:768] for s in strips(8)], IN_STRIPS, rest=900), "its 8 rows need 1024"),
    "too few strips": (made(strips(8)[:4], IN_STRIPS, rest=2000), "has 4096 bytes, its 48 rows need 6144"),
    "tiles of words": (made(tiles(16, 16), {**tiled(16, 16), 258: (SHORT, [12])}, tiled=True), "take 16 bits each"),
    "tiles without their ends": (made(tiles(16, 16, 16, 0.5), tiled(16, 16), tiled=True, rest=2000), "need 512"),
    "upper tiles without their ends": (made(tiles(32, 32, 16, 0.5), tiled(32, 32), tiled=True, rest=2000), "need 2048"),
    "padded rows, compression not told": (made([rows(0, 48, 16, 32)], {259: None}), "take 160 bytes each"),
    "bits not told, which means one": (made([rows(0, 48)], {258: None}), "take 128 bytes each"),
    "too few tiles": (made(tiles(32, 16)[:4], tiled(32, 16), tiled=True, rest=2000), "has 4 tiles of pixels, .* 6$"),
    "a tile around the picture": (made(tiles(128, 128), tiled(128, 128), tiled=True), "tile of 128×128 .* wider"),
    "strips of a TIFF that is no DNG": (
        made(strips(8), {**IN_STRIPS, **NO_DNG, 279: (LONG, [1000] * 6)}),
        "strips of pixels do not follow each other",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_layout_that_libraw_reads_as_another_picture_is_refused(name: str) -> None:
    data, told = REFUSED[name]
    with pytest.raises(FrameError) as caught:
        load_camera_file(io.BytesIO(data), "x.dng")
    reason, _, step = str(caught.value).partition("; ")
    assert "\n" not in str(caught.value)
    assert step.startswith("convert it to a DNG with one strip")
    assert re.search(told, reason)
