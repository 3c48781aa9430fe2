"""What ``lab/runs/NAME/run.json`` holds of a run: everything needed to repeat it.

::

    {"format": 1, "kind": "tune", "name": "tune-20250101-120000",
     "command": "workbench tune --device …",          # the command line
     "config": {…},                                   # every setting that shaped the result
     "seed": 0,
     "dataset_digest": "…" | null,                    # of the data set when the run started
     "device": {"identity", "model", "firmware", "serial", "boot_id", "space", "space_hash"} | null,
     "workbench_version": "0.1.0",
     "started": "2025-01-01T12:00:00.000000+00:00",   # UTC
     "finished": "…" | null,                          # null: stopped before its end
     "results": {…} | null,
     "threads": 2 | null,                             # that torch computed with; once finished
     "rerun_of": "NAME"}                              # only where it repeats another run
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from drivers.device import DeviceInfo
from drivers.regular_files import read_json
from drivers.validation_text import fault_in_words, short
from workbench.errors import RunError
from workbench.lab.run_values import OF_KIND, Recorded

FORMAT = 1
RECORD_BYTES = 256 << 20
"""Largest record that is read; a tuning of thousands of trials takes a few megabytes."""

T = TypeVar("T")


def _or_none(value: Any, known: ValidatorFunctionWrapHandler) -> Any:
    try:
        return known(value)
    except ValidationError:
        return None


Known = Annotated[T | None, WrapValidator(_or_none)]
"""None where it is not known, or is of another kind: no command needs it to read the run."""


class RunDevice(BaseModel):
    """The device of a run; what its record does not say is None.

    Attributes:
        identity: model, firmware and space, as the data set knows it.
        serial, boot_id: which unit, since which start.
        space: name of the parameter space; ``space_hash``: its hash.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    identity: Known[str] = None
    model: Known[str] = None
    firmware: Known[str] = None
    serial: Known[str] = None
    boot_id: Known[str] = None
    space: Known[str] = None
    space_hash: Known[str] = None

    @classmethod
    def of(cls, info: DeviceInfo) -> Self:
        """A device that was asked."""
        return cls(
            identity=info.identity,
            model=info.model,
            firmware=info.firmware,
            serial=info.serial,
            boot_id=info.boot_id,
            space=info.space.name,
            space_hash=info.space.hash,
        )


class RunRecord(BaseModel):
    """The record of a run.

    What commands read straight from ``config`` and ``results`` is typed in ``run_values.py``; each kind of run has its
    own models of all its results, in its own room.

    Attributes:
        kind: ``collect``, ``fit-proxy``, ``train``, ``tune``, ``validate``, …
        name: of the run's folder; ``command``: the command line.
        config: every setting that shaped the result; ``results``: what came of it; plain JSON data.
        seed, dataset_digest, device: what it was made with.
        started, finished: UTC, ISO 8601; ``finished`` is None where the run stopped before its end.
        rerun_of: the run that it repeats.
        threads: that torch computed with, on which the last digits depend; None where it was not used.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    format: int = FORMAT
    kind: str = ""
    name: Known[str] = None
    command: Known[str] = None
    config: dict[str, Any] | None = None
    seed: Known[int] = None
    dataset_digest: Known[str] = None
    device: Known[RunDevice] = None
    workbench_version: Known[str] = None
    started: str | None = None
    finished: str | None = None
    results: dict[str, Any] | None = None
    rerun_of: Known[str] = None
    threads: Known[int] = None

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON data, with the fields that it has."""
        return self.model_dump(exclude_unset=True)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """The record of plain JSON data that was read before."""
        return cls.model_validate(dict(data))


def read_record(file: Path) -> RunRecord:
    """The record in a ``run.json``.

    Raises:
        RunError: there is none, it cannot be read, is damaged, or is of another format.
    """
    try:
        record = read_json(file, RECORD_BYTES)
    except FileNotFoundError as error:
        raise RunError(f"{file.parent}: no run there (no run.json); `--lab` or the run's name may be wrong") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise RunError(
            f"{file}: cannot be read as a run ({reason}); put the file back, or remove the folder"
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        raise RunError(f"{file}: is not the record of a run; put the file back, or remove the folder")
    if record.get("format") != FORMAT:
        raise RunError(f"{file}: format {short(record.get('format'))}; this workbench reads format {FORMAT}")
    # Validations by a detector were a kind of their own.
    record = {**record, "kind": {"validate-vision": "validate"}.get(record["kind"], record["kind"])}
    try:
        OF_KIND.get(record["kind"], Recorded).model_validate(record)
        found = RunRecord.of(record)
    except ValidationError as error:
        told = fault_in_words(error, record, RunRecord)
        raise RunError(f"{file}: {told}; put the file back, or remove the folder") from error
    for key, value in (("started", found.started), ("finished", found.finished)):
        if value is not None and not _is_utc(value):
            raise RunError(f"{file}: {key} is no time ({short(value)}); put the file back, or remove the folder")
    if found.finished and not found.started:
        raise RunError(f"{file}: started is missing; put the file back, or remove the folder")
    return found


def _is_utc(text: str) -> bool:
    try:
        time = datetime.fromisoformat(text)
        return time.utcoffset() is not None and time.year < 9999  # a later one has to be possible
    except ValueError:
        return False
