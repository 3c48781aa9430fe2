"""A device in this process that a test may let lie: a firmware behind a rule, on a ROUTER socket."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import zmq
from sim20_jobs import PIPELINE

from drivers.protocol import wire
from sim.firmware.registers import Firmware

Parts = list[wire.Buffer]


class Peer:
    """A device made of a firmware and a rule that may tamper with its answers, on a ROUTER socket of its own."""

    def __init__(self, rule: Callable[[wire.Message], list[Parts]]) -> None:
        self.rule = rule
        self.seen: list[wire.Message] = []
        self._stop = threading.Event()
        self._port: queue.Queue[int] = queue.Queue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.url = f"zmq://127.0.0.1:{self._port.get(timeout=10)}"

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
            router.setsockopt(zmq.LINGER, 0)
            self._port.put(router.bind_to_random_port("tcp://127.0.0.1"))
            while not self._stop.is_set():
                if router.poll(20):
                    peer, *parts = router.recv_multipart()
                    message = wire.decode(parts)
                    self.seen.append(message)
                    for answer in self.rule(message):
                        router.send_multipart([peer, *answer])

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def processed(self) -> list[int]:
        return [m.id for m in self.seen if isinstance(m, wire.Process)]


StartPeer = Callable[[Callable[[wire.Message], list[Parts]]], Peer]


@contextmanager
def started_peers() -> Iterator[StartPeer]:
    """Starts peers, and closes them all at the end."""
    peers: list[Peer] = []

    def start(rule: Callable[[wire.Message], list[Parts]]) -> Peer:
        peers.append(Peer(rule))
        return peers[-1]

    try:
        yield start
    finally:
        for p in peers:
            p.close()


def honest(firmware: Firmware | None = None) -> Callable[[wire.Message], list[Parts]]:
    device = firmware or Firmware(PIPELINE)
    return lambda message: [wire.encode(device.handle(message))]
