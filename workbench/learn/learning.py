"""What ``workbench fit-proxy`` and ``workbench train`` do: learn from the lab, and give the run with its results."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from predictor.training import Recipe, TrainingStep, paper_recipe
from proxy.files import load_proxy
from proxy.training import ProxyRecipe, ProxyStep
from workbench.lab.devices import open_devices
from workbench.lab.runs import RunFolder, find_run, list_runs
from workbench.learn import predictor_training, proxy_fitting
from workbench.learn.loss_moves import RAWS, sensible_rule
from workbench.learn.recipe_names import FOLLOW_CAPTURES, RecipeName
from workbench.learn.results import ProxyFitResult, TrainResult
from workbench.tasks.task import Task


def recipe_of(
    name: str = RecipeName.fast,
    *,
    seed: int = 0,
    metadata: bool | None = None,
    steps: int | None = None,
    batch: int | None = None,
) -> Recipe:
    """A recipe by name, with what is given in place of its own.

    Args:
        name: one of :class:`workbench.learn.recipe_names.RecipeName`.
        seed: of weights and batches.
        metadata: whether ISO, exposure and white balance are inputs.
        steps: optimiser steps.
        batch: RAWs a step.
    """
    chosen = paper_recipe(seed) if RecipeName(name) is RecipeName.paper else Recipe(seed=seed)
    if metadata is not None:
        chosen = replace(chosen, metadata=metadata)
    if steps is not None:
        chosen = replace(chosen, steps=steps, epochs=0)
    return chosen if batch is None else replace(chosen, batch=batch)


def fit_proxy(
    lab: Path,
    *,
    device: str | Sequence[str] | None = None,
    identity: str | None = None,
    steps: int = 400,
    base_steps: int = 1600,
    width: int = 24,
    seed: int = 0,
    name: str | None = None,
    loss_raws: int = RAWS,
    on_step: Callable[[ProxyStep], None] = lambda step: None,
) -> tuple[RunFolder, ProxyFitResult]:
    """Fit the proxy network to the captures of the lab (equation 3).

    Args:
        lab: the lab folder, with its data set.
        device: URL, or name of the lab's ``lab.toml``; where given, it is asked how the proxy follows it (about 300
            captures for 20 parameters, and about 80 for each of ``loss_raws``).
        identity: the device's identity, where the data set holds several.
        steps: of the whole network; base_steps: of its colour and tone base alone, before them.
        width: channels of the network's first level.
        seed: of weights and crops.
        name: the run's name.
        loss_raws: RAWs on which the loss is followed over moves of one parameter from what the lab's rule (industry, or
            else the best fixed set) gives; 0: none.
        on_step: progress.

    Returns:
        The finished run and its results.

    Raises:
        RunError: no captures to fit to, or the name is taken.
        DatasetError: no data set, or a damaged one.
        DeviceError: the device failed; the proxy is kept.
    """
    recipe = ProxyRecipe(base_steps=base_steps, steps=steps, width=width, seed=seed)
    with contextlib.ExitStack() as stack:
        opened = None
        if device:
            opened = stack.enter_context(open_devices([device] if isinstance(device, str) else device, lab))
        around = sensible_rule(list_runs(lab, "tune"), opened.info().space) if opened else None
        run = proxy_fitting.fit_proxy(
            lab,
            recipe,
            device=opened,
            identity=identity,
            name=name,
            around=around,
            loss_raws=loss_raws,
            on_step=on_step,
        )
    return run, ProxyFitResult.of(run)


def train(
    lab: Path,
    *,
    proxy: str | None = None,
    task: Task | None = None,
    recipe: str = RecipeName.fast,
    batch: int | None = None,
    metadata: bool | None = None,
    steps: int | None = None,
    start: Path | None = None,
    on_top_of: str | None = None,
    setting: str | Path | None = None,
    device: str | Sequence[str] | None = None,
    follow_captures: int = FOLLOW_CAPTURES,
    pool_tolerance: int = 0,
    seed: int = 0,
    name: str | None = None,
    on_step: Callable[[TrainingStep], None] = lambda step: None,
    on_capture: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[RunFolder, TrainResult]:
    """Train the predictor through the frozen proxy with the task's loss (equation 4).

    A training that was stopped goes on when it is called again with the same arguments on the same RAWs.

    Args:
        lab: the lab folder, with its data set.
        proxy: name of the ``fit-proxy`` run; by default the newest.
        task: what the images are for; by default human viewing.
        recipe: one of :class:`workbench.learn.recipe_names.RecipeName`.
        batch, metadata, steps: see :func:`recipe_of`.
        start: TOML of the parameters to start from; by default the device's defaults.
        on_top_of: a ``tune`` run, or a rule's name for the newest run of it: what it gives for each RAW is what the
            untrained network predicts, and the network learns a difference to it.
        setting: who sets parameters that are not predicted: ``3a`` or a TOML file.
        device: URL, or name of the lab's ``lab.toml``, or several; where given, how far the rule is left is chosen on
            it, on RAWs of the validation split.
        follow_captures: that the choice may look at.
        pool_tolerance: levels of 255 by which outputs of pooled boards may differ.
        seed: of weights and batches.
        name: the run's name.
        on_step, on_capture: progress of the training, and of the choice.

    Returns:
        The finished run and its results.

    Raises:
        RunError: no proxy, no training RAW with a reference (viewing) or with annotations (``task``), or a rule or a
            device that does not fit the others.
        DetectorError: the detector's loss cannot lead a training.
        ParameterError: ``start`` is no set of the device.
        DeviceError: the device failed; call again to go on.
    """
    space = load_proxy(find_run(lab, "fit-proxy", proxy).path).space
    with contextlib.ExitStack() as stack:
        opened = None
        if device:
            named = [device] if isinstance(device, str) else device
            opened = stack.enter_context(open_devices(named, lab, tolerance=pool_tolerance))
        run = predictor_training.train(
            lab,
            recipe_of(recipe, seed=seed, metadata=metadata, steps=steps, batch=batch),
            proxy_run=proxy,
            task=task,
            start=space.load_toml(start) if start else None,
            on_top_of=on_top_of,
            setting=setting,
            device=opened,
            follow_captures=follow_captures,
            name=name,
            on_step=on_step,
            on_capture=on_capture,
        )
    return run, TrainResult.of(run)
