"""Files that somebody else made, read safely: regular files only, of a bounded size; TOML and JSON with one error.

A named pipe in a file's place would be waited for without end, a device such as ``/dev/zero`` never ends, and a file
of another program may be larger than memory. Here each is refused before a byte is taken.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

TEXT_BYTES = 4 << 20
"""Largest TOML or JSON file that people write by hand."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes; links are followed.

    Raises:
        OSError: missing or unreadable; ``EINVAL`` for a pipe, a device or a folder, ``EFBIG`` for a larger file.
    """
    _only_regular(path.stat().st_mode, path)  # a socket cannot even be opened to be looked at
    # O_NONBLOCK: opening a pipe that nobody writes to would wait; for a regular file it changes nothing.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    handle = os.open(path, flags)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        _only_regular(status.st_mode, path)
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"has {status.st_size:,} bytes, at most {limit:,} are read", str(path))
        data = file.read(status.st_size + 1)  # what is asked for takes memory, read or not
        if len(data) > status.st_size:
            data += file.read(limit + 1 - len(data))
    if len(data) > limit:  # it grew, or its size is not told (files of the kernel)
        raise OSError(errno.EFBIG, f"has more than {limit:,} bytes, which is the most that is read", str(path))
    return data


def size_of_regular(path: Path, limit: int) -> int:
    """The size of a regular file of at most ``limit`` bytes, for readers that open it themselves.

    Raises:
        OSError: as :func:`read_regular`.
    """
    status = path.stat()
    _only_regular(status.st_mode, path)
    if status.st_size > limit:
        raise OSError(errno.EFBIG, f"has {status.st_size:,} bytes, at most {limit:,} are read", str(path))
    return status.st_size


def _only_regular(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        kind = next((words for test, words in _KINDS if test(mode)), "something else")
        raise OSError(errno.EINVAL, f"is {kind}, not a file", str(path))


def read_toml(path: Path, limit: int = TEXT_BYTES) -> dict[str, Any]:
    """A TOML file in UTF-8, with or without a byte-order mark.

    Raises:
        OSError: see :func:`read_regular`.
        ValueError: not UTF-8, no TOML, or nested too deeply; the text says which, in one line.
    """
    data = read_regular(path, limit)
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(path: Path, limit: int = TEXT_BYTES) -> Any:
    """A JSON file in UTF-8, with or without a byte-order mark.

    Raises:
        OSError: see :func:`read_regular`.
        ValueError: not UTF-8, no JSON, nested too deeply, or a key stands twice; the text says which, in one line.
    """
    data = read_regular(path, limit)
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_each_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of a key that stands twice one value would be lost without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:60]!r} stands twice in one object")
    return found
