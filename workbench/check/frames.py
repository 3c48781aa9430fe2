"""Sections 4, 7, 8 and 11 of PROTOCOL.md: latching, the proof of a frame, and frames that are refused."""

from __future__ import annotations

import hashlib
import time
from functools import partial

from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.protocol import wire
from workbench.check.peer import Peer, Requirement, as_answer, difference, some_of
from workbench.check.registers import refuse_register
from workbench.check.requirements import NotMetError, NotTriedError, expect, needs


def _latch(peer: Peer) -> None:
    codes = peer.far(0.2 if peer.codes("active") != peer.far(0.2) else 0.4)
    peer.ask(wire.Write(peer.new_id(), tuple(codes.items())), wire.RegisterValues)
    peer.frame({})
    active = peer.codes("active")
    expect(active == codes, f"the active bank is not what was written: {difference(peer, active, codes)}")


def _unnamed(peer: Peer) -> None:
    before, other = peer.far(0.7), peer.far(0.1)
    peer.frame(before)
    related = {name for name in peer.info.space.names if peer.info.space.relations.constrained_with(name)}
    free = (a for a in before if not related & {p.name for p in peer.registers.at(a)})
    address = next((a for a in free if before[a] != other[a]), None)
    if address is None:
        raise NotTriedError("every register is constrained with others")
    expected = before | {address: other[address]}
    peer.frame({address: other[address]})
    active = peer.codes("active")
    expect(active == expected, f"a request for one register changed others: {difference(peer, active, expected)}")


def _memoryless(peer: Peer) -> None:
    needs(not peer.info.live, "a live device never processes the same RAW again")
    needs(peer.info.echo, "a device without an echo may filter over time")
    first = peer.frame(peer.far(0.5))
    peer.frame(peer.far(0.9), peer.other)
    again = peer.frame(peer.far(0.5))
    expect(first.output_hash == again.output_hash, "another frame between them changed the output")


def _in_flight(peer: Peer) -> None:
    requests = [peer.request(peer.far(0.1 + 0.1 * (i % 8))) for i in range(peer.info.max_in_flight)]
    for request in requests:
        peer.send(request)
    answers = peer.answers(*(r.id for r in requests))
    for answer in answers:
        as_answer(answer, wire.Frame)
    order = [a.id for a in answers]
    expect(order == [r.id for r in requests], "the answers came in another order than the requests")
    before = len(peer.strays)
    peer.hello()
    expect(len(peer.strays) == before, f"answered more than once: {some_of(peer.strays[before:])}")


def _hello_between(peer: Peer) -> None:
    frames = [peer.request(peer.far(0.2)) for _ in range(min(2, peer.info.max_in_flight))]
    for request in frames:
        peer.send(request)
    ids = [peer.send(wire.Hello(peer.new_id(), wire.LATEST)), peer.send(wire.Read(peer.new_id(), "active"))]
    answers = {a.id: a for a in peer.answers(*(r.id for r in frames), *ids)}
    as_answer(answers[ids[0]], wire.Info)
    as_answer(answers[ids[1]], wire.RegisterValues)


def _proof(peer: Peer) -> tuple[wire.Frame, dict[int, int], RawFrame]:
    """A frame of a RAW and codes other than those of the frame before it."""
    peer.frame(peer.far(0.8))
    codes = peer.far(0.4)
    return peer.frame(codes, peer.other), codes, peer.other


def _boot_id(peer: Peer) -> None:
    frame, _, _ = _proof(peer)
    expect(frame.boot_id == peer.info.boot_id, f"FRAME's boot id is {frame.boot_id}, INFO's {peer.info.boot_id}")


def _raw_hash(peer: Peer) -> None:
    frame, _, raw = _proof(peer)
    if not peer.info.live:
        sent = wire.process_request(0, raw, (), peer.info.input).raw_hash
        expect(frame.raw_hash == sent, f"RAW hash {frame.raw_hash[:12]}…, sent was {sent[:12]}…")
        return
    try:
        wire.raw_frame(frame, peer.info.input)
    except wire.MessageError as error:
        raise NotMetError(f"the RAW of the photograph: {error}") from error


def _registers(peer: Peer) -> None:
    needs(peer.info.echo, "the device has no echo")
    frame, codes, _ = _proof(peer)
    named = dict(frame.registers)
    expect(named == codes, f"the codes in force are not those asked for: {difference(peer, named, codes)}")
    expect(peer.codes("active") == named, "the active bank reads other codes than the frame names")


