"""Trains a predictor through a frozen proxy on the RAWs of a data set; the work behind ``workbench train``."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.splits import Split
from predictor.distance import fit_distance
from predictor.files import save_predictor
from predictor.metadata import LENGTH
from predictor.training import Recipe, TrainingData, TrainingStep, fit
from proxy.files import load_proxy
from workbench.errors import RunError
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.runs import RunFolder, find_run, new_run, plain
from workbench.learn.held import not_followed
from workbench.learn.results import TrainResult
from workbench.learn.training_data import ViewingData
from workbench.learn.vision_data import VisionData
from workbench.tasks import viewing
from workbench.tasks.detectors import check_loss
from workbench.tasks.vision import VisionTask

CHECKPOINT = "checkpoint"


def with_references(records: list[RawRecord]) -> Iterator[tuple[RawFrame, np.ndarray]]:
    """RAW frame and reference of each record that has one, one at a time: large frames would not fit together.

    Raises:
        RunError: a reference is not of its RAW's size.
    """
    for record in records:
        raw, reference = record.load(), record.reference()
        if reference is None:
            continue
        if reference.shape[:2] != (raw.height, raw.width):
            raise RunError(
                f"{record.name}: its reference is {reference.shape[1]}×{reference.shape[0]}, the RAW "
                f"{raw.width}×{raw.height}; training needs references of the RAW's size"
            )
        yield raw, reference


def train(
    lab: Path,
    recipe: Recipe,
    *,
    proxy_run: str | None = None,
    task: VisionTask | None = None,
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
        task: detection or segmentation; None for human viewing.
        start: what the untrained network predicts; by default the device's default parameters.
        name: the run's name.
        on_step: progress.

    Raises:
        RunError: no proxy, or no training RAW with a reference (viewing) or with annotations (``task``).
        DetectorError: the detector's loss cannot lead a training.
    """
    source = find_run(lab, "fit-proxy", proxy_run)
    proxy = load_proxy(source.path)
    with Dataset.open(lab, create=False) as dataset:
        training, held_out = dataset.raws(Split.TRAIN), dataset.raws(Split.VALIDATION)
        data: TrainingData
        if task is None:
            used = [r for r in training if r.has_reference]
            if not used:
                raise RunError(
                    "no training RAW has a reference image; the viewing task needs one beside each RAW "
                    "(NAME.reference.png, or the column `reference` of scenes.csv)"
                )
        else:
            used = task.annotated(dataset, Split.TRAIN)
            held_out = task.annotated(dataset, Split.VALIDATION) if held_out else []
        config = plain(
            {
                "recipe": recipe.to_dict(),
                "proxy": source.name,
                "task": task.key if task else "viewing",
                "vision": task.to_record() if task else None,
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
        vary = recipe.name == "fast"
        if task is None:
            data = ViewingData(with_references(used), with_references(held_out), vary=vary, seed=recipe.seed)
        else:
            vision = VisionData(task, used, held_out, vary=vary)
            check_loss(task.detector, *vision.judged())
            data = vision
    plain_loss, log_loss = (task.loss, task.log_loss) if task else (viewing.loss, viewing.log_loss)
    held = not_followed(source)

    def render(raw: Any, parameters: Tensor, whole: bool) -> Tensor:
        # Training may run on another torch device than the one that the proxy was loaded to.
        return proxy.network.to(parameters.device)(raw, parameters, residual=whole)

    network, held_out_loss, curve = fit(
        data,
        proxy.space,
        render,
        plain_loss if recipe.name == "paper" else log_loss,
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
    if task and task.notes:
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
    return max(found, key=lambda r: str(r.record["started"]), default=None)
