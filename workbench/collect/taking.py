"""Whether a device takes the RAWs that it is to be given, by what it says of itself: asked before the first frame."""

from __future__ import annotations

from collections.abc import Iterable

from drivers.device import Device
from drivers.errors import DeviceError
from drivers.foreign_text import shown
from drivers.frames import RawFrame
from drivers.raw_input import RawInput
from workbench.console.progress import Progress


def make_sure_taken(device: Device, raws: Iterable[RawFrame], count: int) -> None:
    """Look at the RAWs, where the device tells which it takes; where it tells nothing none is read.

    Args:
        device: it is not asked.
        raws: drawn one by one; ``count``: how many they are.

    Raises:
        DeviceError: it does not take some; one line with the first, its reason, and how many they are.
        WorkbenchError: whatever drawing one raises.
    """
    told = device.info().input
    if device.info().live or told == RawInput():
        return
    refused: list[str] = []
    with Progress("look at RAWs", count, unit="RAW") as progress:
        for done, raw in enumerate(raws, 1):
            if reason := told.refusal(raw):
                refused.append(f"{shown(raw.source or raw.hash[:12])}: {reason}")
            progress.update(done)
    if refused:
        raise DeviceError(
            f"{device.url}: the device does not take {len(refused)} of {count} RAWs, such as {refused[0]}; leave them "
            "out, or use a device that takes them"
        )
