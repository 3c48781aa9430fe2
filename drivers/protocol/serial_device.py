"""A device on a serial line: ``serial:///dev/ttyUSB0?baud=115200``, ``serial:COM3``, ``serial:socket://HOST:PORT``.

Options of the URL: ``baud``; ``compress=0`` leaves pixels as they are; ``plain=1`` says that the network to another
machine is safe; ``settle`` as for any device (section 8 of PROTOCOL.md); ``pixels=URL`` names a second channel, on
which the frames of the same device travel, ``pixels=folder:PATH`` a folder that both ends see. Section 14 of
PROTOCOL.md specifies what goes over the line.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import serial

from drivers import device_urls, registry
from drivers.device import DEFAULT_DEADLINE_S, Device
from drivers.errors import DeviceError, DeviceUnreachableError, ProtocolError
from drivers.protocol import wire
from drivers.protocol.byte_streams import PIECE, ByteStream, PolledStream, descriptor_stream, socket_stream
from drivers.protocol.pixel_folder import PixelFolder
from drivers.protocol.protocol_client import OPEN_DEADLINE_S
from drivers.protocol.protocol_device import ProtocolDevice
from drivers.protocol.serial_end import SerialEnd
from drivers.protocol.serial_exchange import exchange
from drivers.protocol.serial_framing import MAX_CHUNK, MIN_CHUNK
from drivers.protocol.two_channels import TwoChannelDevice
from drivers.protocol.zmq_keys import is_loopback

OPTIONS = ("baud", "compress", "plain", "settle", "pixels", "deadline")
RFC2217_OPTIONS = ("ign_set_control", "poll_modem", "timeout")
DEFAULT_BAUD = 115200
CONNECT_S = 3.0
REOPEN_S = 0.1
FOLDER = "folder:"
READ_S = 0.005
WRITE_S = 1.0
FLUSH_S = 0.2
POKE_S = 1.0
CHUNK_S = 0.05
"""Seconds that a chunk should take on the line: what a flipped bit costs, and how long a short request waits."""
LINE_IN_FLIGHT = 2
"""Frames at a time on a slow line: one travels while one is processed; a short request waits for no more than these."""
INFO_BYTES = 16384
"""Bytes that an answer to HELLO may take on a slow line before the device counts as silent."""


def open_device(url: str, deadline_s: float = DEFAULT_DEADLINE_S) -> Device:
    """The device on a serial line.

    Args:
        url: the port and its options.
        deadline_s: seconds that a frame may take, its way over the line included.

    Raises:
        DeviceError: the URL is malformed, or there is no such port, or another program uses it.
        DeviceUnreachableError: nobody answers there.
        ProtocolError: what answers speaks another version.
    """
    pixels = parse(url).pixels
    if not pixels or pixels.startswith(FOLDER):
        return SerialDevice(url, deadline_s)
    return TwoChannelDevice(
        url, lambda: SerialDevice(url, deadline_s), lambda: registry.open_device(pixels, deadline_s)
    )


class SerialLink:
    """Messages over the byte stream of a port; ``lost`` once the session is over.

    The stream outlives its links: a device that restarted gets a new session on the same open port.
    """

    def __init__(self, port: Port, end: SerialEnd, folder: PixelFolder | None = None) -> None:
        """A new session on a port, which may have vanished and is opened again then; ``folder``: where payloads go."""
        self.lost = False
        self.end = end
        self._port = port
        self._folder = folder
        self._left = b""
        self._poked = time.monotonic()

    def send(self, parts: list[wire.Buffer]) -> None:
        """Queue a message; it leaves while answers are waited for."""
        self.end.send(self._folder.outgoing(parts) if self._folder else parts)
        self._pump()

    def receive(self, timeout_s: float) -> list[wire.Buffer] | None:
        """The parts of the next message, or None after the time or when the session was lost.

        Raises:
            ProtocolError: the device speaks another version of the link.
        """
        end_at = time.monotonic() + timeout_s
        while True:
            # What has come is given before more is read: answers that nobody asked for must not pile up.
            if (parts := self.end.receive()) is None:
                self._pump()
                if self.end.error:
                    raise ProtocolError(f"{self._port.url}: {self.end.error}")
                parts = self.end.receive()
            if parts is not None:
                return self._folder.incoming(parts) if self._folder else parts
            now = time.monotonic()
            if self.lost or now >= end_at:
                return None
            if now - self._poked >= POKE_S and not self._left:
                self._poked = now
                self.end.poke()
            self._port.wait(min(end_at - now, self.end.wait_s(now)), bool(self._left))

    def close(self) -> None:
        """Drop the session, and say so; the port stays open for the next one."""
        if not self.lost and self.end.opened and not self._port.problem and (stream := self._port.stream()):
            with contextlib.suppress(OSError):
                stream.write(self.end.goodbye())
        self.lost = True

    def _pump(self) -> None:
        if self.lost:
            return
        try:
            stream = self._port.stream()
            if stream is None:
                return
            self._left = exchange(stream, self.end, self._left)
            self.lost = self.end.lost
        except OSError as error:
            self._port.drop(error)
            self.lost = True


class Port:
    """A port that may vanish and come back.

    Attributes:
        problem: why it is not open now, for people.
    """

    def __init__(self, url: str, open_stream: Callable[[], ByteStream]) -> None:
        """Open it.

        Raises:
            DeviceError: it cannot be opened.
        """
        self.url = url
        self.problem = ""
        self._open_stream = open_stream
        self._stream: ByteStream | None = None
        self._tried = time.monotonic()
        try:
            self._stream = open_stream()
        except OSError as error:
            reason = _reason(error)
            if ";" not in reason:
                reason += "; is it the right port? `workbench device list` shows those of this machine"
            raise DeviceUnreachableError(f"{url}: {reason}") from error

    def stream(self) -> ByteStream | None:
        """The open stream, opened again if the port is back; None while it is not."""
        if self._stream is None and time.monotonic() - self._tried >= REOPEN_S:
            self._tried = time.monotonic()
            try:
                self._stream = self._open_stream()
                self.problem = ""
            except OSError as error:
                self.problem = _reason(error)
        return self._stream

    def drop(self, error: OSError) -> None:
        """Let go of a stream that failed."""
        self.problem = _reason(error)
        self.close()

    def wait(self, timeout_s: float, to_write: bool) -> None:
        """Until something arrived, there is room to write (if asked for), or the time is over."""
        if self._stream is None:
            time.sleep(min(timeout_s, REOPEN_S))
            return
        try:
            self._stream.wait(timeout_s, to_write=to_write)
        except OSError as error:
            self.drop(error)

    def close(self) -> None:
        """Let go of it; closing twice is allowed."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class SerialDevice(ProtocolDevice):
    """The driver; use from one thread."""

    def __init__(self, url: str, deadline_s: float = DEFAULT_DEADLINE_S) -> None:
        """Open the port and ask who is there; see :func:`open_device`."""
        address = parse(url)
        self._rate = address.bytes_per_s
        self._compress = address.compress
        self._folder: PixelFolder | None = None
        if address.pixels.startswith(FOLDER):
            self._folder = PixelFolder(Path(address.pixels.removeprefix(FOLDER)), wire.MAX_OUTPUT)
        self._serial_link: SerialLink | None = None
        self._port = Port(url, lambda: open_stream(address))
        super().__init__(url, deadline_s, open_deadline_s=OPEN_DEADLINE_S + INFO_BYTES / self._rate)

    def close(self) -> None:
        """Let go of the port; closing twice is allowed."""
        super().close()
        self._port.close()
        if self._folder is not None:
            self._folder.close()

    def _open_link(self) -> SerialLink:
        if self._serial_link is not None:
            self._serial_link.close()  # two links on one line would take each other's bytes
        chunk = MAX_CHUNK if math.isinf(self._rate) else min(max(int(self._rate * CHUNK_S), MIN_CHUNK), MAX_CHUNK)
        end = SerialEnd(
            opens=True, max_payload=wire.MAX_OUTPUT, compress=self._compress, chunk=chunk, byte_s=1 / self._rate
        )
        self._serial_link = SerialLink(self._port, end, self._folder)
        return self._serial_link

    def _take_info(self, answer: wire.Info) -> None:
        super()._take_info(answer)
        if math.isfinite(self._rate):
            self._limit = min(self._limit, LINE_IN_FLIGHT)

    def _unreachable(self, waited_s: float, came: str = "") -> DeviceUnreachableError:
        return DeviceUnreachableError(f"{self.url}: no answer in {waited_s:.1f} s{came}; {self._hint()}")

    def _hint(self) -> str:
        if self._port.problem:
            return f"the port is not open: {self._port.problem}"
        end = self._serial_link.end if self._serial_link else None
        if end and not end.opened and end.counts["echoed"]:
            return "what is sent comes back: is the line's echo on, or are its wires joined?"
        if end and not end.opened and end.counts["broken"]:
            return "what arrives is no frame; is the baud rate right, and is it this protocol?"
        if end and end.opened:
            broken = end.counts["broken"]
            told = f", but {broken} frames came damaged (noise, XON/XOFF, a terminal server that changes bytes?)"
            return (
                f"the link is open{told if broken else ''}: the device is busy, or its line too slow for the pixels; "
                "give a longer ?deadline= or a faster line, or name a faster channel for the pixels (pixels=URL)"
            )
        return "is it on? start the emulated one with `workbench sim serve --serial pty`"


