"""Who is at which capture: so that any number of processes, on any hosts, share the work on one data set.

A claim is a lease: it ends by the database's clock where its worker does not renew it. A worker of this host that is no
more is noticed at once. Nothing rests on claims: a capture that two made at once is kept once, the first.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Connection, Table, bindparam, delete, func, select, update
from sqlalchemy.schema import CreateTable

from drivers.device import DEFAULT_DEADLINE_S, DeviceInfo
from workbench.errors import DatasetError
from workbench.lab.dataset.database import Database
from workbench.lab.dataset.dialects import clock, insert, put_row, tables
from workbench.lab.dataset.passing import ClaimRow, Passing, WorkerRow
from workbench.lab.dataset.resuming import resumed

LEASE_S = 2 * DEFAULT_DEADLINE_S + 10
"""How long a claim holds without a sign of life, in seconds; a device answers within its deadline."""
ALONE_S = 60.0
LATELY_S = 24 * 3600.0

Key = tuple[str, str]


@dataclass(frozen=True)
class Worker:
    """A process that holds claims, or lately held some.

    Attributes:
        host, url, device, serial, purpose: where it is, and with what device it does what.
        claims: how many it holds.
        ended_s: seconds since its last sign of life counts no more; negative while it counts.
    """

    host: str
    url: str
    device: str
    serial: str
    purpose: str
    claims: int
    ended_s: float


class Claims:
    """The claims of one worker: a device of this process, for one purpose.

    Attributes:
        alone: whether nobody else was at work at the last :meth:`take`, nor in the minute before; so before the first.

    Args:
        database: of the data set.
        device, url: what makes the captures.
        purpose: of the captures.
        lease_s: seconds.
    """

    def __init__(
        self, database: Database, device: DeviceInfo, url: str, purpose: str, lease_s: float = LEASE_S
    ) -> None:
        self._database = database
        self._device = device.identity
        self._lease_s = lease_s
        # What follows the ? may name key folders, which are nobody's business but the lab's.
        self._row = {
            "id": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "url": url.partition("?")[0],
            "device": device.identity,
            "serial": device.serial,
            "purpose": purpose,
        }
        self._done: list[Key] = []
        self._let_go = delete(ClaimRow).where(
            ClaimRow.raw == bindparam("of_raw"),
            ClaimRow.device == device.identity,
            ClaimRow.parameters == bindparam("of_set"),
            ClaimRow.worker == self._row["id"],
        )
        self._made = False
        self._renewed = 0.0
        self.alone = True

    @resumed
    def take(self, keys: Sequence[Key], *, whoever_has_them: bool = False) -> set[Key]:
        """Claim captures by (RAW hash, parameters hash); gives those that nobody else is at.

        Args:
            keys: of captures; at most a few hundred.
            whoever_has_them: also those that another is at.

        Raises:
            DatasetError: the data set cannot be written.
        """
        with self._database.writing(durable=False) as connection:
            now = clock(connection)
            if not self._made:
                for table in Passing.metadata.sorted_tables:
                    connection.execute(CreateTable(table, if_not_exists=True))
                connection.execute(delete(WorkerRow).where(WorkerRow.until < now - LATELY_S))
            self._renew(connection, now)
            others = select(func.count()).where(WorkerRow.until > now - ALONE_S, WorkerRow.id != self._row["id"])
            self.alone = connection.scalar(others) == 0
            taken = self._insert(connection, keys, now, whoever_has_them)
            if len(taken) < len(keys) and self._bury(connection, now):
                taken |= self._insert(connection, [key for key in keys if key not in taken], now, False)
        self._made = True
        return taken

    @resumed
    def held(self) -> set[Key]:
        """The captures of the device that others are at, as far as they may be alive.

        Raises:
            DatasetError: the data set cannot be read.
        """
        query = (
            select(ClaimRow.raw, ClaimRow.parameters, WorkerRow.host, WorkerRow.pid)
            .join(WorkerRow, WorkerRow.id == ClaimRow.worker)
            .where(ClaimRow.device == self._device, WorkerRow.id != self._row["id"])
        )
        with self._database.reading() as connection:
            rows = connection.execute(query.where(WorkerRow.until > clock(connection))).all()
        dead = {pid for host, pid in {(row.host, row.pid) for row in rows} if self._is_dead(host, pid)}
        return {(row.raw, row.parameters) for row in rows if not (row.host == self._row["host"] and row.pid in dead)}

    def done(self, keys: Iterable[Key]) -> None:
        """These need no claim any more; they are let go of with the next that is asked of the database."""
        self._done += keys

    @resumed
    def renew(self, *, let_go: bool = False) -> None:
        """A sign of life, where a third of the lease is over: keeps the claims, and lets go of those that are done.

        With ``let_go`` these are let go of now.

        Raises:
            DatasetError: the data set cannot be written.
        """
        due = time.monotonic() - self._renewed > self._lease_s / 3 or (let_go and self._done)
        if self._made and due:
            with self._database.writing(durable=False) as connection:
                self._renew(connection, clock(connection))

    def release(self) -> None:
        """Let go of all; where the data set cannot be written the lease ends by itself."""
        if self._made:
            with contextlib.suppress(DatasetError), self._database.writing(durable=False) as connection:
                now = clock(connection)
                connection.execute(update(WorkerRow).where(WorkerRow.id == self._row["id"]).values(until=now))
                connection.execute(delete(ClaimRow).where(ClaimRow.worker == self._row["id"]))
        self._made = False
        self._done.clear()

    def _renew(self, connection: Connection, now: float) -> None:
        put_row(connection, WorkerRow, {**self._row, "until": now + self._lease_s}, ["id"])
        if self._done:
            gone = [{"of_raw": raw, "of_set": parameters} for raw, parameters in self._done]
            connection.execute(self._let_go, gone)
            self._done.clear()
        self._renewed = time.monotonic()

    def _insert(self, connection: Connection, keys: Sequence[Key], now: float, whoever: bool) -> set[Key]:
        if not keys:
            return set()
        me = self._row["id"]
        rows = [{"raw": r, "device": self._device, "parameters": p, "worker": me} for r, p in sorted(keys)]
        living = select(WorkerRow.id).where(WorkerRow.until > now, WorkerRow.id != me)
        statement = (
            insert(connection, ClaimRow)
            .on_conflict_do_update(
                index_elements=["raw", "device", "parameters"],
                set_={"worker": me},
                where=None if whoever else ClaimRow.worker.not_in(living),
            )
            .returning(ClaimRow.raw, ClaimRow.parameters)
        )
        return {(raw, parameters) for raw, parameters in connection.execute(statement, rows)}

    def _bury(self, connection: Connection, now: float) -> bool:
        """End the leases of this host's processes that are no more; whether there were any."""
        query = select(WorkerRow.id, WorkerRow.host, WorkerRow.pid).where(WorkerRow.until > now)
        dead = [row.id for row in connection.execute(query) if self._is_dead(row.host, row.pid)]
        if dead:
            connection.execute(update(WorkerRow).where(WorkerRow.id.in_(dead)).values(until=now))
        return bool(dead)

    def _is_dead(self, host: str, pid: int) -> bool:
        """Whether it is known that a process is no more; of another host's it is not."""
        if os.name != "posix" or host != self._row["host"]:
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # another user's
            return False
        return False


def workers(database: Database) -> list[Worker]:
    """Who holds claims, or held some within a day, by host and URL.

    Raises:
        DatasetError: the data set cannot be read.
    """
    with database.reading() as connection:
        if WorkerRow.__tablename__ not in tables(connection):
            return []
        now = clock(connection)
        counts = connection.execute(select(ClaimRow.worker, func.count()).group_by(ClaimRow.worker))
        held = {row[0]: row[1] for row in counts}
        query = select(cast(Table, WorkerRow.__table__)).where(WorkerRow.until > now - LATELY_S)
        return [
            Worker(r.host, r.url, r.device, r.serial, r.purpose, held.get(r.id, 0), now - r.until)
            for r in connection.execute(query.order_by(WorkerRow.host, WorkerRow.url, WorkerRow.until))
        ]
