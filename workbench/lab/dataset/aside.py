"""Which captures are to be set aside: those that are named, and those whose output is no picture of their RAW."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.errors import WorkbenchError
from drivers.foreign_text import shown
from workbench.console.progress import each
from workbench.errors import DatasetError
from workbench.lab.dataset.store import Dataset


def chosen_captures(
    dataset: Dataset, numbers: Sequence[int], *, undecodable: bool, device_identity: str | None = None
) -> dict[int, str]:
    """Why each capture is to be set aside, by its number.

    Args:
        dataset: an open data set.
        numbers: of captures that are named.
        undecodable: also those whose output is damaged, or no picture of the size of its RAW.
        device_identity: only captures of this device.

    Raises:
        DatasetError: a number is of no capture that is in use.
    """
    captures = {c.id: c for c in dataset.captures(device_identity=device_identity)}
    if unknown := [number for number in numbers if number not in captures]:
        raise DatasetError(
            f"{dataset.lab}: no capture {unknown[0]} in use; `workbench dataset export` lists their numbers"
        )
    found = dict.fromkeys(numbers, "named by hand")
    if undecodable:
        sizes = {raw.hash: (raw.width, raw.height) for raw in dataset.raws()}
        for capture in each("look at outputs", list(captures.values()), "capture"):
            try:
                capture.rgb().check(*sizes[capture.raw_hash])
            except WorkbenchError as error:
                found[capture.id] = shown(error)
    return found
