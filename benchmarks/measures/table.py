"""Rows of the bench's table: figures with their spread, what was measured beside them, and the bar."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SLOWER = 1.15
"""A figure counts as worse than before beyond this factor, where the spreads do not overlap either."""
COLUMNS = ("measure", "figure", "unit", "beside", "its figure", "ratio", "bar", "reached")


@dataclass(frozen=True)
class Bar:
    """What a row must show: its figure, or its ratio to what is beside, at most or at least ``limit``."""

    limit: float
    of: Literal["figure", "ratio"] = "figure"

    def told(self, row: Row) -> str:
        return f"{'≥' if row.more_is_better else '≤'} {self.limit:.3g}{' ×' if self.of == 'ratio' else ''}"

    def reached(self, row: Row) -> bool:
        value = statistics.median(row.figures if self.of == "figure" else row.ratios)
        return value >= self.limit if row.more_is_better else value <= self.limit


@dataclass(frozen=True)
class Row:
    """One measure.

    Attributes:
        measure: what was measured; sizes are in its name, so that only what is alike is compared.
        unit: of the figures.
        figures: the samples.
        beside: what was measured beside it in the same run, in pairs; ``others``: its samples, as many.
        bar: what it must show.
        more_is_better: whether a larger figure is better (a rate), or a smaller one (seconds).
    """

    measure: str
    unit: str
    figures: Sequence[float]
    beside: str = ""
    others: Sequence[float] = field(default=())
    bar: Bar | None = None
    more_is_better: bool = False

    @property
    def ratios(self) -> list[float]:
        """Figure over what is beside it, pair by pair."""
        return [a / b for a, b in zip(self.figures, self.others, strict=True)] if self.others else []

    def cells(self) -> list[str]:
        """The row as text."""
        bar = ("", "") if self.bar is None else (self.bar.told(self), "yes" if self.bar.reached(self) else "no")
        return [
            self.measure,
            _told(self.figures),
            self.unit,
            self.beside,
            _told(self.others),
            _told(self.ratios),
            *bar,
        ]

    def worse_than(self, before: dict[str, dict[str, Any]]) -> str:
        """How this row got worse than the cells of an earlier run by column, in one line; empty where it did not.

        The ratio is compared where there is one: it was measured side by side, so another load tells less of it.
        """
        column, values = ("ratio", self.ratios) if self.others else ("figure", self.figures)
        cell = before[column]
        if "value" not in cell:
            return ""
        now, then = statistics.median(values), float(cell["value"])
        low, high = cell.get("interval", (then, then))
        if self.more_is_better:
            worse = now * SLOWER < then and max(values) < low
        else:
            worse = now > then * SLOWER and min(values) > high
        return f"{self.measure}: {column} {now:.3g}, was {then:.3g}" if worse else ""


def cpu_and_wall(
    measure: str,
    figures: Sequence[Any],
    beside: str = "",
    others: Sequence[Any] = (),
    *,
    bar: Bar | None = None,
    bar_on: Literal["cpu", "wall"] = "wall",
    scale: float = 1.0,
    unit: str = "s",
) -> list[Row]:
    """Two rows of samples with ``cpu`` and ``wall``, in seconds times ``scale``."""
    return [
        Row(
            f"{measure}, {name}",
            unit,
            [scale * getattr(f, kind) for f in figures],
            beside,
            [scale * getattr(o, kind) for o in others],
            bar if kind == bar_on else None,
        )
        for kind, name in (("cpu", "CPU"), ("wall", "wall"))
    ]


def markdown(rows: Sequence[Row]) -> str:
    """The table as Markdown."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _told(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle = _number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} [{_number(min(values))}, {_number(max(values))}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{float(f'{value:.3g}'):g}"
