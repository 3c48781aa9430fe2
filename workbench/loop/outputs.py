"""What becomes of a loop's captures: each is checked, saved as a picture and kept in the data set where asked for."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from drivers.atomic_files import write_bytes
from drivers.device import Capture, DeviceInfo, Failure
from drivers.folder_lock import alone_in
from drivers.frames import RawFrame
from drivers.splits import Split
from workbench.collect.keeping import judged
from workbench.errors import RunError
from workbench.lab.dataset import Dataset, NewRaw

PURPOSE = "run"
_SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png"}


class Outputs:
    """Where a loop's captures go.

    Args:
        device: that makes them.
        save: folder that is there for the pictures, ``000001.jpg`` and so on; None: they are not saved.
        dataset: where captures and failures are kept, with the RAWs of a live device; None: they are not kept.
        scene: live devices: what is before them.

    Attributes:
        kept, saved: captures that were.
    """

    def __init__(self, device: DeviceInfo, save: Path | None, dataset: Dataset | None, scene: str) -> None:
        self._device, self._save, self._dataset, self._scene = device, save, dataset, scene
        self.kept = self.saved = 0
        if dataset is not None and device.live:
            splits = (raw.split for raw in dataset.raws() if raw.scene == scene)
            self._split = next(splits, Split.TRAIN)

    def take(self, number: int, raw: RawFrame | None, answer: Capture | Failure) -> Capture | Failure:
        """Take what the frame of that number came to; a capture that is no picture of the RAW becomes a failure.

        Raises:
            DatasetError: it could not be kept.
            OSError: it could not be saved.
        """
        if raw is not None:
            answer = judged(answer, raw.width, raw.height)
        if self._save is not None and isinstance(answer, Capture):
            write_bytes(self._save / _name(number, answer), answer.rgb.encoded, durable=False)
            self.saved += 1
        if self._dataset is not None:
            self._keep(self._dataset, raw, answer)
        return answer

    def _keep(self, dataset: Dataset, raw: RawFrame | None, answer: Capture | Failure) -> None:
        if isinstance(answer, Failure):
            # The RAW of a photograph that failed is not kept, so the failure names none.
            failure = replace(answer, raw_hash="") if self._device.live else answer
            dataset.add_failures(self._device, [failure], purpose=PURPOSE)
            return
        if self._device.live and raw is not None:
            name = f"{self._scene}-{answer.boot_id[:8]}-{answer.frame:06d}"
            dataset.add_raws([NewRaw(raw, self._scene, self._split, name)])
        dataset.add_captures(self._device, [answer], purpose=PURPOSE)
        self.kept += 1


@contextlib.contextmanager
def own_folder(folder: Path | None) -> Iterator[None]:
    """In this block the folder takes this loop's pictures alone; made where it is missing.

    Raises:
        RunError: it has pictures of another loop, or one saves there right now.
    """
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    busy = RunError(f"{folder}: another loop saves its pictures there right now; give a new folder")
    with alone_in(folder, busy):
        check_saved(folder)
        yield


def check_saved(folder: Path | None) -> None:
    """See that a folder has no pictures of another loop: those of the same number would be lost, the others mixed.

    Raises:
        RunError: it has some.
    """
    if folder is None or not folder.is_dir():
        return
    names = sorted(f.name for f in folder.iterdir() if re.fullmatch(r"\d{6,}\.(jpg|png)", f.name))
    if names:
        raise RunError(f"{folder}: has pictures of another loop ({len(names)}, {names[0]} first); give a new folder")


def _name(number: int, capture: Capture) -> str:
    return f"{number:06}{_SUFFIXES[capture.rgb.media_type]}"
