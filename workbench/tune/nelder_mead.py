"""Nelder-Mead's simplex in the normalised space, with the steps adapted to many parameters (Gao and Han, 2012).

Discrete parameters are searched as bins of the unit interval. A simplex that has become smaller than the device's steps
starts again around the best set, each time with an edge twice as wide.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from drivers.parameters import ParameterSet
from workbench.tune.proposals import Values

_EDGE = 0.15
_SMALL = 1e-3
_IDLE_BATCHES = 8

# Gives points [k, n] and is sent their values [k], lower is better.
_Simplex = Generator[np.ndarray, np.ndarray, None]


def _simplex(start: np.ndarray, value: float, edges: np.ndarray) -> _Simplex:
    """One run of the simplex from a point of known value, until it is small."""
    n = len(start)
    expand, contract, shrink = 1 + 2 / max(n, 2), 0.75 - 0.5 / max(n, 2), 1 - 1 / max(n, 2)
    # Each edge goes towards the farther bound.
    points = np.vstack([start, start + np.diag(np.where(start < 0.5, edges, -edges))]).clip(0, 1)
    values = np.append(value, (yield points[1:]))
    while True:
        order = np.argsort(values, kind="stable")
        points, values = points[order], values[order]
        if np.ptp(points, axis=0).max() < _SMALL:
            return
        centroid = points[:-1].mean(axis=0)

        def along(step: float, centroid: np.ndarray = centroid, worst: np.ndarray = points[-1]) -> np.ndarray:
            point: np.ndarray = (centroid + step * (centroid - worst)).clip(0, 1)
            return point

        reflected = along(1)
        (reflected_value,) = yield reflected[None]
        best, second_worst, worst = values[0], values[-2], values[-1]
        if reflected_value < best:
            trial = along(expand)
            (trial_value,) = yield trial[None]
            if trial_value >= reflected_value:
                trial, trial_value = reflected, reflected_value
        elif reflected_value < second_worst:
            trial, trial_value = reflected, reflected_value
        else:
            outside = reflected_value < worst
            trial = along(contract if outside else -contract)
            (trial_value,) = yield trial[None]
            if trial_value >= min(reflected_value, worst):
                points[1:] = points[0] + shrink * (points[1:] - points[0])
                values[1:] = yield points[1:]
                continue
        points[-1], values[-1] = trial, trial_value


class NelderMeadProposer:
    """The simplex, started at the best of the sets told first."""

    def __init__(self, start: ParameterSet, free: Sequence[str], seed: int) -> None:
        self._space, self._best, self._best_value = start.space, start, -np.inf
        self._where = [start.space.names.index(n) for n in free]
        self._rng = np.random.default_rng(seed)
        self._run: _Simplex | None = None
        self._points = np.empty((0, len(free)))
        self._restarts, self._idle = 0, 0
        self._seen: set[str] = set()
        # A bin of a discrete parameter is left only by a step as wide as the bin.
        self._least = np.array([1 / p.levels if p.discrete else 0.0 for p in (start.space[n] for n in free)])

    def _start(self) -> None:
        edges = np.maximum(min(_EDGE * 2**self._restarts, 0.5), self._least)
        if self._restarts:
            edges = edges * self._rng.uniform(0.5, 1.5, len(edges))
        self._restarts += 1
        self._run = _simplex(self._best.unit[self._where], -self._best_value, edges)
        self._points = next(self._run)

    def ask(self) -> list[ParameterSet]:
        """The next point of the simplex, or all new ones of a first or shrunk simplex."""
        if self._run is None:
            self._start()
        sets = []
        for point in self._points:
            unit = self._best.unit.copy()
            unit[self._where] = point
            sets.append(self._space.from_unit(unit, self._best))
        return sets

    def tell(self, batch: Sequence[ParameterSet], values: Sequence[Values]) -> None:
        """The values of the points."""
        for parameters, (value, *_) in zip(batch, values, strict=True):
            if value > self._best_value:
                self._best, self._best_value = parameters, value
        new = {p.hash for p in batch} - self._seen
        self._seen |= new
        self._idle = 0 if new else self._idle + 1
        if self._run is None:
            return
        if self._idle >= _IDLE_BATCHES:
            self._run, self._idle = None, 0
            return
        try:
            self._points = self._run.send(-np.array([v[0] for v in values]))
        except StopIteration:
            self._run = None

    @property
    def centre(self) -> None:
        """The simplex has no centre that is better than its best corner."""
        return None
