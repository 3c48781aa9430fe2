"""Sections 1, 3 and 9 of PROTOCOL.md: every form of a right message is taken, broken ones are refused."""

from __future__ import annotations

import dataclasses
import struct
import time
from functools import partial

import msgpack

from drivers.protocol import wire
from workbench.check.malformed import MALFORMED, MALFORMED_PROCESS, Malformed, Sample, nested, oversized, spliced
from workbench.check.peer import Peer, Requirement, as_answer, kind_of
from workbench.check.requirements import BrokenLinkError, expect, needs

FILLING = 8 << 10
"""Bytes in unknown keys of the HELLO that measures how fast the line is."""
NESTED = 4000


def _unknown_keys(peer: Peer) -> None:
    request_id = peer.new_id()
    keys = {
        "new": 1,
        "another": ["nested", {"deeper": None}],
        "zz": b"\0" * 40,
        "yes": True,
        "half": 0.5,
        "below": -70000,
        "speaks": wire.LATEST,
    }
    peer.send_parts([msgpack.packb({**keys, "v": wire.VERSION, "type": "hello", "id": request_id, "last": "x"})])
    as_answer(peer.answer(request_id), wire.Info)


def _nesting(peer: Peer) -> None:
    request_id = peer.new_id()
    peer.send_parts([spliced(Sample(request_id, 0, 0, []), nested(NESTED))])
    # No bound of section 3 forbids it, so a device may also ignore the key.
    answer = peer.answer(request_id, 0)
    expect(isinstance(answer, wire.Info | wire.Error), f"answered with {kind_of(answer)}")


def _any_integer(peer: Peer) -> None:
    request_id = peer.new_id()
    codes = peer.codes("active")
    address = next(iter(codes))
    # The forms of 64 bits, unsigned and signed, where shorter ones would do; and the keys backwards.
    forms = b"\x92\xcf" + struct.pack(">Q", address) + b"\xd3" + struct.pack(">q", codes[address])
    pairs = b"\xdc\x00\x01" + forms
    head = b"\xde\x00\x04" + msgpack.packb("registers") + pairs + msgpack.packb("id") + b"\xcf"
    head += struct.pack(">Q", request_id) + msgpack.packb("type") + b"\xda\x00\x05write" + msgpack.packb("v") + b"\xd2"
    peer.send_parts([head + struct.pack(">i", wire.VERSION)])
    answer = as_answer(peer.answer(request_id), wire.RegisterValues)
    expect(answer.registers == ((address, codes[address]),), f"wrote {codes[address]}, read back {answer.registers}")


def _largest_id(peer: Peer) -> None:
    peer.send(wire.Hello(wire.MAX_ID, wire.LATEST))
    as_answer(peer.answer(wire.MAX_ID), wire.Info)


def _id_zero(peer: Peer) -> None:
    peer.send(wire.Hello(0, wire.LATEST))
    answer = peer.answer(0)
    expect(isinstance(answer, wire.Info | wire.Error), f"answered with {kind_of(answer)}")


def _malformed(sample: Malformed, peer: Peer) -> None:
    needs(peer.many_clients or not sample.only_multipart, "the transport cannot carry such a message")
    request_id = peer.new_id()
    peer.refused(request_id, sample.parts(_sample(peer, request_id)), sample.codes, has_id=sample.has_id)


def _malformed_process(sample: Malformed, peer: Peer) -> None:
    needs(not peer.info.live, "a live device takes no RAW")
    _malformed(sample, peer)


def _sample(peer: Peer, request_id: int) -> Sample:
    request = dataclasses.replace(peer.request(peer.far(0.6)), id=request_id)
    address, code = next(iter(peer.far(0.6).items()))
    return Sample(request_id, address, code, wire.encode(request))


def _oversized(peer: Peer) -> None:
    request_id = peer.new_id()
    start = time.monotonic()
    filled = Sample(request_id, 0, 0, []).hello(
        speaks=wire.LATEST, **{f"x{i}": b"\0" * 4000 for i in range(FILLING // 4000)}
    )
    peer.send_parts([filled])
    as_answer(peer.answer(request_id), wire.Info)
    needs_s = (time.monotonic() - start) * wire.MAX_HEADER / FILLING
    needs(needs_s < peer.deadline_s / 2, f"a header of 1 MiB would take {needs_s:.0f} s on this line")
    request_id = peer.new_id()
    try:
        peer.refused(request_id, oversized(_sample(peer, request_id)), ("bad_message",), has_id=False)
    except BrokenLinkError:
        # ZeroMQ's own bound breaks the connection before the message is read.
        peer.hello()


REQUIREMENTS = (
    *(Requirement(m.title, m.section, partial(_malformed_process, m)) for m in MALFORMED_PROCESS),
    *(Requirement(m.title, m.section, partial(_malformed, m)) for m in MALFORMED),
    Requirement("A header above 1 MiB is refused", "1, 9", _oversized),
    Requirement("Unknown keys are ignored", "1", _unknown_keys),
    Requirement("A header with deep nesting is answered", "1, 9", _nesting),
    Requirement("Integers have any form, keys any order", "1", _any_integer),
    Requirement("Request ids have 64 bits", "1", _largest_id),
    Requirement("A request with id 0 is answered", "1, 9", _id_zero),
)
