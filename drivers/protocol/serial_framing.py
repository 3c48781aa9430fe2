"""The serial link without its port: COBS frames, and messages cut into chunks that are sent until they have arrived.

PROTOCOL.md, section 14, specifies it. :class:`SerialEnd` is one end of the link, client or device. It takes the bytes
that came (:meth:`~SerialEnd.feed`) and gives the bytes to write (:meth:`~SerialEnd.outgoing`); it never waits and reads
no clock. Whatever bytes arrive, nothing is raised and the memory stays bounded.
"""

from __future__ import annotations

import secrets
import struct
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cobs import cobs

from drivers.errors import ProtocolError
from drivers.protocol import wire

VERSION = 1
OPEN, OPENED, DATA, ACK, RESET = 1, 2, 3, 4, 5
MIN_CHUNK, MAX_CHUNK = 64, 1024
MAX_WINDOW = 32
DEFAULT_WINDOW = 16
MAX_CHUNKS = 2**32 - 1
"""Chunks of one session in one direction; then it ends."""
MAX_ENCODED = 1042
"""Bytes of the longest frame between its delimiters: DATA of 1024 bytes."""
OPEN_S = 0.25
"""Seconds after which OPEN is sent again."""
RESEND_S, MAX_RESEND_S = 0.25, 2.0
"""Seconds without news after which the oldest chunk is sent again; doubled each time up to the second."""
BURST = 4096
"""Bytes of chunks that one call gives to write, about."""
MAX_QUEUED = 128
"""Messages that wait to be sent; one more is dropped."""

_HEAD = struct.Struct("<BI")
_LIMITS = struct.Struct("<BBBH")
_SEQUENCE = struct.Struct("<I")
_ACK = struct.Struct("<II")
_PREFIX = struct.Struct("<BIII")
_SIZES = {OPEN: (5, 5), OPENED: (5, 5), DATA: (4 + 1, 4 + MAX_CHUNK), ACK: (8, 8), RESET: (0, 0)}
_INFLATES = 1
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
    return b"\0" + cobs.encode(plain + _SEQUENCE.pack(zlib.crc32(plain))) + b"\0"


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
    if len(data) < _HEAD.size + 4 or zlib.crc32(data[:-4]) != _SEQUENCE.unpack(data[-4:])[0]:
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


@dataclass(slots=True)
class _Chunk:
    """A chunk on its way. ``order`` counts transmissions: of two, the line delivers the lower first.

    ``sent``: when, if it was sent once.
    """

    data: bytes
    order: int
    sent: float | None


