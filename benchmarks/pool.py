"""How much faster two emulated boards collect than one, each taking so many milliseconds a frame.

    .venv/bin/python benchmarks/pool.py [--captures 400] [--frame-ms 50]

Starts the boards as processes, collects as ``workbench collect`` does with one and with two, and prints the captures a
second of the campaign (without opening the boards and their check against each other).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from drivers.frames import RawFrame
from drivers.raw.raw_files import save_npz
from drivers.splits import Split
from workbench.collect import campaign
from workbench.collect.bench import Bench
from workbench.collect.designs import Design
from workbench.collect.raw_folder import read_raw_folder
from workbench.collect.raw_import import import_raws
from workbench.lab.dataset import Dataset
from workbench.lab.devices import open_devices

BOARDS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captures", type=int, default=400)
    parser.add_argument("--frame-ms", type=float, default=50)
    arguments = parser.parse_args()
    serve = [sys.executable, "-m", "workbench.cli", "sim", "serve", "--zmq", "127.0.0.1:0"]
    serve += ["--frame-ms", str(arguments.frame_ms)]
    boards = [subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) for _ in range(BOARDS)]
    try:
        urls = [board.stdout.readline().split()[3] for board in boards]
        with tempfile.TemporaryDirectory() as folder:
            raws = make_raws(Path(folder) / "raws")
            one, digest = collect(urls[:1], raws, Path(folder) / "one", arguments.captures)
            two, other = collect(urls, raws, Path(folder) / "two", arguments.captures)
    finally:
        for board in boards:
            board.terminate()
            board.wait(10)
    print(f"{arguments.captures} captures at {arguments.frame_ms:g} ms a frame")
    print(f"1 board:  {one:.1f} captures/s")
    print(f"2 boards: {two:.1f} captures/s, {two / one:.2f} times as fast; data sets equal: {digest == other}")
    if two < 1.8 * one or digest != other:
        sys.exit(1)


def make_raws(folder: Path) -> Path:
    folder.mkdir()
    for i in range(8):
        mosaic = np.random.default_rng(i).integers(64, 4000, (128, 128), dtype=np.uint16)
        save_npz(folder / f"{i}.npz", RawFrame(mosaic, "RGGB", (64.0,) * 4, 4095, iso=100.0, exposure_s=0.01))
    return folder


def collect(urls: list[str], raws: Path, lab: Path, captures: int) -> tuple[float, str]:
    """Captures a second, and the data set's digest."""
    with open_devices(urls, lab) as device, Dataset.open(lab, create=True) as dataset:
        records = [r for r in import_raws(dataset, read_raw_folder(raws)) if r.split != Split.TEST]
        jobs = campaign.plan(device.info().space, records, design=Design.SOBOL, captures=captures, seed=0)
        begin = time.monotonic()
        campaign.run(campaign.StoredCampaign(Bench(dataset, device, purpose=campaign.PURPOSE), jobs))
        return captures / (time.monotonic() - begin), dataset.digest()


if __name__ == "__main__":
    main()
