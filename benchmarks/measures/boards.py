"""Devices to collect from, as processes, each of which first measures how fast it is by itself.

    python benchmarks/measures/boards.py {sim20,echo,echo-none,bare} WIDTH HEIGHT FRAME_MS FRAMES

``sim20`` is the emulated ISP; ``echo`` answers with a JPEG that was made before; ``echo-none`` does so and holds no
RAW, so that its pixels travel with every request; ``bare`` answers with that JPEG by pyzmq alone. Lines on stdout:
frames a second of the device alone, where it listens and, once it is told to end, frames a second that it made for
others and the percentage of its time in which it waited for a request.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from drivers.agent import Agent, continuous
from drivers.agent.device_side import DEFAULT_HOLDS, DeviceSide
from drivers.agent.serving import serve_link
from drivers.agent.zmq_link import RouterLink
from drivers.protocol import wire

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measures import frames

PARAMETERS = 20
UNCOUNTED = 24
"""Frames before those that count: RAWs are read, threads begin."""


def main(kind: str, width: int, height: int, frame_ms: float, count: int) -> None:
    size = (width, height)
    if kind == "bare":
        print("0", flush=True)
        bare(size)
        return
    holds = 0 if kind == "echo-none" else DEFAULT_HOLDS
    device = emulated(frame_ms) if kind == "sim20" else echo(size, frame_ms, holds).device()
    print(alone(device, size, count), flush=True)
    link = WatchedLink("127.0.0.1", 0, device.max_payload, None)
    serve_link(device, lambda: link)
    print(*link.at_work(), flush=True)


class WatchedLink(RouterLink):
    """Knows when frames were sent, and for how long the device had nothing to do."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._waited = 0.0
        self._frames: list[tuple[float, float]] = []

    def receive(self, timeout_s: float) -> tuple[bytes, list[wire.Buffer]] | None:
        """See :class:`RouterLink`; only a device without a frame to make gives it time."""
        begin = time.perf_counter()
        message = super().receive(timeout_s)
        if timeout_s > 0:
            self._waited += time.perf_counter() - begin
        return message

    def send(self, peer: bytes, parts: list[wire.Buffer]) -> None:
        """See :class:`RouterLink`."""
        super().send(peer, parts)
        if len(parts) > 1:
            self._frames.append((time.perf_counter(), self._waited))

    def at_work(self) -> tuple[float, float]:
        """From the frame after the first ``UNCOUNTED`` to the last one: frames a second, and percent waited."""
        (begin, before), *_, (end, after) = counted = self._frames[UNCOUNTED:]
        return (len(counted) - 1) / (end - begin), 100 * (after - before) / (end - begin)


def emulated(frame_ms: float) -> DeviceSide:
    from sim.firmware.registers import emulated as emulated_isp

    return emulated_isp("sim20", frame_ms=frame_ms)


def echo(size: tuple[int, int], frame_ms: float, holds: int) -> Agent:
    agent = Agent(
        model="echo",
        firmware="1",
        parameters=[continuous(f"p{i}", 0, 1, step=1 / 1024, default=0, block="all") for i in range(PARAMETERS)],
        holds=holds,
        overlap=frame_ms > 0,
    )
    picture = frames.jpeg(size)

    @agent.process
    def process(mosaic: Any, metadata: dict[str, Any], values: dict[str, Any]) -> bytes:
        end = time.perf_counter() + frame_ms / 1000
        remark = hashlib.sha256(repr((metadata["iso"], values)).encode()).digest()
        made = frames.remarked(picture, remark)
        time.sleep(max(end - time.perf_counter(), 0.0))
        return made

    return agent


def alone(device: DeviceSide, size: tuple[int, int], count: int) -> float:
    """Frames a second that a device makes without a link."""
    raw = frames.raw(size)
    defaults = device.space.defaults
    registers = tuple(
        (p.register.address, code)
        for p, code in zip(device.space.parameters, defaults.codes, strict=True)
        if p.register is not None
    )
    request = wire.process_request(0, raw, registers)
    device.handle(request)
    if device.holds:  # so the bench asks for most frames
        request = dataclasses.replace(request, payload=b"")
    begin = time.perf_counter()
    for number in range(1, count + 1):
        answer = device.handle(dataclasses.replace(request, id=number))
        assert isinstance(answer, wire.Frame), answer
    return count / (time.perf_counter() - begin)


def bare(size: tuple[int, int]) -> None:
    picture = frames.jpeg(size)
    socket = zmq.Context().socket(zmq.ROUTER)
    socket.bind("tcp://127.0.0.1:*")
    print(f"listening at {socket.getsockopt_string(zmq.LAST_ENDPOINT)}", flush=True)
    while True:
        peer, header, _ = socket.recv_multipart(copy=False)
        socket.send_multipart([peer, header, picture], copy=False)


def bare_rate(endpoint: str, size: tuple[int, int], count: int, *, pixels: bool, in_flight: int = 8) -> float:
    """Frames a second that pyzmq moves there, with a RAW's pixels or without, and back."""
    sent, header = frames.raw(size).mosaic.data.cast("B") if pixels else b"", b"h" * 600
    context = zmq.Context()
    with context.socket(zmq.DEALER) as socket:
        socket.connect(endpoint)
        socket.setsockopt(zmq.RCVTIMEO, 30_000)
        begin = time.perf_counter()
        for number in range(count + in_flight):
            if number < count:
                socket.send_multipart([header, sent], copy=False)
            if number >= in_flight:
                socket.recv_multipart(copy=False)
        rate = count / (time.perf_counter() - begin)
    context.destroy(linger=0)
    return rate


class Board:
    """Such a process.

    Attributes:
        url: where it listens; ``alone``: frames a second of the device alone.
        rate: frames a second that it made for others; ``waited``: percentage of its time in which it had nothing to
            do; both there once it has ended, of the frames after the first ``UNCOUNTED``.
    """

    def __init__(self, url: str, alone: float) -> None:
        self.url, self.alone, self.rate, self.waited = url, alone, 0.0, 0.0


@contextlib.contextmanager
def board(kind: str, size: tuple[int, int], frame_ms: float = 0.0, count: int = 50) -> Iterator[Board]:
    """Such a process, which ends with the block."""
    arguments = [kind, *map(str, size), str(frame_ms), str(count)]
    process = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        rate = float(process.stdout.readline())
        url = next(word for word in process.stdout.readline().split() if "://" in word)
        made = Board(url, rate)
        yield made
        process.terminate()
        if kind != "bare":
            made.rate, made.waited = map(float, process.stdout.readline().split())
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
