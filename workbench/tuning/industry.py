"""What industry does today: the as-shot white balance sets the gains, a tuned table over ISO sets the rest.

A RAW without as-shot white balance gets the gains in the table (the device's defaults); one without ISO gets the middle
knot. ISO beyond the first or last knot takes that knot.
"""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from drivers.errors import ParameterError
from drivers.parameters import Parameter, ParameterSet, ParameterSpace
from workbench.errors import RunError
from workbench.runs import write_json


class Metadata(Protocol):
    """What the table reads of a RAW: a RawRecord or a RawFrame."""

    @property
    def iso(self) -> float | None:
        """ISO speed."""

    @property
    def as_shot_wb(self) -> tuple[float, float, float] | None:
        """White-balance gains, red, green, blue."""


def _clipped(parameter: Parameter, value: float) -> int:
    return min(max(round(value / parameter.step), parameter.low_code), parameter.high_code)


def with_as_shot(parameters: ParameterSet, raw: Metadata) -> ParameterSet:
    """The set with the red and blue gain of the RAW's as-shot white balance, clipped into their ranges.

    Unchanged where the RAW has no as-shot white balance or the device no such parameters.
    """
    if raw.as_shot_wb is None:
        return parameters
    red, green, blue = raw.as_shot_wb
    gains = {"red_gain": red / green, "blue_gain": blue / green}
    codes = [
        _clipped(p, gains[p.role]) if p.role is not None else code
        for p, code in zip(parameters.space.parameters, parameters.codes, strict=True)
    ]
    return ParameterSet(parameters.space, tuple(codes))


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
    """

    space: ParameterSpace
    knots: tuple[float, ...]
    sets: tuple[ParameterSet, ...]

    def parameters_for(self, raw: Metadata) -> ParameterSet:
        """The parameters that a RAW gets."""
        nearest = self.sets[nearest_knot(self.knots, raw.iso)]
        right = bisect.bisect_right(self.knots, raw.iso) if raw.iso else 0
        if not raw.iso or right in (0, len(self.knots)):
            return with_as_shot(nearest, raw)
        low, high = self.knots[right - 1], self.knots[right]
        t = math.log2(raw.iso / low) / math.log2(high / low)
        mixed = self.space.from_unit((1 - t) * self.sets[right - 1].unit + t * self.sets[right].unit)
        codes = (
            n if p.discrete else m for p, n, m in zip(self.space.parameters, nearest.codes, mixed.codes, strict=True)
        )
        return with_as_shot(ParameterSet(self.space, tuple(codes)), raw)

    def save(self, path: Path) -> None:
        """Write the table as JSON, native values at each knot."""
        knots = [{"iso": k, "parameters": s.values} for k, s in zip(self.knots, self.sets, strict=True)]
        write_json(path, {"format": 1, "space": self.space.to_dict(), "knots": knots})

    @classmethod
    def load(cls, path: Path) -> IndustryTable:
        """A table from its file.

        Raises:
            RunError: the file cannot be read or is not a table.
        """
        try:
            data: Any = json.loads(Path(path).read_text(encoding="utf-8"))
            if data["format"] != 1:
                raise RunError(f"{path}: table of format {data['format']}; this workbench reads format 1")
            space = ParameterSpace.from_dict(data["space"])
            knots = tuple(float(k["iso"]) for k in data["knots"])
            sets = tuple(space.parse(k["parameters"]) for k in data["knots"])
        except (OSError, ValueError, KeyError, TypeError, ParameterError) as error:
            raise RunError(f"{path}: cannot be read as a table over ISO: {error}") from error
        if not knots or list(knots) != sorted(set(knots)) or not all(math.isfinite(k) and k > 0 for k in knots):
            raise RunError(f"{path}: the knots' ISO must be ascending and above 0, not {knots}")
        return cls(space, knots, sets)
