"""What ``workbench fit-proxy``, ``train`` and ``refine`` do: learn from the lab, and give the run with its results.

Devices are named by URL, or by a name of the lab's ``lab.toml``; several make a pool of equal boards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from drivers import ranks
from drivers.device import Device
from drivers.parameters import ParameterSet
from predictor.training import Recipe, TrainingStep, fast_recipe, paper_recipe
from proxy.training import ProxyRecipe, ProxyStep
from workbench.lab.devices import open_devices
from workbench.lab.runs import RunFolder, find_run, list_runs
from workbench.learn import predictor_training, proxy_fitting, refine_run
from workbench.learn.loss_moves import RAWS, sensible_rule
from workbench.learn.own_weights import open_proxy
from workbench.learn.recipe_names import FOLLOW_CAPTURES, RecipeName
from workbench.learn.refining import RefineSettings
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
    chosen = paper_recipe(seed) if RecipeName(name) is RecipeName.paper else fast_recipe(seed)
    if metadata is not None:
        chosen = replace(chosen, metadata=metadata)
    if steps is not None:
        chosen = replace(chosen, steps=steps, epochs=0)
    return chosen if batch is None else replace(chosen, batch=batch)


def fit_proxy(
    lab: Path,
    recipe: ProxyRecipe | None = None,
    *,
    device: str | Sequence[str] | None = None,
    identity: str | None = None,
    name: str | None = None,
    loss_raws: int = RAWS,
    on_step: Callable[[ProxyStep], None] = lambda step: None,
) -> tuple[RunFolder, ProxyFitResult]:
    """Fit the proxy network to the captures of the lab (equation 3).

    Args:
        lab: the lab folder, with its data set.
        recipe: steps, sizes and seed.
        device: where given, it is asked how the proxy follows it (about 300 captures for 20 parameters, and about 80
            for each of ``loss_raws``).
        identity: the device's identity, where the data set holds several.
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
    with _opened(device, lab) as opened:
        run = proxy_fitting.fit_proxy(
            lab,
            recipe or ProxyRecipe(),
            device=opened,
            identity=identity,
            name=name,
            around=sensible_rule(list_runs(lab, "tune"), opened.info().space) if opened else None,
            loss_raws=loss_raws,
            on_step=on_step,
        )
    return run, ProxyFitResult.of(run)


def train(
    lab: Path,
    recipe: Recipe | None = None,
    *,
    proxy: str | None = None,
    task: Task | None = None,
    start: Path | ParameterSet | None = None,
    on_top_of: str | None = None,
    setting: str | Path | None = None,
    device: str | Sequence[str] | None = None,
    follow_captures: int = FOLLOW_CAPTURES,
    pool_tolerance: int = 0,
    name: str | None = None,
    on_step: Callable[[TrainingStep], None] = lambda step: None,
    on_capture: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[RunFolder, TrainResult]:
    """Train the predictor through the frozen proxy with the task's loss (equation 4).

    A training that was stopped goes on when it is called again with the same arguments on the same RAWs.

    Args:
        lab: the lab folder, with its data set.
        recipe: optimiser, steps, sizes, inputs and seed, see :func:`recipe_of`; by default the fast one.
        proxy: name of the ``fit-proxy`` run; by default the newest.
        task: what the images are for; by default human viewing.
        start: the parameters to start from, or their TOML; by default the device's defaults.
        on_top_of: a ``tune`` run, or a rule's name for the newest run of it: what it gives for each RAW is what the
            untrained network predicts, and the network learns a difference to it.
        setting: who sets parameters that are not predicted: ``3a`` or a TOML file.
        device: where given, how far the rule is left is chosen on it, on RAWs of the validation split.
        follow_captures: that the choice may look at.
        pool_tolerance: levels of 255 by which outputs of pooled boards may differ.
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
    if isinstance(start, Path):
        start = open_proxy(find_run(lab, "fit-proxy", proxy)).space.load_toml(start)
    with _opened(device, lab, pool_tolerance) as opened:
        run = predictor_training.train(
            lab,
            recipe or fast_recipe(),
            proxy_run=proxy,
            task=task,
            start=start,
            on_top_of=on_top_of,
            setting=setting,
            device=opened,
            follow_captures=follow_captures,
            name=name,
            on_step=on_step,
            on_capture=on_capture,
        )
    return run, TrainResult.of(run)


def refine(
    lab: Path,
    source: str,
    device: str | Sequence[str],
    settings: RefineSettings,
    *,
    task: Task | None = None,
    setting: str | Path | None = None,
    steps: int = refine_run.STEPS,
    metadata: bool = True,
    follow_captures: int = FOLLOW_CAPTURES,
    pool_tolerance: int = 0,
    name: str | None = None,
    progress: refine_run.Progress = lambda done, total, what: None,
    on_step: Callable[[TrainingStep], None] = lambda step: None,
) -> tuple[RunFolder, TrainResult]:
    """Improve a rule, or a predictor on top of one, with captures of the device around its answers.

    Args:
        lab: the lab folder; ``device``: what decides.
        source, settings, task, setting, steps, metadata, follow_captures, name, progress, on_step: see
            :func:`workbench.learn.refine_run.refine`.
        pool_tolerance: levels of 255 by which outputs of pooled boards may differ.

    Returns:
        The finished ``train`` run and its results.

    Raises:
        RunError: no such run, it does not fit the device or the splits, or no round gained over the rule.
        DeviceError: the device failed; call again to go on.
    """
    with open_devices(_named(device), lab, tolerance=pool_tolerance) as opened:
        run = refine_run.refine(
            lab,
            opened,
            settings,
            source=source,
            task=task,
            setting=setting,
            steps=steps,
            metadata=metadata,
            follow_captures=follow_captures,
            name=name,
            progress=progress,
            on_step=on_step,
        )
    return run, TrainResult.of(run)


@contextlib.contextmanager
def _opened(device: str | Sequence[str] | None, lab: Path, tolerance: int = 0) -> Iterator[Device | None]:
    if not device or ranks.rank():  # of several processes the first one alone asks the device
        yield None
        return
    with open_devices(_named(device), lab, tolerance=tolerance) as opened:
        yield opened


def _named(device: str | Sequence[str]) -> Sequence[str]:
    return [device] if isinstance(device, str) else device
