from __future__ import annotations

import random
import re
import struct
import tracemalloc
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.protocol import serial_end, serial_framing, wire
from drivers.protocol.serial_end import MAX_QUEUED, SerialEnd
from drivers.protocol.serial_framing import (
    ACK,
    DATA,
    MAX_CHUNK,
    MAX_ENCODED,
    OPEN,
    OPENED,
    RESET,
    Assembler,
    FrameReader,
    FramingError,
    LinkFrame,
    cut,
    decode_frame,
    encode_frame,
)

PROTOCOL = Path(serial_framing.__file__).parent / "PROTOCOL.md"
LIMIT = 1 << 20
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
Parts = Sequence[wire.Buffer]


def plain(parts: Parts) -> list[bytes]:
    return [bytes(part) for part in parts]


def client(**options: Any) -> SerialEnd:
    return SerialEnd(opens=True, max_payload=LIMIT, **options)


def device(**options: Any) -> SerialEnd:
    return SerialEnd(opens=False, max_payload=LIMIT, **options)


def frames(data: bytes) -> list[LinkFrame]:
    return FrameReader().feed(data)


def numbers(data: bytes) -> list[int]:
    """Of the chunks in what one end gives to write."""
    return [struct.unpack_from("<I", frame.body)[0] for frame in frames(data) if frame.kind == DATA]


def opened(**options: Any) -> tuple[SerialEnd, SerialEnd]:
    c, d = client(**options), device()
    d.feed(c.outgoing(0.0), 0.0)
    c.feed(d.outgoing(0.0), 0.0)
    assert c.opened
    assert d.opened
    return c, d


def inbox(end: SerialEnd) -> list[list[bytes]]:
    messages = []
    while (parts := end.receive()) is not None:
        messages.append(plain(parts))
    return messages


# ---- frames --------------------------------------------------------------------------------------------------------

bodies = {
    OPEN: st.binary(min_size=5, max_size=5),
    OPENED: st.binary(min_size=5, max_size=5),
    DATA: st.binary(min_size=5, max_size=4 + MAX_CHUNK),
    ACK: st.binary(min_size=8, max_size=8),
    RESET: st.just(b""),
}
some_frames = st.sampled_from(list(bodies)).flatmap(
    lambda kind: st.builds(LinkFrame, st.just(kind), st.integers(0, 2**32 - 1), bodies[kind])
)


@unhurried
@given(some_frames)
def test_a_frame_survives_and_holds_no_delimiter(frame: LinkFrame) -> None:
    encoded = encode_frame(frame.kind, frame.session, frame.body)
    assert encoded[0] == encoded[-1] == 0
    assert 0 not in encoded[1:-1]
    assert len(encoded) - 2 <= MAX_ENCODED
    assert decode_frame(encoded[1:-1]) == frame


def test_the_longest_frame_has_the_stated_length() -> None:
    assert len(encode_frame(DATA, 2**32 - 1, b"\xff" * (4 + MAX_CHUNK))) == MAX_ENCODED + 2


@unhurried
@given(st.binary(max_size=2 * MAX_ENCODED))
def test_any_bytes_are_a_frame_or_a_framing_error(data: bytes) -> None:
    try:
        frame = decode_frame(data)
    except FramingError:
        return
    assert decode_frame(encode_frame(frame.kind, frame.session, frame.body)[1:-1]) == frame


@unhurried
@given(some_frames, st.data())
def test_a_flipped_bit_is_always_seen(frame: LinkFrame, data: st.DataObject) -> None:
    encoded = bytearray(encode_frame(frame.kind, frame.session, frame.body)[1:-1])
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FramingError):
        decode_frame(bytes(encoded))


@unhurried
@given(st.lists(st.one_of(some_frames, st.binary(max_size=3000)), max_size=8), st.data())
def test_frames_are_found_in_garbage_however_it_is_split(pieces: list[LinkFrame | bytes], data: st.DataObject) -> None:
    stream = b"".join(p if isinstance(p, bytes) else encode_frame(p.kind, p.session, p.body) for p in pieces)
    reader = FrameReader()
    found = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:size])
        assert len(reader._piece) <= MAX_ENCODED
        stream = stream[size:]
    assert [f for f in found if f in pieces] == [p for p in pieces if isinstance(p, LinkFrame)]


