"""Run folders: one training, tuning or validation, with everything needed to repeat it.

``lab/runs/NAME/run.json`` holds::

    {"format": 1, "kind": "tune", "name": "tune-20250101-120000",
     "command": "workbench tune --device …",          # the command line
     "config": {…},                                   # every setting that shaped the result
     "seed": 0,
     "dataset_digest": "…" | null,                    # of the data set when the run started
     "device": {"identity", "model", "firmware", "serial", "boot_id", "space", "space_hash"} | null,
     "workbench_version": "0.1.0",
     "started": "2025-01-01T12:00:00.000000+00:00",   # UTC
     "finished": "…" | null,                          # null: stopped before its end
     "results": {…} | null}
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from drivers.atomic_files import write_text
from drivers.device import DeviceInfo
from drivers.regular_files import read_json
from workbench.errors import RunError

FORMAT = 1
RECORD_BYTES = 256 << 20
"""Largest record that is read; a tuning of thousands of trials takes a few megabytes."""
LOCK = ".lock"
# How many runs an error lists.
_NAMED = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


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


def describe_device(info: DeviceInfo) -> dict[str, str]:
    """What ``run.json`` keeps of a device."""
    return {
        "identity": info.identity,
        "model": info.model,
        "firmware": info.firmware,
        "serial": info.serial,
        "boot_id": info.boot_id,
        "space": info.space.name,
        "space_hash": info.space.hash,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _version() -> str:
    try:
        return version("isp-workbench")
    except PackageNotFoundError:
        return "not installed"


class RunFolder:
    """One run's folder. ``path`` is the folder, ``record`` the content of its ``run.json``."""

    def __init__(self, path: Path, record: dict[str, Any], lock: FileLock | None = None) -> None:
        self.path = path
        self.record = record
        self._lock = lock

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def kind(self) -> str:
        """``collect``, ``fit-proxy``, ``train``, ``tune``, ``validate``, …"""
        return str(self.record.get("kind", ""))

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.record.get("finished"))

    @property
    def config(self) -> dict[str, Any]:
        """The settings of the run; empty where none were recorded."""
        return self.record.get("config") or {}

    @property
    def results(self) -> dict[str, Any]:
        """The results of the run; empty where it has none."""
        return self.record.get("results") or {}

    @property
    def aside(self) -> bool:
        """Whether no command takes the run unasked: it is part of a study, or repeats another run."""
        return bool(self.config.get("study") or self.record.get("rerun_of"))

    def update(self, *, device: DeviceInfo | None = None, **fields: Any) -> None:
        """Change fields of ``run.json`` (``config``, ``seed``, ``dataset_digest``, …) and write it at once."""
        if device is not None:
            fields["device"] = describe_device(device)
        self.record = plain({**self.record, **fields})
        write_json(self.path / "run.json", self.record)

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
        others = [str(run.record["finished"]) for run in list_runs(self.path.parent.parent)]
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
        path = Path(path)
        file = path / "run.json"
        try:
            record = read_json(file, RECORD_BYTES)
        except FileNotFoundError as error:
            raise RunError(f"{path}: no run there (no run.json); `--lab` or the run's name may be wrong") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise RunError(
                f"{file}: cannot be read as a run ({reason}); put the file back, or remove the folder"
            ) from error
        if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
            raise RunError(f"{file}: is not the record of a run")
        for key, kind in (("config", dict), ("results", dict), ("started", str), ("finished", str)):
            if not isinstance(record.get(key), kind | None):
                raise RunError(f"{file}: {key} is damaged ({record[key]!r:.60}); put the file back")
        for key in ("started", "finished"):
            if record.get(key) is not None and not _is_utc(record[key]):
                raise RunError(f"{file}: {key} is no time ({record[key]!r:.60}); put the file back")
        if record.get("format") != FORMAT:
            raise RunError(f"{file}: format {record.get('format')!r}; this workbench reads format {FORMAT}")
        # Validations by a detector were a kind of their own.
        record["kind"] = {"validate-vision": "validate"}.get(record["kind"], record["kind"])
        return cls(path, record)


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
    run = RunFolder(path, {}, lock)
    run.update(
        format=FORMAT,
        kind=kind,
        name=path.name,
        command=shlex.join([_program(), *sys.argv[1:]]),
        config={},
        seed=None,
        dataset_digest=None,
        device=None,
        workbench_version=_version(),
        started=_now(),
        finished=None,
        results=None,
    )
    return run


def _locked(path: Path, name: str) -> FileLock:
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


def _is_utc(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).utcoffset() is not None
    except ValueError:
        return False


def list_runs(lab: Path, kind: str | None = None) -> list[RunFolder]:
    """The finished runs of a lab, newest first; folders without a readable ``run.json`` are left out."""
    found = []
    for file in (Path(lab) / "runs").glob("*/run.json"):
        try:
            run = RunFolder.open(file.parent)
        except RunError:
            continue
        if run.finished and kind in (None, run.kind):
            found.append(run)
    return sorted(found, key=lambda r: (str(r.record["finished"]), r.name), reverse=True)


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
