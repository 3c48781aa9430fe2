"""What INFO says of frames, in a message's header: which RAWs the device takes, and what its pictures are."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from drivers.errors import FrameError
from drivers.plain_pictures import PictureOutput
from drivers.protocol.header_fields import show
from drivers.protocol.messages import MessageError
from drivers.raw_input import RawInput

T = TypeVar("T", RawInput, PictureOutput)


def told_map(told: RawInput | PictureOutput) -> dict[str, Any]:
    """What differs from a device that tells nothing."""
    return {
        f.name: list(value) if isinstance(value, tuple) else value
        for f in dataclasses.fields(told)
        if (value := getattr(told, f.name)) != f.default
    }


def take_told(kind: type[T], h: dict[Any, Any], key: str) -> T:
    """What a map of INFO says, the defaults where there is none; keys that are not known are ignored."""
    value = h.get(key, {})
    if not isinstance(value, dict):
        raise MessageError("bad_message", f"header: {key} {show(value)} is not a map")
    known = {f.name for f in dataclasses.fields(kind)}
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items() if k in known}
    try:
        return kind(**fields)  # type: ignore[arg-type]
    except (FrameError, TypeError, ValueError) as error:
        raise MessageError("bad_message", f"header: {key}: {str(error)[:200]}") from error
