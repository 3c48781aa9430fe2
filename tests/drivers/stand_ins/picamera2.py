"""Stands in for Picamera2 where no camera is: what ``live_camera.py`` uses of it, with a sensor of 32×24 pixels.

As on the board, controls come into force some frames late, and a raw stream's rows are longer than the picture's.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

WIDTH, HEIGHT, STRIDE, LATE = 32, 24, 80, 3
NEEDED = {"Brightness", "Contrast", "Saturation", "Sharpness", "ColourGains", "NoiseReductionMode"}


class Request:
    def __init__(self, controls: dict[str, Any], number: int) -> None:
        self._controls, self._number, self.released = controls, number, False

    def make_array(self, stream: str) -> np.ndarray:
        assert not self.released
        rows = np.random.default_rng(self._number).integers(256, 4096, (HEIGHT, STRIDE // 2), dtype=np.uint16)
        if stream == "raw":
            return rows.view(np.uint8)
        red, blue = self._controls["ColourGains"]
        level = 128 + 100 * self._controls["Brightness"]
        flat = np.clip([level * red / 8, level * self._controls["Contrast"] / 4, level * blue / 8], 0, 255)
        return np.tile(flat.astype(np.uint8), (HEIGHT, WIDTH, 1))

    def get_metadata(self) -> dict[str, Any]:
        return {
            "ExposureTime": 10_000,
            "AnalogueGain": 2.0,
            "ColourGains": self._controls["ColourGains"],
            "SensorBlackLevels": (4096, 4096, 4096, 4096),
            "ColourCorrectionMatrix": (1.6, -0.4, -0.2, -0.3, 1.5, -0.2, 0.0, -0.5, 1.5),
        }

    def release(self) -> None:
        assert not self.released
        self.released = True


class Picamera2:
    sensor_resolution = (WIDTH, HEIGHT)
    sensor_format = "SGRBG12_CSI2P"

    def __init__(self) -> None:
        self._asked: dict[str, Any] = {"ColourGains": (1.9, 1.6), "AeEnable": True, "AwbEnable": True}
        self._pipeline = deque([self._asked] * LATE, LATE)
        self._frames = 0
        self._configuration: dict[str, Any] = {}
        self._started = False

    def create_still_configuration(self, *, main: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
        assert main == {"size": (WIDTH, HEIGHT), "format": "BGR888"}
        return {"main": main, "raw": raw}

    def configure(self, configuration: dict[str, Any]) -> None:
        self._configuration = configuration

    def camera_configuration(self) -> dict[str, Any]:
        return self._configuration

    def start(self) -> None:
        assert self._configuration
        self._started = True

    def set_controls(self, controls: dict[str, Any]) -> None:
        self._asked = {**self._asked, **controls}

    def capture_request(self) -> Request:
        assert self._started
        self._frames += 1
        in_force = self._pipeline.popleft()
        self._pipeline.append(self._asked)
        return Request(in_force, self._frames)

    def capture_metadata(self) -> dict[str, Any]:
        return self.capture_request().get_metadata()
