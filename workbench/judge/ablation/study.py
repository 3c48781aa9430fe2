"""Judges the trained variants on the device and writes the ``ablate`` run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from drivers.device import Device, DeviceInfo
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.splits import Split
from workbench.collect.bench import Bench
from workbench.collect.faults import faults_kept
from workbench.collect.taking import make_sure_taken
from workbench.errors import RunError
from workbench.judge.ablation import figures
from workbench.judge.ablation.results import MIN_SEEDS, AblationResult, AttentionDrawn
from workbench.judge.ablation.table import Sets, Study, method_of, order_of, raws_of, scatter_of, variant_result
from workbench.judge.ablation.training import PURPOSE, Progress, Trained
from workbench.judge.ablation.variants import AblationSettings
from workbench.judge.header import header
from workbench.judge.measuring import measure
from workbench.judge.under_setting import overlaid
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.runs import RunFolder, find_run, new_run
from workbench.lab.stratified import stratified
from workbench.learn.held import held_in_words, union
from workbench.learn.own_weights import open_proxy
from workbench.learn.predictors import RunPredictor, open_predictor
from workbench.rules.mean_of_sets import mean_of
from workbench.rules.setting import recorded_setting
from workbench.tasks.registry import recorded
from workbench.tasks.task import Task
from workbench.tasks.viewing import ViewingTask

# As many RAWs of the training split as the paper took from COCO to fix its predictions (section 5.5).
FIXED_RAWS = 300


@dataclass
class _Predictions:
    """What the networks say: a set a test RAW, by variant's key and seed, and where they look on one RAW."""

    sets: dict[tuple[str, int], list[ParameterSet]]
    maps: dict[str, np.ndarray]
    frame: RawFrame | None


def _predict(
    settings: AblationSettings,
    loaded: dict[tuple[str, int], RunPredictor],
    training: Sequence[RawRecord],
    raws: Sequence[RawRecord],
    drawn: RawRecord,
    progress: Progress,
) -> _Predictions:
    """RAW by RAW, every network: large frames would not fit into memory together."""
    fixed = {v.trained for v in settings.variants if v.fixed}
    moving = {v.trained for v in settings.variants if not v.fixed}
    on_training: dict[tuple[str, int], list[ParameterSet]] = {k: [] for k in loaded if k[0] in fixed}
    sets: dict[tuple[str, int], list[ParameterSet]] = {k: [] for k in loaded if k[0] in moving}
    maps: dict[str, np.ndarray] = {}
    shown: RawFrame | None = None
    total = (len(training) if on_training else 0) + len(raws)
    for i, raw in enumerate(training if on_training else ()):
        frame = raw.load()
        for key, got in on_training.items():
            got += loaded[key].predict([frame])
        progress(i + 1, total, "predictions for training RAWs")
    for i, raw in enumerate(raws):
        frame = raw.load()
        for key, got in sets.items():
            got += loaded[key].predict([frame])
            if raw is drawn and key[1] == settings.seeds[0]:
                maps[key[0]], shown = loaded[key].attention(frame), frame
        progress(total - len(raws) + i + 1, total, "predictions")
    maps = {v.key: maps[v.key] for v in settings.variants if v.key in maps}
    by_variant = {
        (v.key, seed): [mean_of(on_training[v.trained, seed])] * len(raws) if v.fixed else sets[v.trained, seed]
        for v in settings.variants
        for seed in settings.seeds
    }
    return _Predictions(by_variant, maps, shown)


def check_device(lab: Path, info: DeviceInfo, settings: AblationSettings) -> None:
    """Whether the proxy that the variants are trained through is of this device; asked before hours of training.

    Raises:
        RunError: it is not, or there is none.
    """
    run = find_run(lab, "fit-proxy", settings.proxy)
    space = open_proxy(run).space
    if space.hash != info.space.hash:
        raise RunError(
            f"run {run.name}: its parameter space ({space.name}, {len(space)} parameters) is not that of the device "
            f"{info.identity} ({len(info.space)} parameters); fit a proxy on captures of this device"
        )
    for name in settings.scatter or ():
        if name not in space.names:
            raise RunError(f"unknown parameter {name!r} for {space.name}; it has {', '.join(space.names)}")


def study_raws(dataset: Dataset, settings: AblationSettings, task: Task) -> tuple[list[RawRecord], RawRecord]:
    """The test RAWs of the study, and the one whose attention maps are drawn.

    Raises:
        RunError: there is no test RAW that the task can judge, or the one to draw is not among them.
    """
    raws = task.raws(dataset, Split.TEST)
    if 0 < settings.test_raws < len(raws):
        raws = stratified(raws, settings.test_raws, 0)
    drawn = next((r for r in raws if r.name == settings.raw), None) if settings.raw else raws[0]
    if drawn is None:
        raise RunError(f"--raw {settings.raw}: no test RAW of that name is in the study; {raws[0].name} is one")
    return raws, drawn


