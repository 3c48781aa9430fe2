"""The requirements of PROTOCOL.md, tried on a device over a bare link: nothing is asked again, nothing is mended."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import secrets
import struct
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import msgpack
import numpy as np

from drivers import stopping
from drivers.errors import DeviceError, FrameError, WorkbenchError
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import Parameter, ParameterSet, parameters_hash
from drivers.protocol import wire
from drivers.protocol.protocol_device import Link
from drivers.registers import Bank
from workbench.check.malformed import MALFORMED, MALFORMED_PROCESS, Malformed, Sample, nested, oversized, spliced

SIDE = 64
FILLING = 8 << 10
"""Bytes in unknown keys of the HELLO that measures how fast the line is."""
NESTED = 4000
SAME = "the same as with"
RESTORE_S = 5.0
"""Seconds for each answer while the registers are put back."""
QUIET_S = 0.2
"""Seconds in which a client must hear nothing that is not meant for it."""

Outcome = Literal["pass", "fail", "skipped"]
Answer = TypeVar("Answer", wire.Info, wire.RegisterValues, wire.Frame, wire.Error)


class NotMetError(WorkbenchError):
    """A requirement is not met; the text says how."""


class NoAnswerError(NotMetError):
    """No answer to a right request came, or none that can be read: the cause may lie in what other requirements try."""


class BrokenLinkError(NoAnswerError):
    """The connection broke instead of an answer."""


class NotTriedError(WorkbenchError):
    """A requirement cannot be tried on this device; the text says why."""


@dataclass(frozen=True)
class Result:
    """What became of one requirement.

    Attributes:
        title: the requirement; ``section``: of PROTOCOL.md.
        outcome: ``pass``, ``fail`` or ``skipped``.
        reason: why it failed or was skipped; else empty.
    """

    title: str
    section: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True)
class Requirement:
    """One requirement and how it is tried; ``run`` raises :class:`NotMetError` or :class:`NotTriedError`."""

    title: str
    section: str
    run: Callable[[Peer], None]


class Peer:
    """The device under test, over a link on which nothing is mended.

    Attributes:
        deadline_s: seconds that each answer may take.
        many_clients: others can connect beside this one (ZeroMQ).
        raw: what it processes; ``other``: another RAW of the same size.
        strays: answers that came a second time, or to what this peer never asked.
        restored: whether the registers are as they were before the check; None where nothing was read.
    """

    restored: bool | None = None

    def __init__(
        self,
        open_link: Callable[[], Link],
        deadline_s: float,
        raw: RawFrame | None = None,
        *,
        many_clients: bool = True,
    ) -> None:
        """Open a link; nothing is sent yet.

        Args:
            open_link: gives a fresh link.
            deadline_s: seconds that each answer may take.
            raw: what the device processes; None: a test chart of 64×64 pixels.
            many_clients: it gives as many links as are asked for, all at once.

        Raises:
            DeviceError: no link can be opened.
        """
        self.deadline_s = deadline_s
        self.many_clients = many_clients
        self.raw = raw or _chart()
        self.other = _negative(self.raw)
        self.strays: list[wire.Message] = []
        self.open_link = open_link
        self._link = open_link()
        self._first_id = self._next_id = secrets.randbits(40) << 20
        self._late: set[int] = set()
        self._info: wire.Info | None = None

    @property
    def info(self) -> wire.Info:
        """What it said when first asked.

        Raises:
            NotTriedError: it never said who it is.
        """
        if self._info is None:
            raise NotTriedError("nothing is known of the device without a valid INFO")
        return self._info

    def learn(self) -> None:
        """Ask who it is.

        Raises:
            NotMetError: it does not say.
        """
        self._info = self.hello()

    def close(self) -> None:
        """Drop the link."""
        self._link.close()

    def reopen(self) -> None:
        """Go on with a fresh link; what was on its way on the old one is gone.

        Raises:
            DeviceError: no link can be opened.
        """
        self._link.close()
        self._link = self.open_link()

    # ---- requests and answers --------------------------------------------------------------------------------------

    def new_id(self) -> int:
        """A request id that was not used yet."""
        self._next_id += 1
        return self._next_id

    def send(self, message: wire.Message) -> int:
        """Send a request; gives its id."""
        self.send_parts(wire.encode(message))
        return message.id

    def send_parts(self, parts: list[wire.Buffer]) -> None:
        """Send a message as it is, broken or not."""
        self._link.send(parts)

    def answers(self, *ids: int) -> list[wire.Message]:
        """One answer to each request, in the order of arrival. Others that come meanwhile are strays.

        Raises:
            NotMetError: one does not come in time, breaks the protocol, or the connection broke.
        """
        waiting = set(ids)
        # Until all have come, an answer that comes too late is this check's and no other's fault.
        self._late |= waiting
        taken = []
        end_at = time.monotonic() + self.deadline_s
        while waiting:
            answer = self._receive(end_at)
            if answer is None:
                raise NoAnswerError(f"no answer in {self.deadline_s:g} s")
            if answer.id in waiting:
                waiting.discard(answer.id)
                taken.append(answer)
                end_at = time.monotonic() + self.deadline_s
            elif answer.id in {a.id for a in taken} or answer.id not in self._late:
                self.strays.append(answer)
        self._late -= set(ids)
        return taken

    def answer(self, *ids: int) -> wire.Message:
        """The first answer with one of these ids; 0 where the device may not have been able to read the request's.

        Raises:
            NotMetError: as for :meth:`answers`.
        """
        self._late |= set(ids)
        end_at = time.monotonic() + self.deadline_s
        while (answer := self._receive(end_at)) is not None and answer.id not in ids:
            if answer.id not in self._late:
                self.strays.append(answer)
        if answer is None:
            raise NoAnswerError(f"no answer in {self.deadline_s:g} s")
        self._late -= set(ids)
        return answer

    def ask(self, message: wire.Message, expected: type[Answer]) -> Answer:
        """The answer to one request.

        Raises:
            NotMetError: there is none, or it is of another type.
        """
        self.send(message)
        return _as(self.answer(message.id), expected)

    def hello(self) -> wire.Info:
        """INFO, asked for now."""
        return self.ask(wire.Hello(self.new_id()), wire.Info)

    def codes(self, bank: Bank) -> dict[int, int]:
        """Every code of a bank, by address."""
        answer = self.ask(wire.Read(self.new_id(), bank), wire.RegisterValues)
        if answer.bank != bank:
            raise NotMetError(f"READ of the {bank} bank was answered with the {answer.bank} bank")
        return dict(answer.registers)

    def request(self, codes: dict[int, int], raw: RawFrame | None = None) -> wire.Process | wire.CaptureRequest:
        """A request for a frame: PROCESS, or CAPTURE of a live device."""
        if self.info.live:
            return wire.CaptureRequest(self.new_id(), tuple(codes.items()))
        return wire.process_request(self.new_id(), raw or self.raw, codes.items())

    def frame(self, codes: dict[int, int], raw: RawFrame | None = None) -> wire.Frame:
        """A frame made now."""
        return self.ask(self.request(codes, raw), wire.Frame)

    def refused(
        self, request_id: int, parts: list[wire.Buffer], codes: tuple[str, ...], *, has_id: bool = True
    ) -> None:
        """Send what must be refused.

        Raises:
            NotMetError: no ERROR came, or one with another code or id; or a register was changed by it.
        """
        before = self.codes("shadow"), self.codes("active")
        self.send_parts(parts)
        answer = self.answer(request_id) if has_id else self.answer(request_id, 0)
        if not isinstance(answer, wire.Error):
            raise NotMetError(f"answered with {_kind(answer)}; ERROR {' or '.join(codes)} is due")
        if answer.code == "failed" and "failed" not in codes:  # it fails before it looks
            raise NoAnswerError(f"refused with {answer.code}: {answer.text[:120]}")
        if answer.code not in codes:
            raise NotMetError(f"refused with {answer.code} ({answer.text[:80]}); {' or '.join(codes)} is due")
        if (self.codes("shadow"), self.codes("active")) != before:
            raise NotMetError("the refused request changed a register")

    def listen(self, seconds: float) -> None:
        """Take in what comes in so many seconds; all of it are strays.

        Raises:
            NotMetError: it breaks the protocol, or the connection broke.
        """
        end_at = time.monotonic() + seconds
        while (answer := self._receive(end_at)) is not None:
            self.strays.append(answer)

    def asked(self, answer: wire.Message) -> bool:
        """Whether it has the id of one of this peer's requests."""
        return self._first_id < answer.id <= self._next_id

    def _receive(self, end_at: float) -> wire.Message | None:
        while True:
            stopping.check()
            left_s = end_at - time.monotonic()
            parts = self._link.receive(max(min(left_s, stopping.SLICE_S), 0.0))
            if parts is not None:
                try:
                    return wire.decode(parts, wire.MAX_OUTPUT)
                except wire.MessageError as error:
                    raise NoAnswerError(f"an answer breaks the protocol: {error}") from error
            if self._link.lost:
                self.reopen()
                raise BrokenLinkError("the connection broke")
            if left_s <= 0:
                return None

    # ---- parameters ------------------------------------------------------------------------------------------------

    def far(self, unit: float) -> dict[int, int]:
        """Codes at this share of every range, by address."""
        return self.by_address(self.info.space.from_unit(np.full(len(self.info.space), unit)))

    def by_address(self, parameters: ParameterSet) -> dict[int, int]:
        """A set's codes by address."""
        return dict(zip(map(_address, self.info.space.parameters), parameters.codes, strict=True))

    def hash(self, codes: dict[int, int]) -> str:
        """The parameter hash of codes by address."""
        return parameters_hash({p.name: codes[_address(p)] for p in self.info.space.parameters})

    @property
    def free_address(self) -> int:
        """An address at which there is no register."""
        taken = [(_address(p), _address(p) + 4) for p in self.info.space.parameters]
        return next(a for a in range(0xFFFF_FFFC, 0, -4) if not any(low - 4 < a < high for low, high in taken))

    @property
    def bad(self) -> tuple[int, int]:
        """An address and a code that its parameter does not have."""
        p = self.info.space.parameters[0]
        return _address(p), p.high_code + 1 if p.high_code < 2**32 - 1 else p.low_code - 1


