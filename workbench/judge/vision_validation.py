"""Detection and segmentation on the device (sections 5.2, 5.3): every method's outputs, judged by the detector.

A ``validate-vision`` run writes ``results.json`` (``workbench validate --task detection --json`` prints the same)::

    {"format": 1, "task": "detection", "detector": SPECIFICATION, "kind": "bbox" | "segm",
     "device": {…}, "space": {…}, "raws": 160, "scenes": 160, "objects": 1383, "seed": 0,
     "raws_left_out": 0, "left_out": [...], "faults": {…},    # as in :mod:`workbench.judge.validation`
     "collection_captures": 3000,
     "methods": [{"key", "label", "run", "captures", "metadata",
                  "map50", "map75", "map": INTERVAL,   # 0..1, bootstrap over images, by scene
                  "loss": INTERVAL,                    # mean log of the detector's loss; lower is better
                  # paired; of the loss too a positive gain is better
                  "failed": 0,                         # frames that the device failed with it
                  "gain_over_fixed": {"map50", "map75", "map": INTERVAL with "verdict", "loss": COMPARISON} | null,
                  "gain_over_industry": the same | null}],
     "headline": KEY of the prediction that it is about | null,
     "per_raw": [{"name", "hash", "scene", "iso", "methods": {KEY: {"loss", "codes", "output_hash"}}}],
     "notes": ["…"]}

The method ``clean`` is no method: the detector on the clean photographs that the RAWs were simulated from, the ceiling.
INTERVAL, COMPARISON and the other keys are those of :mod:`workbench.judge.validation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drivers.device import Device
from drivers.splits import Split
from workbench.collect.bench import Bench
from workbench.collect.faults import faults_kept
from workbench.errors import RunError
from workbench.judge.compared_methods import (
    Method,
    ValidationSettings,
    collection_captures,
    compared,
    gather,
    headline_method,
    kept_methods,
    smaller_budget,
)
from workbench.judge.pairing import pair
from workbench.judge.statistics import MIN_CLUSTERS, Interval, compare, mean_interval
from workbench.lab.dataset import Dataset, FailureRecord, RawRecord
from workbench.lab.runs import RunFolder, describe_device, new_run, removed_on_failure, write_json
from workbench.tasks.coco_bootstrap import Matches
from workbench.tasks.vision import VisionTask
from workbench.tune.material import stratified
from workbench.tune.search import captured

KIND = "validate-vision"
METRICS = ("map50", "map75", "map")
RESAMPLES = 500
CLEAN = "clean"
Progress = Callable[[str, int, int], None]


def _counts(scenes: Sequence[str], seed: int) -> np.ndarray:
    """How often each RAW is drawn, ``[RESAMPLES, n]``: whole scenes with replacement."""
    places = {scene: i for i, scene in enumerate(dict.fromkeys(scenes))}
    index = np.array([places[scene] for scene in scenes])
    rng = np.random.default_rng(seed)
    return rng.multinomial(len(places), np.full(len(places), 1 / len(places)), RESAMPLES)[:, index].astype(float)


def _interval(estimate: float, draws: np.ndarray, scenes: Sequence[str]) -> Interval:
    clusters = len(set(scenes))
    low: float | None = None
    high: float | None = None
    if clusters >= MIN_CLUSTERS and np.isfinite(draws).all():
        low, high = (float(v) for v in np.percentile(draws, [2.5, 97.5]))
    return Interval(estimate, low, high, clusters, len(scenes))


def _difference(estimate: float, draws: np.ndarray, scenes: Sequence[str]) -> dict[str, Any]:
    """Of mAP, which has no figure a RAW: no test beside the interval."""
    interval = _interval(estimate, draws, scenes)
    return {**interval.to_dict(), "verdict": interval.verdict}


Judgement = tuple[list[dict[str, Any]], float]
"""What the detector found in one image, and the logarithm of its loss."""


class Judged:
    """What the detector made of one method's images, a RAW each in their order."""

    def __init__(self, task: VisionTask, raws: Sequence[RawRecord]) -> None:
        self._task, self._raws = task, raws
        self._targets = task.targets(raws)
        self._judgements: list[Judgement | None] = []

    def add(self, pixels: np.ndarray) -> None:
        """The next RAW's image, ``uint8 [H, W, 3]``."""
        target = self._targets[self._raws[len(self._judgements)].hash]
        self._judgements.append((self._task.results(0, pixels), self._task.log_loss_of(pixels, target)))

    def take(self, judgement: Judgement | None) -> None:
        """The same of an image judged before (:attr:`last`); None: the next RAW has no image."""
        self._judgements.append(judgement)

    @property
    def last(self) -> Judgement | None:
        """Of the last RAW."""
        return self._judgements[-1]

    def only(self, places: Sequence[int]) -> Judged:
        """Of some of the RAWs, each of which has an image."""
        kept = Judged(self._task, [self._raws[i] for i in places])
        kept._judgements = [self._judgements[i] for i in places]
        return kept

    @property
    def results(self) -> list[dict[str, Any]]:
        """The detections, numbered by their RAW's place, from 1."""
        judgements = (j for j in self._judgements if j is not None)
        return [{**entry, "image_id": i} for i, (found, _) in enumerate(judgements, 1) for entry in found]

    @property
    def losses(self) -> list[float]:
        """The logarithms of the losses."""
        return [j[1] for j in self._judgements if j is not None]

    def matches(self) -> Matches:
        """The detections, matched."""
        return Matches(self._task.truth(self._raws), self.results, self._task.kind)


