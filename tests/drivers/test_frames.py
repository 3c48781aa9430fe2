from __future__ import annotations

import dataclasses
import gc
import json
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.cfa import CFA_PATTERNS
from drivers.errors import FrameError
from drivers.frames import RawFrame, RgbFrame


def frame(**changes: Any) -> RawFrame:
    mosaic = np.arange(24, dtype=np.uint16).reshape(4, 6) + 64
    fields = {
        "mosaic": mosaic,
        "cfa": "RGGB",
        "black_level": (64.0, 64.0, 64.0, 64.0),
        "white_level": 1023,
        "iso": 100.0,
        "exposure_s": 0.01,
        "as_shot_wb": (2.0, 1.0, 1.5),
        "colour_matrix": ((1.5, -0.5, 0.0), (-0.25, 1.5, -0.25), (0.0, -0.5, 1.5)),
    }
    return RawFrame(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mosaic": np.zeros((4, 6), np.int32)}, "uint16 [H, W], not int32 [4, 6]"),
        ({"mosaic": np.zeros((4, 6, 3), np.uint16)}, "uint16 [H, W]"),
        ({"mosaic": [[1, 2], [3, 4]]}, "not list"),
        ({"mosaic": np.zeros((3, 6), np.uint16)}, "size 6×3 must be even"),
        ({"mosaic": np.zeros((4, 0), np.uint16)}, "size 0×4"),
        ({"mosaic": np.zeros((2, 32770), np.uint16)}, "within 2..32768"),
        ({"cfa": "RGBG"}, "not one of RGGB"),
        ({"black_level": (64.0,)}, "4 values"),
        ({"black_level": (64.0, 64.0, 64.0, 1023.0)}, "below white level"),
        ({"black_level": (-1.0, 0.0, 0.0, 0.0)}, "below white level"),
        ({"white_level": 65536}, "65535"),
        ({"iso": float("nan")}, "finite, positive"),
        ({"iso": 0.0}, "finite, positive"),
        ({"exposure_s": -0.1}, "finite, positive"),
        ({"as_shot_wb": (2.0, 0.0, 1.0)}, "finite, positive"),
        ({"as_shot_wb": (2.0, 1.0)}, "3 gains"),
        ({"colour_matrix": ((1.0, 0.0), (0.0, 1.0))}, "3×3"),
        ({"colour_matrix": ((1.0, 0.0, float("inf")), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))}, "finite"),
    ],
)
def test_bad_frames_are_refused(changes: dict[Any, Any], message: str) -> None:
    with pytest.raises(FrameError) as caught:
        frame(**changes, source="x.npz")
    assert str(caught.value).startswith("x.npz: ")
    assert message in str(caught.value)


def test_hash_changes_with_pixels_and_metadata_but_not_with_source() -> None:
    base = frame()
    assert frame(source="elsewhere").hash == base.hash
    pixels = base.mosaic.copy()
    pixels[3, 5] += 1
    others: list[Any] = [
        {"mosaic": pixels},
        {"mosaic": base.mosaic.reshape(6, 4)},
        {"cfa": "BGGR"},
        {"black_level": (64.0, 64.0, 64.0, 63.0)},
        {"white_level": 1022},
        {"iso": 101.0},
        {"iso": None},
        {"exposure_s": None},
        {"as_shot_wb": None},
        {"colour_matrix": None},
    ]
    hashes = {base.hash, *(frame(**o).hash for o in others)}
    assert len(hashes) == 1 + len(others)


def test_hash_does_not_depend_on_memory_layout() -> None:
    base = frame()
    assert frame(mosaic=np.asfortranarray(base.mosaic)).hash == base.hash
    wide = np.zeros((4, 12), np.uint16)
    wide[:, ::2] = base.mosaic
    assert frame(mosaic=wide[:, ::2]).hash == base.hash


def test_mosaic_is_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        frame().mosaic[0, 0] = 1


@pytest.mark.parametrize("cfa", CFA_PATTERNS)
def test_planes_give_the_same_colours_for_every_cfa_order(cfa: str) -> None:
    colours = {"R": 0.75, "B": 0.25}
    greens = iter((0.5, 0.625))
    black = (64.0, 65.0, 66.0, 67.0)
    values = [colours[c] if c in colours else next(greens) for c in cfa]
    block = [round(b + v * (1023 - b)) for b, v in zip(black, values, strict=True)]
    mosaic = np.tile(np.array(block, np.uint16).reshape(2, 2), (3, 4))
    planes = frame(mosaic=mosaic, cfa=cfa, black_level=black).planes()
    assert planes.shape == (3, 3, 4)
    assert planes.dtype == np.float32
    np.testing.assert_allclose(planes[:, 1, 2], [0.75, 0.5625, 0.25], atol=1e-3)


