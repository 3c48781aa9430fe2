"""Files that RAWs and references were read from: is what lies there still what was read?

Size and time of change alone do not tell: copying with times kept, or two exports within a clock's tick, give another
file the same of both. The file system's own time of change and the inode cannot be set by hand; where these differ the
content decides, so that a copy of the same file elsewhere in time costs one reading, not a decoding.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from workbench.errors import DatasetError
from workbench.lab.dataset.schema import SourceFile

_BLOCK = 1 << 20


def remembered(path: Path, raw_hash: str) -> dict[str, Any]:
    """The row of a file that a RAW, or its reference, was read from.

    Raises:
        DatasetError: the file cannot be read.
    """
    status = _status(path)
    return {
        "path": str(path.absolute()),
        "raw": raw_hash,
        "size": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "changed_ns": status.st_ctime_ns,
        "inode": _whole(status.st_ino),
        "content": _content(path),
    }


def known_files(connection: Connection, path: Path) -> list[str]:
    """Hashes of the RAWs that were read from a file, or had it as reference, whose content was what it is now.

    Raises:
        DatasetError: the file cannot be read.
    """
    status = _status(path)
    rows = connection.execute(select(SourceFile.__table__).where(SourceFile.path == str(path.absolute()))).all()
    found: list[str] = []
    content: str | None = None
    now = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, _whole(status.st_ino))
    for row in rows:
        if row.size != status.st_size:
            continue
        if (row.size, row.modified_ns, row.changed_ns, row.inode) != now:
            content = content or _content(path)
            if row.content != content:
                continue
        found.append(row.raw)
    return found


def _whole(inode: int) -> int:
    """The inode as SQLite can hold it: some file systems use all 64 bits and more."""
    return inode & (2**63 - 1)


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error


def _content(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()
