"""The device's side of the protocol: registers, latching, boot id and the proof that goes with every frame.

It knows messages and nothing of transports: :meth:`DeviceSide.handle` takes a message and gives the answer.
"""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from drivers.agent.ahead import Ahead
from drivers.agent.banks import Banks
from drivers.errors import FrameError, WorkbenchError
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import ParameterSpace, parameters_hash
from drivers.plain_pictures import PictureOutput, PlainPicture
from drivers.protocol import wire
from drivers.protocol.frame_fields import told_map
from drivers.protocol.held_raws import HeldRaws
from drivers.protocol.told_spaces import told_space
from drivers.raw_input import RawInput
from drivers.registers import Bank

DEFAULT_MAX_PAYLOAD = 256 << 20
DEFAULT_MAX_IN_FLIGHT = 8
DEFAULT_HOLDS = 64 << 20
"""Two RAWs of 12 megapixels, or many small ones."""


@dataclass(frozen=True)
class Made:
    """What an ISP made of a RAW, the codes by name that were in force for it, and its statistics by name."""

    picture: RgbFrame | PlainPicture
    in_force: Mapping[str, int]
    statistics: Mapping[str, float] = dataclasses.field(default_factory=dict)


class Isp(Protocol):
    """What makes the pictures. What it raises is answered with ``failed``; the device goes on."""

    def power_on(self) -> None:
        """The device starts: nothing of frames before counts."""

    def process(self, raw: RawFrame, latched: dict[str, int]) -> Made:
        """The picture of a RAW, with the codes that the frame boundary latched."""

    def begin_burst(self) -> None:
        """A burst begins: nothing of frames before counts. Only where INFO says more than one frame."""

    def photograph(self, latched: dict[str, int]) -> tuple[RawFrame, Made]:
        """A live device's: a RAW of what is before it, and the picture of that very RAW."""


@dataclass(frozen=True, slots=True)
class Proven(wire.Process):
    """A request whose RAW travelled and is proven by its hash."""

    raw: RawFrame = dataclasses.field(kw_only=True, repr=False)


