"""A data set copied to another lab, each of them in a file or on a server: resumable, and verified at the end.

Files first, each read back from where it now lies; then the rows, table by table. What is there already stays, so a
copy that was interrupted goes on. All is read as it was when the copy began; the other lab may be written to meanwhile.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, Row, Table, func, select

from workbench.errors import DatasetError
from workbench.lab.dataset.blobs import BlobKey
from workbench.lab.dataset.content_rows import content_of
from workbench.lab.dataset.dialects import insert
from workbench.lab.dataset.explained import explained
from workbench.lab.dataset.schema import Base, Blob
from workbench.lab.dataset.store import Dataset

ROWS = 500
BYTES = 64 << 20
"""Rows, and bytes of files, in one commit."""
# Numbered in the order of arrival, and none is ever taken out: a copy has the first so many.
_APPENDED = ("captures", "device_use")

Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class Copied:
    """What a copy came to.

    Attributes:
        files: how many were copied now, of how many ``known``; ``captures``: in use in the copy.
        digest: of both data sets.
    """

    files: int
    known: int
    captures: int
    digest: str


def copy(source: Dataset, target: Dataset, progress: Progress = lambda part, unit, done, total: None) -> Copied:
    """Bring everything of one data set into another, which is empty or an earlier copy of it.

    Captures keep their order; their numbers run from 1, whatever those of the source are.

    Args:
        source, target: both open.
        progress: told the part, its unit, how much of it is done, and of how much.

    Raises:
        DatasetError: the target holds what the source does not; a file is missing or damaged; or either failed.
    """
    if source.database.name == target.database.name:
        raise DatasetError(f"{source.lab} and {target.lab} have the same database; give the copy one of its own")
    tables = Base.metadata.sorted_tables
    with source.database.reading() as connection:
        counts = {table.name: _count(connection, table) for table in tables}
        with target.database.reading() as other:
            for table in tables:
                _check_begins_alike(target, table, connection, other, counts[table.name])
        files = _copy_files(source, target, connection, counts["blobs"], progress)
        total, done = sum(counts.values()) - counts["blobs"], 0
        for table in tables:
            if table.name != Blob.__tablename__:
                for added in _copy_rows(target, table, connection):
                    progress("rows", "row", done := done + added, total)
        with target.database.reading() as other:
            for number, table in enumerate(tables, 1):
                if _content(connection, table) != _content(other, table):
                    raise _differs(target, table.name)
                progress("compare", "table", number, len(tables))
        content = content_of(connection)
    return Copied(files, counts["blobs"], content.captures, content.digest)


def _count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0


def _content(connection: Connection, table: Table) -> str:
    """SHA-256 over all rows without their numbers."""
    digest = hashlib.sha256()
    for rows in _chunks(connection, table):
        for row in rows:
            digest.update(json.dumps(_numberless(row), sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _numberless(row: Row[Any]) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if name != "id"}


def _differs(target: Dataset, table: str) -> DatasetError:
    return DatasetError(
        f"{target.lab}: its {table.replace('_', ' ')} are not those of the lab to be copied; copy to an empty lab"
    )


def _check_begins_alike(target: Dataset, table: Table, source: Connection, other: Connection, count: int) -> None:
    """See that the target's rows can be some of the source's: no more of them, and the last one is there."""
    there = _count(other, table)
    if there > count:
        raise _differs(target, table.name)
    if there == 0:
        return
    columns = [column for column in table.columns if column.name != "id"]
    order = [table.c[name] for name in _order(table)]
    last = other.execute(select(*columns).order_by(*(column.desc() for column in order)).limit(1)).one()
    query = select(*columns)
    if table.name in _APPENDED:
        query = query.order_by(*order).offset(there - 1).limit(1)
    else:
        query = query.where(*(column == last._mapping[column] for column in order))
    if source.execute(query).first() != last:
        raise _differs(target, table.name)


def _order(table: Table) -> list[str]:
    """Columns that order the rows alike in both."""
    return ["raw", "device", "parameters", "purpose"] if table.name == "failures" else table.primary_key.columns.keys()


def _copy_files(source: Dataset, target: Dataset, connection: Connection, total: int, progress: Progress) -> int:
    """Copy the files that the target has no row of; gives how many."""
    done = copied = 0
    for rows in _chunks(connection, cast(Table, Blob.__table__)):
        keys = [BlobKey(row.hash, row.suffix, row.size) for row in rows]
        with target.database.reading() as other:
            there = set(other.scalars(select(Blob.hash).where(Blob.hash.in_([key.hash for key in keys]))))
        missing = [key for key in keys if key.hash not in there]
        done += len(keys) - len(missing)
        for some in _bounded(missing):
            _copy_some(source, target, some)
            done, copied = done + len(some), copied + len(some)
            progress("files", "file", done, total)
    return copied


def _copy_some(source: Dataset, target: Dataset, keys: list[BlobKey]) -> None:
    data = source.blobs.each(lambda key: source.blobs.read_kept(key.hash, key.suffix), keys)
    target.database.check_writable()
    with explained(target.blobs.root):
        target.blobs.write(zip(keys, data, strict=True))
    target.blobs.each(lambda key: target.blobs.read_kept(key.hash, key.suffix), keys)
    with target.database.writing() as connection:
        connection.execute(insert(connection, Blob).on_conflict_do_nothing(), [vars(key) for key in keys])


def _bounded(keys: Iterable[BlobKey]) -> Iterator[list[BlobKey]]:
    """The keys in lists of so many bytes at most, or one."""
    some: list[BlobKey] = []
    for key in keys:
        if some and sum(k.size for k in some) + key.size > BYTES:
            yield some
            some = []
        some.append(key)
    if some:
        yield some


def _copy_rows(target: Dataset, table: Table, source: Connection) -> Iterator[int]:
    """Copy a table; after each commit how many of its rows are dealt with more."""
    with target.database.reading() as other:
        skip = _count(other, table) if table.name in _APPENDED else 0
    for rows in _chunks(source, table):
        if values := [_numberless(row) for row in rows[skip:]]:
            with target.database.writing() as connection:
                connection.execute(insert(connection, table).on_conflict_do_nothing(), values)
        skip = max(skip - len(rows), 0)
        yield len(rows)


def _chunks(connection: Connection, table: Table) -> Iterator[list[Row[Any]]]:
    """The rows in an order that is the same in both, so many at a time; never all in memory."""
    query = select(table).order_by(*(table.c[name] for name in _order(table)))
    rows = connection.execute(query.execution_options(yield_per=ROWS))
    return iter(lambda: list(itertools.islice(rows, ROWS)), [])
