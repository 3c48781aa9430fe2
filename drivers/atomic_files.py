"""Files that are there whole or not at all: written beside their place, flushed to the disk, then renamed to it.

A crash leaves the old file or the new one, and at worst a hidden ``.NAME.….partial`` beside it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""A full disk, a quota, a limit of a file's size, a disk that fails."""


@contextlib.contextmanager
def written(
    path: Path, *, beside: Path | None = None, private: bool = False, durable: bool = True
) -> Iterator[BinaryIO]:
    """A file to write in the block; it takes the place of ``path`` when the block ends, and is gone if that raises.

    Args:
        path: the file's place.
        beside: folder of the file while it is written, on the same disk; by default that of ``path``.
        private: only this user may read it.
        durable: flush it to the disk before it is renamed, so that even a power cut leaves no empty file.

    Raises:
        OSError: it cannot be written.
    """
    partial = (beside or path.parent) / f".{path.name[:50]}.{secrets.token_hex(6)}.partial"
    binary = getattr(os, "O_BINARY", 0)  # of Windows
    with _named(path):
        handle = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | binary, 0o600 if private else 0o666)
    try:
        with _named(path, _WRITING), os.fdopen(handle, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        with _named(path):
            partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


@contextlib.contextmanager
def _named(path: Path, only: Collection[int] = ()) -> Iterator[None]:
    """Errors name the file's place: nobody knows the name that it has meanwhile, and writing names none at all.

    ``only``: the numbers of those that can only be the file's own, where others may come from elsewhere.
    """
    try:
        yield
    except OSError as error:
        if not only or (error.errno in only and error.filename is None):
            error.filename, error.filename2 = str(path), None
        raise


def write_bytes(path: Path, data: bytes | memoryview, *, private: bool = False, durable: bool = True) -> None:
    """Write a file; arguments as of :func:`written`.

    Raises:
        OSError: it cannot be written.
    """
    with written(path, private=private, durable=durable) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    r"""Write a text file in UTF-8, with the line ends that the text has.

    Surrogates, of file names that are no UTF-8, are written as ``\udcff``, which JSON reads back.

    Raises:
        OSError: it cannot be written.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))