class DeviceSide:
    """One device, from power-on until it is dropped.

    Registers have two banks. Writes go to the shadow bank; at a frame boundary, the instant before a frame is
    processed, the shadow bank is copied to the active bank, and the frame is processed with the active bank.
    After power-on both banks hold the defaults.

    Attributes:
        frame: frames since the start.
    """

    def __init__(
        self,
        isp: Isp,
        space: ParameterSpace,
        *,
        model: str,
        firmware: str,
        serial: str,
        boot_id: str | None = None,
        max_payload: int = DEFAULT_MAX_PAYLOAD,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        echo: bool = True,
        live: bool = False,
        raw_input: RawInput | None = None,
        output: PictureOutput | None = None,
        holds: int = DEFAULT_HOLDS,
        overlap: bool = False,
    ) -> None:
        """Power on.

        Args:
            isp: makes the pictures.
            space: the parameters, each with a register.
            model: product name; ``firmware``: its version; both are part of the device's identity.
            serial: which unit this is.
            boot_id: fixed for tests; None draws a new one.
            max_payload: largest RAW taken, in bytes.
            max_in_flight: requests that a client may have outstanding.
            echo: frames name the codes in force. Without it the active bank reads what was latched, in force or not.
            live: it photographs, and takes no stored RAWs.
            raw_input: which RAWs it takes, and how they travel; None: any, two bytes a pixel.
            output: what the pictures are; None: JPEG or PNG files.
            holds: bytes of RAWs that are kept, so that a client need not send one again with each parameter set.
            overlap: frames are made in a thread of their own, so that a link that streams works meanwhile.

        Raises:
            DeviceError: a parameter has no register.
        """
        self.space = space
        self.model, self.version, self.serial = model, firmware, serial
        self.boot_id = boot_id or secrets.token_hex(8)
        self.max_payload, self.max_in_flight = max_payload, max_in_flight
        self.echo, self.live = echo, live
        self.input, self.output = raw_input or RawInput(), output or PictureOutput()
        self.holds = 0 if live else holds
        self.frame = 0
        self._held = HeldRaws[RawFrame](self.holds)
        self._isp = isp
        self._ahead = Ahead[wire.FrameRequest](lambda request: self.handle(request)) if overlap else None
        self._registers = threading.Lock()
        self._banks = Banks(space)
        self._last = 0
        isp.power_on()

    def reboot(self) -> None:
        """Start anew: another boot id, the registers at their defaults, the frame counter at zero."""
        self.boot_id = secrets.token_hex(8)
        self.frame = self._last = 0
        self._held.clear()
        self._banks.power_on()
        self._isp.power_on()

    def frames(self, requests: Iterator[wire.FrameRequest]) -> Iterator[wire.Message | None]:
        """The answers to requests for frames, in their order; requests are drawn as they are taken.

        None where there is no answer yet and other requests may have theirs.
        """
        if self._ahead is not None:
            yield from self._ahead.answers(self._proven(request) for request in requests)
            return
        for request in requests:
            yield self.handle(request)

    def _proven(self, request: wire.FrameRequest) -> wire.FrameRequest:
        """The same with its RAW; as it is where no RAW travelled, or one to refuse."""
        if not isinstance(request, wire.Process) or not 0 < len(request.payload) <= self.max_payload:
            return request
        try:
            raw = wire.raw_frame(request, self.input)
        except WorkbenchError:
            return request
        told = (request.id, request.raw_hash, request.registers, request.metadata, request.payload, request.follows)
        return Proven(*told, raw=raw)

    def handle(self, message: wire.Message) -> wire.Message:
        """The answer to a request; a refusal is an :class:`~drivers.protocol.wire.Error`, nothing is raised."""
        try:
            match message:
                case wire.Hello():
                    return self._info(message)
                case wire.Read():
                    addresses = message.addresses or tuple(sorted(self._banks.addresses))
                    with self._registers:
                        return self._values(message.id, message.bank, addresses)
                case wire.Write():
                    with self._registers:
                        self._banks.write(self._banks.checked(message.registers))
                        return self._values(message.id, "shadow", tuple(address for address, _ in message.registers))
                case wire.Process() if not self.live:
                    return self._process(message)
                case wire.CaptureRequest() if self.live:
                    return self._capture(message)
        except wire.MessageError as error:
            return wire.Error(message.id, error.code, str(error))
        except WorkbenchError as error:
            return wire.Error(message.id, "failed", f"the ISP failed: {error}")
        except Exception as error:  # whatever an ISP raises, the device goes on
            traceback.print_exc()
            return wire.Error(message.id, "failed", f"the ISP failed: {type(error).__name__}: {error}")
        return wire.Error(message.id, "unsupported", f"{type(message).__name__} is not a request to this device")

    def _info(self, message: wire.Hello) -> wire.Info:
        version = min(message.speaks, wire.LATEST)
        # What version 1 has no words for is said in place of an INFO that would be misread.
        told_space(self.space, version)
        if version == 1 and (told_map(self.input) or told_map(self.output)):
            raise wire.MessageError("version", "how RAWs or pictures travel here needs version 2 of the protocol")
        return wire.Info(
            message.id,
            model=self.model,
            firmware=self.version,
            serial=self.serial,
            boot_id=self.boot_id,
            max_in_flight=self.max_in_flight,
            max_payload=self.max_payload,
            space=self.space,
            echo=self.echo,
            live=self.live,
            input=self.input,
            output=self.output,
            holds=self.holds if version > 1 else 0,
            version=version,
        )

    def _values(self, request_id: int, bank: Bank, addresses: tuple[int, ...]) -> wire.RegisterValues:
        codes = self._banks.bank(bank)
        return wire.RegisterValues(
            request_id,
            boot_id=self.boot_id,
            bank=bank,
            registers=self._banks.pairs(codes, addresses),
            parameters_hash=parameters_hash(codes),
        )

    def _process(self, message: wire.Process) -> wire.Frame:
        start = time.perf_counter_ns()
        with self._registers:
            raw, latched = self._taken(message)
        made = self._isp.process(raw, latched)
        self._last = message.id
        return self._frame(message.id, message.raw_hash, made, time.perf_counter_ns() - start)

    def _taken(self, message: wire.Process) -> tuple[RawFrame, dict[str, int]]:
        """The RAW of a request, and the codes latched for it."""
        codes = self._banks.checked(message.registers)
        if self.holds and not message.payload:
            if (held := self._held.asked(message.raw_hash)) is None:
                raise wire.MessageError("no_raw", f"RAW {message.raw_hash[:12]}… is not held; send its pixels")
            return held, self._boundary(message, codes)
        if len(message.payload) > self.max_payload:
            raise wire.MessageError("too_large", f"payload of {len(message.payload)} bytes; {self.max_payload} taken")
        raw = message.raw if isinstance(message, Proven) else wire.raw_frame(message, self.input)
        if refusal := self.input.refusal(raw) or self.output.refusal(raw.width, raw.height):
            raise wire.MessageError("bad_raw", f"the RAW is not taken: {refusal}")
        self._held.keep(message.raw_hash, len(message.payload), raw)
        return raw, self._boundary(message, codes)

    def _capture(self, message: wire.CaptureRequest) -> wire.Frame:
        start = time.perf_counter_ns()
        with self._registers:
            latched = self._boundary(message, self._banks.checked(message.registers))
        raw, made = self._isp.photograph(latched)
        self._last = message.id
        return self._photograph(message.id, raw, made, time.perf_counter_ns() - start)

    def _photograph(self, request_id: int, raw: RawFrame, made: Made, device_ns: int) -> wire.Frame:
        if refusal := self.input.refusal(raw) or self.output.refusal(raw.width, raw.height):
            raise FrameError(f"the photograph does not fit what INFO says: {refusal}")
        stored = wire.process_request(request_id, raw, (), self.input)
        frame = self._frame(request_id, stored.raw_hash, made, device_ns)
        return dataclasses.replace(frame, metadata=stored.metadata, raw=stored.payload)

    def _boundary(self, message: wire.FrameRequest, codes: dict[str, int]) -> dict[str, int]:
        if self.input.frames > 1:
            if message.follows and message.follows != self._last:
                raise wire.MessageError("burst", f"it follows request {message.follows}, the last was {self._last}")
            self._last = 0
            if not message.follows:
                self._isp.begin_burst()
        self._banks.write(codes)
        self.frame += 1
        return self._banks.latch()

    def _frame(self, request_id: int, raw_hash: str, made: Made, device_ns: int) -> wire.Frame:
        if self.echo:
            self._banks.active = dict(made.in_force)
        return wire.Frame(
            request_id,
            boot_id=self.boot_id,
            frame=self.frame,
            raw_hash=raw_hash,
            parameters_hash=parameters_hash(made.in_force) if self.echo else "",
            registers=self._banks.pairs(made.in_force, self._banks.addresses) if self.echo else (),
            media_type=made.picture.media_type,
            output_hash=made.picture.hash,
            device_ns=device_ns,
            payload=made.picture.encoded,
            statistics=dict(made.statistics),
        )
