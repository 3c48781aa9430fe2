"""Run folders: one training, tuning or validation, with everything needed to repeat it (``run_record.py``)."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict, Unpack

from filelock import BaseFileLock, FileLock, Timeout

from drivers.atomic_files import write_text
from drivers.device import DeviceInfo
from workbench.console.notes import say
from workbench.console.versions import workbench_version
from workbench.errors import RunError
from workbench.lab.run_record import FORMAT, RunDevice, RunRecord, read_record

LOCK = ".lock"
# How many runs an error lists.
_NAMED = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# What this program has said of records that cannot be read: runs are listed many times.
_told: set[str] = set()


def plain(value: Any) -> Any:
    """The value as plain JSON data: NumPy scalars and arrays as Python's, paths as text, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, data: Any) -> None:
    """Write :func:`plain` data as JSON with :func:`write_text`."""
    write_text(path, json.dumps(plain(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Changes(TypedDict, total=False):
    """Fields of a :class:`~workbench.lab.run_record.RunRecord` that a run writes as it goes; plain data."""

    config: Mapping[str, Any]
    seed: int | None
    dataset_digest: str | None
    results: Mapping[str, Any]
    rerun_of: str
    threads: int | None
    finished: str


class RunFolder:
    """One run's folder. ``path`` is the folder, ``record`` the content of its ``run.json``."""

    def __init__(self, path: Path, record: RunRecord | Mapping[str, Any], lock: BaseFileLock | None = None) -> None:
        self.path = path
        self.record = record if isinstance(record, RunRecord) else RunRecord.of(record)
        self._lock = lock

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def kind(self) -> str:
        """``collect``, ``fit-proxy``, ``train``, ``tune``, ``validate``, …"""
        return self.record.kind

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.record.finished)

    @property
    def config(self) -> dict[str, Any]:
        """The settings of the run; empty where none were recorded."""
        return self.record.config or {}

    @property
    def results(self) -> dict[str, Any]:
        """The results of the run; empty where it has none."""
        return self.record.results or {}

    @property
    def device(self) -> RunDevice:
        """The device of the run; one of which nothing is known where none was recorded."""
        return self.record.device or RunDevice()

    def took_s(self) -> float:
        """Seconds from start to end of a run that is finished."""
        begun, ended = (datetime.fromisoformat(str(time)) for time in (self.record.started, self.record.finished))
        return (ended - begun).total_seconds()

    @property
    def aside(self) -> bool:
        """Whether no command takes the run unasked: it is part of a study, or repeats another run."""
        return bool(self.config.get("study") or self.record.rerun_of)

    def update(self, *, device: DeviceInfo | None = None, **fields: Unpack[Changes]) -> None:
        """Change fields of ``run.json`` (``config``, ``seed``, ``dataset_digest``, …) and write it at once."""
        changed = self.record.to_json() | plain(fields)
        if device is not None:
            changed["device"] = RunDevice.of(device).model_dump()
        self.record = RunRecord.of(changed)
        write_json(self.path / "run.json", self.record.to_json())

    def finish(self, results: Mapping[str, Any]) -> None:
        """Record the results and that the run came to its end."""
        self.update(results=results, threads=_threads(), finished=self._after_all_others())
        self.release()

    def release(self) -> None:
        """Let another program take the run up; done by itself when this program ends, however it ends."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            # Who takes the file before it is gone finds a finished run, which nobody takes up.
            with contextlib.suppress(OSError):
                (self.path / LOCK).unlink()

    def _after_all_others(self) -> str:
        """Now, or just after the newest run: a clock that was set back must not make an old run the newest."""
        others = [str(run.record.finished) for run in list_runs(self.path.parent.parent)]
        now, newest = _now(), max(others, default="")
        if now > newest:
            return now
        return (datetime.fromisoformat(newest) + timedelta(microseconds=1)).isoformat(timespec="microseconds")

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run.

        Raises:
            RunError: there is no readable ``run.json`` there.
        """
        return cls(Path(path), read_record(Path(path) / "run.json"))


def _threads() -> int | None:
    """Threads that torch computed with, on which the last digits depend; None where it was not used."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else None


def _program() -> str:
    """The program's name; ``python -m workbench.cli`` is ``workbench`` too."""
    called = Path(sys.argv[0])
    return "workbench" if called.stem == "cli" else called.name


def new_run(lab: Path, kind: str, name: str | None = None) -> RunFolder:
    """Start a run: make its folder and write its first ``run.json``.

    Args:
        lab: the lab folder.
        kind: what kind of run.
        name: the folder's name; by default the kind and the time. A run of that name and kind that never finished is
            taken up again (its folder and files stay).

    Raises:
        RunError: the name is no folder name, a finished run or one of another kind has it, or another program is at it
            right now.
    """
    runs = Path(lab) / "runs"
    if name is not None and not _NAME.fullmatch(name):
        raise RunError(f"run name {name!r}: use letters, digits, '-', '_' and '.', at most 100")
    runs.mkdir(parents=True, exist_ok=True)
    stem = name or f"{kind}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    for attempt in range(1, 1000):
        path = runs / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            path.mkdir()
            lock = _locked(path, path.name)
            break
        except FileExistsError:
            if name is None:
                continue
            lock = _locked(path, stem)
            if (path / "run.json").exists():
                old = RunFolder.open(path)
                if old.finished or old.kind != kind:
                    state = "finished" if old.finished else "unfinished"
                    lock.release()
                    raise RunError(f"run {name!r} is already there ({state} {old.kind}); choose another name") from None
            break
    else:
        raise RunError(f"{runs}: no free name for a run {stem!r}; choose one")
    record = RunRecord(
        format=FORMAT,
        kind=kind,
        name=path.name,
        command=shlex.join([_program(), *sys.argv[1:]]),
        config={},
        seed=None,
        dataset_digest=None,
        device=None,
        workbench_version=workbench_version(),
        started=_now(),
        finished=None,
        results=None,
    )
    write_json(path / "run.json", record.to_json())
    return RunFolder(path, record, lock)


def _locked(path: Path, name: str) -> BaseFileLock:
    """The lock of a run's folder, held until the run is finished or this program ends.

    Raises:
        RunError: another program holds it.
    """
    # One lock a file in this program: a run that is taken up again where it was begun is not kept out by itself.
    lock = FileLock(path / LOCK, is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RunError(
            f"run {name!r}: another program is at it right now; wait for it, or choose another name"
        ) from None
    return lock


@contextlib.contextmanager
def removed_on_failure(run: RunFolder) -> Iterator[None]:
    """Remove the folder of a run that ends here without having written anything but its record.

    What it captured is in the data set, where the same command finds it again.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if {p.name for p in run.path.iterdir()} <= {"run.json", LOCK}:
                (run.path / "run.json").unlink()
                run.release()
                run.path.rmdir()
        raise


def list_runs(lab: Path, kind: str | None = None) -> list[RunFolder]:
    """The finished runs of a lab, newest first; a record that cannot be read is left out, with a note on stderr."""
    found = []
    for file in (Path(lab) / "runs").glob("*/run.json"):
        try:
            run = RunFolder.open(file.parent)
        except RunError as error:
            if file.exists() and str(error) not in _told:
                _told.add(str(error))
                say([f"left out: {error}"])
            continue
        if run.finished and kind in (None, run.kind):
            found.append(run)
    return sorted(found, key=lambda r: (str(r.record.finished), r.name), reverse=True)


def recorded_run(lab: Path, name: object) -> Path:
    """The folder of a run that a record names.

    Raises:
        RunError: it is no run's name, and might lead out of the lab.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RunError(f"{lab}: a record names the run {name!r:.60}, which no run can be called; put the record back")
    return Path(lab) / "runs" / name


def find_run(lab: Path, kind: str, name: str | None = None) -> RunFolder:
    """A finished run: the newest of its kind, or the one of that name (or path).

    Runs that are parts of a study or repeat another run are found by name only: they are not what a lab uses.

    Raises:
        RunError: there is none, it is of another kind, or it never finished.
    """
    if name is None:
        runs = [run for run in list_runs(lab, kind) if not run.aside]
        if not runs:
            study = next(iter(list_runs(lab, kind)), None)
            apart = f" but parts of a study such as {study.name}, which is taken up by name" if study else ""
            raise RunError(f"{lab}: no finished {kind} run there{apart}; run {_command(kind)} first")
        return runs[0]
    path = Path(lab) / "runs" / name
    if not path.is_dir() and Path(name).is_dir():
        path = Path(name)
    if not path.is_dir() and (known := [run.name for run in list_runs(lab, kind)]):
        shown = ", ".join(known[:_NAMED]) + (f" and {len(known) - _NAMED} more" if known[_NAMED:] else "")
        raise RunError(f"{path}: no run there; the lab's {kind} runs, newest first: {shown}")
    run = RunFolder.open(path)
    if run.kind != kind:
        raise RunError(f"{path}: is a {run.kind} run, not a {kind} run")
    if not run.finished:
        raise RunError(
            f"{path}: the {kind} run never finished; wait where it is still going, else run {_command(kind)} again"
        )
    return run


def find_recorded(lab: Path, kind: str, name: str) -> RunFolder:
    """:func:`find_run` for a name that stands in a record: within the lab alone.

    Raises:
        RunError: see :func:`recorded_run` and :func:`find_run`.
    """
    recorded_run(lab, name)
    return find_run(lab, kind, name)


def _command(kind: str) -> str:
    """The command that makes runs of a kind."""
    return f"`workbench {kind}`"
