"""A device of three parameters in NumPy, smooth scenes as its RAWs, and captures of both as crops."""

from __future__ import annotations

from typing import Any

import numpy as np

from drivers.cfa import CfaPattern
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from proxy.crops import CropBuilder, CropSet

SPACE = ParameterSpace.from_dict(
    {
        "name": "gain-gamma",
        "parameters": [
            {
                "name": "gain",
                "block": "gain",
                "kind": "continuous",
                "low": 0.5,
                "high": 2,
                "step": 1 / 256,
                "default": 1,
            },
            {
                "name": "gamma",
                "block": "tone",
                "kind": "continuous",
                "low": 0.3,
                "high": 1,
                "step": 1 / 256,
                "default": 1,
            },
            {"name": "red_blue", "block": "colour", "kind": "choice", "choices": ["keep", "grey"], "default": "keep"},
        ],
    }
)
WHITE, BLACK = 4095, 64


def scene(seed: int, height: int = 32, width: int = 32) -> np.ndarray:
    """A smooth scene, ``float64 [H, W, 3]`` linear in (0, 0.7): a bilinear demosaic sees it nearly as it is."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [
        np.sin(2 * np.pi * (random.uniform(0, 0.02) * y + random.uniform(0, 0.02) * x) + random.uniform(0, 6))
        for _ in range(3)
    ]
    return 0.02 + 0.3 * random.uniform(0.3, 1) * (1 + np.stack(waves, 2))


def raw_of(rgb: np.ndarray, cfa: CfaPattern = "RGGB", **metadata: Any) -> RawFrame:
    """The noiseless mosaic of a linear scene."""
    mosaic = np.empty(rgb.shape[:2])
    for place, colour in enumerate(cfa):
        y, x = divmod(place, 2)
        mosaic[y::2, x::2] = rgb[y::2, x::2, "RGB".index(colour)]
    dn = np.rint(BLACK + mosaic * (WHITE - BLACK)).astype(np.uint16)
    return RawFrame(dn, cfa, (BLACK,) * 4, WHITE, **metadata)


def render(rgb: np.ndarray, parameters: ParameterSet) -> np.ndarray:
    """The device: ``uint8 [H, W, 3]``."""
    y = np.clip(rgb * parameters["gain"], 0, 1)
    if parameters["red_blue"] == "grey":
        y = np.broadcast_to(y.mean(2, keepdims=True), y.shape)
    return np.rint(255 * y ** float(parameters["gamma"])).astype(np.uint8)


def captures(scenes: range, sets: int, seed: int = 0, **builder: Any) -> CropSet:
    """Every scene with so many random parameter sets."""
    random = np.random.default_rng(seed)
    crops = CropBuilder(**builder)
    for number in scenes:
        rgb = scene(number)
        raw = raw_of(rgb)
        for _ in range(sets):
            parameters = SPACE.from_unit(random.random(len(SPACE)))
            crops.add(raw, parameters.unit, render(rgb, parameters))
    return crops.build()
