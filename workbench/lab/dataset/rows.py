"""What the parts of a data set share: its files, and how rows are added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.exc import NoResultFound

from drivers.device import DeviceInfo
from drivers.errors import ParameterError
from drivers.parameters import ParameterSpace
from workbench.lab.dataset.dialects import insert
from workbench.lab.dataset.explained import BUSY_S
from workbench.lab.dataset.schema import Base, DeviceRow, Sealed
from workbench.lab.dataset.seals import sealed
from workbench.lab.dataset.storage import blobs_of, database_of

# Keys in one query: SQLite allows 32,766 values, and long lists are slow to compile.
CHUNK = 256
# Pairs of RAWs and sets in one query.
PAIRS = 4096


class Rows:
    """The methods of one kind of rows; :class:`~workbench.lab.dataset.store.Dataset` is all of them together.

    Attributes:
        lab: the lab folder; ``database`` and ``blobs``: in it.
    """

    def __init__(self, lab: Path, *, busy_s: float = BUSY_S) -> None:
        self.lab = Path(lab)
        self.database = database_of(self.lab, busy_s)
        self.blobs = blobs_of(self.lab, busy_s)
        self._identities: dict[str, str] = {}

    def identity(self, connection: Connection, recorded: str) -> str:
        """What a device goes by now that a row or a record names by its identity, be it one of former reckoning."""
        if recorded not in self._identities:
            query = select(DeviceRow.space).where(DeviceRow.identity == recorded)
            try:
                space = ParameterSpace.from_dict(connection.scalars(query).one())
            except (NoResultFound, ParameterError):  # that it is damaged is told where its space is asked for
                return recorded
            self._identities[recorded] = f"{recorded.rpartition('/')[0]}/{space.hash[:12]}"
        return self._identities[recorded]

    def kept_under(self, connection: Connection, identity: str) -> list[str]:
        """The identities under which rows keep the device, the oldest first; that given where there are none."""
        rows = list(connection.scalars(select(DeviceRow.identity).order_by(DeviceRow.created)))
        now = self.identity(connection, identity)
        return [row for row in rows if self.identity(connection, row) == now] or [identity]

    def add_device(self, connection: Connection, device: DeviceInfo, created: str) -> str:
        """The identity under which rows keep the device that captures or failures are of; added where it is new."""
        (kept, *_) = self.kept_under(connection, device.identity)
        if connection.scalar(select(DeviceRow.identity).where(DeviceRow.identity == kept)) is None:
            own = {
                "identity": device.identity,
                "model": device.model,
                "firmware": device.firmware,
                "space": device.space.to_dict(),
                "created": created,
            }
            add(connection, DeviceRow, [own])
        return kept


def grouped(keys: Iterable[tuple[str, str]]) -> Iterator[tuple[list[str], list[str]]]:
    """Keys (RAW hash, parameters hash) as RAWs and sets for one query each, which may name more pairs than were given.

    A query of some RAWs, a device and some sets is as many look-ups in the index of the key as there are pairs of both;
    a list of pairs makes SQLite go through all rows of the device, and one more query costs as much as many look-ups.
    """
    by_raw: dict[str, dict[str, None]] = {}
    for raw, parameters in keys:
        by_raw.setdefault(raw, {})[parameters] = None
    raws: list[str] = []
    sets: dict[str, None] = {}
    for raw, unique in by_raw.items():
        for start in range(0, len(unique), CHUNK):
            part = dict.fromkeys(list(unique)[start : start + CHUNK])
            together = sets | part
            if raws and (len(together) > CHUNK or (len(raws) + 1) * len(together) > PAIRS):
                yield raws, list(sets)
                raws, sets, together = [], {}, part
            raws, sets = [*raws, raw], together
    if raws:
        yield raws, list(sets)


def add(
    connection: Connection, table: type[Base], rows: list[dict[str, Any]], returning: Sequence[Any] = ()
) -> list[Row[Any]]:
    """Add rows, sealed where the table is; those that are there already stay as they are.

    Gives these columns of the rows that were not there, in any order.
    """
    if not rows:
        return []
    if issubclass(table, Sealed):
        columns = table.__table__.columns
        rows = [sealed(columns, row) for row in rows]
    statement = insert(connection, table).on_conflict_do_nothing()
    if not returning:
        connection.execute(statement, rows)
        return []
    return list(connection.execute(statement.returning(*returning), rows))


def now() -> str:
    """UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
