"""Requests that break the protocol, each in one way, and the errors with which a device may refuse them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack

from drivers.protocol import wire

_BAD = ("bad_message",)


@dataclass(frozen=True)
class Sample:
    """What a broken request is made of.

    Attributes:
        id: its request id.
        address: of a register; ``code``: one that it may hold.
        process: a whole PROCESS (of CAPTURE where the device is live) with this id, as its parts.
    """

    id: int
    address: int
    code: int
    process: list[wire.Buffer]

    def header(self, kind: str, **keys: Any) -> bytes:
        """A header of the protocol's version with this id."""
        result: bytes = msgpack.packb({"v": wire.VERSION, "type": kind, "id": self.id, **keys})
        return result

    def hello(self, **keys: Any) -> bytes:
        """A HELLO with further keys, or with others than the usual ones."""
        return self.header("hello", **keys)


@dataclass(frozen=True)
class Malformed:
    """One way to break the protocol.

    Attributes:
        title: what must happen.
        section: of PROTOCOL.md.
        codes: errors that say so.
        parts: the request.
        has_id: its id can be read, so the answer must repeat it.
        only_multipart: it has parts that a serial line cannot carry.
    """

    title: str
    section: str
    codes: tuple[str, ...]
    parts: Callable[[Sample], list[wire.Buffer]]
    has_id: bool = True
    only_multipart: bool = False


def _without(header: wire.Buffer, key: str) -> bytes:
    result: bytes = msgpack.packb({k: v for k, v in msgpack.unpackb(header).items() if k != key})
    return result


def nested(depth: int) -> bytes:
    """The msgpack of nil inside so many arrays."""
    return b"\x91" * depth + b"\xc0"


def spliced(sample: Sample, value: bytes) -> bytes:
    """A HELLO with one more key whose value is these msgpack bytes."""
    hello = sample.hello()
    result: bytes = bytes([hello[0] + 1]) + hello[1:] + msgpack.packb("x") + value
    return result


def _process_without(key: str) -> Malformed:
    title = f"PROCESS without {key} is refused"
    return Malformed(title, "4, 9", _BAD, lambda s: [_without(s.process[0], key), s.process[1]])


