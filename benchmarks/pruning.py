"""Compares a network of recipe `paper` in 8 bits and with channels pruned: what each costs on the device, and saves.

    .venv/bin/python benchmarks/pruning.py LAB RUN OUT.json

``RUN`` is a refined predictor on ``sim:sim20``, whose answers on the training RAWs a network of ``paper``'s size (32
channels, image alone) learns. Of every encoder the channels of the smallest L1 norm are then left out, a share of them,
and what is left learns on for a while. Cost: validation RAWs that the device renders with the answers of each, against
those of the whole network. Time: CPU of one thread for 12 megapixels, in turns, with ONNX Runtime.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from drivers.splits import Split
from predictor.model import Predictor, PredictorConfig
from workbench.board.graph import LOGITS, graph_of
from workbench.board.quantising import quantise
from workbench.board.runtime import PLANES
from workbench.lab.dataset import Dataset
from workbench.lab.devices import open_devices
from workbench.lab.runs import find_run
from workbench.lab.stratified import stratified
from workbench.learn.predictors import open_predictor
from workbench.tasks.viewing_metrics import FUNCTIONS

WIDTH = 32
SHARES = {"an eighth": 28, "a quarter": 24, "a half": 16}
"""What is left of the 32 channels of the first encoder; of the others accordingly."""
METRICS = ("psnr", "ssim", "aligned_psnr")
MP12 = (1536, 2048)
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lab", type=Path)
    parser.add_argument("run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=300)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--more", type=int, default=100, help="steps after the pruning")
    parser.add_argument("--judged", type=int, default=63)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    teacher = open_predictor(find_run(arguments.lab, "train", arguments.run))
    with Dataset.open(arguments.lab, create=False) as dataset:
        frames = [raw.load() for raw in stratified(dataset.raws(Split.TRAIN), arguments.train, 0)]
        judged = stratified(dataset.raws(Split.VALIDATION), arguments.judged, 0)
    planes = torch.from_numpy(np.stack([frame.planes() for frame in frames]))
    wanted = torch.from_numpy(np.stack([p.unit for p in teacher.predict(frames)]).astype(np.float32))
    weights = arguments.out.with_suffix(".pt")
    whole = Predictor(PredictorConfig(len(teacher.space), WIDTH))
    if weights.exists():
        whole.load_state_dict(torch.load(weights, weights_only=True))
    else:
        whole.start_at(torch.logit(wanted.mean(0), eps=1e-3))
        learn(whole, planes, wanted, arguments.steps, 6e-4)
        torch.save(whole.state_dict(), weights)
    networks = {"whole": whole}
    for name, width in SHARES.items():
        networks[f"without {name}"] = pruned(whole, width)
        networks[f"without {name}, learnt on"] = pruned(whole, width)
        learn(networks[f"without {name}, learnt on"], planes, wanted, arguments.more, 3e-4)
    size = (planes.shape[2], planes.shape[3])
    known: dict[str, Any] = {"error": {}, "cost": {}, "cpu_s": {}}
    with tempfile.TemporaryDirectory() as folder:
        sessions = {}
        for name, network in networks.items():
            known["error"][name] = float(torch.sqrt((answers(network, planes) - wanted).square().mean()))
            sessions[name] = session(Path(folder), network, size)
            if name == "whole" or "learnt on" in name:
                sessions[f"{name}, 8 bits"] = session(Path(folder), network, size, planes[:64].numpy())
        known |= {"judged": len(judged), "cost": cost(sessions, judged, teacher.space, arguments.lab)}
        del sessions
        large = torch.nn.functional.interpolate(planes[:2], MP12, mode="bilinear").numpy()
        at_work = {}
        for name, width in {"whole": WIDTH, **{f"without {k}": v for k, v in SHARES.items()}}.items():
            network = pruned(whole, width) if width < WIDTH else whole
            at_work[name] = session(Path(folder), network, MP12)
            at_work[f"{name}, 8 bits"] = session(Path(folder), network, MP12, large)
        spent: dict[str, list[float]] = {name: [] for name in at_work}
        for _ in range(ROUNDS):
            for name, one in at_work.items():
                begin = time.process_time()
                one.run([LOGITS], {PLANES: large[:1]})
                spent[name].append(round(time.process_time() - begin, 3))
        known["cpu_s"] = spent
    arguments.out.write_text(json.dumps(known, indent=1) + "\n")
    print(json.dumps(known, indent=1))


def learn(network: Predictor, planes: Tensor, wanted: Tensor, steps: int, rate: float) -> None:
    """Let a network answer as wanted, in batches of four, by AdamW with a cosine to zero."""
    optimiser = torch.optim.AdamW(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    network.train()
    for step in range(1, steps + 1):
        at = torch.randint(len(planes), (4,))
        seen = planes[at]
        for axis in (2, 3):
            seen = seen.flip(axis) if torch.rand(()) < 0.5 else seen
        loss = (network(seen) - wanted[at]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"{step} of {steps}: {float(loss.detach()):.5f}, {time.process_time():.0f} CPU s", flush=True)
    network.eval()


@torch.no_grad()
def pruned(whole: Predictor, width: int) -> Predictor:
    """A network of fewer channels, which has of every encoder's those of the largest L1 norm."""
    network = Predictor(PredictorConfig(whole.config.parameters, width))
    network.load_state_dict(
        {k: v for k, v in whole.state_dict().items() if v.shape == network.state_dict()[k].shape}, strict=False
    )
    before = torch.arange(3)
    for i, encoder in enumerate(whole.encoders):
        convolution, new = encoder[0], network.encoders[i][0]  # type: ignore[index]
        norms = convolution.weight.abs().sum((1, 2, 3))
        kept = norms.topk(width * 2**i).indices.sort().values
        new.weight.copy_(convolution.weight[kept][:, before])
        new.bias.copy_(convolution.bias[kept])
        network.levels[i].weight.copy_(whole.levels[i].weight[:, kept])  # type: ignore[operator, index]
        before = kept
    network.local.weight.copy_(whole.local.weight[:, before])
    return network.eval()


