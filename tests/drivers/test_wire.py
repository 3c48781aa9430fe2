from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.errors import ProtocolError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSpace, parameters_hash
from drivers.protocol import wire

PROTOCOL = Path(wire.__file__).parent / "PROTOCOL.md"

SPACE = ParameterSpace.from_dict(
    {
        "name": "example",
        "parameters": [
            {
                "name": "gamma",
                "block": "tone",
                "kind": "continuous",
                "low": 1.0,
                "high": 4.0,
                "step": 1 / 256,
                "default": 2.2,
                "register": {"address": 0x10, "width": 16},
            },
            {
                "name": "demosaic",
                "block": "demosaic",
                "kind": "choice",
                "choices": ["bilinear", "malvar"],
                "default": "malvar",
                "register": {"address": 0x12, "width": 8},
            },
            {
                "name": "hue",
                "block": "colour",
                "kind": "integer",
                "low": -30,
                "high": 30,
                "default": -5,
                "register": {"address": 0x14, "width": 16, "signed": True},
            },
        ],
    }
)
RAW = RawFrame(
    np.array([[64, 512], [300, 1023]], np.uint16),
    cfa="RGGB",
    black_level=(64.0, 64.0, 64.0, 64.0),
    white_level=1023,
    iso=100.0,
    exposure_s=0.01,
    as_shot_wb=(2.0, 1.0, 1.5),
)
REGISTERS = ((0x10, 563), (0x12, 1), (0x14, -5))
OUTPUT = b"\xff\xd8\xff\xd9"
REQUEST = wire.process_request(7, RAW, REGISTERS)
ANSWER = wire.Frame(
    7,
    boot_id="b001",
    frame=1,
    raw_hash=RAW.hash,
    parameters_hash=SPACE.defaults.hash,
    registers=REGISTERS,
    media_type="image/jpeg",
    output_hash=hashlib.sha256(OUTPUT).hexdigest(),
    device_ns=2_000_000,
    payload=OUTPUT,
)
INFO = wire.Info(1, "m", "1.0", "s", "b", 8, 1 << 20, SPACE)
EXAMPLES: list[wire.Message] = [
    wire.Hello(1),
    INFO,
    wire.Read(2, "shadow", (0x10,)),
    wire.Write(3, REGISTERS),
    wire.RegisterValues(3, "b", "shadow", REGISTERS, SPACE.defaults.hash),
    REQUEST,
    ANSWER,
    wire.Error(9, "busy", "later"),
    dataclasses.replace(INFO, echo=False, live=True),
    dataclasses.replace(ANSWER, parameters_hash="", registers=()),
    wire.CaptureRequest(10, REGISTERS),
    dataclasses.replace(ANSWER, metadata=REQUEST.metadata, raw=bytes(REQUEST.payload)),
]


def changed(message: wire.Message, **header: object) -> list[wire.Buffer]:
    """The message's parts with some header keys replaced, or left out where None."""
    parts = wire.encode(message)
    data = {**msgpack.unpackb(parts[0]), **header}
    return [msgpack.packb({k: v for k, v in data.items() if v is not None}), *parts[1:]]


def json_bytes(**changes: object) -> bytes:
    return json.dumps({**RAW.metadata, **changes}, sort_keys=True).encode()


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_messages_survive_the_wire(message: wire.Message) -> None:
    assert wire.decode(wire.encode(message)) == message


def test_the_space_keeps_its_hash() -> None:
    info = wire.decode(wire.encode(INFO))
    assert isinstance(info, wire.Info)
    assert info.space.hash == SPACE.hash


def test_unknown_keys_are_ignored() -> None:
    assert wire.decode(changed(wire.Hello(5), later="x")) == wire.Hello(5)


