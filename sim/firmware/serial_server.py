"""Serves the emulated device on a serial line: a pseudo terminal (POSIX), or a TCP port for ``socket://``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drivers.protocol import wire
from drivers.protocol.byte_streams import ByteStream
from drivers.protocol.pixel_folder import PixelFolder
from drivers.protocol.serial_device import exchange, flush
from drivers.protocol.serial_end import SerialEnd
from sim.firmware.faults import Faults
from sim.firmware.faults import load as load_faults
from sim.firmware.registers import Firmware, emulated
from sim.firmware.serial_lines import Line, open_line
from sim.firmware.server import serve_link


def serve(
    profile: str,
    where: str = "pty",
    ready: Callable[[str], None] | None = None,
    *,
    bind_any: bool = False,
    faults: Path | None = None,
    pixels: Path | None = None,
    **device: Any,
) -> None:
    """Run the emulated device of a profile until Ctrl-C or SIGTERM. See :func:`serve_firmware`.

    Args:
        profile: of the emulated ISP.
        where, ready, bind_any, pixels: as :func:`serve_firmware` takes them.
        faults: TOML file of what goes wrong.
        device: options of the device, see :func:`~sim.firmware.registers.emulated`.

    Raises:
        DeviceError: ``where`` is malformed or taken, or this system has no pseudo terminals.
        FaultsError: the file is wrong.
    """
    plan = None if faults is None else load_faults(faults)
    serve_firmware(emulated(profile, **device), where, ready, bind_any=bind_any, faults=plan, pixels=pixels)


def serve_firmware(
    firmware: Firmware,
    where: str = "pty",
    ready: Callable[[str], None] | None = None,
    *,
    bind_any: bool = False,
    stop: threading.Event | None = None,
    faults: Faults | None = None,
    pixels: Path | None = None,
) -> None:
    """Serve a firmware until Ctrl-C, SIGTERM or ``stop``; prints one line once it can be reached.

    Args:
        firmware: the device.
        where: ``pty``, a new pseudo terminal; ``pty:PATH``, one that is found at PATH; ``socket://HOST:PORT``, a TCP
            port, 0 for any free one.
        ready: called with the device's URL.
        bind_any: allow a TCP address that is not loopback: no encryption and no authentication.
        stop: ends the loop when set.
        faults: what goes wrong.
        pixels: folder that the client sees too: payloads go through it, not over the line.

    Raises:
        DeviceError: ``where`` is malformed or taken, there is no such folder, or this system has no pseudo terminals.
    """
    serve_link(firmware, lambda: _open_link(where, bind_any, firmware.max_payload, pixels), ready, stop, faults)


def _open_link(where: str, bind_any: bool, max_payload: int, pixels: Path | None) -> _SerialLink:
    folder = None if pixels is None else PixelFolder(pixels, max_payload)
    try:
        return _SerialLink(open_line(where, bind_any), max_payload, folder)
    except BaseException:
        if folder is not None:
            folder.close()
        raise


class _SerialLink:
    """A line and the client on it, one at a time; see :class:`~sim.firmware.server.ServerLink`."""

    def __init__(self, line: Line, max_payload: int, folder: PixelFolder | None) -> None:
        """Over an open line; ``folder``: where payloads go."""
        self.url = line.url
        self._line = line
        self._max_payload = max_payload
        self._folder = folder
        self._stream: ByteStream | None = None
        self._left = b""
        self.restart()

    @property
    def clients(self) -> int:
        """The link's session."""
        return self._end.session

    def receive(self, timeout_s: float) -> tuple[bytes, list[wire.Buffer]] | None:
        """The client's next message."""
        parts = self._end.receive()
        if parts is None:
            self._exchange(timeout_s)
            parts = self._end.receive()
        if parts is not None:
            return b"", self._folder.incoming(parts) if self._folder else parts
        if timeout_s:
            self._wait(timeout_s)
        return None

    def send(self, peer: bytes, parts: list[wire.Buffer]) -> None:
        """Queue a message for the client, if there is one."""
        if self._end.session:
            self._end.send(self._folder.outgoing(parts) if self._folder else parts)

    def flush(self) -> None:
        """Write what there is room for."""
        if self._stream is not None:
            self._move(flush)

    def restart(self) -> None:
        """Another end, without a session."""
        self._end = SerialEnd(opens=False, max_payload=self._max_payload)

    def disappear(self, seconds: float, stop: threading.Event) -> None:
        """Unplug the line; it is plugged in again when clients are next looked for."""
        self.restart()
        self._line.unplug()
        stop.wait(seconds)

    def close(self) -> None:
        """Let go of the line."""
        self._line.close()
        if self._folder is not None:
            self._folder.close()

    def _exchange(self, timeout_s: float) -> None:
        try:
            stream = self._line.stream(timeout_s)
        except OSError:
            self._hang_up()
            return
        if stream is not self._stream:
            self._stream, self._left = stream, b""
        if stream is not None:
            self._move(exchange)

    def _move(self, how: Callable[[ByteStream, SerialEnd, bytes], bytes]) -> None:
        assert self._stream is not None
        try:
            self._left = how(self._stream, self._end, self._left)
        except OSError:
            self._hang_up()

    def _wait(self, timeout_s: float) -> None:
        """Until something arrives, there is room to write, or something is due."""
        if self._stream is None:
            return
        wait_s = timeout_s if self._left else min(timeout_s, self._end.wait_s(time.monotonic()))
        try:
            self._stream.wait(wait_s, to_write=bool(self._left))
        except OSError:
            self._hang_up()

    def _hang_up(self) -> None:
        self._line.hang_up()
        self._stream = None
