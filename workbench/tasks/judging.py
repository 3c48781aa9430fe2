"""What a task makes of an image, held to the interface: its code may be another package's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from drivers.errors import WorkbenchError
from drivers.foreign_text import shown, shown_failure
from workbench.errors import RunError
from workbench.lab.dataset import RawRecord
from workbench.tasks.task import Judgement, Task


def judgement_of(task: Task, raw: RawRecord, pixels: np.ndarray) -> Judgement:
    """:meth:`workbench.tasks.task.Task.judge`, with a finite figure for each metric that single images have.

    Raises:
        RunError: it fails, or gives something else.
    """
    where = f"task {shown(task.name)}: its judge"
    try:
        found: Any = task.judge(raw, pixels)
    except WorkbenchError:
        raise
    except Exception as error:  # another package's code may raise anything
        raise RunError(f"{where} fails on an output of {shown(raw.name)} with {shown_failure(error)}") from error
    if not isinstance(found, Judgement):
        raise RunError(f"{where} gives a {type(found).__name__}, not a Judgement; see workbench.tasks.task")
    for metric in task.metrics:
        if metric.per_raw and not is_figure(value := found.figures.get(metric.key)):
            raise RunError(
                f"{where} gives {value!r:.40} as {metric.key} of an output of {shown(raw.name)}; it must be a finite "
                "number, for means and differences are made of it"
            )
    return found


def is_figure(value: Any) -> bool:
    """Whether it is one finite number."""
    return isinstance(value, int | float | np.integer | np.floating) and math.isfinite(value)
