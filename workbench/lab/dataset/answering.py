"""Connections to PostgreSQL that do not wait for ever: the server's kernel may answer for a server that hangs."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg

ANSWER_S = 120.0
"""The longest that a statement may take, in seconds."""


class AnsweringConnection(psycopg.Connection[Any]):
    """A connection that is closed where the server answers nothing for ``ANSWER_S``."""

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """See psycopg's; every statement, commit and rollback goes through it."""
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        deadline = time.monotonic() + ANSWER_S
        try:
            waited = next(gen)
            while True:
                ready = yield waited  # nothing, now and then, while nothing came
                if not ready and time.monotonic() >= deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer in {ANSWER_S:g} s")
                waited = gen.send(ready)
        except StopIteration as end:
            return end.value
