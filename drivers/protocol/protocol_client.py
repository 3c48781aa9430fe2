"""Who speaks PROTOCOL.md to a device: the connection, who answers, and the registers.

A lost connection is opened again and the device is asked anew who it is. Frames are
:class:`~drivers.protocol.protocol_device.ProtocolDevice`'s.
"""

from __future__ import annotations

import secrets
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from drivers import stopping
from drivers.device import DEFAULT_DEADLINE_S, Device, DeviceInfo
from drivers.errors import DeviceChangedError, DeviceError, DeviceUnreachableError, ParameterError, ProtocolError
from drivers.parameter import Parameter
from drivers.parameters import parameters_hash
from drivers.protocol import wire
from drivers.registers import Bank, RegisterMap

MAX_IN_FLIGHT = 8
LIVE_IN_FLIGHT = 2
"""Photographs asked for at a time: one is taken while the one before travels."""
OPEN_DEADLINE_S = 5.0
MAX_REBOOTS = 5
"""Reboots without a frame between them before the device is given up."""
RECONNECT_S = 0.1
OTHERS_TOLD = 3
"""Parameters that are named where a device has others in force than asked for."""
BUSY_S = 0.05
"""Seconds until a request that found the device busy is sent again."""


class Link(Protocol):
    """A connection that carries messages; what is lost on it is asked for again.

    Attributes:
        lost: the connection broke; the driver opens another link.
    """

    lost: bool

    def send(self, parts: list[wire.Buffer]) -> None:
        """Hand the parts of a message over; when there is no room the message is dropped, never waited for long."""

    def receive(self, timeout_s: float) -> list[wire.Buffer] | None:
        """The parts of the next message (at most three), or None after the time or when the connection broke."""

    def close(self) -> None:
        """Drop the connection and everything queued for it; closing twice is allowed."""


