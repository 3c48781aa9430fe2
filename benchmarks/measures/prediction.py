"""From a RAW of 12 megapixels to its parameters: whole processes, and the networks in memory.

The networks have the sizes of their recipes and weights that were never trained, on which their cost does not depend.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from drivers.device import DeviceInfo
from drivers.frames import RawFrame
from drivers.raw.dng import dng_bytes
from drivers.registry import open_device
from drivers.splits import Split
from measures import frames
from measures.clocks import Spent, in_pairs, process, workbench
from measures.size import Size
from measures.table import Bar, Row, cpu_and_wall
from predictor.files import load_predictor, save_predictor
from predictor.gpu import on_gpu
from predictor.metadata import LENGTH
from predictor.model import Predictor, PredictorConfig
from predictor.raw_features import STATISTICS
from predictor.training import Recipe, fast_recipe, paper_recipe
from predictor.view import view_for
from workbench.board.exporting import export
from workbench.board.runtime import BoardPredictor
from workbench.lab.dataset import Dataset
from workbench.lab.runs import new_run
from workbench.learn.results import TrainResult

EXPORTED, IN_8_BITS = "exported, ONNX Runtime", "exported in 8 bits, ONNX Runtime"
ON_GPU = "on the GPU, compiled"
BARS = {("paper", IN_8_BITS): 0.5, ("fast", EXPORTED): 0.15, ("paper", ON_GPU): 0.005}
"""Seconds of the wall clock, by recipe and form."""


def rows(size: Size, folder: Path) -> Iterator[Row]:
    lab, raw = folder / "lab", frames.raw(frames.MP12)
    with Dataset.open(lab, create=True) as dataset:  # its RAW gives the ranges of 8-bit features
        dataset.add_raw(raw, scene="made up", split=Split.TRAIN, name="frame", reference=None)
    (folder / "frame.dng").write_bytes(dng_bytes(raw))
    known = {key: value for key, value in raw.metadata.items() if value is not None}
    np.savez(folder / "frame.npz", mosaic=raw.mosaic, **known)
    for recipe in (paper_recipe(), fast_recipe()):
        yield from in_memory(size, folder, lab, raw, recipe)
    commands: list[tuple[Spent, Spent]] = []
    for _ in range(size.process_times + 1):
        predicted = workbench("predict", str(folder / "frame.dng"), "--lab", str(lab), "--predictor", "fast")
        alone = [sys.executable, "-m", "workbench.board.runtime", str(folder / "frame.npz")]
        commands.append((predicted, process(["/usr/bin/env", "-C", str(folder / "fast"), "PYTHONPATH=.", *alone])))
    ours_, exported_ = zip(*commands[1:], strict=True)
    beside = "the exported folder on an .npz"
    yield from cpu_and_wall("`workbench predict` of a 12-MP DNG, whole process", ours_, beside, exported_, bar=Bar(2.0))
    memory = [[spent.peak_mb for spent in side] for side in (ours_, exported_)]
    yield Row("`workbench predict` of a 12-MP DNG, peak memory", "MB", memory[0], beside, memory[1])


def in_memory(size: Size, folder: Path, lab: Path, raw: RawFrame, recipe: Recipe) -> Iterator[Row]:
    """The network of a recipe in each of its forms, beside eager float32."""
    with open_device("sim:sim20") as device:
        run = untrained(lab, recipe, device.info(), frames.MP12)
    eager, channels_last = load_predictor(run), load_predictor(run)
    channels_last.network.to(memory_format=torch.channels_last)
    export(lab, folder / recipe.name, predictor=recipe.name)
    export(lab, folder / f"{recipe.name}-8", predictor=recipe.name, int8=True)
    forms: dict[str, Callable[[], object]] = {
        EXPORTED: partial(BoardPredictor(folder / recipe.name).parameters, raw),
        IN_8_BITS: partial(BoardPredictor(folder / f"{recipe.name}-8").parameters, raw),
        "channels-last": partial(channels_last.predict, [raw]),
    }
    if torch.cuda.is_available():
        forms[ON_GPU] = partial(on_gpu(load_predictor(run)).predict, [raw])
    rows_seen, columns_seen = eager.view.size(raw.height // 2, raw.width // 2)
    seen = f"{columns_seen}×{rows_seen}{' and windows' if eager.view.windows else ''}"
    times = size.times if recipe.name == "fast" else size.process_times
    for form, ours in forms.items():
        what = f"12 MP in memory → parameters, `{recipe.name}` ({seen}), {form}"
        figures, others = in_pairs(ours, partial(eager.predict, [raw]), times)
        bar = Bar(BARS[recipe.name, form]) if (recipe.name, form) in BARS else None
        yield from cpu_and_wall(what, figures, "eager float32", others, bar=bar)
        if (recipe.name, form) == ("paper", IN_8_BITS):
            faster = [other.wall / figure.wall for figure, other in zip(figures, others, strict=True)]
            yield Row(
                f"{what}: how many times as fast as eager float32, wall", "×", faster, bar=Bar(6), more_is_better=True
            )


def untrained(lab: Path, recipe: Recipe, info: DeviceInfo, pixels: tuple[int, int]) -> Path:
    """The folder of a finished ``train`` run, named as the recipe, of a network that was never trained."""
    torch.manual_seed(0)
    view = view_for(recipe.view, [pixels[::-1]])
    config = PredictorConfig(
        len(info.space),
        recipe.width,
        LENGTH if recipe.metadata else 0,
        windows=view.windows,
        statistics=STATISTICS if view.statistics else 0,
    )
    run = new_run(lab, "train", recipe.name)
    network = Predictor(config).eval()
    save_predictor(run.path, network, info.space, info.identity, view.longest, mirrored=recipe.name == "fast")
    results = TrainResult(curve=(), held_out_loss=1.0, parameters=1, torch=torch.__version__, averaged=False)
    run.finish(results.to_json())
    return run.path
