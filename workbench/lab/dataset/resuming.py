"""Going on where the database's server was away for a while: restarted, or its host."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from workbench.errors import DatasetError
from workbench.lab.dataset.explained import ServerLostError

RESUME_S = 30.0
_PAUSE_S = 0.2

P = ParamSpec("P")
R = TypeVar("R")


def resumed(method: Callable[P, R]) -> Callable[P, R]:
    """Call a method again while the server is away, until its deadline.

    For methods whose second call finds what the first one wrote: whether a commit whose answer never came was one is
    not known. A file of SQLite is never away.

    Raises:
        DatasetError: the server was away for longer than 30 s.
    """

    @functools.wraps(method)
    def call(*args: P.args, **options: P.kwargs) -> R:
        deadline: float | None = None
        while True:
            try:
                return method(*args, **options)
            except ServerLostError as error:
                now = time.monotonic()
                deadline = now + RESUME_S if deadline is None else deadline
                if now >= deadline:
                    # Of another class, so that a method around this one does not wait once more.
                    raise DatasetError(f"{error}; waited {RESUME_S:g} s: run the same command again") from error
                time.sleep(_PAUSE_S)

    return call