@torch.no_grad()
def answers(network: Predictor, planes: Tensor) -> Tensor:
    """Normalised parameters ``[R, N]``."""
    return torch.cat([network(one[None]) for one in planes])


def session(
    folder: Path, network: Predictor, size: tuple[int, int], typical: np.ndarray | None = None
) -> onnxruntime.InferenceSession:
    """The network in ONNX Runtime on one thread; with ``typical`` planes in 8 bits, with their ranges."""
    path = folder / "network.onnx"
    path.write_bytes(graph_of(network.eval(), *size))
    if typical is not None:
        quantise(path, [{PLANES: one[None]} for one in typical])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def cost(sessions: dict[str, Any], judged: list[Any], space: Any, lab: Path) -> dict[str, Any]:
    """Of each network: codes that are others than the whole one's, and what the device's figures differ by."""
    codes: dict[str, list[int]] = {name: [] for name in sessions}
    figures: dict[str, list[list[float]]] = {name: [] for name in sessions}
    with open_devices(["sim:sim20"], lab) as device:
        for raw in judged:
            frame, reference = raw.load(), raw.reference()
            given = {PLANES: frame.planes()[None]}
            for name, one in sessions.items():
                logits = one.run([LOGITS], given)[0][0]
                parameters = space.from_unit(1 / (1 + np.exp(-logits.astype(np.float64))))
                codes[name] += parameters.codes
                pixels = device.process(frame, parameters).rgb.pixels
                figures[name].append([FUNCTIONS[m](pixels, reference) for m in METRICS])
    told: dict[str, Any] = {"whole": dict(zip(METRICS, np.mean(figures["whole"], 0).tolist(), strict=True))}
    for name in sessions.keys() - {"whole"}:
        moved = np.abs(np.subtract(codes[name], codes["whole"]))
        told[name] = {"codes": moved.size, "other_codes": int((moved > 0).sum()), "furthest": int(moved.max())}
        for metric, d in zip(METRICS, np.subtract(figures[name], figures["whole"]).T, strict=True):
            told[name][metric] = [float(d.mean()), float(d.std(ddof=1) / len(d) ** 0.5), float(d.min())]
    return told


if __name__ == "__main__":
    main()
