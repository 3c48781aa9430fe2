"""What bounds prediction: the best set of each RAW, with the error of exposure and white balance that no RAW tells.

    .venv/bin/python benchmarks/untold_light.py LAB RUN OUT.json

``RUN`` is a ``validate`` run with an oracle on ``sim:sim20``. The simulated camera meters a scene with an error and
goes only part of the way to mid-grey (:mod:`sim.camera.metering`), so who knows the metered brightness exactly still
errs in the gain by ``meter_error_ev / (1 − metering)``; its white balance errs too. The oracle's sets are given such
errors, drawn anew several times, and the device renders them: what sees brightness and the as-shot white balance alone
comes no further. What knows the things in the picture, or finds its grey, can.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from drivers.parameters import ParameterSet
from drivers.registry import open_device
from sim.camera.metering import Camera
from sim.camera.sensor import Sensor
from workbench.judge.results import read_validation
from workbench.judge.statistics import ratio_interval
from workbench.lab.dataset import Dataset
from workbench.lab.runs import find_run
from workbench.tasks.viewing import ViewingTask

ERRORS = {"exposure": (True, False), "white balance": (False, True), "both": (True, True)}
METRICS = ("psnr", "ssim")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lab", type=Path)
    parser.add_argument("run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--draws", type=int, default=8, help="errors drawn for each RAW")
    arguments = parser.parse_args()
    camera = Camera(Sensor())
    result = read_validation(find_run(arguments.lab, "validate", arguments.run))
    device, task, rng = open_device("sim:sim20"), ViewingTask(), np.random.default_rng(0)
    space, scenes = device.info().space, [row.scene for row in result.per_raw]
    keys = list(result.per_raw[0].methods)
    figures = {m: {k: np.array([row.methods[k].figures[m] for row in result.per_raw]) for k in keys} for m in METRICS}
    with Dataset.open(arguments.lab, create=False) as dataset:
        raws = {raw.hash: raw for raw in dataset.raws()}
    rows = {}
    for name, (exposure, balance) in ERRORS.items():
        given = {metric: np.zeros(len(scenes)) for metric in METRICS}
        for i, row in enumerate(result.per_raw):
            raw, best = raws[row.hash], space.from_codes(row.methods["oracle"].codes)
            frame = raw.load()
            for _ in range(arguments.draws):
                capture = device.process(frame, erring(best, camera, rng, exposure, balance))
                judged = task.judge(raw, capture.rgb.pixels).figures
                for metric in METRICS:
                    given[metric][i] += judged[metric] / arguments.draws
        fixed, oracle = figures["psnr"]["fixed"], figures["psnr"]["oracle"]
        closed = ratio_interval(given["psnr"] - fixed, oracle - fixed, scenes, seed=0)
        rows[name] = {
            **{metric: float(given[metric].mean()) for metric in METRICS},
            "gap_closed": [closed.estimate, closed.low, closed.high],
        }
    known = {
        "raws": len(scenes),
        "draws": arguments.draws,
        "exposure_ev": exposure_error(camera),
        "awb_error": camera.awb_error,
        "awb_outliers": camera.awb_outliers,
        "methods": {key: {m: float(figures[m][key].mean()) for m in METRICS} for key in figures["psnr"]},
        "oracle_with_an_error_of": rows,
    }
    arguments.out.write_text(json.dumps(known, indent=1) + "\n")
    print(json.dumps(known, indent=1))


def exposure_error(camera: Camera) -> float:
    """Standard deviation, in stops, of the gain that a known brightness leaves open."""
    return camera.meter_error_ev / (1 - camera.metering)


def erring(best: ParameterSet, camera: Camera, rng: np.random.Generator, exposure: bool, balance: bool) -> ParameterSet:
    """A set with gains that err as the camera's meter, its white balance, or both do."""
    factors = {}
    if exposure:
        factors["digital_gain"] = 2.0 ** rng.normal(0, exposure_error(camera))
    if balance:
        size = 3.0 if rng.random() < camera.awb_outliers else 1.0
        along, across = (size * rng.normal(0, error) / np.sqrt(2) for error in camera.awb_error)
        factors |= {"red_gain": np.exp(along + across), "blue_gain": np.exp(across - along)}
    codes = {name: best.space[name].nearest(float(best[name]) * factor) for name, factor in factors.items()}
    return best.with_codes(codes)


if __name__ == "__main__":
    main()
