"""Packed pixels, row padding and companding, in files and on the wire, against a reading bit by bit."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drivers.agent import Agent, RawInput, continuous
from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.packing import BITS, PACKINGS, Packing, pack, row_bytes, unpack
from drivers.protocol import wire
from drivers.raw.headerless import load_headerless
from drivers.raw.raw_files import load_raw
from drivers.raw.raw_notes import RawNote


def one_by_one(row: bytes, packing: str, width: int) -> list[int]:
    """MIPI CSI-2's tables of bytes, pixel by pixel, as they stand in V4L2's documentation."""
    pixels: list[int] = []
    while len(pixels) < width:
        if packing == "u16":
            pixels.append(row[0] + 256 * row[1])
            row = row[2:]
        elif packing == "raw10":
            pixels += [4 * row[i] + (row[4] // 4**i) % 4 for i in range(4)]
            row = row[5:]
        elif packing == "raw12":
            pixels += [16 * row[0] + row[2] % 16, 16 * row[1] + row[2] // 16]
            row = row[3:]
        else:
            a, b, c = row[4:7]
            low = [a % 64, a // 64 + 4 * (b % 16), b // 16 + 16 * (c % 4), c // 4]
            pixels += [64 * row[i] + low[i] for i in range(4)]
            row = row[7:]
    return pixels[:width]


@st.composite
def mosaics(draw: st.DrawFn) -> tuple[np.ndarray, Packing]:
    packing = draw(st.sampled_from(PACKINGS))
    height, width = draw(st.sampled_from([2, 4, 6])), 2 * draw(st.integers(2, 9))
    return draw(arrays(np.uint16, (height, width), elements=st.integers(0, 2 ** BITS[packing] - 1))), packing


@settings(max_examples=60, deadline=None)
@given(mosaics())
def test_what_is_packed_is_read_bit_by_bit_and_back(made: tuple[np.ndarray, Packing]) -> None:
    mosaic, packing = made
    rows = pack(mosaic, packing)
    assert rows.shape == (mosaic.shape[0], row_bytes(packing, mosaic.shape[1]))
    assert [one_by_one(bytes(row), packing, mosaic.shape[1]) for row in rows] == mosaic.tolist()
    np.testing.assert_array_equal(unpack(rows, packing, mosaic.shape[1]), mosaic)


def test_the_example_of_the_protocol() -> None:
    assert pack(np.array([[1023, 512, 3, 0]], np.uint16), "raw10").tobytes().hex(" ") == "ff 80 00 00 33"


# ---- on the wire -----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(mosaics(), st.sampled_from([1, 2, 16, 64]))
def test_a_raw_crosses_the_wire_packed_and_padded(made: tuple[np.ndarray, Packing], multiple: int) -> None:
    mosaic, packing = made
    raw_input = RawInput(packing, multiple)
    raw = RawFrame(mosaic, "RGGB", (0.0,) * 4, 2 ** BITS[packing] - 1)
    request = wire.process_request(1, raw, (), raw_input)
    stride = len(request.payload) // raw.height
    assert stride == raw_input.stride(raw.width)
    assert stride % multiple == 0
    assert stride - row_bytes(packing, raw.width) < multiple
    rows = [bytes(request.payload[y * stride : (y + 1) * stride]) for y in range(raw.height)]
    assert [one_by_one(row, packing, raw.width) for row in rows] == mosaic.tolist()
    received = wire.raw_frame(request, raw_input)
    assert received.hash == raw.hash
    assert (request.raw_hash == raw.hash) == (packing == "u16" and stride == 2 * raw.width)


SPACE = [continuous("gain", 1, 2, step=1 / 16)]
RAW = RawFrame(np.arange(24, dtype=np.uint16).reshape(4, 6) * 40, "GRBG", (1.0, 2.0, 3.0, 4.0), 1023, iso=200.0)


def device(raw_input: RawInput | None = None) -> Any:
    agent = Agent(model="packed", firmware="1", parameters=SPACE, raw_input=raw_input)

    @agent.process
    def process(mosaic: np.ndarray, metadata: Any, values: Any) -> np.ndarray:
        return np.repeat((mosaic >> 2).astype(np.uint8)[:, :, None], 3, 2)

    return agent.device()


def test_info_tells_only_what_is_not_usual() -> None:
    plain, packed = device().handle(wire.Hello(1)), device(RawInput("raw12", 64)).handle(wire.Hello(1, wire.LATEST))
    assert b"input" not in bytes(wire.encode(plain)[0])
    told = wire.decode(wire.encode(packed))
    assert isinstance(told, wire.Info)
    assert told.input == RawInput("raw12", 64)


def test_a_client_of_version_1_is_refused_where_raws_travel_otherwise() -> None:
    answer = device(RawInput("raw12", 64)).handle(wire.Hello(1))
    assert isinstance(answer, wire.Error)
    assert (answer.id, answer.code) == (1, "version")
    assert "needs version 2" in answer.text


@pytest.mark.parametrize("raw_input", [RawInput("raw10"), RawInput("raw14", 16), RawInput("u16", 32)])
def test_a_device_gets_the_mosaic_and_names_the_raw_as_it_travelled(raw_input: RawInput) -> None:
    request = wire.process_request(1, RAW, (), raw_input)
    answer = device(raw_input).handle(request)
    assert isinstance(answer, wire.Frame), answer
    assert answer.raw_hash == request.raw_hash != RAW.hash
    plain = device().handle(wire.process_request(1, RAW, ()))
    assert isinstance(plain, wire.Frame)
    assert answer.output_hash == plain.output_hash


def test_a_raw_in_another_form_and_one_of_too_many_bits_are_refused() -> None:
    packed = device(RawInput("raw10"))
    answer = packed.handle(wire.process_request(1, RAW, ()))
    assert isinstance(answer, wire.Error)
    assert (answer.code, "6×4 mosaic, raw10, 10 bytes a row" in answer.text) == ("bad_raw", True)
    deep = RawFrame(RAW.mosaic, "RGGB", (0.0,) * 4, 4095)
    assert RawInput("raw10").refusal(deep) == "it has values up to 4095, the device takes 10 bits, up to 1023"
    assert RawInput("raw12").refusal(deep) is None


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ([], "input [] is not a map"),
        ({"packing": "raw11"}, "packing 'raw11' is not one of u16, raw10"),
        ({"packing": 12}, "packing 12"),
        ({"row_multiple": 0}, "row_multiple 0 is not a whole number in 1..4096"),
        ({"row_multiple": 3}, "row_multiple 3 is odd"),
        ({"row_multiple": True}, "row_multiple True"),
        ({"cfa": "RGGB"}, "cfa 'RGGB' is not one or more of RGGB, BGGR"),
        ({"cfa": []}, "cfa () is not one or more"),
        ({"cfa": [{}]}, "is not one or more"),
        ({"bits": 0}, "bits 0 is not a whole number in 1..16"),
        ({"max_size": 64}, "max_size 64 is not two whole numbers"),
        ({"min_size": [2, True]}, "min_size (2, True) is not two whole numbers"),
        ({"multiple": [2, 3]}, "multiple (2, 3) is not even"),
        ({"max_size": [40000, 2]}, "is not even and within 2..32768"),
        ({"min_size": [66, 2], "max_size": [94, 2], "multiple": [32, 2]}, "no multiple of 32 lies within 66..94"),
    ],
)
def test_an_odd_input_of_info_is_one_line(told: Any, text: str) -> None:
    import msgpack

    (part,) = wire.encode(device().handle(wire.Hello(1)))
    with pytest.raises(wire.MessageError) as caught:
        wire.decode([msgpack.packb({**msgpack.unpackb(part), "input": told})])
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_of_input_that_are_not_known_are_ignored() -> None:
    import msgpack

    (part,) = wire.encode(device().handle(wire.Hello(1)))
    told = wire.decode([msgpack.packb({**msgpack.unpackb(part), "input": {"later": 1, "packing": "raw12"}})])
    assert isinstance(told, wire.Info)
    assert told.input == RawInput("raw12")


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (RawInput(), None),
        (RawInput(cfa=("GRBG",), bits=10, min_size=(6, 4), max_size=(6, 4), multiple=(6, 4)), None),
        (RawInput(cfa=("RGGB", "BGGR")), "its CFA is GRBG, the device takes RGGB, BGGR"),
        (RawInput(bits=9), "it has values up to 1023, the device takes 9 bits, up to 511"),
        (RawInput(min_size=(8, 2)), "it has 6×4 pixels, the device takes 8×2 at least"),
        (RawInput(max_size=(8, 2)), "it has 6×4 pixels, the device takes 8×2 at most"),
        (
            RawInput(multiple=(4, 2)),
            "it has 6×4 pixels, the device takes widths that are multiples of 4 and heights of 2",
        ),
    ],
)
def test_which_raws_are_taken(told: RawInput, reason: str | None) -> None:
    assert told.refusal(RAW) == reason
    answer = device(told).handle(wire.process_request(1, RAW, (), told))
    assert isinstance(answer, wire.Frame if reason is None else wire.Error)
    if isinstance(answer, wire.Error):
        assert (answer.code, answer.text) == ("bad_raw", f"the RAW is not taken: {reason}")
    info = wire.decode(wire.encode(device(told).handle(wire.Hello(1, wire.LATEST))))
    assert isinstance(info, wire.Info)
    assert info.input == told


# ---- in headerless files ---------------------------------------------------------------------------------------------


def written(path: Path, data: bytes, **keys: Any) -> Path:
    path.write_bytes(data)
    lines = [f"{k} = {json.dumps(v)}" for k, v in keys.items() if v is not None]
    path.with_name(path.name + ".toml").write_text("\n".join(lines), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(FrameError) as caught:
        load_raw(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def keys(mosaic: np.ndarray, bits: int, **changes: Any) -> dict[str, Any]:
    height, width = mosaic.shape
    white = (1 << bits) - 1
    given = {"width": width, "height": height, "bits": bits, "cfa": "RGGB", "black_level": 0, "white_level": white}
    return {**given, **changes}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mosaics(), st.integers(0, 9), st.sampled_from([0, 7]))
def test_packed_files_with_padded_rows(
    tmp_path: Path, made: tuple[np.ndarray, Packing], padding: int, offset: int
) -> None:
    mosaic, packing = made
    rows = pack(mosaic, packing)
    if packing == "u16":
        padding = 2 * padding
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xA5)
    told = keys(mosaic, BITS[packing], container=packing, stride=padded.shape[1], offset=offset)
    path = written(tmp_path / "a.raw", bytes(offset) + padded.tobytes(), **told, endianness="little")
    np.testing.assert_array_equal(load_headerless(path).mosaic, mosaic)


def straight(code: int, knees: Sequence[tuple[int, int]]) -> float:
    """The linear value of a stored one, from the two knees around it."""
    for (x0, y0), (x1, y1) in itertools.pairwise(knees):
        if x0 <= code <= x1:
            return y0 + (y1 - y0) * (code - x0) / (x1 - x0)
    raise AssertionError(code)


@st.composite
def curves(draw: st.DrawFn) -> list[tuple[int, int]]:
    inner = sorted(draw(st.sets(st.integers(1, 4094), max_size=6)))
    most = draw(st.sampled_from([5000, 65535, (1 << 20) - 1, (1 << 24) - 1]))
    values = sorted(draw(st.sets(st.integers(1, most - 1), min_size=len(inner), max_size=len(inner))))
    return [(0, 0), *zip(inner, values, strict=True), (4095, most)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(curves(), arrays(np.uint16, (4, 6), elements=st.integers(0, 4095)))
def test_companded_files_are_linearised(tmp_path: Path, knees: list[tuple[int, int]], codes: np.ndarray) -> None:
    most = knees[-1][1]
    told = keys(codes, 12, container="raw12", knees=knees, white_level=most, black_level=0)
    notes: list[RawNote] = []
    raw = load_headerless(written(tmp_path / "a.raw", pack(codes, "raw12").tobytes(), **told), notes)
    scale = max(1.0, most / 65535)
    expected = [[straight(int(code), knees) / scale for code in row] for row in codes]
    assert np.abs(raw.mosaic - np.array(expected)).max() <= 0.5 + 1e-6
    assert raw.white_level == min(most, 65535)
    assert [n.kind for n in notes if n.kind == "companded"] == ["companded"] * (most > 65535)


def test_levels_of_a_companded_file_are_linear_values(tmp_path: Path) -> None:
    codes = np.full((4, 6), 100, np.uint16)
    told = keys(codes, 12, container="raw12", knees=[(0, 0), (4095, (1 << 24) - 1)], white_level=(1 << 24) - 1)
    raw = load_raw(written(tmp_path / "a.raw", pack(codes, "raw12").tobytes(), **{**told, "black_level": 2560}))
    assert raw.black_level == pytest.approx((2560 * 65535 / ((1 << 24) - 1),) * 4)
    assert raw.white_level == 65535


CODES = np.full((4, 6), 100, np.uint16)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"bits": 14, "white_level": 16383}, 'bits = 14 does not fit container "raw12"'),
        ({"stride": 8}, "stride = 8 is less than the 9 bytes of a row"),
        ({"stride": 10}, "4 raw12 in rows of 10 bytes = 40 bytes; correct width, height, container, stride or offset"),
        ({"container": "raw11"}, "container = 'raw11': must be"),
        ({"knees": [[0, 0]]}, "knees = [[0, 0]]: must be 2 to 64 pairs"),
        ({"knees": [[0, 0], [4095, 1 << 24]]}, "knees"),
        ({"knees": [[0, 0], [9, 9], [9, 20], [4095, 99999]]}, "[9, 20] after [9, 9]: both values must rise"),
        ({"knees": [[0, 0], [2047, 99999]]}, "to 2047, they must go from 0 to 4095"),
        ({"knees": [[0, 0], [4095, 4000]]}, "white_level = 4095 lies above the last knee's linear value 4000"),
        ({"white_level": 5000}, "white_level = 5000 does not fit bits = 12"),
    ],
)
def test_wrong_sidecars_of_packed_and_companded_files(tmp_path: Path, changes: Any, text: str) -> None:
    told = keys(CODES, 12, container="raw12", **{})
    assert text in refusal(written(tmp_path / "a.raw", pack(CODES, "raw12").tobytes(), **{**told, **changes}))
