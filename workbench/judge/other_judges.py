"""Runs that another judge made: a detector of that name with other weights, or annotations that were changed since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drivers.foreign_text import shown
from workbench.judge.methods import Method
from workbench.lab.runs import RunFolder, recorded_run
from workbench.tasks.registry import task_key
from workbench.tasks.task import Task


def same_weights(run: RunFolder, record: Mapping[str, Any] | None) -> bool:
    """Whether the detector of a run's task had the weights that a task's record tells; True where one tells none."""
    own = run.config.get("vision")
    if record is None or not isinstance(own, Mapping):
        return True
    return all(own.get(key) in (None, record.get(key)) for key in ("weights_sha256", "settings_sha256"))


def other_judges(lab: Path, methods: Sequence[Method], task: Task) -> list[str]:
    """Notes on runs of this task whose detector had other weights, or whose annotations were changed in their file."""
    record = task.record()
    if record is None:
        return []
    weights, annotations = [], []
    for name in dict.fromkeys(m.run for m in methods if m.run):
        folder = recorded_run(lab, name)
        if not (folder / "run.json").is_file() or task_key(run := RunFolder.open(folder)) != task.key:
            continue
        if not same_weights(run, record):
            weights.append(name)
        own = run.config.get("vision")
        told = own if isinstance(own, Mapping) else {}
        old, new = ((r.get("annotations"), r.get("annotations_sha256")) for r in (told, record))
        if old[0] == new[0] and old[1] != new[1]:
            annotations.append(name)
    again = "make them again to compare like with like"
    notes = []
    if weights:
        detector = shown(task.key.partition(":")[2])
        notes.append(f"made for other weights or settings of detector {detector}: {', '.join(weights)}; {again}")
    if annotations:
        file = shown(Path(str(record["annotations"])).name)
        notes.append(f"made before {file} was changed: {', '.join(annotations)}; {again}")
    return notes
