"""Time and memory of calls and of whole processes."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

DEADLINE_S = 900.0


class Spent(NamedTuple):
    """Seconds of wall clock and of CPU, and, of a whole process, its peak memory in MB (10⁶ bytes)."""

    wall: float
    cpu: float
    peak_mb: float = 0.0


def spent(call: Callable[[], Any]) -> Spent:
    """What one call takes in this process, in all its threads."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def in_pairs(ours: Callable[[], Any], other: Callable[[], Any], times: int) -> tuple[list[Spent], list[Spent]]:
    """What both take, in turns, after a round that does not count."""
    ours()
    other()
    pairs = [(spent(ours), spent(other)) for _ in range(times)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def process(command: Sequence[str], deadline_s: float = DEADLINE_S) -> Spent:
    """What a command takes from its start to its end; its output is dropped.

    Raises:
        RuntimeError: it failed.
    """
    # A light program starts it and waits: Linux counts the starter's own memory as the peak of what it starts.
    done = subprocess.run(
        [sys.executable, "-S", "-E", __file__, *command], capture_output=True, text=True, timeout=deadline_s
    )
    told = json.loads(done.stdout or "{}")
    if not told or told["status"]:
        raise RuntimeError(f"{' '.join(command)}: failed: {done.stderr.strip()[-400:]}")
    return Spent(told["wall"], told["cpu"], told["peak_mb"])


def workbench(*arguments: str, deadline_s: float = DEADLINE_S) -> Spent:
    """What a ``workbench`` command takes, as a process."""
    return process([sys.executable, "-m", "workbench.cli", *arguments], deadline_s)


def _wait_for(command: list[str]) -> None:
    begin = time.perf_counter()
    nothing = os.open(os.devnull, os.O_RDWR)
    child = os.posix_spawn(
        command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, nothing, number) for number in (0, 1)]
    )
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - begin
    unit = 1 if sys.platform == "darwin" else 1024
    told = {
        "status": os.waitstatus_to_exitcode(status),
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * unit / 1e6,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    _wait_for(sys.argv[1:])
