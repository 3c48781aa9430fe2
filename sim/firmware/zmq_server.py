"""Serves the emulated device over ZeroMQ: one ROUTER socket, one ISP, one thread."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zmq
from zmq.auth.thread import ThreadAuthenticator

from drivers.errors import DeviceError
from drivers.protocol import wire
from drivers.protocol.zmq_keys import DeviceKeys, device_keys, is_loopback
from sim.firmware.faults import Faults, Outbox
from sim.firmware.faults import load as load_faults
from sim.firmware.registers import Firmware, emulated

QUEUE_FACTOR = 4
"""Requests kept for all clients together, in multiples of one client's ``max_in_flight``."""
QUEUE_BYTES = 512 << 20
POLL_MS = 200
MAX_INTAKE = 256
MAX_REFUSED = 1000

FrameRequest = wire.Process | wire.CaptureRequest


def serve(
    profile: str,
    endpoint: str = "127.0.0.1:5555",
    ready: Callable[[str], None] | None = None,
    *,
    bind_any: bool = False,
    keys: Path | None = None,
    faults: Path | None = None,
    **device: Any,
) -> None:
    """Run the emulated device of a profile until Ctrl-C or SIGTERM. See :func:`serve_firmware`.

    Args:
        profile: of the emulated ISP.
        endpoint, ready, bind_any: as :func:`serve_firmware` takes them.
        keys: key folder; the link is encrypted then, and takes only the clients whose public keys lie there.
        faults: TOML file of what goes wrong.
        device: options of the device, see :func:`~sim.firmware.registers.emulated`.

    Raises:
        DeviceError: the endpoint is malformed, not loopback, or taken.
        FaultsError: the file is wrong.
    """
    plan = None if faults is None else load_faults(faults)
    pair = None if keys is None else device_keys(keys)
    serve_firmware(emulated(profile, **device), endpoint, ready, bind_any=bind_any, faults=plan, keys=pair)


def serve_firmware(
    firmware: Firmware,
    endpoint: str = "127.0.0.1:5555",
    ready: Callable[[str], None] | None = None,
    *,
    bind_any: bool = False,
    stop: threading.Event | None = None,
    faults: Faults | None = None,
    keys: DeviceKeys | None = None,
) -> None:
    """Serve a firmware until Ctrl-C, SIGTERM or ``stop``; prints one line once it listens, and the faults at the end.

    Args:
        firmware: the device.
        endpoint: ``HOST:PORT``, with or without ``zmq://``; port 0 takes any free one.
        ready: called with the URL once the device listens.
        bind_any: allow an address that is not loopback without keys: no encryption and no authentication.
        stop: ends the loop when set.
        faults: what goes wrong.
        keys: encrypt the link, and take only these clients; who is refused is named on stdout.

    Raises:
        DeviceError: the endpoint is malformed, not loopback, or taken.
    """
    host, port = parse_endpoint(endpoint, bind_any=bind_any or keys is not None)
    stop = stop or threading.Event()
    faults = faults or Faults()
    previous = _stop_on_signals(stop)
    context = zmq.Context()
    guard: ThreadAuthenticator | None = None
    try:
        shown = f"[{host}]" if ":" in host else host
        if keys is not None:
            guard = ThreadAuthenticator(context)
            guard.start()
            guard.configure_curve_callback("*", _Guests(keys))
        server = _Server(firmware, context, f"tcp://{shown}:{port or '*'}", faults, stop, keys)
        url = server.url
        print(f"serving {firmware.space.name} at {url} boot {firmware.boot_id}", flush=True)
        if ready is not None:
            ready(url)
        server.run()
        if faults.plan:
            print(faults.summary, flush=True)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if guard is not None:
            guard.stop()
        context.destroy(linger=500)


class _Guests:
    """Says which clients may come in, and names on stdout who may not, once each."""

    def __init__(self, keys: DeviceKeys) -> None:
        self._keys = keys
        self._refused: set[bytes] = set()

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the client with this public key (Z85) is taken; ZeroMQ's authenticator asks."""
        if key in self._keys.clients:
            return True
        if key not in self._refused and len(self._refused) < MAX_REFUSED:
            self._refused.add(key)
            print(
                f"refused a client: its public key {key.decode('ascii', 'replace')} is not in the key folder",
                flush=True,
            )
        return False


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
    if not bind_any and not is_loopback(host):
        raise DeviceError(
            f"endpoint {endpoint!r} is not loopback and the link has no encryption; give it --keys, add "
            "--bind-any if the network is yours, or listen on 127.0.0.1"
        )
    return "127.0.0.1" if host == "localhost" else host, port


