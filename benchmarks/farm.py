"""Simulates a farm of up to 1,000 boards on one database and one object store: what saturates first, at what rate.

    python benchmarks/farm.py [--store-puts 3000] [--network-gbit 10] …

Every board makes frames in turn. RAW and picture cross the link of the host whose collector judges and stores them, the
picture crosses the server's link into the object store, and a batch of rows is committed. Each of these is a queue with
so many servers of constant service time. A board waits when 128 of its captures are not committed yet. No device, no
data set: only the figures given here.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field

BOARDS = (1, 10, 50, 100, 200, 500, 1000)
UNSTORED = 128
"""Captures of a board that may wait to be committed."""
BATCH, BATCH_S = 16, 0.5
"""Captures of one commit at most, and what the first of them waits at most."""


@dataclass(frozen=True)
class Work:
    """Frames of a kind: seconds on a board, and bytes of RAW and picture."""

    name: str
    frame_s: float
    raw_bytes: float
    picture_bytes: float


WORKS = (Work("2 MP, 50 ms", 0.05, 4e6, 3e5), Work("12 MP, 1 s", 1.0, 24e6, 4e6))


@dataclass
class Station:
    """A queue before so many servers; arrivals come in the order of time."""

    servers: int
    until_s: float
    busy_s: float = 0.0
    free: list[float] = field(default_factory=list)

    def end(self, now: float, seconds: float) -> float:
        """When what arrives now is done."""
        start = now if len(self.free) < self.servers else max(now, heapq.heappop(self.free))
        heapq.heappush(self.free, start + seconds)
        self.busy_s += max(min(start + seconds, self.until_s) - max(start, self.until_s / 2), 0.0)
        return start + seconds

    @property
    def used(self) -> float:
        """The share of the second half of the time that it worked; the first is spent on filling the queues."""
        return self.busy_s / (self.until_s / 2 * self.servers)


def simulate(boards: int, work: Work, given: argparse.Namespace, seconds: float) -> tuple[float, dict[str, float]]:
    """Captures committed a second, and the share of its time that each station worked."""
    draw = random.Random(0)
    collectors = [Station(1, seconds) for _ in range(-(-boards // given.boards_per_collector))]
    # A put waits for the store's answer, and the store does so many at once that it does `store_puts` a second.
    store = Station(max(round(given.store_puts * given.put_ms / 1000), 1), seconds)
    database, server_link = Station(given.connections, seconds), Station(1, seconds)
    links = [Station(1, seconds) for _ in collectors]
    bit_s = 8 / (given.network_gbit * 1e9)
    waiting: list[list[int]] = [[] for _ in collectors]
    unstored, blocked, stored = Counter[int](), set[int](), 0
    order = itertools.count()
    events: list[tuple[float, int, str, int, list[int]]] = []

    def at(time: float, what: str, board: int, batch: list[int] | None = None) -> None:
        heapq.heappush(events, (time, next(order), what, board, batch or []))

    def commit(now: float, collector: int) -> None:
        batch, waiting[collector] = waiting[collector], []
        spent_s = (given.commit_ms + given.row_ms * len(batch)) / 1000
        at(database.end(now, spent_s), "committed", collector, batch)

    for board in range(boards):
        at(draw.uniform(0, work.frame_s), "frame", board)
    while events[0][0] < seconds:
        now, _, what, board, batch = heapq.heappop(events)
        collector = board // given.boards_per_collector
        if what == "frame":
            if unstored[board] >= UNSTORED:
                blocked.add(board)
                continue
            unstored[board] += 1
            at(now + work.frame_s * draw.uniform(0.9, 1.1), "made", board)
        elif what == "made":
            at(now, "frame", board)
            # RAW to the board, picture to the collector and on to the store.
            crossed = work.raw_bytes + 2 * work.picture_bytes
            at(links[collector].end(now, crossed * bit_s), "come", board)
        elif what == "come":
            at(collectors[collector].end(now, given.collector_ms / 1000), "judged", board)
        elif what == "judged":
            at(server_link.end(now, work.picture_bytes * bit_s), "sent", board)
        elif what == "sent":
            at(store.end(now, given.put_ms / 1000), "put", board)
        elif what == "put":
            waiting[collector].append(board)
            if len(waiting[collector]) >= BATCH:
                commit(now, collector)
            elif len(waiting[collector]) == 1:
                at(now + BATCH_S, "due", board)
        elif what == "due":
            if waiting[collector]:
                commit(now, collector)
        else:
            stored += len(batch) if now > seconds / 2 else 0
            for one in batch:
                unstored[one] -= 1
                if one in blocked:
                    blocked.discard(one)
                    at(now, "frame", one)
    used = {
        "a host's link": max(station.used for station in links),
        "a collector": max(station.used for station in collectors),
        "server's link": server_link.used,
        "object store": store.used,
        "database": database.used,
    }
    return 2 * stored / seconds, used


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--boards-per-collector", type=int, default=10)
    options.add_argument(
        "--collector-ms", type=float, default=1.9, help="a capture judged and stored, CPU (make bench)"
    )
    options.add_argument("--put-ms", type=float, default=20.0, help="from a put to its answer")
    options.add_argument("--store-puts", type=float, default=3000.0, help="puts a second that the object store does")
    options.add_argument("--commit-ms", type=float, default=5.0, help="a commit, without its rows")
    options.add_argument("--row-ms", type=float, default=1.9, help="a capture's rows within a commit")
    options.add_argument("--connections", type=int, default=1, help="commits at once; a data set has one writer")
    options.add_argument("--network-gbit", type=float, default=10.0)
    options.add_argument("--seconds", type=float, default=60.0, help="simulated")
    given = options.parse_args()
    for work in WORKS:
        print(f"\n### {work.name}\n")
        print("| boards | asked/s | stored/s | a host's link | a collector | server's link | object store | database |")
        print("|---|---|---|---|---|---|---|---|")
        for boards in BOARDS:
            rate, used = simulate(boards, work, given, given.seconds)
            shares = " | ".join(f"{100 * share:.0f} %" for share in used.values())
            print(f"| {boards:,} | {boards / work.frame_s:,.0f} | {rate:,.0f} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