@dataclass(frozen=True)
class Address:
    """What a URL says.

    Attributes:
        port: for pyserial: a device file, a COM port, or a URL.
        baud: bits a second.
        compress: deflate pixels.
        pixels: URL of the second channel, or ``folder:PATH``, or empty.
        bytes_per_s: speed of the line; infinite on a network, unless the URL says that there is a UART behind.
    """

    port: str
    baud: int
    compress: bool
    pixels: str
    bytes_per_s: float


def parse(url: str) -> Address:
    """The parts of ``serial:PORT?OPTIONS``.

    Raises:
        DeviceError: it is malformed, has unknown options, or names another machine without ``plain=1``.
    """
    scheme, port, query = device_urls.parts(url)
    network = port.startswith(("socket://", "rfc2217://"))
    known = (*OPTIONS, *(RFC2217_OPTIONS if port.startswith("rfc2217://") else ()))
    host = ""
    try:
        if network:
            host, _ = device_urls.host_and_port(device_urls.split(port))
        elif scheme != "serial" or not port or ("://" in port) or (port.startswith("//") and port[2:3] != "/"):
            raise ValueError("it names no port of this machine and no socket://HOST:PORT")
        options = device_urls.options(url, query, known)
    except ValueError as error:
        raise DeviceError(
            f"device URL {device_urls.hidden(url)!r} is not serial:PORT?baud=N, such as "
            f"serial:///dev/ttyUSB0?baud=115200: {error}"
        ) from None
    if port.startswith("///"):
        port = port[2:]
    if network:
        if not is_loopback(host) and options.get("plain") != "1":
            raise DeviceError(
                f"{url}: {host} is another machine and the link has no encryption; add plain=1 if the network is yours"
            )
        if port.startswith("rfc2217://"):
            passed = urlencode({name: options[name] for name in RFC2217_OPTIONS if name in options})
            port += f"?{passed}" if passed else ""
    baud, compress = options.get("baud", str(DEFAULT_BAUD)), options.get("compress", "1")
    if not (baud.isascii() and baud.isdigit() and len(baud) <= 9 and 50 <= int(baud) <= 100_000_000):
        raise DeviceError(f"device URL {url!r}: baud={baud} is not a number of bits a second, such as 115200")
    if compress not in ("0", "1"):
        raise DeviceError(f"device URL {url!r}: compress={compress} is not 0 or 1")
    pixels = options.get("pixels", "")
    if "pixels" in options and (not pixels.partition(":")[2] or pixels.startswith("serial:")):
        raise DeviceError(
            f"device URL {url!r}: pixels={pixels} is not the URL of a faster channel, such as zmq://HOST:PORT"
        )
    if pixels and "settle" in options and not pixels.startswith(FOLDER):
        pixels += f"{'&' if '?' in pixels else '?'}settle={options['settle']}"
    network = port.startswith("socket://") and "baud" not in options  # else there is a UART behind
    return Address(port, int(baud), compress == "1", pixels, math.inf if network else int(baud) / 10)


