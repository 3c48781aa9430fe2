"""Trains what a study compares, each network once a seed; what a study trained before is found and not made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from drivers.parameters import ParameterSet
from drivers.splits import Split
from predictor.training import Recipe
from workbench.errors import RunError
from workbench.judge.ablation.variants import AblationSettings
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.leaks import refuse_leaks
from workbench.lab.runs import RunFolder, find_run
from workbench.learn import predictor_training
from workbench.learn.base_rule import BaseRule, base_under, find_base
from workbench.learn.many_runs import run_on_cluster
from workbench.learn.own_weights import open_proxy
from workbench.rules.resolving import resolve
from workbench.tasks.registry import reopened, task_key
from workbench.tasks.task import Task
from workbench.tasks.viewing import ViewingTask

Progress = Callable[[int, int, str], None]
PURPOSE = "ablate"

Trained = dict[tuple[str, int], RunFolder]
"""The train run of each network and seed."""


def train_variants(
    lab: Path,
    settings: AblationSettings,
    progress: Progress | None = None,
    task: Task | None = None,
    cluster: str | None = None,
) -> Trained:
    """Train what is not trained yet, one network after another, or at once on a cluster.

    Args:
        lab: the lab folder, with a data set and a fitted proxy.
        settings: what to train.
        task: what the images are for; by default human viewing.
        progress: called after every step with the steps done, all to be done, and what is being trained.
        cluster: see :func:`workbench.learn.many_runs.run_on_cluster`.

    Raises:
        RunError: no cluster, no proxy, no training RAWs with references, or a run of that name was made with other
            settings.
    """
    task = task or ViewingTask()
    proxy = find_run(lab, "fit-proxy", settings.proxy)
    with Dataset.open(lab, create=False) as dataset:
        test = {r.scene for r in dataset.raws(Split.TEST)}
        training = task.raws(dataset, Split.TRAIN)
        space = open_proxy(proxy).space
        under, _ = resolve(settings.setting, space, dataset)
    _check_unseen(proxy, test)
    base = settings.on_top_of
    if isinstance(base, str):
        base = find_base(lab, base, space, task.key)
    below = base_under(base, settings.start or space.defaults, under)
    wanted = {
        (variant.trained, seed): replace(
            settings.recipe,
            attention=variant.attention,
            encoders=variant.encoders,
            metadata=variant.metadata,
            seed=seed,
        )
        for seed in settings.seeds
        for variant in settings.variants
    }
    done: Trained = {}
    for (key, seed), recipe in wanted.items():
        if (
            run := _finished(
                lab, f"{settings.prefix}-{key}-seed{seed}", recipe, proxy.name, settings.start, task, below
            )
        ) is not None:
            _check_unseen(run, test)
            _check_raws(run, training)
            done[key, seed] = _marked(run)
    missing = {k: r for k, r in wanted.items() if k not in done}
    jobs: dict[tuple[str, int], dict[str, Any]] = {
        (key, seed): {
            "lab": Path(lab).absolute() if cluster else lab,
            "recipe": recipe,
            "proxy_run": proxy.name,
            "start": settings.start,
            "on_top_of": base,
            "setting": under,
            "name": f"{settings.prefix}-{key}-seed{seed}",
        }
        for (key, seed), recipe in missing.items()
    }
    tell = progress or (lambda done, total, note: None)
    if cluster and jobs:
        total = sum(recipe.steps for recipe in missing.values())

        def count(finished: int) -> None:
            tell(finished * total // len(jobs), total, f"{finished} of {len(jobs)} networks")

        made = run_on_cluster(cluster, partial(train_as, task.key, task.record()), jobs, count)
        return {**done, **{key: _marked(run) for key, run in made.items()}}
    before = 0
    for i, ((key, seed), job) in enumerate(jobs.items()):

        def show(step: Any, before: int = before, i: int = i, key: str = key, seed: int = seed) -> None:
            tell(before + step.step, step.steps * len(jobs), f"{key} seed {seed}, {i + 1} of {len(jobs)}")

        run = predictor_training.train(**job, task=task, on_step=show)
        before += job["recipe"].steps
        done[key, seed] = _marked(run)
    return done


def train_as(key: str, record: Mapping[str, Any] | None, **options: Any) -> RunFolder:
    """:func:`~workbench.learn.predictor_training.train` for a task that is told by its key and record."""
    return predictor_training.train(task=reopened(key, record), **options)


def _finished(
    lab: Path,
    name: str,
    recipe: Recipe,
    proxy: str,
    start: ParameterSet | None,
    task: Task,
    base: BaseRule | None,
) -> RunFolder | None:
    """The finished run of that name, which must be of these settings; None where it is to be made or to be ended."""
    path = Path(lab) / "runs" / name
    if not (path / "run.json").is_file():
        return None
    run = RunFolder.open(path)
    if not run.finished:
        return None
    # A record from before a setting was there was trained with what is its default now.
    have, asked = {**Recipe().to_dict(), **(run.config.get("recipe") or {})}, recipe.to_dict()
    wrong = [f"{k} {have.get(k)!r} instead of {v!r}" for k, v in asked.items() if have.get(k) != v]
    if task_key(run) != task.key:
        wrong.append(f"task {task_key(run)} instead of {task.key}")
    if run.config.get("proxy") != proxy:
        wrong.append(f"proxy {run.config.get('proxy')!r} instead of {proxy!r}")
    if run.config.get("start") != (start.hash if start else None):
        wrong.append("other parameters to start from (--start)")
    if (run.config.get("on_top_of") or {}).get("sha256") != (base.digest if base else None):
        wrong.append("another rule below it (--on-top-of, --setting)")
    if wrong:
        raise RunError(f"run {name}: was trained with {wrong[0]}; give another --prefix, or remove {path}")
    return run


def _marked(run: RunFolder) -> RunFolder:
    """The run, marked as a part of a study: no other command takes it for the lab's newest predictor."""
    if run.config.get("study") != PURPOSE:
        run.update(config={**run.config, "study": PURPOSE})
    return run


def _check_raws(run: RunFolder, training: Sequence[RawRecord]) -> None:
    """Refuse a network of another training split: in one table all have learnt from the same RAWs."""
    new = sorted({r.scene for r in training} - set(run.config.get("scenes") or ()))
    if run.config.get("raws") != len(training) or new:
        without = f", without scene {new[0]!r}" if new else ""
        raise RunError(
            f"run {run.name}: was trained on {run.config.get('raws')} RAWs{without}; the data set now has "
            f"{len(training)}; give another --prefix, or remove {run.path}"
        )


def _check_unseen(run: RunFolder, test: set[str]) -> None:
    refuse_leaks(run, test, next_step="make it again on these splits")
