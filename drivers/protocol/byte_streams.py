"""Byte streams that never wait where nobody asked them to: serial ports, pseudo terminals, TCP connections."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

READ_SIZE = 1 << 16
POLL_S = 0.002
PIECE = 256


class ByteStream(Protocol):
    """An open connection. Every method raises ``OSError`` once it is gone."""

    def read(self) -> bytes:
        """What has arrived, possibly nothing; never waits."""

    def write(self, data: bytes) -> int:
        """Bytes taken, possibly none; waits for a bounded time at most."""

    def wait(self, timeout_s: float, *, to_write: bool = False) -> None:
        """Until something arrived, there is room to write (if asked for), or the time is over."""

    def close(self) -> None:
        """Let go of it; closing twice is allowed."""


class SelectableStream:
    """A stream with a descriptor that ``select`` takes: sockets everywhere, ports and pseudo terminals on POSIX."""

    def __init__(
        self,
        descriptor: int,
        read: Callable[[int], bytes],
        write: Callable[[bytes], int],
        close: Callable[[], Any],
    ) -> None:
        """A stream over a descriptor that does not block.

        Args:
            descriptor: what ``select`` takes.
            read: up to so many bytes; none at the end of the stream.
            write: gives the bytes taken.
            close: lets go of it.
        """
        self._descriptor, self._read, self._write, self._close = descriptor, read, write, close
        self._closed = False

    def read(self) -> bytes:
        """See :class:`ByteStream`."""
        if not self._ready(0.0, False)[0]:
            return b""
        try:
            data = self._read(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return b""
        if not data:
            raise ConnectionResetError("the other end is gone")
        return data

    def write(self, data: bytes) -> int:
        """See :class:`ByteStream`."""
        try:
            return self._write(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def wait(self, timeout_s: float, *, to_write: bool = False) -> None:
        """See :class:`ByteStream`."""
        self._ready(max(timeout_s, 0.0), to_write)

    def close(self) -> None:
        """See :class:`ByteStream`."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):
                self._close()

    def _ready(self, timeout_s: float, to_write: bool) -> tuple[bool, bool]:
        if self._closed:
            raise ConnectionResetError("the stream is closed")
        mine = [self._descriptor]
        try:
            readable, writable, _ = select.select(mine, mine if to_write else [], [], timeout_s)
        except ValueError as error:
            raise OSError(f"the stream cannot be waited for: {error}") from error
        return bool(readable), bool(writable)


class PolledStream:
    """A pyserial port without a descriptor: COM ports of Windows and ``rfc2217://``; looked at every 2 ms."""

    def __init__(self, port: Any) -> None:
        """Over an open port whose read timeout is a few milliseconds at most."""
        self._port = port

    def read(self) -> bytes:
        """See :class:`ByteStream`."""
        # Asked for a byte at least: only reading tells that a port on the network is gone.
        return bytes(self._port.read(min(max(self._port.in_waiting, 1), READ_SIZE)))

    def write(self, data: bytes) -> int:
        """See :class:`ByteStream`."""
        from serial import SerialTimeoutException

        piece = data[:PIECE]
        try:
            self._port.write(piece)
        except SerialTimeoutException:
            # How much of it left is not known: written once more it spoils the frame, which is sent again later.
            return 0
        return len(piece)

    def wait(self, timeout_s: float, *, to_write: bool = False) -> None:
        """See :class:`ByteStream`."""
        end = time.monotonic() + timeout_s
        while not to_write and not self._port.in_waiting and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, POLL_S))

    def close(self) -> None:
        """See :class:`ByteStream`."""
        with contextlib.suppress(OSError):
            self._port.close()


def socket_stream(connection: socket.socket) -> SelectableStream:
    """A stream over a connected socket."""
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return SelectableStream(connection.fileno(), connection.recv, connection.send, connection.close)


def descriptor_stream(descriptor: int, close: Callable[[], Any]) -> SelectableStream:
    """A stream over a terminal's descriptor (POSIX only); ``close`` lets go of it."""
    os.set_blocking(descriptor, False)
    return SelectableStream(
        descriptor, lambda size: os.read(descriptor, size), lambda data: os.write(descriptor, data), close
    )
