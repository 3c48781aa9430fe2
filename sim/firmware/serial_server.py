"""Serves the emulated device on a serial line: a pseudo terminal (POSIX), or a TCP port for ``socket://``."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from drivers.errors import DeviceError
from drivers.protocol import wire
from drivers.protocol.byte_streams import ByteStream, descriptor_stream, socket_stream
from drivers.protocol.pixel_folder import PixelFolder
from drivers.protocol.serial_device import exchange, flush
from drivers.protocol.serial_framing import SerialEnd
from drivers.protocol.zmq_keys import is_loopback
from sim.firmware.faults import Faults, Outbox
from sim.firmware.faults import load as load_faults
from sim.firmware.registers import Firmware, emulated
from sim.firmware.zmq_server import QUEUE_FACTOR, FrameQueue

POLL_S = 0.2
RELISTEN_S = 0.05


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
    folder = None if pixels is None else PixelFolder(pixels, firmware.max_payload)
    stop = stop or threading.Event()
    faults = faults or Faults()
    line = _line(where, bind_any)
    previous = {}
    if threading.current_thread() is threading.main_thread():
        previous = {n: signal.signal(n, lambda *_: stop.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        print(f"serving {firmware.space.name} at {line.url} boot {firmware.boot_id}", flush=True)
        if ready is not None:
            ready(line.url)
        _Server(firmware, line, faults, stop, folder).run()
        if faults.plan:
            print(faults.summary, flush=True)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        line.close()
        if folder is not None:
            folder.close()


class _Line(Protocol):
    """Where clients come from: ``url`` for them."""

    url: str

    def stream(self, timeout_s: float) -> ByteStream | None:
        """The stream of the client there is, or None after the time."""

    def hang_up(self) -> None:
        """Let go of the stream, which failed."""

    def unplug(self) -> None:
        """Break the connection; nobody can connect until ``stream`` is asked for again."""

    def close(self) -> None:
        """Let go of everything; closing twice is allowed."""


class _Server:
    """One line, the frames that wait and the answers that are late."""

    def __init__(
        self, firmware: Firmware, line: _Line, faults: Faults, stop: threading.Event, folder: PixelFolder | None
    ) -> None:
        self._firmware = firmware
        self._folder = folder
        self._line = line
        self._faults = faults
        self._stop = stop
        self._queue = FrameQueue(QUEUE_FACTOR * firmware.max_in_flight)
        self._outbox = Outbox()
        self._end = SerialEnd(opens=False, max_payload=firmware.max_payload)
        self._session = 0
        self._stream: ByteStream | None = None
        self._left = b""

    def run(self) -> None:
        """Serve until told to stop."""
        while not self._stop.is_set():
            self._move(exchange)
            if self._end.session != self._session:
                # Another client, or none: what waits is not for it.
                self._session = self._end.session
                self._forget()
            while (parts := self._end.receive()) is not None:
                self._take(self._folder.incoming(parts) if self._folder else parts)
            if self._queue:
                self._do(self._queue.pop()[1])
            self._send_due()
            self._move(flush)
            if not self._queue:
                self._wait()

    def _move(self, how: Callable[[ByteStream, SerialEnd, bytes], bytes]) -> None:
        try:
            stream = self._line.stream(POLL_S)
            if stream is not self._stream:
                self._stream, self._left = stream, b""
            if stream is not None:
                self._left = how(stream, self._end, self._left)
        except OSError:
            self._hang_up()

    def _wait(self) -> None:
        """Until something arrives, there is room to write, or something is due."""
        if self._stream is None:
            return
        now = time.monotonic()
        wait_s = POLL_S if self._left else min(POLL_S, self._end.wait_s(now), self._outbox.wait_s(now))
        try:
            self._stream.wait(wait_s, to_write=bool(self._left))
        except OSError:
            self._hang_up()

    def _hang_up(self) -> None:
        self._line.hang_up()
        self._stream = None

    def _forget(self) -> None:
        self._queue.clear()
        self._outbox.clear()

    def _take(self, parts: list[wire.Buffer]) -> None:
        try:
            message = wire.decode(parts, self._firmware.max_payload)
        except wire.MessageError as error:
            self._end.send(wire.encode(wire.Error(error.request_id, error.code, str(error))))
            return
        if not isinstance(message, wire.Process | wire.CaptureRequest):
            self._do(message)
        elif not self._queue.push(b"", message):
            text = f"{len(self._queue)} frames are waiting; send it again later"
            self._end.send(wire.encode(wire.Error(message.id, "busy", text)))

    def _do(self, request: wire.Message) -> None:
        outcome = self._faults.answer(self._firmware, request)
        self._outbox.put(None, outcome, time.monotonic())
        self._send_due()
        if outcome.forget:
            self._power_on()
        if outcome.hang_s:
            self._stop.wait(outcome.hang_s)
        if outcome.gone_s:
            self._power_on()
            self._line.unplug()
            self._stop.wait(outcome.gone_s)

    def _power_on(self) -> None:
        self._forget()
        self._end = SerialEnd(opens=False, max_payload=self._firmware.max_payload)
        self._session = 0

    def _send_due(self) -> None:
        for _, parts in self._outbox.due(time.monotonic()):
            if self._session:
                self._end.send(self._folder.outgoing(parts) if self._folder else parts)


class _Pty:
    """A pseudo terminal, and a symbolic link to it that stays the same when it is plugged in again."""

    def __init__(self, path: Path | None) -> None:
        if not hasattr(os, "openpty"):
            raise DeviceError("this system has no pseudo terminals; serve on TCP with --serial socket://127.0.0.1:0")
        self._path = path
        self._stream: ByteStream | None = None
        self._name = ""
        if path is not None and path.exists() and not path.is_symlink():
            raise DeviceError(f"{path}: is there already and is no link to a pseudo terminal; choose another path")
        self._open()
        self.url = f"serial://{path.absolute() if path else self._name}"

    def stream(self, timeout_s: float) -> ByteStream | None:
        """See :class:`_Line`."""
        if self._stream is None:
            self._open()
        return self._stream

    def hang_up(self) -> None:
        """See :class:`_Line`."""
        self.close()

    def unplug(self) -> None:
        """See :class:`_Line`; without a path of its own nobody would find it again, so then it only falls silent."""
        if self._path is not None:
            self.close()

    def close(self) -> None:
        """See :class:`_Line`."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            if self._path is not None:
                with contextlib.suppress(OSError):
                    self._path.unlink()

    def _open(self) -> None:
        import tty

        master, slave = os.openpty()
        tty.setraw(slave)
        self._name = os.ttyname(slave)

        # The server holds the client's end open too, or reading would fail while no client does.
        def close() -> None:
            os.close(master)
            os.close(slave)

        self._stream = descriptor_stream(master, close)
        if self._path is not None:
            try:
                # A link of another name, moved into place: the path is never missing and never half made.
                with tempfile.TemporaryDirectory(dir=self._path.parent) as folder:
                    link = Path(folder) / "tty"
                    link.symlink_to(self._name)
                    link.replace(self._path)
            except OSError as error:
                self._stream.close()
                self._stream = None
                raise DeviceError(f"{self._path}: the link cannot be made: {error.strerror or error}") from error


