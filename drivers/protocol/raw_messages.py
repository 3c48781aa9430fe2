"""A RAW in a message: its canonical metadata, its pixels, and the hash that proves both."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

from drivers.errors import FrameError
from drivers.frames import MAX_SIDE, RawFrame
from drivers.protocol.header_fields import show
from drivers.protocol.messages import Buffer, Frame, MessageError, Process
from drivers.raw_input import RawInput

PLAIN = RawInput()


def process_request(
    request_id: int,
    raw: RawFrame,
    registers: Iterable[tuple[int, int]],
    raw_input: RawInput = PLAIN,
    *,
    metadata: bytes | None = None,
) -> Process:
    """The request that processes a RAW, its pixels as the device takes them; plain ones are referred to, not copied.

    The request's RAW hash is of the bytes that travel; :attr:`RawFrame.hash <drivers.frames.RawFrame.hash>`, by which
    the bench knows a RAW, is of plain ones.
    """
    own = raw.canonical_metadata
    payload = raw_input.payload(raw)
    return Process(
        id=request_id,
        raw_hash=raw.single.hash if raw_input.is_plain else _hash(own, payload),
        registers=tuple(registers),
        metadata=own if metadata is None else metadata,
        payload=payload,
    )


def raw_frame(message: Process | Frame, raw_input: RawInput = PLAIN) -> RawFrame:
    """The RAW of a request, or of a live device's frame, its hash proven; a plain mosaic is a view of the payload.

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
    if len(pixels) != raw_input.size(width, height):
        kind = f"{width}×{height} mosaic, {raw_input.packing}, {raw_input.stride(width)} bytes a row"
        raise MessageError("bad_raw", f"RAW of {len(pixels)} bytes is not a {kind}", message.id)
    if _hash(message.metadata, pixels) != message.raw_hash:
        raise MessageError("raw_hash", f"RAW hash {message.raw_hash[:12]}… is not that of the pixels", message.id)
    mosaic = raw_input.mosaic(pixels, width, height)
    try:
        return RawFrame.from_metadata(mosaic, metadata, source=f"request {message.id}")
    except FrameError as error:
        raise MessageError("bad_raw", str(error), message.id) from error


def _hash(metadata: bytes, pixels: Buffer) -> str:
    digest = hashlib.sha256(metadata)
    digest.update(pixels)
    return digest.hexdigest()


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _check_metadata(m: Any) -> None:
    """Refuses what :class:`RawFrame` would have to convert; it checks the values themselves."""
    if not isinstance(m, dict) or set(m) != _METADATA_KEYS:
        raise ValueError(f"it must be a map of exactly {', '.join(sorted(_METADATA_KEYS))}")
    for key in ("width", "height"):
        if type(m[key]) is not int or m[key] % 2 or not 2 <= m[key] <= MAX_SIDE:
            raise ValueError(f"{key} {show(m[key])} is not even and within 2..{MAX_SIDE}")
    if type(m["white_level"]) is not int or not isinstance(m["cfa"], str):
        raise ValueError("white_level is not an integer or cfa not a string")
    if not _numbers(m["black_level"], 4):
        raise ValueError("black_level is not four numbers")
    for key in ("iso", "exposure_s"):
        if m[key] is not None and not _numbers([m[key]], 1):
            raise ValueError(f"{key} {show(m[key])} is not a number or null")
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
