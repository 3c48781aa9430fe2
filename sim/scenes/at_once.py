"""Several pictures made at once, one a core, and what comes of them in order.

Threads do: NumPy and OpenCV let others run while they work on a picture.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from drivers import stopping
from drivers.all_cores import cores

P = TypeVar("P")
T = TypeVar("T")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_UNKNOWN_MEMORY = 8 << 30


@dataclass(frozen=True)
class Scene(Generic[P, T]):
    """What is made of one scene.

    Attributes:
        picture: makes what all takes of it share.
        takes: each gets that and makes a result; at least one.
    """

    picture: Callable[[], P]
    takes: Sequence[Callable[[P], T]]


@dataclass
class _Begun(Generic[P, T]):
    """A scene whose picture was asked for: that picture, the takes that have not begun, the results of the others."""

    picture: Future[P] | None
    takes: deque[Callable[[P], T]]
    results: deque[Future[T]] = field(default_factory=deque)

    def drawn(self) -> Future[P] | None:
        """Its picture, or why it has none, where that is known and takes are left."""
        return self.picture if self.picture is not None and self.picture.done() else None


class _ClosedError(Exception):
    """Nobody waits for this work any more."""


class AtOnce:
    """A context manager; when its block ends, work goes on to its next safe point (:mod:`drivers.stopping`) and no
    further, and is waited for.

    Args:
        count: how many pieces of work go on at once.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._closing = Event()
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="scene")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._closing.set()
        self._pool.shutdown(cancel_futures=True)

    def results(self, scenes: Iterable[Scene[P, T]]) -> Iterator[T]:
        """What the takes make, in their order. The caller's thread begins work, and only while it waits here.

        A take begins before another scene does, and scenes are drawn as they begin: no more of them have their pictures
        in memory than there is work at once. What work raises is raised where its result would be taken, so all that
        comes before is made.
        """
        source = iter(scenes)
        begun: deque[_Begun[P, T]] = deque()
        running: set[Future[Any]] = set()
        while True:
            running = {work for work in running if not work.done()}
            while len(running) < self._count:
                work = self._take(begun) or self._picture(begun, source)
                if work is None:
                    break
                running.add(work)
            if not begun:
                return
            first = begun[0]
            if first.results and first.results[0].done():
                yield first.results.popleft().result()
            elif not first.results and not first.takes:
                begun.popleft()
            elif not first.results and first.picture is not None and first.picture.done():
                first.picture.result()  # it failed, or a take begins right now
            else:
                wait(running, stopping.SLICE_S, FIRST_COMPLETED)
                stopping.check()

    def _take(self, begun: Iterable[_Begun[P, T]]) -> Future[Any] | None:
        """Begin the next take whose picture is there."""
        for one in begun:
            if (picture := one.drawn()) and picture.exception() is None:
                work = self._pool.submit(self._work, one.takes.popleft(), picture.result())
                one.results.append(work)
                if not one.takes:
                    one.picture = None  # large: the takes that need it have it
                return work
        return None

    def _picture(self, begun: deque[_Begun[P, T]], source: Iterator[Scene[P, T]]) -> Future[Any] | None:
        """Begin the next scene."""
        for scene in source:
            work = self._pool.submit(self._work, scene.picture)
            begun.append(_Begun(work, deque(scene.takes)))
            return work
        return None

    def _work(self, work: Callable[..., Any], *given: Any) -> Any:
        with stopping.checked(self._check):
            self._check()
            return work(*given)

    def _check(self) -> None:
        if self._closing.is_set():
            raise _ClosedError


def fitting(each_bytes: int) -> int:
    """How many pieces of work may go on at once: one a core, within half of the machine's memory together; at least 1.

    Args:
        each_bytes: of memory that one takes.
    """
    return max(min(cores(), _memory() // 2 // max(each_bytes, 1)), 1)


def _memory() -> int:
    """Bytes that the machine has, or its container may use."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        machine = _UNKNOWN_MEMORY
    try:
        return min(machine, int(_CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no cgroups, or none of a limit
        return machine
