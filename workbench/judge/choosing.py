"""Which of several predictors to take: compared on the validation RAWs, on the device, before any test RAW is seen.

A ``choose`` run keeps a :class:`workbench.judge.results.ChooseResult` as ``results.json``. They are compared by the
first metric that single RAWs have (of a detector its loss, which tells predictors apart long before mAP does).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drivers.device import Device, DeviceInfo
from drivers.splits import Split
from workbench.collect.bench import Bench
from workbench.collect.faults import faults_kept
from workbench.collect.taking import make_sure_taken
from workbench.errors import RunError
from workbench.judge.gathering import find_tuned, trained_for
from workbench.judge.header import header
from workbench.judge.measuring import Measured, Progress, measure
from workbench.judge.methods import Method, MethodKind
from workbench.judge.other_judges import other_judges
from workbench.judge.predictions import predictions
from workbench.judge.results import ChooseResult, ChosenRaw, ChosenRow
from workbench.judge.under_setting import other_settings, overlaid
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.leaks import refuse_leaks
from workbench.lab.runs import RunFolder, find_run, list_runs, new_run, removed_on_failure
from workbench.learn.predictors import check_space, open_predictor
from workbench.rules.resolving import resolve
from workbench.rules.setting import Setting
from workbench.rules.tuned import sets_of
from workbench.tasks.registry import task_key
from workbench.tasks.task import Task, of_raws
from workbench.tasks.viewing import ViewingTask

KIND = "choose"


def choose(
    lab: Path,
    dataset: Dataset,
    device: Device,
    *,
    predictors: Sequence[str] = (),
    fixed: str | None = None,
    task: Task | None = None,
    seed: int = 0,
    setting: str | Path | Setting | None = None,
    progress: Progress | None = None,
) -> ChooseResult:
    """Compare predictors on the validation RAWs on the device.

    Args:
        lab: the lab folder.
        dataset: its data set; captures made are kept there.
        device: the device.
        predictors: ``train`` runs; empty: all of the task on devices like this one.
        fixed: the ``tune`` run of a fixed set to stand first; by default the newest, if there is one.
        task: what the images are for; by default human viewing.
        seed: of the bootstrap.
        setting: who sets parameters, the same for all, see :func:`workbench.rules.resolving.resolve`.
        progress: called with (run, captures done, captures in all).

    Raises:
        RunError: no predictor, no validation RAW to judge by, or a run does not fit the device or saw these RAWs.
        DeviceError: the device failed; run again to go on (captures made are kept).
    """
    task = task or ViewingTask()
    info = device.info()
    if not dataset.raws(Split.VALIDATION):
        raise RunError(
            "the data set has no validation RAW; collect RAWs whose split is `validation` (scenes.csv), or more scenes"
        )
    raws = task.raws(dataset, Split.VALIDATION)
    make_sure_taken(device, raws)
    chosen = [find_run(lab, "train", name) for name in dict.fromkeys(predictors)] or _all_of(lab, info, task)
    under, of_setting = resolve(setting, info.space, dataset)
    methods: list[Method] = []
    if (run := find_tuned(lab, fixed, "fixed", info, task, under)) is not None:
        _unseen(run, raws)
        methods.append(Method(MethodKind.fixed, run.name, tuple(sets_of(run, info.space, raws)), run.name))
    loaded = []
    for run in chosen:
        _unseen(run, raws)
        loaded.append(open_predictor(run))
        check_space(run, loaded[-1].space, info)
    for run, sets in zip(chosen, predictions(loaded, raws, info.space, progress), strict=True):
        methods.append(Method(MethodKind.predicted, run.name, sets, run.name))
    methods = overlaid(methods, raws, under)
    others = [*other_settings(lab, methods, under), *other_judges(lab, methods, task)]
    bench = Bench(dataset, device, purpose=KIND, patience=len(raws))
    measured = measure(bench, task, raws, methods, seed=seed, progress=progress)
    measured.count_sets(progress)
    metric = of_raws(task.metrics)
    candidates = [m for m in measured.methods if m.kind is MethodKind.predicted]
    if not candidates:
        raise RunError(f"no predictor is left to choose: {'; '.join(measured.pairing.notes)}")
    best = max((metric.sign * measured.mean(m.key, metric), m.label) for m in candidates)[1]
    return ChooseResult(
        **header(measured, info),
        split="validation",
        metric=metric.key,
        setting=under,
        rows=[_row(measured, m) for m in measured.methods],
        best=best,
        notes=[
            *of_setting,
            *others,
            *(note for run in chosen for note in trained_for(run, task)),
            *task.notes,
            *measured.pairing.notes,
        ],
        per_raw=[
            ChosenRaw(
                name=raw.name,
                scene=raw.scene,
                iso=raw.iso,
                scores={m.label: float(measured.values(m.key, metric)[i]) for m in measured.methods},
            )
            for i, raw in enumerate(measured.raws)
        ],
    )


def _row(measured: Measured, method: Method) -> ChosenRow:
    first, metrics = measured.methods[0], measured.task.metrics
    return ChosenRow(
        run=method.label,
        rule="fixed" if method.kind is MethodKind.fixed else None,
        scores={m.key: measured.mean(method.key, m) for m in (*metrics,)},
        gain=None if method is first else measured.gain(method.key, first.key, of_raws(metrics)),
    )


def _all_of(lab: Path, info: DeviceInfo, task: Task) -> list[RunFolder]:
    """Every predictor of the task for devices like this one, oldest first."""
    found = [
        run
        for run in list_runs(lab, "train")
        if task_key(run) == task.key and not run.aside and open_predictor(run).space.hash == info.space.hash
    ]
    if not found:
        raise RunError(f"no predictor of the task {task.key} for this device; run `workbench train`")
    return found[::-1]


def _unseen(run: RunFolder, raws: Sequence[RawRecord]) -> None:
    """Validation scenes choose a training's best weights; none of them may have been trained or tuned on."""
    scenes = {raw.scene for raw in raws}
    refuse_leaks(run, scenes, split="validation", held_out=False, next_step="make it again on this split")


def choose_run(
    lab: Path,
    dataset: Dataset,
    device: Device,
    *,
    name: str | None = None,
    predictors: Sequence[str] = (),
    fixed: str | None = None,
    task: Task | None = None,
    seed: int = 0,
    setting: str | Path | Setting | None = None,
    progress: Progress | None = None,
) -> tuple[RunFolder, ChooseResult]:
    """:func:`choose`, kept as a ``choose`` run with ``results.json``.

    Raises:
        RunError: the name is taken; and what :func:`choose` raises.
    """
    run = new_run(lab, KIND, name)
    with removed_on_failure(run):
        run.update(seed=seed, dataset_digest=dataset.digest(), device=device.info())
        with faults_kept(dataset, device, KIND) as faults:
            results = choose(
                lab,
                dataset,
                device,
                predictors=predictors,
                fixed=fixed,
                task=task,
                seed=seed,
                setting=setting,
                progress=progress,
            )
            results = results.model_copy(update={"faults": faults.counts()})
    under = {"setting": results.setting.to_json()} if results.setting else {}
    run.update(config={"task": results.task_key, "runs": [row.run for row in results.rows], **under})
    results.write(run.path / "results.json")
    run.finish(results.model_copy(update={"per_raw": []}).to_json())
    return run, results
