"""A campaign against the emulated device with every fault at random, checked capture by capture.

    .venv/bin/python benchmarks/faults.py OUT [--frames 10000] [--link zmq] [--seed 0] [--deadline 3]

The device is a process of its own. Each stored capture is compared with what the emulated ISP gives in this process
for the same RAW and parameters. Prints the faults by kind and what the driver mended, and exits with 1 unless every
planned capture is there once, none is wrong, and the driver never gave up.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from drivers.device import Device
from drivers.frames import RawFrame
from drivers.registry import open_device
from drivers.splits import Split
from workbench.collect import campaign
from workbench.collect.bench import Bench
from workbench.collect.designs import Design
from workbench.console.progress import Progress
from workbench.lab.dataset import CaptureRecord, Dataset, NewRaw

SERVE = [sys.executable, "-m", "workbench.cli", "sim", "serve", "--profile", "sim20"]
LINKS = {"zmq": ["--zmq", "127.0.0.1:0"], "serial": ["--serial", "pty"]}
# Of each frame: the answer's faults often, those that stop the device for a while seldom.
OFTEN = ("drop", "delay", "duplicate", "reorder", "corrupt", "truncate", "previous", "wrong_hash")
SELDOM = ("reboot", "hang", "disappear")
START_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=10000)
    parser.add_argument("--link", choices=sorted(LINKS), default="zmq")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deadline", type=float, default=3.0, help="seconds that a frame may take")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.mkdir(parents=True)
    file = arguments.out / "faults.toml"
    file.write_text(plan(arguments.seed))

    server = subprocess.Popen(
        [*SERVE, *LINKS[arguments.link], "--faults", str(file)], stdout=subprocess.PIPE, text=True
    )
    try:
        url = listening(server)
        begin = time.monotonic()
        with (
            Dataset.open(arguments.out / "lab", create=True) as dataset,
            open_device(url, arguments.deadline) as device,
        ):
            collect(dataset, device, arguments.frames)
            mended: Counter[str] = getattr(device, "counts", Counter())
            seconds = time.monotonic() - begin
            wrong, lost, doubled = check(dataset, device, arguments.frames)
    finally:
        server.terminate()
        out, _ = server.communicate(timeout=START_S)
    print(out.strip())
    print(f"driver {json.dumps(dict(sorted(mended.items())))}")
    print(
        f"{arguments.frames} captures over {arguments.link} in {seconds:.0f} s: "
        f"{wrong} wrong, {lost} lost, {doubled} doubled"
    )
    raise SystemExit(1 if wrong or lost or doubled else 0)


def plan(seed: int) -> str:
    """The faults file."""
    lines = [f"seed = {seed}"]
    for names, probability in ((OFTEN, 0.005), (SELDOM, 0.001)):
        for name in names:
            seconds = "seconds = 0.1\n" if name in ("delay", "reorder", "hang", "disappear") else ""
            lines.append(f"[{name}]\nprobability = {probability}\n{seconds}")
    return "\n".join(lines)


def listening(server: subprocess.Popen[str]) -> str:
    """The URL that the server prints.

    Raises:
        SystemExit: it ended before, or said nothing in time.
    """
    timer = threading.Timer(START_S, server.kill)
    timer.start()
    assert server.stdout is not None
    words = server.stdout.readline().split()
    timer.cancel()
    if "at" not in words:
        raise SystemExit(f"the emulated device did not start: {' '.join(words) or 'it said nothing'}")
    return words[words.index("at") + 1]


def collect(dataset: Dataset, device: Device, frames: int) -> None:
    """A campaign of ``frames`` captures of sixteen small RAWs."""
    raws = []
    for i in range(16):
        mosaic = np.random.default_rng(i).integers(64, 1023, (32, 32), dtype=np.uint16)
        raws.append(
            NewRaw(RawFrame(mosaic, "RGGB", (64.0,) * 4, 1023, iso=100.0), f"scene{i}", Split.TRAIN, f"{i:02d}.npz")
        )
    jobs = campaign.plan(device.info().space, dataset.add_raws(raws), design=Design.SOBOL, captures=frames, seed=0)
    campaign.run(campaign.StoredCampaign(Bench(dataset, device, purpose=campaign.PURPOSE), jobs))


def check(dataset: Dataset, device: Device, frames: int) -> tuple[int, int, int]:
    """Captures that are wrong, lost and doubled."""
    space = device.info().space
    jobs = campaign.plan(space, dataset.raws(), design=Design.SOBOL, captures=frames, seed=0)
    captures = dataset.captures()
    raws = {raw.hash: raw.load() for raw in dataset.raws()}
    kept = Counter((c.raw_hash, c.parameters_hash) for c in captures)
    with open_device("sim:sim20") as reference, Progress("check", len(captures), unit="capture") as progress:

        def right(capture: CaptureRecord) -> bool:
            parameters = space.from_codes(capture.codes)
            honest = reference.process(raws[capture.raw_hash], parameters)
            return capture.rgb().encoded == honest.rgb.encoded and capture.parameters_hash == parameters.hash

        wrong = 0
        for done, capture in enumerate(captures, 1):
            wrong += not right(capture)
            progress.update(done)
    lost = sum((raw.hash, parameters.hash) not in kept for raw, parameters in jobs)
    return wrong, lost, sum(kept.values()) - len(kept)


if __name__ == "__main__":
    main()