MALFORMED = (
    Malformed("An unknown message type is refused", "9, 12", ("unsupported",), lambda s: [s.header("reset")]),
    Malformed(
        "A message that is no request is refused",
        "9",
        ("unsupported",),
        lambda s: [s.header("error", code="failed", text="no request")],
    ),
    Malformed("An unknown version is refused", "9, 12", ("version",), lambda s: [s.hello(v=99)]),
    Malformed(
        "A header without version is refused",
        "1, 9",
        ("version", "bad_message"),
        lambda s: [_without(s.hello(), "v")],
    ),
    Malformed(
        "A header without type is refused", "1, 9", ("unsupported", *_BAD), lambda s: [_without(s.hello(), "type")]
    ),
    Malformed("A header without id is refused", "1, 9", _BAD, lambda s: [_without(s.hello(), "id")], has_id=False),
    Malformed("A negative id is refused", "1, 9", _BAD, lambda s: [s.hello(id=-7)], has_id=False),
    Malformed("An id that is no integer is refused", "1, 9", _BAD, lambda s: [s.hello(id="7")], has_id=False),
    Malformed("A header that is not msgpack is refused", "1, 9", _BAD, lambda s: [b"\xc1 no msgpack"], has_id=False),
    Malformed("A header that ends early is refused", "1, 9", _BAD, lambda s: [s.hello()[:-3]], has_id=False),
    Malformed("A header that is no map is refused", "1, 9", _BAD, lambda s: [msgpack.packb([1])], has_id=False),
    Malformed("Bytes after the header's map are refused", "1, 9", _BAD, lambda s: [s.hello() + b"\xc0"], has_id=False),
    Malformed("A part too many is refused", "1, 9", _BAD, lambda s: [s.hello(), b"surplus"]),
    Malformed("Three parts are refused", "1, 9", _BAD, lambda s: [*s.process[:1], b"one", b"two"], only_multipart=True),
    Malformed("An empty header is refused", "1, 9", _BAD, lambda s: [b""], has_id=False, only_multipart=True),
    Malformed("A msgpack extension is refused", "1, 9", _BAD, lambda s: [spliced(s, b"\xd4\x05\x00")], has_id=False),
    Malformed("Deep nesting is refused", "3, 9", _BAD, lambda s: [nested(100_000)], has_id=False),
    Malformed(
        "An array that claims 2³² − 1 elements is refused",
        "3, 9",
        _BAD,
        lambda s: [spliced(s, b"\xdd\xff\xff\xff\xff")],
        has_id=False,
    ),
    Malformed(
        "A string that claims 2³² − 1 bytes is refused",
        "3, 9",
        _BAD,
        lambda s: [spliced(s, b"\xdb\xff\xff\xff\xff")],
        has_id=False,
    ),
    Malformed("A string of 4097 bytes is refused", "3, 9", _BAD, lambda s: [s.hello(x="x" * 4097)], has_id=False),
    Malformed("A binary of 4097 bytes is refused", "3, 9", _BAD, lambda s: [s.hello(x=bytes(4097))], has_id=False),
    Malformed(
        "A map of 65 pairs is refused",
        "3, 9",
        _BAD,
        lambda s: [s.hello(**{f"x{i}": i for i in range(62)})],
        has_id=False,
    ),
    Malformed("READ without a bank is refused", "4, 9", _BAD, lambda s: [s.header("read", addresses=[])]),
    Malformed(
        "READ of a third bank is refused", "3, 9", _BAD, lambda s: [s.header("read", bank="third", addresses=[])]
    ),
    Malformed("READ without addresses is refused", "4, 9", _BAD, lambda s: [s.header("read", bank="active")]),
    Malformed(
        "READ of an address beyond 32 bits is refused",
        "3, 9",
        _BAD,
        lambda s: [s.header("read", bank="active", addresses=[1 << 32])],
    ),
    Malformed("WRITE without registers is refused", "4, 9", _BAD, lambda s: [s.header("write")]),
    Malformed(
        "WRITE of registers that are no pairs is refused",
        "3, 9",
        _BAD,
        lambda s: [s.header("write", registers=[[s.address, s.code, s.code]])],
    ),
    Malformed(
        "WRITE of a code that is no integer is refused",
        "3, 9",
        _BAD,
        lambda s: [s.header("write", registers=[[s.address, float(s.code)]])],
    ),
    Malformed(
        "WRITE of a code beyond 32 bits is refused",
        "3, 9",
        _BAD,
        lambda s: [s.header("write", registers=[[s.address, 1 << 40]])],
    ),
    Malformed(
        "WRITE of an address twice is refused",
        "3, 9",
        _BAD,
        lambda s: [s.header("write", registers=[[s.address, s.code], [s.address, s.code]])],
    ),
    Malformed(
        "WRITE of 1025 registers is refused",
        "3, 9",
        _BAD,
        lambda s: [s.header("write", registers=[[i, s.code] for i in range(1025)])],
        has_id=False,
    ),
)
"""Refused by every device, whatever it photographs or processes."""

MALFORMED_PROCESS = (
    Malformed("PROCESS without its payload is refused", "1, 9", _BAD, lambda s: s.process[:1]),
    Malformed(
        "A payload of another length than payload_size is refused",
        "1, 9",
        _BAD,
        lambda s: [s.process[0], bytes(s.process[1])[:-2]],
    ),
    _process_without("metadata"),
    _process_without("raw_hash"),
    Malformed(
        "PROCESS with a raw_hash of 31 bytes is refused",
        "3, 9",
        _BAD,
        lambda s: [_with(s.process[0], raw_hash=bytes(31)), s.process[1]],
    ),
    _process_without("registers"),
)
"""Refused by every device that takes stored RAWs."""


def _with(header: wire.Buffer, **keys: Any) -> bytes:
    result: bytes = msgpack.packb({**msgpack.unpackb(header), **keys})
    return result


def oversized(sample: Sample) -> list[wire.Buffer]:
    """A HELLO whose header is one byte above the bound, every value in it within the bounds."""
    size = wire.MAX_HEADER + 1
    hello = sample.hello()
    head = bytes([hello[0] + 1]) + hello[1:] + msgpack.packb("x")
    # An array of strings, the last one of the length that is still missing.
    count, left = 1024, size - len(head) - 3
    each = left // count - 3
    strings = [b"\xda" + struct.pack(">H", each) + b"x" * each] * (count - 1)
    last = left - sum(map(len, strings)) - 3
    strings.append(b"\xda" + struct.pack(">H", last) + b"x" * last)
    return [head + b"\xdc" + struct.pack(">H", count) + b"".join(strings)]