def test_the_mosaic_is_not_copied() -> None:
    assert np.shares_memory(np.frombuffer(REQUEST.payload, "<u2"), RAW.mosaic)
    parts = wire.encode(REQUEST)
    received = wire.decode([parts[0], memoryview(bytes(parts[1]))])
    assert isinstance(received, wire.Process)
    frame = wire.raw_frame(received)
    assert np.shares_memory(frame.mosaic, np.frombuffer(received.payload, np.uint8))
    assert frame.hash == RAW.hash
    assert frame.metadata == RAW.metadata


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("bad_message", []),
        ("bad_message", [b""]),
        ("bad_message", [b"\x00" * (wire.MAX_HEADER + 1)]),
        ("bad_message", [msgpack.packb([1, 2])]),
        ("bad_message", changed(wire.Hello(1), id=-1)),
        ("bad_message", changed(wire.Hello(1), id=True)),
        ("version", changed(wire.Hello(1), v=2)),
        ("version", changed(wire.Hello(1), v=None)),
        ("unsupported", changed(wire.Hello(1), type="dance")),
        ("unsupported", changed(wire.Hello(1), type=["hello"])),
        ("bad_message", [*wire.encode(wire.Hello(1)), b"surplus"]),
        ("bad_message", wire.encode(REQUEST)[:1]),
        ("bad_message", changed(REQUEST, raw_hash=b"short")),
        ("bad_message", changed(REQUEST, payload_size=6)),
        ("too_large", changed(REQUEST, payload_size=2**40)),
        ("bad_message", changed(REQUEST, registers=[[1]])),
        ("bad_message", changed(REQUEST, registers=[[1, 2], [1, 3]])),
        ("bad_message", changed(REQUEST, registers=[[-1, 2]])),
        ("bad_message", changed(REQUEST, registers=[[1, 2**32]])),
        ("bad_message", changed(REQUEST, registers=[[1, 1.5]])),
        ("bad_message", changed(REQUEST, registers=[[n, 0] for n in range(wire.MAX_REGISTERS + 1)])),
        ("bad_message", changed(REQUEST, metadata="text")),
        ("bad_message", changed(REQUEST, metadata=b" " * (wire.MAX_METADATA + 1))),
        ("bad_message", changed(ANSWER, media_type="text/html")),
        ("bad_message", changed(ANSWER, boot_id="")),
        ("bad_message", changed(ANSWER, boot_id="\x1b[2J")),
        ("bad_message", changed(ANSWER, frame=-1)),
        ("bad_message", changed(INFO, max_in_flight=0)),
        ("bad_message", changed(INFO, space={"name": "x", "parameters": []})),
        ("bad_message", changed(wire.Read(1), bank="third")),
        ("bad_message", changed(wire.Read(1), addresses=[-4])),
        ("bad_message", changed(wire.Error(1, "busy", ""), code="because")),
    ],
)
def test_bad_messages_are_refused(code: str, parts: list[wire.Buffer]) -> None:
    with pytest.raises(wire.MessageError) as refused:
        wire.decode(parts)
    assert refused.value.code == code


def test_a_refusal_names_the_request() -> None:
    with pytest.raises(wire.MessageError) as refused:
        wire.decode(changed(REQUEST, raw_hash=b""))
    assert refused.value.request_id == 7


def test_a_space_without_registers_is_refused() -> None:
    data = SPACE.to_dict()
    data["parameters"][1]["register"] = None
    with pytest.raises(wire.MessageError, match="demosaic has no register"):
        wire.decode(changed(INFO, space=data))


def test_a_space_of_monstrous_numbers_is_refused() -> None:
    data = SPACE.to_dict()
    data["parameters"][0] |= {"high": 1e308, "step": 1e-300}
    with pytest.raises(wire.MessageError):
        wire.decode(changed(INFO, space=data))


def test_payload_bound_is_the_callers() -> None:
    with pytest.raises(wire.MessageError, match="at most 7"):
        wire.decode(wire.encode(REQUEST), max_payload=7)


@pytest.mark.parametrize(
    ("code", "metadata"),
    [
        ("bad_raw", b"{"),
        ("bad_raw", b"[" * wire.MAX_METADATA),
        ("bad_raw", b"\xff"),
        ("bad_raw", b"{}"),
        ("bad_raw", json_bytes(surplus=1)),
        ("bad_raw", json_bytes(width=3)),
        ("bad_raw", json_bytes(height=4)),
        ("bad_raw", json_bytes(width=True)),
        ("bad_raw", json_bytes(black_level=[64.0])),
        ("bad_raw", json_bytes(iso="100")),
        ("bad_raw", json_bytes(iso=float("nan"))),
        ("bad_raw", json_bytes(exposure_s=10**400)),
        ("bad_raw", json_bytes(as_shot_wb=[1, 1])),
        ("bad_raw", json_bytes(colour_matrix=[[1, 0, 0]])),
        ("raw_hash", json_bytes(iso=200.0)),
    ],
)
def test_bad_raw_metadata_is_refused(code: str, metadata: bytes) -> None:
    with pytest.raises(wire.MessageError) as refused:
        wire.raw_frame(wire.process_request(7, RAW, REGISTERS, metadata=metadata))
    assert refused.value.code == code


def test_impossible_raws_with_a_right_hash_are_refused() -> None:
    metadata = json_bytes(white_level=10)
    digest = hashlib.sha256(metadata + RAW.mosaic.tobytes()).hexdigest()
    with pytest.raises(wire.MessageError, match="white level"):
        wire.raw_frame(wire.Process(7, digest, REGISTERS, metadata, RAW.mosaic.tobytes()))


def test_changed_pixels_are_refused() -> None:
    pixels = bytearray(REQUEST.payload)
    pixels[0] ^= 1
    with pytest.raises(wire.MessageError) as refused:
        wire.raw_frame(wire.Process(7, RAW.hash, REGISTERS, REQUEST.metadata, bytes(pixels)))
    assert refused.value.code == "raw_hash"


