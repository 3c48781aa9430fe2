"""Captures in a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Row, func, select, update

from drivers.device import Capture, DeviceInfo
from drivers.splits import Split
from workbench.console.versions import workbench_version
from workbench.errors import DatasetError
from workbench.lab.dataset.blobs import BlobKey
from workbench.lab.dataset.explained import explained
from workbench.lab.dataset.records import MEDIA_TYPES, SUFFIXES, CaptureRecord
from workbench.lab.dataset.resuming import resumed
from workbench.lab.dataset.rows import PAIRS, Rows, add, grouped, now
from workbench.lab.dataset.schema import Blob, CaptureRow, ParameterSetRow, Raw, Scene
from workbench.lab.dataset.seals import seal_of


class CaptureRows(Rows):
    """Captures of a data set."""

    @resumed
    def add_captures(
        self, device: DeviceInfo, captures: Sequence[Capture], *, purpose: str, repeat: int = 0
    ) -> list[CaptureRecord]:
        """Keep captures, in one durable transaction, and give their records in the same order.

        A capture whose key (RAW, parameters, device, repeat) is there already is not kept again: the first stays.

        Raises:
            DatasetError: a RAW is not in the data set, or nothing could be written.
        """
        if not captures:
            return []
        keys = [(c.raw_hash, c.parameters.hash) for c in captures]
        found = self.find(device.identity, keys, repeat=repeat)
        new: dict[tuple[str, str], Capture] = {}
        for key, capture in zip(keys, captures, strict=True):
            if key not in found:
                new.setdefault(key, capture)
        if new:
            found |= self._insert(device, new, purpose, repeat)
        if others := new.keys() - found.keys():  # another process kept them meanwhile
            found |= self.find(device.identity, others, repeat=repeat)
        return [found[key] for key in keys]

    @resumed
    def find(
        self, device_identity: str, keys: Iterable[tuple[str, str]], *, repeat: int = 0
    ) -> dict[tuple[str, str], CaptureRecord]:
        """The captures of a device that are there, by (RAW hash, parameters hash)."""
        with self.database.reading() as connection:
            return self._captures_by_key(connection, self.kept_under(connection, device_identity), keys, repeat)

    @resumed
    def captures(
        self, *, device_identity: str | None = None, purpose: str | None = None, split: Split | None = None
    ) -> list[CaptureRecord]:
        """The captures in the order of arrival; each condition that is given must hold."""
        query = self._capture_query().order_by(CaptureRow.id)
        if purpose is not None:
            query = query.where(CaptureRow.purpose == purpose)
        if split is not None:
            query = query.join(Raw, Raw.hash == CaptureRow.raw).join(Scene).where(Scene.split == split)
        with self.database.reading() as connection:
            if device_identity is not None:
                query = query.where(CaptureRow.device.in_(self.kept_under(connection, device_identity)))
            return [self._capture_record(connection, row) for row in connection.execute(query)]

    def each_capture(self) -> Iterator[CaptureRecord]:
        """The captures in the order of arrival, a page of them in memory at a time."""
        query, last = self._capture_query().order_by(CaptureRow.id).limit(PAIRS), 0
        while True:
            with self.database.reading() as connection:
                rows = connection.execute(query.where(CaptureRow.id > last)).all()
                page = [self._capture_record(connection, row) for row in rows]
            yield from page
            if len(page) < PAIRS:
                return
            last = page[-1].id

    @resumed
    def statistics(self, device_identity: str) -> dict[int, dict[str, float]]:
        """The statistics that a device told with its captures, by the capture's number."""
        with self.database.reading() as connection:
            query = (
                select(CaptureRow.id, CaptureRow.read_back, ParameterSetRow.codes)
                .join(ParameterSetRow, ParameterSetRow.hash == CaptureRow.parameters)
                .where(CaptureRow.device.in_(self.kept_under(connection, device_identity)))
            )
            rows = connection.execute(query).all()
        return {number: {k: v for k, v in told.items() if k not in codes} for number, told, codes in rows}

    @resumed
    def media_types(self, device_identity: str, *, latest: int) -> set[Literal["image/jpeg", "image/png"]]:
        """The kinds of file among the latest captures of a device; none of a device that has no captures."""
        with self.database.reading() as connection:
            outputs = (
                select(CaptureRow.output)
                .where(CaptureRow.device.in_(self.kept_under(connection, device_identity)))
                .where(CaptureRow.set_aside.is_(None))
                .order_by(CaptureRow.id.desc())
                .limit(latest)
                .subquery()
            )
            query = select(Blob.suffix).join(outputs, outputs.c.output == Blob.hash).distinct()
            return {MEDIA_TYPES[suffix] for suffix in connection.scalars(query)}

    def set_aside(self, ids: Sequence[int], reason: str) -> int:
        """Set captures aside, with a reason: they stay for the record, but no query gives them any more.

        Gives how many were set aside now; those that are already keep their reason. Their keys can be captured again.
        """
        count, columns = 0, CaptureRow.__table__.columns
        with self.database.writing() as connection:
            for number in ids:
                query = select(*columns).where(CaptureRow.id == number, CaptureRow.set_aside.is_(None))
                row = connection.execute(query).mappings().first()
                if row is None:
                    continue
                change = {"set_aside": reason, "set_aside_at": now()}
                change["seal"] = seal_of(columns, {**row, **change})
                connection.execute(update(CaptureRow).where(CaptureRow.id == number).values(change))
                count += 1
        return count

    def _captures_by_key(
        self, connection: Connection, kept: list[str], keys: Iterable[tuple[str, str]], repeat: int = 0
    ) -> dict[tuple[str, str], CaptureRecord]:
        found, wanted = {}, set(keys)
        for raws, sets in grouped(wanted):
            query = self._capture_query().where(
                CaptureRow.raw.in_(raws),
                CaptureRow.device.in_(kept),
                CaptureRow.parameters.in_(sets),
                CaptureRow.repeat == repeat,
            )
            for row in connection.execute(query):
                if (key := (row.raw, row.parameters)) in wanted:
                    found[key] = self._capture_record(connection, row)
        return found

    def _insert(
        self, device: DeviceInfo, captures: dict[tuple[str, str], Capture], purpose: str, repeat: int
    ) -> dict[tuple[str, str], CaptureRecord]:
        """Keep captures; gives the records of those whose keys were not there."""
        self.database.check_writable()
        blobs: dict[str, tuple[BlobKey, bytes]] = {}
        for c in captures.values():
            data = c.rgb.encoded
            blobs[c.rgb.hash] = BlobKey(c.rgb.hash, SUFFIXES[c.rgb.media_type], len(data)), data
        with explained(self.blobs.root):
            self.blobs.write(blobs.values())
        created, made_by = now(), workbench_version()
        rows: list[dict[str, Any]] = [
            {
                "raw": raw_hash,
                "parameters": parameters_hash,
                "repeat": repeat,
                "output": c.rgb.hash,
                "read_back": {**c.parameters_in_force, **c.statistics},
                "serial": c.serial or device.serial,
                "boot_id": c.boot_id,
                "frame": c.frame,
                "device_s": c.device_s,
                "total_s": c.total_s,
                "purpose": purpose,
                "created": created,
                "workbench": made_by,
            }
            for (raw_hash, parameters_hash), c in captures.items()
        ]
        codes = [{"hash": h, "codes": c.parameters.by_name} for (_, h), c in captures.items()]
        with self.database.writing() as connection:
            raws = {row["raw"] for row in rows}
            known = connection.scalar(select(func.count()).select_from(Raw).where(Raw.hash.in_(raws)))
            if known != len(raws):
                raise DatasetError(f"{self.lab}: a capture names a RAW that is not in the data set; add the RAW first")
            kept = self.add_device(connection, device, created)
            add(connection, Blob, [vars(key) for key, _ in blobs.values()])
            add(connection, ParameterSetRow, codes)
            added = add(
                connection,
                CaptureRow,
                [{**row, "device": kept} for row in rows],
                returning=_told_columns(),
            )
            identity = self.identity(connection, kept)
        made = {}
        for row in added:
            c = captures[key := (row.raw, row.parameters)]
            made[key] = self._record(row, identity, c.parameters.by_name, SUFFIXES[c.rgb.media_type])
        return made

    def _capture_query(self) -> Any:
        return (
            select(*_told_columns(), ParameterSetRow.codes, Blob.suffix)
            .join(ParameterSetRow, ParameterSetRow.hash == CaptureRow.parameters)
            .join(Blob, Blob.hash == CaptureRow.output)
            .where(CaptureRow.set_aside.is_(None))
        )

    def _capture_record(self, connection: Connection, row: Row[Any]) -> CaptureRecord:
        return self._record(row, self.identity(connection, row.device), row.codes, row.suffix)

    def _record(self, row: Row[Any], identity: str, codes: dict[str, int], suffix: str) -> CaptureRecord:
        return CaptureRecord(
            id=row.id,
            raw_hash=row.raw,
            parameters_hash=row.parameters,
            codes=codes,
            device_identity=identity,
            boot_id=row.boot_id,
            frame=row.frame,
            repeat=row.repeat,
            purpose=row.purpose,
            output_hash=row.output,
            media_type=MEDIA_TYPES[suffix],
            device_s=row.device_s,
            total_s=row.total_s,
            created=row.created,
            _blobs=self.blobs,
        )


def _told_columns() -> list[Any]:
    """The columns of a capture that its record tells."""
    unread = ("read_back", "serial", "workbench", "set_aside", "set_aside_at", "seal")
    return [c for c in CaptureRow.__table__.columns if c.name not in unread]
