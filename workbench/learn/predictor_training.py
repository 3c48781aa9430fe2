"""Trains a predictor through a frozen proxy on the RAWs of a data set; the work behind ``workbench train``."""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drivers import ranks
from drivers.device import Device
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.splits import Split
from drivers.weights import file_digest
from predictor.files import save_predictor
from predictor.metadata import LENGTH
from predictor.training import Recipe, TrainingStep, fit
from predictor.view import View, view_for
from workbench.collect.bench import Bench
from workbench.collect.faults import Counts, faults_kept
from workbench.collect.taking import make_sure_taken
from workbench.console.progress import each
from workbench.errors import RunError
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.runs import RunFolder, find_run, new_run, plain
from workbench.learn.base_rule import BaseRule, base_under, find_base
from workbench.learn.following import PURPOSE, Start, Yardstick, choose_factors, raws_to_choose_on
from workbench.learn.held import not_followed
from workbench.learn.own_weights import open_proxy
from workbench.learn.predictors import open_predictor
from workbench.learn.recipe_names import FOLLOW_CAPTURES
from workbench.learn.results import FollowResult, TrainResult
from workbench.rules.resolving import resolve
from workbench.rules.setting import Setting
from workbench.tasks.registry import recorded
from workbench.tasks.task import Task
from workbench.tasks.viewing import ViewingTask

CHECKPOINT = "checkpoint"


def train(
    lab: Path,
    recipe: Recipe,
    *,
    proxy_run: str | None = None,
    task: Task | None = None,
    start: ParameterSet | None = None,
    on_top_of: str | BaseRule | None = None,
    setting: str | Path | Setting | None = None,
    device: Device | None = None,
    follow_captures: int = FOLLOW_CAPTURES,
    name: str | None = None,
    on_step: Callable[[TrainingStep], None] = lambda step: None,
    on_capture: Callable[[int, int], None] = lambda done, total: None,
) -> RunFolder:
    """Train a predictor and write a finished ``train`` run.

    A training that was stopped goes on when it is called again with the same arguments on the same RAWs.

    Args:
        lab: the lab folder.
        recipe: optimiser, steps, sizes, seed, metadata.
        proxy_run: name of the ``fit-proxy`` run; by default the newest.
        task: what the images are for; by default human viewing.
        start: what the untrained network predicts; by default the device's default parameters.
        on_top_of: the rule to learn a difference to, which the untrained network then predicts for each RAW: a ``tune``
            run, or a rule's name for the newest run of it.
        setting: who sets parameters that are not predicted: ``3a``, a TOML file, or one as a run recorded it. What is
            left is learnt as a difference to the rule, or to the start.
        device: where given, how far the rule is left is chosen on it, on RAWs of the validation split.
        follow_captures: that the choice may look at.
        name: the run's name.
        on_step, on_capture: progress of the training, and of the choice: captures looked at, and how many may be.

    Raises:
        RunError: no proxy, no training RAW with a reference (viewing) or with annotations (``task``), or a rule or a
            device that does not fit the others.
        DetectorError: the detector's loss cannot lead a training.
        DeviceError: the device failed; call again to go on (captures made are kept).
    """
    task = task or ViewingTask()
    source = find_run(lab, "fit-proxy", proxy_run)
    proxy = open_proxy(source)
    base = find_base(lab, on_top_of, proxy.space, task.key) if isinstance(on_top_of, str) else on_top_of
    if start is not None and base is not None:
        raise RunError("on top of a rule training starts from the rule; leave --start out")
    with Dataset.open(lab, create=False) as dataset:
        under, of_setting = resolve(setting, proxy.space, dataset)
    base = base_under(base, start or proxy.space.defaults, under)
    _check(recipe, proxy.space, base, device)
    if base is not None and "starts" not in inspect.signature(task.training_data).parameters:
        raise RunError(
            f"task {task.name}: its training_data takes no `starts`, which a training on top of a rule gives"
        )
    held = list(dict.fromkeys([*not_followed(source), *proxy.space.not_searched]))
    if under is not None:
        held = under.left(held)
    still = [*held, *(sorted(under.names) if under else ())]
    with Dataset.open(lab, create=False) as dataset:
        used, held_out = task.raws(dataset, Split.TRAIN), task.held_out(dataset)
        asked: list[RawRecord] = []
        if device is not None:
            asked = raws_to_choose_on(task.raws(dataset, Split.VALIDATION), proxy.space, still, follow_captures)
            make_sure_taken(device, asked)
        config = plain(
            {
                "recipe": recipe.to_dict(),
                "proxy": source.name,
                **recorded(task),
                "scenes": {r.scene for r in used},
                "held_out_scenes": {r.scene for r in held_out},
                "raws": len(used),
                "identity": proxy.device_identity,
                "metadata": recipe.metadata,
                "start": start.hash if start else None,
                "held": held,
            }
        )
        if under is not None:
            config |= {"setting": under.to_json()}
        if base is not None:
            refuse_leaks(base, {r.scene for r in [*held_out, *asked]})
            config |= plain({"on_top_of": base.record(), "scenes": {*config["scenes"], *base.scenes}})
        # Of the RAWs, not of the captures: a lab that goes on capturing must not cost it a training.
        learnt_from = sorted(r.hash for r in [*used, *held_out])
        key = hashlib.sha256(json.dumps([config, learnt_from], sort_keys=True).encode()).hexdigest()[:16]
        if device is not None:
            config |= {"follow_captures": follow_captures}
        run: RunFolder | None = None
        if ranks.rank() == 0:
            run = (_stopped(lab, key) if name is None else None) or new_run(lab, "train", name)
            if ranks.world() > 1:
                config |= {"processes": ranks.world()}
            run.update(config=config, seed=recipe.seed, dataset_digest=dataset.digest())
            if device is not None:
                run.update(device=device.info())
        vary = recipe.name == "fast"
        view = view_for(recipe.view, [(raw.height, raw.width) for raw in used])
        # A task that knows neither rules nor views trains as it did before there were any.
        asked_for: dict[str, Any] = {} if base is None else {"starts": _starts(base, [*used, *held_out])}
        if view != View() and "view" in inspect.signature(task.training_data).parameters:
            asked_for["view"] = view
        view = asked_for.get("view", View())
        data = task.training_data(used, held_out, vary=vary, seed=recipe.seed, **asked_for)

    def render(raw: Any, parameters: Tensor, whole: bool) -> Tensor:
        # Training may run on another torch device than the one that the proxy was loaded to.
        output: Tensor = proxy.network.to(parameters.device)(raw, parameters, residual=whole)
        return output

    fitted = fit(
        data,
        proxy.space,
        render,
        task.loss if recipe.name == "paper" else task.log_loss,
        recipe,
        metadata_length=LENGTH,
        start=None if base is not None else (start or proxy.space.defaults).unit,
        statistics=getattr(data, "statistics", None),
        windows=view.windows,
        held=still,
        on_step=on_step,
        checkpoint=run.path / CHECKPOINT / key if run else None,
    )
    del data  # its pixels: the device's are read next, where it chooses
    if run is None:
        raise ranks.OtherDoneError
    identity = proxy.device_identity
    weights = save_predictor(run.path, fitted.network, proxy.space, identity, longest=view.longest, mirrored=vary)
    results = TrainResult(
        curve=tuple(fitted.curve),
        held_out_loss=fitted.held_out,
        parameters=sum(w.numel() for w in fitted.network.parameters()),
        torch=torch.__version__,
        averaged=fitted.averaged,
        weights_sha256=file_digest(weights),
    )
    notes = [*task.notes, *of_setting]
    if under is not None:
        results = results.model_copy(update={"setting": under})
    if base is not None:
        base.save(run.path, dict.fromkeys(proxy.space.blocks, 1.0))
        results = results.model_copy(update={"rule_held_out_loss": fitted.of_start})
        if device is not None:
            follow, faults = choose_how_far(lab, run, base, task, device, asked, follow_captures, on_capture)
            results = results.model_copy(update={"follow": follow, "faults": faults})
        else:
            notes.append("everything is followed (all factors 1): no device was asked how far")
    if notes:
        results = results.model_copy(update={"notes": tuple(notes)})
    run.finish(results.to_json())
    shutil.rmtree(run.path / CHECKPOINT, ignore_errors=True)
    return run


