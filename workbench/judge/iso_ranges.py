"""A validation's figures over ranges of ISO: noise is what changes most from one to the next."""

from __future__ import annotations

from pydantic import Field

from workbench.judge.measuring import Measured
from workbench.judge.methods import MethodKind, baseline_of
from workbench.judge.statistics import Comparison, Interval
from workbench.lab.results import Model

EDGES = (400.0, 1600.0)
"""Ends of the ranges: below the first, between them, from the last on."""


class RangeFigures(Model):
    """A method over the RAWs of a range.

    Attributes:
        figures: each metric that single RAWs have.
        gains: the same over the range's baseline, paired by RAW; empty of that itself.
    """

    figures: dict[str, Interval]
    gains: dict[str, Comparison] = Field(default_factory=dict)


class IsoRange(Model):
    """The RAWs of a range of ISO.

    Attributes:
        low, high: the range, ``low`` in it and ``high`` not; None where it is open.
        raws, scenes: how many.
        over: key of the baseline that gains are over, industry or else the best fixed set; None without either.
        methods: by key, in the table's order.
    """

    low: float | None = None
    high: float | None = None
    raws: int
    scenes: int
    over: MethodKind | None = None
    methods: dict[str, RangeFigures]

    @property
    def title(self) -> str:
        """For people: ``ISO 400 to 1600``; the upper end is not in it."""
        if self.low is None:
            return "all ISO" if self.high is None else f"ISO below {self.high:g}"
        return f"ISO {self.low:g} and above" if self.high is None else f"ISO {self.low:g} to {self.high:g}"

    def holds(self, iso: float | None) -> bool:
        """Whether a RAW of this ISO is in it; one that does not tell its ISO is in none."""
        return iso is not None and (self.low or 0) <= iso and (self.high is None or iso < self.high)


def by_iso(measured: Measured) -> list[IsoRange]:
    """The figures over each range that has RAWs; empty where all that tell their ISO are of one range."""
    over = baseline_of([m.kind for m in measured.methods])
    metrics = [m for m in measured.task.metrics if m.per_raw]
    found = []
    for low, high in zip((None, *EDGES), (*EDGES, None), strict=True):
        asked = IsoRange(low=low, high=high, raws=0, scenes=0, over=over, methods={})
        places = [i for i, raw in enumerate(measured.raws) if asked.holds(raw.iso)]
        if not places:
            continue
        own = measured.of_places(places)
        methods = {
            m.key: RangeFigures(
                figures={f.key: own.interval(m.key, f) for f in metrics},
                gains={f.key: own.gain(m.key, over, f) for f in metrics} if over and m.kind != over else {},
            )
            for m in own.methods
        }
        found.append(asked.model_copy(update={"raws": len(places), "scenes": len(set(own.scenes)), "methods": methods}))
    return found if len(found) > 1 else []
