"""OpenCV's demosaicing, noise reduction and filters as an agent.

``python -m drivers.agent.examples.opencv_isp [URL]``; needs opencv-python-headless.
"""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np

from drivers.agent import Agent, choice, continuous, integer

PARAMETERS = [
    continuous("red_gain", 0.5, 4, step=1 / 256, default=2, block="white_balance", scale="log", role="red_gain"),
    continuous("blue_gain", 0.5, 4, step=1 / 256, default=1.5, block="white_balance", scale="log", role="blue_gain"),
    choice("demosaic", ["bilinear", "edge_aware"], default="edge_aware", block="demosaic"),
    integer("bilateral_size", 1, 9, default=3, block="noise_reduction", unit="pixels"),
    continuous("bilateral_range", 1, 80, step=1 / 8, default=10, block="noise_reduction", scale="log"),
    integer("chroma_median", 0, 2, default=1, block="noise_reduction", description="half its side, 0: off"),
    continuous("exposure", 0.25, 4, step=1 / 256, default=1, block="tone", scale="log"),
    continuous("gamma", 1, 4, step=1 / 256, default=2.2, block="tone"),
    continuous("local_contrast", 0, 4, step=1 / 64, default=0, block="tone", description="limit of CLAHE, 0: off"),
    continuous("saturation", 0, 2, step=1 / 256, default=1, block="colour"),
    continuous("sharpening", 0, 2, step=1 / 256, default=0.4, block="sharpening"),
    continuous("sharpening_radius", 0.5, 3, step=1 / 64, default=1, block="sharpening"),
]
agent = Agent(model="opencv-isp", firmware=cv2.__version__, parameters=PARAMETERS)


@agent.process
def process(mosaic: np.ndarray, metadata: dict[str, Any], values: dict[str, Any]) -> bytes:
    """The picture, a JPEG of quality 95."""
    cfa, tiles = metadata["cfa"], (mosaic.shape[0] // 2, mosaic.shape[1] // 2)
    black = np.tile(np.reshape(metadata["black_level"], (2, 2)), tiles)
    gains = {"R": values["red_gain"], "G": 1.0, "B": values["blue_gain"]}
    gain = np.tile(np.reshape([gains[c] for c in cfa], (2, 2)), tiles) * values["exposure"]
    light = np.clip((mosaic - black) / (metadata["white_level"] - black) * gain, 0, 1)
    suffix = "_EA" if values["demosaic"] == "edge_aware" else ""
    code = getattr(cv2, f"COLOR_Bayer{cfa}2BGR{suffix}")
    # OpenCV leaves the border's colours out: it gets one of mirrored pixels, in the same order of colours.
    wide = np.pad(np.rint(65535 * light).astype(np.uint16), 2, "reflect")
    bgr = cv2.demosaicing(wide, code)[2:-2, 2:-2] / 65535
    picture = np.rint(255 * bgr ** (1 / values["gamma"])).astype(np.uint8)
    luma, *chroma = cv2.split(cv2.cvtColor(picture, cv2.COLOR_BGR2YCrCb))
    luma = cv2.bilateralFilter(luma, values["bilateral_size"], values["bilateral_range"], values["bilateral_size"])
    if values["local_contrast"]:
        luma = cv2.createCLAHE(values["local_contrast"], (4, 4)).apply(luma)
    blurred = cv2.GaussianBlur(luma, (0, 0), values["sharpening_radius"])
    luma = cv2.addWeighted(luma, 1 + values["sharpening"], blurred, -values["sharpening"], 0)
    if values["chroma_median"]:
        chroma = [cv2.medianBlur(plane, 2 * values["chroma_median"] + 1) for plane in chroma]
    grey = 128 * (1 - values["saturation"])
    chroma = [cv2.convertScaleAbs(plane, alpha=values["saturation"], beta=grey) for plane in chroma]
    output = cv2.cvtColor(cv2.merge([luma, *chroma]), cv2.COLOR_YCrCb2BGR)
    return bytes(cv2.imencode(".jpg", output, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])


if __name__ == "__main__":
    agent.serve(sys.argv[1] if sys.argv[1:] else "zmq://127.0.0.1:5599")
