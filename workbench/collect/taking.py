"""Whether a device takes the RAWs that it is to be given, by what it says of itself: asked before the first frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from drivers.device import Device, DeviceInfo
from drivers.errors import DeviceError
from drivers.foreign_text import shown
from drivers.frames import RawFrame
from drivers.raw_input import RawInput
from workbench.console.progress import Progress


class Stored(Protocol):
    """A RAW of the data set."""

    def load(self) -> RawFrame:
        """The frame."""


def make_sure_taken(device: Device, raws: Sequence[Stored]) -> None:
    """See that the device takes RAWs of the data set; see :func:`make_sure_all_taken`."""
    make_sure_all_taken(device, [raw.load for raw in raws])


def make_sure_all_taken(device: Device, loads: Sequence[Callable[[], RawFrame]]) -> None:
    """Look at the RAWs, where the device, or a board of a pool, tells which it takes; else none is read.

    Args:
        device: it is not asked.
        loads: each gives one of the RAWs.

    Raises:
        DeviceError: it does not take some; one line with the first, its reason, and how many they are.
        WorkbenchError: whatever loading one raises.
    """
    units = device.units()
    told = {url: info for url, info in units.items() if not info.live and _says_something(info)}
    if not told:
        return
    refused: list[str] = []
    with Progress("look at RAWs", len(loads), unit="RAW") as progress:
        for done, load in enumerate(loads, 1):
            raw = load()
            for url, info in told.items():
                if reason := info.refusal(raw):
                    board = f" (of {url})" if len(units) > 1 else ""
                    refused.append(f"{shown(raw.source or raw.hash[:12])}: {reason}{board}")
                    break
            progress.update(done)
    if refused:
        raise DeviceError(
            f"{device.url}: the device does not take {len(refused)} of {len(loads)} RAWs, such as {refused[0]}; leave "
            "them out, or use a device that takes them"
        )


def _says_something(info: DeviceInfo) -> bool:
    return info.input != RawInput() or not info.output.lies_as_raw
