"""Serves the emulated device over ZeroMQ: one ROUTER socket, one ISP, one thread."""

from __future__ import annotations

import ipaddress
import signal
import threading
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import zmq

from drivers import wire
from drivers.errors import DeviceError
from sim.firmware import Firmware

QUEUE_FACTOR = 4
"""Requests kept for all clients together, in multiples of one client's ``max_in_flight``."""
QUEUE_BYTES = 512 << 20
POLL_MS = 200
MAX_INTAKE = 256


def serve(
    profile: str,
    endpoint: str = "127.0.0.1:5555",
    ready: Callable[[str], None] | None = None,
    *,
    bind_any: bool = False,
) -> None:
    """Run the emulated device of a profile until Ctrl-C or SIGTERM. See :func:`serve_firmware`."""
    from sim.isp.pipeline import VERSION, Pipeline

    # The same identity as `sim:PROFILE` has: what one of them made, the other need not make again.
    firmware = Firmware(Pipeline(profile), model=f"emulated-isp {profile}", version=VERSION)
    serve_firmware(firmware, endpoint, ready, bind_any=bind_any)


def serve_firmware(
    firmware: Firmware,
    endpoint: str = "127.0.0.1:5555",
    ready: Callable[[str], None] | None = None,
    *,
    bind_any: bool = False,
    stop: threading.Event | None = None,
) -> None:
    """Serve a firmware until Ctrl-C, SIGTERM or ``stop``; prints one line once it listens.

    Args:
        firmware: the device.
        endpoint: ``HOST:PORT``, with or without ``zmq://``; port 0 takes any free one.
        ready: called with the URL once the device listens.
        bind_any: allow an address that is not loopback; there is no encryption and no authentication.
        stop: ends the loop when set.

    Raises:
        DeviceError: the endpoint is malformed, not loopback, or taken.
    """
    host, port = parse_endpoint(endpoint, bind_any=bind_any)
    stop = stop or threading.Event()
    previous = _stop_on_signals(stop)
    context = zmq.Context()
    try:
        socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 500)
        socket.setsockopt(zmq.IPV6, 1 if ":" in host else 0)
        # A larger message closes its connection before memory is set aside for it.
        socket.setsockopt(zmq.MAXMSGSIZE, max(firmware.max_payload, wire.MAX_HEADER))
        shown = f"[{host}]" if ":" in host else host
        try:
            socket.bind(f"tcp://{shown}:{port or '*'}")
        except zmq.ZMQError as error:
            raise DeviceError(f"cannot listen on {shown}:{port}: {error.strerror}; choose another port") from error
        bound = socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2]
        url = f"zmq://{shown}:{bound}"
        print(f"serving {firmware.space.name} at {url} boot {firmware.boot_id}", flush=True)
        if ready is not None:
            ready(url)
        _loop(firmware, socket, stop)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        context.destroy(linger=500)


def parse_endpoint(endpoint: str, *, bind_any: bool = False) -> tuple[str, int]:
    """Host and port of ``[zmq://]HOST:PORT``.

    Raises:
        DeviceError: malformed, or not loopback without ``bind_any``.
    """
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"zmq://{endpoint}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None or parts.scheme not in ("zmq", "tcp") or parts.path.strip("/"):
        raise DeviceError(f"endpoint {endpoint!r} is not HOST:PORT, such as 127.0.0.1:5555")
    if not bind_any and not _loopback(host):
        raise DeviceError(
            f"endpoint {endpoint!r} is not loopback and the link has no encryption; add --bind-any if the network is "
            "yours, or listen on 127.0.0.1"
        )
    return "127.0.0.1" if host == "localhost" else host, port


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _stop_on_signals(stop: threading.Event) -> dict[signal.Signals, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [signal.SIGINT, signal.SIGTERM]
    return {n: signal.signal(n, lambda *_: stop.set()) for n in numbers}


def _loop(firmware: Firmware, socket: zmq.Socket, stop: threading.Event) -> None:
    queue = FrameQueue(QUEUE_FACTOR * firmware.max_in_flight)
    while not stop.is_set():
        # Take in all that has arrived before the next frame, so that short requests do not wait for queued frames.
        # The number is bounded: a peer that floods the device slows the others down and does not shut them out.
        for _ in range(MAX_INTAKE):
            if stop.is_set() or not socket.poll(0 if queue else POLL_MS):
                break
            peer, parts = _receive(socket)
            _take(firmware, socket, queue, peer, parts)
        if queue:
            peer, request = queue.pop()
            _answer(socket, peer, firmware.handle(request))


def _take(firmware: Firmware, socket: zmq.Socket, queue: FrameQueue, peer: bytes, parts: list[wire.Buffer]) -> None:
    try:
        message = wire.decode(parts, firmware.max_payload)
    except wire.MessageError as error:
        _answer(socket, peer, wire.Error(error.request_id, error.code, str(error)))
        return
    if not isinstance(message, wire.Process):
        _answer(socket, peer, firmware.handle(message))
    elif not queue.push(peer, message):
        _answer(socket, peer, wire.Error(message.id, "busy", f"{len(queue)} frames are waiting; send it again later"))


def _receive(socket: zmq.Socket) -> tuple[bytes, list[wire.Buffer]]:
    """The peer and at most three parts; the parts are views of ZeroMQ's own memory."""
    peer = socket.recv()
    parts: list[wire.Buffer] = []
    while socket.getsockopt(zmq.RCVMORE):
        part = socket.recv(copy=False)
        if len(parts) < 3:
            parts.append(part.buffer)
    return peer, parts


def _answer(socket: zmq.Socket, peer: bytes, message: wire.Message) -> None:
    # A peer that has gone or does not read loses its answers: it never holds up the others.
    try:
        socket.send_multipart([peer, *wire.encode(message)], flags=zmq.NOBLOCK, copy=False)
    except zmq.ZMQError:
        return


class FrameQueue:
    """Frames waiting for the ISP, first come first served, bounded in number and bytes, no request twice."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._waiting: deque[tuple[bytes, wire.Process]] = deque()
        self._keys: set[tuple[bytes, int]] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, peer: bytes, request: wire.Process) -> bool:
        """False when there is no room; True for a request that waits already."""
        if (peer, request.id) in self._keys:
            return True
        size = len(request.payload)
        if len(self._waiting) >= self._limit or (self._waiting and self._bytes + size > QUEUE_BYTES):
            return False
        self._waiting.append((peer, request))
        self._keys.add((peer, request.id))
        self._bytes += size
        return True

    def pop(self) -> tuple[bytes, wire.Process]:
        """The peer and the request that have waited longest."""
        peer, request = self._waiting.popleft()
        self._keys.discard((peer, request.id))
        self._bytes -= len(request.payload)
        return peer, request