def _check(recipe: Recipe, space: ParameterSpace, base: BaseRule | None, device: Device | None) -> None:
    """See that a rule and a device go with the rest, before anything is trained."""
    if base is None and device is not None:
        raise RunError("a device is asked how far to leave a rule; give the rule with --on-top-of")
    if base is None:
        return
    if recipe.name == "paper":
        raise RunError(
            "the paper's recipe starts from one set; give --recipe fast to train on top of a rule or under a setting"
        )
    if base.of.space.hash != space.hash:
        raise RunError(f"run {base.run}: its rule is of another device than the proxy; name a rule tuned on this one")
    if device is not None and (info := device.info()).space.hash != space.hash:
        raise RunError(
            f"{device.url} is {info.identity}, whose parameters are not those of the proxy ({space.name}); give the "
            "proxy's device, or fit a proxy to captures of this one"
        )


def refuse_leaks(base: BaseRule, validation: set[str]) -> None:
    """See that a rule was not tuned on validation scenes.

    Raises:
        RunError: it was.
    """
    if found := sorted(validation & set(base.scenes)):
        raise RunError(
            f"run {base.run}: was tuned on the validation scene {found[0]!r}, by which training chooses; tune again on "
            "this data set's splits"
        )


def _starts(base: BaseRule, raws: Sequence[RawRecord]) -> dict[str, Tensor]:
    return {
        raw.hash: torch.as_tensor(base.of.parameters_for(raw).unit, dtype=torch.float32)
        for raw in each("what the rule gives", raws)
    }


def choose_how_far(
    lab: Path,
    run: RunFolder,
    base: BaseRule,
    task: Task,
    device: Device,
    raws: Sequence[RawRecord],
    captures: int,
    progress: Callable[[int, int], None],
    yardstick: Yardstick | None = None,
) -> tuple[FollowResult, Counts]:
    """Choose how far to follow the predictor of a run, and keep that beside its rule; see :func:`choose_factors`."""
    predictor = open_predictor(run)
    starts = []
    for raw in each("predictions", raws):
        frame = raw.load()
        starts.append(Start(raw, predictor.start(frame), predictor.network.moves(frame)))
    with Dataset.open(lab) as dataset, faults_kept(dataset, device, PURPOSE) as faults:
        bench = Bench(dataset, device, purpose=PURPOSE, patience=len(raws))
        follow, result = choose_factors(bench, task, starts, captures, progress, yardstick)
        counts = faults.counts()
    base.save(run.path, follow)
    return result, counts


def _stopped(lab: Path, key: str) -> RunFolder | None:
    """The newest training of the very same settings that was stopped and kept its state."""
    found = []
    for folder in (lab / "runs").glob(f"*/{CHECKPOINT}/{key}"):
        try:
            run = RunFolder.open(folder.parent.parent)
        except RunError:
            continue
        if run.kind == "train" and not run.finished:
            found.append(run)
    return max(found, key=lambda r: str(r.record.started), default=None)
