"""CMA-ES on the worst rank over several metrics, after a screening that leaves out the parameters that matter least.

A set's rank in a metric is the share of all sets seen so far that are better in it; its worst rank over the metrics is
what is made small, so no metric is sold for another, whatever their units.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import qmc, rankdata

from drivers.parameters import ParameterSet
from workbench.tune.proposals import CmaEsProposer, Values

_BINS = 4
_KEPT_SHARE = 0.5


def worst_ranks(values: np.ndarray) -> np.ndarray:
    """The worst rank of each set over the metrics, of ``[sets, metrics]`` (higher is better): ``[sets]`` in (0, 1].

    Sets that are equal in a metric share the better rank. Ties in the worst rank are broken by the mean rank.
    """
    ranks = np.stack([rankdata(-column, method="min") for column in values.T], 1) / len(values)
    worst: np.ndarray = ranks.max(axis=1) + 1e-6 * ranks.mean(axis=1)
    return worst


def importance(units: np.ndarray, values: np.ndarray, bins: Sequence[int]) -> np.ndarray:
    """How much of each metric's ranks a parameter explains alone, the largest over the metrics.

    Args:
        units: ``[sets, parameters]`` in [0, 1].
        values: ``[sets, metrics]``.
        bins: for each parameter into how many bins its values are put.

    Returns:
        ``[parameters]`` in [0, 1]: the correlation ratio, variance between the bins' mean ranks over that of all ranks.
    """
    explained = np.zeros((units.shape[1], values.shape[1]))
    for m, column in enumerate(values.T):
        ranks = rankdata(column)
        total = ((ranks - ranks.mean()) ** 2).sum()
        if total == 0:
            continue
        for i, count in enumerate(bins):
            group = np.minimum((units[:, i] * count).astype(int), count - 1)
            means = [ranks[group == g] for g in range(count) if (group == g).any()]
            between = sum(len(g) * (g.mean() - ranks.mean()) ** 2 for g in means)
            explained[i, m] = between / total
    most: np.ndarray = explained.max(axis=1)
    return most


class WorstRankProposer:
    """A Sobol screening of the whole space, then CMA-ES on the half of the parameters that mattered most in it.

    The other parameters stay as they are in the best set of the starts and the screening.

    Attributes:
        kept: names of the parameters searched after the screening; None before its end.
    """

    def __init__(self, start: ParameterSet, free: Sequence[str], seed: int, sigma: float, screen: int) -> None:
        self._space, self._start, self._free = start.space, start, list(free)
        self._seed, self._sigma, self._screen = seed, sigma, max(screen, 2)
        self._where = [start.space.names.index(n) for n in free]
        self._sets: dict[str, int] = {}
        self._archive: list[tuple[ParameterSet, Values]] = []
        self._screening = False
        self._inner: CmaEsProposer | None = None
        self.kept: list[str] | None = None

    def ask(self) -> list[ParameterSet]:
        """The screening's sets, then one population after another."""
        if self._inner is not None:
            return self._inner.ask()
        self._screening = True
        points = qmc.Sobol(len(self._where), seed=self._seed).random_base2(int(np.ceil(np.log2(self._screen))))
        sets = []
        for point in points[: self._screen]:
            unit = self._start.unit.copy()
            unit[self._where] = point
            sets.append(self._space.from_unit(unit, self._start))
        return sets

    def _remember(self, batch: Sequence[ParameterSet], values: Sequence[Values]) -> None:
        for parameters, value in zip(batch, values, strict=True):
            if parameters.hash not in self._sets:
                self._sets[parameters.hash] = len(self._archive)
                self._archive.append((parameters, value))

    def tell(self, batch: Sequence[ParameterSet], values: Sequence[Values]) -> None:
        """Rank the values among all so far."""
        self._remember(batch, values)
        scores = -worst_ranks(np.array([v for _, v in self._archive]))
        best = self._archive[int(np.argmax(scores))][0]
        if self._inner is not None:
            self._inner.revalue(float(scores[self._sets[self._inner.best.hash]]))
            self._inner.tell(batch, [(float(scores[self._sets[p.hash]]),) for p in batch])
        elif self._screening:
            self.kept = self._most_important(batch, values)
            self._inner = CmaEsProposer(best, self.kept, self._seed, self._sigma)
            self._inner.tell([best], [(float(scores.max()),)])

    def _most_important(self, batch: Sequence[ParameterSet], values: Sequence[Values]) -> list[str]:
        bins = [min(self._space.parameters[i].levels, _BINS) for i in self._where]
        matters = importance(np.array([p.unit for p in batch])[:, self._where], np.array(values), bins)
        count = max(int(np.ceil(_KEPT_SHARE * len(self._free))), 1)
        kept = set(np.argsort(-matters, kind="stable")[:count].tolist())
        return [n for i, n in enumerate(self._free) if i in kept]

    @property
    def centre(self) -> None:
        """It would be judged by one metric alone."""
        return None
