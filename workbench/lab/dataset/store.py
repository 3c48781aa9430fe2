"""The data set: RAWs, references and captures of a lab folder. Files first, then the rows that name them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from sqlalchemy import Connection, Row, delete, func, select, tuple_, update
from sqlalchemy.dialects.sqlite import insert

from drivers.device import Capture, DeviceInfo, Failure
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import ParameterSpace
from drivers.raw.raw_files import npz_bytes
from drivers.splits import Split
from workbench.errors import DatasetError
from workbench.lab.dataset.blobs import BlobKey, BlobStore
from workbench.lab.dataset.database import BUSY_S, Database, explained
from workbench.lab.dataset.records import (
    MEDIA_TYPES,
    SUFFIXES,
    CaptureRecord,
    DeviceUse,
    FailureRecord,
    NewRaw,
    RawRecord,
)
from workbench.lab.dataset.schema import (
    Base,
    Blob,
    CaptureRow,
    DeviceRow,
    DeviceUseRow,
    FailureRow,
    ParameterSetRow,
    Raw,
    Reference,
    Scene,
    Sealed,
    SourceFile,
)
from workbench.lab.dataset.seals import seal_of, sealed
from workbench.lab.dataset.source_files import known_files, remembered

# Keys in one query: SQLite allows 32,766 values, and long lists are slow to compile.
CHUNK = 256
_USE_FIELDS = {field.name for field in fields(DeviceUse)}


class Dataset:
    """The data set of a lab folder. A context manager.

    Every method raises :class:`~workbench.errors.DatasetError` when the disk is full, the folder read-only, the
    database locked for longer than ``busy_s``, or a file damaged. What a method has returned is on the disk.
    """

    def __init__(self, lab: Path, *, busy_s: float = BUSY_S) -> None:
        self.lab = Path(lab)
        self.database = Database(self.lab / "dataset.sqlite", busy_s)
        self.blobs = BlobStore(self.lab / "blobs")

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

    # RAWs

    def add_raw(
        self, raw: RawFrame, *, scene: str, split: Split, name: str, reference: np.ndarray | None = None
    ) -> RawRecord:
        """Keep one RAW; see :meth:`add_raws`.

        Raises:
            DatasetError: the RAW is there as another scene, the scene is in another split, or the reference differs.
        """
        return self.add_raws([NewRaw(raw, scene, split, name, reference)])[0]

    def add_raws(self, new: Sequence[NewRaw]) -> list[RawRecord]:
        """Keep RAWs, in one durable transaction, and give their records in the same order.

        One that is there already is not written again; its first name stays, and a reference may be added to it later.

        Raises:
            DatasetError: a RAW is there as another scene, its scene is in another split, or its reference differs.
        """
        known = self._raws_by_hash({item.raw.hash for item in new})
        missing: dict[str, NewRaw] = {}
        illustrate: dict[str, np.ndarray] = {}
        for item in new:
            digest = item.raw.hash
            if digest in known:
                _check_same_scene(item, known[digest].scene, known[digest].split)
            else:
                first = missing.setdefault(digest, item)
                _check_same_scene(item, first.scene, first.split)
            if self._new_reference(item, known.get(digest), illustrate.get(digest)):
                assert item.reference is not None
                illustrate[digest] = item.reference
        if missing or illustrate or any(item.files for item in new):
            self._insert_raws(list(missing.values()), illustrate, new)
            known = self._raws_by_hash({item.raw.hash for item in new})
        return [known[item.raw.hash] for item in new]

    def raws(self, split: Split | None = None) -> list[RawRecord]:
        """The RAWs, of one split or all, ordered by name, then hash."""
        query = _raw_query().order_by(Raw.name, Raw.hash)
        if split is not None:
            query = query.where(Scene.split == split)
        with self.database.reading() as connection:
            return [self._raw_record(row) for row in connection.execute(query)]

    def raws_of_file(self, path: Path) -> list[RawRecord]:
        """The RAWs that were read from a file (or had it as reference), if its content is what it was then."""
        with self.database.reading() as connection:
            hashes = known_files(connection, path)
            if not hashes:
                return []
            rows = connection.execute(_raw_query().where(Raw.hash.in_(hashes)))
            return [self._raw_record(row) for row in rows]

    def source_files(self) -> list[tuple[str, str, int, int]]:
        """Every file that a RAW or its reference was read from: RAW hash, absolute path, size, time of change in ns."""
        columns = (SourceFile.raw, SourceFile.path, SourceFile.size, SourceFile.modified_ns)
        with self.database.reading() as connection:
            return [(row[0], row[1], row[2], row[3]) for row in connection.execute(select(*columns))]

    # Captures

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
            self._insert(device, new, purpose, repeat)
            found |= self.find(device.identity, new, repeat=repeat)
        return [found[key] for key in keys]

    def find(
        self, device_identity: str, keys: Iterable[tuple[str, str]], *, repeat: int = 0
    ) -> dict[tuple[str, str], CaptureRecord]:
        """The captures of a device that are there, by (RAW hash, parameters hash)."""
        found = {}
        with self.database.reading() as connection:
            for part in _chunks(keys):
                query = self._capture_query().where(
                    CaptureRow.device == device_identity,
                    CaptureRow.repeat == repeat,
                    tuple_(CaptureRow.raw, CaptureRow.parameters).in_(part),
                )
                for row in connection.execute(query):
                    record = self._capture_record(row)
                    found[record.raw_hash, record.parameters_hash] = record
        return found

    def captures(
        self, *, device_identity: str | None = None, purpose: str | None = None, split: Split | None = None
    ) -> list[CaptureRecord]:
        """The captures in the order of arrival; each condition that is given must hold."""
        query = self._capture_query().order_by(CaptureRow.id)
        if device_identity is not None:
            query = query.where(CaptureRow.device == device_identity)
        if purpose is not None:
            query = query.where(CaptureRow.purpose == purpose)
        if split is not None:
            query = query.join(Raw, Raw.hash == CaptureRow.raw).join(Scene).where(Scene.split == split)
        with self.database.reading() as connection:
            return [self._capture_record(row) for row in connection.execute(query)]

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
                change = {"set_aside": reason, "set_aside_at": _now()}
                change["seal"] = seal_of(columns, {**row, **change})
                connection.execute(update(CaptureRow).where(CaptureRow.id == number).values(change))
                count += 1
        return count

    def reasons_set_aside(self) -> dict[str, int]:
        """How many captures are set aside, by reason."""
        query = select(CaptureRow.set_aside, func.count()).where(CaptureRow.set_aside.is_not(None))
        with self.database.reading() as connection:
            rows = connection.execute(query.group_by(CaptureRow.set_aside)).all()
        return {str(reason): count for reason, count in rows}

    # Frames that came to nothing

    def add_failures(self, device: DeviceInfo, failures: Sequence[Failure], *, purpose: str) -> list[FailureRecord]:
        """Keep failures, in one durable transaction, and give their records in the same order.

        One whose key (RAW, parameters, device, purpose) is there already is not kept again: the first reason stays.
        """
        if not failures:
            return []
        created, made_by = _now(), _workbench_version()
        with self.database.writing() as connection:
            self._add_device(connection, device, created)
            codes = [{"hash": f.parameters.hash, "codes": f.parameters.by_name} for f in failures]
            _add(connection, ParameterSetRow, codes)
            rows = [
                {
                    "raw": f.raw_hash,
                    "device": device.identity,
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
            _add(connection, FailureRow, rows)
        found = self._failures_by_key(device.identity, {(f.raw_hash, f.parameters.hash) for f in failures}, purpose)
        return [found[f.raw_hash, f.parameters.hash] for f in failures]

    def failures(self, *, device_identity: str | None = None, purpose: str | None = None) -> list[FailureRecord]:
        """The failures in the order of arrival; each condition that is given must hold."""
        query = _failure_query().order_by(FailureRow.id)
        if device_identity is not None:
            query = query.where(FailureRow.device == device_identity)
        if purpose is not None:
            query = query.where(FailureRow.purpose == purpose)
        with self.database.reading() as connection:
            return [_failure_record(row) for row in connection.execute(query)]

    def find_failures(
        self, device_identity: str, keys: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], FailureRecord]:
        """The failures of a device that are there, by (RAW hash, parameters hash); of several the first."""
        return self._failures_by_key(device_identity, keys, None)

    def forget_failures(self, device_identity: str | None = None) -> int:
        """Forget failures, of one device or all, so that the frames are asked for again; gives how many."""
        query = delete(FailureRow)
        if device_identity is not None:
            query = query.where(FailureRow.device == device_identity)
        with self.database.writing() as connection:
            return connection.execute(query).rowcount

    def _failures_by_key(
        self, device_identity: str, keys: Iterable[tuple[str, str]], purpose: str | None
    ) -> dict[tuple[str, str], FailureRecord]:
        found: dict[tuple[str, str], FailureRecord] = {}
        with self.database.reading() as connection:
            for part in _chunks(keys):
                query = _failure_query().where(
                    FailureRow.device == device_identity, tuple_(FailureRow.raw, FailureRow.parameters).in_(part)
                )
                if purpose is not None:
                    query = query.where(FailureRow.purpose == purpose)
                for row in connection.execute(query.order_by(FailureRow.id)):
                    found.setdefault((row.raw, row.parameters), _failure_record(row))
        return found

    # Devices

    def add_device_use(self, use: DeviceUse) -> None:
        """Keep what a run of a command asked of a device, and what was mended on the way."""
        values = {"device": use.device_identity, **{k: v for k, v in vars(use).items() if k != "device_identity"}}
        # What follows the ? may name key folders, which are nobody's business but the lab's.
        values |= {"url": use.url.partition("?")[0], "workbench": _workbench_version()}
        with self.database.writing() as connection:
            connection.execute(insert(DeviceUseRow).values(values))

    def device_uses(self) -> list[DeviceUse]:
        """What was asked of devices, in the order of arrival."""
        with self.database.reading() as connection:
            rows = connection.execute(select(DeviceUseRow.__table__).order_by(DeviceUseRow.id)).mappings()
            return [
                DeviceUse(**{k: v for k, v in {**row, "device_identity": row["device"]}.items() if k in _USE_FIELDS})
                for row in rows
            ]

    def space(self, device_identity: str) -> ParameterSpace:
        """The parameter space of a device that captures were made with.

        Raises:
            DatasetError: no such device in the data set.
        """
        with self.database.reading() as connection:
            space = connection.scalar(select(DeviceRow.space).where(DeviceRow.identity == device_identity))
        if space is None:
            known = ", ".join(d["identity"] for d in self.devices()) or "none"
            raise DatasetError(f"{self.lab}: no captures of device {device_identity}; it has those of: {known}")
        return ParameterSpace.from_dict(space)

    def devices(self) -> list[dict[str, Any]]:
        """The devices: ``identity``, ``model``, ``firmware``, ``space`` (its name), ``captures`` (how many)."""
        query = (
            select(
                DeviceRow.identity,
                DeviceRow.model,
                DeviceRow.firmware,
                DeviceRow.space["name"].as_string().label("space"),
                func.count(CaptureRow.id).label("captures"),
            )
            .outerjoin(CaptureRow, (CaptureRow.device == DeviceRow.identity) & CaptureRow.set_aside.is_(None))
            .group_by(DeviceRow.identity)
            .order_by(DeviceRow.identity)
        )
        with self.database.reading() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def digest(self) -> str:
        """SHA-256 over the sorted captures (RAW, parameters, device, repeat, output): same captures, same digest."""
        columns = (CaptureRow.raw, CaptureRow.parameters, CaptureRow.device, CaptureRow.repeat, CaptureRow.output)
        digest = hashlib.sha256()
        with self.database.reading() as connection:
            for row in connection.execute(select(*columns).where(CaptureRow.set_aside.is_(None)).order_by(*columns)):
                digest.update(json.dumps(list(row)).encode() + b"\n")
        return digest.hexdigest()

    # Inside

    def _insert(self, device: DeviceInfo, captures: dict[tuple[str, str], Capture], purpose: str, repeat: int) -> None:
        self.database.check_writable()
        blobs: dict[str, tuple[BlobKey, bytes]] = {}
        for c in captures.values():
            data = c.rgb.encoded
            blobs[c.rgb.hash] = BlobKey(c.rgb.hash, SUFFIXES[c.rgb.media_type], len(data)), data
        with explained(self.blobs.root):
            self.blobs.write(blobs.values())
        created, made_by = _now(), _workbench_version()
        rows = [
            {
                "raw": raw_hash,
                "device": device.identity,
                "parameters": parameters_hash,
                "repeat": repeat,
                "output": c.rgb.hash,
                "read_back": c.parameters_in_force,
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
            self._add_device(connection, device, created)
            _add(connection, Blob, [vars(key) for key, _ in blobs.values()])
            _add(connection, ParameterSetRow, codes)
            _add(connection, CaptureRow, rows)

    def _insert_raws(self, new: list[NewRaw], pictures: dict[str, np.ndarray], items: Sequence[NewRaw]) -> None:
        keys: dict[str, BlobKey] = {}
        rows: list[dict[str, Any]] = []
        references: list[dict[str, Any]] = []
        self.database.check_writable()
        with explained(self.blobs.root):
            files = []
            for item, data in zip(new, self.blobs.each(npz_bytes, [item.raw for item in new]), strict=True):
                key = BlobKey.of(data, "npz")
                files.append((key, data))
                metadata = item.raw.metadata
                rows.append(
                    {
                        "hash": item.raw.hash,
                        "name": item.name,
                        "scene": item.scene,
                        **{name: metadata[name] for name in ("width", "height", "iso", "exposure_s", "as_shot_wb")},
                        "orientation": item.raw.orientation,
                        "blob": key.hash,
                        "created": _now(),
                    }
                )
            for digest, picture in pictures.items():
                data = RgbFrame.from_pixels(picture).encoded
                key = BlobKey.of(data, "png")
                files.append((key, data))
                references.append({"raw": digest, "blob": key.hash})
            self.blobs.write(files)
            keys = {key.hash: key for key, _ in files}
        with self.database.writing() as connection:
            for item in new:
                other = connection.scalar(select(Scene.split).where(Scene.name == item.scene))
                if other is None:
                    _add(connection, Scene, [{"name": item.scene, "split": item.split}])
                elif other != item.split:
                    raise DatasetError(
                        f"RAW {item.name}: its scene {item.scene} is in the {other} split of the data set, now it is "
                        f"said to be in {item.split}; keep the split, or use another --lab"
                    )
            _add(connection, Blob, [vars(key) for key in keys.values()])
            _add(connection, Raw, rows)
            _add(connection, Reference, references)
            for item in items:
                for path in item.files:
                    row = remembered(path, item.raw.hash)
                    statement = insert(SourceFile).values(row)
                    connection.execute(statement.on_conflict_do_update(index_elements=["path", "raw"], set_=row))

    def _add_device(self, connection: Connection, device: DeviceInfo, created: str) -> None:
        own = {
            "identity": device.identity,
            "model": device.model,
            "firmware": device.firmware,
            "space": device.space.to_dict(),
            "created": created,
        }
        _add(connection, DeviceRow, [own])

    def _new_reference(self, item: NewRaw, known: RawRecord | None, kept: np.ndarray | None) -> bool:
        if item.reference is None:
            return False
        if kept is None and known is not None:
            kept = known.reference()
        if kept is not None and not np.array_equal(kept, item.reference):
            raise DatasetError(
                f"RAW {item.name}: another reference image is kept for it; give the one it had, or use another --lab"
            )
        return kept is None

    def _raws_by_hash(self, digests: set[str]) -> dict[str, RawRecord]:
        with self.database.reading() as connection:
            rows = connection.execute(_raw_query().where(Raw.hash.in_(digests)))
            return {row.hash: self._raw_record(row) for row in rows}

    def _raw_record(self, row: Row[Any]) -> RawRecord:
        wb = row.as_shot_wb
        return RawRecord(
            hash=row.hash,
            name=row.name,
            scene=row.scene,
            split=Split(row.split),
            width=row.width,
            height=row.height,
            iso=row.iso,
            exposure_s=row.exposure_s,
            as_shot_wb=None if wb is None else (wb[0], wb[1], wb[2]),
            orientation=row.orientation,
            has_reference=row.reference is not None,
            _blob=row.blob,
            _reference=row.reference,
            _blobs=self.blobs,
        )

    def _capture_query(self) -> Any:
        unread = ("read_back", "serial", "workbench", "set_aside", "set_aside_at", "seal")
        columns = (c for c in CaptureRow.__table__.columns if c.name not in unread)
        return (
            select(*columns, ParameterSetRow.codes, Blob.suffix)
            .join(ParameterSetRow, ParameterSetRow.hash == CaptureRow.parameters)
            .join(Blob, Blob.hash == CaptureRow.output)
            .where(CaptureRow.set_aside.is_(None))
        )

    def _capture_record(self, row: Row[Any]) -> CaptureRecord:
        return CaptureRecord(
            id=row.id,
            raw_hash=row.raw,
            parameters_hash=row.parameters,
            codes=row.codes,
            device_identity=row.device,
            boot_id=row.boot_id,
            frame=row.frame,
            repeat=row.repeat,
            purpose=row.purpose,
            output_hash=row.output,
            media_type=MEDIA_TYPES[row.suffix],
            device_s=row.device_s,
            total_s=row.total_s,
            created=row.created,
            _blobs=self.blobs,
        )


def _check_same_scene(item: NewRaw, scene: str, split: str) -> None:
    if (item.scene, item.split) != (scene, split):
        raise DatasetError(
            f"RAW {item.name}: is in the data set as scene {scene} ({split}), now it is said to be scene "
            f"{item.scene} ({item.split}); give the scene that it had, or use another --lab"
        )


def _raw_query() -> Any:
    return (
        select(Raw, Scene.split, Reference.blob.label("reference"))
        .join(Scene, Scene.name == Raw.scene)
        .outerjoin(Reference, Reference.raw == Raw.hash)
    )


def _failure_query() -> Any:
    columns = (c for c in FailureRow.__table__.columns if c.name not in ("boot_id", "serial", "workbench", "seal"))
    return select(*columns, ParameterSetRow.codes).join(ParameterSetRow, ParameterSetRow.hash == FailureRow.parameters)


def _failure_record(row: Row[Any]) -> FailureRecord:
    return FailureRecord(
        id=row.id,
        raw_hash=row.raw,
        parameters_hash=row.parameters,
        codes=row.codes,
        device_identity=row.device,
        code=row.code,
        reason=row.reason,
        purpose=row.purpose,
        created=row.created,
    )


def _chunks(keys: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    unique = list(dict.fromkeys(keys))
    for start in range(0, len(unique), CHUNK):
        yield unique[start : start + CHUNK]


def _add(connection: Connection, table: type[Base], rows: list[dict[str, Any]]) -> None:
    if rows and issubclass(table, Sealed):
        columns = table.__table__.columns
        rows = [sealed(columns, row) for row in rows]
    if rows:
        connection.execute(insert(table).on_conflict_do_nothing(), rows)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _workbench_version() -> str:
    try:
        return version("isp-workbench")
    except PackageNotFoundError:
        return "unknown"
