"""How a loop that waits for a device, or works for long, learns that nobody waits for it any more: Ctrl-C, or a pool
that closes.

Who starts the work sets a check for its thread; whoever waits or works calls :func:`check` a few times a second.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

SLICE_S = 0.25
"""The longest wait without a check."""

_thread = threading.local()


@contextlib.contextmanager
def checked(check: Callable[[], None]) -> Iterator[None]:
    """Within this block :func:`check` calls this in the same thread; it raises where the wait should end."""
    before = getattr(_thread, "check", None)
    _thread.check = check
    try:
        yield
    finally:
        _thread.check = before


def check() -> None:
    """Raises whatever the thread's check raises; nothing where there is none."""
    current = getattr(_thread, "check", None)
    if current is not None:
        current()
