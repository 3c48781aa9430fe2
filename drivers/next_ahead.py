"""One step ahead: the next item is made in a thread while the one before is used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar, cast

from drivers import stopping

T = TypeVar("T")
_END = object()


class Ahead(Generic[T]):
    """An iterator over another one, whose items are made in a thread of their own; close it at the end.

    An item is begun when the one before is taken, so one is held at most. What the source raises is raised where its
    item would be taken.
    """

    def __init__(self, source: Iterator[T]) -> None:
        self._source = source
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._next = self._begin()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item = waited(self._next)
        if item is _END:
            raise StopIteration
        self._next = self._begin()
        return cast(T, item)

    def close(self) -> None:
        """Make no further items; waits for the one that is being made."""
        self._pool.shutdown(cancel_futures=True)

    def _begin(self) -> Future[object]:
        return self._pool.submit(next, self._source, _END)


def waited(future: Future[T]) -> T:
    """The result of work in a thread; meanwhile the waiting thread's own safe points are kept (Ctrl-C)."""
    while not wait([future], stopping.SLICE_S).done:
        stopping.check()
    return future.result()
