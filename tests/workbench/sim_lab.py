"""A small lab of RAWs with references and captures of ``sim:sim20``, and quick recipes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from drivers.device import Capture, DeviceInfo
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.raw_input import RawInput
from drivers.registry import open_device
from drivers.splits import Split
from predictor.training import Recipe
from proxy.training import ProxyRecipe
from sim.device import SimDevice
from workbench.collect import campaign
from workbench.collect.bench import Bench
from workbench.collect.designs import Design
from workbench.lab.dataset import Dataset

PROXY = ProxyRecipe(base_steps=3, steps=2, batch=4, crop=16, width=4)
PREDICTOR = Recipe(steps=4, batch=4, width=4)
SIDE = 64


def picture(seed: int) -> tuple[RawFrame, np.ndarray]:
    """A RAW with metadata and its reference."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    rgb = np.stack([0.3 + 0.25 * np.sin(random.uniform(1, 9) * (x + k * y) + k) for k in range(3)], 2)
    mosaic = np.empty((SIDE, SIDE))
    for place, channel in enumerate((0, 1, 1, 2)):
        rows, columns = place // 2, place % 2
        mosaic[rows::2, columns::2] = rgb[rows::2, columns::2, channel]
    dn = np.rint(64 + 3000 * mosaic).astype(np.uint16)
    raw = RawFrame(dn, "RGGB", (64,) * 4, 4095, iso=100.0 * 2 ** (seed % 5), exposure_s=0.01, as_shot_wb=(2, 1, 1.5))
    return raw, np.rint(255 * rgb**0.45).astype(np.uint8)


class Choosy(SimDevice):
    """The emulator, which says that it takes no RAW of the lab."""

    def __init__(self) -> None:
        super().__init__("sim:sim20", "sim20")

    def info(self) -> DeviceInfo:
        return dataclasses.replace(super().info(), input=RawInput(max_size=(2, 2)))

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        raise AssertionError("a frame was asked for")


def make_lab(
    lab: Path,
    captures: int = 48,
    *,
    train: int = 6,
    validation: int = 2,
    test: int = 1,
    references: bool = True,
    device: str = "sim:sim20",
) -> Path:
    """The lab folder, with its data set."""
    splits = [Split.TRAIN] * train + [Split.VALIDATION] * validation + [Split.TEST] * test
    with Dataset.open(lab, create=True) as dataset:
        for i, split in enumerate(splits):
            raw, reference = picture(i)
            dataset.add_raw(
                raw, scene=f"scene{i}", split=split, name=f"{i}.npz", reference=reference if references else None
            )
        if captures:
            with open_device(device) as isp:
                raws = [r for r in dataset.raws() if r.split != Split.TEST]
                jobs = campaign.plan(isp.info().space, raws, design=Design.SOBOL, captures=captures, seed=0)
                campaign.run(campaign.StoredCampaign(Bench(dataset, isp, purpose=campaign.PURPOSE), jobs))
    return lab
