"""Which of several predictors to take: compared on the validation RAWs, on the device, before any test RAW is seen.

A ``choose`` run writes ``results.json`` (``workbench choose --json`` prints the same)::

    {"format": 1, "task": "viewing" | "detection:DETECTOR" | "segmentation:DETECTOR", "split": "validation",
     "metric": "psnr" | "loss", "device": {…}, "raws": 90, "scenes": 30,
     "raws_left_out": 0, "left_out": [...], "faults": {…},    # as in :mod:`workbench.judge.validation`
     "rows": [{"run": NAME, "rule": "fixed" | null,       # fixed: the best fixed set; null: a predictor
               "scores": {"psnr", "ssim"} | {"loss", "map50", "map75", "map"},     # means over the RAWs
               "gain": COMPARISON | null}],                 # in the metric over the first row; above 0 is better
     "best": NAME,                                        # of the predictors, by the metric
     "notes": ["…"],
     "per_raw": [{"name", "scene", "iso", "scores": {NAME: value of the metric}}]}

``loss`` is the mean logarithm of the detector's loss, lower is better: it tells predictors apart long before mAP does.
COMPARISON is that of :mod:`workbench.judge.validation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drivers.device import Device, DeviceInfo
from drivers.parameters import ParameterSet
from drivers.splits import Split
from predictor.files import load_predictor
from workbench.collect.bench import Bench
from workbench.collect.faults import faults_kept
from workbench.errors import RunError
from workbench.judge.compared_methods import check_space, find_tuned, trained_for
from workbench.judge.pairing import pair
from workbench.judge.statistics import compare
from workbench.judge.vision_validation import Judged
from workbench.lab.dataset import Dataset, FailureRecord, RawRecord
from workbench.lab.runs import RunFolder, describe_device, find_run, list_runs, new_run, removed_on_failure, write_json
from workbench.tasks import viewing
from workbench.tasks.vision import VisionTask
from workbench.tune.material import Scorer, referenced_raws
from workbench.tune.rules import sets_of
from workbench.tune.search import captured

KIND = "choose"
Progress = Callable[[str, int, int], None]


def choose(
    lab: Path,
    dataset: Dataset,
    device: Device,
    *,
    predictors: Sequence[str] = (),
    fixed: str | None = None,
    task: VisionTask | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare predictors on the validation RAWs on the device; the result's shape is in this module's docstring.

    Args:
        lab: the lab folder.
        dataset: its data set; captures made are kept there.
        device: the device.
        predictors: ``train`` runs; empty: all of the task on devices like this one.
        fixed: the ``tune`` run of a fixed set to stand first; by default the newest, if there is one.
        task: detection or segmentation; None for human viewing.
        seed: of the bootstrap.
        progress: called with (run, captures done, captures in all).

    Raises:
        RunError: no predictor, no validation RAW to judge by, or a run does not fit the device or saw these RAWs.
        DeviceError: the device failed; run again to go on (captures made are kept).
    """
    info = device.info()
    held_out = dataset.raws(Split.VALIDATION)
    if not held_out:
        raise RunError(
            "the data set has no validation RAW; collect RAWs whose split is `validation` (scenes.csv), or more scenes"
        )
    raws = task.annotated(dataset, Split.VALIDATION) if task else referenced_raws(dataset, Split.VALIDATION)
    key = task.key if task else "viewing"
    chosen = [find_run(lab, "train", name) for name in dict.fromkeys(predictors)] or _all_of(lab, info, key)
    rows: list[tuple[RunFolder, str | None, tuple[ParameterSet, ...]]] = []
    if (run := find_tuned(lab, fixed, "fixed", info, key)) is not None:
        _unseen(run, raws)
        rows.append((run, "fixed", tuple(sets_of(run, info.space, raws))))
    frames = [raw.load() for raw in raws]
    for run in chosen:
        _unseen(run, raws)
        loaded = load_predictor(run.path)
        check_space(run, loaded.space, info)
        rows.append((run, None, tuple(ParameterSet(info.space, p.codes) for p in loaded.predict(frames))))
    bench = Bench(dataset, device, purpose=KIND, patience=len(raws))
    total, done = len(rows) * len(raws), 0
    scorer = Scorer()
    judged: list[Judged | list[dict[str, float] | None]] = []
    failures: dict[str, dict[int, FailureRecord]] = {}
    metric = "loss" if task else "psnr"
    for run, _, sets in rows:
        judge = Judged(task, raws) if task else None
        scores: list[dict[str, float] | None] = []
        for i, (raw, outcome) in enumerate(captured(bench, list(zip(raws, sets, strict=True)))):
            if isinstance(outcome, FailureRecord):
                failures.setdefault(run.name, {})[i] = outcome
                judge.take(None) if judge else scores.append(None)
            elif judge:
                judge.add(outcome.rgb().pixels)
            else:
                scores.append(viewing.score(outcome.rgb().pixels, scorer.reference(raw)))
            done += 1
            if progress:
                progress(run.name, done, total)
        judged.append(judge or scores)
    pairing = pair(raws, {run.name: run.name for run, _, _ in rows}, failures)
    asked_raws, raws = len(raws), [raws[i] for i in pairing.places]
    kept = [i for i, (run, _, _) in enumerate(rows) if run.name in pairing.methods]
    rows, judged = [rows[i] for i in kept], [judged[i] for i in kept]
    if all(rule is not None for _, rule, _ in rows):
        raise RunError(f"no predictor is left to choose: {'; '.join(pairing.notes)}")
    means: list[dict[str, float]] = []
    values: list[np.ndarray] = []
    for own in judged:
        if isinstance(own, Judged):
            own = own.only(pairing.places)
            at = own.matches().scores(np.ones((1, len(raws))))
            means.append({"loss": float(np.mean(own.losses)), **{k: float(v[0]) for k, v in at.items()}})
            values.append(np.array(own.losses))
        else:
            there = [score for i in pairing.places if (score := own[i]) is not None]
            means.append({name: float(np.mean([score[name] for score in there])) for name in ("psnr", "ssim")})
            values.append(np.array([score["psnr"] for score in there]))
    sign, scenes = (-1 if task else 1), [raw.scene for raw in raws]
    gains = [compare(sign * (v - values[0]), scenes, seed=seed).to_dict() for v in values[1:]]
    ranked = [(sign * m[metric], run.name) for m, (run, rule, _) in zip(means, rows, strict=True) if rule is None]
    return {
        "format": 1,
        "task": key,
        "split": "validation",
        "metric": metric,
        "device": describe_device(info),
        "raws": len(raws),
        "raws_left_out": asked_raws - len(raws),
        "left_out": pairing.left_out,
        "scenes": len(set(scenes)),
        "rows": [
            {"run": run.name, "rule": rule, "scores": scores, "gain": gain}
            for (run, rule, _), scores, gain in zip(rows, means, [None, *gains], strict=True)
        ],
        "best": max(ranked)[1],
        "notes": [
            *(note for run in chosen for note in trained_for(run, key)),
            *(task.notes if task else ()),
            *pairing.notes,
        ],
        "per_raw": [
            {
                "name": raw.name,
                "scene": raw.scene,
                "iso": raw.iso,
                "scores": {run.name: float(v[i]) for (run, _, _), v in zip(rows, values, strict=True)},
            }
            for i, raw in enumerate(raws)
        ],
    }


