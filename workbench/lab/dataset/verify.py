"""Checks that a data set is whole: every row has its file, every file its content, every capture its proof."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import Connection, Table, func, select

from drivers.device import DeviceInfo
from drivers.errors import FrameError, ParameterError, WorkbenchError
from drivers.parameters import ParameterSpace, parameters_hash
from workbench.errors import DatasetError
from workbench.lab.dataset.dialects import integrity_problems, numbers_rows_without_gaps
from workbench.lab.dataset.records import RawRecord
from workbench.lab.dataset.schema import Base, Blob, CaptureRow, DeviceRow, ParameterSetRow, Sealed
from workbench.lab.dataset.seals import seal_of
from workbench.lab.dataset.store import Dataset

_OF_THE_FRAME = ("width", "height", "iso", "exposure_s", "as_shot_wb", "orientation")


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
        result.problems += [f"{dataset.database.name}: {line}" for line in integrity_problems(connection)]
        blobs = connection.execute(select(Blob.hash, Blob.suffix, Blob.size)).all()
        sets = connection.execute(select(ParameterSetRow.hash, ParameterSetRow.codes)).all()
        uneven = connection.execute(
            select(CaptureRow.id, CaptureRow.read_back, ParameterSetRow.codes, CaptureRow.device).join(
                ParameterSetRow, ParameterSetRow.hash == CaptureRow.parameters
            )
        ).all()
        devices = connection.execute(
            select(DeviceRow.identity, DeviceRow.model, DeviceRow.firmware, DeviceRow.space)
        ).all()
        result.problems += _broken_seals(connection)
        result.captures = connection.scalar(select(func.count()).select_from(CaptureRow)) or 0
        last = connection.scalar(select(func.max(CaptureRow.id))) or 0
        gapless = numbers_rows_without_gaps(connection)
    if gapless and last != result.captures:  # no capture is ever taken out
        result.problems.append(f"captures: {result.captures} rows up to number {last}; rows are gone")
    total = len(blobs)
    for done, (digest, suffix, size) in enumerate(blobs, 1):
        try:
            actual = len(dataset.blobs.read_kept(digest, suffix))
            if actual != size:
                result.problems.append(f"blobs {digest[:12]}: {size} bytes in its row, {actual} in its file")
        except DatasetError as error:
            result.problems.append(str(error))
        progress(done, total)
    result.files = total
    for raw in dataset.raws():
        result.raws += 1
        with contextlib.suppress(DatasetError):
            raw.encoded()  # a file that fails here is among the problems already
            try:
                result.problems += _differences(raw)
            except WorkbenchError as error:
                result.problems.append(str(error))
    result.problems += _no_pictures(dataset)
    for digest, codes in sets:
        if _hash_of(codes) != digest:
            result.problems.append(f"parameter set {digest[:12]}: its codes do not give its hash")
    spaces = {}
    for device, model, firmware, told in devices:
        try:
            space = spaces[device] = ParameterSpace.from_dict(told)
        except ParameterError as error:
            result.problems.append(f"device {device}: {error}")
            continue
        if not DeviceInfo(model, firmware, "", "", space).goes_by(device):
            result.problems.append(f"device {device}: its model, firmware or parameters are others now")
    for number, read_back, codes, device in uneven:
        both = isinstance(read_back, dict) and isinstance(codes, dict)
        if (read_back if not both else {k: v for k, v in read_back.items() if k in codes}) != codes:
            result.problems.append(f"capture {number}: the device's read-back differs from its parameter set")
        if device not in spaces or not isinstance(codes, dict):
            continue  # told already
        try:
            spaces[device].from_codes(codes)
        except ParameterError as error:
            result.problems.append(f"capture {number}: {error}")
    named = {f"{digest}.{suffix}" for digest, suffix, _ in blobs}
    result.unused_files = sum(1 for path in dataset.blobs.files() if path.name not in named)
    result.temporary_files = len(dataset.blobs.temporary_files())
    return result


def _hash_of(codes: object) -> str | None:
    """The canonical hash of the codes by name; None where they are none."""
    if not isinstance(codes, dict):
        return None
    try:
        return parameters_hash(codes)
    except UnicodeEncodeError:  # no parameter is called so
        return None


def _no_pictures(dataset: Dataset) -> list[str]:
    """Captures whose output is whole, but no picture of their RAW."""
    sizes = {raw.hash: (raw.width, raw.height) for raw in dataset.raws()}
    problems = []
    for capture in dataset.captures():
        if capture.raw_hash not in sizes:
            continue  # the row of the RAW is missing: told already
        with contextlib.suppress(DatasetError):
            rgb = capture.rgb()  # a file that fails here is among the problems already
            try:
                rgb.check(*sizes[capture.raw_hash])
            except FrameError as error:
                problems.append(f"capture {capture.id}: {error}; `workbench dataset set-aside --undecodable`")
    return problems


def _broken_seals(connection: Connection) -> list[str]:
    """Rows whose values are not those that were written."""
    problems = []
    for mapper in Base.registry.mappers:
        if not issubclass(mapper.class_, Sealed):
            continue
        table = cast(Table, mapper.local_table)
        for row in connection.execute(select(table)).mappings():
            try:
                whole = seal_of(table.columns, row) == row["seal"]
            except (ValueError, TypeError):  # text in a column of numbers
                whole = False
            if not whole:
                key = ", ".join(str(row[c.name])[:64] for c in table.primary_key.columns)
                problems.append(f"{table.name} {key}: a value of its row was changed after it was written")
    return problems


def _differences(raw: RawRecord) -> list[str]:
    """What the row of a RAW says that its file does not."""
    frame = raw.load()
    said = {name: getattr(raw, name) for name in _OF_THE_FRAME}
    return [
        f"RAW {raw.name}: {name} is {said[name]} in its row, {getattr(frame, name)} in its file"
        for name in _OF_THE_FRAME
        if said[name] != getattr(frame, name)
    ]
