"""Devices as commands name them: by URL, or by a name of the lab folder's ``lab.toml``; several make a pool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drivers.device import DEFAULT_DEADLINE_S, Device
from workbench.lab_config import load_lab_config


def open_devices(
    devices: Sequence[str], lab: Path, *, deadline_s: float = DEFAULT_DEADLINE_S, tolerance: int = 0
) -> Device:
    """The device, or the pool of several.

    Args:
        devices: URLs or names.
        lab: the lab folder.
        deadline_s: seconds that every call to a device may take.
        tolerance: see :class:`drivers.pool.DevicePool`.

    Raises:
        LabConfigError: the lab's settings cannot be read.
        DeviceError: a device does not answer, or those of a pool differ.
    """
    from drivers import pool

    config = load_lab_config(lab)
    return pool.open_devices([config.url(device, lab) for device in devices], deadline_s, tolerance=tolerance)