def test_garbage_without_end_takes_no_memory() -> None:
    reader = FrameReader()
    for _ in range(100):
        assert reader.feed(b"\xaa" * 100_000) == []
    assert len(reader._piece) <= MAX_ENCODED
    assert reader.feed(encode_frame(RESET, 7)) == [LinkFrame(RESET, 7, b"")]
    assert reader.broken == 1


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<BI", 9, 1),
        struct.pack("<BI", ACK, 1) + bytes(7),
        struct.pack("<BI", DATA, 1) + bytes(4),
        struct.pack("<BI", DATA, 1) + bytes(4 + MAX_CHUNK + 1),
        struct.pack("<BI", RESET, 1) + b"x",
        b"\x05\x01",
    ],
    ids=["unknown type", "short ACK", "DATA without data", "long DATA", "RESET with body", "no session"],
)
def test_a_frame_with_a_right_crc_and_a_wrong_form_is_refused(data: bytes) -> None:
    from cobs import cobs

    with pytest.raises(FramingError):
        decode_frame(cobs.encode(data + struct.pack("<I", zlib.crc32(data))))


# ---- messages ------------------------------------------------------------------------------------------------------

messages = st.one_of(
    st.tuples(st.binary(min_size=1, max_size=400)),
    st.tuples(
        st.binary(min_size=1, max_size=400),
        st.one_of(st.binary(max_size=3000), st.binary(max_size=20).map(lambda b: b * 100)),
    ),
)


@unhurried
@given(messages, st.integers(64, MAX_CHUNK), st.booleans())
def test_a_message_survives_being_cut(parts: tuple[bytes, ...], size: int, compress: bool) -> None:
    assembler = Assembler(LIMIT)
    *first, last = cut(parts, size, compress=compress)
    assert all(len(chunk) == size for chunk in first)
    assert all(assembler.feed(chunk) is None for chunk in first)
    found = assembler.feed(last)
    assert found is not None
    assert plain(found) == list(parts)


def test_payloads_are_deflated_only_where_that_helps() -> None:
    zeros, noise = bytes(50_000), random.Random(1).randbytes(50_000)
    assert sum(map(len, cut([b"h", zeros], 1024, compress=True))) < 1000
    assert sum(map(len, cut([b"h", noise], 1024, compress=True))) == 13 + 1 + 50_000
    assert sum(map(len, cut([b"h", zeros], 1024, compress=False))) == 13 + 1 + 50_000


def prefix(flags: int, header: int, stored: int, payload: int) -> bytes:
    return struct.pack("<BIII", flags, header, stored, payload)


@pytest.mark.parametrize(
    "chunk",
    [
        b"",
        prefix(0, 1, 0, 0)[:12],
        prefix(4, 1, 0, 0),
        prefix(0, 0, 0, 0),
        prefix(0, 1, 8, 8),
        prefix(2, 1, 7, 8),
        prefix(3, 1, 8, 8),
        prefix(3, 1, 0, 8),
        prefix(0, 1, 0, 0) + b"ab",
    ],
)
def test_a_prefix_that_breaks_the_rules_is_refused(chunk: bytes) -> None:
    with pytest.raises(FramingError):
        Assembler(LIMIT).feed(chunk)


def take(assembler: Assembler, data: bytes) -> list[wire.Buffer]:
    for start in range(0, len(data), MAX_CHUNK):
        if (parts := assembler.feed(data[start : start + MAX_CHUNK])) is not None:
            return parts
    raise AssertionError("not whole")


def test_a_payload_above_the_limit_is_thrown_away_and_refused_by_its_header() -> None:
    header, payload = wire.encode(wire.Process(7, "00" * 32, (), b"{}", b"\1" * 5000))
    assembler = Assembler(4096)
    parts = take(assembler, b"".join(cut([header, payload], MAX_CHUNK, compress=False)))
    assert len(parts[1]) == 0
    with pytest.raises(wire.MessageError) as refused:
        wire.decode(parts, 4096)
    assert (refused.value.code, refused.value.request_id) == ("too_large", 7)
    assert plain(take(assembler, prefix(0, 2, 0, 0) + b"hi")) == [b"hi"]


def test_a_header_above_the_limit_is_thrown_away() -> None:
    assembler = Assembler(LIMIT)
    parts = take(assembler, prefix(2, wire.MAX_HEADER + 1, 4, 4) + bytes(wire.MAX_HEADER + 5))
    assert plain(parts) == [b"", b""]
    with pytest.raises(wire.MessageError, match="header"):
        wire.decode(parts)


