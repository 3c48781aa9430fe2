"""A camera file's own tags count: DNGs made here say what real writers say, and the pixels say what is right."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_dng import (
    ASCII,
    BYTE,
    DOUBLE,
    FLOAT,
    LIGHT,
    LONG,
    MATRIX,
    RATIONAL,
    SHORT,
    SRATIONAL,
    flat,
    made_dng,
)

from drivers.cfa import CFA_PATTERNS
from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.raw.camera_files import load_camera_file
from drivers.raw.raw_files import is_raw_file, load_raw
from drivers.raw.raw_notes import RawNote, told_once

XYZ_FROM_SRGB = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                          [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
CANON = {271: (ASCII, "Canon"), 272: (ASCII, "Canon EOS 5D Mark III"), 50708: (ASCII, "Canon EOS 5D Mark III")}


def read(data: bytes) -> tuple[RawFrame, dict[str, str]]:
    notes: list[RawNote] = []
    return load_camera_file(io.BytesIO(data), "x.dng", notes), {n.kind: n.text for n in notes}


def refusal(data: bytes) -> str:
    with pytest.raises(FrameError) as caught:
        load_camera_file(io.BytesIO(data), "x.dng")
    text = str(caught.value)
    assert text.startswith("x.dng: ")
    assert "\n" not in text
    return text


def light(raw: RawFrame) -> list[float]:
    """Mean DN above black at each position of the 2×2 block."""
    means = [raw.mosaic[i // 2 :: 2, i % 2 :: 2].astype(float).mean() for i in range(4)]
    return [m - b for m, b in zip(means, raw.black_level, strict=True)]


# Black levels

FOUR = [[10, 20], [30, 40]]
BLACKS: dict[str, Any] = {
    "one level": (64, {50714: (RATIONAL, [64])}, False),
    "no repeat dimension, one level": (64, {50713: None, 50714: (SHORT, [64])}, False),
    "no repeat dimension, four alike": (64, {50713: None, 50714: (SHORT, [64] * 4)}, True),
    "no repeat dimension, four": (FOUR, {50713: None, 50714: (SHORT, [10, 20, 30, 40])}, True),
    "2x2": (FOUR, {50713: (SHORT, [2, 2]), 50714: (SHORT, [10, 20, 30, 40])}, False),
    "2x2, longs": (FOUR, {50713: (SHORT, [2, 2]), 50714: (LONG, [10, 20, 30, 40])}, False),
    "1x2": ([[10, 20]], {50713: (SHORT, [1, 2]), 50714: (SHORT, [10, 20])}, False),
    "2x1": ([[10], [20]], {50713: (SHORT, [2, 1]), 50714: (SHORT, [10, 20])}, False),
    "4x4": (FOUR, {50713: (SHORT, [4, 4]), 50714: (SHORT, [10, 20, 10, 20, 30, 40, 30, 40] * 2)}, True),
    "2x4": (FOUR, {50713: (SHORT, [2, 4]), 50714: (SHORT, [10, 20, 10, 20, 30, 40, 30, 40])}, True),
    "6x6 alike": (12, {50713: (SHORT, [6, 6]), 50714: (SHORT, [12] * 36)}, None),
    "a fraction": ([[10.25, 20.5], [30, 40.75]], {50713: (SHORT, [2, 2]), 50714: (RATIONAL, [10.25, 20.5, 30, 40.75])},
                   True),
    "deltas down": ([[10], [20]], {50714: (SHORT, [0]), 50716: (SRATIONAL, [10, 20] * 24)}, True),
    "deltas across": ([[10, 20]], {50714: (SHORT, [0]), 50715: (SRATIONAL, [10, 20] * 32)}, True),
    "deltas over 2x2": ([[15, 25], [25, 35]], {50713: (SHORT, [2, 2]), 50714: (SHORT, [10, 20, 30, 40]),
                                               50716: (SRATIONAL, [5, -5] * 24)}, True),
    "none at all": (0, {50713: None, 50714: None}, False),
}  # fmt: skip


@pytest.mark.parametrize("name", BLACKS)
@pytest.mark.parametrize("layout", [{}, {"order": ">"}, {"sub": True}])
def test_black_levels_are_the_files(name: str, layout: dict[Any, Any]) -> None:
    black, tags, differs = BLACKS[name]
    stored = np.rint(flat(black) * 4) / 4
    raw, notes = read(made_dng(np.floor(stored), tags, **layout))
    want = np.broadcast_to(np.tile(np.atleast_2d(black), (2, 2))[:2, :2], (2, 2)).ravel()
    np.testing.assert_allclose(raw.black_level, want)
    np.testing.assert_allclose(light(raw), [400, 800, 800, 200], atol=1)
    if differs is not None:
        assert ("black_level" in notes) == differs


@pytest.mark.parametrize("cfa", CFA_PATTERNS)
@pytest.mark.parametrize("area", [(0, 0, 48, 64), (3, 5, 47, 61), (6, 5, 47, 62), (1, 0, 48, 64), (4, 8, 44, 60)])
@pytest.mark.parametrize("sub", [False, True])
def test_pattern_and_black_begin_at_the_active_area(cfa: str, area: tuple[int, ...], sub: bool) -> None:
    """Its corner may be odd: LibRaw then begins elsewhere, with the pattern turned and the black levels not."""
    top, left, bottom, right = area
    pixels = np.full((48, 64), 4000.0)
    pixels[top:bottom, left:right] = flat(FOUR, cfa, bottom - top, right - left)
    tags = {50829: (LONG, area), 50713: (SHORT, [2, 2]), 50714: (SHORT, [10, 20, 30, 40])}
    raw, _ = read(made_dng(pixels, tags, cfa=cfa, sub=sub))
    assert light(raw) == [LIGHT[c] for c in raw.cfa]
    assert raw.height >= bottom - top - 3
    assert raw.width >= right - left - 3


@pytest.mark.parametrize(("rows", "columns"), [(1, 4), (4, 4), (2, 2), (4, 2), (6, 6)])
def test_a_pattern_that_repeats_over_more_than_2x2_is_no_bayer(rows: int, columns: int) -> None:
    """LibRaw takes the numbers of four columns for two rows of two."""
    stripes = [0, 1, 1, 2] * (rows * columns // 4)
    bayer = [(0, 1, 1, 2)[2 * (y % 2) + x % 2] for y in range(rows) for x in range(columns)]
    size = {33421: (SHORT, [rows, columns])}
    if columns == 4:
        assert "repeats over more than 2×2" in refusal(made_dng(flat(), {**size, 33422: (BYTE, stripes)}))
    else:
        assert read(made_dng(flat(), {**size, 33422: (BYTE, bayer)}))[0].cfa == "RGGB"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("sub", [False, True])
def test_a_tag_that_stands_twice_and_says_two_things_is_refused(order: str, sub: bool) -> None:
    for second, allowed in ((4095, True), (1023, False)):
        data = made_dng(flat(), {50716: (LONG, [second])}, order=order, sub=sub)
        entry = struct.pack(order + "HHII", 50716, LONG, 1, second)
        assert data.count(entry) == 1
        data = data.replace(entry, struct.pack(order + "HHII", 50717, LONG, 1, second))
        if allowed:
            assert read(data)[0].white_level == 4095
        else:
            assert "has WhiteLevel twice, with other values" in refusal(data)


@pytest.mark.parametrize(
    ("tags", "spread"),
    [
        ({50713: (SHORT, [4, 4]), 50714: (SHORT, list(range(16)))}, "5"),
        ({50713: (SHORT, [1, 3]), 50714: (SHORT, [60, 64, 68])}, "4"),
        ({50713: (SHORT, [1, 1]), 50714: (SHORT, [64]), 50716: (SRATIONAL, [0, 0, 8, 8] * 12)}, "4"),
        ({50713: None, 50714: (SHORT, [0] * 8 + [9] * 8)}, "4.5"),
    ],
)
def test_black_levels_that_a_frame_cannot_hold_are_refused(tags: dict[Any, Any], spread: str) -> None:
    assert f"differs by up to {spread} DN" in refusal(made_dng(flat(), tags))


def test_black_levels_that_differ_by_less_than_the_noise_are_averaged() -> None:
    tags = {50716: (SRATIONAL, [0, 0, 0.5, 0.5] * 12)}
    raw, notes = read(made_dng(flat(), tags))
    assert raw.black_level == (64.25,) * 4
    assert "differs by up to 0.25 DN" in notes["black_spread"]


@pytest.mark.parametrize(
    "tags",
    [
        {50713: (SHORT, [2, 2]), 50714: (SHORT, [64, 65, 66])},
        {50713: None, 50714: (SHORT, [64, 65, 66])},
        {50713: (SHORT, [0, 0]), 50714: (SHORT, [64, 65])},
        {50713: (SHORT, [4, 4]), 50714: (SHORT, [64, 65, 66, 67])},
        {50714: (RATIONAL, struct.pack("<II", 64, 0))},
        {50713: (SHORT, [1, 2]), 50714: (FLOAT, [64, float("nan")])},
    ],
)
def test_black_levels_that_are_no_pattern_are_refused(tags: dict[Any, Any]) -> None:
    assert "black levels cannot be understood" in refusal(made_dng(flat(), tags))


@pytest.mark.parametrize("height", [1022, 1024, 1026, 3000])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tags_of_more_than_1024_numbers_count(height: int, order: str) -> None:
    """A row's black level each, as of a frame of megapixels."""
    pixels = flat([[70], [80]], height=height)
    tags = {50714: (SHORT, [60]), 50716: (SRATIONAL, [10, 20] * (height // 2)), 50712: (SHORT, list(range(4096)))}
    raw, notes = read(made_dng(pixels, tags, order=order))
    assert raw.black_level == (70, 70, 80, 80)
    assert light(raw) == [400, 800, 800, 200]
    assert "no_tags" not in notes
    assert "differs by up to" in refusal(made_dng(pixels, {50716: (SRATIONAL, [0] * (height - 2) + [99] * 2)}))


@pytest.mark.parametrize("dimensions", [[0, 0], [2, 2], [4, 4], [3, 5]])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_black_levels_that_are_all_alike_need_no_pattern(dimensions: list[int], count: int) -> None:
    raw, _ = read(made_dng(flat(), {50713: (SHORT, dimensions), 50714: (SHORT, [64] * count)}))
    assert raw.black_level == (64.0,) * 4


# White, linearization, floating point


@pytest.mark.parametrize("kind", [SHORT, LONG, RATIONAL])
@pytest.mark.parametrize("white", [1023, 4095, 16383, 65535])
def test_white_level_is_the_files(kind: int, white: int) -> None:
    assert read(made_dng(flat(), {50717: (kind, [white])}))[0].white_level == white


@pytest.mark.parametrize(("dtype", "white", "told"), [("u1", 255, False), ("u1", 4095, True), ("u2", 65535, False)])
def test_a_white_level_that_no_pixel_can_have_is_noted(dtype: str, white: int, told: bool) -> None:
    """As of a converter that scales the level to 16 bits, and not the pixels: the picture is dark."""
    pixels = flat(black=16) / 4
    tags = {50714: (SHORT, [4]), 50717: (LONG, [white])}
    assert ("white_beyond" in read(made_dng(pixels, tags, dtype=dtype))[1]) is told
    table = {50712: (SHORT, [16 * i for i in range(256)])}
    assert "white_beyond" not in read(made_dng(pixels, {**tags, **table}, dtype=dtype))[1]


def test_a_linearization_table_is_applied_before_the_levels() -> None:
    """As cinema cameras write it: fewer bits stored than meant."""
    table = [min(2 * i, 65535) for i in range(4096)]
    raw, _ = read(made_dng(flat(), {50712: (SHORT, table), 50714: (SHORT, [128]), 50717: (LONG, [8190])}))
    assert light(raw) == [800, 1600, 1600, 400]
    assert raw.white_level == 8190


@pytest.mark.parametrize("dtype", ["f2", "f4"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_floating_point_pixels_that_are_dn_stay_dn(dtype: str, order: str) -> None:
    raw, notes = read(made_dng(flat(), {339: (SHORT, [3])}, dtype=dtype, order=order))
    assert (raw.black_level, raw.white_level, light(raw)) == ((64.0,) * 4, 4095, [400, 800, 800, 200])
    assert not notes


@pytest.mark.parametrize("dtype", ["f2", "f4"])
@pytest.mark.parametrize("value", [1 / 4095, 0.5, 1e6, -1, np.nan, np.inf])
def test_floating_point_pixels_that_a_frame_cannot_hold_are_refused(dtype: str, value: float) -> None:
    tags: dict[int, Any] = {339: (SHORT, [3]), 50714: (RATIONAL, [64 / 4095]), 50717: (LONG, [1])}
    pixels = np.full((48, 64), 100.0)
    pixels[3, 5] = value
    assert "not whole" in refusal(made_dng(pixels, tags, dtype=dtype))


def test_compressed_floating_point_pixels_are_refused() -> None:
    import zlib

    data = zlib.compress(flat().astype("<f4").tobytes())
    packed = np.frombuffer(data.ljust(-len(data) % 64 + len(data), b"\0"), np.uint8).reshape(-1, 64)
    size = {256: (LONG, [64]), 257: (LONG, [48]), 258: (SHORT, [32]), 278: (LONG, [48])}
    tags = {**size, 259: (SHORT, [8]), 339: (SHORT, [3])}
    refusal(made_dng(packed, tags, dtype="u1"))


# ISO and exposure

ISO: dict[str, Any] = {
    "Exif": ({}, {34855: (SHORT, [400])}, 400),
    "Exif, long": ({}, {34855: (LONG, [102400])}, 102400),
    "first directory": ({34855: (SHORT, [400])}, {}, 400),
    "first directory beside an empty Exif": ({34855: (SHORT, [800])}, {33434: (RATIONAL, [0.01])}, 800),
    "recommended exposure index": ({}, {34855: (SHORT, [65535]), 34864: (SHORT, [2]), 34866: (LONG, [409600])}, 409600),
    "ISO speed": ({}, {34855: (SHORT, [65535]), 34864: (SHORT, [3]), 34867: (LONG, [204800])}, 204800),
    "standard output": ({}, {34855: (SHORT, [65535]), 34864: (SHORT, [1]), 34865: (LONG, [102400])}, 102400),
    "no sensitivity type": ({}, {34855: (SHORT, [65535]), 34866: (LONG, [102400])}, 102400),
    "type names one of two": ({}, {34855: (SHORT, [65535]), 34864: (SHORT, [3]), 34866: (LONG, [1]),
                                   34867: (LONG, [204800])}, 204800),
    "only the other tag": ({}, {34864: (SHORT, [2]), 34866: (LONG, [1600])}, 1600),
    "65535 in the first directory": ({34855: (SHORT, [65535]), 34866: (LONG, [102400])}, {}, 102400),
    "nowhere": ({}, {}, None),
    "zero": ({}, {34855: (SHORT, [0])}, None),
    "65535 and nothing else": ({}, {34855: (SHORT, [65535])}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", ISO)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("make", [{}, {271: (ASCII, "RICOH IMAGING")}, CANON])
def test_iso_is_the_files(name: str, order: str, make: dict[Any, Any]) -> None:
    tags, exif, iso = ISO[name]
    assert read(made_dng(flat(), {**make, **tags}, exif, order=order))[0].iso == iso


EXPOSURES: dict[str, Any] = {
    "Exif": ({}, {33434: (RATIONAL, [1 / 250])}, 0.004),
    "first directory": ({33434: (RATIONAL, [1 / 250])}, {}, 0.004),
    "APEX": ({}, {37377: (SRATIONAL, [5])}, 1 / 32),
    "long": ({}, {33434: (RATIONAL, [30])}, 30),
    "zero": ({}, {33434: (RATIONAL, [0])}, None),
    "denominator zero": ({}, {33434: (RATIONAL, struct.pack("<II", 1, 0))}, None),
    "none": ({}, {}, None),
}


@pytest.mark.parametrize("name", EXPOSURES)
@pytest.mark.parametrize("sub", [False, True])
def test_exposure_is_the_files(name: str, sub: bool) -> None:
    tags, exif, seconds = EXPOSURES[name]
    raw, _ = read(made_dng(flat(), tags, exif, sub=sub))
    assert raw.exposure_s == (None if seconds is None else pytest.approx(seconds, rel=1e-4))


# White balance and colour matrix

WARM = (0.8, -0.1, -0.1, -0.4, 1.2, 0.2, -0.1, 0.2, 0.6)


@pytest.mark.parametrize("neutral", [(0.5, 1, 2 / 3), (0.4, 0.8, 0.5), (1, 2, 1.5), (2, 1, 1)])
def test_as_shot_neutral(neutral: tuple[float, ...]) -> None:
    raw, _ = read(made_dng(flat(), {50728: (RATIONAL, neutral)}))
    np.testing.assert_allclose(np.array(raw.as_shot_wb), neutral[1] / np.array(neutral), rtol=1e-4)


def rationals(*pairs: int) -> bytes:
    return struct.pack(f"<{len(pairs)}i", *pairs)


@pytest.mark.parametrize("neutral", [(1, 0, 1, 1, 2, 3), (0, 1, 1, 1, 2, 3), (-1, 2, 1, 1, 2, 3), (1, 2, 1, 1)])
def test_an_as_shot_neutral_that_is_none_is_not_known(neutral: tuple[int, ...]) -> None:
    """LibRaw makes gains of what it finds, such as of 1 for a denominator of 0."""
    assert read(made_dng(flat(), {50728: (SRATIONAL, rationals(*neutral))}))[0].as_shot_wb is None


def test_numbers_that_are_none_in_a_dng_are_told() -> None:
    matrix = [n for v in MATRIX for n in (round(10 * v), 10)]
    matrix[1] = 0
    raw, notes = read(
        made_dng(flat(), {50728: (RATIONAL, rationals(1, 0, 1, 1, 2, 3)), 50721: (SRATIONAL, rationals(*matrix))})
    )
    assert (raw.as_shot_wb, raw.colour_matrix) == (None, None)
    assert notes["as_shot_wb"] == "as-shot white balance: the file's AsShotNeutral is none; LibRaw's is left out"
    assert notes["colour_matrix"] == "colour matrix: the file's ColorMatrix is not nine numbers; none is kept"


@pytest.mark.parametrize(("x", "y"), [(0.3457, 0.3585), (0.3127, 0.3290), (0.4476, 0.4074), (0.29, 0.30)])
@pytest.mark.parametrize("balance", [None, (2, 1, 1.5)])
def test_as_shot_white_as_xy(x: float, y: float, balance: tuple[float, ...] | None) -> None:
    tags: dict[int, Any] = {50728: None, 50729: (RATIONAL, [x, y])}
    if balance:
        tags[50727] = (RATIONAL, balance)
    raw, notes = read(made_dng(flat(), tags))
    neutral = np.array(balance or (1, 1, 1)) * (np.reshape(MATRIX, (3, 3)) @ [x / y, 1, (1 - x - y) / y])
    np.testing.assert_allclose(np.array(raw.as_shot_wb), neutral[1] / neutral, rtol=2e-4)
    assert "AsShotWhiteXY" in notes["as_shot_wb"]


def test_as_shot_white_as_xy_between_two_matrices() -> None:
    """At the two lights each matrix counts alone, between them the one passes into the other."""
    tags = {50721: (SRATIONAL, WARM), 50722: (SRATIONAL, MATRIX), 50778: (SHORT, [17]), 50779: (SHORT, [21])}
    red = []
    for x, y, matrix in ((0.4476, 0.4074, WARM), (0.3127, 0.3290, MATRIX), (0.38, 0.377, None)):
        raw, _ = read(made_dng(flat(), {**tags, 50728: None, 50729: (RATIONAL, [x, y])}))
        neutral = [np.reshape(m, (3, 3)) @ [x / y, 1, (1 - x - y) / y] for m in (WARM, MATRIX)]
        gains = [n[1] / n[0] for n in neutral]
        assert raw.as_shot_wb is not None
        if matrix is None:
            assert min(gains) < raw.as_shot_wb[0] < max(gains)
        else:
            red.append(abs(raw.as_shot_wb[0] / gains[(WARM, MATRIX).index(matrix)] - 1))
    assert max(red) < 0.01


@pytest.mark.parametrize("xy", [(0, 0), (2, 3), (0.5, 0)])
def test_a_white_point_that_is_none_is_not_known(xy: tuple[float, float]) -> None:
    assert read(made_dng(flat(), {50728: None, 50729: (RATIONAL, xy)}))[0].as_shot_wb is None


def want_matrix(cam_from_xyz: np.ndarray) -> np.ndarray:
    cam_from_srgb = cam_from_xyz @ XYZ_FROM_SRGB
    return np.linalg.inv(cam_from_srgb / cam_from_srgb.sum(axis=1, keepdims=True))


CALIBRATION = (1, 0.1, 0, 0, 1, 0, 0, 0.1, 1.1)
CALIBRATED = np.reshape(CALIBRATION, (3, 3)) @ np.reshape(MATRIX, (3, 3))
MATRICES: dict[str, Any] = {
    "one": ({}, MATRIX),
    "daylight second": ({50721: (SRATIONAL, WARM), 50722: (SRATIONAL, MATRIX), 50778: (SHORT, [17]),
                         50779: (SHORT, [21])}, MATRIX),
    "daylight first": ({50722: (SRATIONAL, WARM), 50779: (SHORT, [17])}, MATRIX),
    "D50 and tungsten": ({50721: (SRATIONAL, WARM), 50722: (SRATIONAL, MATRIX), 50778: (SHORT, [3]),
                          50779: (SHORT, [23])}, MATRIX),
    "illuminants not stated": ({50722: (SRATIONAL, WARM), 50778: None}, MATRIX),
    "three": ({50721: (SRATIONAL, WARM), 50722: (SRATIONAL, WARM), 52531: (SRATIONAL, MATRIX), 50778: (SHORT, [17]),
               50779: (SHORT, [3]), 52529: (SHORT, [21])}, MATRIX),
    "calibration": ({50723: (SRATIONAL, CALIBRATION)}, CALIBRATED),
    "calibration with an empty signature": ({50723: (SRATIONAL, CALIBRATION), 50931: (ASCII, "")}, CALIBRATED),
    "calibration for this profile, in bytes": ({50723: (SRATIONAL, CALIBRATION), 50931: (BYTE, b"maker\0"),
                                                50932: (ASCII, "maker")}, CALIBRATED),
    "calibration for another profile": ({50723: (SRATIONAL, CALIBRATION), 50931: (ASCII, "maker"),
                                         50932: (ASCII, "other")}, MATRIX),
    "analog balance": ({50727: (RATIONAL, [2, 1, 1.5])}, MATRIX),
    "a forward matrix beside it": ({50964: (SRATIONAL, [0.4, 0.3, 0.2, 0.2, 0.7, 0.1, 0.1, 0.1, 0.6])}, MATRIX),
    "white as xy": ({50728: None, 50729: (RATIONAL, [0.4476, 0.4074])}, MATRIX),
}  # fmt: skip


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("make", [{}, CANON, {271: (ASCII, "Google"), 272: (ASCII, "Pixel 6")}])
def test_the_files_own_matrix_counts(name: str, make: dict[Any, Any]) -> None:
    tags, own = MATRICES[name]
    raw, notes = read(made_dng(flat(), {**make, **tags}, sub=name == "one"))
    np.testing.assert_allclose(np.array(raw.colour_matrix), want_matrix(np.reshape(own, (3, 3))), atol=2e-3)
    if make is CANON and name == "one":
        assert "first row" in notes["colour_matrix"]


@pytest.mark.parametrize(
    "own",
    [[1 / 3] * 9, [0.5, 0.5, 0.5, 0.1, 0.9, 0.1, 0.2, 1.8, 0.2], [-v for v in MATRIX], [*MATRIX[:6], 0.1, -0.2, -0.6]],
)
def test_a_matrix_without_inverse_or_with_a_negative_white_is_none(own: list[float]) -> None:
    raw, notes = read(made_dng(flat(), {50721: (SRATIONAL, own)}))
    assert raw.colour_matrix is None
    assert "no inverse" in notes["colour_matrix"]


# What cannot be read


@pytest.mark.parametrize(
    ("code", "name"),
    [(52546, "JPEG XL"), (9, "VC-5"), (5, "LZW"), (60000, "unknown"), (32773, "PackBits"), (8, "deflate")],
)
@pytest.mark.parametrize("sub", [False, True])
def test_a_compression_that_libraw_cannot_read_is_named(code: int, name: str, sub: bool) -> None:
    text = refusal(made_dng(flat(), {259: (SHORT, [code])}, sub=sub))
    assert name in text
    assert f"compression {code}" in text
    assert "copy it again" not in text


def test_pixels_of_more_bits_than_libraw_reads_are_named() -> None:
    assert "its pixels have 32 bits, which LibRaw" in refusal(made_dng(flat(), dtype="u4"))


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("sub", [False, True])
def test_a_file_cut_short_is_said_to_be(keep: float, sub: bool) -> None:
    data = made_dng(flat(), {}, {34855: (SHORT, [400])}, sub=sub)
    assert "copy it again" in refusal(data[: int(keep * len(data))])


def test_pixels_beyond_the_files_end() -> None:
    assert "end at byte" in refusal(made_dng(flat(), {273: (LONG, [4000])}))


def test_lossless_jpeg_that_is_zeros() -> None:
    assert "does not begin as the JPEG" in refusal(made_dng(np.zeros((48, 64)), {259: (SHORT, [7])}))


def strips(gap: int, height: int = 48) -> bytes:
    """A DNG in strips of 16 rows with ``gap`` rows of something else between them."""
    pixels = flat(FOUR)
    parts = [np.concatenate([pixels[y : y + 16], np.full((gap, 64), 9)]) for y in range(0, height, 16)]
    offsets = [8 + i * (16 + gap) * 128 for i in range(height // 16)]
    tags = {257: (LONG, [height]), 273: (LONG, offsets), 278: (LONG, [16]), 279: (LONG, [16 * 128] * len(offsets))}
    levels = {50713: (SHORT, [2, 2]), 50714: (SHORT, [10, 20, 30, 40])}
    return made_dng(np.concatenate(parts), {**tags, **levels})


def test_strips_are_read_where_libraw_looks_for_them_or_refused() -> None:
    assert light(read(strips(0))[0]) == [400, 800, 800, 200]
    for gap in (1, 2, 16):
        assert "strips of pixels do not follow each other" in refusal(strips(gap))


def test_tiles_are_read_where_they_are() -> None:
    pixels = flat(FOUR) + np.arange(64)[None] + 64 * np.arange(48)[:, None] // 16
    tiles = pixels.reshape(3, 16, 4, 16).transpose(0, 2, 1, 3).reshape(48, 64)
    tags = {256: (LONG, [64]), 257: (LONG, [48]), 273: None, 278: None, 279: None, 322: (LONG, [16]), 323: (LONG, [16]),
            324: (LONG, [8 + i * 512 for i in range(12)]), 325: (LONG, [512] * 12)}  # fmt: skip
    np.testing.assert_array_equal(read(made_dng(tiles, tags))[0].mosaic, np.floor(pixels))


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_packed_pixels_are_read_bit_by_bit(bits: int) -> None:
    pixels = np.arange(48 * 64).reshape(48, 64) % (1 << bits)
    rows = (pixels[:, :, None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8).reshape(48, -1)
    tags = {256: (LONG, [64]), 258: (SHORT, [bits]), 50714: (SHORT, [0]), 50717: (LONG, [(1 << bits) - 1])}
    raw, _ = read(made_dng(np.packbits(rows, axis=1), tags, dtype="u1"))
    np.testing.assert_array_equal(raw.mosaic, pixels)
    assert raw.white_level == (1 << bits) - 1


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([258, 259, 274, 330, 339, 33421, 33422, 34665, *range(50710, 50733), 50778, 50829, 50931]),
        st.one_of(
            st.tuples(st.sampled_from([BYTE, SHORT, LONG]), st.lists(st.integers(0, 255), min_size=1, max_size=20)),
            st.tuples(
                st.sampled_from([FLOAT, DOUBLE]),
                st.lists(st.floats(width=32, allow_subnormal=False), min_size=1, max_size=16),
            ),
            st.tuples(st.sampled_from([RATIONAL, SRATIONAL]), st.binary(min_size=8, max_size=72)),
        ).filter(lambda e: not isinstance(e[1], bytes) or len(e[1]) % 8 == 0),
        max_size=4,
    ),
    st.booleans(),
)
def test_any_tags_make_a_frame_or_one_line(tags: dict[Any, Any], sub: bool) -> None:
    notes: list[RawNote] = []
    try:
        raw = load_camera_file(io.BytesIO(made_dng(flat(), tags, sub=sub)), "x.dng", notes)
    except FrameError as error:
        assert str(error).startswith("x.dng: ")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert len(raw.hash) == 64
    assert all("\n" not in line for line in told_once(("x.dng", n) for n in notes))


# Notes


def test_notes_are_told_once_a_kind() -> None:
    notes = [("a", RawNote("iso", "ISO: 1")), ("b", RawNote("iso", "ISO: 2")), ("c\x1b", RawNote("wb", "gains"))]
    assert told_once(notes) == ["a: ISO: 1 (and the like in 1 other RAW)", "c\\x1b: gains"]


# Real files, against a reading by hand


def by_hand(path: Path) -> dict[int, list[float]]:
    """Tags of a TIFF's first directory, of its sub-directories and of its Exif directory, first come first kept."""
    data = path.read_bytes()
    order = "<" if data[:2] == b"II" else ">"
    found: dict[int, list[float]] = {}
    waiting = [struct.unpack_from(order + "I", data, 4)[0]]
    letters = {1: "B", 3: "H", 4: "I", 5: "II", 9: "i", 10: "ii"}
    while waiting:
        at = waiting.pop(0)
        for i in range(struct.unpack_from(order + "H", data, at)[0]):
            tag, kind, count, offset = struct.unpack_from(order + "HHII", data, at + 2 + 12 * i)
            if kind not in letters:
                continue
            size = struct.calcsize(order + letters[kind]) * count
            start = offset if size > 4 else at + 2 + 12 * i + 8
            values = list(struct.unpack_from(order + letters[kind] * count, data, start))
            if kind in (5, 10):
                values = [n / d if d else 0 for n, d in zip(values[::2], values[1::2], strict=True)]
            found.setdefault(tag, values)
            if tag in (330, 34665):
                waiting += values
    return found


TIFFS = ("kodak_DC120_P003908.KDC", "kodak_DC120_P003909.KDC", "kodak_DC50_DC0012L.KDC", "nikon_d1_hsexif.NEF",
         "tinydng_colorchart.dng")  # fmt: skip
CRWS = ("canon_powershot_g2_CRW_0304", "canon_powershot_g2_CRW_0305", "canon_powershot_s40_CRW_0101",
        "canon_powershot_s40_CRW_0104", "canon_powershot_s40_CRW_0112", "canon_powershot_s40_CRW_0117")  # fmt: skip


@pytest.mark.needs_data
def test_every_real_file_is_among_those_compared(data_dir: Path) -> None:
    files = {p.name for p in (data_dir / "raw" / "camera").iterdir() if is_raw_file(p)}
    assert files <= {*TIFFS, *(f"{name}.CRW" for name in CRWS)}


@pytest.mark.needs_data
@pytest.mark.parametrize("name", TIFFS)
@pytest.mark.parametrize("zeros", [True, False])
def test_a_real_file_that_was_broken_off_is_refused(data_dir: Path, tmp_path: Path, name: str, zeros: bool) -> None:
    """The rest missing, or zeros because the space for it was set aside."""
    data = (data_dir / "raw" / "camera" / name).read_bytes()
    kept = data[: len(data) * 6 // 10]
    (tmp_path / name).write_bytes(kept + bytes(len(data) - len(kept)) * zeros)
    with pytest.raises(FrameError, match="copy it again"):
        load_raw(tmp_path / name)


@pytest.mark.needs_data
@pytest.mark.parametrize("name", TIFFS)
def test_real_files_say_what_a_reading_by_hand_says(data_dir: Path, name: str) -> None:
    path = data_dir / "raw" / "camera" / name
    raw, tags = load_raw(path), by_hand(path)
    assert raw.exposure_s == (pytest.approx(tags[33434][0], rel=1e-4) if tags[33434][0] else None)
    if tags.get(34855, [0])[0]:
        assert raw.iso == tags[34855][0]
    assert raw.orientation == tags.get(274, [1])[0]
    if 50706 in tags:
        assert raw.black_level == (tags[50714][0],) * 4
        assert raw.white_level == tags[50717][0]
        assert raw.cfa == "".join("RGB"[int(v)] for v in tags[33422])
        np.testing.assert_allclose(np.array(raw.as_shot_wb), tags[50728][1] / np.array(tags[50728]), rtol=1e-5)
        np.testing.assert_allclose(np.array(raw.colour_matrix), want_matrix(np.reshape(tags[50721], (3, 3))), atol=1e-3)
        top, left, bottom, right = map(int, tags[50829])
        assert (raw.height, raw.width) == (bottom - top, right - left)
        stored = np.frombuffer(path.read_bytes()[int(tags[273][0]) :][: int(tags[279][0])], np.uint8)
        bits = np.unpackbits(stored).reshape(int(tags[257][0]), int(tags[256][0]), 14)
        pixels = bits.astype(np.int64) @ (1 << np.arange(13, -1, -1))
        np.testing.assert_array_equal(raw.mosaic, pixels[top:bottom, left:right])


@pytest.mark.needs_data
@pytest.mark.parametrize("name", CRWS)
def test_real_files_that_are_no_tiff_agree_with_the_thumbnail_beside_them(data_dir: Path, name: str) -> None:
    from PIL import Image

    raw = load_raw(data_dir / "raw" / "camera" / f"{name}.CRW")
    with Image.open(data_dir / "raw" / "camera" / f"{name}.THM") as thumbnail:
        exif = thumbnail.getexif()
    assert raw.exposure_s == pytest.approx(float(exif.get_ifd(34665)[33434]), rel=0.02)
    assert raw.orientation == exif.get(274, 1)
    assert (raw.iso, raw.white_level, raw.cfa, raw.black_level) == (50, 1023, "RGGB", (32,) * 4)


@pytest.mark.parametrize("flag", [0, 9, 16, 65535])
@pytest.mark.parametrize("sub", [False, True])
def test_an_orientation_flag_that_means_nothing_is_upright(flag: int, sub: bool) -> None:
    """0 is what some programs write for "unknown"; LibRaw takes it for a quarter turn."""
    raw, _ = read(made_dng(flat(), {274: (SHORT, [flag])}, sub=sub))
    assert raw.orientation == 1


@pytest.mark.parametrize(
    ("levels", "lowest"), [([4095, 4000, 4000, 3900], 3900), ([3000, 4095], 3000), ([4095, 3500, 4095], 3500)]
)
def test_of_several_white_levels_the_lowest_is_taken_and_said(levels: list[int], lowest: int) -> None:
    raw, notes = read(made_dng(flat(), {50717: (SHORT, levels)}))
    assert raw.white_level == lowest
    assert "the lowest is taken" in notes["white_levels"]
    assert "white_levels" not in read(made_dng(flat(), {50717: (SHORT, [4095] * len(levels))}))[1]


@pytest.mark.parametrize("tag", [50715, 50716])
@pytest.mark.parametrize("count", [1, 20, 47])
def test_black_deltas_that_do_not_fit_the_picture_are_refused(tag: int, count: int) -> None:
    assert "cannot be understood" in refusal(made_dng(flat(), {tag: (SRATIONAL, [4] * count)}))


@pytest.mark.parametrize("area", [(0, 0, 99, 99), (40, 40, 4, 4), (4, 4, 4, 4), (0, 0, 48), (0, 0, 48, 65)])
@pytest.mark.parametrize("sub", [False, True])
def test_an_active_area_that_is_no_part_of_the_picture_is_named(area: tuple[int, ...], sub: bool) -> None:
    assert "ActiveArea" in refusal(made_dng(flat(), {50829: (LONG, area)}, sub=sub))


@pytest.mark.parametrize("kind", [SHORT, LONG, RATIONAL])
def test_an_active_area_that_libraw_takes_for_another_is_refused(kind: int) -> None:
    data = made_dng(flat(), {50829: (kind, [0, 0, 46, 62])})
    if kind == RATIONAL:
        assert "outside of its ActiveArea" in refusal(data)
    else:
        assert read(data)[0].mosaic.shape == (46, 62)


def test_a_name_reaches_libraw_only_where_it_can_be_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """LibRaw prints a file's name on stderr where the file ends too early."""
    data = made_dng(flat(), {277: (SHORT, [2])})
    for name in ("a\x1b[31m.dng", "a\x9b31m.dng", "a\u202e.dng"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FrameError):
            load_raw(tmp_path / name)
    printed = capfd.readouterr().err
    assert not any(sign in printed for sign in ("\x1b", "\x9b", "\u202e"))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_several_mosaics_in_one_file_are_told(times: int) -> None:
    raw, notes = read(made_dng(flat(), sub=True, times=times))
    assert light(raw) == pytest.approx([400, 800, 800, 200])
    told = {1: None, 2: "it holds 2 mosaics of one size", 3: "it holds 3 mosaics of one size"}[times]
    assert notes.get("several_mosaics", "").startswith(told or "")
    assert ("several_mosaics" in notes) is (told is not None)
