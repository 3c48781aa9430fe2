"""Kills the collection and the emulated device at random instants, and compares the data set with an undisturbed one.

    .venv/bin/python benchmarks/kills.py OUT [--kills 200] [--captures 30000] [--seed 0]

Both are real processes on a ZeroMQ connection; every kill is SIGKILL (TerminateProcess on Windows). Prints the counts,
and exits with 1 unless the killed campaign ended with the very captures of the undisturbed one.
"""

from __future__ import annotations

import argparse
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from drivers.frames import RawFrame
from drivers.raw.raw_files import save_npz
from workbench.lab.dataset import Dataset
from workbench.lab.dataset.verify import verify

WORKBENCH = [sys.executable, "-m", "workbench.cli"]
START_S = (0.3, 3.0)
"""Seconds from start to kill: while it imports, opens, reads RAWs, or anywhere in the campaign."""
END_S = 3600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=200, help="of each of the two")
    parser.add_argument("--captures", type=int, default=30000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    raws = arguments.out / "raws"
    shutil.rmtree(arguments.out, ignore_errors=True)
    raws.mkdir(parents=True)
    make_raws(raws)
    chance = random.Random(arguments.seed)

    begin = time.monotonic()
    killed = disturbed(arguments.out / "killed", raws, arguments.captures, arguments.kills, chance)
    print(f"kills: {killed['collect']} of collect, {killed['device']} of the device, {time.monotonic() - begin:.0f} s")
    begin = time.monotonic()
    device = subprocess.Popen(serve(port := free_port()), stdout=subprocess.DEVNULL)
    try:
        subprocess.run(collect(arguments.out / "whole", raws, arguments.captures, port), check=True, timeout=END_S)
    finally:
        device.kill()
    print(f"undisturbed: {time.monotonic() - begin:.0f} s")
    raise SystemExit(0 if same(arguments.out / "killed", arguments.out / "whole", arguments.captures) else 1)


def make_raws(folder: Path) -> None:
    """Forty small RAWs, each its own scene."""
    for i in range(40):
        mosaic = np.random.default_rng(i).integers(64, 1023, (32, 32), dtype=np.uint16)
        save_npz(folder / f"{i:02d}.npz", RawFrame(mosaic, "RGGB", (64.0,) * 4, 1023, iso=100.0))


def serve(port: int) -> list[str]:
    return [*WORKBENCH, "sim", "serve", "--profile", "sim20", "--zmq", f"127.0.0.1:{port}"]


def collect(lab: Path, raws: Path, captures: int, port: int) -> list[str]:
    url = f"zmq://127.0.0.1:{port}"
    return [*WORKBENCH, "collect", "--device", url, "--raws", str(raws), "--captures", str(captures), "--lab", str(lab)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Killed:
    """A process that is started anew each time it was killed, until the kills are spent."""

    def __init__(self, command: list[str], kills: int, chance: random.Random) -> None:
        self.command, self.left, self.chance = command, kills, chance
        self.kills = 0
        self.ended = 0
        self.span = START_S
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.due = time.monotonic() + self.chance.uniform(*self.span)

    def tick(self) -> bool:
        """Kill when it is time; start again what was killed. True once it ended by itself with exit code 0."""
        code = self.process.poll()
        if code is None and self.left and time.monotonic() >= self.due:
            self.process.kill()
            code = self.process.wait()
            self.left -= 1
            self.kills += 1
        elif code is not None:
            self.ended += 1
            if code == 0:
                return True
        if code is not None:
            self.start()
        return False


def disturbed(lab: Path, raws: Path, captures: int, kills: int, chance: random.Random) -> dict[str, int]:
    """Run a campaign to its end while both sides are killed; how often each was.

    Raises:
        SystemExit: it did not end within an hour, or was over before the kills were spent.
    """
    port = free_port()
    device = Killed(serve(port), kills, chance)
    bench = Killed(collect(lab, raws, captures, port), kills, chance)
    start = shown = time.monotonic()
    try:
        while not bench.tick():
            device.tick()
            now = time.monotonic()
            if now - start > END_S:
                raise SystemExit(f"not done after {END_S:.0f} s")
            if now - shown > 20:
                shown = now
                print(f"{now - start:4.0f} s: {bench.kills} + {device.kills} of {kills} + {kills} kills", flush=True)
            time.sleep(0.01)
    finally:
        device.process.kill()
        bench.process.kill()
    if bench.left or device.left:
        raise SystemExit(f"the campaign was over with {bench.left} and {device.left} kills left: ask for more captures")
    print(f"collect gave up by itself {bench.ended - 1} times and was started again")
    return {"collect": bench.kills, "device": device.kills}


def same(killed: Path, whole: Path, captures: int) -> bool:
    """Whether both data sets hold the same captures, each once, and nothing is damaged."""
    with Dataset.open(killed) as one, Dataset.open(whole) as other:
        records, digests = one.captures(), (one.digest(), other.digest())
        keys = {(r.raw_hash, r.parameters_hash) for r in records}
        problems = verify(one).problems
    print(f"captures: {len(records)} of {captures}, {len(records) - len(keys)} doubled, {len(problems)} damaged")
    print(f"digest: {digests[0][:16]}, undisturbed {digests[1][:16]}")
    return len(records) == len(keys) == captures and digests[0] == digests[1] and not problems


if __name__ == "__main__":
    main()
