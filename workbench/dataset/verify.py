"""Checks that a data set is whole: every row has its file, every file its content, every capture its proof."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import func, select

from drivers.errors import ParameterError, WorkbenchError
from workbench.dataset.schema import Blob, CaptureRow, ParameterSetRow
from workbench.dataset.store import Dataset
from workbench.errors import DatasetError


@dataclass
class Verification:
    """What was checked and found.

    Attributes:
        problems: one line each; none where the data set is whole.
        files, raws, captures: how many were checked.
        unused_files: files without a row, left by an interrupted writer: harmless.
        temporary_files: files that an interrupted writer had not finished: harmless.
    """

    problems: list[str] = field(default_factory=list)
    files: int = 0
    raws: int = 0
    captures: int = 0
    unused_files: int = 0
    temporary_files: int = 0


def verify(dataset: Dataset, progress: Callable[[int, int], None] = lambda done, total: None) -> Verification:
    """Read the whole data set and check it.

    Args:
        dataset: an open data set.
        progress: told how many files are checked, and of how many.

    Raises:
        DatasetError: the database itself cannot be read.
    """
    result = Verification()
    with dataset.database.reading() as connection:
        for line in connection.exec_driver_sql("PRAGMA integrity_check").scalars():
            if line != "ok":
                result.problems.append(f"{dataset.database.path}: {line}")
        for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            result.problems.append(f"{dataset.database.path}: row {row} of {table} names a missing row of {parent}")
        blobs = connection.execute(select(Blob.hash, Blob.suffix)).all()
        sets = connection.execute(select(ParameterSetRow.hash, ParameterSetRow.codes)).all()
        uneven = connection.execute(
            select(CaptureRow.id, CaptureRow.read_back, ParameterSetRow.codes, CaptureRow.device).join(
                ParameterSetRow, ParameterSetRow.hash == CaptureRow.parameters
            )
        ).all()
        result.captures = connection.scalar(select(func.count()).select_from(CaptureRow)) or 0
    total = len(blobs)
    for done, (digest, suffix) in enumerate(blobs, 1):
        try:
            dataset.blobs.read(digest, suffix)
        except DatasetError as error:
            result.problems.append(str(error))
        progress(done, total)
    result.files = total
    for raw in dataset.raws():
        result.raws += 1
        with contextlib.suppress(DatasetError):
            raw.encoded()  # a file that fails here is among the problems already
            try:
                raw.load()
            except WorkbenchError as error:
                result.problems.append(str(error))
    for digest, codes in sets:
        lines = "".join(f"{name}={code}\n" for name, code in sorted(codes.items()))
        if hashlib.sha256(lines.encode("ascii")).hexdigest() != digest:
            result.problems.append(f"parameter set {digest[:12]}: its codes do not give its hash")
    spaces = {device["identity"]: dataset.space(device["identity"]) for device in dataset.devices()}
    for number, read_back, codes, device in uneven:
        if read_back != codes:
            result.problems.append(f"capture {number}: the device's read-back differs from its parameter set")
        try:
            spaces[device].from_codes(codes)
        except ParameterError as error:
            result.problems.append(f"capture {number}: {error}")
    known = {f"{digest}.{suffix}" for digest, suffix in blobs}
    result.unused_files = sum(1 for path in dataset.blobs.files() if path.name not in known)
    result.temporary_files = len(dataset.blobs.temporary_files())
    return result
