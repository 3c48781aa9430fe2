"""Every baseline at equal captures against prediction, over several seeds: tunes, validates, prints Markdown.

    .venv/bin/python benchmarks/baselines.py OUT --seeds 0 1 2 --device sim:sim20 --expert expert.toml

``OUT/seed-N/lab`` are labs with a data set, a fitted proxy and trained predictors, as ``benchmarks/seeds.py`` leaves
them; the expert's file is looked for in each ``OUT/seed-N``. What is done is only read: the same call goes on after a
stop.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from workbench.judge.format1 import spoken
from workbench.judge.results import read_validation
from workbench.lab.runs import RunFolder

# Name of the run, label, what it adds to ``workbench tune``. The first two are what prediction is compared with.
METHODS: dict[str, tuple[str, list[str]]] = {
    "b-cmaes": ("best fixed (CMA-ES)", ["--method", "cmaes"]),
    "b-industry": ("industry: as-shot WB, table over ISO", ["--rule", "industry"]),
    "b-random": ("random", ["--method", "random"]),
    "b-blockwise": ("blockwise", ["--method", "blockwise"]),
    "b-nelder-mead": ("Nelder-Mead", ["--method", "nelder-mead"]),
    "b-tpe": ("TPE", ["--method", "tpe"]),
    "b-gp": ("Gaussian process", ["--method", "gp", "--raws-per-trial", "32"]),
    "b-nsga2": ("NSGA-II (PSNR, SSIM)", ["--method", "nsga2"]),
    "b-worst-rank": ("CMA-ES, worst rank (PSNR, SSIM)", ["--method", "worst-rank"]),
    "b-proxy-gradient": ("gradient through the proxy", ["--method", "proxy-gradient"]),
    "b-as-shot": ("best fixed with as-shot WB", ["--rule", "as-shot"]),
    "b-grey-world": ("table over ISO, grey-world WB", ["--rule", "industry-grey-world"]),
    "b-regression": ("regression to on-device optima", ["--rule", "regression"]),
}
VALIDATION = "baselines"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--captures", type=int, default=4000)
    parser.add_argument("--expert", help="name of the expert's TOML in each seed's folder")
    parser.add_argument("--predictors", nargs="*", default=[], help="train runs; by default the newest")
    parser.add_argument("--test-raws", type=int, default=60)
    parser.add_argument("--oracle-captures", type=int, default=240)
    arguments = parser.parse_args()
    labs = [arguments.out / f"seed-{seed}" / "lab" for seed in arguments.seeds]
    for seed, lab in zip(arguments.seeds, labs, strict=True):
        common = ["--device", arguments.device, "--lab", str(lab), "--seed", str(seed)]
        if arguments.expert:
            common += ["--expert", str(lab.parent / arguments.expert)]
        for name, (_, options) in METHODS.items():
            if not _finished(lab, name):
                _workbench("tune", *common, "--captures", str(arguments.captures), *options, "--name", name)
        if not _finished(lab, VALIDATION):
            fixed, industry, *others = METHODS
            chosen = ["--fixed", fixed, "--industry", industry, *(o for n in others for o in ("--tune", n))]
            chosen += [o for n in arguments.predictors for o in ("--predictor", n)]
            sizes = ["--test-raws", str(arguments.test_raws), "--oracle-captures", str(arguments.oracle_captures)]
            _workbench("validate", *common, *chosen, *sizes, "--name", VALIDATION)
    print(markdown(arguments.seeds, labs))


def _finished(lab: Path, name: str) -> bool:
    path = lab / "runs" / name / "run.json"
    return path.is_file() and bool(json.loads(path.read_text(encoding="utf-8")).get("results"))


def _workbench(*arguments: str) -> None:
    print("$ workbench", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "workbench.cli", *arguments], check=True)


def markdown(seeds: list[int], labs: list[Path]) -> str:
    """A row a method: PSNR by seed, what prediction gained over it, and what it cost."""
    results = [spoken(read_validation(RunFolder.open(lab / "runs" / VALIDATION))) for lab in labs]
    rows = [_by_key(r) for r in results]
    about = results[0]["headline"]["predictor"]
    head = [*(f"seed {s}" for s in seeds), "mean (dB)", "SSIM", "prediction over it (dB)", "captures", "device s"]
    lines = [f"| method | {' | '.join([*head, 'compute s'])} |", "|---|" + "---|" * (len(head) + 1)]
    for key in _order(rows, about):
        psnr = [r[key]["psnr"] for r in rows]
        cells = [f"{v:.2f}" for v in psnr]
        cells += [f"{np.mean(psnr):.2f}", f"{np.mean([r[key]['ssim'] for r in rows]):.3f}"]
        cells += ["" if key == about else _gain(results, about, key)]
        cells += [_mean([r[key].get(what) for r in rows]) for what in ("captures", "device_s", "compute_s")]
        lines.append(f"| {_label(rows[0][key])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_key(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {m["key"]: m for m in result["methods"]}


def _order(rows: list[dict[str, dict[str, Any]]], about: str) -> list[str]:
    """Baselines by their mean PSNR over the seeds, then what is predicted, then the oracle."""
    keys = list(rows[0])
    late = [k for k in keys if k.split(":")[0] in ("mean", "predicted")]
    early = [k for k in keys if k not in late and k != "oracle"]
    by_mean = sorted(early, key=lambda k: sum(r[k]["psnr"] for r in rows))
    return [*by_mean, *(k for k in late if k != about), about, "oracle"]


def _label(row: dict[str, Any]) -> str:
    return METHODS[row["run"]][0] if row.get("run") in METHODS else str(row["label"])


def _mean(values: list[float | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{np.mean(known):,.0f}" if known else ""


def _gain(results: list[dict[str, Any]], about: str, key: str) -> str:
    """Interval over the scenes of all seeds; in words only where every seed has the same sign."""
    from workbench.judge.statistics import mean_interval

    gains, scenes, signs = [], [], set()
    for number, result in enumerate(results):
        own = [row["methods"][about]["psnr"] - row["methods"][key]["psnr"] for row in result["per_raw"]]
        gains += own
        scenes += [f"{number} {row['scene']}" for row in result["per_raw"]]
        signs.add(np.sign(np.mean(own)))
    found = mean_interval(np.array(gains), scenes, seed=0)
    shown = len(signs) == 1 and (found.low > 0 or found.high < 0)
    verdict = ("better" if found.estimate > 0 else "worse") if shown else "not shown"
    return f"{found.estimate:+.2f} [{found.low:+.2f}, {found.high:+.2f}]: {verdict}"


if __name__ == "__main__":
    main()
