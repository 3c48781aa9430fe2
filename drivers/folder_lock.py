"""A folder that one program alone writes into at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK = ".lock"


@contextlib.contextmanager
def alone_in(folder: Path, busy: Exception) -> Iterator[None]:
    """In this block no other program is in such a block of the folder, which is there; ``.lock`` is in it meanwhile.

    Raises:
        OSError: nobody can write there.
        Exception: ``busy``: another program is at it right now.
    """
    lock = FileLock(folder / _LOCK, is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise busy from None
    try:
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            (folder / _LOCK).unlink()
