"""Frames that came to nothing, in a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select

from drivers.device import DeviceInfo, Failure
from workbench.console.versions import workbench_version
from workbench.lab.dataset.capture_rows import CaptureRows
from workbench.lab.dataset.records import CaptureRecord, FailureRecord
from workbench.lab.dataset.resuming import resumed
from workbench.lab.dataset.rows import add, grouped, now
from workbench.lab.dataset.schema import FailureRow, ParameterSetRow


class FailureRows(CaptureRows):
    """Failures of a data set."""

    @resumed
    def add_failures(self, device: DeviceInfo, failures: Sequence[Failure], *, purpose: str) -> list[FailureRecord]:
        """Keep failures, in one durable transaction, and give their records in the same order.

        One whose key (RAW, parameters, device, purpose) is there already is not kept again: the first reason stays.
        """
        if not failures:
            return []
        created, made_by = now(), workbench_version()
        with self.database.writing() as connection:
            kept = self.add_device(connection, device, created)
            codes = [{"hash": f.parameters.hash, "codes": f.parameters.by_name} for f in failures]
            add(connection, ParameterSetRow, codes)
            rows = [
                {
                    "raw": f.raw_hash,
                    "device": kept,
                    "parameters": f.parameters.hash,
                    "code": f.code,
                    "reason": f.reason,
                    "boot_id": f.boot_id,
                    "serial": f.serial or device.serial,
                    "purpose": purpose,
                    "created": created,
                    "workbench": made_by,
                }
                for f in failures
            ]
            add(connection, FailureRow, rows)
        keys = {(f.raw_hash, f.parameters.hash) for f in failures}
        with self.database.reading() as connection:
            found = self._failures_by_key(connection, self.kept_under(connection, device.identity), keys, purpose)
        return [found[f.raw_hash, f.parameters.hash] for f in failures]

    @resumed
    def failures(self, *, device_identity: str | None = None, purpose: str | None = None) -> list[FailureRecord]:
        """The failures in the order of arrival; each condition that is given must hold."""
        query = _failure_query().order_by(FailureRow.id)
        if purpose is not None:
            query = query.where(FailureRow.purpose == purpose)
        with self.database.reading() as connection:
            if device_identity is not None:
                query = query.where(FailureRow.device.in_(self.kept_under(connection, device_identity)))
            return [self._failure_record(connection, row) for row in connection.execute(query)]

    @resumed
    def outcomes(
        self, device_identity: str, keys: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], CaptureRecord | FailureRecord]:
        """What is there of a device by (RAW hash, parameters hash): captures, else the first failure."""
        wanted = set(keys)
        if not wanted:
            return {}
        with self.database.reading() as connection:
            kept = self.kept_under(connection, device_identity)
            found = self._captures_by_key(connection, kept, wanted)
            return found | self._failures_by_key(connection, kept, wanted - found.keys(), None)

    def failures_by_reason(self) -> dict[str, int]:
        """How many failures there are, by ``CODE: REASON``, most first."""
        count, by = func.count(), (FailureRow.code, FailureRow.reason)
        with self.database.reading() as connection:
            rows = connection.execute(select(*by, count).group_by(*by).order_by(count.desc(), *by))
            return {f"{row[0]}: {row[1]}": row[2] for row in rows}

    def forget_failures(self, device_identity: str | None = None) -> int:
        """Forget failures, of one device or all, so that the frames are asked for again; gives how many."""
        query = delete(FailureRow)
        with self.database.writing() as connection:
            if device_identity is not None:
                query = query.where(FailureRow.device.in_(self.kept_under(connection, device_identity)))
            return connection.execute(query).rowcount

    def _failures_by_key(
        self, connection: Connection, kept: list[str], wanted: Set[tuple[str, str]], purpose: str | None
    ) -> dict[tuple[str, str], FailureRecord]:
        found: dict[tuple[str, str], FailureRecord] = {}
        for raws, sets in grouped(wanted):
            query = _failure_query().where(
                FailureRow.raw.in_(raws), FailureRow.device.in_(kept), FailureRow.parameters.in_(sets)
            )
            if purpose is not None:
                query = query.where(FailureRow.purpose == purpose)
            for row in connection.execute(query.order_by(FailureRow.id)):
                if (key := (row.raw, row.parameters)) in wanted:
                    found.setdefault(key, self._failure_record(connection, row))
        return found

    def _failure_record(self, connection: Connection, row: Row[Any]) -> FailureRecord:
        return FailureRecord(
            id=row.id,
            raw_hash=row.raw,
            parameters_hash=row.parameters,
            codes=row.codes,
            device_identity=self.identity(connection, row.device),
            code=row.code,
            reason=row.reason,
            purpose=row.purpose,
            created=row.created,
        )


def _failure_query() -> Any:
    columns = (c for c in FailureRow.__table__.columns if c.name not in ("boot_id", "serial", "workbench", "seal"))
    return select(*columns, ParameterSetRow.codes).join(ParameterSetRow, ParameterSetRow.hash == FailureRow.parameters)
