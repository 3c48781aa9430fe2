"""Outputs of a device that are files of another kind than those before: told in one line.

Model, firmware and parameters name a device, and its captures are kept and used as one device's. How its pictures
travel does not name it: over ``device share`` the same picture is PNG that was NV12 on its way to the sharing host. But
where JPEG became PNG or pixels, or the other way, most often the ISP itself was set to another output.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from drivers.device import Device
from workbench.console.notes import say
from workbench.lab.dataset import Dataset

MediaType = Literal["image/jpeg", "image/png"]
LATEST = 200
"""Captures that are looked at: a device whose parameters choose the kind gave both among so many."""
NAMES: dict[MediaType, str] = {"image/jpeg": "JPEG", "image/png": "PNG"}


class OutputKinds:
    """Compares a device's outputs with those that the data set has of it since this object was made.

    A device whose pictures are no files is told of at once, for what it is asked may all be answered by JPEG files.
    """

    def __init__(self, dataset: Dataset, device: Device) -> None:
        self._dataset, self._device = dataset, device
        self._before = dataset.media_types(device.info().identity, latest=LATEST)
        # What comes without a file around is kept as PNG.
        self._told = not device.info().output.is_file and self._tell({"image/png"})

    def tell_new(self, asked: int) -> None:
        """Tell where one of the last ``asked`` captures is of a kind that was not there before."""
        if asked and not self._told:
            now = self._dataset.media_types(self._device.info().identity, latest=min(asked, LATEST))
            self._told = self._tell(now)

    def _tell(self, now: Collection[MediaType]) -> bool:
        if not self._before or self._before.issuperset(now):
            return False
        info = self._device.info()
        told = info.output.format if not info.output.is_file else told_kinds(now)
        say(
            [
                f"the data set has {told_kinds(self._before)} of {info.identity}, which gives {told} now: captures of "
                "both count as one device's; where its ISP was set to another output, let it say another firmware"
            ]
        )
        return True


def told_kinds(kinds: Collection[MediaType]) -> str:
    """The kinds for people: ``JPEG and PNG``."""
    return " and ".join(NAMES[kind] for kind in sorted(kinds))
