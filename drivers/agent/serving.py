"""The device's loop, the same over every link: take requests in, make frames in turn, send answers when due."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from types import FrameType
from typing import Any, Protocol

from drivers.agent.device_side import DeviceSide
from drivers.agent.outbox import Answer, Outbox, Outcome, Send
from drivers.protocol import wire

QUEUE_FACTOR = 4
"""Requests kept for all clients together, in multiples of one client's ``max_in_flight``."""
QUEUE_BYTES = 512 << 20
POLL_S = 0.2
MAX_INTAKE = 256


class ServerLink(Protocol):
    """The device's end of a link.

    Attributes:
        url: for clients.
        streams: whether it is worth serving while a frame is made.
    """

    url: str
    streams: bool

    @property
    def clients(self) -> int:
        """Another number than before: those who waited for answers are all gone."""

    def receive(self, timeout_s: float) -> tuple[bytes, list[wire.Buffer]] | None:
        """The next message: whom it is from, and its parts (at most three); None after the time or before."""

    def send(self, peer: bytes, parts: list[wire.Buffer]) -> None:
        """Hand a message over for a peer; one that has gone or does not read loses it, and holds up nobody."""

    def flush(self) -> None:
        """Let go of what was handed over, as far as there is room."""

    def restart(self) -> None:
        """The device was switched off and on: what the link knew of its clients is forgotten."""

    def disappear(self, seconds: float, stop: threading.Event) -> None:
        """Break every connection and let nobody connect for so long, or until ``stop``."""

    def close(self) -> None:
        """Let go of everything."""


def serve_link(
    device: DeviceSide,
    open_link: Callable[[], ServerLink],
    ready: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
    answer: Answer | None = None,
) -> None:
    """Serve a device until Ctrl-C, SIGTERM or ``stop``; prints one line once it listens.

    Args:
        device: who answers.
        open_link: opens the link.
        ready: called with the URL once the device listens.
        stop: ends the loop when set.
        answer: stands before the device: gives what is sent, when, and what goes wrong. Left out: its answers, at once.

    Raises:
        DeviceError: the link cannot be opened, or what makes the frames has ended.
        KeyboardInterrupt: a second Ctrl-C came before the frame being made was ready.
    """
    stop = stop or threading.Event()
    previous = _stop_on_signals(stop)
    try:
        with closing(open_link()) as link:
            print(f"serving {device.space.name} at {link.url} boot {device.boot_id}", flush=True)
            if ready is not None:
                ready(link.url)
            _Server(device, link, answer, stop).run()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _plain(device: DeviceSide) -> Answer:
    def answer(request: wire.Message) -> Outcome:
        made = device.handle(request)
        return Outcome([Send(wire.encode(made))], is_frame=isinstance(made, wire.Frame))

    return answer


def _stop_on_signals(stop: threading.Event) -> dict[signal.Signals, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}

    def halt(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        stop.set()

    return {n: signal.signal(n, halt) for n in (signal.SIGINT, signal.SIGTERM)}


class _Server:
    """One link, the frames that wait and the answers that are late."""

    def __init__(self, device: DeviceSide, link: ServerLink, answer: Answer | None, stop: threading.Event) -> None:
        self._device = device
        self._link = link
        self._answer = answer or _plain(device)
        self._streams = answer is None and link.streams
        self._stop = stop
        self._queue = FrameQueue(QUEUE_FACTOR * device.max_in_flight)
        self._outbox = Outbox()
        self._clients = link.clients

    def run(self) -> None:
        """Serve until told to stop."""
        while not self._stop.is_set():
            self._take_in(POLL_S)
            if self._queue and self._streams:
                self._stream()
            elif self._queue:
                self._do(*self._queue.pop())
            self._let_go()

    def _take_in(self, poll_s: float) -> None:
        """Take in all that has arrived before the next frame, so that short requests do not wait for queued frames.

        The number is bounded: a peer that floods the device slows the others down and does not shut them out.
        """
        for _ in range(MAX_INTAKE):
            if self._stop.is_set() or not self._take_next(poll_s):
                break

    def _stream(self) -> None:
        """Make the frames that wait, and those that come meanwhile; the device may have several in work."""
        taken: deque[tuple[bytes, wire.FrameRequest]] = deque()

        def requests() -> Iterator[wire.FrameRequest]:
            while self._queue and not self._stop.is_set():
                taken.append(self._queue.pop())
                yield taken[-1][1]
                self._take_in(0.0)

        for made in self._device.frames(requests()):
            if made is None:
                self._take_in(0.0)
            else:
                peer, request = taken.popleft()
                self._queue.done(peer, request)
                is_frame = isinstance(made, wire.Frame)
                self._outbox.put(peer, Outcome([Send(wire.encode(made))], is_frame), time.monotonic())
            self._let_go()

    def _take_next(self, poll_s: float) -> bool:
        wait_s = 0.0 if self._queue else min(poll_s, self._outbox.wait_s(time.monotonic()))
        message = self._link.receive(wait_s)
        if self._link.clients != self._clients:
            self._clients = self._link.clients
            self._forget()
        if message is not None:
            self._take(*message)
        return message is not None

    def _take(self, peer: bytes, parts: list[wire.Buffer]) -> None:
        try:
            message = wire.decode(parts, self._device.max_payload)
        except wire.MessageError as error:
            self._link.send(peer, wire.encode(wire.Error(error.request_id, error.code, str(error))))
            return
        if not isinstance(message, wire.Process | wire.CaptureRequest):
            self._do(peer, message)
        elif not self._queue.push(peer, message):
            text = f"{len(self._queue)} frames are waiting; send it again later"
            self._link.send(peer, wire.encode(wire.Error(message.id, "busy", text)))

    def _do(self, peer: bytes, request: wire.Message) -> None:
        outcome = self._answer(request)
        if isinstance(request, wire.Process | wire.CaptureRequest):
            self._queue.done(peer, request)
        self._outbox.put(peer, outcome, time.monotonic())
        self._send_due()
        if outcome.forget:
            self._forget()
            self._link.restart()
        if outcome.hang_s:
            self._stop.wait(outcome.hang_s)
        if outcome.gone_s:
            # Those who come back are new to the link: nothing that waits could reach them.
            self._forget()
            self._link.disappear(outcome.gone_s, self._stop)

    def _forget(self) -> None:
        self._queue.clear()
        self._outbox.clear()

    def _let_go(self) -> None:
        self._send_due()
        self._link.flush()

    def _send_due(self) -> None:
        for peer, parts in self._outbox.due(time.monotonic()):
            self._link.send(peer, parts)


class FrameQueue:
    """Frames waiting for the ISP, first come first served, bounded in number and bytes, no request twice."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._waiting: deque[tuple[bytes, wire.FrameRequest]] = deque()
        self._keys: set[tuple[bytes, int]] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, peer: bytes, request: wire.FrameRequest) -> bool:
        """False when there is no room; True for a request that waits or is in work already."""
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

    def pop(self) -> tuple[bytes, wire.FrameRequest]:
        """The peer and the request that have waited longest; in work until :meth:`done`."""
        peer, request = self._waiting.popleft()
        self._bytes -= _bytes_of(request)
        return peer, request

    def done(self, peer: bytes, request: wire.FrameRequest) -> None:
        """It was answered: the same request is a new one from now on."""
        self._keys.discard((peer, request.id))


def _bytes_of(request: wire.FrameRequest) -> int:
    return len(request.payload) if isinstance(request, wire.Process) else 0
