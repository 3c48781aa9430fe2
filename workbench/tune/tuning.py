"""What ``workbench tune`` does: open the lab and the device, tune, and give the run with its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workbench.lab.dataset import Dataset
from workbench.lab.devices import open_devices
from workbench.lab.runs import RunFolder
from workbench.rules.tuned import Rule
from workbench.tasks.task import Task
from workbench.tasks.viewing import ViewingTask
from workbench.tune.fixed import tune_run
from workbench.tune.methods import MethodName, method_of
from workbench.tune.results import TuneResult, tune_result
from workbench.tune.search import Progress
from workbench.tune.tuner import TuneSettings


def default_metrics(method: str, task: Task) -> tuple[str, ...]:
    """What a tuning searches for unless told otherwise, the most important metric first: the task's first.

    A method for several metrics takes the task's first two, where single images have them.

    Raises:
        RunError: unknown method.
    """
    several = method_of(method).several_metrics and all(m.per_raw for m in task.metrics)
    return tuple(m.key for m in task.metrics[: 2 if several else 1])


def tune(
    lab: Path,
    device: str | Sequence[str],
    *,
    method: str = MethodName.cmaes,
    captures: int = 4000,
    raws_per_trial: int = 16,
    rule: str = Rule.fixed,
    expert: Path | None = None,
    task: Task | None = None,
    metrics: Sequence[str] = (),
    proxy: str | None = None,
    setting: str | Path | None = None,
    seed: int = 0,
    name: str | None = None,
    pool_tolerance: int = 0,
    progress: Progress | None = None,
) -> tuple[RunFolder, TuneResult]:
    """Tune on the device, on the training RAWs only; the same call goes on after a stop.

    Args:
        lab: the lab folder, with its data set.
        device: URL, or name of the lab's ``lab.toml``; several make a pool of equal boards.
        method: one of :class:`workbench.tune.methods.MethodName`.
        captures: budget.
        raws_per_trial: training RAWs that each trial is judged on.
        rule: one of :class:`workbench.rules.tuned.Rule`.
        expert: TOML of a set to try first.
        task: what the images are for; by default human viewing.
        metrics: what to search for, the most important first; by default :func:`default_metrics`.
        proxy: the fit-proxy run of ``proxy-gradient``; by default the newest of the device.
        setting: who sets parameters that are not searched: ``3a`` or a TOML file.
        seed: of the RAWs chosen and of the search.
        name: the run's name.
        pool_tolerance: levels of 255 by which outputs of pooled boards may differ.
        progress: called with captures spent, budget and best score so far (NaN before there is one).

    Returns:
        The finished run and its results. A finished run of the very same settings is given back as it is.

    Raises:
        RunError: settings that cannot be used, no training RAW with a reference, or the name is taken.
        DeviceError: the device failed; call again to go on.
        ParameterError: the expert's file is no set of the device.
    """
    task = task or ViewingTask()
    first, *more = metrics or default_metrics(method, task)
    settings = TuneSettings(method, captures, raws_per_trial, seed, first, task.key, tuple(more))
    devices = [device] if isinstance(device, str) else device
    with Dataset.open(lab) as dataset, open_devices(devices, lab, tolerance=pool_tolerance) as opened:
        start = opened.info().space.load_toml(expert) if expert else None
        run = tune_run(
            lab,
            dataset,
            opened,
            settings,
            rule=rule,
            expert=start,
            task=task,
            proxy=proxy,
            setting=setting,
            name=name,
            progress=progress,
        )
    return run, tune_result(run)
