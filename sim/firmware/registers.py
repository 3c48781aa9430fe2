"""The firmware of the emulated device: registers, latching, boot id and the proof that goes with every frame.

It knows messages and nothing of transports: :meth:`Firmware.handle` takes a message and gives the answer.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from drivers.errors import DeviceError, WorkbenchError
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import Parameter, ParameterSet, ParameterSpace, parameters_hash
from drivers.protocol import wire
from drivers.registers import Bank

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

    Real devices are less tidy, and so is this one on request: codes come into force some frames late, a temporal filter
    mixes each output with the one before, and no echo says so. A live one takes its RAWs from its own camera.
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
        echo: bool = True,
        latch_frames: int = 0,
        temporal_filter: float = 0.0,
        camera: Callable[[], RawFrame] | None = None,
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
            echo: frames name the codes in force. Without it the active bank reads what was latched, in force or not.
            latch_frames: frames that codes come into force late.
            temporal_filter: share of the output before in each output, 0 (none) to below 1.
            camera: what a live device photographs; it takes no stored RAWs.

        Raises:
            DeviceError: a parameter of the pipeline has no register, or the filter's share is out of range.
        """
        if not 0 <= temporal_filter < 1:
            raise DeviceError(f"temporal filter {temporal_filter:g} is not within 0 and below 1")
        self.pipeline = pipeline
        self.space = pipeline.space
        self.model = model
        self.version = version
        self.serial = serial
        self.boot_id = boot_id or secrets.token_hex(8)
        self.max_payload = max_payload
        self.max_in_flight = max_in_flight
        self.frame_s = frame_ms / 1000
        self.echo = echo
        self.latch_frames = latch_frames
        self.temporal_filter = temporal_filter
        self.camera = camera
        self._by_address: dict[int, Parameter] = {}
        for p in self.space.parameters:
            if p.register is None:
                raise DeviceError(f"{self.space.name}: parameter {p.name} has no register; firmware cannot hold it")
            self._by_address[p.register.address] = p
        self._power_on()

    def reboot(self) -> None:
        """Start anew: another boot id, the registers at their defaults, the frame counter at zero."""
        self.boot_id = secrets.token_hex(8)
        self._power_on()

    def _power_on(self) -> None:
        self.frame = 0
        self._shadow = self.space.defaults.by_name
        self._active = dict(self._shadow)
        # What each of the last frames latched; the oldest is in force.
        self._latched = deque([self._active] * (self.latch_frames + 1), self.latch_frames + 1)
        self._filtered: np.ndarray | None = None

    def handle(self, message: wire.Message) -> wire.Message:
        """The answer to a request; a refusal is an :class:`~drivers.protocol.wire.Error`, nothing is raised."""
        try:
            match message:
                case wire.Hello():
                    return self._info(message)
                case wire.Read():
                    return self._read(message)
                case wire.Write():
                    self._shadow.update(self._checked(message.registers))
                    return self._values(message.id, "shadow", [address for address, _ in message.registers])
                case wire.Process() if self.camera is None:
                    return self._process(message)
                case wire.CaptureRequest() if self.camera is not None:
                    return self._capture(message, self.camera)
        except wire.MessageError as error:
            return wire.Error(message.id, error.code, str(error))
        except (WorkbenchError, ArithmeticError, ValueError, MemoryError) as error:
            return wire.Error(message.id, "failed", f"the ISP failed: {error}")
        return wire.Error(message.id, "unsupported", f"{type(message).__name__} is not a request to this device")

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
            echo=self.echo,
            live=self.camera is not None,
        )

    def _read(self, message: wire.Read) -> wire.RegisterValues:
        for address in message.addresses:
            if address not in self._by_address:
                raise wire.MessageError("bad_register", f"there is no register at 0x{address:04x}")
        return self._values(message.id, message.bank, message.addresses or sorted(self._by_address))

    def _values(self, request_id: int, bank: Bank, addresses: list[int] | tuple[int, ...]) -> wire.RegisterValues:
        codes = self._active if bank == "active" else self._shadow
        return wire.RegisterValues(
            request_id,
            boot_id=self.boot_id,
            bank=bank,
            registers=tuple((a, codes[self._by_address[a].name]) for a in addresses),
            parameters_hash=parameters_hash(codes),
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
        return self._frame(message.id, raw, codes, start)

    def _capture(self, message: wire.CaptureRequest, camera: Callable[[], RawFrame]) -> wire.Frame:
        start = time.perf_counter_ns()
        codes = self._checked(message.registers)
        raw = camera()
        frame = self._frame(message.id, raw, codes, start)
        stored = wire.process_request(message.id, raw, ())
        return dataclasses.replace(frame, metadata=stored.metadata, raw=stored.payload)

    def _frame(self, request_id: int, raw: RawFrame, codes: dict[str, int], start: int) -> wire.Frame:
        self._shadow.update(codes)
        self._latched.append(dict(self._shadow))
        in_force = self._latched[0]
        self._active = in_force if self.echo else self._latched[-1]
        self.frame += 1
        parameters = self.space.from_codes(in_force)
        rgb = self._filter(RgbFrame(self.pipeline.process(raw, parameters)))
        time.sleep(max(self.frame_s - (time.perf_counter_ns() - start) / 1e9, 0.0))
        return wire.Frame(
            request_id,
            boot_id=self.boot_id,
            frame=self.frame,
            raw_hash=raw.hash,
            parameters_hash=parameters.hash if self.echo else "",
            registers=tuple((a, in_force[p.name]) for a, p in self._by_address.items()) if self.echo else (),
            media_type=rgb.media_type,
            output_hash=rgb.hash,
            device_ns=time.perf_counter_ns() - start,
            payload=rgb.encoded,
        )

    def _filter(self, rgb: RgbFrame) -> RgbFrame:
        """The output with its share of the one before; the ISP's own bytes again once it has settled."""
        if not self.temporal_filter:
            return rgb
        mixed = rgb.pixels.astype(np.float32)
        if self._filtered is not None and self._filtered.shape == mixed.shape:
            mixed += self.temporal_filter * (self._filtered - mixed)
        self._filtered = mixed
        pixels = np.rint(mixed).astype(np.uint8)
        return rgb if np.array_equal(pixels, rgb.pixels) else RgbFrame.from_pixels(pixels)


def emulated(
    profile: str,
    *,
    frame_ms: float = 0.0,
    echo: bool = True,
    latch_frames: int = 0,
    temporal_filter: float = 0.0,
    live: Path | None = None,
) -> Firmware:
    """The firmware of a profile's device, just switched on.

    Args:
        profile: of the emulated ISP.
        frame_ms, echo, latch_frames, temporal_filter: as :class:`Firmware` takes them.
        live: folder of RAWs that a live device photographs in turn; ``lab``: generated lab scenes.

    Raises:
        ParameterError: no such profile.
        WorkbenchError: the folder holds no readable RAWs, or a value is out of range.
    """
    from sim.firmware.live import camera
    from sim.isp.pipeline import VERSION, Pipeline

    # The same identity as `sim:PROFILE` has: what one of them made, the other need not make again.
    return Firmware(
        Pipeline(profile),
        model=f"emulated-isp {profile}",
        version=VERSION,
        frame_ms=frame_ms,
        echo=echo,
        latch_frames=latch_frames,
        temporal_filter=temporal_filter,
        camera=None if live is None else camera(live),
    )
