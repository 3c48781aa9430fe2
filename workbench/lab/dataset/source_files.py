"""Files that RAWs and references were read from: is what lies there still what was read?

Size and time of change alone do not tell: copying with times kept, or two exports within a clock's tick, give another
file the same of both. The file system's own time of change and the inode cannot be set by hand; where these differ the
content decides, so that a copy of the same file elsewhere in time costs one reading, not a decoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from workbench.errors import DatasetError
from workbench.lab.dataset.records import RawRecord, SeenFile
from workbench.lab.dataset.schema import SourceFile

_BLOCK = 1 << 20


def seen(path: Path) -> SeenFile:
    """The file as it is now.

    Raises:
        DatasetError: the file cannot be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    return SeenFile(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, _whole(status.st_ino))


def remembered(file: SeenFile, raw_hash: str) -> dict[str, Any]:
    """The row of a file that a RAW, or its reference, was read from since it was seen.

    Raises:
        DatasetError: the file cannot be read, or is no longer what was seen: another one would be taken for that RAW.
    """
    content = _content(file.path)
    if seen(file.path) != file:
        raise DatasetError(f"{file.path}: was changed while it was read; wait until it is whole, then run this again")
    return {**file._asdict(), "path": str(file.path.absolute()), "raw": raw_hash, "content": content}


class KnownFiles:
    """The files that RAWs and references were read from, as the data set knew them when this was made.

    Args:
        connection: to the data set.
        raws: its RAWs.
    """

    def __init__(self, connection: Connection, raws: Iterable[RawRecord]) -> None:
        self._raws = {raw.hash: raw for raw in raws}
        self._rows: dict[str, list[Row[Any]]] = {}
        for row in connection.execute(select(SourceFile.__table__)):
            self._rows.setdefault(row.path, []).append(row)

    def raws_of(self, path: Path) -> list[RawRecord]:
        """The RAWs that were read from a file, or had it as reference, if its content is what it was then.

        Raises:
            DatasetError: the file cannot be read.
        """
        now = seen(path)
        found: list[RawRecord] = []
        content: str | None = None
        for row in self._rows.get(str(path.absolute()), ()):
            if row.size != now.size:
                continue
            if (row.size, row.modified_ns, row.changed_ns, row.inode) != now[1:]:
                content = content or _content(path)
                if row.content != content:
                    continue
            # Another process may have added one between the two queries: it is read again, and found to be there.
            if (raw := self._raws.get(row.raw)) is not None:
                found.append(raw)
        return found


def _whole(inode: int) -> int:
    """The inode as SQLite can hold it: some file systems use all 64 bits and more."""
    return inode & (2**63 - 1)


def _content(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()
