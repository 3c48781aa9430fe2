"""RAWs, their references, scenes and source files in a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Row, Select, select

from drivers.frames import RawFrame, RgbFrame
from drivers.raw.raw_files import npz_bytes
from drivers.splits import Split
from workbench.errors import DatasetError
from workbench.lab.dataset.blobs import BlobKey
from workbench.lab.dataset.dialects import put_row
from workbench.lab.dataset.explained import explained
from workbench.lab.dataset.records import NewRaw, RawRecord
from workbench.lab.dataset.resuming import resumed
from workbench.lab.dataset.rows import Rows, add, now
from workbench.lab.dataset.schema import Blob, Raw, Reference, Scene, SourceFile
from workbench.lab.dataset.source_files import KnownFiles, remembered


class RawRows(Rows):
    """RAWs of a data set."""

    def add_raw(
        self, raw: RawFrame, *, scene: str, split: Split, name: str, reference: np.ndarray | None = None
    ) -> RawRecord:
        """Keep one RAW; see :meth:`add_raws`.

        Raises:
            DatasetError: the RAW is there as another scene, the scene is in another split, or the reference differs.
        """
        return self.add_raws([NewRaw(raw, scene, split, name, reference)])[0]

    @resumed
    def add_raws(self, new: Sequence[NewRaw]) -> list[RawRecord]:
        """Keep RAWs, in one durable transaction, and give their records in the same order.

        One that is there already is not written again; its first name stays, and a reference may be added to it later.

        Raises:
            DatasetError: a RAW is there as another scene, its scene is in another split, its reference differs, or a
                file of it was changed since it was seen.
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

    @resumed
    def raws(self, split: Split | None = None) -> list[RawRecord]:
        """The RAWs, of one split or all, ordered by name, then hash."""
        query = _raw_query().order_by(Raw.name, Raw.hash)
        if split is not None:
            query = query.where(Scene.split == split)
        with self.database.reading() as connection:
            return [self._raw_record(row) for row in connection.execute(query)]

    @resumed
    def known_files(self) -> KnownFiles:
        """The files that the RAWs of now and their references were read from: asked of many, in one go."""
        raws = self.raws()
        with self.database.reading() as connection:
            return KnownFiles(connection, raws)

    def source_files(self) -> list[tuple[str, str, int, int]]:
        """Every file that a RAW or its reference was read from: RAW hash, absolute path, size, time of change in ns."""
        columns = (SourceFile.raw, SourceFile.path, SourceFile.size, SourceFile.modified_ns)
        with self.database.reading() as connection:
            return [(row[0], row[1], row[2], row[3]) for row in connection.execute(select(*columns))]

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
                        "created": now(),
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
                    add(connection, Scene, [{"name": item.scene, "split": item.split}])
                elif other != item.split:
                    raise DatasetError(
                        f"RAW {item.name}: its scene {item.scene} is in the {other} split of the data set, now it is "
                        f"said to be in {item.split}; keep the split, or use another --lab"
                    )
            add(connection, Blob, [vars(key) for key in keys.values()])
            add(connection, Raw, rows)
            add(connection, Reference, references)
            for item in items:
                for file in item.files:
                    put_row(connection, SourceFile, remembered(file, item.raw.hash), ("path", "raw"))

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


def _check_same_scene(item: NewRaw, scene: str, split: str) -> None:
    if (item.scene, item.split) != (scene, split):
        raise DatasetError(
            f"RAW {item.name}: is in the data set as scene {scene} ({split}), now it is said to be scene "
            f"{item.scene} ({item.split}); give the scene that it had, or use another --lab"
        )


def _raw_query() -> Select[*tuple[Any, ...]]:
    return (
        select(Raw, Scene.split, Reference.blob.label("reference"))
        .join(Scene, Scene.name == Raw.scene)
        .outerjoin(Reference, Reference.raw == Raw.hash)
    )
