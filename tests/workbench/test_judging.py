"""What a task of another package makes of an image is held to the interface."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from workbench.errors import RunError
from workbench.lab.dataset import RawRecord
from workbench.tasks.judging import judgement_of
from workbench.tasks.task import Judgement, Metric, Task
from workbench.tune.search import as_values

RAW = cast(RawRecord, SimpleNamespace(name="a.npz"))
METRICS = (Metric("sharp", "sharpness"), Metric("map", "mAP", per_raw=False))


def task(judge: Any) -> Task:
    return cast(Task, SimpleNamespace(name="own", metrics=METRICS, judge=judge))


def fails(raw: RawRecord, pixels: np.ndarray) -> Judgement:
    raise ZeroDivisionError("no\nlight")


def test_a_figure_of_each_metric_of_images_is_all_that_is_needed() -> None:
    for value in (3, 0.5, np.float32(2)):
        assert judgement_of(task(lambda raw, pixels, v=value: Judgement({"sharp": v})), RAW, np.zeros(0)).figures


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        (lambda raw, pixels: Judgement({"sharp": np.nan}), "nan as sharp of an output of a.npz"),
        (lambda raw, pixels: Judgement({"sharp": np.zeros(2)}), r"array\(\[0., 0.\]\) as sharp"),  # type: ignore[dict-item]
        (lambda raw, pixels: Judgement({"map": 1.0}), "None as sharp"),
        (lambda raw, pixels: {"sharp": 1.0}, "a dict, not a Judgement"),
        (fails, r"fails on an output of a.npz with ZeroDivisionError: no light \(test_judging.py, line \d+\)"),
    ],
)
def test_what_cannot_be_compared_is_one_line(judge: Any, words: str) -> None:
    with pytest.raises(RunError, match=f"^task own: its judge (gives )?{words}"):
        judgement_of(task(judge), RAW, np.zeros(0))


@pytest.mark.parametrize("score", [np.nan, -np.inf, None, (1.0, np.nan)])
def test_a_score_that_cannot_be_ranked_is_one_line(score: Any) -> None:
    with pytest.raises(RunError, match=r"the task's scorer gives (nan|-inf|None) for a set"):
        as_values(score)
