"""Frames made in a thread of their own, while the link sends the answer before and takes in the request after."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

from drivers.protocol import wire

IN_WORK = 2
"""The frame that is being made, and the next one: it begins without waiting for the link."""
TURN_S = 0.005
"""Seconds without an answer after which the link has its turn: short requests do not wait for a long frame."""
Work = TypeVar("Work")


class Ahead(Generic[Work]):
    """Answers requests in one thread, always the same: hardware and libraries may be bound to it."""

    def __init__(self, answer: Callable[[Work], wire.Message]) -> None:
        """``answer`` gives the answer to a request."""
        self._answer = answer
        self._asked: SimpleQueue[tuple[Work, Future[wire.Message]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def answers(self, requests: Iterator[Work]) -> Iterator[wire.Message | None]:
        """The answers, in the requests' order, and None while there is none yet.

        Raises:
            BaseException: what ``answer`` raised.
        """
        if self._thread is None:
            # A daemon, so that a second Ctrl-C does not wait for the frame that is being made.
            self._thread = threading.Thread(
                target=self._work, name=f"frames of {threading.current_thread().name}", daemon=True
            )
            self._thread.start()
        made: deque[Future[wire.Message]] = deque()
        for request in requests:
            made.append(Future())
            self._asked.put((request, made[-1]))
            if len(made) == IN_WORK:
                yield from _awaited(made.popleft())
        while made:
            yield from _awaited(made.popleft())

    def _work(self) -> None:
        while True:
            request, made = self._asked.get()
            try:
                made.set_result(self._answer(request))
            except BaseException as error:  # it ends the device's loop, as it would without this thread
                made.set_exception(error)


def _awaited(made: Future[wire.Message]) -> Iterator[wire.Message | None]:
    while not made.done():
        try:
            made.exception(TURN_S)
        except TimeoutError:
            yield None
    yield made.result()