def open_stream(address: Address) -> ByteStream:
    """The port, open.

    Raises:
        OSError: it is not there, or another program uses it.
    """
    if address.port.startswith("socket://"):
        where = device_urls.host_and_port(device_urls.split(address.port))
        return socket_stream(socket.create_connection(where, CONNECT_S))
    try:
        port = serial.serial_for_url(address.port, do_not_open=True)
        port.baudrate, port.timeout = address.baud, READ_S
        # pyserial gives a network port no write timeout; its socket has one of 5 s.
        if not address.port.startswith("rfc2217://"):
            port.write_timeout = WRITE_S + 20 * PIECE / address.baud
            port.exclusive = True if os.name == "posix" else None
        port.open()
    except ValueError as error:
        raise OSError(f"{address.port} with {address.baud} baud: {error}") from error
    if os.name == "posix" and isinstance(port, serial.Serial):
        return descriptor_stream(port.fileno(), lambda: _close(port))
    return PolledStream(port)


def _close(port: serial.Serial) -> None:
    """Close a terminal. What does not leave soon is thrown away: the system would wait half a minute for it."""
    with contextlib.suppress(OSError):
        end_at = time.monotonic() + FLUSH_S
        while port.out_waiting and time.monotonic() < end_at:
            time.sleep(READ_S)
        if port.out_waiting:
            port.reset_output_buffer()
    port.close()


def _reason(error: OSError) -> str:
    text = str(error)
    if "exclusively lock" in text or error.errno == errno.EBUSY:
        return "another program uses the port; close it there"
    if "PermissionError" in text:
        return "another program uses the port, or it may not be opened; close it there"
    if error.errno == errno.ENOENT or "FileNotFoundError" in text:
        return "there is no such port; `workbench device list` shows those of this machine"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission to open the port; on Linux, join its group (dialout) and log in again"
    return " ".join(text.split())
