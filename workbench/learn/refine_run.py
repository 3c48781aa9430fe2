"""A refined predictor as a run: what :mod:`workbench.learn.refining` found, learnt by the paper's network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from drivers.device import Device
from drivers.foreign_text import shown
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.splits import Split
from drivers.weights import file_digest
from predictor.files import save_predictor
from predictor.metadata import LENGTH
from predictor.response import Response
from predictor.training import Fitted, Recipe, TrainingStep, fast_recipe, fit
from predictor.view import View, view_for
from workbench.collect.bench import Bench
from workbench.collect.faults import faults_kept
from workbench.collect.taking import make_sure_taken
from workbench.console.notes import listed
from workbench.errors import RunError
from workbench.lab import leaks
from workbench.lab.dataset import CaptureRecord, Dataset, RawRecord
from workbench.lab.runs import RunFolder, find_run, list_runs, new_run, plain, removed_on_failure
from workbench.learn.base_rule import BaseRule, base_under, find_base
from workbench.learn.following import raws_to_choose_on
from workbench.learn.predictor_training import choose_how_far, refuse_leaks
from workbench.learn.predictors import RunPredictor, check_space, open_predictor
from workbench.learn.recipe_names import FOLLOW_CAPTURES
from workbench.learn.refining import (
    PURPOSE,
    VALIDATION_RAWS,
    Known,
    RefineSettings,
    Refining,
    known_of,
    metrics_of,
    raws_a_round,
)
from workbench.learn.response_data import Codes, ResponseData
from workbench.learn.response_ranks import response_ranks
from workbench.learn.results import RefineResult, TrainResult
from workbench.rules.resolving import resolve
from workbench.rules.setting import Setting, recorded_setting
from workbench.rules.tuned import RULES
from workbench.tasks.registry import recorded
from workbench.tasks.task import Task
from workbench.tasks.viewing import ViewingTask

STEPS = 300
Progress = Callable[[int, int, str], None]
"""Called with how much is done, how much there is, and what is being done."""


def refine(
    lab: Path,
    device: Device,
    settings: RefineSettings,
    *,
    source: str,
    task: Task | None = None,
    setting: str | Path | Setting | None = None,
    steps: int = STEPS,
    metadata: bool = True,
    follow_captures: int = FOLLOW_CAPTURES,
    name: str | None = None,
    progress: Progress = lambda done, total, what: None,
    on_step: Callable[[TrainingStep], None] = lambda step: None,
) -> RunFolder:
    """Refine a rule or a predictor on top of one, and write a finished ``train`` run.

    The same call goes on where it was stopped: captures made are kept and looked up.

    Args:
        lab: the lab folder; ``device``: what decides.
        settings: how to refine.
        source: name of a ``train`` run that is on top of a rule, of a ``tune`` run, or of a rule for its newest run.
        task: what the images are for; by default human viewing.
        setting: who sets parameters that do not move: ``3a`` or a TOML file; by default the setting of the source.
        steps: of training the network; metadata: whether ISO, exposure and white balance are its inputs
            beside image and statistics. A predictor's own network is trained on, with the inputs that it has.
        follow_captures: that choosing how far to leave the rule may look at.
        name: the run's name.
        progress, on_step: see :data:`Progress`, and of the training.

    Raises:
        RunError: no such run, it is of another device, what it was made with is not apart from the validation scenes,
            the captures are too few, it has inputs that are not wanted, or no round gained.
        DeviceError: the device failed; call again to go on.
    """
    task = task or ViewingTask()
    info = device.info()
    begun, base = _source(lab, source, device, task)
    predictor = None if begun is None else open_predictor(begun)
    with Dataset.open(lab, create=False) as dataset:
        used, validation = task.raws(dataset, Split.TRAIN), task.raws(dataset, Split.VALIDATION)
        setting = setting or recorded_setting(begun or find_run(lab, "tune", base.run))
        under, notes = resolve(setting, info.space, dataset)
        base = base_under(base, info.space.defaults, under) or base
        still = sorted(under.names) if under else []
        asked = raws_to_choose_on(validation, info.space, still, follow_captures)
        refuse_leaks(base, {raw.scene for raw in validation})
        if begun is not None:
            leaks.refuse_leaks(
                begun,
                {raw.scene for raw in validation},
                split="validation",
                next_step="refining chooses by these; refine a predictor of this data set's splits",
                held_out=False,
            )
        recipe = replace(fast_recipe(settings.seed), steps=steps, metadata=metadata, batch=min(32, len(used)))
        view = replace(view_for(recipe.view, [(raw.height, raw.width) for raw in used]), statistics=True)
        if predictor is not None:
            recipe, view = _as_begun(recipe, predictor, source)
        # What cannot be done is said before the RAWs are read.
        metrics_of(task, settings.metrics)
        make_sure_taken(device, [*used, *validation])
        raws_a_round(settings, len(used), min(VALIDATION_RAWS, len(validation)))
        run = new_run(lab, "train", name)
        with removed_on_failure(run):
            run.update(
                config=plain(
                    {
                        "recipe": recipe.to_dict(),
                        "proxy": begun.config.get("proxy") if begun else None,
                        **recorded(task),
                        "refine": asdict(settings),
                        "source": begun.name if begun else base.run,
                        "on_top_of": base.record(),
                        "scenes": {*(r.scene for r in used), *base.scenes},
                        "held_out_scenes": {r.scene for r in validation},
                        "raws": len(used),
                        "identity": info.identity,
                        "metadata": recipe.metadata,
                        "held": [],
                        **({"setting": under.to_json()} if under else {}),
                        "follow_captures": follow_captures,
                    }
                ),
                seed=settings.seed,
                dataset_digest=dataset.digest(),
                device=info,
            )
            training, shown = (_known(raws, predictor, base, still, progress) for raws in (used, validation))
            bench = Bench(dataset, device, purpose=PURPOSE, patience=len(used))
            earlier = _earlier(dataset, info.identity, begun)
            refining = Refining(bench, task, settings, training, shown, still, earlier, progress)
            with faults_kept(dataset, device, PURPOSE) as faults:
                response = refining.run()
                looked_at, device_s = refining.captures, refining.device_s()
                ranks = response_ranks(refining, response) if response and settings.rank_raws else None
                counts = faults.counts()
            if response is None:
                raise RunError(
                    f"no round gained over {begun.name if begun else base.run} on validation RAWs; its captures are "
                    "kept: give more --captures, a smaller --spread, or another --metric"
                )
            fitted = _fit(response, refining.reach, training, shown, still, recipe, view, predictor, on_step)
            mirrored = predictor is None or predictor.network.mirrored
            weights = save_predictor(
                run.path, fitted.network, info.space, info.identity, longest=view.longest, mirrored=mirrored
            )
            base.save(run.path, dict.fromkeys(info.space.blocks, 1.0))
            follow, more = choose_how_far(
                lab,
                run,
                base,
                task,
                device,
                asked,
                follow_captures,
                lambda done, total: progress(done, total, "choosing how far to leave the rule"),
                refining.yardstick,
            )
            before, before_s = (0, 0.0) if begun is None else TrainResult.of(begun).asked
            result = TrainResult(
                curve=tuple(fitted.curve),
                held_out_loss=fitted.held_out,
                rule_held_out_loss=fitted.of_start,
                parameters=sum(w.numel() for w in fitted.network.parameters()),
                torch=torch.__version__,
                averaged=fitted.averaged,
                notes=(*task.notes, *notes),
                setting=under,
                follow=follow,
                refine=RefineResult(
                    metrics=tuple(m.key for m in refining.metrics),
                    captures=looked_at,
                    budget=settings.captures,
                    device_s=device_s,
                    before=before,
                    before_s=before_s,
                    rounds=tuple(refining.rounds),
                    best=refining.best,
                    reach=refining.reach,
                    ranks=ranks,
                ),
                faults=more or counts,
                weights_sha256=file_digest(weights),
            )
            run.finish(result.to_json())
    return run


def _source(lab: Path, source: str, device: Device, task: Task) -> tuple[RunFolder | None, BaseRule]:
    """What is refined: a predictor's run and its rule, or a rule alone."""
    info = device.info()
    trained, tuned = ([run.name for run in list_runs(lab, kind)] for kind in ("train", "tune"))
    if not {source} & {*RULES, *trained, *tuned} and not (Path(source) / "run.json").is_file():
        raise RunError(
            f"{lab}: no tune or train run {shown(source)!r} to refine (tune runs: {listed(tuned) or 'none'}; train "
            f"runs: {listed(trained) or 'none'}); name one, or a rule such as industry for the newest run of it"
        )
    if source in RULES or source not in trained:
        return None, find_base(lab, source, info.space, task.key)
    run = find_run(lab, "train", source)
    predictor = open_predictor(run)
    if predictor.base is None:
        raise RunError(f"run {source}: is on top of no rule; train with --on-top-of, or name a tune run")
    check_space(run, predictor.space, info)
    if predictor.space.names != info.space.names:
        raise RunError(f"run {source}: its parameters stand in another order than {device.url}'s; train one on that")
    return run, predictor.base


