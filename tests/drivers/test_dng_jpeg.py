"""DNGs in lossless JPEG: every layout is read as it is, or refused; LibRaw reads some as another picture."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from made_dng import LONG, SHORT, flat, made_dng
from made_ljpeg import ljpeg

from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.raw.camera_files import load_camera_file
from drivers.raw.sense import look_at

HEIGHT, WIDTH = 48, 64


def scene() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 8, (HEIGHT, WIDTH))
    return np.clip(flat(height=HEIGHT, width=WIDTH) + noise + np.arange(WIDTH), 0, 4095).astype(np.uint16)


def dng_of(parts: list[bytes], tags: dict[int, Any]) -> bytes:
    """A DNG whose pixels are these parts, one behind the other, as tiles or strips that ``tags`` describe."""
    data = b"".join(parts)
    starts = [8 + sum(map(len, parts[:i])) for i in range(len(parts))]
    places, lengths = (324, 325) if 322 in tags else (273, 279)
    none = {273: None, 278: None, 279: None} if 322 in tags else {}
    where = {places: (LONG, starts), lengths: (LONG, [len(part) for part in parts])}
    size = {256: (LONG, [WIDTH]), 257: (LONG, [HEIGHT]), 258: (SHORT, [12]), 259: (SHORT, [7])}
    # The pixels of the file that is made are the parts' bytes.
    bytes_of = np.frombuffer(data + bytes(len(data) % 2), np.uint8)[None]
    return made_dng(bytes_of, {**size, **none, **where, **tags}, dtype="u1")


def read(data: bytes) -> RawFrame:
    frame = load_camera_file(io.BytesIO(data), "x.dng")
    look_at(frame, [])
    return frame


def refusal(data: bytes) -> str:
    with pytest.raises(FrameError) as caught:
        read(data)
    return str(caught.value)


def tiled(tile: tuple[int, int], components: int) -> bytes:
    height, width = tile
    padded = np.pad(scene(), ((0, -HEIGHT % height), (0, -WIDTH % width)), mode="edge")
    parts = [
        ljpeg(padded[y : y + height, x : x + width], components)
        for y in range(0, HEIGHT, height)
        for x in range(0, WIDTH, width)
    ]
    return dng_of(parts, {322: (LONG, [width]), 323: (LONG, [height])})


@pytest.mark.parametrize("components", [1, 2])
@pytest.mark.parametrize("tile", [(16, 16), (48, 64), (64, 64), (16, 48), (32, 64)])
def test_tiles_are_read_as_they_are(tile: tuple[int, int], components: int) -> None:
    np.testing.assert_array_equal(read(tiled(tile, components)).mosaic, scene())


@pytest.mark.parametrize(
    ("tile", "components"), [((16, 32), 2), ((48, 32), 2), ((48, 80), 1), ((16, 128), 1), ((64, 96), 2)]
)
def test_tiles_that_libraw_reads_wrongly_are_refused(tile: tuple[int, int], components: int) -> None:
    told = f"in parts of {tile[1]}×{tile[0]}, for a picture 64 wide, is a layout that LibRaw reads wrongly"
    assert told in refusal(tiled(tile, components))


@pytest.mark.parametrize("count", [1, 11])
def test_fewer_tiles_than_the_picture_has_are_refused(count: int) -> None:
    """LibRaw takes the numbers after the list for places of the rest."""
    parts = [ljpeg(scene()[y : y + 16, x : x + 16], 1) for y in range(0, HEIGHT, 16) for x in range(0, WIDTH, 16)]
    data = dng_of(parts[:count], {322: (LONG, [16]), 323: (LONG, [16])})
    assert f"has {count} tiles of pixels, its picture needs 12" in refusal(data)


@pytest.mark.parametrize("components", [1, 2, 4])
@pytest.mark.parametrize("rows", [HEIGHT, HEIGHT // 2])
def test_a_strip_may_be_a_jpeg_of_other_sides(rows: int, components: int) -> None:
    jpeg = ljpeg(scene().reshape(rows, -1), components)
    np.testing.assert_array_equal(read(dng_of([jpeg], {})).mosaic, scene())


@pytest.mark.parametrize(
    "pixels",
    [np.pad(scene(), ((0, 0), (0, 32))), scene()[:40], scene().reshape(2 * HEIGHT, -1)],
    ids=["rows too long", "rows missing", "half a row in two components"],
)
def test_a_strip_that_libraw_reads_wrongly_is_refused(pixels: np.ndarray) -> None:
    assert "is a layout that LibRaw reads wrongly" in refusal(dng_of([ljpeg(pixels)], {}))


def test_several_strips_are_refused_of_which_libraw_reads_the_first_alone() -> None:
    parts = [ljpeg(scene()[:24]), ljpeg(scene()[24:])]
    assert "lies in 2 strips, of which LibRaw reads one" in refusal(dng_of(parts, {278: (LONG, [24])}))


@pytest.mark.parametrize("components", [1, 2])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_zeros_in_the_place_of_the_rest_are_refused(kept: float, components: int) -> None:
    """A zero means no difference: every pixel is then its neighbour of the same component, without an error."""
    jpeg = ljpeg(scene(), components)
    whole = int(kept * len(jpeg))
    assert "rows hold nothing but" in refusal(dng_of([jpeg[:whole] + bytes(len(jpeg) - whole)], {}))


def changed(predictor: int = 1, shift: int = 0, restarts: int = 0) -> bytes:
    """The DNG of a strip whose JPEG's header says otherwise; its pixels are not looked at."""
    jpeg = ljpeg(scene())
    if restarts:
        scan = jpeg.index(b"\xff\xda")
        jpeg = jpeg[:scan] + b"\xff\xdd\0\4" + restarts.to_bytes(2, "big") + jpeg[scan:]
    scan = jpeg.index(b"\xff\xda")
    end = scan + 2 + int.from_bytes(jpeg[scan + 2 : scan + 4], "big")
    return dng_of([jpeg[: end - 3] + bytes([predictor, 0, shift]) + jpeg[end:]], {})


def test_a_point_transform_and_restarts_of_other_predictors_are_refused() -> None:
    assert "has a point transform of 2, which LibRaw reads wrongly" in refusal(changed(shift=2))
    assert "has restarts and predictor 6, which LibRaw reads wrongly" in refusal(changed(predictor=6, restarts=32))
    np.testing.assert_array_equal(read(changed()).mosaic, scene())


@pytest.mark.parametrize("kept", [2, 4, 21, 50])
def test_a_part_that_breaks_off_before_its_pixels_is_refused(kept: int) -> None:
    """LibRaw leaves such a part as it finds its memory."""
    tile = ljpeg(scene()[:, :32], 1)
    parts = [tile, tile[:kept] + bytes(len(tile) - kept)]
    told = "part 2 of 2 of its pixels does not begin as the JPEG that it should be"
    assert told in refusal(dng_of(parts, {322: (LONG, [32]), 323: (LONG, [HEIGHT])}))
