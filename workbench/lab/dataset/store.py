"""The data set: RAWs, references and captures of a lab folder. Files first, then the rows that name them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from sqlalchemy import Connection, Table, delete, select
from sqlalchemy.schema import CreateTable

from workbench.errors import DatasetError
from workbench.lab.dataset.capture_rows import in_use_count
from workbench.lab.dataset.device_rows import DeviceRows
from workbench.lab.dataset.dialects import put_row, tables
from workbench.lab.dataset.explained import BUSY_S
from workbench.lab.dataset.failure_rows import FailureRows
from workbench.lab.dataset.passing import DigestRow
from workbench.lab.dataset.raw_rows import RawRows
from workbench.lab.dataset.schema import CaptureRow

REMEMBERED = 10_000
"""Captures from which on their digest is remembered."""


class Dataset(RawRows, FailureRows, DeviceRows):
    """The data set of a lab folder. A context manager.

    Every method raises :class:`~workbench.errors.DatasetError` when the disk is full, the folder read-only, the
    database locked for longer than ``busy_s``, or a file damaged. What a method has returned is on the disk.
    """

    @classmethod
    def open(cls, lab: Path, *, create: bool = False, busy_s: float = BUSY_S) -> Dataset:
        """The data set in a lab folder; with ``create`` an empty one is made where there is none.

        Raises:
            DatasetError: there is none, it has another schema version, or it cannot be read.
        """
        dataset = cls(lab, busy_s=busy_s)
        try:
            dataset.database.open(create=create)
        except BaseException:
            dataset.close()
            raise
        if create and not dataset.database.read_only:
            dataset.blobs.remove_stale()
        return dataset

    def close(self) -> None:
        """Let go of the files; closing twice is allowed."""
        self.database.engine.dispose()
        self.blobs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def digest(self) -> str:
        """SHA-256 over the sorted captures (RAW, parameters, device, repeat, output): same captures, same digest.

        Of many captures it is remembered until one comes or is set aside.
        """
        with self.database.reading() as connection:
            state, count = _state(connection)
            if DigestRow.__tablename__ in tables(connection):
                known = connection.scalar(select(DigestRow.digest).where(DigestRow.state == state))
                if known is not None:
                    return known
            digest, _ = digest_of(connection)
        if count >= REMEMBERED:
            with contextlib.suppress(DatasetError), self.database.writing(durable=False) as connection:
                connection.execute(CreateTable(cast(Table, DigestRow.__table__), if_not_exists=True))
                connection.execute(delete(DigestRow))
                put_row(connection, DigestRow, {"state": state, "digest": digest}, ["state"])
        return digest


def _state(connection: Connection) -> tuple[str, int]:
    """What changes wherever the captures in use do, from indices alone; and how many these are."""
    last = select(CaptureRow.id, CaptureRow.seal).order_by(CaptureRow.id.desc()).limit(1)
    count = connection.scalar(in_use_count()) or 0
    row = connection.execute(last).first()
    return f"{count} {row.id} {row.seal}" if row else "", count


def digest_of(connection: Connection) -> tuple[str, int]:
    """See :meth:`Dataset.digest`; and how many captures it is over."""
    columns = (CaptureRow.raw, CaptureRow.parameters, CaptureRow.device, CaptureRow.repeat, CaptureRow.output)
    query = select(*columns).where(CaptureRow.set_aside.is_(None)).order_by(*columns)
    digest, count = hashlib.sha256(), 0
    for row in connection.execute(query.execution_options(yield_per=5000)):
        digest.update(json.dumps(list(row)).encode() + b"\n")
        count += 1
    return digest.hexdigest(), count