def check(peer: Peer) -> Generator[Result]:
    """Try every requirement in turn, and put the registers back as they were; also when closed before the end.

    One cause is told once: when the device has fallen silent the others are skipped, and what fails for want of the
    same answer as an earlier requirement is skipped with that one named.
    """
    dead = ""
    causes: dict[str, str] = {}
    banks: _Banks = {}
    try:
        for requirement in requirements():
            result = (
                _skipped(requirement, dead)
                if dead
                else tried(requirement.title, requirement.section, partial(requirement.run, peer), causes)
            )
            if result.outcome == "fail" or result.reason.startswith(SAME):
                dead = _silence(peer) or dead
            if not banks and not dead:
                banks = _read_banks(peer)
            yield result
    finally:
        if banks:
            peer.restored = not dead and _put_back(peer, banks)


def tried(title: str, section: str, run: Callable[[], None], causes: dict[str, str] | None = None) -> Result:
    """What became of one requirement; ``run`` raises :class:`NotMetError` or :class:`NotTriedError`.

    Args:
        title, section: the requirement.
        run: tries it.
        causes: why answers did not come so far, and the requirement that told it first; added to.
    """
    try:
        run()
    except NotTriedError as reason:
        return Result(title, section, "skipped", str(reason))
    except NoAnswerError as reason:
        first = title if causes is None else causes.setdefault(re.sub(r"[0-9]+", "0", str(reason)), title)
        if first != title:
            return Result(title, section, "skipped", f"{SAME} {first!r}: {reason}")
        return Result(title, section, "fail", str(reason))
    except (NotMetError, DeviceError, OSError) as reason:
        return Result(title, section, "fail", str(reason))
    return Result(title, section, "pass")


