"""The device's end of a serial link: one client at a time on a line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from drivers.agent.serial_lines import Line
from drivers.protocol import wire
from drivers.protocol.byte_streams import ByteStream
from drivers.protocol.pixel_folder import PixelFolder
from drivers.protocol.serial_end import SerialEnd
from drivers.protocol.serial_exchange import exchange, flush


def open_serial(open_line: Callable[[], Line], max_payload: int, pixels: Path | None) -> SerialLink:
    """The link on a line.

    Args:
        open_line: opens the line, see :mod:`drivers.agent.serial_lines`.
        max_payload: largest payload taken, in bytes.
        pixels: folder that the client sees too: payloads go through it, not over the line.

    Raises:
        DeviceError: the line cannot be opened, or there is no such folder.
    """
    folder = None if pixels is None else PixelFolder(pixels, max_payload)
    try:
        return SerialLink(open_line(), max_payload, folder)
    except BaseException:
        if folder is not None:
            folder.close()
        raise


class SerialLink:
    """A line and the client on it, one at a time; see :class:`~drivers.agent.serving.ServerLink`."""

    streams = False
    """Served while a frame is made a line carries more acknowledgements, each by itself; one that breaks every few
    bytes then gets no message across whole."""

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