def _stop_on_signals(stop: threading.Event) -> dict[signal.Signals, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [signal.SIGINT, signal.SIGTERM]
    return {n: signal.signal(n, lambda *_: stop.set()) for n in numbers}


class _Server:
    """One ROUTER socket, the frames that wait and the answers that are late."""

    def __init__(
        self,
        firmware: Firmware,
        context: zmq.Context,
        endpoint: str,
        faults: Faults,
        stop: threading.Event,
        keys: DeviceKeys | None,
    ) -> None:
        self._firmware = firmware
        self._context = context
        self._keys = keys
        self._faults = faults
        self._stop = stop
        self._queue = FrameQueue(QUEUE_FACTOR * firmware.max_in_flight)
        self._outbox = Outbox()
        self._socket = self._bind(endpoint)
        self._endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.url = endpoint.rpartition(":")[0].replace("tcp:", "zmq:") + f":{self._endpoint.rpartition(':')[2]}"

    def run(self) -> None:
        """Serve until told to stop."""
        while not self._stop.is_set():
            # Take in all that has arrived before the next frame, so that short requests do not wait for queued frames.
            # The number is bounded: a peer that floods the device slows the others down and does not shut them out.
            for _ in range(MAX_INTAKE):
                if self._stop.is_set() or not self._socket.poll(self._wait_ms()):
                    break
                peer, parts = _receive(self._socket)
                self._take(peer, parts)
            if self._queue:
                self._do(*self._queue.pop())
            self._send_due()

    def _wait_ms(self) -> int:
        if self._queue:
            return 0
        return math.ceil(min(POLL_MS, 1000 * self._outbox.wait_s(time.monotonic())))

    def _take(self, peer: bytes, parts: list[wire.Buffer]) -> None:
        try:
            message = wire.decode(parts, self._firmware.max_payload)
        except wire.MessageError as error:
            self._send(peer, wire.encode(wire.Error(error.request_id, error.code, str(error))))
            return
        if not isinstance(message, wire.Process | wire.CaptureRequest):
            self._do(peer, message)
        elif not self._queue.push(peer, message):
            text = f"{len(self._queue)} frames are waiting; send it again later"
            self._send(peer, wire.encode(wire.Error(message.id, "busy", text)))

    def _do(self, peer: bytes, request: wire.Message) -> None:
        outcome = self._faults.answer(self._firmware, request)
        self._outbox.put(peer, outcome, time.monotonic())
        self._send_due()
        if outcome.forget:
            self._queue.clear()
            self._outbox.clear()
        if outcome.hang_s:
            self._stop.wait(outcome.hang_s)
        if outcome.gone_s:
            self._disappear(outcome.gone_s)

    def _disappear(self, seconds: float) -> None:
        self._socket.close(linger=0)
        # Those who come back have new identities: nothing that waits could reach them.
        self._queue.clear()
        self._outbox.clear()
        self._stop.wait(seconds)
        while True:
            try:
                self._socket = self._bind(self._endpoint)
                return
            except DeviceError:
                # ZeroMQ lets go of the port a little after the socket was closed.
                if self._stop.wait(0.01):
                    return

    def _bind(self, endpoint: str) -> zmq.Socket:
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 500)
        socket.setsockopt(zmq.IPV6, 1 if "[" in endpoint else 0)
        # A larger message closes its connection before memory is set aside for it.
        socket.setsockopt(zmq.MAXMSGSIZE, max(self._firmware.max_payload, wire.MAX_HEADER))
        if self._keys is not None:
            socket.curve_server = True
            socket.curve_publickey, socket.curve_secretkey = self._keys.public, self._keys.secret
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            socket.close(linger=0)
            where = endpoint.removeprefix("tcp://")
            raise DeviceError(f"cannot listen on {where}: {error.strerror}; choose another port") from error
        return socket

    def _send_due(self) -> None:
        for peer, parts in self._outbox.due(time.monotonic()):
            self._send(peer, parts)

    def _send(self, peer: bytes, parts: list[wire.Buffer]) -> None:
        # A peer that has gone or does not read loses its answers: it never holds up the others.
        try:
            self._socket.send_multipart([peer, *parts], flags=zmq.NOBLOCK, copy=False)
        except zmq.ZMQError:
            return


def _receive(socket: zmq.Socket) -> tuple[bytes, list[wire.Buffer]]:
    """The peer and at most three parts; the parts are views of ZeroMQ's own memory."""
    peer = socket.recv()
    parts: list[wire.Buffer] = []
    while socket.getsockopt(zmq.RCVMORE):
        part = socket.recv(copy=False)
        if len(parts) < 3:
            parts.append(part.buffer)
    return peer, parts


class FrameQueue:
    """Frames waiting for the ISP, first come first served, bounded in number and bytes, no request twice."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._waiting: deque[tuple[bytes, FrameRequest]] = deque()
        self._keys: set[tuple[bytes, int]] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, peer: bytes, request: FrameRequest) -> bool:
        """False when there is no room; True for a request that waits already."""
        if (peer, request.id) in self._keys:
            return True
        size = _bytes_of(request)
        if len(self._waiting) >= self._limit or (self._waiting and self._bytes + size > QUEUE_BYTES):
            return False
        self._waiting.append((peer, request))
        self._keys.add((peer, request.id))
        self._bytes += size
        return True

    def clear(self) -> None:
        """Forget every request."""
        self._waiting.clear()
        self._keys.clear()
        self._bytes = 0

    def pop(self) -> tuple[bytes, FrameRequest]:
        """The peer and the request that have waited longest."""
        peer, request = self._waiting.popleft()
        self._keys.discard((peer, request.id))
        self._bytes -= _bytes_of(request)
        return peer, request


def _bytes_of(request: FrameRequest) -> int:
    return len(request.payload) if isinstance(request, wire.Process) else 0