def validate_vision(
    lab: Path,
    dataset: Dataset,
    device: Device,
    settings: ValidationSettings,
    task: VisionTask,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare all methods on the test RAWs on the device; the result's shape is in this module's docstring.

    Raises:
        RunError: no test RAW has annotations or shows an object, or a run does not fit the device or the splits.
        DeviceError: the device failed; run again to go on (captures made are kept).
    """
    info = device.info()
    raws = task.annotated(dataset, Split.TEST)
    if 0 < settings.test_raws < len(raws):
        raws = stratified(raws, settings.test_raws, settings.seed)
    truth = task.truth(raws)
    objects = sum(not a["iscrowd"] for a in truth["annotations"])
    if not objects:
        raise RunError(f"{task.data.path}: no test RAW shows an object; there is nothing to score")
    methods, notes = gather(lab, dataset, info, raws, settings)
    # What a method may fail of is decided when all have been measured.
    bench = Bench(dataset, device, purpose=KIND, patience=len(raws))
    judged: dict[str, Judged] = {}
    captures: dict[str, dict[int, str]] = {}
    failures: dict[str, dict[int, FailureRecord]] = {}
    done = 0
    total = len(raws) * (len(methods) + all(r.has_reference for r in raws))
    # Methods may agree on a set; the detector then looks at an output once.
    known: dict[str, Judgement | None] = {}
    for method in methods:
        judge = judged[method.key] = Judged(task, raws)
        for i, (_, outcome) in enumerate(captured(bench, list(zip(raws, method.sets, strict=True)))):
            if isinstance(outcome, FailureRecord):
                failures.setdefault(method.key, {})[i] = outcome
                judge.take(None)
            else:
                key = f"{i} {outcome.output_hash}"
                if key in known:
                    judge.take(known[key])
                else:
                    judge.add(outcome.rgb().pixels)
                    known[key] = judge.last
                captures.setdefault(method.key, {})[i] = outcome.output_hash
            done += 1
            if progress:
                progress(method.label, done, total)
    pairing = pair(raws, {m.key: m.label for m in methods}, failures)
    notes += pairing.notes
    asked_raws = len(raws)
    raws = [raws[i] for i in pairing.places]
    methods = kept_methods(methods, pairing)
    judged = {m.key: judged[m.key].only(pairing.places) for m in methods}
    hashes = {m.key: [captures[m.key][i] for i in pairing.places] for m in methods}
    objects = sum(not a["iscrowd"] for a in task.truth(raws)["annotations"])
    if all(r.has_reference for r in raws):
        judge = judged[CLEAN] = Judged(task, raws)
        for raw in raws:
            pixels = raw.reference()
            assert pixels is not None
            judge.add(pixels)
            done += 1
            if progress:
                progress("clean photographs", done, total)
    rows = _rows(methods, judged, [r.scene for r in raws], settings.seed, pairing.failed)
    collected = collection_captures(dataset, info.identity)
    notes += [
        f"{m.label} ({m.run}) had {m.captures} captures, collection {collected}: not the same budget"
        for m in methods
        if smaller_budget(m, collected)
    ]
    about = headline_method(methods)
    return {
        "format": 1,
        "task": task.name,
        "detector": task.specification,
        "kind": task.kind,
        "device": describe_device(info),
        "space": info.space.to_dict(),
        "raws": len(raws),
        "raws_left_out": asked_raws - len(raws),
        "left_out": pairing.left_out,
        "scenes": len({r.scene for r in raws}),
        "objects": objects,
        "seed": settings.seed,
        "collection_captures": collected,
        "methods": rows,
        "headline": about.key if about else None,
        "per_raw": [
            {
                "name": raw.name,
                "hash": raw.hash,
                "scene": raw.scene,
                "iso": raw.iso,
                "methods": {
                    m.key: {
                        "loss": judged[m.key].losses[i],
                        "codes": dict(zip(info.space.names, m.sets[i].codes, strict=True)),
                        "output_hash": hashes[m.key][i],
                    }
                    for m in methods
                },
            }
            for i, raw in enumerate(raws)
        ],
        "notes": [*notes, *task.notes],
    }


def _rows(
    methods: Sequence[Method], judged: dict[str, Judged], scenes: Sequence[str], seed: int, failed: dict[str, int]
) -> list[dict[str, Any]]:
    counts = _counts(scenes, seed)
    whole = np.ones((1, len(scenes)))
    matches = {key: judge.matches() for key, judge in judged.items()}
    at = {key: {k: float(v[0]) for k, v in m.scores(whole).items()} for key, m in matches.items()}
    draws = {key: m.scores(counts) for key, m in matches.items()}
    shown: list[Method] = list(methods)
    if CLEAN in judged:
        shown.append(Method(CLEAN, "clean photographs (ceiling)", ()))

    def gain(key: str, over: str) -> dict[str, Any] | None:
        if over not in judged or key == over:
            return None
        gains = {k: _difference(at[key][k] - at[over][k], draws[key][k] - draws[over][k], scenes) for k in METRICS}
        better = np.array(judged[over].losses) - np.array(judged[key].losses)
        return {**gains, "loss": compare(better, scenes, seed=seed).to_dict()}

    rows = []
    for m in shown:
        rows.append(
            {
                "key": m.key,
                "label": m.label,
                "run": m.run,
                "captures": m.captures,
                "metadata": m.metadata,
                **{k: _interval(at[m.key][k], draws[m.key][k], scenes).to_dict() for k in METRICS},
                "loss": mean_interval(judged[m.key].losses, scenes, seed=seed).to_dict(),
                "failed": failed.get(m.key, 0),
                "gain_over_fixed": gain(m.key, "fixed"),
                "gain_over_industry": gain(m.key, "industry"),
            }
        )
    return rows


def validate_vision_run(
    lab: Path,
    dataset: Dataset,
    device: Device,
    settings: ValidationSettings,
    task: VisionTask,
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> tuple[RunFolder, dict[str, Any]]:
    """:func:`validate_vision`, kept as a ``validate-vision`` run: ``results.json``, the table and pictures.

    Raises:
        RunError: the name is taken; and what :func:`validate_vision` raises.
    """
    from workbench.judge.vision_page import write_page

    run = new_run(lab, KIND, name)
    with removed_on_failure(run):
        run.update(seed=settings.seed, dataset_digest=dataset.digest(), device=device.info())
        with faults_kept(dataset, device, KIND) as faults:
            results = validate_vision(lab, dataset, device, settings, task, progress=progress)
            results["faults"] = faults.counts()
    run.update(
        config={
            "task": task.key,
            **compared(results["methods"]),
            "expert": settings.expert,
            "vision": task.to_record(),
        }
    )
    write_json(run.path / "results.json", results)
    run.finish({k: v for k, v in results.items() if k not in ("per_raw", "space")})
    write_page(run, dataset, results, task)
    return run, results
