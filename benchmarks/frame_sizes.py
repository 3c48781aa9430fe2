"""Compares a predictor on frames of two sizes of the same scenes: what it gains, and whether it follows noise unasked.

    .venv/bin/python benchmarks/frame_sizes.py LAB RUN OUT.json --small FOLDER --large FOLDER

``RUN`` is of ``workbench refine fixed --image-only`` on ``sim:sim20``: neither it nor what it is on top of is told ISO.
The folders are of ``workbench sim scenes``, of the same photographs and seed, each with its ``--size``: crop, light and
errors of a RAW are then the same in both. Of each scene the device renders both frames with the rule's set and with
what is predicted from the frame itself, and the large one with what is predicted from the small one too. Noise
reduction is held against ISO by rank. Intervals are bootstrapped by scene. What was rendered is kept in OUT.json as it
comes: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.stats import spearmanr

from drivers import pictures
from drivers.parameters import ParameterSet
from drivers.raw.raw_files import load_raw
from workbench.judge.statistics import mean_interval
from workbench.lab.devices import open_devices
from workbench.lab.runs import find_run
from workbench.learn.predictors import open_predictor
from workbench.tasks.viewing_metrics import FUNCTIONS

METRICS = ("psnr", "ssim", "aligned_psnr")
BLOCK = "noise_reduction"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lab", type=Path)
    parser.add_argument("run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--small", type=Path, required=True)
    parser.add_argument("--large", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    known = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"raws": {}}
    predictor = open_predictor(find_run(arguments.lab, "train", arguments.run))
    # The first RAW of every scene, then the second of every one: what is there at any time is of all scenes.
    names = sorted((file.name for file in arguments.large.glob("*.npz")), key=lambda n: (n[-7:], n))
    with open_devices(["sim:sim20?deadline=300"], arguments.lab) as device:
        for name in names:
            if name in known["raws"]:
                continue
            row: dict[str, Any] = {}
            sets: dict[str, ParameterSet] = {}
            for size in ("small", "large"):
                path = getattr(arguments, size) / name
                raw = load_raw(path)
                reference = pictures.decode(path.with_suffix(".reference.png").read_bytes())
                begin = time.process_time()
                (sets[size],) = predictor.predict([raw])
                row[size] = {"iso": raw.iso, "cpu_s": time.process_time() - begin, "codes": sets[size].by_name}
                asked = {"rule": predictor.start(raw), "predicted": sets[size]}
                if size == "large":
                    asked["predicted from the small frame"] = sets["small"]
                for which, parameters in asked.items():
                    pixels = device.process(raw, parameters).rgb.pixels
                    row[size][which] = {m: float(FUNCTIONS[m](pixels, reference)) for m in METRICS}
            known["raws"][name] = row
            known |= summary(known["raws"], [p.name for p in predictor.space.parameters if p.block == BLOCK])
            arguments.out.write_text(json.dumps(known, indent=1) + "\n")
            print(len(known["raws"]), name, json.dumps(known["summary"]), flush=True)


def summary(rows: dict[str, Any], block: list[str]) -> dict[str, Any]:
    """Means, differences with their intervals, and ranks to ISO."""
    scenes = [name.rpartition("_")[0] for name in rows]

    def of(size: str, which: str, metric: str) -> np.ndarray:
        return np.array([row[size][which][metric] for row in rows.values()])

    told: dict[str, Any] = {"raws": len(rows), "scenes": len(set(scenes))}
    for metric in METRICS:
        large = of("large", "predicted", metric)
        gains = {size: of(size, "predicted", metric) - of(size, "rule", metric) for size in ("small", "large")}
        differences = {
            "gain, small": gains["small"],
            "gain, large": gains["large"],
            "gain, large - small": gains["large"] - gains["small"],
            "predicted, large - small": large - of("small", "predicted", metric),
            "rule, large - small": of("large", "rule", metric) - of("small", "rule", metric),
            "large, from itself - from small": large - of("large", "predicted from the small frame", metric),
        }
        told[metric] = {name: mean_interval(d, scenes).text("+.3f") for name, d in differences.items()} | {
            f"{which}, {size}": float(of(size, which, metric).mean())
            for size in ("small", "large")
            for which in ("rule", "predicted")
        }
    iso = [row["small"]["iso"] for row in rows.values()]
    for size in ("small", "large"):
        codes = {name: [row[size]["codes"][name] for row in rows.values()] for name in block}
        told[f"rank to ISO, {size}"] = {
            name: round(float(spearmanr(iso, c)[0]), 3) if len(set(c)) > 1 else None for name, c in codes.items()
        }
    return {"summary": told}


if __name__ == "__main__":
    main()