def _all_of(lab: Path, info: DeviceInfo, task: str) -> list[RunFolder]:
    """Every predictor of the task for devices like this one, oldest first."""
    found = [
        run
        for run in list_runs(lab, "train")
        if run.config.get("task", "viewing") == task
        and not run.aside
        and load_predictor(run.path).space.hash == info.space.hash
    ]
    if not found:
        raise RunError(f"no predictor of the task {task} for this device; run `workbench train`")
    return found[::-1]


def _unseen(run: RunFolder, raws: Sequence[RawRecord]) -> None:
    """Validation scenes choose a training's best weights; none of them may have been trained or tuned on."""
    if seen := {raw.scene for raw in raws} & set(run.config.get("scenes") or ()):
        raise RunError(f"run {run.name}: was made with the validation scene {min(seen)!r}; make it again on this split")


def choose_run(
    lab: Path,
    dataset: Dataset,
    device: Device,
    *,
    name: str | None = None,
    predictors: Sequence[str] = (),
    fixed: str | None = None,
    task: VisionTask | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[RunFolder, dict[str, Any]]:
    """:func:`choose`, kept as a ``choose`` run with ``results.json``.

    Raises:
        RunError: the name is taken; and what :func:`choose` raises.
    """
    run = new_run(lab, KIND, name)
    with removed_on_failure(run):
        run.update(seed=seed, dataset_digest=dataset.digest(), device=device.info())
        with faults_kept(dataset, device, KIND) as faults:
            results = choose(
                lab, dataset, device, predictors=predictors, fixed=fixed, task=task, seed=seed, progress=progress
            )
            results["faults"] = faults.counts()
    run.update(config={"task": results["task"], "runs": [row["run"] for row in results["rows"]]})
    write_json(run.path / "results.json", results)
    run.finish({k: v for k, v in results.items() if k != "per_raw"})
    return run, results
