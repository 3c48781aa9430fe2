"""What INFO says of frames, in a message's header: which RAWs the device takes."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from drivers.errors import FrameError
from drivers.protocol.header_fields import show
from drivers.protocol.messages import MessageError
from drivers.raw_input import RawInput

T = TypeVar("T")


def input_map(told: RawInput) -> dict[str, Any]:
    """INFO's ``input``: what differs from a device that tells nothing."""
    return _differences(told)


def take_input(value: Any) -> RawInput:
    """What INFO's ``input`` says; keys that are not known are ignored."""
    return _taken(RawInput, "input", value)


def _differences(told: Any) -> dict[str, Any]:
    """The fields of a dataclass that have no default value, as plain data."""
    return {
        f.name: list(value) if isinstance(value, tuple) else value
        for f in dataclasses.fields(told)
        if (value := getattr(told, f.name)) != f.default
    }


def _taken(kind: type[T], key: str, value: Any) -> T:
    if not isinstance(value, dict):
        raise MessageError("bad_message", f"header: {key} {show(value)} is not a map")
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items() if k in known}
    try:
        return kind(**fields)
    except (FrameError, TypeError, ValueError) as error:
        raise MessageError("bad_message", f"header: {key}: {str(error)[:200]}") from error
