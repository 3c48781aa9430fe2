"""The captures of a lab, to look at: one by one, or as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from drivers.errors import WorkbenchError
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.splits import Split
from workbench.lab.dataset import CaptureRecord, Dataset, RawRecord
from workbench.lab.dataset.table import Cell, capture_row

if TYPE_CHECKING:
    import pandas


class PandasMissingError(WorkbenchError):
    """A table was asked for where pandas is not installed."""


class Captures:
    """Captures in the order of arrival; what they name is read from the lab's files when it is asked for.

    Iterating gives :class:`~workbench.lab.dataset.CaptureRecord`; ``len`` is how many there are.

    Attributes:
        raws: every RAW of the data set, by hash.
        spaces: the parameter space of each device, by identity.
    """

    def __init__(
        self,
        records: Sequence[CaptureRecord],
        raws: Mapping[str, RawRecord],
        spaces: Mapping[str, ParameterSpace],
    ) -> None:
        self._records = tuple(records)
        self.raws = raws
        self.spaces = spaces

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        *,
        device_identity: str | None = None,
        purpose: str | None = None,
        split: Split | None = None,
    ) -> Captures:
        """The captures of a data set, which may be closed afterwards; each condition that is given must hold.

        Raises:
            DatasetError: the data set cannot be read.
        """
        records = dataset.captures(device_identity=device_identity, purpose=purpose, split=split)
        spaces = {identity: dataset.space(identity) for identity in dict.fromkeys(c.device_identity for c in records)}
        return cls(records, {raw.hash: raw for raw in dataset.raws()}, spaces)

    def __iter__(self) -> Iterator[CaptureRecord]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"<{len(self)} captures of {len(self.spaces)} devices>"

    def raw(self, capture: CaptureRecord) -> RawRecord:
        """The RAW that a capture was made from."""
        return self.raws[capture.raw_hash]

    def parameters(self, capture: CaptureRecord) -> ParameterSet:
        """The parameters that made a capture."""
        return self.spaces[capture.device_identity].from_codes(capture.codes)

    def rows(self) -> list[dict[str, Cell]]:
        """A row for each capture, by column: its RAW, scene and split, what made it, and every parameter by name.

        Columns are ``id``, ``raw`` (its name), ``raw_hash``, ``scene``, ``split``, ``output`` (SHA-256 of the output's
        bytes), ``device``, ``boot_id``, ``frame``, ``repeat``, ``purpose``, ``created``, ``device_s``, ``total_s``
        (seconds), ``parameters_hash``, and the parameters in native units; see
        :func:`~workbench.lab.dataset.table.capture_row`.
        """
        return [self._row(capture) for capture in self]

    def _row(self, capture: CaptureRecord) -> dict[str, Cell]:
        raw = self.raw(capture)
        columns = {"raw": raw.name, "raw_hash": raw.hash, "scene": raw.scene, "split": str(raw.split)}
        return capture_row(capture, self.spaces[capture.device_identity], raw=columns, output=capture.output_hash)

    def to_frame(self) -> pandas.DataFrame:
        """:meth:`rows` as a table of pandas, indexed by ``id``; parameters that a device lacks are NaN.

        Raises:
            PandasMissingError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise PandasMissingError(
                "a table of captures needs pandas, which is not here; run pip install pandas"
            ) from error
        rows = self.rows()
        return pandas.DataFrame(rows).set_index("id") if rows else pandas.DataFrame(index=pandas.Index([], name="id"))