def _parameters_hash(peer: Peer) -> None:
    needs(peer.info.echo, "the device has no echo")
    frame, _, _ = _proof(peer)
    named = dict(frame.registers)
    expect(set(named) == set(peer.far(0.0)), "FRAME does not name every register")
    expect(frame.parameters_hash == peer.hash(named), "parameters_hash is not that of the codes that FRAME names")


def _statistics(peer: Peer) -> None:
    frame, _, _ = _proof(peer)
    told = {s.name for s in peer.info.space.statistics}
    expect(set(frame.statistics) == told, f"FRAME tells {sorted(frame.statistics)}, INFO announces {sorted(told)}")


def _output_hash(peer: Peer) -> None:
    frame, _, _ = _proof(peer)
    digest = hashlib.sha256(frame.payload).hexdigest()
    expect(frame.output_hash == digest, f"output_hash {frame.output_hash[:12]}…, the payload's is {digest[:12]}…")


def _image(peer: Peer) -> None:
    frame, _, raw = _proof(peer)
    if peer.info.live:
        raw = wire.raw_frame(frame, peer.info.input)
    try:
        wire.picture(frame, peer.info.output, raw.width, raw.height).check(raw.width, raw.height)
    except FrameError as error:
        raise NotMetError(str(error)) from error


def _counter(peer: Peer) -> None:
    one, two = peer.frame(peer.far(0.3)), peer.frame(peer.far(0.6))
    expect(two.frame == one.frame + 1, f"frame {one.frame} was followed by frame {two.frame}")


def _device_time(peer: Peer) -> None:
    start = time.monotonic_ns()
    frame = peer.frame(peer.far(0.5))
    took = time.monotonic_ns() - start
    expect(frame.device_ns <= took, f"device_ns is {frame.device_ns}, but the answer took {took} ns in all")


def _repeat(peer: Peer) -> None:
    request = peer.request(peer.far(0.5))
    first = peer.ask(request, wire.Frame)
    again = peer.ask(request, wire.Frame)
    if peer.info.live:
        return
    expect(again.raw_hash == first.raw_hash, "the repeated request was answered with another RAW's frame")
    expect(again.registers == first.registers, "the repeated request was answered with other codes in force")
    if peer.info.echo:
        expect(again.output_hash == first.output_hash, "the repeated request gave another output")


def _wrong_kind(peer: Peer) -> None:
    codes = tuple(peer.far(0.6).items())
    request: wire.Process | wire.CaptureRequest
    if peer.info.live:
        request = wire.process_request(peer.new_id(), peer.raw, codes)
    else:
        request = wire.CaptureRequest(peer.new_id(), codes)
    peer.refused(request.id, wire.encode(request), ("unsupported",))


def _refused_frame(title: str, code: str) -> Requirement:
    return Requirement(title, "8, 9", partial(refuse_register, code=code, request=Peer.request))


REQUIREMENTS = (
    Requirement("What was written is in force from the next frame on", "8", _latch),
    Requirement("Registers that a request does not name keep their codes", "8", _unnamed),
    Requirement("FRAME names the boot", "4", _boot_id),
    Requirement("FRAME names the RAW that was processed", "4, 7", _raw_hash),
    Requirement("FRAME names the codes in force", "4", _registers),
    Requirement("FRAME's parameter hash is that of the codes in force", "4, 6", _parameters_hash),
    Requirement("FRAME's output hash is that of its payload", "4", _output_hash),
    Requirement("FRAME's payload is a whole picture of the RAW's size", "4", _image),
    Requirement("FRAME's device_ns is within the time that the answer took", "4", _device_time),
    Requirement("The frame counter goes up by one", "4", _counter),
    Requirement("The same RAW and codes give the same output", "8", _memoryless),
    Requirement("Requests in flight are answered once each, in order", "4, 8", _in_flight),
    Requirement("HELLO and READ are answered while frames wait", "8", _hello_between),
    Requirement("A repeated request is answered again", "11", _repeat),
    Requirement("The request for a frame that the device does not take is refused", "4", _wrong_kind),
    _refused_frame("A frame with a code out of range is refused", "bad_code"),
    _refused_frame("A frame with an unknown address is refused", "bad_register"),
    Requirement("FRAME tells the statistics that INFO announces", "4, 5", _statistics),
)
