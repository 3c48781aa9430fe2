"""Prediction in the loop: rate and latency of ``workbench run`` on frames that the device has never seen."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drivers.registry import open_device
from measures import frames
from measures.boards import UNCOUNTED, board
from measures.clocks import DEADLINE_S
from measures.collection import make_raws
from measures.prediction import untrained
from measures.size import Size
from measures.table import Row
from predictor.training import fast_recipe
from workbench.lab.dataset import Dataset

RAWS = 3
DEVICE_MS = 20


def rows(size: Size, folder: Path) -> Iterator[Row]:
    for pixels in (frames.HD, frames.MP12):
        stream = as_stream(make_raws(folder / f"raws-{pixels[0]}", pixels, RAWS), UNCOUNTED + size.frames)
        told: list[dict[str, Any]] = []
        lab = folder / f"lab-{pixels[0]}"
        with board("echo-none", pixels, DEVICE_MS, 2) as device:
            with Dataset.open(lab, create=True), open_device(device.url) as opened:
                untrained(lab, fast_recipe(), opened.info(), pixels)
            for _ in range(size.process_times + 1):  # the first one makes the network's graph
                told.append(looped(lab, device.url, stream))
        what = f"`workbench run`, {pixels[0]}×{pixels[1]}, a device taking {DEVICE_MS} ms a frame"
        counted = told[1:]
        yield Row(what, "frames/s", [t["rate"] for t in counted], more_is_better=True)
        for key, words in (
            ("raw_to_parameters", "RAW in memory to parameters"),
            ("raw_to_capture", "RAW in memory to its capture"),
        ):
            yield Row(f"{what}: {words}", "ms", [1000 * t[key]["median_s"] for t in counted])


def as_stream(raws: Path, count: int) -> Path:
    """A folder with so many names for those RAWs, in turns."""
    files, stream = sorted(raws.iterdir()), raws.with_name(f"{raws.name}-stream")
    stream.mkdir()
    for number in range(count):
        (stream / f"{number:05}.npz").symlink_to(files[number % len(files)])
    return stream


def looped(lab: Path, url: str, raws: Path) -> dict[str, Any]:
    """What ``workbench run`` tells of a folder.

    Raises:
        RuntimeError: it failed.
    """
    command = ["run", "--lab", str(lab), "--device", url, "--raws", str(raws), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "workbench.cli", *command], capture_output=True, text=True, timeout=DEADLINE_S
    )
    if done.returncode:
        raise RuntimeError(f"workbench run: failed: {done.stderr.strip()[-400:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result