def _skipped(requirement: Requirement, reason: str) -> Result:
    return Result(requirement.title, requirement.section, "skipped", reason)


def _silence(peer: Peer) -> str:
    """Why the others need not be tried, or nothing."""
    try:
        peer.reopen()
        peer.hello()
    except (NotMetError, DeviceError) as error:
        return f"the device does not answer HELLO any more: {error}"
    return ""


_Banks = dict[str, dict[int, int]]


def _read_banks(peer: Peer) -> _Banks:
    """What both banks hold before anything is written."""
    try:
        return {"active": peer.codes("active"), "shadow": peer.codes("shadow")}
    except (NotMetError, DeviceError):
        return {}


def _put_back(peer: Peer, banks: _Banks) -> bool:
    """Write both banks as they were: the active one needs a frame to latch it. Whether they read so then."""
    with stopping.checked(lambda: None):  # also after Ctrl-C: the device is somebody's
        peer.deadline_s = min(peer.deadline_s, RESTORE_S)
        try:
            peer.reopen()
            if peer.codes("active") != banks["active"]:
                peer.ask(wire.Write(peer.new_id(), tuple(banks["active"].items())), wire.RegisterValues)
                peer.frame({})
            peer.ask(wire.Write(peer.new_id(), tuple(banks["shadow"].items())), wire.RegisterValues)
            return _read_banks(peer) == banks
        except (NotMetError, NotTriedError, DeviceError, OSError):
            return False


