"""Tasks by name: entry points of the group ``isp_workbench.tasks``; other packages may add theirs.

An entry point names a :class:`workbench.tasks.task.TaskKind`::

    [project.entry-points."isp_workbench.tasks"]
    ocr = "my_package.ocr:TASK"
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from workbench.errors import RunError
from workbench.lab import trust
from workbench.lab.runs import RunFolder
from workbench.tasks.task import Task, TaskKind, TaskOptions

GROUP = "isp_workbench.tasks"


def task_names() -> tuple[str, ...]:
    """The tasks that are installed, ``viewing`` first."""
    names = {entry.name for entry in entry_points(group=GROUP)}
    return tuple(sorted(names, key=lambda name: (name != "viewing", name)))


def _kind(name: str) -> TaskKind:
    entry = next((e for e in entry_points(group=GROUP) if e.name == name), None)
    if entry is None:
        raise RunError(f"task {name!r} is not one of {', '.join(task_names())}; a package may add one ({GROUP})")
    try:
        kind = entry.load()
    except (ImportError, AttributeError) as error:
        raise RunError(f"task {name}: cannot be loaded from {entry.value} ({error}); install it again") from error
    if not isinstance(kind, TaskKind):
        raise RunError(f"task {name}: {entry.value} is no TaskKind; see workbench.tasks.task")
    return kind


def open_task(name: str, options: TaskOptions | None = None) -> Task:
    """The task of a name.

    Raises:
        RunError: unknown task, or what the task needs is not given or cannot be used.
    """
    return _kind(name).open(options or TaskOptions())


def takes_options(name: str) -> bool:
    """Whether a task takes :class:`TaskOptions`.

    Raises:
        RunError: unknown task.
    """
    return _kind(name).options


def recorded(task: Task) -> dict[str, Any]:
    """What a run's config says of its task."""
    # Under the name that the first records had, of the tasks that there were.
    return {"task": task.key, "vision": task.record()}


def task_key(run: RunFolder) -> str:
    """The key of a run's task."""
    return str(run.config.get("task", "viewing"))


def task_of(run: RunFolder) -> Task:
    """The task of a run, as its record says.

    Raises:
        RunError: the record does not hold it, what it was opened from is gone or is other now, or it is code that a
            record alone may not start.
    """
    check_recorded(run)
    record = run.config.get("vision")
    name = task_key(run).partition(":")[0]
    if record is not None and not isinstance(record, Mapping):
        raise RunError(f"run {run.name}: its record of the task is damaged ({record!r:.60}); put it back")
    if record is not None:
        _require_trust(record, run)
    return _kind(name).reopen(record or {})


def reopened(key: str, record: Mapping[str, Any] | None) -> Task:
    """The task of that key and record, opened in another process of the same command."""
    return _kind(key.partition(":")[0]).reopen(record or {})


def check_recorded(run: RunFolder) -> None:
    """See that a run's record holds its task, without opening it.

    Raises:
        RunError: it does not.
    """
    key = task_key(run)
    name = key.partition(":")[0]
    if run.config.get("vision") is None and (name not in task_names() or takes_options(name)):
        raise RunError(
            f"run {run.name}: is of the task {key}, whose annotations the record does not hold; repeat its command: "
            f"{run.record.command}"
        )


def _require_trust(record: Mapping[str, Any], run: RunFolder) -> None:
    from workbench.tasks.detectors import is_factory

    detector = record.get("detector")
    if isinstance(detector, str) and is_factory(detector):
        trust.require(detector, f"the record of run {run.name}")
