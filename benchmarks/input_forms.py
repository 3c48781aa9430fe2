"""Compares what the network may see of a RAW: does its noise reduction follow ISO, of which it is told nothing?

    .venv/bin/python benchmarks/input_forms.py LAB RULE OUT.json [--seconds 60] [--factors 1 2 4 8] [--no-render]

``RULE`` is a run of ``workbench tune --rule industry`` on ``sim:sim20``, a table over ISO. Each form learns to say,
from the image alone, what the table gives the noise reduction; all other parameters are the rule's. Every form gets
the same CPU seconds. Then the device renders RAWs of other scenes with what each form says. All RAWs of the lab have
one size; its planes are seen whole (factor 1), averaged by each factor, and so with windows of full resolution, with
its statistics, and with both.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from drivers.parameters import ParameterSpace
from drivers.splits import Split
from predictor.metadata import LENGTH
from predictor.raw_features import STATISTICS, raw_statistics
from predictor.training import Example, Recipe, fit
from predictor.view import View
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.devices import open_devices
from workbench.lab.runs import find_run
from workbench.lab.stratified import stratified
from workbench.rules.tuned import TunedRule, load_rule
from workbench.tasks.viewing_data import PART_PIXELS
from workbench.tasks.viewing_metrics import FUNCTIONS

BLOCK = "noise_reduction"
TRIAL = 6
"""Steps by which the cost of one is known before the training; the first, which is slow, does not count."""


def forms(side: int, factors: Sequence[int]) -> dict[str, View]:
    """What is compared on planes whose longer side has so many pixels."""
    found = {}
    for factor in factors:
        longest = -(-side // factor)
        if factor == 1:
            found["whole"] = View(longest)
            continue
        for windows, statistics in itertools.product((False, True), repeat=2):
            extras = ", windows" * windows + ", statistics" * statistics
            found[f"averaged by {factor}{extras}"] = View(longest, windows, statistics)
    return found


class Data:
    """Planes, what is told, and the rule's parameters of RAWs; see :class:`predictor.training.TrainingData`."""

    def __init__(self, view: View, frames: list[np.ndarray], statistics: np.ndarray, wanted: np.ndarray) -> None:
        self.planes = torch.stack([torch.from_numpy(view.of(planes.astype(np.float32))) for planes in frames])
        told = np.zeros((len(frames), LENGTH), np.float32)
        self.told = torch.from_numpy(np.concatenate([told, statistics], 1) if view.statistics else told)
        self.wanted = torch.from_numpy(wanted.astype(np.float32))

    def __len__(self) -> int:
        return len(self.planes)

    def draw(self, batch: int, generator: torch.Generator) -> list[Example]:
        places = torch.randint(len(self), (batch,), generator=generator)
        planes = self.planes[places]
        for axis in (2, 3):
            if torch.rand(1, generator=generator) < 0.5:
                planes = planes.flip(axis)
        most = max(PART_PIXELS // (planes.shape[2] * planes.shape[3]), 1)
        whole = (planes, self.told[places], torch.zeros(batch), self.wanted[places])
        parts = zip(*(tensor.split(most) for tensor in whole), strict=True)
        return [Example(*part) for part in parts]

    def held_out(self) -> Iterator[Example]:
        return iter(())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lab", type=Path)
    parser.add_argument("rule")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--test", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--thirds", action="store_true", help="judge on a third of the training scenes too, left out")
    parser.add_argument("--no-render", action="store_true", help="leave the device's pictures out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with (
        Dataset.open(arguments.lab, create=False) as dataset,
        open_devices(["sim:sim20"], arguments.lab) as device,
    ):
        space = device.info().space
        rule = load_rule(find_run(arguments.lab, "tune", arguments.rule), space)
        training_raws, judged_raws = dataset.raws(Split.TRAIN), dataset.raws(Split.VALIDATION)
        if arguments.thirds:
            left_out = set(sorted({raw.scene for raw in training_raws})[::3])
            judged_raws += [raw for raw in training_raws if raw.scene in left_out]
            training_raws = [raw for raw in training_raws if raw.scene not in left_out]
        used = stratified(training_raws, min(arguments.train, len(training_raws)), arguments.seed)
        test = stratified(judged_raws, min(arguments.test, len(judged_raws)), arguments.seed)
        training, judged = _material(used, rule), _material(test, rule)
        own = [p.name for p in space.parameters if p.block == BLOCK]
        own = [n for n in own if np.ptp(training[2][:, space.names.index(n)]) > 0.05]
        results = {"parameters": own, "raws": [len(used), len(test)], "cpu_s": arguments.seconds, "forms": {}}
        views = forms(max(used[0].width, used[0].height) // 2, arguments.factors)
        said = {name: _learnt(view, training, judged, own, space, arguments) for name, view in views.items()}
        said["the table itself, told ISO"] = (judged[2], 0, 0)
        said["one value for all"] = (np.broadcast_to(training[2].mean(0), judged[2].shape), 0, 0)
        iso = np.array([raw.iso for raw in test])
        places = [space.names.index(n) for n in own]
        scores: dict[str, list[list[float]]] = {name: [] for name in said}
        for i, raw in enumerate([] if arguments.no_render else test):
            frame, reference = raw.load(), raw.reference()
            for name, (unit, *_) in said.items():
                chosen = judged[2][i].copy()
                chosen[places] = unit[i, places]
                pixels = device.process(frame, space.from_unit(chosen)).rgb.pixels
                scores[name].append([FUNCTIONS[m](pixels, reference) for m in ("psnr", "ssim", "aligned_psnr")])
        for name, (unit, steps, seconds) in said.items():
            wanted = judged[2][:, places]
            ranks = [float(spearmanr(iso, unit[:, p])[0]) if np.ptp(unit[:, p]) else 0.0 for p in places]
            limits = [float(spearmanr(iso, judged[2][:, p])[0]) for p in places]
            results["forms"][name] = {
                "steps": steps,
                "cpu_s_a_step": seconds,
                "rank_to_iso": ranks,
                "rank_of_table": limits,
                "error": float(np.sqrt(np.square(unit[:, places] - wanted).mean())),
            }
            if scores[name]:
                results["forms"][name]["psnr_ssim_aligned"] = np.mean(scores[name], 0).tolist()
                results["forms"][name]["high_iso"] = np.mean(np.array(scores[name])[iso >= 1600], 0).tolist()
            print(name, json.dumps(results["forms"][name]), flush=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")


def _material(raws: list[RawRecord], rule: TunedRule) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    frames, statistics = [], []
    for raw in raws:
        frame = raw.load()
        frames.append(frame.planes().astype(np.float16))
        statistics.append(raw_statistics(frame))
    return frames, np.stack(statistics), np.stack([rule.parameters_for(raw).unit for raw in raws])


def _learnt(
    view: View,
    training: tuple[list[np.ndarray], np.ndarray, np.ndarray],
    judged: tuple[list[np.ndarray], np.ndarray, np.ndarray],
    own: list[str],
    space: ParameterSpace,
    arguments: argparse.Namespace,
) -> tuple[np.ndarray, int, float]:
    """What a form says of the judged RAWs ``[R, N]``, its steps, and the CPU seconds of one."""
    data, asked = Data(view, *training), Data(view, *judged)
    places = [space.names.index(n) for n in own]
    scale = 10.0

    def trained(steps: int) -> tuple[torch.nn.Module, float]:
        ends: list[float] = []
        recipe = replace(Recipe(seed=arguments.seed), steps=steps, batch=arguments.batch, metadata=False)
        fitted = fit(
            data,
            space,
            lambda raw, unit, whole: unit,
            lambda unit, wanted: scale * (unit - wanted)[:, places].square().mean(),
            recipe,
            metadata_length=LENGTH,
            start=training[2].mean(0),
            statistics=torch.from_numpy(training[1]) if view.statistics else None,
            windows=view.windows,
            held=[n for n in space.names if n not in own],
            on_step=lambda step: ends.append(time.process_time()),
        )
        return fitted.network, float(np.diff(ends).mean())

    _, first = trained(TRIAL)
    steps = max(int(arguments.seconds / first), 5)
    network, seconds = trained(steps)
    with torch.no_grad():
        told = asked.told[:, -STATISTICS:] if view.statistics else None
        unit = torch.cat(
            [network(p[None], None if told is None else told[i : i + 1]) for i, p in enumerate(asked.planes)]
        )
    print(f"learnt: {view}, {steps} steps, {seconds:.3f} CPU s each", flush=True)
    return unit.numpy(), steps, seconds


if __name__ == "__main__":
    main()
