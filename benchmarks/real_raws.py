"""Cuts real RAW files into windows, with another developer's rendering of the whole file as reference.

    .venv/bin/python benchmarks/real_raws.py RAWS OUT --reference libraw: --test NAME ... --validation NAME ...

RAW files have no clean original. What a lab can have is the picture that another developer (or its own camera) makes of
them, and the wish to come near it. RAWS is a folder of RAW files; OUT becomes a RAW folder for ``collect``: ``.npz``
windows, PNG references, ``scenes.csv`` (a file is a scene; its windows share a split).
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from drivers.errors import WorkbenchError
from drivers.frames import RawFrame
from drivers.raw.raw_files import load_raw, save_npz
from drivers.registry import open_device
from workbench.collect.raw_folder import read_raw_folder
from workbench.rules.balance import with_as_shot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raws", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--reference", required=True, help="device URL of the developer that makes the references")
    parser.add_argument("--test", nargs="+", required=True, help="names of the test files, or how they begin")
    parser.add_argument("--validation", nargs="+", required=True)
    parser.add_argument("--leave-out", nargs="*", default=[], help="files that show nothing (a dark frame)")
    parser.add_argument("--windows", type=int, default=8, help="windows of each file")
    parser.add_argument("--size", type=int, default=256, help="side of a window in pixels, even")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(arguments.seed)
    rows = []
    with open_device(arguments.reference, deadline_s=120) as device:
        space = device.info().space
        for entry in read_raw_folder(arguments.raws):
            name = entry.path.name
            if name.startswith(tuple(arguments.leave_out)):
                continue
            split = (
                "test"
                if name.startswith(tuple(arguments.test))
                else "validation"
                if name.startswith(tuple(arguments.validation))
                else "train"
            )
            raw = load_raw(entry.path)
            try:
                rendering = device.process(raw, with_as_shot(space.defaults, raw)).rgb.pixels
            except WorkbenchError as error:
                print(f"{name}: left out, {error}")
                continue
            for number, (y, x) in enumerate(corners(raw, arguments.windows, arguments.size, rng)):
                file = arguments.out / f"{entry.path.stem}-{number}.npz"
                save_npz(file, window(raw, y, x, arguments.size))
                picture = file.with_suffix(".reference.png")
                Image.fromarray(rendering[y : y + arguments.size, x : x + arguments.size]).save(picture)
                rows.append({"file": file.name, "scene": entry.path.stem, "split": split, "reference": picture.name})
            print(f"{name}: {raw.width}×{raw.height}, {split}")
    with (arguments.out / "scenes.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, ("file", "scene", "split", "reference"))
        table.writeheader()
        table.writerows(rows)
    print(f"{len(rows)} windows in {arguments.out}")


def corners(raw: RawFrame, count: int, size: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Corners (y, x) of ``count`` windows on a grid that keeps the CFA's phase, drawn without replacement."""
    grid = [
        (y, x) for y in range(0, raw.height - size + 1, size // 2) for x in range(0, raw.width - size + 1, size // 2)
    ]
    chosen = rng.choice(len(grid), min(count, len(grid)), replace=False)
    return [grid[i] for i in sorted(chosen)]


def window(raw: RawFrame, y: int, x: int, size: int) -> RawFrame:
    """The part of a RAW from an even (y, x) on, ``size`` pixels square."""
    mosaic = np.ascontiguousarray(raw.mosaic[y : y + size, x : x + size])
    return dataclasses.replace(raw, mosaic=mosaic, source=f"{raw.source} at {y},{x}")


if __name__ == "__main__":
    main()
