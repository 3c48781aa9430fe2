"""One end of the serial link without its port: chunks that are sent until they have arrived.

PROTOCOL.md, section 14, specifies it. :class:`SerialEnd` takes the bytes that came (:meth:`~SerialEnd.feed`) and gives
the bytes to write (:meth:`~SerialEnd.outgoing`); it never waits and reads no clock. Whatever bytes arrive, nothing is
raised and the memory stays bounded.
"""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

from drivers.protocol import wire
from drivers.protocol.serial_framing import (
    ACK,
    ACK_BODY,
    DATA,
    INFLATES,
    LIMITS,
    MAX_CHUNK,
    MAX_WINDOW,
    MIN_CHUNK,
    OPEN,
    OPENED,
    RESET,
    SEQUENCE,
    VERSION,
    Assembler,
    FrameReader,
    FramingError,
    LinkFrame,
    cut,
    encode_frame,
)

DEFAULT_WINDOW = 16
MAX_CHUNKS = 2**32 - 1
"""Chunks of one session in one direction; then it ends."""
OPEN_S = 0.25
"""Seconds after which OPEN is sent again."""
RESEND_S, MAX_RESEND_S = 0.25, 2.0
"""Seconds without news after which the oldest chunk is sent again; doubled each time up to the second."""
BURST = 4096
"""Bytes of chunks that one call gives to write, about."""
MAX_QUEUED = 128
"""Messages that wait to be sent; one more is dropped."""


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
        counts: ``frames`` that were right, ``broken`` ones, ``duplicate`` and ``resent`` chunks, ``dropped`` messages,
            ``echoed`` frames: its own that came back.
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
            elif frame.kind == OPEN:
                self.counts["echoed"] += 1
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
            out.append(encode_frame(ACK, self.session, ACK_BODY.pack(self._expected, bits)))
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
        return LIMITS.pack(VERSION, INFLATES if self._compress else 0, self._window, self._chunk)

    @property
    def _full(self) -> bool:
        return self._next - self._first >= self._send_window

    def _end(self) -> None:
        self._begin()
        self.lost = self._opens
        if not self._opens:
            self.session = 0

    def _take_open(self, frame: LinkFrame) -> None:
        version, flags, window, chunk = LIMITS.unpack(frame.body)
        self._replies[OPENED, frame.session] = self._limits
        if version != VERSION or not _in_limits(window, chunk) or not frame.session or frame.session == self.session:
            return
        self._begin()
        self.session = frame.session
        self._open(flags, window, chunk)

    def _take_opened(self, frame: LinkFrame) -> None:
        version, flags, window, chunk = LIMITS.unpack(frame.body)
        if version != VERSION:
            self.error = f"it speaks version {version} of the serial link; this side speaks {VERSION}"
        elif not self.opened and _in_limits(window, chunk):
            self._open(flags, window, chunk)

    def _open(self, flags: int, window: int, chunk: int) -> None:
        self.opened = True
        self._deflate = self._compress and bool(flags & INFLATES)
        self._send_window, self._send_chunk = min(window, self._window), min(chunk, self._chunk)

    # ---- chunks that come ------------------------------------------------------------------------------------------

    def _take_data(self, body: bytes) -> None:
        (number,) = SEQUENCE.unpack_from(body)
        self._ack_due = True
        if not self._expected <= number < self._expected + self._window or number in self._held:
            self.counts["duplicate"] += 1
            return
        self._held[number] = body[SEQUENCE.size :]
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
        return encode_frame(DATA, self.session, SEQUENCE.pack(number) + data)

    def _next_chunk(self) -> bytes | None:
        while (data := next(self._chunks, None)) is None:
            if not self._queue:
                return None
            self._chunks = cut(self._queue.popleft(), self._send_chunk, compress=self._deflate)
        return data

    def _take_ack(self, body: bytes, now: float) -> None:
        expected, bits = ACK_BODY.unpack(body)
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
