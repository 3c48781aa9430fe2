"""Checks of a validation against the data set, so that a report cannot flatter.

What a validation says is compared with what the lab holds: the device's captures, the records of the runs behind each
method, the splits. A figure that does not hold is refused (:attr:`Mark.refused`): the report shows it struck out and
draws nothing from it. What a reader must know, but what does not make a figure wrong, is marked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drivers.errors import FrameError, WorkbenchError
from drivers.splits import Split
from workbench.console.progress import each
from workbench.errors import DatasetError, RunError
from workbench.judge.budgets import less_than, rounding_of
from workbench.judge.methods import MethodKind
from workbench.judge.results import RawResult
from workbench.lab.dataset import CaptureRecord, Dataset, RawRecord
from workbench.lab.leaks import leaked
from workbench.lab.runs import RunFolder, find_recorded
from workbench.report.material import Material
from workbench.tasks.registry import task_of
from workbench.tasks.task import Task

# Figures are computed anew for as many RAWs as these pixels allow (all of them, where frames are small), or so many.
PIXELS, LEAST_RAWS = 100_000_000, 3
TOLERANCE = 0.005


@dataclass(frozen=True)
class Mark:
    """Something that a reader of a validation must know.

    Attributes:
        text: one sentence.
        methods: keys of the methods that it is about; empty: all.
        refused: whether their figures must not be used.
        smaller_budget: whether it says that they had fewer captures than what they are compared with.
        run: name of the run that it is about, where it is about a study beside the validation.
    """

    text: str
    methods: tuple[str, ...] = ()
    refused: bool = False
    smaller_budget: bool = False
    run: str = ""


def check_validation(found: Material, dataset: Dataset | None) -> list[Mark]:
    """All marks of a validation; without a data set only what its own records tell, and that nothing was verified."""
    marks = [*_sums(found), *_budgets(found), *_leaks(found)]
    if dataset is None:
        return [*marks, Mark("Without the data set no figure could be verified against the device's captures.")]
    return [*marks, *_captures(found, dataset), *_stale(found, dataset)]


def refused(marks: Sequence[Mark], keys: Sequence[str]) -> set[str]:
    """The keys of the methods whose figures are refused."""
    return {key for mark in marks if mark.refused for key in mark.methods or keys}


def _label(found: Material, key: str) -> str:
    return found.labels.get(key, key)


def _sums(found: Material) -> list[Mark]:
    """Means that are not those of the RAWs beneath them."""
    results, marks = found.results, []
    for m in results.methods:
        if m.key not in found.chosen:
            continue
        said = [(m.figures[f.key].estimate, results.values(m.key, f.key).mean()) for f in results.metrics if f.per_raw]
        gain = m.over.get(MethodKind.fixed, {}).get(found.metric.key)
        if gain is not None and MethodKind.fixed in found.chosen:
            said.append((gain.estimate, results.gains(m.key, MethodKind.fixed).mean()))
        if any(a is None or not np.isclose(a, b, rtol=0, atol=1e-6) for a, b in said):
            marks.append(Mark(f"{m.label}: its means are not those of its RAWs.", (m.key,), True))
    return marks


def _budgets(found: Material) -> list[Mark]:
    """Competitors that had fewer captures than what was learned, or fewer than the validation says."""
    marks = []
    learned = [m.captures or 0 for m in found.results.methods if m.kind is MethodKind.predicted]
    collected = max([found.results.collection_captures, *learned])
    what = "collection" if collected == found.results.collection_captures else "prediction"
    for m in found.results.methods:
        if not m.kind.tuned:
            continue
        spent = m.captures or 0
        run = _run(found, "tune", m.run)
        own = run.results.get("captures") if run else None
        if own is not None and own != spent:
            text = f"{m.label}: said to have had {spent} captures, its run {m.run} says {own}."
            marks.append(Mark(text, (m.key,), True))
        if less_than(min(spent, own if own is not None else spent), collected, rounding_of(run) if run else 0):
            text = (
                f"{m.label} had {own if own is not None else spent} captures, {what} {collected}: a smaller "
                "budget, so a gain over it is not at equal cost."
            )
            marks.append(Mark(text, (m.key,), smaller_budget=True))
    return marks


def _leaks(found: Material) -> list[Mark]:
    """Methods whose runs saw a scene that they are judged on."""
    test = set(found.results.scenes_of_raws)
    marks = []
    for m in found.results.methods:
        if not m.run:
            continue
        runs = [_run(found, "train" if m.kind.learnt else "tune", m.run)]
        runs += [_run(found, "fit-proxy", r.config["proxy"]) for r in runs if r and r.config.get("proxy")]
        for run in runs:
            if run is not None and (seen := leaked(run, test)):
                text = f"{m.label}: the {run.kind} run {run.name} was made with {len(seen)} of the test scenes"
                marks.append(Mark(f"{text} ({seen[0]}).", (m.key,), True))
    return marks


def _run(found: Material, kind: str, name: str | None) -> RunFolder | None:
    try:
        return find_recorded(found.lab, kind, name) if name else None
    except RunError:
        return None


def _captures(found: Material, dataset: Dataset) -> list[Mark]:
    """Figures that are not those of the device's captures: other outputs, other scores, or other RAWs."""
    identity, rows = found.results.device.identity, found.results.per_raw
    raws = {r.hash: r for r in dataset.raws(Split.TEST)}
    marks = []
    strangers = [row.name for row in rows if row.hash not in raws]
    if strangers:
        text = f"{len(strangers)} of {len(rows)} RAWs are no test RAWs of the data set ({strangers[0]})."
        marks.append(Mark(text, (), True))
    judge, unjudged = _judge(found, dataset)
    marks += [unjudged] if unjudged else []
    again = _again(rows, raws, len(found.chosen)) if judge else set()
    for key, label in found.chosen.items():
        hashes = [found.space.from_codes(row.methods[key].codes).hash for row in rows]
        captures = dataset.find(identity, list(zip((row.hash for row in rows), hashes, strict=True)))
        missing, other, wrong = 0, 0, 0
        for row, parameters in zip(each(f"check {label}", rows), hashes, strict=True):
            capture, said = captures.get((row.hash, parameters)), row.methods[key]
            if capture is None:
                missing += 1
            elif capture.output_hash != said.output_hash:
                other += 1
            elif judge and row.hash in again and not holds(judge, capture, raws[row.hash], said.figures):
                wrong += 1
        if other:
            text = f"{label}: {other} of {len(rows)} outputs are not what the device {identity} gave."
            marks.append(Mark(text, (key,), True))
        if wrong:
            which = f"{wrong} of {len(again)} RAWs"
            text = f"{label}: the {found.metric.label} of {which}, computed anew, is not that of the device's output."
            marks.append(Mark(text, (key,), True))
        if missing:
            text = f"{label}: {missing} of {len(rows)} captures of {identity} are not in the data set."
            marks.append(Mark(text, (key,), True))
    return marks


