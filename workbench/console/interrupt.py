"""Ctrl-C: the first one stops at the next safe point, the second stops now; either way the user reads how to go on."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from drivers import stopping
from workbench.errors import StoppedError

PATIENCE_S = 1.0
"""Seconds after Ctrl-C in which what is in flight may still arrive; then waiting for a device ends too."""


class Stop:
    """Whether the user asked to stop; ``how_to_go_on`` is what the message will say."""

    def __init__(self, how_to_go_on: str) -> None:
        self.how_to_go_on = how_to_go_on
        self.requested = False
        self._since = 0.0

    def check(self) -> None:
        """A safe point.

        Raises:
            StoppedError: the user asked to stop.
        """
        if self.requested:
            raise StoppedError(self.how_to_go_on)

    def check_waiting(self) -> None:
        """A safe point within a wait for a device: what is nearly there is let in first.

        Raises:
            StoppedError: the user asked to stop, ``PATIENCE_S`` seconds ago or more.
        """
        if self.requested and time.monotonic() - self._since >= PATIENCE_S:
            raise StoppedError(self.how_to_go_on)

    def _signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self._since = time.monotonic()
        print("stopping at the next safe point; Ctrl-C again stops now", file=sys.stderr, flush=True)


_current: list[Stop] = []


@contextlib.contextmanager
def stoppable(how_to_go_on: str) -> Iterator[Stop]:
    """Within this block the first Ctrl-C is remembered and the next :func:`check` raises; the second raises at once.

    Every update of a :class:`~workbench.console.progress.Progress` is such a check.

    Raises:
        StoppedError: the user stopped the block; the message is ``how_to_go_on``.
    """
    stop = Stop(how_to_go_on)
    # Signals reach only the main thread; elsewhere the block simply cannot be stopped by Ctrl-C.
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, stop._signal) if main else None
    _current.append(stop)
    try:
        with stopping.checked(stop.check_waiting):
            yield stop
    except KeyboardInterrupt as error:
        raise StoppedError(stop.how_to_go_on) from error
    finally:
        _current.remove(stop)
        if main:
            signal.signal(signal.SIGINT, before)


def check() -> None:
    """A safe point of the innermost :func:`stoppable` block; outside of one, nothing.

    Raises:
        StoppedError: the user asked to stop.
    """
    if _current:
        _current[-1].check()
