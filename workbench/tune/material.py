"""Which RAWs a search looks at, and how an output is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from workbench.errors import RunError
from workbench.lab.dataset import CaptureRecord, RawRecord
from workbench.tasks.task import SetScorer
from workbench.tasks.viewing_metrics import METRICS as VIEWING

# What a capture costs, as its record says: seconds inside the device, bytes of the output.
COSTS: dict[str, Callable[[CaptureRecord], float]] = {
    "latency": lambda capture: capture.device_s,
    "bytes": lambda capture: float(len(capture.rgb().encoded)),
}
UNITS = {"latency": "s", "bytes": "bytes"}
# What a set counts in a search of which a frame failed: below any value that the metric can have.
WORST_COST = -1e12


class CostScorer:
    """What captures cost, with a minus, so that higher is better: one of :data:`COSTS`, the mean over a set's captures.

    Raises:
        RunError: unknown metric.
    """

    def __init__(self, metric: str) -> None:
        if metric not in COSTS:
            raise RunError(f"metric {metric!r} is not one of {', '.join((*(m.key for m in VIEWING), *COSTS))}")
        self._cost = COSTS[metric]
        self.worst = WORST_COST

    def __call__(self, raw: RawRecord, capture: CaptureRecord) -> float:
        """Minus the cost of a capture."""
        return -self._cost(capture)

    def combine(self, values: Sequence[float]) -> float:
        """Minus the mean cost."""
        return sum(values) / len(values)


class SeveralScorers:
    """Several metrics as one scorer; the first is the most important."""

    def __init__(self, scorers: Sequence[SetScorer]) -> None:
        self._scorers = tuple(scorers)
        self.worst = tuple(float(scorer.worst) for scorer in scorers)  # type: ignore[arg-type]

    def __call__(self, raw: RawRecord, capture: CaptureRecord) -> tuple[Any, ...]:
        """What each metric needs of a capture."""
        return tuple(scorer(raw, capture) for scorer in self._scorers)

    def combine(self, values: Sequence[tuple[Any, ...]]) -> tuple[float, ...]:
        """The score in each metric."""
        return tuple(
            float(scorer.combine(column))  # type: ignore[arg-type]
            for scorer, column in zip(self._scorers, zip(*values, strict=True), strict=True)
        )
