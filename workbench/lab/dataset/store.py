"""The data set: RAWs, references and captures of a lab folder. Files first, then the rows that name them."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from workbench.lab.dataset.device_rows import DeviceRows
from workbench.lab.dataset.explained import BUSY_S
from workbench.lab.dataset.failure_rows import FailureRows
from workbench.lab.dataset.raw_rows import RawRows


class Dataset(RawRows, FailureRows, DeviceRows):
    """The data set of a lab folder. A context manager.

    Every method raises :class:`~workbench.errors.DatasetError` when the disk is full, the folder read-only, the
    database locked for longer than ``busy_s``, or a file damaged. What a method has returned is on the disk.
    """

    @classmethod
    def open(cls, lab: Path, *, create: bool = False, busy_s: float = BUSY_S) -> Dataset:
        """The data set in a lab folder; with ``create`` an empty one is made where there is none.

        Raises:
            DatasetError: there is none, it has another schema version, or it cannot be read.
        """
        dataset = cls(lab, busy_s=busy_s)
        try:
            dataset.database.open(create=create)
        except BaseException:
            dataset.close()
            raise
        if create and not dataset.database.read_only:
            dataset.blobs.remove_stale()
        return dataset

    def close(self) -> None:
        """Let go of the files; closing twice is allowed."""
        self.database.engine.dispose()
        self.blobs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
