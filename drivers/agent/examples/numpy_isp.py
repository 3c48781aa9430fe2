"""An ISP in NumPy alone, as an agent: black level to sharpening in about a hundred lines.

``python -m drivers.agent.examples.numpy_isp [URL]``
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from drivers.agent import Agent, continuous, integer, switch

GREY = np.array([0.2126, 0.7152, 0.0722])
PARAMETERS = [
    continuous("black_offset", -0.02, 0.05, step=1 / 4096, default=0, block="black_level"),
    continuous("red_gain", 0.5, 4, step=1 / 256, default=2, block="white_balance", scale="log", role="red_gain"),
    continuous("blue_gain", 0.5, 4, step=1 / 256, default=1.5, block="white_balance", scale="log", role="blue_gain"),
    continuous("luma_noise", 0, 1, step=1 / 256, default=0.2, block="noise_reduction"),
    continuous("luma_threshold", 0.002, 0.2, step=1 / 4096, default=0.02, block="noise_reduction", scale="log"),
    integer("chroma_passes", 0, 8, default=2, block="noise_reduction"),
    continuous("exposure", 0.25, 4, step=1 / 256, default=1, block="tone", scale="log"),
    continuous("gamma", 1, 4, step=1 / 256, default=2.2, block="tone"),
    continuous("contrast", -0.5, 0.5, step=1 / 256, default=0, block="tone"),
    continuous("saturation", 0, 2, step=1 / 256, default=1, block="colour"),
    switch("camera_matrix", default=True, block="colour", description="use the RAW's colour matrix, where it has one"),
    continuous("sharpening", 0, 2, step=1 / 256, default=0.4, block="sharpening"),
]
agent = Agent(model="numpy-isp", firmware="1", parameters=PARAMETERS)


@agent.process
def process(mosaic: np.ndarray, metadata: dict[str, Any], values: dict[str, Any]) -> np.ndarray:
    """The picture, ``uint8 [H, W, 3]``."""
    rgb = demosaic(balanced(mosaic, metadata, values), metadata["cfa"])
    if values["camera_matrix"] and metadata["colour_matrix"] is not None:
        rgb = rgb @ np.transpose(metadata["colour_matrix"])
    rgb = np.clip(values["exposure"] * rgb, 0, 1) ** (1 / values["gamma"])
    luma = rgb @ GREY
    chroma = rgb - luma[..., None]
    for _ in range(values["chroma_passes"]):
        chroma = smooth(chroma)
    luma = denoised(luma, values["luma_noise"], values["luma_threshold"])
    luma = luma + values["sharpening"] * (luma - smooth(luma))
    # An S around the middle: its slope there is 1 + contrast.
    luma = luma + values["contrast"] * (luma - 0.5) * (1 - np.clip(abs(2 * luma - 1), 0, 1))
    return np.rint(255 * np.clip(luma[..., None] + values["saturation"] * chroma, 0, 1)).astype(np.uint8)


def balanced(mosaic: np.ndarray, metadata: dict[str, Any], values: dict[str, Any]) -> np.ndarray:
    """The mosaic with black at 0 and white at 1, white-balanced: ``float64 [H, W]``."""
    tiles = (mosaic.shape[0] // 2, mosaic.shape[1] // 2)
    black = np.tile(np.reshape(metadata["black_level"], (2, 2)), tiles)
    light = (mosaic - black) / (metadata["white_level"] - black) - values["black_offset"]
    gains = {"R": values["red_gain"], "G": 1.0, "B": values["blue_gain"]}
    return np.clip(light * np.tile(np.reshape([gains[c] for c in metadata["cfa"]], (2, 2)), tiles), 0, 1)


def demosaic(light: np.ndarray, cfa: str) -> np.ndarray:
    """Each pixel's missing colours from its neighbours that have them, near ones twice: ``float64 [H, W, 3]``."""
    planes = []
    for colour in "RGB":
        has = np.zeros(light.shape)
        for i in range(4):
            has[i // 2 :: 2, i % 2 :: 2] = cfa[i] == colour
        planes.append(np.where(has > 0, light, smooth(light * has) / smooth(has)))
    return np.stack(planes, axis=2)


def smooth(image: np.ndarray) -> np.ndarray:
    """The weighted mean of 3×3 pixels (1 2 1); beyond the border stands what mirrors it."""
    for axis in (0, 1):
        padding = [(1, 1) if a == axis else (0, 0) for a in range(image.ndim)]
        padded = np.moveaxis(np.pad(image, padding, "symmetric"), axis, 0)
        image = np.moveaxis((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4, 0, axis)
    return image


def denoised(luma: np.ndarray, strength: float, threshold: float) -> np.ndarray:
    """Fine detail below the threshold is taken for noise, and ``strength`` of it off."""
    base = smooth(smooth(luma))
    detail = luma - base
    return base + detail * (1 - strength * np.exp(-((detail / threshold) ** 2)))


if __name__ == "__main__":
    agent.serve(sys.argv[1] if sys.argv[1:] else "zmq://127.0.0.1:5599")
