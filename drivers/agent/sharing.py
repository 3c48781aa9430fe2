"""A device that this host can reach, served to others over the protocol: what it is and what it proves are its own.

The driver of the shared device proves every frame before it is passed on, and has as many in work as it takes.
Registers that clients read and write are the share's, given out where the device has none. Both banks hold the defaults
when it starts, and again, with another boot id, when the shared device was restarted. A client who asks who it is hears
that it is busy while the shared device is not reached.
"""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import NoReturn

from drivers import device_urls, stopping
from drivers.agent.device_side import DEFAULT_MAX_PAYLOAD, DeviceSide, Made
from drivers.agent.own_parameters import in_registers
from drivers.device import Capture, Device, Failure
from drivers.errors import DeviceError, DeviceUnreachableError, WorkbenchError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.protocol import wire

IN_WORK = 2
"""Requests that a client may have outstanding, in multiples of the frames that the shared device takes at once: those
that wait are there when others are done."""
ASKED_S = 1.0
"""Seconds that the shared device has to say who it is where a client asks, and nothing was heard of it for so long."""

_Result = Capture | tuple[RawFrame, Capture] | Failure


class SharedDevice(DeviceSide):
    """An open device as the device's side of the protocol; its user closes the device."""

    def __init__(self, device: Device, stop: threading.Event) -> None:
        """Ask the device who it is.

        Args:
            device: what is shared, used by nobody else meanwhile.
            stop: ends the wait for the device when set.

        Raises:
            DeviceError: what it is cannot be told in the protocol, or its frames prove nothing and no settle count is
                known.
        """
        info = device.info()
        self._device, self._stop = device, stop
        self._device_boot, self._inner_space = info.boot_id, info.space
        self._made = 0
        self._working, self._heard = False, time.monotonic()
        if not info.echo and device_urls.settle_count(device.url) is None:
            raise DeviceError(
                f"{device.url}: this device's frames do not prove their parameters; measure its settle count with "
                f"`workbench device settle {device.url}` and share the URL that it prints"
            )
        if info.input.frames > 1:
            raise DeviceError(f"{device.url}: this device filters over bursts of frames and cannot be shared")
        super().__init__(
            _Elsewhere(),
            dataclasses.replace(info.space, parameters=in_registers(info.space.parameters)),
            model=info.model,
            firmware=info.firmware,
            serial=info.serial or f"on {socket.gethostname()}"[:128],
            max_payload=DEFAULT_MAX_PAYLOAD,
            max_in_flight=min(IN_WORK * info.max_in_flight, wire.MAX_IN_FLIGHT),
            live=info.live,
            raw_input=info.input,
        )
        try:
            wire.decode(wire.encode(self.handle(wire.Hello(1, wire.LATEST))))
        except WorkbenchError as error:
            raise DeviceError(f"{device.url}: it cannot be shared: {error}") from error

    def handle(self, message: wire.Message) -> wire.Message:
        """See :meth:`DeviceSide.handle`. HELLO is ``busy`` while the shared device is not reached.

        Raises:
            DeviceError: the shared device is another than before.
        """
        # While it makes frames it cannot be asked, and need not: they come, or are told not to.
        if isinstance(message, wire.Hello) and not self._working and time.monotonic() - self._heard > ASKED_S:
            try:
                with stopping.checked(self._check):
                    self._see_boot(self._device.ask_info(ASKED_S).boot_id)
            except DeviceUnreachableError as error:
                return _not_reached(message.id, error)
            except _StoppedError:
                return wire.Error(message.id, "busy", "the share ends")
        return super().handle(message)

    def frames(self, requests: Iterator[wire.FrameRequest]) -> Iterator[wire.Message | None]:
        """See :meth:`DeviceSide.frames`. A device that is not reached for a while makes its frames ``busy``.

        Raises:
            DeviceError: the device refused what is no fault of a frame, or is another than before.
        """
        taken: deque[wire.FrameRequest | wire.Error] = deque()
        self._working = True
        try:
            with stopping.checked(self._check), closing(self._results(requests, taken)) as results:
                for result in results:
                    yield from _refusals(taken)
                    request = taken.popleft()
                    assert not isinstance(request, wire.Error)
                    yield self._answer(request, result)
        except DeviceUnreachableError as error:
            while taken:
                yield from _refusals(taken)
                if taken:
                    yield _not_reached(taken.popleft().id, error)
        except _StoppedError:
            return
        finally:
            self._working = False
        yield from _refusals(taken)

    def _results(
        self, requests: Iterator[wire.FrameRequest], taken: deque[wire.FrameRequest | wire.Error]
    ) -> Generator[_Result, None, None]:
        """What the device makes of the requests that can be taken; ``taken`` gets those, and the refusals between."""

        def jobs() -> Iterator[tuple[RawFrame | None, ParameterSet]]:
            for request in requests:
                try:
                    job = self._job(request)
                except wire.MessageError as error:
                    taken.append(wire.Error(request.id, error.code, str(error)))
                    continue
                taken.append(request)
                yield job

        if self.live:
            yield from self._device.capture_many(parameters for _, parameters in jobs())
        else:
            yield from self._device.process_many((raw, parameters) for raw, parameters in jobs() if raw is not None)

    def _job(self, request: wire.FrameRequest) -> tuple[RawFrame | None, ParameterSet]:
        if isinstance(request, wire.CaptureRequest) is not self.live:
            raise wire.MessageError("unsupported", f"{type(request).__name__} is not a request to this device")
        if isinstance(request, wire.Process):
            raw, latched = self._taken(request)
            return raw, self._inner_space.from_codes(latched)
        return None, self._inner_space.from_codes(self._boundary(request, self._banks.checked(request.registers)))

    def _answer(self, request: wire.FrameRequest, result: _Result) -> wire.Message:
        # Frames are counted as they are made: some are in work when the device shared starts anew.
        self._made += 1
        if isinstance(result, Failure):
            code = result.code if result.code in ("bad_raw", "too_large") else "failed"
            return wire.Error(request.id, code, result.reason)
        raw, capture = result if isinstance(result, tuple) else (None, result)
        if self._see_boot(capture.boot_id):
            self._made = 1
        made = Made(capture.rgb, capture.parameters_in_force, capture.statistics)
        device_ns = round(capture.device_s * 1e9)
        if isinstance(request, wire.Process):
            frame = self._frame(request.id, request.raw_hash, made, device_ns)
            return dataclasses.replace(frame, frame=self._made)
        assert raw is not None
        try:
            frame = self._photograph(request.id, raw, made, device_ns)
            return dataclasses.replace(frame, frame=self._made)
        except WorkbenchError as error:
            return wire.Error(request.id, "failed", str(error))

    def _see_boot(self, boot_id: str) -> bool:
        """The shared device was heard of, in this boot; whether it is another one than before."""
        self._heard = time.monotonic()
        if boot_id == self._device_boot:
            return False
        self._device_boot, self._made = boot_id, 0
        self.reboot()
        return True

    def _check(self) -> None:
        if self._stop.is_set():
            raise _StoppedError


class _StoppedError(Exception):
    """Nobody waits for the device any more."""


class _Elsewhere:
    """In the place of an :class:`~drivers.agent.device_side.Isp`: :meth:`SharedDevice.frames` makes all frames."""

    def power_on(self) -> None:
        """Nothing of frames before is kept here."""

    def process(self, raw: RawFrame, latched: dict[str, int]) -> NoReturn:
        """Never called."""
        raise NotImplementedError

    def begin_burst(self) -> NoReturn:
        """Never called."""
        raise NotImplementedError

    def photograph(self, latched: dict[str, int]) -> NoReturn:
        """Never called."""
        raise NotImplementedError


def _not_reached(request_id: int, error: DeviceUnreachableError) -> wire.Error:
    return wire.Error(request_id, "busy", f"the device shared is not reached: {error}")


def _refusals(taken: deque[wire.FrameRequest | wire.Error]) -> Iterator[wire.Error]:
    """Refusals whose turn it is."""
    while taken and isinstance(first := taken[0], wire.Error):
        taken.popleft()
        yield first
