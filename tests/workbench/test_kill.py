"""Collection killed at random instants and started again ends with the data set of an undisturbed run."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fake_isp import make_raw

from drivers.raw.raw_files import save_npz
from workbench.lab.dataset import Dataset
from workbench.lab.dataset.verify import verify

KILLS = 8
CAPTURES = 800
HERE = Path(__file__).resolve().parent


def start(lab: Path, folder: Path, captures: int = CAPTURES) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1]), *sys.path])}
    command = [sys.executable, str(HERE / "kill_runner.py"), str(lab), str(folder), str(captures)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.timeout(240)
def test_killed_collection_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    folder = tmp_path / "raws"
    folder.mkdir()
    for i in range(12):
        save_npz(folder / f"{i}.npz", make_raw(i))
    chance = random.Random(20)
    said: set[tuple[str, ...]] = set()
    killed = 0
    for kill in range(KILLS):
        process = start(tmp_path / "killed", folder)
        assert process.stdout is not None
        # Some are killed at some instant of start and import, most at some instant of the campaign: after a random
        # number of reported captures and a random moment more, so that the kill falls anywhere within a batch.
        if kill % 5 == 0:
            timer = threading.Timer(chance.uniform(0.0, 1.0), process.kill)
            timer.start()
        else:
            timer, wanted = None, chance.randint(0, 60)
        lines = 0
        for line in process.stdout:
            words = tuple(line.split())
            if len(words) == 3 and line.endswith("\n"):
                said.add(words)
                lines += 1
            if timer is None and lines >= wanted:
                timer = threading.Timer(chance.uniform(0.0, 0.04), process.kill)
                timer.start()
        killed += process.wait(timeout=60) != 0
        if timer is not None:
            timer.cancel()
            timer.join()
        process.stdout.close()
    assert killed == KILLS, "the campaign was over before the kills"

    for lab in ("killed", "whole"):
        process = start(tmp_path / lab, folder)
        process.communicate(timeout=120)
        assert process.returncode == 0
    with Dataset.open(tmp_path / "killed") as dataset, Dataset.open(tmp_path / "whole") as whole:
        records = dataset.captures()
        kept = {(r.raw_hash, r.parameters_hash, r.output_hash) for r in records}
        assert len(records) == len(kept) == CAPTURES
        assert said <= kept
        assert dataset.digest() == whole.digest()
        assert verify(dataset).problems == []
        assert [r.hash for r in dataset.raws()] == [r.hash for r in whole.raws()]
