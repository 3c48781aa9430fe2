"""Whether a device takes the RAWs that it is to be given, by what it says of itself: asked before the first frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from drivers.device import Device
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
    """Look at the RAWs where the device, or a board of a pool, tells which it takes; else at the first alone.

    Args:
        device: it is not asked.
        loads: each gives one of the RAWs.

    Raises:
        DeviceError: it does not take some; one line with the first, its reason, and how many they are.
        WorkbenchError: whatever loading one raises.
    """
    units = {url: info for url, info in device.units().items() if not info.live}
    if not units:
        return
    told = any(info.input != RawInput() or not info.output.lies_as_raw for info in units.values())
    looked = loads if told else loads[:1]
    refused: list[str] = []
    with Progress("look at RAWs", len(looked), unit="RAW") as progress:
        for done, load in enumerate(looked, 1):
            raw = load()
            for url, info in units.items():
                if reason := info.refusal(raw):
                    board = f" (of {url})" if len(units) > 1 else ""
                    refused.append(f"{shown(raw.source or raw.hash[:12])}: {reason}{board}")
                    break
            progress.update(done)
    if refused:
        count = f"{len(refused)} of {len(looked)} RAWs, such as" if told else "the first RAW,"
        raise DeviceError(
            f"{device.url}: the device does not take {count} {refused[0]}; leave them out, or use a device that takes "
            "them"
        )
