"""The firmware of the emulated device: registers, latching, boot id and the proof that goes with every frame.

It knows messages and nothing of transports: :meth:`Firmware.handle` takes a message and gives the answer.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import Protocol

from drivers import wire
from drivers.errors import DeviceError, WorkbenchError
from drivers.frames import RawFrame
from drivers.parameters import Parameter, ParameterSet, ParameterSpace

DEFAULT_MAX_PAYLOAD = 256 << 20
DEFAULT_MAX_IN_FLIGHT = 8


class IspPipeline(Protocol):
    """What the firmware drives: an ISP that turns a RAW and a parameter set into JPEG bytes."""

    @property
    def space(self) -> ParameterSpace:
        """The parameters, each with a register."""

    def process(self, raw: RawFrame, parameters: ParameterSet) -> bytes:
        """The JPEG of a RAW."""


class Firmware:
    """One emulated device, from power-on until it is dropped.

    Registers have two banks. Writes go to the shadow bank; at a frame boundary, the instant before a frame is
    processed, the shadow bank is copied to the active bank, and the frame is processed with the active bank.
    After power-on both banks hold the defaults.
    """

    def __init__(
        self,
        pipeline: IspPipeline,
        *,
        model: str = "emulated-isp",
        version: str = "1.0.0",
        serial: str = "emulated",
        boot_id: str | None = None,
        max_payload: int = DEFAULT_MAX_PAYLOAD,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        frame_ms: float = 0.0,
    ) -> None:
        """Power on.

        Args:
            pipeline: the ISP.
            model: product name; ``version``: of the firmware; both are part of the device's identity.
            serial: which unit this is.
            boot_id: fixed for tests; None draws a new one.
            max_payload: largest RAW taken, in bytes.
            max_in_flight: requests that a client may have outstanding.
            frame_ms: milliseconds that a frame takes at least.

        Raises:
            DeviceError: a parameter of the pipeline has no register.
        """
        self.pipeline = pipeline
        self.space = pipeline.space
        self.model = model
        self.version = version
        self.serial = serial
        self.boot_id = boot_id or secrets.token_hex(8)
        self.max_payload = max_payload
        self.max_in_flight = max_in_flight
        self.frame_s = frame_ms / 1000
        self._by_address: dict[int, Parameter] = {}
        for p in self.space.parameters:
            if p.register_ is None:
                raise DeviceError(f"{self.space.name}: parameter {p.name} has no register; firmware cannot hold it")
            self._by_address[p.register_.address] = p
        self._power_on()

    def reboot(self) -> None:
        """Start anew: another boot id, the registers at their defaults, the frame counter at zero."""
        self.boot_id = secrets.token_hex(8)
        self._power_on()

    def _power_on(self) -> None:
        self.frame = 0
        self._shadow = dict(zip(self.space.names, self.space.defaults.codes, strict=True))
        self._active = dict(self._shadow)

    def handle(self, message: wire.Message) -> wire.Message:
        """The answer to a request; a refusal is an :class:`~drivers.wire.Error`, nothing is raised."""
        try:
            match message:
                case wire.Hello():
                    return self._info(message)
                case wire.Read():
                    return self._read(message)
                case wire.Write():
                    self._shadow.update(self._checked(message.registers))
                    return self._values(message.id, "shadow", [address for address, _ in message.registers])
                case wire.Process():
                    return self._process(message)
        except wire.MessageError as error:
            return wire.Error(message.id, error.code, str(error))
        except (WorkbenchError, ArithmeticError, ValueError, MemoryError) as error:
            return wire.Error(message.id, "failed", f"the ISP failed: {error}")
        return wire.Error(message.id, "unsupported", f"{type(message).__name__} is not a request")

    def _info(self, message: wire.Hello) -> wire.Info:
        return wire.Info(
            message.id,
            model=self.model,
            firmware=self.version,
            serial=self.serial,
            boot_id=self.boot_id,
            max_in_flight=self.max_in_flight,
            max_payload=self.max_payload,
            space=self.space,
        )

    def _read(self, message: wire.Read) -> wire.RegisterValues:
        for address in message.addresses:
            if address not in self._by_address:
                raise wire.MessageError("bad_register", f"there is no register at 0x{address:04x}")
        return self._values(message.id, message.bank, message.addresses or sorted(self._by_address))

    def _values(self, request_id: int, bank: wire.Bank, addresses: list[int] | tuple[int, ...]) -> wire.RegisterValues:
        codes = self._active if bank == "active" else self._shadow
        return wire.RegisterValues(
            request_id,
            boot_id=self.boot_id,
            bank=bank,
            registers=tuple((a, codes[self._by_address[a].name]) for a in addresses),
            parameters_hash=wire.parameters_hash(codes),
        )

    def _checked(self, registers: wire.Registers) -> dict[str, int]:
        """Codes by name. Checked as a whole before any is used, so a refused list changes nothing."""
        codes = {}
        for address, code in registers:
            p = self._by_address.get(address)
            if p is None:
                raise wire.MessageError("bad_register", f"there is no register at 0x{address:04x}")
            if not p.low_code <= code <= p.high_code:
                raise wire.MessageError("bad_code", f"{p.name}: code {code} is outside {p.low_code}..{p.high_code}")
            codes[p.name] = code
        return codes

    def _process(self, message: wire.Process) -> wire.Frame:
        start = time.perf_counter_ns()
        codes = self._checked(message.registers)
        if len(message.payload) > self.max_payload:
            raise wire.MessageError("too_large", f"payload of {len(message.payload)} bytes; {self.max_payload} taken")
        raw = wire.raw_frame(message)
        self._shadow.update(codes)
        self._active = dict(self._shadow)
        self.frame += 1
        parameters = self.space.from_codes(self._active)
        encoded = self.pipeline.process(raw, parameters)
        time.sleep(max(self.frame_s - (time.perf_counter_ns() - start) / 1e9, 0.0))
        return wire.Frame(
            message.id,
            boot_id=self.boot_id,
            frame=self.frame,
            raw_hash=message.raw_hash,
            parameters_hash=parameters.hash,
            registers=tuple((a, self._active[p.name]) for a, p in self._by_address.items()),
            media_type="image/jpeg",
            output_hash=hashlib.sha256(encoded).hexdigest(),
            device_ns=time.perf_counter_ns() - start,
            payload=encoded,
        )


def emulated(profile: str, *, frame_ms: float = 0.0) -> Firmware:
    """The firmware of a profile's device, just switched on."""
    from sim.isp.pipeline import VERSION, Pipeline

    # The same identity as `sim:PROFILE` has: what one of them made, the other need not make again.
    return Firmware(Pipeline(profile), model=f"emulated-isp {profile}", version=VERSION, frame_ms=frame_ms)