class _Tcp:
    """A TCP port that takes one client at a time; a new one takes the place of the one before."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._stream: ByteStream | None = None
        self._listener: socket.socket | None = None
        self._listen()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"serial:socket://{shown}:{self._port}"

    def stream(self, timeout_s: float) -> ByteStream | None:
        """See :class:`_Line`."""
        if self._listener is None:
            try:
                self._listen()
            except DeviceError:
                # Another program had the port while it was given up; it is waited for.
                time.sleep(min(timeout_s, RELISTEN_S))
                return None
        assert self._listener is not None
        self._listener.settimeout(timeout_s if self._stream is None else 0.0)
        try:
            connection, _ = self._listener.accept()
        except (TimeoutError, BlockingIOError):
            return self._stream
        if self._stream is not None:
            self._stream.close()
        self._stream = socket_stream(connection)
        return self._stream

    def hang_up(self) -> None:
        """See :class:`_Line`."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def unplug(self) -> None:
        """See :class:`_Line`."""
        self.close()

    def close(self) -> None:
        """See :class:`_Line`."""
        self.hang_up()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _listen(self) -> None:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            self._listener = socket.create_server((self._host, self._port), family=family)
        except OSError as error:
            raise DeviceError(f"cannot listen on {self._host}:{self._port}: {error.strerror or error}") from error
        self._port = self._listener.getsockname()[1]


def _line(where: str, bind_any: bool) -> _Line:
    """The line that ``where`` names.

    Raises:
        DeviceError: it is malformed or taken, not loopback without ``bind_any``, or not to be had on this system.
    """
    if where == "pty":
        return _Pty(None)
    if where.startswith("pty:") and where != "pty:":
        return _Pty(Path(where.removeprefix("pty:")))
    try:
        parts = urlsplit(where)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None or parts.scheme != "socket" or parts.path.strip("/"):
        raise DeviceError(f"serial line {where!r} is not pty, pty:PATH or socket://HOST:PORT")
    if not bind_any and not is_loopback(host):
        raise DeviceError(
            f"serial line {where!r} is not loopback and has no encryption; add --bind-any if the network is yours"
        )
    return _Tcp("127.0.0.1" if host == "localhost" else host, port)
