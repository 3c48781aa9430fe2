"""The device's end of a ZeroMQ link: one ROUTER socket."""

from __future__ import annotations

import math
import threading

import zmq
from zmq.auth.thread import ThreadAuthenticator

from drivers.errors import DeviceError
from drivers.protocol import wire
from drivers.protocol.zmq_keys import DeviceKeys

MAX_REFUSED = 1000


class RouterLink:
    """One ROUTER socket, encrypted where there are keys; see :class:`~drivers.agent.serving.ServerLink`."""

    clients = 0
    streams = True

    def __init__(self, host: str, port: int, max_payload: int, keys: DeviceKeys | None) -> None:
        """Listen.

        Raises:
            DeviceError: the port is taken.
        """
        self._max_payload = max_payload
        self._keys = keys
        self._context = zmq.Context()
        self._guard: ThreadAuthenticator | None = None
        shown = f"[{host}]" if ":" in host else host
        try:
            if keys is not None:
                self._guard = ThreadAuthenticator(self._context)
                self._guard.start()
                self._guard.configure_curve_callback("*", _Guests(keys))
            self._socket = self._bind(f"tcp://{shown}:{port or '*'}")
        except BaseException:
            self.close()
            raise
        self._endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.url = f"zmq://{shown}:{self._endpoint.rpartition(':')[2]}"

    def receive(self, timeout_s: float) -> tuple[bytes, list[wire.Buffer]] | None:
        """The peer and at most three parts; the parts are views of ZeroMQ's own memory."""
        if not self._socket.poll(math.ceil(1000 * timeout_s)):
            return None
        peer = self._socket.recv()
        parts: list[wire.Buffer] = []
        while self._socket.getsockopt(zmq.RCVMORE):
            part = self._socket.recv(copy=False)
            if len(parts) < 3:
                parts.append(part.buffer)
        return peer, parts

    def send(self, peer: bytes, parts: list[wire.Buffer]) -> None:
        """A peer that has gone or does not read loses its answers: it never holds up the others."""
        try:
            self._socket.send_multipart([peer, *parts], flags=zmq.NOBLOCK, copy=False)
        except zmq.ZMQError:
            return

    def flush(self) -> None:
        """ZeroMQ sends from a thread of its own."""

    def restart(self) -> None:
        """ZeroMQ's connections outlive a reboot of the firmware."""

    def disappear(self, seconds: float, stop: threading.Event) -> None:
        """Close the socket, and listen on the same port again."""
        self._socket.close(linger=0)
        stop.wait(seconds)
        while True:
            try:
                self._socket = self._bind(self._endpoint)
                return
            except DeviceError:
                # ZeroMQ lets go of the port a little after the socket was closed.
                if stop.wait(0.01):
                    return

    def close(self) -> None:
        """Stop listening; what was sent has half a second to leave."""
        if self._guard is not None:
            self._guard.stop()
        self._context.destroy(linger=500)

    def _bind(self, endpoint: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 500)
        socket.setsockopt(zmq.IPV6, 1 if "[" in endpoint else 0)
        # A larger message closes its connection before memory is set aside for it.
        socket.setsockopt(zmq.MAXMSGSIZE, max(self._max_payload, wire.MAX_HEADER))
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