def _as_begun(recipe: Recipe, predictor: RunPredictor, source: str) -> tuple[Recipe, View]:
    """The recipe and the view for going on with a predictor's own network."""
    network = predictor.network
    config = network.network.config
    if network.metadata and not recipe.metadata:
        raise RunError(f"run {source}: its network has metadata as inputs, and is trained on; leave --image-only out")
    recipe = replace(recipe, width=config.width, attention=config.attention, encoders=config.encoders)
    return replace(recipe, metadata=network.metadata), network.view


def _earlier(dataset: Dataset, identity: str, begun: RunFolder | None) -> list[CaptureRecord]:
    """What the refinement that is gone on from had captured, and those before it."""
    if begun is None or TrainResult.of(begun).refine is None:
        return []
    # Not what this refinement captured before it was stopped: it goes on as if it had not been.
    until = str(begun.record.finished)
    return [c for c in dataset.captures(device_identity=identity, purpose=PURPOSE) if c.created < until]


def _known(
    raws: list[RawRecord],
    predictor: RunPredictor | None,
    base: BaseRule,
    still: Sequence[str],
    progress: Progress,
) -> Known:
    def answer(frame: RawFrame, of_rule: ParameterSet) -> ParameterSet:
        assert predictor is not None
        return predictor.predict([frame])[0].with_codes({name: of_rule.by_name[name] for name in still})

    def show(done: int, total: int) -> None:
        progress(done, total, "reading RAWs")

    return known_of(raws, base.of.parameters_for, answer if predictor is not None else None, show)