def _judge(found: Material, dataset: Dataset) -> tuple[Task | None, Mark | None]:
    """What judged, to judge anew; or a mark that it could not be had."""
    try:
        task = task_of(found.validation)
        task.raws(dataset, Split.TEST)
    except WorkbenchError as error:
        return None, Mark(f"What judged cannot be had again, so no figure was computed anew: {error}.")
    return task, None


def _again(rows: Sequence[RawResult], raws: dict[str, RawRecord], methods: int) -> set[str]:
    """Hashes of the RAWs whose scores are computed anew, evenly spread."""
    known = [raws[row.hash] for row in rows if row.hash in raws]
    if not known:
        return set()
    largest = max(r.width * r.height for r in known)
    count = int(np.clip(PIXELS // (largest * methods), min(LEAST_RAWS, len(known)), len(known)))
    return {known[i].hash for i in np.linspace(0, len(known) - 1, count).round().astype(int)}


def holds(judge: Task, capture: CaptureRecord, raw: RawRecord, said: Mapping[str, float]) -> bool:
    """Whether the first of the figures is that of the capture.

    What cannot be read is left to the pictures to complain about.
    """
    key, value = next(iter(said.items()))
    try:
        return abs(judge.judge(raw, capture.rgb().pixels).figures[key] - value) < TOLERANCE
    except (DatasetError, RunError):
        return True
    except FrameError:
        return False


def _stale(found: Material, dataset: Dataset) -> list[Mark]:
    """Runs whose data set is another one now: captures that they saw are gone or changed, or more were collected."""
    captures, identity = dataset.captures(), dataset.known_as(found.results.device.identity)
    runs = [found.validation, *found.predictors, *found.tunings.values(), *([found.proxy] if found.proxy else [])]
    marks = [Mark(mark.text, _methods_of(found, run)) for run in runs for mark in stale_run(run, captures)]
    started = str(found.validation.record.started)
    later = [
        c
        for c in captures
        if c.device_identity == identity and c.purpose.startswith("collect") and not _until(c, started)
    ]
    if later:
        text = f"{len(later)} captures were collected after this validation: it does not know them."
        marks.append(Mark(text))
    return marks


def stale_run(run: RunFolder, captures: Sequence[CaptureRecord]) -> list[Mark]:
    """A mark where the captures that a run was made with are not those of the data set now."""
    digest = run.record.dataset_digest
    if not digest or digest_until(captures, str(run.record.started)) == digest:
        return []
    text = (
        f"The {run.kind} run {run.name} is stale: captures that it was made with are not in the data set any "
        "more, or are others now (its digest differs); make it again."
    )
    return [Mark(text, run=run.name)]


def check_studies(found: Material, captures: Sequence[CaptureRecord]) -> list[Mark]:
    """Studies beside the validation that are stale by the captures of the data set now."""
    runs = [*([found.ablation] if found.ablation else []), *found.more_tunings, *found.fronts]
    known = {run.name for run in found.tunings.values()}
    new = {run.name: run for run in runs if run.name not in known}
    return [mark for run in new.values() for mark in stale_run(run, captures)]


def _methods_of(found: Material, run: RunFolder) -> tuple[str, ...]:
    return tuple(m.key for m in found.results.methods if m.run == run.name)


def digest_until(captures: Sequence[CaptureRecord], moment: str) -> str:
    """What :meth:`Dataset.digest` was at a moment (UTC, ISO 8601), by the captures that are there now."""
    digest = hashlib.sha256()
    for line in sorted(
        (c.raw_hash, c.parameters_hash, c.device_identity, c.repeat, c.output_hash)
        for c in captures
        if _until(c, moment)
    ):
        digest.update(json.dumps(line).encode() + b"\n")
    return digest.hexdigest()


def _until(capture: CaptureRecord, moment: str) -> bool:
    """Whether a capture was there at a moment; both are UTC, of captures to the millisecond."""
    return capture.created[:23] <= moment[:23]
