"""Messages whose parts never end, from a peer that writes ZeroMQ's bytes itself."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sim20_jobs import PIPELINE, assert_right, make_jobs

from drivers.device import Capture, Failure
from drivers.errors import ProtocolError
from drivers.protocol import flow_watch, wire, zmq_device
from drivers.protocol.flow_watch import FlowWatch, memory_bytes
from drivers.protocol.zmq_device import open_device
from sim.firmware.registers import Firmware

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel counts bytes on Linux")

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER"


def framed(data: bytes, flags: int) -> bytes:
    if len(data) < 256:
        return bytes([flags, len(data)]) + data
    return bytes([flags | 2]) + len(data).to_bytes(8, "big") + data


class RawPeer:
    """The emulated ISP behind ZMTP written by hand; ``spoil`` may give bytes to repeat for ever instead."""

    def __init__(self, spoil: Callable[[wire.Message], bytes | None]) -> None:
        self.firmware = Firmware(PIPELINE)
        self.spoil = spoil
        self.sent = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"zmq://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), link, link.makefile("rb") as stream:
            link.sendall(GREETING)
            self._read(stream, 64)
            self._part(stream)
            link.sendall(framed(READY, 4))
            parts: list[bytes] = []
            while True:
                flags, data = self._part(stream)
                if flags & 4:
                    continue
                parts.append(data)
                if not flags & 1:
                    self._answer(link, wire.decode(parts))
                    parts = []

    def _answer(self, link: socket.socket, message: wire.Message) -> None:
        if block := self.spoil(message):
            while True:
                link.sendall(block)
                self.sent += len(block)
        answer = [bytes(part) for part in wire.encode(self.firmware.handle(message))]
        for i, part in enumerate(answer):
            link.sendall(framed(part, int(i < len(answer) - 1)))

    def _part(self, stream: Any) -> tuple[int, bytes]:
        flags = self._read(stream, 1)[0]
        return flags, self._read(stream, int.from_bytes(self._read(stream, 8 if flags & 2 else 1), "big"))

    def _read(self, stream: Any, count: int) -> bytes:
        data = stream.read(count)
        if len(data) < count:
            raise EOFError
        return bytes(data)


@pytest.fixture
def raw_peer() -> Iterator[Callable[[Callable[[wire.Message], bytes | None]], RawPeer]]:
    peers: list[RawPeer] = []

    def start(spoil: Callable[[wire.Message], bytes | None]) -> RawPeer:
        peers.append(RawPeer(spoil))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


@pytest.mark.parametrize("size", [0, 1, 33, 1000, 1 << 20])
def test_an_answer_without_an_end_takes_no_more_than_an_answer_may(
    raw_peer: Callable[[Callable[[wire.Message], bytes | None]], RawPeer], size: Any
) -> None:
    block = framed(bytes(size), 1) * max(1, 65536 // (size + 9))
    peer = raw_peer(lambda _: block)
    before = memory_bytes()
    with pytest.raises(ProtocolError, match="sends a message that does not end"):
        open_device(peer.url, 60)
    assert memory_bytes() - before < 512 << 20
    assert peer.sent < 512 << 20


def test_a_frame_without_an_end_is_asked_for_again_and_then_given_up(
    raw_peer: Callable[[Callable[[wire.Message], bytes | None]], RawPeer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_OUTPUT", 4 << 20)
    block = framed(bytes(65536), 1)
    peer = raw_peer(lambda m: block if isinstance(m, wire.Process) and peer.firmware.frame >= 3 else None)
    got: list[Capture | Failure] = []
    with open_device(peer.url, 60) as device:
        with pytest.raises(ProtocolError, match="sends a message that does not end"):
            got.extend(device.process_many(make_jobs(8)))
        assert device.counts["overlong"] == zmq_device.MAX_OVERLONG
    assert_right(make_jobs(8)[: len(got)], got)
    assert len(got) <= 3


def test_one_message_without_an_end_costs_no_frame(
    raw_peer: Callable[[Callable[[wire.Message], bytes | None]], RawPeer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_OUTPUT", 4 << 20)
    block = framed(bytes(65536), 1)
    spoilt: list[wire.Message] = []

    def once(message: wire.Message) -> bytes | None:
        if isinstance(message, wire.Process) and peer.firmware.frame == 2 and not spoilt:
            spoilt.append(message)
            return block
        return None

    peer = raw_peer(once)
    with open_device(peer.url, 60) as device:
        jobs = make_jobs(6)
        assert_right(jobs, list(device.process_many(jobs)))
        assert (device.counts["overlong"], device.counts["reconnects"]) == (1, 1)


def test_without_the_kernels_count_memory_alone_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = FlowWatch()
    grown = memory_bytes()
    monkeypatch.setattr(flow_watch, "memory_bytes", lambda: grown + (100 << 20) + flow_watch.MEMORY_SLACK)
    assert not watch.overlong(101 << 20)
    assert watch.overlong(99 << 20)
    watch.message()
    assert not watch.overlong(0)
    watch.connected(10**6)  # a socket that is gone
    assert not watch.overlong(0)


def test_memory_that_the_bench_takes_between_two_waits_is_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = 0
    monkeypatch.setattr(flow_watch, "memory_bytes", lambda: memory)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as link:
        watch = FlowWatch()
        watch.connected(link.fileno())
        watch.waits()
        peer, _ = listener.accept()
        with peer, link.makefile("rb") as stream:
            sender = threading.Thread(target=peer.sendall, args=(bytes(2 << 20),))
            sender.start()
            stream.read(2 << 20)  # part of an answer
            sender.join()
            assert not watch.overlong(wire.MAX_OUTPUT)
            memory += 2 * flow_watch.MEMORY_SLACK  # RAWs are read to be sent
            watch.waits()
            assert not watch.overlong(wire.MAX_OUTPUT)
            memory += flow_watch.MEMORY_SLACK  # parts of the answer arrive
            assert not watch.overlong(wire.MAX_OUTPUT)
            memory += 3 << 20
            assert watch.overlong(wire.MAX_OUTPUT)
            watch.message()
            assert not watch.overlong(wire.MAX_OUTPUT)
        watch.close()