class ProtocolClient(Device):
    """The connection; use from one thread. Transports give its link."""

    start_hint = "is it on?"

    def __init__(
        self, url: str, deadline_s: float = DEFAULT_DEADLINE_S, *, open_deadline_s: float = OPEN_DEADLINE_S
    ) -> None:
        """Connect, and learn who answers.

        Raises:
            DeviceError: the deadline is not above 0, or the link cannot be opened.
            DeviceUnreachableError: nobody answers within the deadline or ``open_deadline_s``, whichever is shorter.
            ProtocolError: what answers does not speak the protocol.
        """
        if not deadline_s > 0:
            raise DeviceError(f"{url}: deadline {deadline_s:g} s must be above 0")
        self.url = url
        self.deadline_s = deadline_s
        self.counts = Counter()
        # A random start keeps an earlier program's late answers from being taken for ours.
        self._next_id = secrets.randbits(40) << 20 | 1
        self._hello = 0
        self._probed = False
        self._connected_at = 0.0
        self._reboots = 0
        self._garbage = ""
        self._known: DeviceInfo | None = None
        self._max_payload = 0
        self._link: Link | None = None
        self._wait_s = min(deadline_s, open_deadline_s)
        try:
            self._connect()
            self.ask_info(self._wait_s)
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _open_link(self) -> Link:
        """A fresh connection.

        Raises:
            DeviceError: it cannot be opened.
        """

    def open_link(self) -> Link:
        """A link of its own beside the driver's, for who speaks the protocol himself; the caller closes it.

        A serial line carries one link: the driver's is over then.

        Raises:
            DeviceError: it cannot be opened.
        """
        return self._open_link()

    @abstractmethod
    def _take(self, answer: wire.Message) -> bool:
        """Take an answer that was not asked for just now; whether it brought a frame to its end."""

    def _unreadable(self, error: wire.MessageError) -> None:
        """Something came that does not decode."""
        self.counts["garbage"] += 1
        self._garbage = str(error)

    def info(self) -> DeviceInfo:
        """Who the device is, as it said when last connected."""
        return self._info

    def ask_info(self, wait_s: float) -> DeviceInfo:
        """See :meth:`drivers.device.Device.ask_info`."""
        answer = self._ask(wire.Hello(self._new_id(), wire.LATEST), wait_s)
        if not isinstance(answer, wire.Info):
            echo = "; what is sent comes back: switch the line's echo off" if isinstance(answer, wire.Hello) else ""
            raise ProtocolError(f"{self.url}: HELLO was answered with {type(answer).__name__}, not INFO{echo}")
        self._take_info(answer)
        return self._info

    def read_registers(self, bank: Bank = "active") -> dict[str, int]:
        """Codes by parameter name, read back from the ``active`` or the ``shadow`` bank.

        Raises:
            DeviceUnreachableError: no answer before the deadline.
            DeviceError: the device refused or answered oddly.
        """
        answer = self._values(wire.Read(self._new_id(), bank))
        codes = self._named(answer.registers)
        if set(codes) != set(self._info.space.names) or parameters_hash(codes) != answer.parameters_hash:
            raise ProtocolError(
                f"{self.url}: the registers read back do not match their hash; is it {self._info.model}?"
            )
        return codes

    def write_registers(self, codes: Mapping[str, int]) -> dict[str, int]:
        """Write codes by parameter name to the shadow bank; gives the codes read back.

        Raises:
            ParameterError: a name is unknown or a code out of range.
            DeviceUnreachableError: no answer before the deadline.
            DeviceError: the device refused or read back other codes.
        """
        space = self._info.space
        for name, code in codes.items():
            if name not in space.names:
                raise ParameterError(f"unknown parameter {name!r} for {space.name}; it has {', '.join(space.names)}")
            space[name].from_code(code)
        try:
            words = self._registers.words(codes)
        except KeyError:  # fields of a register that others share keep theirs
            whole = self.read_registers("shadow") | dict(codes)
            words = self._registers.words(whole)
        registers = tuple((address, int(word)) for address, word in words.items())
        back = self._named(self._values(wire.Write(self._new_id(), registers)).registers)
        if others := self._others(back, codes):
            raise DeviceError(f"{self.url}: the registers read back differ from what was written: {others}")
        return {name: back[name] for name in codes}

    def close(self) -> None:
        """Let go of the connection; closing twice is allowed."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _connect(self) -> None:
        """A fresh socket: what was queued for or by the old connection is dropped with it."""
        if self._link is not None:
            self._link.close()
        pause = self._connected_at + RECONNECT_S - time.monotonic()
        if pause > 0:
            time.sleep(min(pause, RECONNECT_S))
        self._connected_at = time.monotonic()
        self._link = self._open_link()

    def _probe(self, *, connected: bool = True) -> None:
        self._hello = self._new_id()
        self._probed = connected
        self._send(wire.Hello(self._hello, wire.LATEST))

    def _send(self, message: wire.Message) -> None:
        if self._link is None:
            raise DeviceError(f"{self.url}: the device is closed")
        self._link.send(wire.encode(message))

    def _receive(self, timeout_s: float) -> wire.Message | None:
        """The next message that decodes, or None; mends a lost connection."""
        stopping.check()
        if self._link is None:
            raise DeviceError(f"{self.url}: the device is closed")
        parts = self._link.receive(timeout_s)
        if self._link.lost:
            self.counts["reconnects"] += 1
            self._connect()
            self._probe(connected=False)
            return None
        if parts is None:
            return None
        try:
            return wire.decode(parts, wire.MAX_OUTPUT)
        except wire.MessageError as error:
            self._unreadable(error)
            return None

    def _ask(self, message: wire.Hello | wire.Read | wire.Write, wait_s: float) -> wire.Message:
        """The answer to a short request; sent again on a new connection.

        Raises:
            DeviceUnreachableError: none came within ``wait_s``, or none but ``busy``.
            DeviceError: the device refused.
        """
        busy = ""
        start = sent = time.monotonic()
        garbage = self.counts["garbage"]
        reconnects = self.counts["reconnects"]
        self._send(message)
        while (left := start + wait_s - time.monotonic()) > 0:
            answer = self._receive(min(left, stopping.SLICE_S))
            if self.counts["reconnects"] != reconnects or time.monotonic() - sent >= wait_s / 3:
                reconnects = self.counts["reconnects"]
                sent = time.monotonic()
                self._send(message)
            if answer is None:
                continue
            if answer.id != message.id:
                self._take(answer)
            elif isinstance(answer, wire.Error) and answer.code == "busy":
                self.counts["busy"] += 1
                busy = answer.text
                time.sleep(BUSY_S)
                sent = time.monotonic()
                self._send(message)
            elif isinstance(answer, wire.Error):
                raise DeviceError(f"{self.url}: the device refused ({answer.code}): {answer.text}")
            else:
                return answer
        if self.counts["garbage"] > garbage:
            raise ProtocolError(f"{self.url}: what answers does not speak the protocol: {self._garbage}")
        if busy:
            raise DeviceUnreachableError(f"{self.url}: busy for {wait_s:.1f} s, it said: {busy}")
        raise self._unreachable(wait_s)

    def _values(self, message: wire.Read | wire.Write) -> wire.RegisterValues:
        answer = self._ask(message, self.deadline_s)
        if not isinstance(answer, wire.RegisterValues):
            raise ProtocolError(f"{self.url}: answered with {type(answer).__name__}, not with registers")
        return answer

    def _take_info(self, answer: wire.Info) -> None:
        """Learn who answers; the first time, and after each reconnection.

        Raises:
            DeviceError: it is another device than before, or it reboots again and again.
        """
        info = DeviceInfo(
            answer.model,
            answer.firmware,
            answer.serial,
            answer.boot_id,
            answer.space,
            max_in_flight=min(answer.max_in_flight, LIVE_IN_FLIGHT if answer.live else MAX_IN_FLIGHT),
            echo=answer.echo,
            live=answer.live,
            input=answer.input,
            output=answer.output,
            holds=answer.holds,
        )
        known = self._known
        if known is not None:
            self._check_same(known, info, answer.max_payload)
            if info.boot_id != known.boot_id:
                self.counts["reboots"] += 1
                self._reboots += 1
                if self._reboots > MAX_REBOOTS:
                    raise DeviceError(
                        f"{self.url}: the device rebooted {self._reboots} times without giving a frame; see its log"
                    )
        self._known = self._info = info
        self._limit = info.max_in_flight
        self._max_payload = answer.max_payload
        self._registers = RegisterMap(info.space)

    def _check_same(self, known: DeviceInfo, info: DeviceInfo, max_payload: int) -> None:
        """What the first INFO said holds as long as the device is open: what is stored rests on it.

        Raises:
            DeviceChangedError: another device, or one whose frames prove less or take less than before.
        """
        changes = [
            f"{name} {_short(now)}, was {_short(was)}"
            for name, now, was in (
                ("model", info.model, known.model),
                ("firmware", info.firmware, known.firmware),
                ("serial", info.serial, known.serial),
                ("parameter space", info.space.hash[:12], known.space.hash[:12]),
                ("registers", _registers(info), _registers(known)),
                ("echo", info.echo, known.echo),
                ("live", info.live, known.live),
                ("input", info.input, known.input),
                ("output", info.output, known.output),
                ("max_payload", min(max_payload, self._max_payload), self._max_payload),
            )
            if now != was
        ]
        if changes:
            boot = "after a reboot" if info.boot_id != known.boot_id else "without a reboot"
            raise DeviceChangedError(
                f"{self.url}: {boot} the device now says {'; '.join(changes)}; what came before stays; start again to "
                "work with the device as it is now"
            )

    def _named(self, registers: wire.Registers) -> dict[str, int]:
        try:
            return self._registers.codes(dict(registers))
        except KeyError as error:
            raise ProtocolError(f"{self.url}: unknown register address {error.args[0]:#06x} in an answer") from None

    def _others(self, found: Mapping[str, int], asked: Mapping[str, int]) -> str:
        """Which parameters of a device have other codes than asked for, as ``gamma 2, not 2.2``; empty: none."""
        space = self._info.space
        told = [
            f"{name} {_value(space[name], found.get(name))}, not {_value(space[name], code)}"
            for name, code in asked.items()
            if found.get(name) != code
        ]
        return "; ".join([*told[:OTHERS_TOLD], *(["…"] if told[OTHERS_TOLD:] else [])])

    def _unreachable(self, waited_s: float, came: str = "") -> DeviceUnreachableError:
        hint = self.start_hint
        if self._known is not None:
            hint += "; is a frame longer in work? ?deadline=SECONDS in its URL waits longer"
        return DeviceUnreachableError(f"{self.url}: no answer in {waited_s:.1f} s{came}; {hint}")


def _registers(info: DeviceInfo) -> str:
    """Who has which register, in short: requests that are outstanding rest on it."""
    return parameters_hash({p.name: repr(p.register) for p in info.space.parameters})[:12]


def _value(parameter: Parameter, code: int | None) -> str:
    """A code for people: its native value, or the code itself where it has none."""
    try:
        native = None if code is None else parameter.from_code(code)
    except ParameterError:
        return f"code {code}"
    return f"{native:.6g}" if isinstance(native, float) else "unknown" if native is None else str(native)


def _short(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
