"""Runs the demo for several seeds and prints the results as Markdown; a finished seed is only read.

    .venv/bin/python benchmarks/seeds.py OUT --seeds 0 1 2 [--photographs FOLDER]

Each seed has its own folder ``OUT/seed-N``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from workbench.judge.format1 import spoken
from workbench.judge.results import read_validation
from workbench.lab.runs import RunFolder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--photographs", type=Path)
    arguments = parser.parse_args()
    results = []
    for seed in arguments.seeds:
        folder = arguments.out / f"seed-{seed}"
        if not list(folder.glob("lab/runs/validate*/results.json")):
            command = [sys.executable, "-m", "workbench.cli", "demo", "--folder", str(folder), "--seed", str(seed)]
            if arguments.photographs:
                command += ["--photographs", str(arguments.photographs)]
            begin = time.monotonic()
            subprocess.run(command, check=True)
            (folder / "seconds.txt").write_text(f"{time.monotonic() - begin:.0f}")
        results.append(read(folder))
    print(markdown(arguments.seeds, results))


def read(folder: Path) -> dict:
    """Results of the validation and of the proxy in one demo folder."""
    newest = max(folder.glob("lab/runs/validate*/results.json"), key=lambda p: p.stat().st_mtime)
    found = spoken(read_validation(RunFolder.open(newest.parent)))
    found["proxy_run"] = json.loads((folder / "lab/runs/proxy/run.json").read_text(encoding="utf-8"))["results"]
    seconds = folder / "seconds.txt"
    found["seconds"] = seconds.read_text().strip() if seconds.exists() else "-"
    return found


def markdown(seeds: list[int], results: list[dict]) -> str:
    """Tables: PSNR by method and seed; what prediction gained, with intervals; the proxy."""
    keys = [(m["key"], m["label"]) for m in results[0]["methods"]]
    head = "| | " + " | ".join(f"seed {s}" for s in seeds) + " | mean |\n|---|" + "---|" * (len(seeds) + 1)
    lines = ["PSNR (dB) on the device, test RAWs:", "", head]
    for key, label in keys:
        values = [next(m["psnr"] for m in r["methods"] if m["key"] == key) for r in results]
        lines.append(f"| {label} | " + " | ".join(f"{v:.2f}" for v in values) + f" | {np.mean(values):.2f} |")
    lines += ["", "What prediction gained (95 % interval by scene):", "", head]
    for predictor in ("predicted:with-metadata", "predicted:image-only"):
        name = predictor.split(":")[1].replace("-", " ")
        rows = [gains(r, predictor) for r in results]
        for what in rows[0]:
            scale, unit = (100, " %") if "gap" in what or "worse" in what else (1, " dB")
            cells = [row[what] for row in rows]
            shown = [
                f"{c[0] * scale:+.3g}{unit}"
                + (f" [{c[1] * scale:+.3g}, {c[2] * scale:+.3g}]" if c[1] is not None else "")
                for c in cells
            ]
            mean = np.mean([c[0] for c in cells]) * scale
            lines.append(f"| {name}: {what} | " + " | ".join(shown) + f" | {mean:+.3g}{unit} |")
    lines += ["", "The proxy and the time:", "", head]
    for label, value in (
        ("proxy, new sets on new RAWs (dB)", lambda r: r["proxy_run"]["new_sets_new_raws"]["psnr"]),
        ("proxy, new sets on known RAWs (dB)", lambda r: r["proxy_run"]["new_sets_known_raws"]["psnr"]),
        ("rank correlation of image quality", lambda r: r["proxy_run"]["fidelity"]["rank_correlation"]),
        ("promised minus given (dB)", lambda r: r["proxy"]["promised_minus_given"]["estimate"]),
        ("test RAWs / scenes", lambda r: f"{r['raws']} / {r['scenes']}"),
        ("oracle's gain in its last quarter (dB)", lambda r: r["oracle"]["last_quarter_gain"]),
        ("seconds, all steps", lambda r: r["seconds"]),
    ):
        values = [value(r) for r in results]
        numbers = all(isinstance(v, float) for v in values)
        cells = [f"{v:.2f}" if isinstance(v, float) else str(v) for v in values]
        lines.append(f"| {label} | " + " | ".join(cells) + f" | {f'{np.mean(values):.2f}' if numbers else ''} |")
    return "\n".join(lines)


def gains(result: dict, predictor: str) -> dict[str, tuple[float, float | None, float | None]]:
    """Gain over best fixed and industry, gap closed, share made worse: estimate and interval, paired by RAW."""
    from workbench.judge.statistics import mean_interval, ratio_interval

    def values(key: str) -> np.ndarray:
        return np.array([row["methods"][key]["psnr"] for row in result["per_raw"]])

    scenes = [row["scene"] for row in result["per_raw"]]
    over = values(predictor) - values("fixed")
    gap = values("oracle") - values("fixed")
    found = {
        "gain over best fixed": mean_interval(over, scenes, seed=result["seed"]),
        "gain over industry": mean_interval(values(predictor) - values("industry"), scenes, seed=result["seed"]),
        "gap closed": ratio_interval(over, gap, scenes, seed=result["seed"]),
    }
    table = {name: (i.estimate, i.low, i.high) for name, i in found.items()}
    table["worse than best fixed"] = (float((over < 0).mean()), None, None)
    return table


if __name__ == "__main__":
    main()
