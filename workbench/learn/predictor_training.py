"""Trains a predictor through a frozen proxy on the RAWs of a data set; the work behind ``workbench train``."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drivers.parameters import ParameterSet
from drivers.splits import Split
from predictor.distance import fit_distance
from predictor.files import save_predictor
from predictor.metadata import LENGTH
from predictor.training import Recipe, TrainingStep, fit
from proxy.files import load_proxy
from workbench.errors import RunError
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, find_run, new_run, plain
from workbench.learn.held import not_followed
from workbench.learn.results import TrainResult
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
    name: str | None = None,
    on_step: Callable[[TrainingStep], None] = lambda step: None,
) -> RunFolder:
    """Train a predictor and write a finished ``train`` run.

    A training that was stopped goes on when it is called again with the same arguments on the same RAWs.

    Args:
        lab: the lab folder.
        recipe: optimiser, steps, sizes, seed, metadata.
        proxy_run: name of the ``fit-proxy`` run; by default the newest.
        task: what the images are for; by default human viewing.
        start: what the untrained network predicts; by default the device's default parameters.
        name: the run's name.
        on_step: progress.

    Raises:
        RunError: no proxy, or no training RAW with a reference (viewing) or with annotations (``task``).
        DetectorError: the detector's loss cannot lead a training.
    """
    task = task or ViewingTask()
    source = find_run(lab, "fit-proxy", proxy_run)
    proxy = load_proxy(source.path)
    with Dataset.open(lab, create=False) as dataset:
        used, held_out = task.raws(dataset, Split.TRAIN), task.held_out(dataset)
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
                "held": not_followed(source),
            }
        )
        # Of the RAWs, not of the captures: a lab that goes on capturing must not cost it a training.
        learnt_from = sorted(r.hash for r in [*used, *held_out])
        key = hashlib.sha256(json.dumps([config, learnt_from], sort_keys=True).encode()).hexdigest()[:16]
        run = _stopped(lab, key) if name is None else None
        run = run or new_run(lab, "train", name)
        run.update(config=config, seed=recipe.seed, dataset_digest=dataset.digest())
        data = task.training_data(used, held_out, vary=recipe.name == "fast", seed=recipe.seed)
    held = not_followed(source)

    def render(raw: Any, parameters: Tensor, whole: bool) -> Tensor:
        # Training may run on another torch device than the one that the proxy was loaded to.
        output: Tensor = proxy.network.to(parameters.device)(raw, parameters, residual=whole)
        return output

    network, held_out_loss, curve = fit(
        data,
        proxy.space,
        render,
        task.loss if recipe.name == "paper" else task.log_loss,
        recipe,
        metadata_length=LENGTH,
        start=(start or proxy.space.defaults).unit,
        held=held,
        on_step=on_step,
        checkpoint=run.path / CHECKPOINT / key,
    )
    save_predictor(run.path, network, proxy.space, proxy.device_identity, mirrored=recipe.name == "fast")
    fit_distance(run.path, (r.load() for r in used), (r.load() for r in held_out))
    results = TrainResult(
        curve=tuple(curve),
        held_out_loss=held_out_loss,
        parameters=sum(w.numel() for w in network.parameters()),
        torch=torch.__version__,
    )
    if task.notes:
        results = results.model_copy(update={"notes": tuple(task.notes)})
    run.finish(results.to_json())
    shutil.rmtree(run.path / CHECKPOINT, ignore_errors=True)
    return run


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