class SerialEnd:
    """One end of a link: messages in, bytes out, and the other way round.

    Attributes:
        session: the link's session, 0 where none is open.
        opened: chunks can be sent.
        lost: the other end has no such session any more, or broke the protocol; the client opens another link.
        error: why no link can be opened with this peer, or empty.
        counts: ``frames`` that were right, ``broken`` ones, ``duplicate`` and ``resent`` chunks, ``dropped`` messages.
    """

    def __init__(
        self,
        *,
        opens: bool,
        max_payload: int,
        compress: bool = True,
        chunk: int = MAX_CHUNK,
        window: int = DEFAULT_WINDOW,
        byte_s: float = 0.0,
    ) -> None:
        """An end that opens the link (the client's) or waits for it.

        Args:
            opens: the client's end.
            max_payload: largest payload taken, in bytes.
            compress: deflate payloads where it makes them smaller and the other end inflates; and inflate them.
            chunk: most bytes of a chunk; ``window``: most chunks on their way, both of them for both directions.
            byte_s: seconds that the line needs for a byte.
        """
        self.session = secrets.randbelow(2**32 - 1) + 1 if opens else 0
        self.lost = False
        self.error = ""
        self.counts: Counter[str] = Counter()
        self._opens = opens
        self._max_payload = max_payload
        self._compress = compress
        self._chunk, self._window, self._byte_s = chunk, window, byte_s
        self._reader = FrameReader()
        self._inbox: deque[list[wire.Buffer]] = deque()
        self._replies: dict[tuple[int, int], bytes] = {}
        self._open_at = 0.0
        self._begin()

    def _begin(self) -> None:
        """No chunk has gone or come in this session."""
        self.opened = False
        self._inbox.clear()
        self._assembler = Assembler(self._max_payload)
        self._expected = 0
        self._held: dict[int, bytes] = {}
        self._ack_due = False
        self._queue: deque[list[wire.Buffer]] = deque()
        self._chunks: Iterator[bytes] = iter(())
        self._flight: dict[int, _Chunk] = {}
        self._resend: set[int] = set()
        self._first = self._next = 0
        self._order = 0
        self._wait_s = RESEND_S
        self._resend_at = 0.0
        self._round_trip_s = 0.0

    # ---- messages --------------------------------------------------------------------------------------------------

    def send(self, parts: list[wire.Buffer]) -> None:
        """Queue a message. One whose header waits already is not queued twice; beyond the bound it is dropped."""
        if any(waiting[0] == parts[0] for waiting in self._queue):
            return
        if len(self._queue) >= MAX_QUEUED:
            self.counts["dropped"] += 1
            return
        self._queue.append(parts)

    def receive(self) -> list[wire.Buffer] | None:
        """The next message's parts; ask until there is none after each :meth:`feed`."""
        return self._inbox.popleft() if self._inbox else None

    @property
    def backlog(self) -> int:
        """Messages that have not wholly arrived."""
        return len(self._queue) + bool(self._flight)

    # ---- bytes -----------------------------------------------------------------------------------------------------

    def feed(self, data: bytes, now: float) -> None:
        """Take what came over the line; ``now`` in seconds of any steady clock."""
        for frame in self._reader.feed(data):
            self.counts["frames"] += 1
            if frame.kind == OPEN and not self._opens:
                self._take_open(frame)
            elif not self.session or frame.session != self.session:
                if not self._opens and frame.kind in (DATA, ACK):
                    self._replies[RESET, frame.session] = b""
            elif frame.kind == OPENED and self._opens:
                self._take_opened(frame)
            elif frame.kind == DATA:
                self._take_data(frame.body)
            elif frame.kind == ACK:
                self._take_ack(frame.body, now)
            elif frame.kind == RESET:
                self._end()
            while len(self._replies) > 4:
                del self._replies[next(iter(self._replies))]
        self.counts["broken"] = self._reader.broken

    def outgoing(self, now: float) -> bytes:
        """What is to be written now, acknowledgements first; call it when what it gave before has been written."""
        out = [encode_frame(kind, session, body) for (kind, session), body in self._replies.items()]
        self._replies.clear()
        if self._opens and not self.opened and not self.lost:
            if now >= self._open_at:
                self._open_at = now + OPEN_S
                out.append(encode_frame(OPEN, self.session, self._limits))
            return b"".join(out)
        if self._ack_due:
            self._ack_due = False
            bits = sum(1 << (n - self._expected - 1) for n in self._held)
            out.append(encode_frame(ACK, self.session, _ACK.pack(self._expected, bits)))
        if self.opened:
            out += self._due(now)
        return b"".join(out)

    def wait_s(self, now: float) -> float:
        """Seconds until :meth:`outgoing` may have something although nothing came."""
        if self._opens and not self.opened:
            return max(self._open_at - now, 0.0)
        if self._replies or self._ack_due or self._resend or (self._queue and not self._full):
            return 0.0
        return max(self._resend_at - now, 0.0) if self._flight else MAX_RESEND_S

    def poke(self) -> None:
        """Acknowledge again what has come: a peer that was restarted answers with RESET, any other not at all."""
        self._ack_due = self.opened

    def goodbye(self) -> bytes:
        """The frame that ends the session."""
        return encode_frame(RESET, self.session)

    @property
    def _limits(self) -> bytes:
        return _LIMITS.pack(VERSION, _INFLATES if self._compress else 0, self._window, self._chunk)

    @property
    def _full(self) -> bool:
        return self._next - self._first >= self._send_window

    def _end(self) -> None:
        self._begin()
        self.lost = self._opens
        if not self._opens:
            self.session = 0

    def _take_open(self, frame: LinkFrame) -> None:
        version, flags, window, chunk = _LIMITS.unpack(frame.body)
        self._replies[OPENED, frame.session] = self._limits
        if version != VERSION or not _in_limits(window, chunk) or not frame.session or frame.session == self.session:
            return
        self._begin()
        self.session = frame.session
        self._open(flags, window, chunk)

    def _take_opened(self, frame: LinkFrame) -> None:
        version, flags, window, chunk = _LIMITS.unpack(frame.body)
        if version != VERSION:
            self.error = f"it speaks version {version} of the serial link; this side speaks {VERSION}"
        elif not self.opened and _in_limits(window, chunk):
            self._open(flags, window, chunk)

    def _open(self, flags: int, window: int, chunk: int) -> None:
        self.opened = True
        self._deflate = self._compress and bool(flags & _INFLATES)
        self._send_window, self._send_chunk = min(window, self._window), min(chunk, self._chunk)

    # ---- chunks that come ------------------------------------------------------------------------------------------

    def _take_data(self, body: bytes) -> None:
        (number,) = _SEQUENCE.unpack_from(body)
        self._ack_due = True
        if not self._expected <= number < self._expected + self._window or number in self._held:
            self.counts["duplicate"] += 1
            return
        self._held[number] = body[_SEQUENCE.size :]
        while (chunk := self._held.pop(self._expected, None)) is not None:
            self._expected += 1
            try:
                parts = self._assembler.feed(chunk)
            except FramingError:
                self._replies[RESET, self.session] = b""
                self._end()
                return
            if parts is not None:
                self._inbox.append(parts)

    # ---- chunks that go --------------------------------------------------------------------------------------------

    def _due(self, now: float) -> list[bytes]:
        if self._flight and now >= self._resend_at:
            self._resend.add(min(self._flight))
            self._wait_s = min(2 * self._wait_s, MAX_RESEND_S)
        if self._next >= MAX_CHUNKS:
            self._replies[RESET, self.session] = b""
            self._end()
            return []
        frames = []
        size = 0
        for number in sorted(self._resend):
            frames.append(self._transmit(number, self._flight[number].data, None))
            self.counts["resent"] += 1
        self._resend.clear()
        while size < BURST and not self._full and (data := self._next_chunk()) is not None:
            frames.append(self._transmit(self._next, data, now))
            size += len(data)
            self._next += 1
        if frames:
            self._start_clock(now)
        return frames

    def _transmit(self, number: int, data: bytes, sent: float | None) -> bytes:
        self._order += 1
        self._flight[number] = _Chunk(data, self._order, sent)
        return encode_frame(DATA, self.session, _SEQUENCE.pack(number) + data)

    def _next_chunk(self) -> bytes | None:
        while (data := next(self._chunks, None)) is None:
            if not self._queue:
                return None
            self._chunks = cut(self._queue.popleft(), self._send_chunk, compress=self._deflate)
        return data

    def _take_ack(self, body: bytes, now: float) -> None:
        expected, bits = _ACK.unpack(body)
        if not self._first <= expected <= self._next:
            return
        self._first = expected
        arrived = [n for n in self._flight if n < expected or (n > expected and bits >> (n - expected - 1) & 1)]
        if not arrived:
            return
        chunks = [self._flight.pop(n) for n in arrived]
        newest = max(chunk.order for chunk in chunks)
        for chunk in chunks:
            if chunk.sent is not None:
                self._round_trip_s = min(max(now - chunk.sent, 0.9 * self._round_trip_s), MAX_RESEND_S)
        self._resend = {n for n in self._resend if n in self._flight}
        # The line keeps the order: what was sent before a chunk that has arrived, and has not arrived, is lost.
        self._resend |= {n for n, chunk in self._flight.items() if chunk.order < newest}
        self._wait_s = RESEND_S
        self._start_clock(now)

    def _start_clock(self, now: float) -> None:
        on_the_line = sum(len(chunk.data) for chunk in self._flight.values()) * self._byte_s
        self._resend_at = now + self._wait_s + 1.5 * max(on_the_line, self._round_trip_s)


def _in_limits(window: int, chunk: int) -> bool:
    return 1 <= window <= MAX_WINDOW and MIN_CHUNK <= chunk <= MAX_CHUNK
