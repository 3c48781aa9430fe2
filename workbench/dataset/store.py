"""The data set: RAWs, references and captures of a lab folder. Files first, then the rows that name them."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from sqlalchemy import Connection, Row, func, select, tuple_
from sqlalchemy.dialects.sqlite import insert

from drivers.device import Capture, DeviceInfo
from drivers.errors import FrameError
from drivers.frames import RawFrame, RgbFrame
from drivers.npz_files import read_npz
from drivers.parameters import ParameterSpace
from drivers.raw_files import save_npz
from workbench.dataset.blobs import BlobKey, BlobStore
from workbench.dataset.database import BUSY_S, Database, explained
from workbench.dataset.schema import Blob, CaptureRow, DeviceRow, ParameterSetRow, Raw, Reference, Scene, SourceFile
from workbench.errors import DatasetError

Split = Literal["train", "validation", "test"]
SUFFIXES = {"image/jpeg": "jpg", "image/png": "png"}
MEDIA_TYPES: dict[str, Literal["image/jpeg", "image/png"]] = {"jpg": "image/jpeg", "png": "image/png"}
# Keys in one query: SQLite allows 32,766 values, and long lists are slow to compile.
CHUNK = 256


@dataclass(frozen=True)
class RawRecord:
    """A RAW of the data set.

    Attributes:
        hash: the frame's content hash; ``name``: its file name; ``scene`` and ``split``: which scene it shows.
        width, height: pixels of the mosaic.
        iso, exposure_s, as_shot_wb: as in :class:`~drivers.frames.RawFrame`.
        has_reference: whether :meth:`reference` gives an image.
    """

    hash: str
    name: str
    scene: str
    split: Split
    width: int
    height: int
    iso: float | None
    exposure_s: float | None
    as_shot_wb: tuple[float, float, float] | None
    has_reference: bool
    _blob: str = field(repr=False)
    _reference: str | None = field(repr=False)
    _blobs: BlobStore = field(repr=False, compare=False)

    def load(self) -> RawFrame:
        """The frame, read from its file each time.

        Raises:
            DatasetError: the file is missing or damaged.
        """
        path = self._blobs.path(self._blob, "npz")
        try:
            frame = read_npz(path)
        except FrameError as error:
            raise DatasetError(f"RAW {self.name} of the data set: {error}") from error
        if frame.hash != self.hash:
            raise DatasetError(f"{path}: not RAW {self.name} any more: its content has hash {frame.hash[:12]}")
        object.__setattr__(frame, "source", self.name)
        return frame

    def encoded(self) -> bytes:
        """The frame as the bytes of an ``.npz`` file (see :func:`~drivers.raw_files.save_npz`)."""
        return self._blobs.read(self._blob, "npz")

    def encoded_reference(self) -> bytes | None:
        """The reference as the bytes of a PNG file, or None."""
        return None if self._reference is None else self._blobs.read(self._reference, "png")

    def reference(self) -> np.ndarray | None:
        """The image that the RAW should become, ``uint8 [H, W, 3]`` sRGB, or None.

        Raises:
            DatasetError: the file is missing or damaged.
        """
        encoded = self.encoded_reference()
        return None if encoded is None else RgbFrame(encoded, "image/png").pixels


@dataclass(frozen=True)
class CaptureRecord:
    """A capture of the data set.

    Attributes:
        id: number in the data set, growing in the order of arrival.
        raw_hash, parameters_hash, device_identity, repeat: the key; unique together.
        codes: the parameter codes by name.
        boot_id, frame: the device's boot and frame counter at the time.
        purpose: what asked for it first.
        output_hash: SHA-256 of the output's bytes; ``media_type``: their kind.
        device_s, total_s: seconds inside the device, and from request to answer.
        created: UTC, ISO 8601.
    """

    id: int
    raw_hash: str
    parameters_hash: str
    codes: dict[str, int]
    device_identity: str
    boot_id: str
    frame: int
    repeat: int
    purpose: str
    output_hash: str
    media_type: Literal["image/jpeg", "image/png"]
    device_s: float
    total_s: float
    created: str
    _blobs: BlobStore = field(repr=False, compare=False)

    def rgb(self) -> RgbFrame:
        """The device's output, its very bytes.

        Raises:
            DatasetError: the file is missing or damaged.
        """
        return RgbFrame(self._blobs.read(self.output_hash, SUFFIXES[self.media_type]), self.media_type)


@dataclass(frozen=True, eq=False)
class NewRaw:
    """A RAW to be kept.

    Attributes:
        raw: the frame.
        scene: the scene that it shows; ``split``: the split of that scene.
        name: what people call the RAW.
        reference: the image that it should become, ``uint8 [H, W, 3]`` sRGB, or None.
        files: the files that it and its reference were read from, for :meth:`Dataset.raws_of_file`.
    """

    raw: RawFrame
    scene: str
    split: Split
    name: str
    reference: np.ndarray | None = None
    files: tuple[Path, ...] = ()


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
        """The RAWs that were read from a file (or had it as reference), if it has not changed since (size, time)."""
        size, modified_ns = _stat(path)
        query = (
            _raw_query()
            .join(SourceFile, SourceFile.raw == Raw.hash)
            .where(SourceFile.path == str(path.absolute()))
            .where(SourceFile.size == size, SourceFile.modified_ns == modified_ns)
        )
        with self.database.reading() as connection:
            return [self._raw_record(row) for row in connection.execute(query)]

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
        unique = list(dict.fromkeys(keys))
        found = {}
        with self.database.reading() as connection:
            for start in range(0, len(unique), CHUNK):
                query = self._capture_query().where(
                    CaptureRow.device == device_identity,
                    CaptureRow.repeat == repeat,
                    tuple_(CaptureRow.raw, CaptureRow.parameters).in_(unique[start : start + CHUNK]),
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
            .outerjoin(CaptureRow, CaptureRow.device == DeviceRow.identity)
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
            for row in connection.execute(select(*columns).order_by(*columns)):
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
        codes = [
            {"hash": h, "codes": dict(zip(c.parameters.space.names, c.parameters.codes, strict=True))}
            for (_, h), c in captures.items()
        ]
        with self.database.writing() as connection:
            raws = {row["raw"] for row in rows}
            known = connection.scalar(select(func.count()).select_from(Raw).where(Raw.hash.in_(raws)))
            if known != len(raws):
                raise DatasetError(f"{self.lab}: a capture names a RAW that is not in the data set; add the RAW first")
            own = {
                "identity": device.identity,
                "model": device.model,
                "firmware": device.firmware,
                "space": device.space.to_dict(),
                "created": created,
            }
            _add(connection, DeviceRow, [own])
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
            for item, data in zip(new, self.blobs.each(self._encode, [item.raw for item in new]), strict=True):
                key = BlobKey.of(data, "npz")
                files.append((key, data))
                metadata = item.raw.metadata
                rows.append(
                    {
                        "hash": item.raw.hash,
                        "name": item.name,
                        "scene": item.scene,
                        **{name: metadata[name] for name in ("width", "height", "iso", "exposure_s", "as_shot_wb")},
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
                    size, modified_ns = _stat(path)
                    row = {"path": str(path.absolute()), "raw": item.raw.hash, "size": size, "modified_ns": modified_ns}
                    statement = insert(SourceFile).values(row)
                    connection.execute(statement.on_conflict_do_update(index_elements=["path", "raw"], set_=row))

    def _encode(self, raw: RawFrame) -> bytes:
        folder = self.blobs.root / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{uuid.uuid4().hex}.npz"
        try:
            save_npz(path, raw)
            return path.read_bytes()
        finally:
            path.unlink(missing_ok=True)

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
            split=row.split,
            width=row.width,
            height=row.height,
            iso=row.iso,
            exposure_s=row.exposure_s,
            as_shot_wb=None if wb is None else (wb[0], wb[1], wb[2]),
            has_reference=row.reference is not None,
            _blob=row.blob,
            _reference=row.reference,
            _blobs=self.blobs,
        )

    def _capture_query(self) -> Any:
        columns = (c for c in CaptureRow.__table__.columns if c.name not in ("read_back", "serial", "workbench"))
        return (
            select(*columns, ParameterSetRow.codes, Blob.suffix)
            .join(ParameterSetRow, ParameterSetRow.hash == CaptureRow.parameters)
            .join(Blob, Blob.hash == CaptureRow.output)
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


def _add(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table).on_conflict_do_nothing(), rows)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    return stat.st_size, stat.st_mtime_ns


def _workbench_version() -> str:
    try:
        return version("isp-workbench")
    except PackageNotFoundError:
        return "unknown"
