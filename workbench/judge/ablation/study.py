"""Judges the trained variants on the device and writes the ``ablate`` run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from drivers.device import Device, DeviceInfo
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.splits import Split
from predictor.files import LoadedPredictor, load_predictor
from workbench.collect.bench import Bench
from workbench.collect.faults import faults_kept
from workbench.errors import RunError
from workbench.judge.ablation import figures
from workbench.judge.ablation.table import Scores, results_of, scatter_of
from workbench.judge.ablation.training import PURPOSE, Progress, Trained
from workbench.judge.ablation.variants import AblationSettings, fixed_of
from workbench.judge.pairing import Pairing, pair
from workbench.lab.dataset import Dataset, FailureRecord, RawRecord
from workbench.lab.runs import RunFolder, find_run, new_run, write_json
from workbench.tasks import viewing
from workbench.tune.material import Scorer, referenced_raws, stratified
from workbench.tune.search import captured

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
    loaded: dict[tuple[str, int], LoadedPredictor],
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
        (v.key, seed): [fixed_of(on_training[v.trained, seed])] * len(raws) if v.fixed else sets[v.trained, seed]
        for v in settings.variants
        for seed in settings.seeds
    }
    return _Predictions(by_variant, maps, shown)


def check_device(lab: Path, info: DeviceInfo, settings: AblationSettings) -> None:
    """Whether the proxy that the variants are trained through is of this device; asked before hours of training.

    Raises:
        RunError: it is not, or there is none.
    """
    from proxy.files import load_proxy

    run = find_run(lab, "fit-proxy", settings.proxy)
    space = load_proxy(run.path).space
    if space.hash != info.space.hash:
        raise RunError(
            f"run {run.name}: its parameter space ({space.name}, {len(space)} parameters) is not that of the device "
            f"{info.identity} ({len(info.space)} parameters); fit a proxy on captures of this device"
        )
    for name in settings.scatter or ():
        if name not in space.names:
            raise RunError(f"unknown parameter {name!r} for {space.name}; it has {', '.join(space.names)}")


def study_raws(dataset: Dataset, settings: AblationSettings) -> tuple[list[RawRecord], RawRecord]:
    """The test RAWs of the study, and the one whose attention maps are drawn.

    Raises:
        RunError: no test RAW has a reference, or the one to draw is not among them.
    """
    raws = referenced_raws(dataset, Split.TEST)
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
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> tuple[RunFolder, dict[str, Any]]:
    """Judge trained variants on the device, and keep the study as an ``ablate`` run.

    Args:
        lab: the lab folder; ``dataset``: its data set.
        device: what decides.
        settings: what was trained.
        trained: of :func:`~workbench.judge.ablation.training.train_variants`.
        name: the run's name.
        progress: called with what is done, how much there is, and what is being done.

    Raises:
        RunError: no test RAW has a reference, the RAW to draw is not among them, or the device is another one.
        DeviceError: the device failed; run again to go on (captures made are kept).
    """

    def show(done: int, total: int, note: str) -> None:
        if progress:
            progress(done, total, note)

    info = device.info()
    check_device(lab, info, settings)
    raws, drawn = study_raws(dataset, settings)
    training = stratified(referenced_raws(dataset, Split.TRAIN), FIXED_RAWS, 0)
    run = new_run(lab, "ablate", name)
    run.update(
        seed=settings.seeds[0],
        dataset_digest=dataset.digest(),
        device=info,
        config={
            "recipe": settings.recipe.to_dict(),
            "seeds": settings.seeds,
            "variants": [v.key for v in settings.variants],
            "trains": [r.name for r in trained.values()],
            "proxy": find_run(lab, "fit-proxy", settings.proxy).name,
            "test_raws": settings.test_raws,
            "scatter": settings.scatter,
            "raw": settings.raw,
            "start": settings.start.hash if settings.start else None,
            "scenes": {r.scene for r in training},
        },
    )
    loaded = {key: load_predictor(of.path) for key, of in trained.items()}
    predictions = _predict(settings, loaded, training, raws, drawn, show)
    sets = {key: [ParameterSet(info.space, p.codes) for p in of_each] for key, of_each in predictions.sets.items()}
    bench = Bench(dataset, device, purpose=PURPOSE, patience=len(raws))
    with faults_kept(dataset, device, PURPOSE) as faults:
        scores, pairing = _score(bench, raws, settings, sets, show)
        mended = faults.counts()
    asked_raws, raws = len(raws), [raws[i] for i in pairing.places]
    settings = replace(settings, only=tuple(v.key for v in settings.variants if v.key in pairing.methods))
    sets = {key: [of_each[i] for i in pairing.places] for key, of_each in sets.items() if key in scores}
    results = results_of(info, settings, trained, loaded, raws, scores)
    results["notes"] += pairing.notes
    results |= {"raws_left_out": asked_raws - len(raws), "left_out": pairing.left_out, "faults": mended}
    results["scatter"] = scatter_of(info.space, settings, raws, sets, results["held"])
    named = [p["name"] for p in (results["scatter"] or {"parameters": []})["parameters"]]
    shown = _parameters_to_draw(info.space, named, results["held"])
    if shown and predictions.frame is not None and predictions.maps:
        results["attention"] = {
            "raw": drawn.name,
            "seed": settings.seeds[0],
            "parameters": shown,
            "variants": list(predictions.maps),
        }
    results["figures"] = figures.draw(run.path, info.space, results, predictions.frame, predictions.maps, shown)
    write_json(run.path / "results.json", results)
    run.finish({k: v for k, v in results.items() if k not in ("per_raw", "scatter")})
    return run, results


def _score(
    bench: Bench,
    raws: Sequence[RawRecord],
    settings: AblationSettings,
    sets: dict[tuple[str, int], list[ParameterSet]],
    progress: Progress,
) -> tuple[Scores, Pairing]:
    """PSNR and SSIM ``[R]`` of the device's outputs of the variants and RAWs that are compared, and which those are.

    A variant fails on a RAW where one of its seeds does.
    """
    jobs = [(raw, p) for i, raw in enumerate(raws) for p in (of_each[i] for of_each in sets.values())]
    scorer, known = Scorer("psnr"), {}
    values: dict[tuple[str, int], list[dict[str, float] | None]] = {key: [] for key in sets}
    failures: dict[str, dict[int, FailureRecord]] = {}
    keys = itertools.cycle(sets)
    for done, ((raw, outcome), key) in enumerate(zip(captured(bench, jobs), keys, strict=False), 1):
        if isinstance(outcome, FailureRecord):
            failures.setdefault(key[0], {})[len(values[key])] = outcome
            values[key].append(None)
        else:
            seen = raw.hash, outcome.output_hash
            if seen not in known:
                known[seen] = viewing.score(outcome.rgb().pixels, scorer.reference(raw))
            values[key].append(known[seen])
        progress(done, len(jobs), "captures")
    pairing = pair(raws, {v.key: v.label for v in settings.variants}, failures)
    scores = {}
    for key, own in values.items():
        if key[0] in pairing.methods:
            there = [score for i in pairing.places if (score := own[i]) is not None]
            scores[key] = {m: np.array([score[m] for score in there]) for m in ("psnr", "ssim")}
    return scores, pairing


def _parameters_to_draw(space: ParameterSpace, scatter: Sequence[str], held: Sequence[str]) -> list[str]:
    """Figure 6 draws one of sharpening, one of noise reduction and one of white balance; none that is held."""
    white = [p.name for p in space.parameters if p.role == "red_gain"]
    return [n for n in dict.fromkeys([*reversed(scatter), *white, *space.names]) if n not in held][:3]
