"""Progress of a long job on stderr: a bar with count, rate and estimate; where no terminal is, a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from drivers.foreign_text import shown
from workbench.console import interrupt, terminal

BAR_EVERY_S = 0.1
LINE_EVERY_S = 5.0

T = TypeVar("T")
_bars: list[Any] = []
"""Those that a terminal shows now: a part of a job has a line in the job's own, two would write over each other."""


def each(title: str, items: Sequence[T], unit: str = "RAW") -> Iterator[T]:
    """Items one after the other: a part of a command which is long where there are many, or large, ones.

    What ends within :data:`LINE_EVERY_S` says nothing; else there is progress. Every item is a safe point for Ctrl-C.

    Args:
        title: the part's name.
        items: what is worked on.
        unit: what they are, in the singular.
    """
    with Progress(title, len(items), unit=unit, late=True) as progress:
        for done, item in enumerate(items, 1):
            yield item
            progress.update(done)


class Progress:
    """A context manager; every :meth:`update` is also a safe point for Ctrl-C.

    Args:
        title: the job's name.
        total: how much there is to do; 0 where not known yet (set :attr:`total` later).
        unit: what is counted, in the singular.
        done: how much was done before; it does not count into the rate.
        late: whether nothing is shown of a job that ends within :data:`LINE_EVERY_S`.
    """

    def __init__(self, title: str, total: int, *, unit: str = "step", done: int = 0, late: bool = False) -> None:
        self.title, self.total, self.unit = shown(title), total, unit
        self.done, self.note = done, ""
        self._late = late
        self._part = ""
        self._said: tuple[int, int, str] | None = None
        self._before = done
        self._start = self._shown = time.monotonic()
        self._bar: Any = None
        self._own = False
        self._task: Any = None

    def __enter__(self) -> Self:
        self._start = self._shown = time.monotonic()
        if not self._late:
            self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if not self._late and (error is None or self.done > self._before) and self._said != self._state():
            self._show()  # what failed before it began is told by its error alone
        if self._own:
            self._bar.stop()
            _bars.remove(self._bar)

    def _begin(self) -> None:
        self._late = False
        if not sys.stderr.isatty():
            return
        if _bars:
            self._bar = _bars[-1]
        else:
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[text]}", markup=False),
            )
            self._bar, self._own = Bar(*columns, console=terminal.console(stderr=True)), True
            self._bar.start()
            _bars.append(self._bar)
        self._task = self._bar.add_task(self.title, total=self.total or None, completed=self.done, text="")

    def update(self, done: int, note: str = "") -> None:
        """So much is done now (of :attr:`total`); ``note`` is shown beside it.

        Raises:
            StoppedError: the user asked to stop (inside :func:`~workbench.console.interrupt.stoppable`).
        """
        self.done, self.note = done, note
        if self._late and time.monotonic() - self._start >= LINE_EVERY_S:
            self._begin()
        every = BAR_EVERY_S if self._bar is not None else LINE_EVERY_S
        if not self._late and time.monotonic() - self._shown >= every:
            self._show()
        interrupt.check()

    def count(self, done: int, total: int) -> None:
        """:meth:`update`, for jobs that say only as they go how much there is to do."""
        self.total = total
        self.update(done)

    def part(self, name: str, unit: str, done: int, total: int, note: str = "") -> None:
        """:meth:`update` of a job of several parts: where another begins, count, unit, rate and estimate are its own.

        Raises:
            StoppedError: see :meth:`update`.
        """
        if name != self._part or done < self.done:
            self._part, self.unit, self._before = name, unit, done
            self._start = time.monotonic()
        self.total = total
        self.update(done, note)

    def line(self, elapsed_s: float) -> str:
        """Count, rate and estimate after so many seconds, for people."""
        made = self.done - self._before
        parts = [f"{self.done} of {self.total} {self.unit}s" if self.total else f"{self.done} {self.unit}s"]
        if made > 0 and elapsed_s > 0:
            rate = made / elapsed_s
            parts.append(f"{rate:.3g}/s" if rate >= 1 else f"{1 / rate:.3g} s each")
            if self.total > self.done:
                parts.append(f"{_clock((self.total - self.done) / rate)} left")
        return ", ".join([*parts, shown(self.note)] if self.note else parts)

    def _state(self) -> tuple[int, int, str]:
        return self.done, self.total, self.note

    def _show(self) -> None:
        self._shown, self._said = time.monotonic(), self._state()
        text = self.line(self._shown - self._start)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, total=self.total or None, text=text)
        else:
            print(f"{self.title}: {text}", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