@pytest.mark.parametrize("size", [999, 1001, 5000])
def test_a_payload_that_inflates_to_another_size_is_empty(size: int) -> None:
    deflated = zlib.compress(bytes(1000))
    parts = take(Assembler(LIMIT), prefix(3, 1, len(deflated), size) + b"h" + deflated)
    assert plain(parts) == [b"h", b""]


def test_a_payload_that_is_not_deflated_or_stops_short_is_empty() -> None:
    deflated = zlib.compress(bytes(1000))
    for stored in (b"nonsense", deflated[:-1], deflated + b"more"):
        parts = take(Assembler(LIMIT), prefix(3, 1, len(stored), 1000) + b"h" + stored)
        assert plain(parts) == [b"h", b""]


def test_a_small_message_that_inflates_hugely_takes_little_memory() -> None:
    bomb = zlib.compress(bytes(200 << 20))
    data = prefix(3, 1, len(bomb), LIMIT) + b"h" + bomb
    tracemalloc.start()
    try:
        parts = take(Assembler(LIMIT), data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert plain(parts) == [b"h", b""]
    assert peak < 4 * LIMIT


@unhurried
@given(st.lists(st.binary(max_size=300), max_size=6))
def test_any_chunks_are_messages_or_a_framing_error(chunks: list[bytes]) -> None:
    assembler = Assembler(4096)
    try:
        for chunk in chunks:
            assembler.feed(chunk)
    except FramingError:
        return
    assert len(assembler._data) <= 300 * len(chunks)


# ---- two ends ------------------------------------------------------------------------------------------------------


class Line:
    """One direction of a line that does harm: to frames and to bytes, at the given rates."""

    def __init__(self, seed: str, rates: dict[str, float]) -> None:
        self._random = random.Random(seed)
        self._rates = rates
        self._behind = b""

    def carry(self, data: bytes) -> bytes:
        out = []
        for frame in re.findall(rb"\0[^\0]+\0", data):
            if self._happens("drop"):
                continue
            if self._happens("flip"):
                damaged = bytearray(frame)
                damaged[self._random.randrange(len(damaged))] ^= 1 << self._random.randrange(8)
                frame = bytes(damaged)
            if self._happens("lose bytes"):
                start = self._random.randrange(len(frame))
                frame = frame[:start] + frame[start + self._random.randrange(1, 40) :]
            if self._happens("garbage"):
                out.append(self._random.randbytes(self._random.randrange(1, 3000)))
            if self._happens("reorder") and not self._behind:
                self._behind = frame
                continue
            out += [frame] * (2 if self._happens("duplicate") else 1)
            out.append(self._behind)
            self._behind = b""
        return b"".join(out)

    def _happens(self, what: str) -> bool:
        return self._random.random() < self._rates.get(what, 0.0)


def talk(c: SerialEnd, d: SerialEnd, there: Line, back: Line, *, until: int) -> tuple[list[Parts], list[Parts]]:
    """Carry bytes between two ends until the device has so many messages; every message is answered with itself."""
    now = 0.0
    came: list[Parts] = []
    answers: list[Parts] = []
    for _ in range(20_000):
        now += 0.05
        d.feed(there.carry(c.outgoing(now)), now)
        for parts in inbox(d):
            came.append(parts)
            d.send(list(parts))
        c.feed(back.carry(d.outgoing(now)), now)
        answers += inbox(c)
        if len(answers) == until:
            break
    return came, answers


HARM = {
    "drop": {"drop": 0.2},
    "flip": {"flip": 0.2},
    "lose bytes": {"lose bytes": 0.2},
    "duplicate": {"duplicate": 0.3},
    "reorder": {"reorder": 0.3},
    "garbage": {"garbage": 0.2},
    "everything": dict.fromkeys(("drop", "flip", "lose bytes", "duplicate", "reorder", "garbage"), 0.07),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("harm", HARM)
def test_every_message_arrives_once_and_whole_whatever_the_line_does(harm: str, seed: int) -> None:
    rng = random.Random(f"{harm} {seed}")
    sent = [
        [b"%d " % n + rng.randbytes(rng.randrange(600)), rng.randbytes(rng.randrange(20_000))]
        if n % 3
        else [b"%d " % n + bytes(100)]
        for n in range(12)
    ]
    c, d = client(), device(chunk=256, window=8)
    for parts in sent:
        c.send(list(parts))
    came, answers = talk(c, d, Line(f"{seed} there", HARM[harm]), Line(f"{seed} back", HARM[harm]), until=len(sent))
    assert came == sent
    assert answers == sent
    assert not c.lost


def test_nothing_is_sent_twice_over_a_good_line() -> None:
    c, d = client(), device()
    sent = [[b"head", random.Random(1).randbytes(100_000)], [b"other"]]
    for parts in sent:
        c.send(list(parts))
    _, answers = talk(c, d, Line("", {}), Line("", {}), until=2)
    assert answers == sent
    for end in (c, d):
        assert end.counts["resent"] == end.counts["duplicate"] == end.counts["broken"] == 0


def test_only_the_chunk_that_was_lost_is_sent_again() -> None:
    c, d = opened()
    c.send([b"h", random.Random(1).randbytes(3000)])
    burst = c.outgoing(1.0)
    assert numbers(burst) == [0, 1, 2]
    pieces = re.findall(rb"\0[^\0]+\0", burst)
    d.feed(pieces[0] + pieces[2], 1.0)
    assert inbox(d) == []
    c.feed(d.outgoing(1.0), 1.0)
    again = c.outgoing(1.0)
    assert numbers(again) == [1]
    d.feed(again, 1.0)
    assert len(inbox(d)) == 1
    assert c.counts["resent"] == 1


def test_no_more_chunks_are_on_their_way_than_the_window() -> None:
    c, d = client(), device(window=4, chunk=128)
    d.feed(c.outgoing(0.0), 0.0)
    c.feed(d.outgoing(0.0), 0.0)
    c.send([b"h", random.Random(1).randbytes(5000)])
    data = b"".join(c.outgoing(0.01 * n) for n in range(10))
    assert numbers(data) == [0, 1, 2, 3]
    assert max(len(f.body) for f in frames(data) if f.kind == DATA) == 4 + 128


def test_a_silent_peer_gets_the_oldest_chunk_again_ever_more_rarely() -> None:
    c, _ = opened()
    c.send([b"h", random.Random(1).randbytes(3000)])
    assert numbers(c.outgoing(0.0)) == [0, 1, 2]
    times, now = [], 0.0
    while now < 10:
        now += 0.01
        if again := numbers(c.outgoing(now)):
            assert again == [0]
            times.append(now)
    gaps = [b - a for a, b in zip([0.0, *times], times, strict=False)]
    assert gaps == pytest.approx([0.25, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0], abs=0.03)


def test_the_wait_before_sending_again_covers_a_slow_line() -> None:
    c, _ = opened(byte_s=0.001)
    c.send([b"h", random.Random(1).randbytes(2000)])
    assert numbers(c.outgoing(0.0)) == [0, 1]
    assert numbers(c.outgoing(3.0)) == []
    assert numbers(c.outgoing(3.5)) == [0]


def test_a_client_that_opens_again_finds_nothing_of_the_session_before() -> None:
    c, d = opened()
    c.send([b"half", random.Random(1).randbytes(10_000)])
    d.feed(c.outgoing(0.0), 0.0)
    d.send([b"answer to the first"])
    again = client()
    d.feed(again.outgoing(1.0), 1.0)
    again.feed(d.outgoing(1.0), 1.0)
    assert again.opened
    assert d.session == again.session
    assert numbers(d.outgoing(2.0)) == []
    again.send([b"new"])
    d.feed(again.outgoing(2.0), 2.0)
    assert inbox(d) == [[b"new"]]


def test_open_that_comes_twice_changes_nothing() -> None:
    c, d = client(), device()
    asked = c.outgoing(0.0)
    d.feed(asked, 0.0)
    answer = d.outgoing(0.0)
    c.feed(answer, 0.0)
    c.send([b"h", bytes(10)])
    data = c.outgoing(0.0)
    d.feed(asked + data + asked, 0.0)
    c.feed(answer, 0.0)
    assert inbox(d) == [[b"h", bytes(10)]]
    c.feed(d.outgoing(0.0), 0.0)
    assert not c.lost
    assert c.backlog == 0


def test_open_is_repeated_until_it_is_answered() -> None:
    c = client()
    times = [n for n in range(100) if frames(c.outgoing(n / 100))]
    assert times == [0, 25, 50, 75]
    assert c.wait_s(0.9) == pytest.approx(0.1)


@pytest.mark.parametrize("what", ["chunk", "acknowledgement"])
def test_a_device_that_restarted_says_so(what: str) -> None:
    c, d = opened()
    if what == "chunk":
        c.send([b"h"])
    else:
        d.send([b"h"])
        c.feed(d.outgoing(0.0), 0.0)
    restarted = device()
    restarted.feed(c.outgoing(0.0), 0.0)
    c.feed(restarted.outgoing(0.0), 0.0)
    assert c.lost
    assert not restarted.session


def test_a_restart_with_nothing_on_its_way_is_found_by_poking() -> None:
    c, d = opened()
    c.poke()
    d.feed(c.outgoing(0.0), 0.0)
    assert not d.outgoing(0.0)
    restarted = device()
    c.poke()
    restarted.feed(c.outgoing(0.0), 0.0)
    c.feed(restarted.outgoing(0.0), 0.0)
    assert c.lost
    c.poke()
    assert not c.outgoing(9.0)


def test_goodbye_ends_the_devices_session() -> None:
    c, d = opened()
    d.feed(c.goodbye(), 0.0)
    assert (d.session, d.opened) == (0, False)


def test_frames_of_other_sessions_are_dropped() -> None:
    c, d = opened()
    other = client()
    other.session = c.session ^ 1
    d.feed(encode_frame(RESET, other.session) + encode_frame(DATA, 0, bytes(4) + prefix(0, 1, 0, 0) + b"h"), 0.0)
    c.feed(encode_frame(RESET, other.session) + encode_frame(DATA, other.session, bytes(4) + b"h"), 0.0)
    assert d.session == c.session
    assert not c.lost
    assert inbox(c) == inbox(d) == []


def test_a_chunk_that_breaks_the_message_rules_ends_the_session() -> None:
    c, d = opened()
    d.feed(encode_frame(DATA, c.session, bytes(4) + b"no prefix"), 0.0)
    assert d.session == 0
    c.feed(d.outgoing(0.0), 0.0)
    assert c.lost
    d.feed(encode_frame(DATA, 1, bytes(4) + b"x"), 0.0)
    assert [f.kind for f in frames(d.outgoing(0.0))] == [RESET]


def test_a_device_of_another_version_is_named() -> None:
    c, d = client(), device()
    d.feed(encode_frame(OPEN, 5, struct.pack("<BBBH", 2, 0, 16, 1024)), 0.0)
    assert not d.opened
    (answer,) = frames(d.outgoing(0.0))
    assert (answer.kind, answer.session, answer.body[0]) == (OPENED, 5, 1)
    c.feed(encode_frame(OPENED, c.session, struct.pack("<BBBH", 2, 0, 16, 1024)), 0.0)
    assert not c.opened
    assert "version 2" in c.error


@pytest.mark.parametrize(("window", "chunk"), [(0, 1024), (33, 1024), (16, 63), (16, 1025)])
def test_limits_out_of_bounds_open_nothing(window: int, chunk: int) -> None:
    c, d = client(), device()
    limits = struct.pack("<BBBH", 1, 0, window, chunk)
    c.feed(encode_frame(OPENED, c.session, limits), 0.0)
    d.feed(encode_frame(OPEN, 5, limits), 0.0)
    assert not c.opened
    assert not d.opened


def test_a_device_that_cannot_inflate_gets_plain_payloads() -> None:
    c, d = client(), SerialEnd(opens=False, max_payload=LIMIT, compress=False)
    d.feed(c.outgoing(0.0), 0.0)
    c.feed(d.outgoing(0.0), 0.0)
    c.send([b"h", bytes(500)])
    (frame,) = frames(c.outgoing(0.0))
    assert frame.body == bytes(4) + prefix(2, 1, 500, 500) + b"h" + bytes(500)


def test_messages_wait_up_to_a_bound_and_a_repeat_waits_once() -> None:
    c, d = opened()
    for n in [*range(MAX_QUEUED + 5), 1, 2]:
        c.send([b"%d" % n])
    assert c.counts["dropped"] == 5
    assert c.backlog == MAX_QUEUED
    for n in range(100):
        d.feed(c.outgoing(n / 10), n / 10)
        c.feed(d.outgoing(n / 10), n / 10)
    assert inbox(d) == [[b"%d" % n] for n in range(MAX_QUEUED)]
    assert c.backlog == 0


def test_a_session_ends_when_its_numbers_are_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_end, "MAX_CHUNKS", 3)
    c, d = opened()
    for n in range(4):
        c.send([b"%d" % n])
        d.feed(c.outgoing(0.0), 0.0)
        c.feed(d.outgoing(0.0), 0.0)
    assert c.lost
    assert inbox(d) == [[b"0"], [b"1"], [b"2"]]
    d.feed(c.outgoing(0.0), 0.0)
    assert d.session == 0


def wild(session: int) -> st.SearchStrategy[bytes]:
    """Frames of a session with anything in them, and plain garbage."""
    small = st.integers(0, 40)
    chunk = st.one_of(
        st.binary(min_size=1, max_size=40),
        st.builds(
            lambda f, h, s, p, rest: prefix(f, h, s, p) + rest,
            st.integers(0, 5),
            st.integers(0, 50),
            st.one_of(small, st.integers(0, 2**32 - 1)),
            st.one_of(small, st.integers(0, 2**32 - 1)),
            st.binary(max_size=40),
        ),
    )
    number = st.one_of(small, st.integers(0, 2**32 - 1))
    body = st.one_of(
        st.builds(lambda n, c: (DATA, struct.pack("<I", n) + c), number, chunk),
        st.builds(lambda n, b: (ACK, struct.pack("<II", n, b)), number, st.integers(0, 2**32 - 1)),
        st.tuples(st.sampled_from([OPEN, OPENED]), bodies[OPEN]),
        st.just((RESET, b"")),
    )
    framed = st.builds(
        lambda kb, s: encode_frame(kb[0], s, kb[1]), body, st.sampled_from([session, session, session, 0, 77])
    )
    return st.one_of(framed, framed, st.binary(max_size=60))


@settings(unhurried, max_examples=200)
@given(st.booleans(), st.lists(wild(99), max_size=40))
def test_no_bytes_upset_an_end_or_make_it_grow(opens: bool, pieces: list[bytes]) -> None:
    end = client() if opens else device()
    end.session = 99
    limits = struct.pack("<BBBH", 1, 1, 16, 1024)
    end.feed(encode_frame(OPENED, 99, limits) if opens else encode_frame(OPEN, 98, limits), 0.0)
    for now, piece in enumerate(pieces):
        end.send([b"%d" % now, bytes(3000)])
        end.feed(piece, now)
        assert len(end.outgoing(now)) < 64 * MAX_ENCODED
        assert end.wait_s(now) >= 0
        inbox(end)
        assert len(end._held) < 32
        assert len(end._flight) <= 32
        assert len(end._replies) <= 8
        assert len(end._assembler._data) <= 40 * MAX_CHUNK


# ---- the document --------------------------------------------------------------------------------------------------


def block(label: str) -> bytes:
    """The fenced block of PROTOCOL.md that follows the line with this label."""
    text = PROTOCOL.read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(label)}\n+```text\n(.*?)\n```", text, re.MULTILINE | re.DOTALL)
    assert found, label
    return bytes.fromhex(found.group(1))


def test_the_documents_dumps_are_what_the_code_makes() -> None:
    c = client()
    c.session = 0x1BADCAFE
    d = SerialEnd(opens=False, max_payload=LIMIT, compress=False, window=4, chunk=256)
    ask = c.outgoing(0.0)
    assert ask == block("OPEN, inflates, window 16, chunk 1024:")
    d.feed(ask, 0.0)
    answer = d.outgoing(0.0)
    assert answer == block("OPENED, does not inflate, window 4, chunk 256:")
    c.feed(answer, 0.0)
    c.send(wire.encode(wire.Hello(7)))
    hello = c.outgoing(0.0)
    assert hello == block("DATA 0, the whole message HELLO with id 7:")
    d.feed(hello, 0.0)
    (parts,) = inbox(d)
    assert wire.decode(parts) == wire.Hello(7)
    for number in (2, 4):
        d.feed(encode_frame(DATA, c.session, struct.pack("<I", number) + b"x"), 0.0)
    assert d.outgoing(0.0) == block("ACK, next 1, chunks 2 and 4 have come:")
    assert c.goodbye() == block("RESET:")
