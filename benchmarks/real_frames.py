"""The whole path on frames of 12 megapixels: time and peak memory of every step, each a process of its own.

    .venv/bin/python benchmarks/real_frames.py PHOTOGRAPHS OUT    # docs/results/real-frames.md and .json

The 40 largest photographs of PHOTOGRAPHS become RAWs of 4096×3072, and the emulated ISP, in the process of each step,
is the device: its time and memory are in the figures. Few captures and steps: it shows that the path carries such
frames, not what comes of it. The same command goes on with the step that did not end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import tables_json
from bench import setting
from measures.clocks import Spent, workbench
from PIL import Image

SIZE = "4096x3072"
DEVICE = "sim:sim20?deadline=300"
DEADLINE_S = 3600.0
RESULT = tables_json.RESULTS / "real-frames.md"
STEPS: dict[str, str] = {
    "sim scenes": f"{{raws}} --photographs {{photographs}} --raws-per-photograph 1 --lab-scenes 0 --size {SIZE}",
    "collect": f"--device {DEVICE} --raws {{raws}} --captures 78 --lab {{lab}}",
    "fit-proxy": "--base-steps 60 --steps 20 --lab {lab}",
    "tune": f"--device {DEVICE} --captures 12 --raws-per-trial 2 --lab {{lab}}",
    "train": "--on-top-of fixed --steps 20 --lab {lab}",
    "validate": f"--device {DEVICE} --test-raws 2 --oracle-captures 4 --no-by-block --lab {{lab}}",
    "predict": "{raw} --lab {lab}",
    "report": "--lab {lab}",
}
"""Commands with their arguments."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path, help="folder for photographs, RAWs and lab; some 3 GB")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    folders = {name: str(arguments.out / name) for name in ("photographs", "raws", "lab")}
    photographs, known = Path(folders["photographs"]), arguments.out / "spent.json"
    if not photographs.exists():
        photographs.mkdir(parents=True)
        for photograph in largest(arguments.photographs, 40):
            (photographs / photograph.name).symlink_to(photograph.resolve())
    figures = json.loads(known.read_text(encoding="utf-8")) if known.exists() else {}
    rows: list[tuple[str, str, Spent]] = []
    for name, given in STEPS.items():
        raw = next(iter(sorted(Path(folders["raws"]).glob("*.npz"))), Path())
        told = given.format(photographs="PHOTOGRAPHS", raws="raws", lab="lab", raw="RAW")
        if name not in figures:
            figures[name] = workbench(*name.split(), *given.format(**folders, raw=raw).split(), deadline_s=DEADLINE_S)
            known.write_text(json.dumps(figures), encoding="utf-8")
        spent = Spent(*figures[name])
        rows.append((name, told, spent))
        print(
            f"{name}: {spent.wall:.0f} s, CPU {spent.cpu:.0f} s, {spent.peak_mb:,.0f} MB", file=sys.stderr, flush=True
        )
    RESULT.write_text(
        document(setting(load, sum(spent.wall for *_, spent in rows)), rows), encoding="utf-8", newline="\n"
    )
    RESULT.with_suffix(".json").write_text(tables_json.as_json(RESULT), encoding="utf-8", newline="\n")
    print(f"written: {RESULT} and {RESULT.with_suffix('.json').name}")
    return 0


def largest(folder: Path, count: int) -> list[Path]:
    """The photographs with the most pixels."""
    found = [file for file in folder.rglob("*") if file.suffix.lower() in {".jpg", ".jpeg", ".png"}]

    def pixels(file: Path) -> int:
        with Image.open(file) as picture:
            return picture.width * picture.height

    return sorted(found, key=lambda file: (-pixels(file), file.name))[:count]


def document(told: str, rows: list[tuple[str, str, Spent]]) -> str:
    """The page of the results."""
    spent = [spent for *_, spent in rows]
    whole = Spent(sum(s.wall for s in spent), sum(s.cpu for s in spent), max(s.peak_mb for s in spent))
    table = "".join(
        f"| {name} | {given} | {spent.cpu:.0f} | {spent.wall:.0f} | {spent.peak_mb:,.0f} |\n"
        for name, given, spent in [*((f"`{n}`", f"`{g}`", s) for n, g, s in rows), ("all", "", whole)]
    )
    return f"""# The whole path on frames of 12 megapixels

    python benchmarks/real_frames.py PHOTOGRAPHS OUT

{told}
40 photographs, each one RAW of {SIZE.replace("x", "×")}; those of fewer pixels are enlarged.
The emulated ISP is in the process of each step, so its time and memory are in the figures. Few captures and steps: this
shows that the path carries such frames, not what comes of it.

| step | arguments | CPU (s) | wall (s) | peak memory (MB) |
| --- | --- | --- | --- | --- |
{table}
- `predict` is the first one for RAWs of this size: it loads torch and leaves the network's graph beside the run. The
  next takes what [export.md](export.md) says.
"""


if __name__ == "__main__":
    sys.exit(main())
