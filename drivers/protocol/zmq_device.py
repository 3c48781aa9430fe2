"""A device on the network: ``zmq://host:port``, one DEALER socket.

Options of the URL: ``keys=FOLDER`` encrypts the link (:mod:`drivers.protocol.zmq_keys`) as the client ``client=NAME``;
``plain=1`` says that the network is safe without. Another machine is reached with one of them only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.utils.monitor import recv_monitor_message

from drivers import device_urls
from drivers.device import DEFAULT_DEADLINE_S
from drivers.errors import DeviceError, ProtocolError
from drivers.protocol import wire
from drivers.protocol.flow_watch import FlowWatch
from drivers.protocol.protocol_device import ProtocolDevice
from drivers.protocol.zmq_keys import BENCH, ClientKeys, client_keys, is_loopback

WATCH_S = 0.05
"""How often a message that is waited for is looked at: does it end?"""
MESSAGES_AHEAD = 2
"""Whole messages that ZeroMQ keeps before it reads no more; each may have 256 MiB."""
MAX_OVERLONG = 3
"""Messages without an end, and no frame between them, before the device is given up."""
OPTIONS = ("keys", "client", "plain", "settle", "deadline")


def open_device(url: str, deadline_s: float = DEFAULT_DEADLINE_S) -> ZmqDevice:
    """The device at ``zmq://host:port``.

    Args:
        url: where the device listens.
        deadline_s: seconds that a frame may take, counted from when the device could start it.

    Raises:
        DeviceError: the URL is malformed.
        DeviceUnreachableError: nobody answers there within the deadline or 5 s, whichever is shorter.
        ProtocolError: what answers does not speak the protocol.
    """
    return ZmqDevice(url, deadline_s)


class ZmqDevice(ProtocolDevice):
    """The driver; use from one thread."""

    def __init__(self, url: str, deadline_s: float = DEFAULT_DEADLINE_S) -> None:
        """Connect; see :func:`open_device`."""
        address = _address(url)
        self._endpoint, self._keys = address.endpoint, _keys(url, address)
        where = self._endpoint.removeprefix("tcp://")
        keys = "" if self._keys is None else f" --keys {address.options['keys']}"
        self.start_hint = f"is it on? start the emulated one with `workbench sim serve --zmq {where}{keys}`"
        if self._keys is not None:
            self.start_hint = f"is it on, and does it know this key? {self.start_hint.removeprefix('is it on? ')}"
        self._overlong = 0
        self._context = zmq.Context()
        super().__init__(url, deadline_s)

    def _open_link(self) -> _ZmqLink:
        try:
            return _ZmqLink(self._context, self._endpoint, self.deadline_s, self._keys, self._watched)
        except zmq.ZMQError as error:
            raise DeviceError(
                f"{self.url}: ZeroMQ does not connect to {self._endpoint}: {error.strerror}; check the device's URL"
            ) from error

    def _take(self, answer: wire.Message) -> bool:
        ended = super()._take(answer)
        if ended:
            self._overlong = 0
        return ended

    def _watched(self, watch: FlowWatch, whole: bool) -> bool:
        """Whether the link may go on; told of each whole message, and asked while one is waited for.

        Raises:
            ProtocolError: again and again a message did not end.
        """
        if whole:
            watch.message()
            return True
        if not watch.overlong(wire.MAX_HEADER + (wire.MAX_OUTPUT if self._known else 0)):
            return True
        self._overlong += 1
        self.counts["overlong"] += 1
        if self._known is None or self._overlong >= MAX_OVERLONG:
            raise ProtocolError(
                f"{self.url}: sends a message that does not end; what listens there does not speak the protocol, or is "
                "out of order"
            )
        return False

    def close(self) -> None:
        """Let go of the connection; closing twice is allowed."""
        super().close()
        self._context.destroy(linger=0)


class _ZmqLink:
    """One DEALER socket with its monitor; ``lost`` once the connection broke."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        deadline_s: float,
        keys: ClientKeys | None,
        watched: Callable[[FlowWatch, bool], bool],
    ) -> None:
        self.lost = False
        self._watch = FlowWatch()
        self._watched = watched
        self._looked = time.monotonic()
        self._socket = context.socket(zmq.DEALER)
        if keys is not None:
            self._socket.curve_publickey, self._socket.curve_secretkey = keys.public, keys.secret
            self._socket.curve_serverkey = keys.device
        heartbeat_ms = max(int(deadline_s * 1000 / 3), 1000)
        self._heartbeat_s = heartbeat_ms / 1000
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IPV6, 1 if "[" in endpoint else 0),
            (zmq.MAXMSGSIZE, wire.MAX_OUTPUT),
            (zmq.RCVHWM, MESSAGES_AHEAD),
            (zmq.SNDTIMEO, 1000),
            (zmq.RECONNECT_IVL, 50),
            (zmq.RECONNECT_IVL_MAX, 500),
            # ZeroMQ answers heartbeats while the device works on a frame, so silence here means a dead connection.
            (zmq.HEARTBEAT_IVL, heartbeat_ms),
            (zmq.HEARTBEAT_TIMEOUT, heartbeat_ms),
            (zmq.HANDSHAKE_IVL, heartbeat_ms),
        ):
            self._socket.setsockopt(option, value)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._socket.connect(endpoint)

    def send(self, parts: list[wire.Buffer]) -> None:
        """Hand the parts to ZeroMQ; when it has no room the request stays outstanding and is sent again later."""
        try:
            self._socket.send_multipart(parts, copy=False)
        except zmq.Again:
            return

    def receive(self, timeout_s: float) -> list[wire.Buffer] | None:
        """The next message's parts (at most three), or None; answers that came before a disconnection come first.

        After a heartbeat in which nobody looked they are dropped with the connection: while answers lie unread ZeroMQ
        hears no heartbeat and connects anew, and libzmq 4.3 aborts the process when they are read then.

        Raises:
            ProtocolError: again and again a message did not end.
        """
        end_at = time.monotonic() + timeout_s
        waits, was_away = False, time.monotonic() - self._looked > self._heartbeat_s
        while not self.lost:
            self._looked = time.monotonic()
            left = max(end_at - self._looked, 0.0)
            ready = dict(self._poller.poll(int(min(left, WATCH_S) * 1000) if waits else 0))
            if self._socket in ready and not (was_away and self._monitor in ready):
                return self._parts()
            if self._monitor in ready:
                event = recv_monitor_message(self._monitor)
                if event["event"] == zmq.EVENT_CONNECTED:
                    self._watch.connected(int(event["value"]))
                else:
                    self.lost = True
            elif not waits:
                waits = True
                self._watch.waits()
            elif not self._watched(self._watch, False):
                self.lost = True
            elif left <= WATCH_S:
                return None
        return None

    def _parts(self) -> list[wire.Buffer]:
        parts: list[wire.Buffer] = []
        while True:
            frame = self._socket.recv(copy=False)
            if len(parts) < 3:
                parts.append(frame.buffer)
            if not frame.more:
                self._watched(self._watch, True)
                return parts

    def close(self) -> None:
        """Drop the connection and everything queued for it."""
        self._watch.close()
        if self._socket.closed:
            return
        self._poller.unregister(self._monitor)
        self._socket.disable_monitor()
        self._socket.close(linger=0)


