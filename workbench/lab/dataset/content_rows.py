"""What a data set has of captures, as one digest and a few numbers."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import cast

from sqlalchemy import Connection, Table, delete, func, select
from sqlalchemy.schema import CreateTable

from workbench.errors import DatasetError
from workbench.lab.dataset.capture_rows import CaptureRows
from workbench.lab.dataset.dialects import put_row, tables
from workbench.lab.dataset.passing import ContentRow
from workbench.lab.dataset.schema import CaptureRow

REMEMBERED = 10_000
"""Captures in use from which on what there is of them is remembered."""


@dataclass(frozen=True)
class Content:
    """What there is of captures.

    Attributes:
        digest: SHA-256 over the sorted captures in use (RAW, parameters, device, repeat, output).
        counts: how many are in use, by device and purpose.
        set_aside: how many are set aside, by reason.
    """

    digest: str
    counts: list[tuple[str, str, int]]
    set_aside: dict[str, int]

    @property
    def captures(self) -> int:
        """How many are in use."""
        return sum(count for *_, count in self.counts)


class ContentRows(CaptureRows):
    """What there is of captures in a data set."""

    def digest(self) -> str:
        """SHA-256 over the sorted captures (RAW, parameters, device, repeat, output): same captures, same digest."""
        return self.content().digest

    def content(self) -> Content:
        """What there is of captures; of many it is remembered until one comes or is set aside."""
        with self.database.reading() as connection:
            state, count = _state(connection)
            content = _known(connection, state)
            new = content is None
            if content is None:
                content = content_of(connection)
            counts: Counter[tuple[str, str]] = Counter()
            for device, purpose, number in content.counts:
                counts[self.identity(connection, device), purpose] += number
        if new and count >= REMEMBERED:
            with contextlib.suppress(DatasetError), self.database.writing(durable=False) as connection:
                connection.execute(CreateTable(cast(Table, ContentRow.__table__), if_not_exists=True))
                connection.execute(delete(ContentRow))
                put_row(connection, ContentRow, {"state": state, "content": asdict(content)}, ["state"])
        return Content(content.digest, [(*key, number) for key, number in sorted(counts.items())], content.set_aside)


def content_of(connection: Connection) -> Content:
    """See :meth:`ContentRows.content`; devices go by the identities of the rows."""
    columns = (CaptureRow.raw, CaptureRow.parameters, CaptureRow.device, CaptureRow.repeat, CaptureRow.output)
    in_use = CaptureRow.set_aside.is_(None)
    query = select(*columns, CaptureRow.purpose).where(in_use).order_by(*columns)
    digest, counts = hashlib.sha256(), Counter[tuple[str, str]]()
    rows = connection.execute(query.execution_options(yield_per=5000))
    for raw, parameters, device, repeat, output, purpose in rows:
        digest.update(json.dumps((raw, parameters, device, repeat, output)).encode() + b"\n")
        counts[device, purpose] += 1
    aside: dict[str, int] = {}
    # From an index alone; rows are read only where some are set aside.
    if connection.scalar(select(func.count()).select_from(CaptureRow)) != counts.total():
        reasons = select(CaptureRow.set_aside, func.count()).where(~in_use).group_by(CaptureRow.set_aside)
        aside = {str(reason): count for reason, count in connection.execute(reasons)}
    return Content(digest.hexdigest(), [(*key, count) for key, count in counts.items()], aside)


def _state(connection: Connection) -> tuple[str, int]:
    """What changes wherever the captures do, from indices alone; and how many are in use.

    Rows are added, and set aside once: between two states of the same last row, fewer in use are the only change.
    """
    count = connection.scalar(select(func.count()).where(CaptureRow.set_aside.is_(None))) or 0
    row = connection.execute(select(CaptureRow.id, CaptureRow.seal).order_by(CaptureRow.id.desc()).limit(1)).first()
    return f"{count} {row.id} {row.seal}" if row else "", count


def _known(connection: Connection, state: str) -> Content | None:
    if ContentRow.__tablename__ not in tables(connection):
        return None
    known = connection.scalar(select(ContentRow.content).where(ContentRow.state == state))
    return known and Content(**known)
