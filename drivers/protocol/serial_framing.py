"""The serial link without its port: COBS frames, and messages cut into chunks and put together again.

PROTOCOL.md, section 14, specifies it. :mod:`drivers.protocol.serial_end` has the ends of a link.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cobs import cobs

from drivers.errors import ProtocolError
from drivers.protocol import wire

VERSION = 1
OPEN, OPENED, DATA, ACK, RESET = 1, 2, 3, 4, 5
MIN_CHUNK, MAX_CHUNK = 64, 1024
MAX_WINDOW = 32
MAX_ENCODED = 1042
"""Bytes of the longest frame between its delimiters: DATA of 1024 bytes."""

_HEAD = struct.Struct("<BI")
LIMITS = struct.Struct("<BBBH")
SEQUENCE = struct.Struct("<I")
ACK_BODY = struct.Struct("<II")
_PREFIX = struct.Struct("<BIII")
_SIZES = {OPEN: (5, 5), OPENED: (5, 5), DATA: (4 + 1, 4 + MAX_CHUNK), ACK: (8, 8), RESET: (0, 0)}
INFLATES = 1
_DEFLATED, _HAS_PAYLOAD = 1, 2


class FramingError(ProtocolError):
    """Bytes that are no frame, or chunks that are no message."""


@dataclass(frozen=True, slots=True)
class LinkFrame:
    """One frame: its type, the session it belongs to, and what the type adds."""

    kind: int
    session: int
    body: bytes


def encode_frame(kind: int, session: int, body: bytes = b"") -> bytes:
    """A frame as it goes over the line, with a delimiter on both sides."""
    plain = _HEAD.pack(kind, session) + body
    result: bytes = b"\0" + cobs.encode(plain + SEQUENCE.pack(zlib.crc32(plain))) + b"\0"
    return result


def decode_frame(encoded: bytes) -> LinkFrame:
    """The frame of the bytes between two delimiters.

    Raises:
        FramingError: not COBS, a wrong CRC, or a type or length that does not exist.
    """
    if len(encoded) > MAX_ENCODED:
        raise FramingError(f"frame of {len(encoded)} bytes; at most {MAX_ENCODED} are taken")
    try:
        data = cobs.decode(encoded)
    except cobs.DecodeError as error:
        raise FramingError(f"frame is not COBS: {error}") from None
    if len(data) < _HEAD.size + 4 or zlib.crc32(data[:-4]) != SEQUENCE.unpack(data[-4:])[0]:
        raise FramingError(f"frame of {len(data)} bytes has a wrong CRC")
    kind, session = _HEAD.unpack_from(data)
    body = data[_HEAD.size : -4]
    low, high = _SIZES.get(kind, (1, 0))
    if not low <= len(body) <= high:
        raise FramingError(f"frame of type {kind} with {len(body)} bytes does not exist")
    return LinkFrame(kind, session, body)


class FrameReader:
    """Finds frames in a stream of bytes; holds at most one frame's bytes.

    Attributes:
        broken: pieces between delimiters that were no frame.
    """

    def __init__(self) -> None:
        self.broken = 0
        self._piece = bytearray()
        self._overlong = False

    def feed(self, data: bytes) -> list[LinkFrame]:
        """The frames that these bytes complete; a delimiter always ends a broken one."""
        frames = []
        head, *rest = data.split(b"\0")
        self._add(head)
        for piece in rest:
            if self._overlong:
                self.broken += 1
            elif self._piece:
                try:
                    frames.append(decode_frame(bytes(self._piece)))
                except FramingError:
                    self.broken += 1
            self._piece.clear()
            self._overlong = False
            self._add(piece)
        return frames

    def _add(self, piece: bytes) -> None:
        if len(self._piece) + len(piece) > MAX_ENCODED:
            self._overlong = True
            self._piece.clear()
        elif not self._overlong:
            self._piece += piece


def cut(parts: Sequence[wire.Buffer], size: int, *, compress: bool) -> Iterator[bytes]:
    """The chunks of a message: prefix, header and payload, cut every ``size`` bytes."""
    flags, payload = 0, memoryview(b"")
    if len(parts) > 1:
        flags, payload = _HAS_PAYLOAD, memoryview(parts[1]).cast("B")
    stored = payload
    if compress and len(payload):
        deflated = zlib.compress(payload, 1)
        if len(deflated) < len(payload):
            flags, stored = flags | _DEFLATED, memoryview(deflated)
    head = _PREFIX.pack(flags, len(parts[0]), len(stored), len(payload)) + bytes(parts[0])
    for start in range(0, len(head) + len(stored), size):
        behind = max(start - len(head), 0)
        yield head[start : start + size] + bytes(stored[behind : max(start + size - len(head), 0)])


class Assembler:
    """Puts messages together from their chunks.

    A message above the limits is taken to its end and thrown away as it comes. What is left of it, the header with an
    empty payload or an empty header, does not decode: so the sender gets its error.
    """

    def __init__(self, max_payload: int) -> None:
        self._max_payload = max_payload
        self._flags = self._header = self._stored = self._payload = 0
        self._data = bytearray()
        self._left = 0
        self._keep = 0

    def feed(self, chunk: bytes) -> list[wire.Buffer] | None:
        """The message's parts if this chunk completes it.

        Raises:
            FramingError: the chunks are no message.
        """
        if not self._left:
            self._begin(chunk)
            chunk = chunk[_PREFIX.size :]
        if len(chunk) > self._left:
            raise FramingError(f"chunk goes {len(chunk) - self._left} bytes beyond its message")
        self._left -= len(chunk)
        self._data += chunk[: self._keep - len(self._data)]
        return None if self._left else self._end()

    def _begin(self, chunk: bytes) -> None:
        if len(chunk) < _PREFIX.size:
            raise FramingError(f"first chunk of a message has {len(chunk)} bytes")
        flags, header, stored, payload = _PREFIX.unpack_from(chunk)
        whole = stored == payload if not flags & _DEFLATED else 0 < stored < payload
        if flags & ~3 or not header or not whole or (payload and not flags & _HAS_PAYLOAD):
            raise FramingError(f"message prefix {chunk[: _PREFIX.size].hex()} is not of the protocol")
        self._flags, self._header, self._stored, self._payload = flags, header, stored, payload
        self._data = bytearray()
        self._left = header + stored
        self._keep = 0 if header > wire.MAX_HEADER else header + (stored if payload <= self._max_payload else 0)

    def _end(self) -> list[wire.Buffer]:
        data, self._data = memoryview(self._data), bytearray()
        parts: list[wire.Buffer] = [data[: self._header]]
        if self._flags & _HAS_PAYLOAD:
            payload = data[self._header :]
            parts.append(_inflate(payload, self._payload) if self._flags & _DEFLATED and payload else payload)
        return parts


def _inflate(stored: memoryview, size: int) -> bytes:
    """The payload of exactly ``size`` bytes, or none where it is not that."""
    inflater = zlib.decompressobj()
    try:
        payload = inflater.decompress(stored, size)
        rest = inflater.decompress(inflater.unconsumed_tail, 1)
    except zlib.error:
        return b""
    whole = len(payload) == size and inflater.eof and not rest and not inflater.unused_data
    return payload if whole else b""