# ---- who it is and what it holds -------------------------------------------------------------------------------------


def _defaults(peer: Peer) -> None:
    active, shadow = peer.codes("active"), peer.codes("shadow")
    first = peer.frame({})
    if first.frame != 1:
        raise NotTriedError(f"it has made {first.frame - 1} frames since its start; restart it and check again")
    defaults = peer.by_address(peer.info.space.defaults)
    for bank, codes in (("active", active), ("shadow", shadow)):
        expect(codes == defaults, f"the {bank} bank does not hold the defaults: {_difference(peer, codes, defaults)}")


def _read_all(peer: Peer) -> None:
    for bank in ("active", "shadow"):
        answer = peer.ask(wire.Read(peer.new_id(), bank), wire.RegisterValues)
        codes = dict(answer.registers)
        named = {_address(p) for p in peer.info.space.parameters}
        expect(set(codes) == named, f"the {bank} bank has {len(codes)} registers, the space {len(named)} parameters")
        expect(answer.bank == bank, f"READ of the {bank} bank was answered with the {answer.bank} bank")
        expect(answer.boot_id == peer.info.boot_id, f"boot id {answer.boot_id}, INFO said {peer.info.boot_id}")
        expect(answer.parameters_hash == peer.hash(codes), f"the hash of the {bank} bank is not that of its codes")


def _read_some(peer: Peer) -> None:
    codes = peer.codes("active")
    some = tuple(codes)[::-2]
    answer = peer.ask(wire.Read(peer.new_id(), "active", some), wire.RegisterValues)
    expect(dict(answer.registers) == {a: codes[a] for a in some}, f"asked for {some}, got {answer.registers}")
    expect(answer.parameters_hash == peer.hash(codes), "the hash does not cover all parameters of the bank")


def _read_unknown(peer: Peer) -> None:
    request = wire.Read(peer.new_id(), "active", (peer.free_address,))
    peer.refused(request.id, wire.encode(request), ("bad_register",))


def _write(peer: Peer) -> None:
    active, codes = peer.codes("active"), peer.far(0.3)
    answer = peer.ask(wire.Write(peer.new_id(), tuple(codes.items())), wire.RegisterValues)
    expect(
        answer.bank == "shadow" and dict(answer.registers) == codes, "the answer does not read back what was written"
    )
    expect(peer.codes("shadow") == codes, "the shadow bank does not hold what was written")
    expect(peer.codes("active") == active, "the active bank changed before a frame boundary")


def _write_bad(peer: Peer, code: str) -> None:
    address, value = peer.bad if code == "bad_code" else (peer.free_address, 0)
    codes = {a: c for a, c in peer.far(0.6).items() if a != address}
    request = wire.Write(peer.new_id(), (*codes.items(), (address, value)))
    peer.refused(request.id, wire.encode(request), (code,))