def test_planes_keep_noise_below_black_and_white_is_one() -> None:
    mosaic = np.full((2, 2), 1023, np.uint16)
    mosaic[0, 0] = 60
    planes = frame(mosaic=mosaic).planes()
    assert planes[0, 0, 0] < 0
    assert planes[1:, 0, 0].tolist() == [1, 1]


@pytest.mark.parametrize("cfa", ["RGGB", "RRGGRRGGGGBBGGBB"])
@pytest.mark.parametrize("earlier", [0, 2])
def test_a_frame_that_is_let_go_leaves_memory_at_once(cfa: str, earlier: int) -> None:
    mosaic = np.zeros((8, 8), np.uint16)
    raw = RawFrame(mosaic, cfa, (0, 0, 0, 0), 1, earlier=np.zeros((earlier, 8, 8), np.uint16) if earlier else None)
    assert (raw.single is raw) is (not earlier)
    assert raw.single is raw.single
    assert raw.bayer is raw.bayer
    assert raw.planes().shape == (3, 4, 4)
    left = weakref.ref(raw)
    gc.disable()  # else circles are looked for whenever enough else was made
    try:
        del raw
        assert left() is None
    finally:
        gc.enable()


def test_metadata_round_trip_through_json() -> None:
    base = frame()
    again = RawFrame.from_metadata(base.mosaic, json.loads(json.dumps(base.metadata)), source="y")
    assert again.hash == base.hash
    bare = frame(iso=None, exposure_s=None, as_shot_wb=None, colour_matrix=None)
    assert RawFrame.from_metadata(bare.mosaic, bare.metadata).hash == bare.hash


@pytest.mark.parametrize(
    "change",
    [{"width": 4}, {"cfa": None}, {"cfa": ["R"]}, {"black_level": 64}, {"black_level": ["a"] * 4}, {"white_level": "x"},
     {"white_level": float("inf")}, {"iso": "fast"}, {"as_shot_wb": [1, 2]}, {"colour_matrix": [1, 2, 3]}],
)  # fmt: skip
def test_bad_metadata_is_refused(change: dict[Any, Any]) -> None:
    base = frame()
    with pytest.raises(FrameError, match="wire"):
        RawFrame.from_metadata(base.mosaic, {**base.metadata, **change}, source="wire")


@pytest.mark.parametrize("missing", ["cfa", "black_level", "white_level"])
def test_missing_metadata_is_refused(missing: str) -> None:
    base = frame()
    with pytest.raises(FrameError, match=missing):
        RawFrame.from_metadata(base.mosaic, {k: v for k, v in base.metadata.items() if k != missing})
    with pytest.raises(FrameError, match="not a table"):
        RawFrame.from_metadata(base.mosaic, [])  # type: ignore[arg-type]
    with pytest.raises(FrameError, match=r"\?×5"):
        RawFrame.from_metadata(base.mosaic, {**{k: v for k, v in base.metadata.items() if k != "width"}, "height": 5})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(["cfa", "black_level", "white_level", "iso", "exposure_s", "as_shot_wb", "colour_matrix"]),
    json_values,
)
def test_any_metadata_makes_a_frame_or_a_frame_error(key: str, value: Any) -> None:
    base = frame()
    try:
        made = RawFrame.from_metadata(base.mosaic, {**base.metadata, key: value})
    except FrameError:
        return
    assert len(made.hash) == 64
    assert np.isfinite(made.planes()).all()


def test_frames_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame().iso = 1.0  # type: ignore[misc]


def test_rgb_from_pixels_is_lossless() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    rgb = RgbFrame.from_pixels(pixels)
    assert rgb.media_type == "image/png"
    np.testing.assert_array_equal(rgb.pixels, pixels)
    assert RgbFrame(rgb.encoded, "image/png").hash == rgb.hash
    assert RgbFrame.from_pixels(pixels[::-1].copy()).hash != rgb.hash


@pytest.mark.parametrize("encoded", [b"", b"not an image", b"\xff\xd8\xff\xe0" + bytes(50)])
def test_rgb_that_does_not_decode(encoded: bytes) -> None:
    with pytest.raises(FrameError, match=f"{len(encoded)} bytes"):
        _ = RgbFrame(encoded).pixels


@pytest.mark.parametrize("pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_rgb_of_another_shape_or_type(pixels: np.ndarray) -> None:
    with pytest.raises(FrameError, match="uint8"):
        RgbFrame.from_pixels(pixels)
