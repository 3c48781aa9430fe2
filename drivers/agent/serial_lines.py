"""Where the clients of a serial device come from: a pseudo terminal (POSIX), a TCP port, or a port of this machine."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Protocol

from drivers.errors import DeviceError
from drivers.protocol.byte_streams import ByteStream, descriptor_stream, socket_stream

RELISTEN_S = 0.05


class Line(Protocol):
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


class PtyLine:
    """A pseudo terminal, and a symbolic link to it that stays the same when it is plugged in again."""

    def __init__(self, path: Path | None) -> None:
        if not hasattr(os, "openpty"):
            raise DeviceError("this system has no pseudo terminals; serve on TCP: socket://127.0.0.1:0")
        self._path = path
        self._stream: ByteStream | None = None
        self._name = ""
        if path is not None and path.exists() and not path.is_symlink():
            raise DeviceError(f"{path}: is there already and is no link to a pseudo terminal; choose another path")
        self._open()
        self.url = f"serial://{path.absolute() if path else self._name}"

    def stream(self, timeout_s: float) -> ByteStream | None:
        """See :class:`Line`."""
        if self._stream is None:
            self._open()
        return self._stream

    def hang_up(self) -> None:
        """See :class:`Line`."""
        self.close()

    def unplug(self) -> None:
        """See :class:`Line`; without a path of its own nobody would find it again, so then it only falls silent."""
        if self._path is not None:
            self.close()

    def close(self) -> None:
        """See :class:`Line`."""
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


class TcpLine:
    """A TCP port that takes one client at a time; a new one takes the place of the one before."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._stream: ByteStream | None = None
        self._listener: socket.socket | None = None
        self._listen()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"serial:socket://{shown}:{self._port}"

    def stream(self, timeout_s: float) -> ByteStream | None:
        """See :class:`Line`."""
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
        """See :class:`Line`."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def unplug(self) -> None:
        """See :class:`Line`."""
        self.close()

    def close(self) -> None:
        """See :class:`Line`."""
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


class PortLine:
    """A serial port of this machine: the board's own end of the cable. Needs pyserial."""

    def __init__(self, url: str) -> None:
        """Open the port of ``serial:PORT?baud=N``.

        Raises:
            DeviceError: the URL is malformed, there is no such port, or another program uses it.
        """
        from drivers.protocol.serial_device import Port, open_stream, parse

        address = parse(url)
        self.url = url
        self._port = Port(url, lambda: open_stream(address))

    def stream(self, timeout_s: float) -> ByteStream | None:
        """See :class:`Line`."""
        stream = self._port.stream()
        if stream is None:
            time.sleep(min(timeout_s, RELISTEN_S))
        return stream

    def hang_up(self) -> None:
        """See :class:`Line`; the port is opened again when it is back."""
        self._port.drop(OSError("the port is gone"))

    def unplug(self) -> None:
        """See :class:`Line`; a port cannot be unplugged from here, so it only falls silent."""

    def close(self) -> None:
        """See :class:`Line`."""
        self._port.close()


def pty_line(where: str) -> PtyLine | None:
    """The pseudo terminal that ``pty`` or ``pty:PATH`` names; None for everything else.

    Raises:
        DeviceError: the path is taken, or this system has no pseudo terminals.
    """
    if where == "pty":
        return PtyLine(None)
    return PtyLine(Path(where.removeprefix("pty:"))) if where.startswith("pty:") and where != "pty:" else None