def _process_bad(peer: Peer, code: str) -> None:
    address, value = peer.bad if code == "bad_code" else (peer.free_address, 0)
    codes = {a: c for a, c in peer.far(0.6).items() if a != address} | {address: value}
    request = peer.request(codes)
    peer.refused(request.id, wire.encode(request), (code,))


# ---- latching --------------------------------------------------------------------------------------------------------


def _latch(peer: Peer) -> None:
    codes = peer.far(0.2 if peer.codes("active") != peer.far(0.2) else 0.4)
    peer.ask(wire.Write(peer.new_id(), tuple(codes.items())), wire.RegisterValues)
    peer.frame({})
    active = peer.codes("active")
    expect(active == codes, f"the active bank is not what was written: {_difference(peer, active, codes)}")


def _unnamed(peer: Peer) -> None:
    before, other = peer.far(0.7), peer.far(0.1)
    peer.frame(before)
    address = next(a for a in before if before[a] != other[a])
    expected = before | {address: other[address]}
    peer.frame({address: other[address]})
    active = peer.codes("active")
    expect(active == expected, f"a request for one register changed others: {_difference(peer, active, expected)}")


def _memoryless(peer: Peer) -> None:
    _needs(not peer.info.live, "a live device never processes the same RAW again")
    _needs(peer.info.echo, "a device without an echo may filter over time")
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
        _as(answer, wire.Frame)
    order = [a.id for a in answers]
    expect(order == [r.id for r in requests], "the answers came in another order than the requests")
    before = len(peer.strays)
    peer.hello()
    expect(len(peer.strays) == before, f"answered more than once: {_some(peer.strays[before:])}")


def _hello_between(peer: Peer) -> None:
    frames = [peer.request(peer.far(0.2)) for _ in range(min(2, peer.info.max_in_flight))]
    for request in frames:
        peer.send(request)
    ids = [peer.send(wire.Hello(peer.new_id())), peer.send(wire.Read(peer.new_id(), "active"))]
    answers = {a.id: a for a in peer.answers(*(r.id for r in frames), *ids)}
    _as(answers[ids[0]], wire.Info)
    _as(answers[ids[1]], wire.RegisterValues)


# ---- the proof of a frame --------------------------------------------------------------------------------------------


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
        expect(frame.raw_hash == raw.hash, f"RAW hash {frame.raw_hash[:12]}…, sent was {raw.hash[:12]}…")
        return
    try:
        wire.raw_frame(frame)
    except wire.MessageError as error:
        raise NotMetError(f"the RAW of the photograph: {error}") from error


def _registers(peer: Peer) -> None:
    _needs(peer.info.echo, "the device has no echo")
    frame, codes, _ = _proof(peer)
    named = dict(frame.registers)
    expect(named == codes, f"the codes in force are not those asked for: {_difference(peer, named, codes)}")
    expect(peer.codes("active") == named, "the active bank reads other codes than the frame names")


def _parameters_hash(peer: Peer) -> None:
    _needs(peer.info.echo, "the device has no echo")
    frame, _, _ = _proof(peer)
    named = dict(frame.registers)
    expect(set(named) == set(peer.far(0.0)), "FRAME does not name every register")
    expect(frame.parameters_hash == peer.hash(named), "parameters_hash is not that of the codes that FRAME names")


def _output_hash(peer: Peer) -> None:
    frame, _, _ = _proof(peer)
    digest = hashlib.sha256(frame.payload).hexdigest()
    expect(frame.output_hash == digest, f"output_hash {frame.output_hash[:12]}…, the payload's is {digest[:12]}…")


def _image(peer: Peer) -> None:
    frame, _, raw = _proof(peer)
    if peer.info.live:
        raw = wire.raw_frame(frame)
    try:
        RgbFrame(bytes(frame.payload), frame.media_type).check(raw.width, raw.height)
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


# ---- RAWs that are refused -------------------------------------------------------------------------------------------


