"""A small ISP with gains, a curve and a mode, and a lab of RAWs whose best parameters are known."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from drivers.device import Capture, Device, DeviceInfo
from drivers.errors import DeviceUnreachableError
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.splits import Split
from workbench.lab.dataset import Dataset


def _number(name: str, block: str, low: float, high: float, default: float, role: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "block": block,
        "kind": "continuous",
        "low": low,
        "high": high,
        "step": 1 / 256,
        "default": default,
        "role": role,
    }


SPACE = ParameterSpace.from_dict(
    {
        "name": "small",
        "parameters": [
            _number("red", "white_balance", 0.5, 4, 1, "red_gain"),
            _number("blue", "white_balance", 0.5, 4, 1, "blue_gain"),
            _number("exposure", "gain", 0.5, 4, 1),
            {"name": "blur", "block": "noise", "kind": "integer", "low": 0, "high": 3, "default": 3},
            {"name": "curve", "block": "tone", "kind": "choice", "choices": ["a", "b", "c"], "default": "a"},
            {"name": "invert", "block": "tone", "kind": "bool", "default": False},
        ],
    }
)
_POWERS = {"a": 1.0, "b": 0.45, "c": 0.7}


def render(raw: RawFrame, p: ParameterSet) -> np.ndarray:
    planes = np.clip(raw.planes(), 0, 1)
    gains = np.array([p["red"], 1.0, p["blue"]]) * p["exposure"]
    image = np.clip(planes * gains[:, None, None], 0, 1) ** _POWERS[str(p["curve"])]
    for _ in range(int(p["blur"])):
        image = (image + np.roll(image, 1, 1) + np.roll(image, 1, 2)) / 3
    image = 1 - image if p["invert"] else image
    pixels: np.ndarray = np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    return pixels


class SmallIsp(Device):
    """Goes away, or kills its own process, after so many captures."""

    url = "small:"

    def __init__(self, gone_after: int | None = None, killed_after: int | None = None) -> None:
        self.gone_after, self.killed_after = gone_after, killed_after
        self.asked = 0

    def info(self) -> DeviceInfo:
        return DeviceInfo("small", "1", "unit 1", "boot-1", SPACE)

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        if self.asked == self.gone_after:
            raise DeviceUnreachableError("small: gone")
        if self.asked == self.killed_after:
            os.kill(os.getpid(), signal.SIGKILL)
        self.asked += 1
        codes = parameters.by_name
        rgb = RgbFrame.from_pixels(render(raw, parameters))
        return Capture(raw.hash, parameters, codes, rgb, "boot-1", self.asked, 0.001, 0.001)

    def close(self) -> None:
        pass


def best_for(iso: float, red: float, blue: float) -> ParameterSet:
    """What the references are made with: the blur depends on ISO, the gains on the light."""
    blur = 0 if iso < 300 else 1 if iso < 2000 else 2
    return SPACE.parse({"red": red, "blue": blue, "exposure": 1.5, "blur": blur, "curve": "b", "invert": False})


def best_of(raw: RawFrame) -> ParameterSet:
    """:func:`best_for` the metadata of a RAW."""
    assert raw.iso is not None
    assert raw.as_shot_wb is not None
    return best_for(raw.iso, raw.as_shot_wb[0], raw.as_shot_wb[2])


def make_lab(lab: Path, train: int = 12, test: int = 8) -> dict[str, ParameterSet]:
    """A lab whose RAWs have references made with known parameters; those by RAW hash.

    It is made once a process and size, and copied: a new data set costs more than most of what is asked of it.
    """
    made, best = _made_lab(train, test)
    shutil.copytree(made.name, lab, dirs_exist_ok=True)
    return dict(best)


@functools.cache
def _made_lab(train: int, test: int) -> tuple[tempfile.TemporaryDirectory[str], dict[str, ParameterSet]]:
    made = tempfile.TemporaryDirectory(prefix="small-lab-")
    return made, _make_lab(Path(made.name), train, test)


def _make_lab(lab: Path, train: int, test: int) -> dict[str, ParameterSet]:
    rng = np.random.default_rng(5)
    best = {}
    with Dataset.open(lab, create=True) as dataset:
        for i in range(train + test):
            mosaic = rng.integers(0, 600, (32, 32), dtype=np.uint16)
            iso = float(rng.choice([100, 800, 6400]))
            red, blue = (round(float(g) * 256) / 256 for g in rng.uniform(1, 2.5, 2))
            raw = RawFrame(mosaic, "RGGB", (0, 0, 0, 0), 1023, iso=iso, exposure_s=0.01, as_shot_wb=(red, 1.0, blue))
            best[raw.hash] = best_for(iso, red, blue)
            dataset.add_raw(
                raw,
                scene=f"scene{i}",
                split=Split.TRAIN if i < train else Split.TEST,
                name=f"{i:03}.npz",
                reference=render(raw, best[raw.hash]),
            )
    return best