def ablate_run(
    lab: Path,
    dataset: Dataset,
    device: Device,
    settings: AblationSettings,
    trained: Trained,
    task: Task | None = None,
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> tuple[RunFolder, AblationResult]:
    """Judge trained variants on the device, and keep the study as an ``ablate`` run.

    Args:
        lab: the lab folder; ``dataset``: its data set.
        device: what decides.
        settings: what was trained.
        trained: of :func:`~workbench.judge.ablation.training.train_variants`.
        task: what the images are for, as in training; by default human viewing.
        name: the run's name.
        progress: called with what is done, how much there is, and what is being done.

    Raises:
        RunError: there is no test RAW that the task can judge, the RAW to draw is not among them, or the device is
            another one.
        DeviceError: the device failed; run again to go on (captures made are kept).
    """

    def show(done: int, total: int, note: str) -> None:
        if progress:
            progress(done, total, note)

    task = task or ViewingTask()
    info = device.info()
    check_device(lab, info, settings)
    raws, drawn = study_raws(dataset, settings, task)
    make_sure_taken(device, raws)
    training = stratified(task.raws(dataset, Split.TRAIN), FIXED_RAWS, 0)
    under = recorded_setting(next(iter(trained.values())))
    run = new_run(lab, "ablate", name)
    run.update(
        seed=settings.seeds[0],
        dataset_digest=dataset.digest(),
        device=info,
        config={
            **recorded(task),
            "recipe": settings.recipe.to_dict(),
            "seeds": settings.seeds,
            "variants": [v.key for v in settings.variants],
            "trains": [r.name for r in trained.values()],
            "proxy": find_run(lab, "fit-proxy", settings.proxy).name,
            "test_raws": settings.test_raws,
            "scatter": settings.scatter,
            "raw": settings.raw,
            "start": settings.start.hash if settings.start else None,
            "on_top_of": next(iter(trained.values())).config.get("on_top_of"),
            "scenes": {r.scene for r in training},
            **({"setting": under.to_json()} if under else {}),
        },
    )
    loaded = {key: open_predictor(of) for key, of in trained.items()}
    predictions = _predict(settings, loaded, training, raws, drawn, show)
    methods = [
        method_of(variant, seed, [info.space.take(p) for p in predictions.sets[variant.key, seed]])
        for variant in settings.variants
        for seed in settings.seeds
    ]
    methods = overlaid(methods, raws, under)
    bench = Bench(dataset, device, purpose=PURPOSE, patience=len(raws))

    def show_measured(_phase: str, done: int, total: int, unit: str = "capture") -> None:
        show(done, total, f"{unit}s")

    with faults_kept(dataset, device, PURPOSE) as faults:
        measured = measure(bench, task, raws, methods, progress=show_measured)
        measured.count_sets(show_measured)
        mended = faults.counts()
    results = _results(info, settings, trained, loaded, Study(settings, measured), predictions, drawn)
    notes = [*results.notes, *measured.pairing.notes, *task.notes]
    results = results.model_copy(update={"setting": under, "faults": mended, "notes": notes})
    names = figures.draw(run.path, info.space, results, predictions.frame, predictions.maps)
    results = results.model_copy(update={"figures": names})
    results.write(run.path / "results.json")
    run.finish(results.brief())
    return run, results


def _results(
    info: DeviceInfo,
    settings: AblationSettings,
    trained: Trained,
    loaded: dict[tuple[str, int], RunPredictor],
    study: Study,
    predictions: _Predictions,
    drawn: RawRecord,
) -> AblationResult:
    """The results, still without what was left out and the figures' names."""
    measured = study.measured
    held = union(info.space, trained.values())
    of_each = {m.key: list(m.sets) for m in measured.methods}
    sets: Sets = {(v.key, seed): of_each[method_of(v, seed, ()).key] for v in study.variants for seed in settings.seeds}
    kept = replace(settings, only=tuple(v.key for v in study.variants))
    scatter = scatter_of(info.space, kept, measured.raws, sets, held)
    shown = _parameters_to_draw(info.space, [p.name for p in scatter.parameters] if scatter else [], held)
    attention = None
    if shown and predictions.frame is not None and predictions.maps:
        variants = list(predictions.maps)
        attention = AttentionDrawn(raw=drawn.name, seed=settings.seeds[0], parameters=shown, variants=variants)
    return AblationResult(
        **header(measured, info),
        facts=measured.task.facts(measured.raws),
        seeds=list(settings.seeds),
        steps=settings.recipe.steps,
        proxy=next(iter(trained.values())).config.get("proxy"),
        held=held,
        reference=settings.reference.key,
        table=[
            variant_result(
                v,
                settings,
                study,
                [trained[v.trained, seed] for seed in settings.seeds],
                loaded[v.trained, settings.seeds[0]].network.network,
            )
            for v in study.variants
        ],
        order=order_of(settings, study),
        scatter=scatter,
        attention=attention,
        per_raw=raws_of(study),
        notes=_notes(info, settings, study, held),
    )


def _notes(info: DeviceInfo, settings: AblationSettings, study: Study, held: Sequence[str]) -> list[str]:
    notes = []
    if (seeds := len(settings.seeds)) < MIN_SEEDS:
        notes.append(f"{seeds} seed{'s' * (seeds > 1)}: too few to tell a variant from luck")
    if held:
        notes.append(held_in_words(info.space, held))
    if settings.reference not in study.variants:
        notes.append(f"{settings.reference.key} was left out: nothing to compare with")
    return notes


def _parameters_to_draw(space: ParameterSpace, scatter: Sequence[str], held: Sequence[str]) -> list[str]:
    """Figure 6 draws one of sharpening, one of noise reduction and one of white balance; none that is held."""
    white = [p.name for p in space.parameters if p.role == "red_gain"]
    return [n for n in dict.fromkeys([*reversed(scatter), *white, *space.names]) if n not in held][:3]
