"""Devices as commands name them: by URL, or by a name of the lab folder's ``lab.toml``; several make a pool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drivers.device import DEFAULT_DEADLINE_S, Device
from workbench.lab import trust
from workbench.lab.lab_config import FILE, LabConfigError, load_lab_config


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
        LabConfigError: the lab's settings cannot be read, or no device has the name.
        TrustError: the lab names a program as a device that the user has not used before.
        DeviceError: a device does not answer, or those of a pool differ.
    """
    from drivers import pool

    config = load_lab_config(lab)
    for device in devices:
        if ":" not in device and device not in config.devices:
            names = ", ".join(config.devices) or "none"
            raise LabConfigError(
                f"{device!r}: no device of that name in {lab / FILE} (it names: {names}) and no URL, such as "
                "zmq://127.0.0.1:5555 or sim:sim20"
            )
    urls = [config.url(device, lab) for device in devices]
    for device, url in zip(devices, urls, strict=True):
        if not trust.runs_code(url):
            continue
        if device in config.devices:
            trust.require(url, f"{lab / FILE}: device {device}")
        else:
            trust.remember(url)
    return pool.open_devices(urls, deadline_s, tolerance=tolerance)
