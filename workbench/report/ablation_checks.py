"""Checks of a study of ablations against its own RAWs, the runs behind it and the device's captures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from drivers.errors import FrameError, WorkbenchError
from drivers.splits import Split
from workbench.console.progress import each
from workbench.errors import DatasetError, RunError
from workbench.judge.ablation.results import AblationResult, SeedComparison
from workbench.judge.ablation.table import difference
from workbench.lab.dataset import CaptureRecord, Dataset, RawRecord
from workbench.lab.leaks import leaked
from workbench.lab.runs import RunFolder, find_recorded
from workbench.report.checks import TOLERANCE, Mark
from workbench.report.material import Material
from workbench.tasks.registry import task_of
from workbench.tasks.task import Metric, Task

# RAWs whose claimed figures are looked for among the device's captures.
LOOKED_AT = 3


def check_ablation(
    found: Material,
    run: RunFolder,
    results: AblationResult,
    dataset: Dataset | None,
    captures: Sequence[CaptureRecord],
) -> list[Mark]:
    """All marks of a study; without a data set only what its own records tell, and that nothing was verified."""
    marks = [*_sums(run, results), *_leaks(found, run, results)]
    if dataset is None:
        return [*marks, Mark(f"{run.name}: could not be verified against the device's captures.")]
    return [*marks, *_captures(run, results, dataset, captures)]


def _sums(run: RunFolder, results: AblationResult) -> Iterator[Mark]:
    """Figures of the table and of its order that are not those of the RAWs beneath them."""
    scenes = [raw.scene for raw in results.per_raw]
    of_raws = [m for m in results.metrics if m.per_raw]
    wrong = []

    def gain(key: str, over: str, metric: Metric) -> SeedComparison:
        one, other = (metric.sign * results.stacked(k, metric.key) for k in (key, over))
        return difference(one, other, scenes)

    for row in results.table:
        for metric in of_raws:
            own = results.stacked(row.key, metric.key)
            said = [row.figures[metric.key].estimate, *row.by_seed[metric.key]]
            alike = _close(said, [own.mean(), *own.mean(axis=1)])
            if over := row.over_reference.get(metric.key):
                alike &= _same(over, gain(row.key, results.reference, metric))
            wrong += [] if alike else [row.label]
    if results.main.per_raw:
        for step in results.order:
            same = _same(step.gain, gain(step.higher, step.lower, results.main))
            wrong += [] if same else [f"{step.lower} to {step.higher}"]
    if wrong:
        text = f"{run.name}: figures are not those of its RAWs ({', '.join(dict.fromkeys(wrong))})."
        yield Mark(text, (), True)


def _same(said: SeedComparison, computed: SeedComparison) -> bool:
    """Whether a difference's figures and verdict are those computed anew."""
    told, anew = ([i.estimate, i.low, i.high] for i in (said, computed))
    if said.verdict != computed.verdict or [v is None for v in told] != [v is None for v in anew]:
        return False
    return _close([v or 0.0 for v in told], [v or 0.0 for v in anew]) and _close(said.by_seed, computed.by_seed)


def _close(said: Any, computed: Any) -> bool:
    one, other = np.asarray(said, dtype=float), np.asarray(computed, dtype=float)
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=0, atol=1e-6))


def _leaks(found: Material, run: RunFolder, results: AblationResult) -> Iterator[Mark]:
    """Networks that were trained with a scene that they are judged on, or are not there any more."""
    test = {raw.scene for raw in results.per_raw}
    lost = []
    for name in dict.fromkeys(name for row in results.table for name in row.runs):
        try:
            trained = find_recorded(found.lab, "train", name)
        except RunError:
            lost.append(name)
            continue
        if seen := leaked(trained, test):
            text = f"{run.name}: {name} was trained with {len(seen)} of the test scenes ({seen[0]})."
            yield Mark(text, (), True)
    if lost:
        yield Mark(f"{run.name}: {len(lost)} of its train runs are not in this lab any more ({lost[0]}).")


def _captures(
    run: RunFolder, results: AblationResult, dataset: Dataset, captures: Sequence[CaptureRecord]
) -> Iterator[Mark]:
    """RAWs that are no test RAWs, and figures that no capture of the device has."""
    raws = {r.hash: r for r in dataset.raws(Split.TEST)}
    rows = results.per_raw
    if strangers := [row.name for row in rows if row.hash not in raws]:
        text = f"{run.name}: {len(strangers)} of {len(rows)} RAWs are no test RAWs of the data set ({strangers[0]})."
        yield Mark(text, (), True)
        return
    try:
        judge = task_of(run)
        judge.raws(dataset, Split.TEST)
    except WorkbenchError as error:
        yield Mark(f"{run.name}: what judged cannot be had again, so no figure was computed anew: {error}.")
        return
    identity, metric = results.device.identity, results.of_raws
    until = str(run.record.finished)[:23]
    made: dict[str, list[CaptureRecord]] = {}
    for capture in captures:
        if capture.device_identity == dataset.known_as(identity) and capture.created[:23] <= until:
            made.setdefault(capture.raw_hash, []).append(capture)
    for place in np.unique(np.linspace(0, len(rows) - 1, LOOKED_AT).round().astype(int)):
        row = rows[place]
        said = np.array([v for scores in row.variants.values() for v in scores[metric.key]])
        if not _found(judge, metric, said, made.get(row.hash, []), raws[row.hash], run.kind):
            text = f"{run.name}: {row.name}: no capture of {identity} has the {metric.label} that a variant is said to "
            yield Mark(f"{text}have.", (), True)
            return


def _found(
    judge: Task, metric: Metric, said: np.ndarray, captures: list[CaptureRecord], raw: RawRecord, purpose: str
) -> bool:
    """Whether each figure is that of a capture; what cannot be read is left to the pictures to complain about."""
    missing = np.ones(len(said), bool)
    try:
        # The study's own captures first: mostly nothing else is needed.
        for capture in each(f"check {raw.name}", sorted(captures, key=lambda c: c.purpose != purpose), "capture"):
            if not missing.any():
                break
            missing &= np.abs(said - judge.judge(raw, capture.rgb().pixels).figures[metric.key]) >= TOLERANCE
    except (DatasetError, FrameError):
        return True
    except RunError:
        return False
    return not missing.any()
