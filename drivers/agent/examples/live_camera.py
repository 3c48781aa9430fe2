"""A Raspberry Pi's camera as a live agent: libcamera's ISP, through its Python binding Picamera2.

``python -m drivers.agent.examples.live_camera [URL]``; needs python3-picamera2 on the board.

Tried against a stand-in for Picamera2 alone (``tests/drivers/stand_ins/picamera2.py``), never on a camera: look at the
first captures before you trust it. Exposure and gain are those that the camera's own automatic finds at the start, and
stay. libcamera does not tell all of these controls back, so the device has no echo: each capture waits ``SETTLE``
frames instead; measure it with ``workbench device settle``.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np

from drivers.agent import Agent, choice, continuous

SETTLE = 8
FIRST_FRAMES = 30
NOISE_REDUCTION = {"off": 0, "fast": 1, "high_quality": 2}
"""libcamera's NoiseReductionMode."""
PARAMETERS = [
    continuous("red_gain", 0.5, 8, step=1 / 256, default=2, block="white_balance", scale="log", role="red_gain"),
    continuous("blue_gain", 0.5, 8, step=1 / 256, default=1.5, block="white_balance", scale="log", role="blue_gain"),
    continuous("brightness", -1, 1, step=1 / 256, default=0, block="tone"),
    continuous("contrast", 0, 4, step=1 / 256, default=1, block="tone"),
    continuous("saturation", 0, 4, step=1 / 256, default=1, block="colour"),
    continuous("sharpness", 0, 8, step=1 / 256, default=1, block="sharpening"),
    choice("noise_reduction", list(NOISE_REDUCTION), default="fast", block="noise_reduction"),
]
agent = Agent(model="picamera2", firmware="1", parameters=PARAMETERS, echo=False)
camera: Any = None
automatic: dict[str, Any] = {}
"""What the camera's own exposure and white balance found."""


def start() -> None:
    """Start the camera: a picture of the sensor's size beside each RAW, exposure and gain found and then fixed."""
    global camera, automatic
    from picamera2 import Picamera2

    camera = Picamera2()
    size = camera.sensor_resolution
    # Picamera2 names formats by the order of a word's bytes: BGR888 is red first in an array.
    main = {"size": size, "format": "BGR888"}
    raw = {"size": size, "format": re.sub(r"_.*", "", camera.sensor_format)}  # unpacked: 16 bits a pixel
    camera.configure(camera.create_still_configuration(main=main, raw=raw))
    camera.start()
    for _ in range(FIRST_FRAMES):
        automatic = camera.capture_metadata()
    fixed = {name: automatic[name] for name in ("ExposureTime", "AnalogueGain")}
    camera.set_controls({"AeEnable": False, "AwbEnable": False, **fixed})


@agent.capture
def capture(values: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any], np.ndarray]:
    """A RAW, its metadata and the ISP's picture of that very RAW."""
    controls = {name.capitalize(): values[name] for name in ("brightness", "contrast", "saturation", "sharpness")}
    controls["ColourGains"] = (values["red_gain"], values["blue_gain"])
    controls["NoiseReductionMode"] = NOISE_REDUCTION[values["noise_reduction"]]
    camera.set_controls(controls)
    for _ in range(SETTLE):
        camera.capture_metadata()
    request = camera.capture_request()
    try:
        mosaic = request.make_array("raw").view(np.uint16)
        picture = np.ascontiguousarray(request.make_array("main"))
        told = request.get_metadata()
    finally:
        request.release()
    height, width = picture.shape[:2]
    return mosaic[:height, :width].copy(), described(told), picture


def described(told: dict[str, Any]) -> dict[str, Any]:
    """What the protocol wants to know of the RAW; libcamera's black levels are of 16 bits."""
    form = camera.camera_configuration()["raw"]["format"]  # such as SRGGB12
    cfa, bits = form[1:5], int(form[5:])
    red, blue = automatic["ColourGains"]
    matrix = np.reshape(told["ColourCorrectionMatrix"], (3, 3))
    return {
        "cfa": cfa,
        "black_level": [level / 2 ** (16 - bits) for level in told["SensorBlackLevels"]],
        "white_level": 2**bits - 1,
        "iso": 100 * told["AnalogueGain"],
        "exposure_s": told["ExposureTime"] / 1e6,
        "as_shot_wb": [red, 1.0, blue],
        "colour_matrix": (matrix / matrix.sum(axis=1, keepdims=True)).tolist(),
    }


if __name__ == "__main__":
    start()
    agent.serve(sys.argv[1] if sys.argv[1:] else "zmq://127.0.0.1:5599")
