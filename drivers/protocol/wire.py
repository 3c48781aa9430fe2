"""The wire protocol's messages as bytes, the same for every transport. PROTOCOL.md specifies them.

A message is one or two parts: a header (a msgpack map) and, for pixels, a payload. :func:`encode` gives the parts,
:func:`decode` reads them. Everything read is bounded before memory is set aside for it, and whatever arrives, decoding
raises nothing but :class:`MessageError`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgpack
import numpy as np

from drivers.errors import FrameError, ParameterError, ProtocolError
from drivers.frames import MAX_SIDE, RawFrame
from drivers.parameters import ParameterSpace
from drivers.registers import Bank

VERSION = 1
MAX_HEADER = 1 << 20
MAX_PAYLOAD = 2 * MAX_SIDE * MAX_SIDE
MAX_OUTPUT = 256 << 20
MAX_METADATA = 4096
MAX_REGISTERS = 1024
MAX_IN_FLIGHT = 64
MAX_ID = 2**64 - 1
MAX_COUNT = 2**63 - 1
"""Largest frame number and device time: what a signed integer of 64 bits holds, as data bases and languages have it."""
MEDIA_TYPES = ("image/jpeg", "image/png")
ERROR_CODES = (
    "bad_message",
    "version",
    "unsupported",
    "too_large",
    "busy",
    "bad_raw",
    "raw_hash",
    "bad_register",
    "bad_code",
    "failed",
)
_MAX_TEXT = 1024
_UNPACK_LIMITS = {
    "max_str_len": 4096,
    "max_bin_len": MAX_METADATA,
    "max_array_len": MAX_REGISTERS,
    "max_map_len": 64,
    "max_ext_len": 0,
}

Buffer = bytes | memoryview
Registers = tuple[tuple[int, int], ...]
"""Pairs of byte address and code."""


class MessageError(ProtocolError):
    """A message that cannot be taken.

    Attributes:
        code: one of :data:`ERROR_CODES`, for the answer.
        request_id: of the message, 0 where it could not be read.
    """

    def __init__(self, code: str, text: str, request_id: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class Hello:
    """Who are you? Answered with :class:`Info`."""

    id: int


@dataclass(frozen=True, slots=True)
class Info:
    """Who the device is and what it takes; ``max_payload`` in bytes.

    ``echo``: its frames prove the parameters in force; ``live``: it photographs, and takes no stored RAW.
    """

    id: int
    model: str
    firmware: str
    serial: str
    boot_id: str
    max_in_flight: int
    max_payload: int
    space: ParameterSpace = field(repr=False)
    echo: bool = True
    live: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """Read registers of a bank; no addresses means all of them. Answered with :class:`RegisterValues`."""

    id: int
    bank: Bank = "active"
    addresses: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Write:
    """Write registers to the shadow bank, all or none. Answered with :class:`RegisterValues` of what was written."""

    id: int
    registers: Registers


@dataclass(frozen=True, slots=True)
class RegisterValues:
    """Codes read back from a bank; ``parameters_hash`` covers the whole bank."""

    id: int
    boot_id: str
    bank: Bank
    registers: Registers
    parameters_hash: str


@dataclass(frozen=True, slots=True)
class Process:
    """Process a RAW with these registers, latched at this frame's boundary. Answered with :class:`Frame`.

    ``metadata`` is the RAW's canonical JSON, ``payload`` its little-endian uint16 mosaic.
    """

    id: int
    raw_hash: str
    registers: Registers
    metadata: bytes
    payload: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """Take a RAW of what is before a live device, with these registers. Answered with :class:`Frame` and its RAW."""

    id: int
    registers: Registers


@dataclass(frozen=True, slots=True)
class Frame:
    """A processed frame and the proof of what made it; ``payload`` is the encoded image.

    A device without an echo leaves ``parameters_hash`` and ``registers`` empty. A live device adds the RAW: its
    ``metadata`` (canonical JSON) and ``raw``, the little-endian uint16 mosaic.
    """

    id: int
    boot_id: str
    frame: int
    raw_hash: str
    parameters_hash: str
    registers: Registers
    media_type: Literal["image/jpeg", "image/png"]
    output_hash: str
    device_ns: int
    payload: Buffer = field(repr=False)
    metadata: bytes = b""
    raw: Buffer = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Error:
    """A refusal; ``code`` is one of :data:`ERROR_CODES`, ``text`` for people."""

    id: int
    code: str
    text: str


Message = Hello | Info | Read | Write | RegisterValues | Process | CaptureRequest | Frame | Error


def process_request(
    request_id: int, raw: RawFrame, registers: Iterable[tuple[int, int]], *, metadata: bytes | None = None
) -> Process:
    """The request that processes a RAW; the mosaic is referred to, not copied."""
    return Process(
        id=request_id,
        raw_hash=raw.hash,
        registers=tuple(registers),
        metadata=json.dumps(raw.metadata, sort_keys=True).encode() if metadata is None else metadata,
        payload=np.ascontiguousarray(raw.mosaic, dtype="<u2").data.cast("B"),
    )


def raw_frame(message: Process | Frame) -> RawFrame:
    """The RAW of a request, or of a live device's frame, its hash proven; the mosaic is a view of the payload.

    Raises:
        MessageError: the metadata is odd, the sizes disagree, or the hash is not that of the RAW.
    """
    pixels = message.raw if isinstance(message, Frame) else message.payload
    try:
        metadata = json.loads(message.metadata.decode("ascii"), parse_constant=_no_constant)
        _check_metadata(metadata)
    except (ValueError, RecursionError) as error:
        raise MessageError("bad_raw", f"RAW metadata: {error}", message.id) from error
    height, width = metadata["height"], metadata["width"]
    if len(pixels) != 2 * height * width:
        raise MessageError("bad_raw", f"RAW of {len(pixels)} bytes is not a {width}×{height} uint16 mosaic", message.id)
    digest = hashlib.sha256(message.metadata)
    digest.update(pixels)
    if digest.hexdigest() != message.raw_hash:
        raise MessageError("raw_hash", f"RAW hash {message.raw_hash[:12]}… is not that of the pixels", message.id)
    mosaic = np.frombuffer(pixels, dtype="<u2").reshape(height, width).astype(np.uint16, copy=False)
    try:
        return RawFrame.from_metadata(mosaic, metadata, source=f"request {message.id}")
    except FrameError as error:
        raise MessageError("bad_raw", str(error), message.id) from error


def encode(message: Message) -> list[Buffer]:
    """The parts of a message: the header, and for :class:`Process` and :class:`Frame` the payload (not copied)."""
    h: dict[str, Any] = {"v": VERSION, "type": _NAMES[type(message)], "id": message.id}
    match message:
        case Hello():
            pass
        case Info():
            for key in ("model", "firmware", "serial", "boot_id", "max_in_flight", "max_payload", "echo", "live"):
                h[key] = getattr(message, key)
            h["space"] = message.space.to_dict()
        case Read():
            h |= {"bank": message.bank, "addresses": message.addresses}
        case Write() | CaptureRequest():
            h["registers"] = message.registers
        case RegisterValues():
            h |= {"boot_id": message.boot_id, "bank": message.bank, "registers": message.registers}
            h["parameters_hash"] = bytes.fromhex(message.parameters_hash)
        case Process():
            h |= {"raw_hash": bytes.fromhex(message.raw_hash), "registers": message.registers}
            h |= {"metadata": message.metadata, "payload_size": len(message.payload)}
            return [msgpack.packb(h), message.payload]
        case Frame():
            h |= {"boot_id": message.boot_id, "frame": message.frame, "raw_hash": bytes.fromhex(message.raw_hash)}
            if message.parameters_hash:
                h |= {"parameters_hash": bytes.fromhex(message.parameters_hash), "registers": message.registers}
            h |= {"media_type": message.media_type, "output_hash": bytes.fromhex(message.output_hash)}
            h |= {"device_ns": message.device_ns, "payload_size": len(message.raw) + len(message.payload)}
            if not message.metadata:
                return [msgpack.packb(h), message.payload]
            h |= {"metadata": message.metadata, "raw_size": len(message.raw)}
            return [msgpack.packb(h), b"".join((message.raw, message.payload))]
        case Error():
            h |= {"code": message.code, "text": message.text[:_MAX_TEXT]}
    return [msgpack.packb(h)]


def decode(parts: Sequence[Buffer], max_payload: int = MAX_PAYLOAD) -> Message:
    """The message of one or two parts; the payload is referred to, not copied.

    Raises:
        MessageError: anything in it breaks the protocol.
    """
    if not parts or len(parts[0]) > MAX_HEADER:
        size = f"{len(parts[0])} bytes" if parts else "missing"
        raise MessageError("bad_message", f"header: {size}, at most {MAX_HEADER} bytes are taken")
    try:
        header = msgpack.unpackb(parts[0], **_UNPACK_LIMITS)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise MessageError("bad_message", f"header is not bounded msgpack: {str(error)[:200] or 'broken'}") from error
    if not isinstance(header, dict):
        raise MessageError("bad_message", f"header is not a map but {type(header).__name__}")
    request_id = header.get("id")
    if type(request_id) is not int or not 0 <= request_id <= MAX_ID:
        raise MessageError("bad_message", "header: id is not an unsigned 64-bit integer")
    try:
        return _decode(header, request_id, parts, max_payload)
    except MessageError as error:
        error.request_id = request_id
        raise


def _decode(h: dict[Any, Any], request_id: int, parts: Sequence[Buffer], max_payload: int) -> Message:
    if type(h.get("v")) is not int or h["v"] != VERSION:
        raise MessageError("version", f"protocol version {_show(h.get('v'))}; this side speaks {VERSION}")
    kind = h.get("type")
    has_payload = kind in ("process", "frame")
    if len(parts) != 1 + has_payload:
        raise MessageError("bad_message", f"message {_show(kind)} has {len(parts)} parts, not {1 + has_payload}")
    match kind:
        case "hello":
            return Hello(request_id)
        case "info":
            return Info(
                request_id,
                model=_text(h, "model"),
                firmware=_text(h, "firmware"),
                serial=_text(h, "serial"),
                boot_id=_text(h, "boot_id"),
                max_in_flight=_uint(h, "max_in_flight", MAX_IN_FLIGHT, low=1),
                max_payload=_uint(h, "max_payload", MAX_PAYLOAD, low=8),
                space=_space(h.get("space")),
                echo=_flag(h, "echo", True),
                live=_flag(h, "live", False),
            )
        case "read":
            return Read(request_id, _bank(h), _addresses(h.get("addresses")))
        case "write":
            return Write(request_id, _registers(h.get("registers")))
        case "registers":
            return RegisterValues(
                request_id,
                boot_id=_text(h, "boot_id"),
                bank=_bank(h),
                registers=_registers(h.get("registers")),
                parameters_hash=_digest(h, "parameters_hash"),
            )
        case "process":
            return Process(
                request_id,
                raw_hash=_digest(h, "raw_hash"),
                registers=_registers(h.get("registers")),
                metadata=_metadata(h),
                payload=_payload(h, parts[1], max_payload),
            )
        case "capture":
            return CaptureRequest(request_id, _registers(h.get("registers")))
        case "frame":
            media_type = h.get("media_type")
            if media_type not in MEDIA_TYPES:
                raise MessageError("bad_message", f"header: media_type {_show(media_type)} is unknown")
            payload = _payload(h, parts[1], max_payload)
            raw_size = _uint(h, "raw_size", len(payload)) if "raw_size" in h else 0
            has_echo = "parameters_hash" in h or "registers" in h
            return Frame(
                request_id,
                boot_id=_text(h, "boot_id"),
                frame=_uint(h, "frame", MAX_COUNT),
                raw_hash=_digest(h, "raw_hash"),
                parameters_hash=_digest(h, "parameters_hash") if has_echo else "",
                registers=_registers(h.get("registers")) if has_echo else (),
                media_type=media_type,
                output_hash=_digest(h, "output_hash"),
                device_ns=_uint(h, "device_ns", MAX_COUNT),
                payload=payload[raw_size:] if raw_size else payload,
                metadata=_metadata(h) if raw_size else b"",
                raw=payload[:raw_size] if raw_size else b"",
            )
        case "error":
            code = h.get("code")
            text = h.get("text")
            if code not in ERROR_CODES or not isinstance(text, str):
                raise MessageError(
                    "bad_message", f"header: error code {_show(code)} or its text is not of the protocol"
                )
            return Error(request_id, code, "".join(c if c.isprintable() else "?" for c in text[:_MAX_TEXT]))
    raise MessageError("unsupported", f"message type {_show(kind)} is unknown")


_NAMES: dict[type, str] = {
    Hello: "hello",
    Info: "info",
    Read: "read",
    Write: "write",
    RegisterValues: "registers",
    Process: "process",
    CaptureRequest: "capture",
    Frame: "frame",
    Error: "error",
}


def _show(value: Any) -> str:
    return ascii(value)[:40]


def _text(h: dict[Any, Any], key: str) -> str:
    value = h.get(key)
    if not isinstance(value, str) or not 1 <= len(value) <= 128 or not value.isprintable():
        raise MessageError("bad_message", f"header: {key} is not 1..128 printable characters")
    return value


def _uint(h: dict[Any, Any], key: str, high: int, low: int = 0) -> int:
    value = h.get(key)
    if type(value) is not int or not low <= value <= high:
        raise MessageError("bad_message", f"header: {key} {_show(value)} is not an integer in {low}..{high}")
    return value


def _flag(h: dict[Any, Any], key: str, missing: bool) -> bool:
    value = h.get(key, missing)
    if not isinstance(value, bool):
        raise MessageError("bad_message", f"header: {key} {_show(value)} is not true or false")
    return value


def _metadata(h: dict[Any, Any]) -> bytes:
    metadata = h.get("metadata")
    if not isinstance(metadata, bytes):
        raise MessageError("bad_message", "header: metadata is not binary")
    return metadata


def _digest(h: dict[Any, Any], key: str) -> str:
    value = h.get(key)
    if not isinstance(value, bytes) or len(value) != 32:
        raise MessageError("bad_message", f"header: {key} is not 32 bytes")
    return value.hex()


def _bank(h: dict[Any, Any]) -> Bank:
    bank = h.get("bank")
    if bank not in ("active", "shadow"):
        raise MessageError("bad_message", f"header: bank {_show(bank)} is not active or shadow")
    return bank


def _addresses(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(a) is int and 0 <= a < 2**32 for a in value):
        raise MessageError("bad_message", "header: addresses is not an array of 32-bit addresses")
    return tuple(value)


def _registers(value: Any) -> Registers:
    if not isinstance(value, list):
        raise MessageError("bad_message", "header: registers is not an array of pairs")
    pairs = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or type(pair[0]) is not int or type(pair[1]) is not int:
            raise MessageError("bad_message", "header: registers is not an array of pairs of address and code")
        if not 0 <= pair[0] < 2**32 or not -(2**31) <= pair[1] < 2**32:
            raise MessageError("bad_message", f"header: register {pair[0]}, code {pair[1]} is not of 32 bits")
        pairs.append((pair[0], pair[1]))
    if len({address for address, _ in pairs}) != len(pairs):
        raise MessageError("bad_message", "header: registers names an address twice")
    return tuple(pairs)


def _payload(h: dict[Any, Any], part: Buffer, max_payload: int) -> Buffer:
    size = _uint(h, "payload_size", MAX_ID)
    if size > max_payload:
        raise MessageError("too_large", f"payload of {size} bytes; at most {max_payload} are taken")
    if size != len(part):
        raise MessageError("bad_message", f"payload of {len(part)} bytes; the header says {size}")
    return part


def _space(data: Any) -> ParameterSpace:
    _check_printable(data)
    try:
        space = ParameterSpace.from_dict(data)
    except (ParameterError, ValueError, TypeError, ArithmeticError) as error:
        raise MessageError("bad_message", f"header: space: {str(error)[:200]}") from error
    for parameter in space.parameters:
        if parameter.register_ is None:
            raise MessageError("bad_message", f"header: space: parameter {parameter.name} has no register")
    return space


def _check_printable(value: Any, where: str = "space", keep: str = "") -> None:
    """Refuses control characters in any text of a space; ``keep``: let through all the same."""
    if isinstance(value, str):
        if not "".join(c for c in value if c not in keep).isprintable():
            raise MessageError("bad_message", f"header: {where} {_show(value)} is not printable text")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check_printable(item, f"{where}.{i}")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_printable(key, f"{where}: the key")
            _check_printable(item, f"{where}.{key}", "\n\t" if key == "description" else "")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _check_metadata(m: Any) -> None:
    """Refuses what :class:`RawFrame` would have to convert; it checks the values themselves."""
    if not isinstance(m, dict) or set(m) != _METADATA_KEYS:
        raise ValueError(f"it must be a map of exactly {', '.join(sorted(_METADATA_KEYS))}")
    for key in ("width", "height"):
        if type(m[key]) is not int or m[key] % 2 or not 2 <= m[key] <= MAX_SIDE:
            raise ValueError(f"{key} {_show(m[key])} is not even and within 2..{MAX_SIDE}")
    if type(m["white_level"]) is not int or not isinstance(m["cfa"], str):
        raise ValueError("white_level is not an integer or cfa not a string")
    if not _numbers(m["black_level"], 4):
        raise ValueError("black_level is not four numbers")
    for key in ("iso", "exposure_s"):
        if m[key] is not None and not _numbers([m[key]], 1):
            raise ValueError(f"{key} {_show(m[key])} is not a number or null")
    if m["as_shot_wb"] is not None and not _numbers(m["as_shot_wb"], 3):
        raise ValueError("as_shot_wb is not three numbers or null")
    matrix = m["colour_matrix"]
    if matrix is not None and not (
        isinstance(matrix, list) and len(matrix) == 3 and all(_numbers(r, 3) for r in matrix)
    ):
        raise ValueError("colour_matrix is not 3×3 numbers or null")


_METADATA_KEYS = {
    "width",
    "height",
    "cfa",
    "black_level",
    "white_level",
    "iso",
    "exposure_s",
    "as_shot_wb",
    "colour_matrix",
}


def _numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(type(v) in (int, float) and abs(v) < 1e30 and math.isfinite(v) for v in value)
    )
