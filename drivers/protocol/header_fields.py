"""Single values of a message's header, checked: each function gives the value or raises :class:`MessageError`."""

from __future__ import annotations

import math
from typing import Any

from drivers.protocol.messages import MAX_ID, Buffer, MessageError, Registers
from drivers.registers import Bank


def show(value: Any) -> str:
    """What was found, for an error's text: at most 40 ASCII characters."""
    return ascii(value)[:40]


def take_text(h: dict[Any, Any], key: str) -> str:
    """Text of 1..128 printable characters."""
    value = h.get(key)
    if not isinstance(value, str) or not 1 <= len(value) <= 128 or not value.isprintable():
        raise MessageError("bad_message", f"header: {key} is not 1..128 printable characters")
    return value


def take_uint(h: dict[Any, Any], key: str, high: int, low: int = 0) -> int:
    """An integer in low..high."""
    value = h.get(key)
    if type(value) is not int or not low <= value <= high:
        raise MessageError("bad_message", f"header: {key} {show(value)} is not an integer in {low}..{high}")
    return value


def take_flag(h: dict[Any, Any], key: str, missing: bool) -> bool:
    """True or false; ``missing`` where there is none."""
    value = h.get(key, missing)
    if not isinstance(value, bool):
        raise MessageError("bad_message", f"header: {key} {show(value)} is not true or false")
    return value


def take_metadata(h: dict[Any, Any]) -> bytes:
    """The metadata, not looked into."""
    metadata = h.get("metadata")
    if not isinstance(metadata, bytes):
        raise MessageError("bad_message", "header: metadata is not binary")
    return metadata


def take_digest(h: dict[Any, Any], key: str) -> str:
    """32 bytes, as 64 hexadecimal digits."""
    value = h.get(key)
    if not isinstance(value, bytes) or len(value) != 32:
        raise MessageError("bad_message", f"header: {key} is not 32 bytes")
    return value.hex()


def take_bank(h: dict[Any, Any]) -> Bank:
    """The bank."""
    bank = h.get("bank")
    if bank not in ("active", "shadow"):
        raise MessageError("bad_message", f"header: bank {show(bank)} is not active or shadow")
    result: Bank = bank
    return result


def take_addresses(value: Any) -> tuple[int, ...]:
    """Addresses of 32 bits."""
    if not isinstance(value, list) or not all(type(a) is int and 0 <= a < 2**32 for a in value):
        raise MessageError("bad_message", "header: addresses is not an array of 32-bit addresses")
    return tuple(value)


def take_registers(value: Any) -> Registers:
    """Pairs of address and code, no address twice."""
    if not isinstance(value, list):
        raise MessageError("bad_message", "header: registers is not an array of pairs")
    codes: dict[int, int] = {}
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or type(pair[0]) is not int or type(pair[1]) is not int:
            raise MessageError("bad_message", "header: registers is not an array of pairs of address and code")
        address, code = pair
        if not 0 <= address < 2**32 or not -(2**31) <= code < 2**32:
            raise MessageError("bad_message", f"header: register {address}, code {code} is not of 32 bits")
        codes[address] = code
    if len(codes) != len(value):
        raise MessageError("bad_message", "header: registers names an address twice")
    return tuple(codes.items())


def take_statistics(h: dict[Any, Any]) -> dict[str, float]:
    """Figures by name; none where there are none."""
    told = h.get("statistics", {})
    if not isinstance(told, dict) or not all(
        isinstance(name, str) and isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
        for name, v in told.items()
    ):
        raise MessageError("bad_message", "header: statistics is not a map of finite numbers")
    return {name: float(value) for name, value in told.items()}


def take_payload(h: dict[Any, Any], part: Buffer, max_payload: int) -> Buffer:
    """The payload, of the size that the header says, within the bound."""
    size = take_uint(h, "payload_size", MAX_ID)
    if size > max_payload:
        raise MessageError("too_large", f"payload of {size} bytes; at most {max_payload} are taken")
    if size != len(part):
        raise MessageError("bad_message", f"payload of {len(part)} bytes; the header says {size}")
    return part
