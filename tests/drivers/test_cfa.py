"""Mosaics of every CFA: what networks see of them, in files and on the wire, against a reading pixel by pixel."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.agent import RawInput
from drivers.cfa import KINDS, tile_side
from drivers.device import FrameFailedError
from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.packing import BITS, PACKINGS, Packing, pack
from drivers.protocol import wire
from drivers.raw.raw_files import load_raw, save_npz
from drivers.registry import open_device

MAY_BE = {"R": "RM", "G": "GCM", "B": "BM"}  # what may stand for a colour


def letter(cfa: str, y: int, x: int) -> str:
    """The filter over a pixel."""
    side = {1: 1, 4: 2, 16: 4}[len(cfa)]
    return cfa[y % side * side + x % side]


def level(raw: RawFrame, y: int, x: int) -> float:
    """A pixel's black level."""
    place = (y // 2, x // 2) if raw.cfa_kind == "quad" else (y, x)
    return raw.black_level[place[0] % 2 * 2 + place[1] % 2]


@st.composite
def raws(draw: st.DrawFn) -> RawFrame:
    cfa = draw(st.sampled_from(sorted(KINDS)))
    height, width = (4 * draw(st.integers(1, 3)) for _ in range(2))
    numbers = np.random.default_rng(draw(st.integers(0, 99))).permutation(900)[: height * width]
    return RawFrame(100 + numbers.reshape(height, width).astype(np.uint16), cfa, (7.0, 20.0, 33.0, 64.0), 1023)


def test_there_are_patterns_of_every_kind() -> None:
    kinds = list(KINDS.values())
    assert {kind: kinds.count(kind) for kind in kinds} == {"bayer": 4, "mono": 1, "quad": 4, "rgb-ir": 16, "rccb": 4}
    assert set(KINDS) >= {"RRGGRRGGGGBBGGBB", "RGIB", "BGRGGIGIRGBGGIGI", "RCCB"}


@settings(max_examples=60, deadline=None)
@given(raws())
def test_the_bayer_form_has_pixels_of_its_colours_from_nearby(raw: RawFrame) -> None:
    seen = raw.bayer
    assert (seen.cfa_kind, seen.mosaic.shape, seen.white_level) == ("bayer", raw.mosaic.shape, 1023)
    side = tile_side(raw.cfa)
    for y, x in np.ndindex(raw.height, raw.width):
        ((j, i),) = np.argwhere(raw.mosaic == seen.mosaic[y, x]).tolist()
        assert (j // side, i // side) == (y // side, x // side)
        assert letter(raw.cfa, j, i) in MAY_BE[letter(seen.cfa, y, x)]
        assert level(seen, y, x) == level(raw, j, i)


@settings(max_examples=60, deadline=None)
@given(raws())
def test_planes_are_the_means_of_each_colour_in_a_tile(raw: RawFrame) -> None:
    planes = raw.planes()
    assert planes.shape == (3, raw.height // 2, raw.width // 2)
    values: dict[str, list[float]] = {"R": [], "G": [], "B": []}
    for y, x in np.ndindex(4, 4):
        share = (float(raw.mosaic[y, x]) - level(raw, y, x)) / (1023 - level(raw, y, x))
        filtered = letter("RGGB" if raw.cfa_kind == "mono" else raw.cfa, y, x)
        for colour, letters in MAY_BE.items():
            if filtered in letters:
                values[colour].append(share)
    means = planes[:, :2, :2].mean(axis=(1, 2))
    np.testing.assert_allclose(means, [np.mean(values[colour]) for colour in "RGB"], atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(raws(), st.sampled_from(PACKINGS), st.sampled_from([2, 32]))
def test_files_and_the_wire_keep_it(raw: RawFrame, packing: Packing, row_multiple: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_npz(Path(folder) / "a.npz", raw)
        assert load_raw(Path(folder) / "a.npz").hash == raw.hash
        (Path(folder) / "a.raw").write_bytes(pack(raw.mosaic, packing).tobytes())
        words = {
            **{"width": raw.width, "height": raw.height, "container": packing, "cfa": raw.cfa, "white_level": 1023},
            **{"bits": BITS[packing], "endianness": "little", "black_level": list(raw.black_level)},
        }
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in words.items())
        (Path(folder) / "a.raw.toml").write_text(text, encoding="utf-8")
        assert load_raw(Path(folder) / "a.raw").hash == raw.hash
    taken = RawInput(packing, row_multiple, tuple(KINDS))
    request = wire.decode(wire.encode(wire.process_request(7, raw, (), taken)))
    assert isinstance(request, wire.Process)
    arrived = wire.raw_frame(request, taken)
    assert (arrived.cfa, arrived.cfa_kind, arrived.hash) == (raw.cfa, raw.cfa_kind, raw.hash)


def test_what_is_no_pattern_or_no_whole_tile_is_one_line() -> None:
    pixels = np.zeros((6, 8), np.uint16)
    with pytest.raises(FrameError, match="CFA pattern 'RGBX' is not one of RGGB, BGGR, GRBG, GBRG, M, or a tile of"):
        RawFrame(pixels, "RGBX", (0.0,) * 4, 1023)
    with pytest.raises(FrameError, match="size 8×6 must be multiples of 4, the tile of CFA RRGGRRGGGGBBGGBB"):
        RawFrame(pixels, "RRGGRRGGGGBBGGBB", (0.0,) * 4, 1023)


def test_a_device_that_says_nothing_takes_bayer_alone() -> None:
    raw = RawFrame(np.zeros((8, 8), np.uint16), "RCCB", (0.0,) * 4, 1023, source="clear.npz")
    assert RawInput().refusal(raw) == "its CFA is RCCB, the device takes RGGB, BGGR, GRBG, GBRG"
    with open_device("sim:sim20") as device:
        with pytest.raises(FrameFailedError) as caught:
            device.process(raw, device.info().space.defaults)
        text = str(caught.value)
        assert "clear.npz" in text
        assert "does not take the RAW: its CFA is RCCB, the device takes RGGB, BGGR" in text
        assert "\n" not in text
