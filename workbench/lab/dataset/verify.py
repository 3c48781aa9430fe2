"""Checks that a data set is whole: every row has its file, every file its content, every capture its proof."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Table, except_, func, select

from drivers.device import DeviceInfo
from drivers.errors import FrameError, ParameterError, WorkbenchError
from drivers.parameters import ParameterSpace, parameters_hash
from workbench.console.progress import Progress, each
from workbench.errors import DatasetError
from workbench.lab.dataset.dialects import integrity_problems, numbers_rows_without_gaps
from workbench.lab.dataset.records import RawRecord
from workbench.lab.dataset.schema import Base, Blob, CaptureRow, DeviceRow, ParameterSetRow, Raw, Reference, Sealed
from workbench.lab.dataset.seals import seal_of
from workbench.lab.dataset.store import Dataset

PAGE = 1000
"""Rows in memory at a time."""
_UNNAMED = except_(select(Blob.hash), select(CaptureRow.output), select(Raw.blob), select(Reference.blob))
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
        devices = connection.execute(
            select(DeviceRow.identity, DeviceRow.model, DeviceRow.firmware, DeviceRow.space)
        ).all()
        result.captures = connection.scalar(select(func.count()).select_from(CaptureRow)) or 0
        last = connection.scalar(select(func.max(CaptureRow.id))) or 0
        gapless = numbers_rows_without_gaps(connection)
        total = connection.scalar(select(func.count()).select_from(Blob)) or 0
        unnamed = connection.scalar(select(func.count()).select_from(_UNNAMED.subquery())) or 0
    result.problems += _broken_seals(dataset)
    if gapless and last != result.captures:  # no capture is ever taken out
        result.problems.append(f"captures: {result.captures} rows up to number {last}; rows are gone")
    if unnamed:  # a writer adds files and the rows that name them at once, a copy the files first
        result.problems.append(
            f"blobs: {unnamed} of {total} are of no RAW and no capture; a copy to here is going on, or was "
            "interrupted: run the same `workbench dataset copy` again"
        )
    for digest, suffix, size in _each(dataset, Blob.hash, Blob.suffix, Blob.size):
        result.files += 1
        try:
            actual = len(dataset.blobs.read_kept(digest, suffix))
            if actual != size:
                result.problems.append(f"blobs {digest[:12]}: {size} bytes in its row, {actual} in its file")
        except DatasetError as error:
            result.problems.append(str(error))
        progress(result.files, max(total, result.files))
    for raw in each("verify RAWs", dataset.raws()):
        result.raws += 1
        with contextlib.suppress(DatasetError):
            raw.encoded()  # a file that fails here is among the problems already
            try:
                result.problems += _differences(raw)
            except WorkbenchError as error:
                result.problems.append(str(error))
    result.problems += _no_pictures(dataset, result.captures)
    for digest, codes in _each(dataset, ParameterSetRow.hash, ParameterSetRow.codes):
        if _hash_of(codes) != digest:
            result.problems.append(f"parameter set {digest[:12]}: its codes do not give its hash")
    result.problems += _unproven(dataset, devices)
    files = dataset.blobs.files()
    while names := [path.name for path in itertools.islice(files, PAGE)]:
        result.unused_files += len(names) - _known(dataset, names)
    result.temporary_files = len(dataset.blobs.temporary_files())
    return result


def _each(dataset: Dataset, key: Any, *columns: Any, joined: Any = None) -> Iterator[Any]:
    """The rows by key, their first column, a page in memory at a time; what is added meanwhile may be among them."""
    query = select(key, *columns).order_by(key).limit(PAGE)
    if joined is not None:
        query = query.join(*joined)
    after = query
    while True:
        with dataset.database.reading() as connection:
            rows = connection.execute(after).all()
        yield from rows
        if len(rows) < PAGE:
            return
        after = query.where(key > rows[-1][0])


def _known(dataset: Dataset, names: list[str]) -> int:
    """How many files of these names have a row."""
    query = select(Blob.hash, Blob.suffix).where(Blob.hash.in_({name.partition(".")[0] for name in names}))
    with dataset.database.reading() as connection:
        return len({f"{digest}.{suffix}" for digest, suffix in connection.execute(query)}.intersection(names))


def _unproven(dataset: Dataset, devices: Sequence[Any]) -> list[str]:
    """Devices that are others than their rows say, and captures whose read-back is not what they were made with."""
    problems, spaces = [], {}
    for device, model, firmware, told in devices:
        try:
            space = spaces[device] = ParameterSpace.from_dict(told)
        except ParameterError as error:
            problems.append(f"device {device}: {error}")
            continue
        if not DeviceInfo(model, firmware, "", "", space).goes_by(device):
            problems.append(f"device {device}: its model, firmware or parameters are others now")
    of_set = ParameterSetRow, ParameterSetRow.hash == CaptureRow.parameters
    columns = CaptureRow.read_back, ParameterSetRow.codes, CaptureRow.device
    for number, read_back, codes, device in _each(dataset, CaptureRow.id, *columns, joined=of_set):
        both = isinstance(read_back, dict) and isinstance(codes, dict)
        if (read_back if not both else {k: v for k, v in read_back.items() if k in codes}) != codes:
            problems.append(f"capture {number}: the device's read-back differs from its parameter set")
        if device not in spaces or not isinstance(codes, dict):
            continue  # told already
        try:
            spaces[device].from_codes(codes)
        except ParameterError as error:
            problems.append(f"capture {number}: {error}")
    return problems


def _hash_of(codes: object) -> str | None:
    """The canonical hash of the codes by name; None where they are none."""
    if not isinstance(codes, dict):
        return None
    try:
        return parameters_hash(codes)
    except UnicodeEncodeError:  # no parameter is called so
        return None


def _no_pictures(dataset: Dataset, captures: int) -> list[str]:
    """Captures whose output is whole, but no picture of their RAW."""
    sizes = {raw.hash: (raw.width, raw.height) for raw in dataset.raws()}
    problems = []
    with Progress("verify pictures", captures, unit="capture", late=True) as progress:
        for done, capture in enumerate(dataset.each_capture(), 1):
            progress.count(done, max(captures, done))
            if capture.raw_hash not in sizes:
                continue  # the row of the RAW is missing: told already
            with contextlib.suppress(DatasetError):
                rgb = capture.rgb()  # a file that fails here is among the problems already
                try:
                    rgb.check(*sizes[capture.raw_hash])
                except FrameError as error:
                    problems.append(f"capture {capture.id}: {error}; `workbench dataset set-aside --undecodable`")
    return problems


def _broken_seals(dataset: Dataset) -> list[str]:
    """Rows whose values are not those that were written."""
    problems = []
    for mapper in Base.registry.mappers:
        if not issubclass(mapper.class_, Sealed):
            continue
        table = cast(Table, mapper.local_table)
        (key,) = table.primary_key.columns
        for row in _each(dataset, key, *(column for column in table.columns if column is not key)):
            values = row._mapping
            try:
                whole = seal_of(table.columns, values) == values["seal"]
            except (ValueError, TypeError):  # text in a column of numbers
                whole = False
            if not whole:
                number = str(values[key.name])[:64]
                problems.append(f"{table.name} {number}: a value of its row was changed after it was written")
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