# The machine may be busy with other tests: no verdict from the clock.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
letters = st.characters(max_codepoint=255)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(letters, max_size=20)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(letters, max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = sorted({key for m in EXAMPLES for key in msgpack.unpackb(wire.encode(m)[0])})


def decode_safely(parts: list[wire.Buffer]) -> None:
    try:
        message = wire.decode(parts)
        if isinstance(message, wire.Process):
            wire.raw_frame(message)
    except ProtocolError:
        return
    assert wire.decode(wire.encode(message)) == message


@unhurried
@given(st.lists(st.binary(max_size=200), max_size=3))
def test_any_bytes_give_typed_errors_only(parts: list[bytes]) -> None:
    decode_safely(list(parts))


@settings(unhurried, max_examples=300)
@given(st.sampled_from(EXAMPLES), st.dictionaries(st.sampled_from(KEYS), plain, max_size=3))
def test_any_header_values_give_typed_errors_only(message: wire.Message, values: dict[str, object]) -> None:
    parts = wire.encode(message)
    decode_safely([msgpack.packb({**msgpack.unpackb(parts[0]), **values}), *parts[1:]])


@settings(unhurried, max_examples=200)
@given(st.sampled_from(EXAMPLES), st.data())
def test_flipped_and_cut_headers_give_typed_errors_only(message: wire.Message, data: st.DataObject) -> None:
    header, *rest = wire.encode(message)
    flipped = bytearray(header)
    flipped[data.draw(st.integers(0, len(header) - 1))] ^= data.draw(st.integers(1, 255))
    decode_safely([bytes(flipped), *rest])
    decode_safely([bytes(header[: data.draw(st.integers(0, len(header)))]), *rest])


@unhurried
@given(st.binary(max_size=300))
def test_any_metadata_gives_typed_errors_only(metadata: bytes) -> None:
    decode_safely(wire.encode(wire.process_request(1, RAW, REGISTERS, metadata=metadata)))


@unhurried
@given(plain)
def test_any_json_metadata_gives_typed_errors_only(value: object) -> None:
    text = json.dumps(value, default=lambda b: b.hex()).encode()[: wire.MAX_METADATA]
    decode_safely(wire.encode(wire.process_request(1, RAW, REGISTERS, metadata=text)))


@unhurried
@given(
    st.integers(1, wire.MAX_ID),
    st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(-(2**31), 2**32 - 1)), unique_by=lambda p: p[0], max_size=40
    ),
    st.integers(1, 8),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
)
def test_requests_round_trip(request_id: int, registers: list[tuple[int, int]], h: int, w: int, random) -> None:  # type: ignore[no-untyped-def]
    mosaic = np.array([random.randrange(65536) for _ in range(4 * h * w)], np.uint16).reshape(2 * h, 2 * w)
    iso, exposure_s = 1 + random.random() * 1e5, 1e-6 + random.random()
    raw = RawFrame(mosaic, "GBRG", (0.0, 1.5, 2.0, 3.0), 65535, iso=iso, exposure_s=exposure_s)
    message = wire.decode(wire.encode(wire.process_request(request_id, raw, registers)))
    assert isinstance(message, wire.Process)
    assert message.registers == tuple(registers)
    assert wire.raw_frame(message).hash == raw.hash
    assert np.array_equal(wire.raw_frame(message).mosaic, mosaic)


def dump(data: wire.Buffer) -> str:
    """Sixteen bytes a line, as PROTOCOL.md shows them."""
    data = bytes(data)
    return "\n".join(data[i : i + 16].hex(" ") for i in range(0, len(data), 16))


def blocks(label: str) -> str:
    """The fenced block of PROTOCOL.md that follows the line with this label."""
    text = PROTOCOL.read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(label)}\n+```[a-z]*\n(.*?)\n```", text, re.MULTILINE | re.DOTALL)
    assert found, label
    return found.group(1)


@pytest.mark.parametrize(
    ("label", "message", "part"),
    [
        ("PROCESS, part 1 (header):", REQUEST, 0),
        ("PROCESS, part 2 (payload):", REQUEST, 1),
        ("FRAME, part 1 (header):", ANSWER, 0),
        ("FRAME, part 2 (payload):", ANSWER, 1),
    ],
)
def test_the_documents_dumps_are_what_the_code_makes(label: str, message: wire.Message, part: int) -> None:
    assert blocks(label) == dump(wire.encode(message)[part])


def test_the_documents_dumps_decode() -> None:
    request = [bytes.fromhex(blocks(f"PROCESS, part {n}")) for n in ("1 (header):", "2 (payload):")]
    answer = [bytes.fromhex(blocks(f"FRAME, part {n}")) for n in ("1 (header):", "2 (payload):")]
    assert wire.decode(request) == REQUEST
    assert wire.decode(answer) == ANSWER


def test_the_documents_hashes_are_right() -> None:
    lines = blocks("The bytes that are hashed:") + "\n"
    digest = blocks("Their SHA-256:")
    assert hashlib.sha256(lines.encode("ascii")).hexdigest() == digest == SPACE.defaults.hash
    assert parameters_hash(SPACE.defaults.by_name) == digest
    lines = blocks("Of three names that begin alike the bytes are these") + "\n"
    digest = blocks("and their hash:")
    assert hashlib.sha256(lines.encode("ascii")).hexdigest() == digest
    assert parameters_hash({"gain1": 2, "gain_r": 3, "gain": 1}) == digest
    assert blocks("RAW metadata of the example:").encode() == REQUEST.metadata
    assert blocks("RAW hash of the example:") == RAW.hash


def test_the_document_lists_every_error_code() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    for code in wire.ERROR_CODES:
        assert f"| `{code}` |" in text