@dataclass(frozen=True)
class _Address:
    """What a URL says: the endpoint for ZeroMQ, and the options after the question mark."""

    host: str
    endpoint: str
    options: dict[str, str]


def _address(url: str) -> _Address:
    try:
        parts = device_urls.split(url)
        if parts.scheme != "zmq":
            raise ValueError("it begins otherwise")
        host, port = device_urls.host_and_port(parts)
        options = device_urls.options(url, parts.query, OPTIONS)
    except ValueError as error:
        raise DeviceError(
            f"device URL {device_urls.hidden(url)!r} is not zmq://HOST:PORT, such as zmq://127.0.0.1:5555: {error}"
        ) from None
    return _Address(host, f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}", options)


def _keys(url: str, address: _Address) -> ClientKeys | None:
    """The keys of an encrypted link; None on loopback, or where the URL says that the network is safe.

    Raises:
        DeviceError: another machine, and the URL says neither.
    """
    if folder := address.options.get("keys"):
        return client_keys(Path(folder), address.options.get("client", BENCH))
    if not is_loopback(address.host) and address.options.get("plain") != "1":
        raise DeviceError(
            f"{url}: {address.host} is another machine and the link would not be encrypted; make keys with "
            f"`workbench keys new keys` and add ?keys=keys, or name the host under [network] plain in LAB/lab.toml"
        )
    return None
