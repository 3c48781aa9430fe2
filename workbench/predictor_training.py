"""Trains a predictor through a frozen proxy on the RAWs of a data set; the work behind ``workbench train``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from predictor.files import save_predictor
from predictor.metadata import LENGTH
from predictor.training import Recipe, TrainingStep, fit
from proxy.files import load_proxy
from workbench.dataset import Dataset, RawRecord
from workbench.errors import RunError
from workbench.runs import RunFolder, find_run, new_run
from workbench.tasks import viewing
from workbench.training_data import ViewingData

# Direction (cosine) of the proxy's change against the device's below which its gradient says little about the device.
FOLLOWED = 0.5


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


def not_followed(proxy_run: RunFolder) -> list[str]:
    """Parameters in which the proxy does not follow its device, by its fidelity report; none where it has no report."""
    report = proxy_run.results.get("fidelity") or {}
    return [m["parameter"] for m in report.get("parameters", ()) if (m["cosine"] or 0) < FOLLOWED]


def train(
    lab: Path,
    recipe: Recipe,
    *,
    proxy_run: str | None = None,
    start: ParameterSet | None = None,
    name: str | None = None,
    on_step: Callable[[TrainingStep], None] = lambda step: None,
) -> RunFolder:
    """Train a predictor for the viewing task and write a finished ``train`` run.

    Args:
        lab: the lab folder.
        recipe: optimiser, steps, sizes, seed, metadata.
        proxy_run: name of the ``fit-proxy`` run; by default the newest.
        start: what the untrained network predicts; by default the device's default parameters.
        name: the run's name.
        on_step: progress.

    Raises:
        RunError: no proxy, or no training RAW with a reference.
    """
    source = find_run(lab, "fit-proxy", proxy_run)
    proxy = load_proxy(source.path)
    with Dataset.open(lab, create=False) as dataset:
        training, held_out = dataset.raws("train"), dataset.raws("validation")
        count = sum(r.has_reference for r in training)
        if not count:
            raise RunError(
                "no training RAW has a reference image; the viewing task needs one beside each RAW "
                "(NAME.reference.png, or the column `reference` of scenes.csv)"
            )
        run = new_run(lab, "train", name)
        run.update(
            config={
                "recipe": recipe.to_dict(),
                "proxy": source.name,
                "task": "viewing",
                "scenes": sorted({r.scene for r in training}),
                "held_out_scenes": sorted({r.scene for r in held_out}),
                "raws": count,
                "identity": proxy.device_identity,
                "metadata": recipe.metadata,
            },
            seed=recipe.seed,
            dataset_digest=dataset.digest(),
        )
        data = ViewingData(
            with_references(training), with_references(held_out), vary=recipe.name == "fast", seed=recipe.seed
        )
    held = not_followed(source)
    run.update(config={**run.config, "held": held})
    curve: list[list[float | None]] = []

    def record(step: TrainingStep) -> None:
        if step.step % 10 == 0 or step.held_out is not None:
            curve.append([step.step, step.loss, step.held_out])
        on_step(step)

    def render(raw: Any, parameters: Tensor, whole: bool) -> Tensor:
        # Training may run on another torch device than the one that the proxy was loaded to.
        return proxy.network.to(parameters.device)(raw, parameters, residual=whole)

    network, held_out_loss = fit(
        data,
        proxy.space,
        render,
        viewing.loss if recipe.name == "paper" else viewing.log_loss,
        recipe,
        metadata_length=LENGTH,
        start=(start or proxy.space.defaults).unit,
        held=held,
        on_step=record,
    )
    save_predictor(run.path, network, proxy.space, proxy.device_identity, mirrored=recipe.name == "fast")
    run.finish(
        {
            "curve": curve,
            "held_out_loss": held_out_loss,
            "parameters": sum(w.numel() for w in network.parameters()),
            "torch": torch.__version__,
        }
    )
    return run