def _fit(
    response: Response,
    reach: float,
    training: Known,
    validation: Known,
    still: Sequence[str],
    recipe: Recipe,
    view: View,
    predictor: RunPredictor | None,
    on_step: Callable[[TrainingStep], None],
) -> Fitted:
    """The network, trained through the response; a predictor's own goes on from what it is followed to."""
    of_training, of_validation = (
        (
            known.raws,
            known.features,
            response.code(known.features),
            known.units,
            torch.as_tensor(known.of_rule, dtype=torch.float32),
        )
        for known in (training, validation)
    )
    network = None
    if predictor is not None:
        network = copy.deepcopy(predictor.network.network)
        network.scale(torch.as_tensor(predictor.factors(predictor.follow), dtype=torch.float32))
    data = ResponseData(of_training, of_validation, view=view, metadata=recipe.metadata)

    def promise(raw: Codes, parameters: Tensor, whole: bool) -> Tensor:
        return response.promise(raw.codes, raw.starts, parameters, reach)

    return fit(
        data,
        training.starts[0].space,
        promise,
        lambda promised, target: -promised.mean(),
        recipe,
        metadata_length=LENGTH,
        start=None,
        statistics=data.statistics,
        windows=view.windows,
        begun=network,
        held=still,
        on_step=on_step,
    )
