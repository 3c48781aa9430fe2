"""The requirements of PROTOCOL.md, section 14, tried on a serial line frame by frame."""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from drivers.protocol import wire
from drivers.protocol.byte_streams import ByteStream
from drivers.protocol.serial_framing import (
    ACK,
    ACK_BODY,
    DATA,
    LIMITS,
    MAX_CHUNK,
    MAX_ENCODED,
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
from workbench.check.conformance import tried
from workbench.check.malformed import Sample
from workbench.check.requirements import NotMetError, Result, expect

SECTION = "14"
RESENT_S = 4.0
"""Seconds within which a chunk that nobody acknowledges must come again; the protocol says 2 and the line's own."""


@dataclass(frozen=True)
class Opened:
    """An open session and what the device said of itself."""

    session: int
    window: int
    chunk: int


class Line:
    """The client's end of a line, without any care for what is lost."""

    def __init__(self, stream: ByteStream, deadline_s: float) -> None:
        """Over an open stream; ``deadline_s``: seconds that each answer may take."""
        self.deadline_s = deadline_s
        self._stream = stream
        self._reader = FrameReader()
        self._frames: list[LinkFrame] = []

    def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            NotMetError: the device does not take it in time.
        """
        end_at = time.monotonic() + self.deadline_s
        while data:
            data = data[self._stream.write(data) :]
            if time.monotonic() > end_at:
                raise NotMetError(f"the line does not take {len(data)} bytes in {self.deadline_s:g} s")
            if data:
                self._read()
                self._stream.wait(0.05, to_write=True)

    def send(self, kind: int, session: int, body: bytes = b"") -> None:
        """Write a frame."""
        self.write(encode_frame(kind, session, body))

    def next(self, within_s: float | None = None) -> LinkFrame:
        """The next frame.

        Raises:
            NotMetError: none comes in time.
        """
        wait_s = self.deadline_s if within_s is None else within_s
        end_at = time.monotonic() + wait_s
        while not self._frames:
            self._read()
            left_s = end_at - time.monotonic()
            if not self._frames:
                if left_s <= 0:
                    raise NotMetError(f"nothing came in {wait_s:g} s")
                self._stream.wait(min(left_s, 0.1))
        return self._frames.pop(0)

    def until(self, kind: int, session: int, within_s: float | None = None) -> tuple[LinkFrame, list[LinkFrame]]:
        """The next frame of this type and session, and those that came before it.

        Raises:
            NotMetError: it does not come in time.
        """
        before: list[LinkFrame] = []
        end_at = time.monotonic() + (self.deadline_s if within_s is None else within_s)
        while True:
            try:
                frame = self.next(max(end_at - time.monotonic(), 0.0))
            except NotMetError:
                seen = ", ".join(_NAMES.get(f.kind, "?") for f in before[:5]) or "nothing"
                raise NotMetError(f"{_NAMES[kind]} was due; there came {seen}") from None
            if frame.session == session and frame.kind == kind:
                return frame, before
            before.append(frame)

    def open(self, window: int = 16, chunk: int = MAX_CHUNK, session: int | None = None) -> Opened:
        """A session.

        Raises:
            NotMetError: OPENED does not come in time.
        """
        session = session or secrets.randbelow(2**32 - 1) + 1
        # OPEN may be lost where the device was in the middle of something: the client sends it every 250 ms.
        end_at = time.monotonic() + self.deadline_s
        while True:
            self.send(OPEN, session, LIMITS.pack(VERSION, 0, window, chunk))
            try:
                frame, _ = self.until(OPENED, session, 0.25)
            except NotMetError:
                if time.monotonic() > end_at:
                    raise
                continue
            _, _, its_window, its_chunk = LIMITS.unpack(frame.body)
            return Opened(session, its_window, its_chunk)

    def message(self, session: int, next_number: int = 0, *, within_s: float | None = None) -> wire.Message:
        """The next whole message, its chunks in order and each acknowledged.

        Raises:
            NotMetError: it does not come in time, or is none.
        """
        assembler = Assembler(wire.MAX_OUTPUT)
        while True:
            frame, _ = self.until(DATA, session, within_s)
            (number,) = SEQUENCE.unpack_from(frame.body)
            if number != next_number:
                continue
            next_number += 1
            self.send(ACK, session, ACK_BODY.pack(next_number, 0))
            try:
                parts = assembler.feed(frame.body[4:])
                if parts is not None:
                    return wire.decode(parts, wire.MAX_OUTPUT)
            except (FramingError, wire.MessageError) as error:
                raise NotMetError(f"what came is no message: {error}") from error

    def _read(self) -> None:
        while data := self._stream.read():
            self._frames += self._reader.feed(data)


def check(line: Line) -> Iterator[Result]:
    """Try every requirement of the line in turn."""
    for title, run in REQUIREMENTS.items():
        yield tried(title, SECTION, partial(run, line))


def _opened(line: Line) -> None:
    opened = line.open()
    fits = 1 <= opened.window <= MAX_WINDOW and MIN_CHUNK <= opened.chunk <= MAX_CHUNK
    expect(fits, f"OPENED says window {opened.window} and chunk {opened.chunk}")


def _other_version(line: Line) -> None:
    session = line.open().session ^ 1 or 2
    line.send(OPEN, session, LIMITS.pack(VERSION + 1, 0, 16, MAX_CHUNK))
    line.until(OPENED, session)
    _is_not_open(line, session)


def _bad_limits(line: Line) -> None:
    for window, chunk in ((0, 256), (33, 256), (16, 63), (16, 1025)):
        session = line.open().session ^ 1 or 2
        line.send(OPEN, session, LIMITS.pack(VERSION, 0, window, chunk))
        _is_not_open(line, session)


def _is_not_open(line: Line, session: int) -> None:
    line.send(ACK, session, ACK_BODY.pack(0, 0))
    line.until(RESET, session)


def _unknown_session(line: Line) -> None:
    other = line.open().session ^ 1 or 2
    line.send(DATA, other, SEQUENCE.pack(0) + _hello(1)[0])
    line.until(RESET, other)


def _ended(line: Line) -> None:
    session = line.open().session
    line.send(RESET, session)
    _is_not_open(line, session)


def _starts_anew(line: Line) -> None:
    for request_id in (11, 12):
        opened = line.open()
        _say_hello(line, opened, request_id)


def _open_again(line: Line) -> None:
    opened = line.open()
    first, second = _hello(21, filling=100, size=64)[:2]
    line.send(DATA, opened.session, SEQUENCE.pack(0) + first)
    line.until(ACK, opened.session)
    line.open(session=opened.session)
    line.send(DATA, opened.session, SEQUENCE.pack(1) + second)
    frame, _ = line.until(ACK, opened.session)
    next_number, _ = ACK_BODY.unpack(frame.body)
    expect(next_number == 2, f"after OPEN of the open session chunk {next_number} is awaited, not chunk 2")


def _garbage(line: Line) -> None:
    opened = line.open()
    line.write(
        b"\0\0\0" + secrets.token_bytes(300) + b"\x11no frame\0\xff\0" + b"x" * (2 * MAX_ENCODED) + b"\0\x05\x01"
    )
    _say_hello(line, opened, 31)


def _wrong_crc(line: Line) -> None:
    opened = line.open()
    other = opened.session ^ 1 or 2
    broken = bytearray(encode_frame(DATA, other, SEQUENCE.pack(0) + b"broken"))
    broken[-3] ^= 1 if broken[-3] != 1 else 2
    line.write(bytes(broken))
    # What the device answers to frames it answers in their order, so before this OPENED.
    line.send(OPEN, opened.session, LIMITS.pack(VERSION, 0, 16, MAX_CHUNK))
    _, before = line.until(OPENED, opened.session)
    expect(not before, f"a frame with a wrong CRC was answered with {_NAMES[before[0].kind] if before else ''}")


def _unknown_type(line: Line) -> None:
    opened = line.open()
    line.send(77, opened.session, b"later")
    line.send(RESET, opened.session, b"too long")
    _say_hello(line, opened, 41)


def _acknowledges(line: Line) -> None:
    opened = line.open()
    chunks = _hello(51, filling=100, size=64)
    line.send(DATA, opened.session, SEQUENCE.pack(0) + chunks[0])
    for expected, what in ((1, "chunk 0"), (1, "chunk 0 again")):
        frame, _ = line.until(ACK, opened.session)
        next_number, bits = ACK_BODY.unpack(frame.body)
        expect((next_number, bits) == (expected, 0), f"{what} was acknowledged as next {next_number}, bitmap {bits:#x}")
        line.send(DATA, opened.session, SEQUENCE.pack(0) + chunks[0])


def _out_of_order(line: Line) -> None:
    opened = line.open()
    chunks = list(enumerate(_hello(61, filling=300, size=64)))
    # What a device keeps out of order is its own affair; the second time all of them come as it awaits them.
    for number, chunk in chunks[::-1] + chunks:
        line.send(DATA, opened.session, SEQUENCE.pack(number) + chunk)
    answer = line.message(opened.session)
    expect(isinstance(answer, wire.Info) and answer.id == 61, "HELLO in chunks out of order was not answered with INFO")


def _beyond_window(line: Line) -> None:
    opened = line.open()
    line.send(DATA, opened.session, SEQUENCE.pack(5000) + b"far ahead")
    frame, _ = line.until(ACK, opened.session)
    said = ACK_BODY.unpack(frame.body)
    expect(said == (0, 0), f"a chunk beyond the window was acknowledged as {said}")
    line.send(ACK, opened.session, ACK_BODY.pack(9, 0xFFFF))
    _say_hello(line, opened, 71)


def _small_window(line: Line) -> None:
    opened = line.open(window=1, chunk=MIN_CHUNK)
    for number, chunk in enumerate(_hello(81, size=MIN_CHUNK)):
        line.send(DATA, opened.session, SEQUENCE.pack(number) + chunk)
    frame, _ = line.until(DATA, opened.session)
    expect(len(frame.body) - 4 <= MIN_CHUNK, f"a chunk of {len(frame.body) - 4} bytes came; {MIN_CHUNK} were agreed on")
    again, before = line.until(DATA, opened.session, RESENT_S)
    numbers = {SEQUENCE.unpack_from(f.body)[0] for f in (frame, again, *before) if f.kind == DATA}
    expect(numbers == {0}, f"chunks {sorted(numbers)} came without an acknowledgement; the window is 1")
    expect(again.body == frame.body, "a chunk came again with other bytes")
    answer = line.message(opened.session, within_s=RESENT_S)
    expect(isinstance(answer, wire.Info), f"{type(answer).__name__.upper()} came, not INFO")


def _bad_prefix(line: Line) -> None:
    header = wire.encode(wire.Hello(91, wire.LATEST))[0]
    size = len(header)
    for what, chunk in (
        ("of 12 bytes", bytes(12)),
        ("with an unknown flag", struct.pack("<BIII", 4, size, 0, 0) + header),
        ("without a header", struct.pack("<BIII", 0, 0, 0, 0)),
        ("with a payload that its flags deny", struct.pack("<BIII", 0, size, 4, 4) + header),
        ("with two sizes of a payload that is not deflated", struct.pack("<BIII", 2, size, 4, 8) + header),
        ("that ends within its last chunk", struct.pack("<BIII", 0, size - 1, 0, 0) + header),
    ):
        session = line.open().session
        line.send(DATA, session, SEQUENCE.pack(0) + chunk)
        try:
            line.until(RESET, session)
        except NotMetError as error:
            raise NotMetError(f"a message {what}: {error}") from error


REQUIREMENTS: dict[str, Callable[[Line], None]] = {
    "Line: OPEN is answered with OPENED": _opened,
    "Line: OPEN of another version opens nothing": _other_version,
    "Line: OPEN out of bounds opens nothing": _bad_limits,
    "Line: DATA of a session that is not open is answered with RESET": _unknown_session,
    "Line: RESET ends the session": _ended,
    "Line: numbers start at 0 in a new session": _starts_anew,
    "Line: OPEN of the open session changes nothing": _open_again,
    "Line: garbage between frames is dropped": _garbage,
    "Line: a frame with a wrong CRC is dropped": _wrong_crc,
    "Line: unknown types and wrong lengths are dropped": _unknown_type,
    "Line: every chunk is acknowledged, repeated ones too": _acknowledges,
    "Line: chunks may come in any order and again": _out_of_order,
    "Line: chunks and acknowledgements beyond the window are ignored": _beyond_window,
    "Line: the client's window and chunk are kept, unacknowledged chunks sent again": _small_window,
    "Line: a broken message is answered with RESET": _bad_prefix,
}

_NAMES = {OPEN: "OPEN", OPENED: "OPENED", DATA: "DATA", ACK: "ACK", RESET: "RESET"}


def _hello(request_id: int, *, filling: int = 0, size: int = MIN_CHUNK) -> list[bytes]:
    """The chunks of HELLO; with unknown keys so many bytes longer."""
    keys = {"speaks": wire.LATEST, **({"x": bytes(filling)} if filling else {})}
    return list(cut([Sample(request_id, 0, 0, []).hello(**keys)], size, compress=False))


def _say_hello(line: Line, opened: Opened, request_id: int) -> None:
    """HELLO must be answered, its chunk being the session's first."""
    (chunk,) = _hello(request_id)
    # One that comes again is acknowledged and dropped, so sending it twice does no harm where the first was damaged.
    for _ in range(2):
        line.send(DATA, opened.session, SEQUENCE.pack(0) + chunk)
    answer = line.message(opened.session)
    expect(isinstance(answer, wire.Info) and answer.id == request_id, "HELLO was not answered with INFO")