def _process_of(peer: Peer, metadata: bytes | None = None, payload: bytes | None = None) -> wire.Process:
    """PROCESS of this metadata and payload, its hash theirs."""
    _needs(not peer.info.live, "a live device takes no RAW")
    request = wire.process_request(peer.new_id(), peer.raw, peer.far(0.6).items())
    metadata = request.metadata if metadata is None else metadata
    payload = bytes(request.payload) if payload is None else payload
    digest = hashlib.sha256(metadata + payload).hexdigest()
    return dataclasses.replace(request, raw_hash=digest, metadata=metadata, payload=payload)


def _damaged(peer: Peer) -> None:
    request = _process_of(peer)
    for place in (0, len(request.payload) // 2, len(request.payload) - 1):
        payload = bytearray(request.payload)
        payload[place] ^= 1
        damaged = dataclasses.replace(request, id=peer.new_id(), payload=bytes(payload))
        peer.refused(damaged.id, wire.encode(damaged), ("raw_hash",))
    metadata = request.metadata.replace(b'"white_level": ', b'"white_level":  ')
    damaged = dataclasses.replace(request, id=peer.new_id(), metadata=metadata)
    peer.refused(damaged.id, wire.encode(damaged), ("raw_hash",))


def _odd_metadata(peer: Peer) -> None:
    _needs(not peer.info.live, "a live device takes no RAW")
    right = peer.raw.metadata
    missing = {k: v for k, v in right.items() if k != "cfa"}
    for what, metadata in (
        ("that is no JSON", b"width: 64"),
        ("that is no object", b"[]"),
        ("that ends early", json.dumps(right).encode()[:-1]),
        ("without cfa", json.dumps(missing).encode()),
        ("with a key too many", json.dumps({**right, "lens": 1}).encode()),
        ("of another CFA", json.dumps({**right, "cfa": "RGBW"}).encode()),
        ("of an odd width", json.dumps({**right, "width": right["width"] - 1}).encode()),
        ("with three black levels", json.dumps({**right, "black_level": [64.0] * 3}).encode()),
        ("with black above white", json.dumps({**right, "black_level": [right["white_level"] + 1.0] * 4}).encode()),
        ("with NaN", json.dumps({**right, "iso": float("nan")}).encode()),
        ("with a white level of 65536", json.dumps({**right, "white_level": 65536}).encode()),
    ):
        request = _process_of(peer, metadata=metadata)
        try:
            peer.refused(request.id, wire.encode(request), ("bad_raw",))
        except NoAnswerError:
            raise
        except NotMetError as error:
            raise NotMetError(f"metadata {what}: {error}") from error


def _odd_size(peer: Peer) -> None:
    payload = bytes(_process_of(peer).payload)
    for size in (0, len(payload) - 2, len(payload) - 1):
        request = _process_of(peer, payload=payload[:size])
        peer.refused(request.id, wire.encode(request), ("bad_raw", "bad_message") if not size else ("bad_raw",))


def _too_large(peer: Peer) -> None:
    request = _process_of(peer)
    parts = wire.encode(request)
    size = peer.info.max_payload + 2
    # A payload of the claimed size is sent only where it is small; the claim alone must do.
    really = size <= 4 * len(request.payload)
    header = msgpack.packb({**msgpack.unpackb(parts[0]), "payload_size": size})
    codes = ("too_large",) if really else ("too_large", "bad_message")
    peer.refused(request.id, [header, bytes(size) if really else parts[1]], codes)


# ---- messages --------------------------------------------------------------------------------------------------------


def _unknown_keys(peer: Peer) -> None:
    request_id = peer.new_id()
    keys = {
        "new": 1,
        "another": ["nested", {"deeper": None}],
        "zz": b"\0" * 40,
        "yes": True,
        "half": 0.5,
        "below": -70000,
    }
    peer.send_parts([msgpack.packb({**keys, "v": wire.VERSION, "type": "hello", "id": request_id, "last": "x"})])
    _as(peer.answer(request_id), wire.Info)


def _nesting(peer: Peer) -> None:
    request_id = peer.new_id()
    peer.send_parts([spliced(Sample(request_id, 0, 0, []), nested(NESTED))])
    # No bound of section 3 forbids it, so a device may also ignore the key.
    answer = peer.answer(request_id, 0)
    expect(isinstance(answer, wire.Info | wire.Error), f"answered with {_kind(answer)}")


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
    answer = _as(peer.answer(request_id), wire.RegisterValues)
    expect(answer.registers == ((address, codes[address]),), f"wrote {codes[address]}, read back {answer.registers}")


def _largest_id(peer: Peer) -> None:
    peer.send(wire.Hello(wire.MAX_ID))
    _as(peer.answer(wire.MAX_ID), wire.Info)


def _id_zero(peer: Peer) -> None:
    peer.send(wire.Hello(0))
    answer = peer.answer(0)
    expect(isinstance(answer, wire.Info | wire.Error), f"answered with {_kind(answer)}")


def _malformed(sample: Malformed, peer: Peer) -> None:
    _needs(peer.many_clients or not sample.only_multipart, "the transport cannot carry such a message")
    request_id = peer.new_id()
    peer.refused(request_id, sample.parts(_sample(peer, request_id)), sample.codes, has_id=sample.has_id)


def _malformed_process(sample: Malformed, peer: Peer) -> None:
    _needs(not peer.info.live, "a live device takes no RAW")
    _malformed(sample, peer)


def _sample(peer: Peer, request_id: int) -> Sample:
    request = dataclasses.replace(peer.request(peer.far(0.6)), id=request_id)
    address, code = next(iter(peer.far(0.6).items()))
    return Sample(request_id, address, code, wire.encode(request))


def _oversized(peer: Peer) -> None:
    request_id = peer.new_id()
    start = time.monotonic()
    filled = Sample(request_id, 0, 0, []).hello(**{f"x{i}": b"\0" * 4000 for i in range(FILLING // 4000)})
    peer.send_parts([filled])
    _as(peer.answer(request_id), wire.Info)
    needs_s = (time.monotonic() - start) * wire.MAX_HEADER / FILLING
    _needs(needs_s < peer.deadline_s / 2, f"a header of 1 MiB would take {needs_s:.0f} s on this line")
    request_id = peer.new_id()
    try:
        peer.refused(request_id, oversized(_sample(peer, request_id)), ("bad_message",), has_id=False)
    except BrokenLinkError:
        # ZeroMQ's own bound breaks the connection before the message is read.
        peer.hello()


# ---- over the whole check --------------------------------------------------------------------------------------------


def _other_client(peer: Peer) -> None:
    _needs(peer.many_clients, "the line has one client")
    other = Peer(peer.open_link, peer.deadline_s, peer.raw)
    try:
        other.learn()
        other.send(mine := other.request(other.far(0.3)))
        peer.frame(peer.far(0.5))
        peer.hello()
        _as(other.answer(mine.id), wire.Frame)
        other.listen(QUIET_S)
        foreign = [a for a in other.strays if not other.asked(a)]
        expect(not foreign, f"another client got {_some(foreign)}")
    finally:
        other.close()


def _same_boot(peer: Peer) -> None:
    now = peer.hello()
    expect(now.boot_id == peer.info.boot_id, f"the boot id was {peer.info.boot_id} and is {now.boot_id} now")
    same = (now.model, now.firmware, now.serial, now.space) == (
        peer.info.model,
        peer.info.firmware,
        peer.info.serial,
        peer.info.space,
    )
    expect(same, "INFO names another model, firmware, serial or space than at the start")


def _no_strays(peer: Peer) -> None:
    peer.hello()
    count = len(peer.strays)
    expect(not count, f"{count} answers came to nothing that was asked, or a second time: {_some(peer.strays)}")


def requirements() -> list[Requirement]:
    """Every requirement, in the order in which they are tried."""

    return [
        Requirement("HELLO is answered with a complete INFO", "4, 5", Peer.learn),
        Requirement("Both banks hold the defaults after a start", "8", _defaults),
        Requirement("READ gives every register of a bank, and its hash", "4, 6", _read_all),
        Requirement("READ gives the registers asked for, and the whole bank's hash", "4, 6", _read_some),
        Requirement("READ of an unknown address is refused", "9", _read_unknown),
        Requirement("WRITE changes the shadow bank and not the active one", "4, 8", _write),
        Requirement(
            "WRITE with a code out of range changes nothing",
            "4, 9",
            partial(_write_bad, code="bad_code"),
        ),
        Requirement(
            "WRITE with an unknown address changes nothing",
            "4, 9",
            partial(_write_bad, code="bad_register"),
        ),
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
        Requirement(
            "A frame with a code out of range is refused",
            "8, 9",
            partial(_process_bad, code="bad_code"),
        ),
        Requirement(
            "A frame with an unknown address is refused",
            "8, 9",
            partial(_process_bad, code="bad_register"),
        ),
        Requirement("A damaged RAW is refused", "7, 9", _damaged),
        Requirement("Odd RAW metadata is refused", "7, 9", _odd_metadata),
        Requirement("A payload that is not width × height pixels is refused", "7, 9", _odd_size),
        Requirement("A payload above max_payload is refused", "4, 9", _too_large),
        *(Requirement(m.title, m.section, partial(_malformed_process, m)) for m in MALFORMED_PROCESS),
        *(Requirement(m.title, m.section, partial(_malformed, m)) for m in MALFORMED),
        Requirement("A header above 1 MiB is refused", "1, 9", _oversized),
        Requirement("Unknown keys are ignored", "1", _unknown_keys),
        Requirement("A header with deep nesting is answered", "1, 9", _nesting),
        Requirement("Integers have any form, keys any order", "1", _any_integer),
        Requirement("Request ids have 64 bits", "1", _largest_id),
        Requirement("A request with id 0 is answered", "1, 9", _id_zero),
        Requirement("No client gets another's answers", "2", _other_client),
        Requirement("The device stays the same and does not restart", "4, 9", _same_boot),
        Requirement("Nothing comes that was not asked for", "4", _no_strays),
    ]


# ---- small things ----------------------------------------------------------------------------------------------------


def expect(met: bool, reason: str) -> None:
    """Raises NotMetError for the reason where the requirement is not met."""
    if not met:
        raise NotMetError(reason)


def _needs(can: bool, reason: str) -> None:
    if not can:
        raise NotTriedError(reason)


def _as(answer: wire.Message, expected: type[Answer]) -> Answer:
    if isinstance(answer, wire.Error) and expected is not wire.Error:
        raise NoAnswerError(f"refused with {answer.code}: {answer.text[:120]}")
    if not isinstance(answer, expected):
        raise NotMetError(f"answered with {_kind(answer)}, not {expected.__name__.upper()}")
    return answer


def _kind(message: wire.Message) -> str:
    return type(message).__name__.upper()


def _some(answers: list[wire.Message]) -> str:
    return ", ".join(f"{_kind(a)} id {a.id}" for a in answers[:3]) + (", …" if answers[3:] else "")


def _address(parameter: Parameter) -> int:
    assert parameter.register_ is not None  # INFO with a parameter that has none does not decode
    return parameter.register_.address


def _difference(peer: Peer, found: dict[int, int], expected: dict[int, int]) -> str:
    """Some of what differs, for people."""
    names = {_address(p): p.name for p in peer.info.space.parameters}
    wrong = [a for a in sorted(set(found) | set(expected)) if found.get(a) != expected.get(a)]
    shown = [
        f"{names.get(a, f'0x{a:04x}')} {found.get(a, 'missing')}, not {expected.get(a, 'there')}" for a in wrong[:3]
    ]
    return "; ".join(shown) + ("; …" if wrong[3:] else "")


def _chart() -> RawFrame:
    """A ramp with squares on it: 64×64 pixels, 10 bits."""
    y, x = np.mgrid[:SIDE, :SIDE]
    ramp = 64 + 800 * x / SIDE + 90 * ((x // 8 + y // 8) % 2)
    return RawFrame(np.rint(ramp).astype(np.uint16), "RGGB", (64.0,) * 4, 1023, iso=100.0, source="test chart")


def _negative(raw: RawFrame) -> RawFrame:
    black = int(min(raw.black_level))
    mosaic = np.clip(black + raw.white_level - raw.mosaic.astype(np.int64), 0, raw.white_level).astype(np.uint16)
    return RawFrame.from_metadata(mosaic, raw.metadata, source="test chart, negative")
