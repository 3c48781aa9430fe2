"""Pieces of one job on all cores, in threads: for work that lets others run, as NumPy's and OpenCV's on arrays does."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

P = TypeVar("P")
T = TypeVar("T")


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_all_cores(work: Callable[[P], T], pieces: Sequence[P], at_most: int) -> list[T]:
    """What the work gives of each piece, in their order; what it raises comes through.

    Args:
        work: called in other threads, where there are several pieces and cores.
        pieces: of the job.
        at_most: pieces that are worked on at a time, however many cores there are: each takes memory.
    """
    count = min(cores(), at_most, len(pieces))
    if count < 2:
        return [work(piece) for piece in pieces]
    with ThreadPoolExecutor(count, thread_name_prefix="piece") as pool:
        return list(pool.map(work, pieces))
