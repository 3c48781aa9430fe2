"""Steps of a training on frames of 12 megapixels and of 128 pixels, and what share of them waits for data."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from drivers.registry import open_device
from drivers.splits import Split
from measures import frames
from measures.clocks import Spent
from measures.size import Size
from measures.table import Bar, Row, cpu_and_wall
from predictor.metadata import LENGTH
from predictor.training import TrainingStep, fast_recipe, fit
from predictor.view import view_for
from proxy.model import Proxy, ProxyConfig
from proxy.training import ProxyRecipe, freeze
from workbench.lab.dataset import Dataset
from workbench.tasks.viewing import ViewingTask

RAWS = 3
UNCOUNTED = 2


def rows(size: Size, folder: Path) -> Iterator[Row]:
    (large, waits), (small, small_waits) = (
        steps(folder / f"lab-{pixels[0]}", pixels, size.steps) for pixels in (frames.MP12, frames.SMALL)
    )
    what = "a training step, recipe `fast`, 12-MP frames"
    yield from cpu_and_wall(what, large, "128-pixel frames", small, bar=Bar(2.0, "ratio"), bar_on="cpu")
    for name, shares in (("12-MP", waits), ("128-pixel", small_waits)):
        yield Row(f"share of a training step that waits for data, {name} frames", "%", shares, bar=Bar(5.0))


def steps(lab: Path, pixels: tuple[int, int], count: int) -> tuple[list[Spent], list[float]]:
    """What each step takes, and the percentage of its time in which it waited for its batch."""
    task = ViewingTask()
    with Dataset.open(lab, create=True) as dataset:
        for i in range(RAWS + 1):
            split = Split.VALIDATION if i == RAWS else Split.TRAIN
            dataset.add_raw(
                frames.raw(pixels, i), scene=f"s{i}", split=split, name=str(i), reference=frames.reference(pixels, i)
            )
        train, validation = dataset.raws(Split.TRAIN), dataset.raws(Split.VALIDATION)
        view = view_for(fast_recipe().view, [pixels[::-1]])
        data = task.training_data(train, validation, vary=True, seed=0, view=view)
    with open_device("sim:sim20") as device:
        space = device.info().space
    torch.manual_seed(0)
    proxy = freeze(Proxy(ProxyConfig(len(space), ProxyRecipe().width)))
    marks, waited = [(time.perf_counter(), time.process_time())], list[float]()

    def on_step(step: TrainingStep) -> None:
        marks.append((time.perf_counter(), time.process_time()))
        waited.append(step.waited)

    fit(
        data,
        space,
        lambda raw, parameters, whole: proxy(raw, parameters, residual=whole),
        task.log_loss,
        # The step at the end, with its measurement of the held-out RAWs, does not count.
        replace(fast_recipe(), steps=count + 1, coarse=0.0),
        metadata_length=LENGTH,
        start=space.defaults.unit,
        statistics=getattr(data, "statistics", None),
        windows=view.windows,
        on_step=on_step,
        evaluations=1,
    )
    taken = [Spent(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(marks)][UNCOUNTED:count]
    return taken, [100 * w / t.wall for w, t in zip(waited[UNCOUNTED:count], taken, strict=True)]
