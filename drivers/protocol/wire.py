"""The wire protocol's messages as bytes, the same for every transport. PROTOCOL.md specifies them.

A message is one or two parts: a header (a msgpack map) and, for pixels, a payload. :func:`encode` gives the parts,
:func:`decode` reads them. Everything read is bounded before memory is set aside for it, and whatever arrives, decoding
raises nothing but :class:`MessageError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from drivers.plain_pictures import PictureOutput
from drivers.protocol.frame_fields import take_told, told_map
from drivers.protocol.header_fields import (
    show,
    take_addresses,
    take_bank,
    take_digest,
    take_flag,
    take_metadata,
    take_payload,
    take_registers,
    take_statistics,
    take_text,
    take_uint,
)
from drivers.protocol.messages import (
    ERROR_CODES,
    LATEST,
    MAX_COUNT,
    MAX_HEADER,
    MAX_HELD,
    MAX_ID,
    MAX_IN_FLIGHT,
    MAX_METADATA,
    MAX_OUTPUT,
    MAX_PAYLOAD,
    MAX_REGISTERS,
    MAX_SPEAKS,
    MAX_TEXT,
    MEDIA_TYPES,
    VERSION,
    Buffer,
    CaptureRequest,
    Error,
    Frame,
    FrameRequest,
    Hello,
    Info,
    Message,
    MessageError,
    Process,
    Read,
    Registers,
    RegisterValues,
    Write,
)
from drivers.protocol.picture_messages import picture
from drivers.protocol.raw_messages import process_request, raw_frame
from drivers.protocol.told_spaces import take_space, told_space
from drivers.raw_input import RawInput

__all__ = [
    "ERROR_CODES",
    "LATEST",
    "MAX_COUNT",
    "MAX_HEADER",
    "MAX_HELD",
    "MAX_ID",
    "MAX_IN_FLIGHT",
    "MAX_METADATA",
    "MAX_OUTPUT",
    "MAX_PAYLOAD",
    "MAX_REGISTERS",
    "MAX_SPEAKS",
    "MAX_TEXT",
    "MEDIA_TYPES",
    "VERSION",
    "Buffer",
    "CaptureRequest",
    "Error",
    "Frame",
    "FrameRequest",
    "Hello",
    "Info",
    "Message",
    "MessageError",
    "Process",
    "Read",
    "RegisterValues",
    "Registers",
    "Write",
    "decode",
    "encode",
    "picture",
    "process_request",
    "raw_frame",
]

_UNPACK_LIMITS = {
    "max_str_len": 4096,
    "max_bin_len": MAX_METADATA,
    "max_array_len": MAX_REGISTERS,
    "max_map_len": 64,
    "max_ext_len": 0,
}


def encode(message: Message) -> list[Buffer]:
    """The parts of a message: the header, and for :class:`Process` and :class:`Frame` the payload (not copied).

    Raises:
        MessageError: ``version``: the space of an :class:`Info` cannot be told in its version.
    """
    h: dict[str, Any] = {"v": VERSION, "type": _NAMES[type(message)], "id": message.id}
    match message:
        case Hello():
            if message.speaks > 1:
                h["speaks"] = message.speaks
        case Info():
            for key in ("model", "firmware", "serial", "boot_id", "max_in_flight", "max_payload", "echo", "live"):
                h[key] = getattr(message, key)
            h["space"] = told_space(message.space, message.version)
            if message.version > 1:
                h["version"] = message.version
                if message.holds:
                    h["holds"] = message.holds
            for key in ("input", "output"):
                if told := told_map(getattr(message, key)):
                    h[key] = told
        case Read():
            h |= {"bank": message.bank, "addresses": message.addresses}
        case Write():
            h["registers"] = message.registers
        case CaptureRequest():
            h |= {"registers": message.registers, **_follows(message)}
        case RegisterValues():
            h |= {"boot_id": message.boot_id, "bank": message.bank, "registers": message.registers}
            h["parameters_hash"] = bytes.fromhex(message.parameters_hash)
        case Process():
            h |= {"raw_hash": bytes.fromhex(message.raw_hash), "registers": message.registers}
            h |= {"metadata": message.metadata, "payload_size": len(message.payload)}
            return [msgpack.packb({**h, **_follows(message)}), message.payload]
        case Frame():
            h |= {"boot_id": message.boot_id, "frame": message.frame, "raw_hash": bytes.fromhex(message.raw_hash)}
            if message.parameters_hash:
                h |= {"parameters_hash": bytes.fromhex(message.parameters_hash), "registers": message.registers}
            h |= {"media_type": message.media_type, "output_hash": bytes.fromhex(message.output_hash)}
            if message.statistics:
                h["statistics"] = dict(message.statistics)
            h |= {"device_ns": message.device_ns, "payload_size": len(message.raw) + len(message.payload)}
            if not message.metadata:
                return [msgpack.packb(h), message.payload]
            h |= {"metadata": message.metadata, "raw_size": len(message.raw)}
            return [msgpack.packb(h), b"".join((message.raw, message.payload))]
        case Error():
            h |= {"code": message.code, "text": message.text[:MAX_TEXT]}
    return [msgpack.packb(h)]


def _follows(message: Process | CaptureRequest) -> dict[str, int]:
    return {"follows": message.follows} if message.follows else {}


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
        raise MessageError("version", f"protocol version {show(h.get('v'))}; this side speaks {VERSION}")
    kind = h.get("type")
    has_payload = kind in ("process", "frame")
    if len(parts) != 1 + has_payload:
        raise MessageError("bad_message", f"message {show(kind)} has {len(parts)} parts, not {1 + has_payload}")
    match kind:
        case "hello":
            return Hello(request_id, take_uint(h, "speaks", MAX_SPEAKS, low=1) if "speaks" in h else 1)
        case "info":
            version = take_uint(h, "version", LATEST, low=1) if "version" in h else 1
            return Info(
                request_id,
                model=take_text(h, "model"),
                firmware=take_text(h, "firmware"),
                serial=take_text(h, "serial"),
                boot_id=take_text(h, "boot_id"),
                max_in_flight=take_uint(h, "max_in_flight", MAX_IN_FLIGHT, low=1),
                max_payload=take_uint(h, "max_payload", MAX_PAYLOAD, low=8),
                space=take_space(h.get("space"), version),
                echo=take_flag(h, "echo", True),
                live=take_flag(h, "live", False),
                input=take_told(RawInput, h, "input"),
                output=take_told(PictureOutput, h, "output"),
                holds=take_uint(h, "holds", MAX_HELD) if version > 1 and "holds" in h else 0,
                version=version,
            )
        case "read":
            return Read(request_id, take_bank(h), take_addresses(h.get("addresses")))
        case "write":
            return Write(request_id, take_registers(h.get("registers")))
        case "registers":
            return RegisterValues(
                request_id,
                boot_id=take_text(h, "boot_id"),
                bank=take_bank(h),
                registers=take_registers(h.get("registers")),
                parameters_hash=take_digest(h, "parameters_hash"),
            )
        case "process":
            return Process(
                request_id,
                raw_hash=take_digest(h, "raw_hash"),
                registers=take_registers(h.get("registers")),
                metadata=take_metadata(h),
                payload=take_payload(h, parts[1], max_payload),
                follows=take_uint(h, "follows", MAX_ID) if "follows" in h else 0,
            )
        case "capture":
            follows = take_uint(h, "follows", MAX_ID) if "follows" in h else 0
            return CaptureRequest(request_id, take_registers(h.get("registers")), follows)
        case "frame":
            media_type = h.get("media_type")
            if media_type not in MEDIA_TYPES:
                raise MessageError("bad_message", f"header: media_type {show(media_type)} is unknown")
            payload = take_payload(h, parts[1], max_payload)
            raw_size = take_uint(h, "raw_size", len(payload)) if "raw_size" in h else 0
            has_echo = "parameters_hash" in h or "registers" in h
            return Frame(
                request_id,
                boot_id=take_text(h, "boot_id"),
                frame=take_uint(h, "frame", MAX_COUNT),
                raw_hash=take_digest(h, "raw_hash"),
                parameters_hash=take_digest(h, "parameters_hash") if has_echo else "",
                registers=take_registers(h.get("registers")) if has_echo else (),
                media_type=media_type,
                output_hash=take_digest(h, "output_hash"),
                device_ns=take_uint(h, "device_ns", MAX_COUNT),
                payload=payload[raw_size:] if raw_size else payload,
                metadata=take_metadata(h) if raw_size else b"",
                raw=payload[:raw_size] if raw_size else b"",
                statistics=take_statistics(h),
            )
        case "error":
            code = h.get("code")
            text = h.get("text")
            if code not in ERROR_CODES or not isinstance(text, str):
                raise MessageError("bad_message", f"header: error code {show(code)} or its text is not of the protocol")
            return Error(request_id, code, "".join(c if c.isprintable() else "?" for c in text[:MAX_TEXT]))
    raise MessageError("unsupported", f"message type {show(kind)} is unknown")


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
