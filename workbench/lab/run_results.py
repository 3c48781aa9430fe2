"""Results that stand in a run's own record, ``run.json``."""

from __future__ import annotations

from typing import Any, Self

from workbench.lab.results import Result
from workbench.lab.runs import RunFolder, plain


class RunResult(Result):
    """The ``results`` of a ``run.json``.

    The keys written are those that were given: what does not apply to a run is not there. Format 1 has no ``format``
    key of its own, the record's counts for it.
    """

    format: int = 1

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data of what was given; what is no finite number is None."""
        data: dict[str, Any] = plain(self.model_dump(mode="json", exclude_unset=True))
        return data

    @classmethod
    def of(cls, run: RunFolder) -> Self:
        """The results of a run, of this version of the workbench or an earlier one.

        Raises:
            RunError: they are no such results.
        """
        return cls.from_json(run.results, run.path / "run.json")
