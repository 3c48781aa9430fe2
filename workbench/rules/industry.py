"""What industry does today: the as-shot white balance sets the gains, a tuned table over ISO sets the rest.

Grey-world white balance may set the gains instead. A RAW without as-shot white balance gets the gains in the table (the
device's defaults); one without ISO gets the middle knot. ISO beyond the first or last knot takes that knot.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args

import numpy as np

from drivers.errors import ParameterError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.regular_files import read_json
from workbench.errors import RunError
from workbench.rules.balance import WhiteBalance, balanced

if TYPE_CHECKING:
    from workbench.lab.dataset import RawRecord

TABLE = "table.json"
"""The file's name in a run's folder."""


class Metadata(Protocol):
    """What the knots are chosen by."""

    @property
    def iso(self) -> float | None:
        """ISO speed."""


def knots_of(raws: Sequence[Metadata], count: int = 3) -> tuple[float, ...]:
    """Knots of the table: the distinct ISO nearest to evenly spaced quantiles (10 % … 90 %) of the RAWs' ISO.

    One knot, ISO 100, where no RAW tells its ISO.
    """
    known = sorted(r.iso for r in raws if r.iso)
    if not known:
        return (100.0,)
    quantiles = np.quantile(known, np.linspace(0.1, 0.9, count), method="nearest")
    return tuple(sorted({float(q) for q in quantiles}))


def nearest_knot(knots: Sequence[float], iso: float | None) -> int:
    """Index of the knot nearest in log ISO; the middle one without ISO."""
    if not iso:
        return len(knots) // 2
    return min(range(len(knots)), key=lambda i: abs(math.log2(knots[i] / iso)))


@dataclass(frozen=True)
class IndustryTable:
    """Parameter sets at knots of ISO.

    Between knots continuous parameters are interpolated over log2 ISO (in the normalised space, so a log parameter
    moves evenly), discrete ones are those of the nearest knot.

    Attributes:
        space: the device's parameters.
        knots: ISO, ascending.
        sets: one a knot.
        white_balance: what sets the gains.
    """

    space: ParameterSpace
    knots: tuple[float, ...]
    sets: tuple[ParameterSet, ...]
    white_balance: WhiteBalance = "as-shot"

    def parameters_for(self, raw: RawRecord | RawFrame) -> ParameterSet:
        """The parameters that a RAW gets; grey-world white balance reads its pixels."""
        nearest = self.sets[nearest_knot(self.knots, raw.iso)]
        right = bisect.bisect_right(self.knots, raw.iso) if raw.iso else 0
        if not raw.iso or right in (0, len(self.knots)):
            return balanced(nearest, raw, self.white_balance)
        low, high = self.knots[right - 1], self.knots[right]
        t = math.log2(raw.iso / low) / math.log2(high / low)
        mixed = self.space.from_unit((1 - t) * self.sets[right - 1].unit + t * self.sets[right].unit)
        codes = (
            n if p.discrete or not p.searched else m
            for p, n, m in zip(self.space.parameters, nearest.codes, mixed.codes, strict=True)
        )
        return balanced(ParameterSet(self.space, tuple(codes)), raw, self.white_balance)

    def within(self, space: ParameterSpace) -> IndustryTable:
        """The same table in the order of a space that takes the same codes."""
        return replace(self, space=space, sets=tuple(space.take(s) for s in self.sets))

    def to_dict(self) -> dict[str, Any]:
        """The table as plain JSON data, native values at each knot."""
        knots = [{"iso": k, "parameters": s.values} for k, s in zip(self.knots, self.sets, strict=True)]
        return {"format": 1, "space": self.space.to_dict(), "white_balance": self.white_balance, "knots": knots}

    def save(self, path: Path) -> None:
        """Write :meth:`to_dict` as JSON."""
        from workbench.lab.runs import write_json

        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path) -> IndustryTable:
        """A table from its file.

        Raises:
            RunError: the file cannot be read or is not a table.
        """
        from workbench.lab.run_record import RECORD_BYTES

        try:
            data = read_json(Path(path), RECORD_BYTES)
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        return cls.from_dict(data, path)

    @classmethod
    def from_dict(cls, data: Any, path: Path, space: ParameterSpace | None = None) -> IndustryTable:
        """A table from plain JSON data; ``path`` is named in errors, ``space`` read from it where not given.

        Raises:
            RunError: the data is no table.
        """
        try:
            if data["format"] != 1:
                raise RunError(f"{path}: table of format {data['format']}; this workbench reads format 1")
            space = space or ParameterSpace.from_dict(data["space"])
            knots = tuple(float(k["iso"]) for k in data["knots"])
            sets = tuple(space.parse(k["parameters"]) for k in data["knots"])
            white_balance = data.get("white_balance", "as-shot")
        except (ValueError, KeyError, TypeError, AttributeError, ParameterError) as error:
            raise _unreadable(path, error) from error
        if not knots or list(knots) != sorted(set(knots)) or not all(math.isfinite(k) and k > 0 for k in knots):
            raise RunError(f"{path}: the knots' ISO must be ascending and above 0, not {knots}")
        if white_balance not in get_args(WhiteBalance):
            raise RunError(f"{path}: white balance {white_balance!r} is not one of {', '.join(get_args(WhiteBalance))}")
        return cls(space, knots, sets, white_balance)


def _unreadable(path: Path, error: Exception) -> RunError:
    return RunError(f"{path}: cannot be read as a table over ISO ({error}); put the file back, or tune again")
