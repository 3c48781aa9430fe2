"""What is before a live device: the RAWs of a folder in turn, or lab scenes under the simulated camera."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.raw.raw_files import is_raw_file, load_raw
from sim.camera.metering import Camera
from sim.camera.sensor import DEFAULT_SENSOR_SEED, Sensor
from sim.scenes.lab_scenes import lab_scene

LAB = "lab"
"""Instead of a folder: lab scenes."""
SIDE = 128


def camera(folder: Path, cfa: str = "RGGB") -> Callable[[], RawFrame]:
    """What takes the next photograph; it raises :class:`~drivers.errors.FrameError` where a file cannot be read.

    Args:
        folder: of RAW files, by name, over and over; ``lab``: a new photograph of a new lab scene each time, 128×128.
        cfa: of these new photographs.

    Raises:
        FrameError: there is no readable RAW in the folder.
    """
    if str(folder) == LAB:
        return _lab_photographs(cfa)
    if not folder.is_dir():
        raise FrameError(f"{folder}: no folder of RAWs to photograph; name one, or {LAB} for generated scenes")
    files = sorted(f for f in folder.iterdir() if f.is_file() and is_raw_file(f))
    if not files:
        raise FrameError(f"{folder}: holds no RAW files; make some with `workbench sim scenes {folder}`")
    load_raw(files[0])
    turn = itertools.cycle(files)
    return lambda: load_raw(next(turn))


def _lab_photographs(cfa: str) -> Callable[[], RawFrame]:
    device = Camera(Sensor(DEFAULT_SENSOR_SEED, cfa))
    numbers = itertools.count()

    def shoot() -> RawFrame:
        number = next(numbers)
        rng = np.random.default_rng([0x11FE, number])
        return device.shoot(lab_scene(number % 1000, SIDE), rng, name=f"live {number}").raw

    return shoot
