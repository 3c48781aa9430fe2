"""The device under test, over a bare link: nothing is asked again, nothing is mended."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from drivers import stopping
from drivers.frames import RawFrame
from drivers.parameters import Parameter, ParameterSet, parameters_hash
from drivers.protocol import wire
from drivers.protocol.protocol_client import Link
from drivers.registers import Bank, RegisterMap
from workbench.check.charts import chart, chart_for, negative
from workbench.check.requirements import BrokenLinkError, NoAnswerError, NotMetError, NotTriedError

Answer = TypeVar("Answer", wire.Info, wire.RegisterValues, wire.Frame, wire.Error)


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
        self._own_chart = raw is None
        self.raw = (raw or chart("test chart")).single
        self.other = negative(self.raw, "test chart, negative")
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
        if refusal := self._info.input.refusal(self.raw):
            if not self._own_chart:
                raise NotMetError(f"{self.raw.source or 'the RAW given'}: {refusal}, as INFO says; give another RAW")
            self.raw = chart_for(self._info.input, "test chart")
            self.other = negative(self.raw, "test chart, negative")

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
        return as_answer(self.answer(message.id), expected)

    def hello(self) -> wire.Info:
        """INFO, asked for now."""
        return self.ask(wire.Hello(self.new_id(), wire.LATEST), wire.Info)

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
        return wire.process_request(self.new_id(), raw or self.raw, codes.items(), self.info.input)

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
            raise NotMetError(f"answered with {kind_of(answer)}; ERROR {' or '.join(codes)} is due")
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

    @property
    def registers(self) -> RegisterMap:
        """Where its parameters are."""
        return RegisterMap(self.info.space)

    # ---- parameters ------------------------------------------------------------------------------------------------

    def far(self, unit: float) -> dict[int, int]:
        """Codes at this share of every range, by address."""
        return self.by_address(self.info.space.from_unit(np.full(len(self.info.space), unit)))

    def by_address(self, parameters: ParameterSet) -> dict[int, int]:
        """A set's codes by address."""
        return self.registers.words(parameters.by_name)

    def hash(self, codes: dict[int, int]) -> str:
        """The parameter hash of codes by address."""
        return parameters_hash(self.registers.codes(codes))

    @property
    def free_address(self) -> int:
        """An address at which there is no register."""
        taken = [(address, address + 4) for address in self.registers.addresses]
        return next(a for a in range(0xFFFF_FFFC, 0, -4) if not any(low - 4 < a < high for low, high in taken))

    @property
    def bad(self) -> tuple[int, int]:
        """An address and a code that its parameter does not have.

        Raises:
            NotTriedError: no parameter has a register of its own.
        """
        p = next((p for p in self.info.space.parameters if p.register is not None and p.register.bits is None), None)
        if p is None:
            raise NotTriedError("every parameter is a field of a register that others share")
        return address_of(p), p.high_code + 1 if p.high_code < 2**32 - 1 else p.low_code - 1


@dataclass(frozen=True)
class Requirement:
    """One requirement and how it is tried; ``run`` raises :class:`NotMetError` or :class:`NotTriedError`."""

    title: str
    section: str
    run: Callable[[Peer], None]


def as_answer(answer: wire.Message, expected: type[Answer]) -> Answer:
    """The answer, which must be of this type.

    Raises:
        NotMetError: it is another.
    """
    if isinstance(answer, wire.Error) and expected is not wire.Error:
        raise NoAnswerError(f"refused with {answer.code}: {answer.text[:120]}")
    if not isinstance(answer, expected):
        raise NotMetError(f"answered with {kind_of(answer)}, not {expected.__name__.upper()}")
    return answer


def kind_of(message: wire.Message) -> str:
    """Its name in PROTOCOL.md."""
    return type(message).__name__.upper()


def some_of(answers: list[wire.Message]) -> str:
    """The first few, for people."""
    return ", ".join(f"{kind_of(a)} id {a.id}" for a in answers[:3]) + (", …" if answers[3:] else "")


def address_of(parameter: Parameter) -> int:
    """The address of its register."""
    assert parameter.register is not None  # INFO with a parameter that has none does not decode
    return parameter.register.address


def difference(peer: Peer, found: dict[int, int], expected: dict[int, int]) -> str:
    """Some of what differs, for people."""
    names = {a: " and ".join(p.name for p in peer.registers.at(a)) for a in peer.registers.addresses}
    wrong = [a for a in sorted(set(found) | set(expected)) if found.get(a) != expected.get(a)]
    shown = [
        f"{names.get(a, f'0x{a:04x}')} {found.get(a, 'missing')}, not {expected.get(a, 'there')}" for a in wrong[:3]
    ]
    return "; ".join(shown) + ("; …" if wrong[3:] else "")
