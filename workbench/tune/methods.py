"""The methods that a tuning can use: the only place that knows one by name.

Light to import, so that the command line can list them: a search's own module is imported when it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from workbench.errors import RunError

if TYPE_CHECKING:
    from drivers.parameters import ParameterSet
    from workbench.tune.proposals import Proposer

_SCREENING_SHARE = 0.2


class MethodName(StrEnum):
    """The methods' names, as commands and records spell them."""

    cmaes = "cmaes"
    tpe = "tpe"
    gp = "gp"
    random = "random"
    nelder_mead = "nelder-mead"
    blockwise = "blockwise"
    nsga2 = "nsga2"
    worst_rank = "worst-rank"
    proxy_gradient = "proxy-gradient"


@dataclass(frozen=True)
class Search:
    """What a search is to do; the attributes are those of :func:`new_proposer`."""

    start: ParameterSet
    free: Sequence[str]
    seed: int
    sigma: float
    trials: int
    explore: bool
    metrics: int

    def random_first(self, least: int, most: int) -> int:
        """A tenth of the trials, within bounds: how many sets come first, at random."""
        return min(max(self.trials // 10, least), most)


@dataclass(frozen=True)
class Method:
    """How parameters are searched.

    Attributes:
        propose: makes the proposer of a search on the device; None for the method that descends through a proxy and
            lets the device only rank what it found.
        several_metrics: whether it can search for several metrics at once.
        by_worst_rank: whether sets are compared by their worst rank over the metrics, not by the first metric.
        has_centre: whether a search has a centre at its end, which is then judged among the best sets.
        refines: whether it also does the small steps around a set that is good already; CMA-ES does them for others.
        strong: whether it is as good as any, so that its result may stand for "the best fixed set" unasked.
    """

    propose: Callable[[Search], Proposer] | None
    several_metrics: bool = False
    by_worst_rank: bool = False
    has_centre: bool = False
    refines: bool = False
    strong: bool = False

    @property
    def needs_proxy(self) -> bool:
        """Whether it needs a fitted proxy."""
        return self.propose is None


def _cmaes(s: Search) -> Proposer:
    from workbench.tune.proposals import CmaEsProposer

    return CmaEsProposer(s.start, s.free, s.seed, s.sigma, s.random_first(0, 40) if s.explore else 0)


def _tpe(s: Search) -> Proposer:
    from workbench.tune.proposals import tpe

    return tpe(s.start, s.free, s.seed, s.random_first(10, 40))


def _gp(s: Search) -> Proposer:
    from workbench.tune.proposals import gaussian_process

    return gaussian_process(s.start, s.free, s.seed, s.random_first(10, 40))


def _random(s: Search) -> Proposer:
    from workbench.tune.proposals import RandomProposer

    return RandomProposer(s.start, s.free, s.seed)


def _nelder_mead(s: Search) -> Proposer:
    from workbench.tune.nelder_mead import NelderMeadProposer

    return NelderMeadProposer(s.start, s.free, s.seed)


def _blockwise(s: Search) -> Proposer:
    from workbench.tune.blockwise import BlockwiseProposer

    return BlockwiseProposer(s.start, s.free, s.seed, s.trials, s.sigma)


def _nsga2(s: Search) -> Proposer:
    from workbench.tune.proposals import nsga2

    return nsga2(s.start, s.free, s.seed, s.random_first(8, 50), s.metrics)


def _worst_rank(s: Search) -> Proposer:
    from workbench.tune.worst_rank import WorstRankProposer

    return WorstRankProposer(s.start, s.free, s.seed, s.sigma, int(_SCREENING_SHARE * s.trials))


METHODS: dict[MethodName, Method] = {
    MethodName.cmaes: Method(_cmaes, has_centre=True, refines=True, strong=True),
    MethodName.tpe: Method(_tpe, strong=True),
    MethodName.gp: Method(_gp),
    MethodName.random: Method(_random, refines=True),
    MethodName.nelder_mead: Method(_nelder_mead),
    MethodName.blockwise: Method(_blockwise),
    MethodName.nsga2: Method(_nsga2, several_metrics=True),
    MethodName.worst_rank: Method(_worst_rank, several_metrics=True, by_worst_rank=True),
    MethodName.proxy_gradient: Method(None),
}
REFINING = MethodName.cmaes
"""What refines where the chosen method does not."""
SEARCHES = tuple(name for name, method in METHODS.items() if not method.needs_proxy)
"""The methods that search on the device."""
SEVERAL_METRICS = tuple(name for name, method in METHODS.items() if method.several_metrics)


def method_of(name: str) -> Method:
    """The method of that name.

    Raises:
        RunError: there is none.
    """
    if name not in METHODS:
        raise RunError(f"method {name!r} is not one of {', '.join(METHODS)}")
    return METHODS[MethodName(name)]


def is_strong(name: object) -> bool:
    """Whether a method of that name, as a record spells it, is there and :attr:`~Method.strong`."""
    return isinstance(name, str) and name in METHODS and METHODS[MethodName(name)].strong


def new_proposer(
    method: str,
    start: ParameterSet,
    free: Sequence[str],
    seed: int,
    *,
    sigma: float = 0.1,
    trials: int = 200,
    explore: bool = False,
    metrics: int = 1,
) -> Proposer:
    """The proposer of a method.

    Args:
        method: one of :data:`SEARCHES`.
        start: parameters not searched keep its values; CMA-ES starts there.
        free: names of the parameters to search.
        seed: of everything random.
        sigma: CMA-ES's first step, in normalised units.
        trials: how many trials the search will have (TPE and the Gaussian process draw a tenth of them, 10 to 40, at
            random, NSGA-II's population is a tenth of them, 8 to 50, and the screening before worst-rank a fifth).
        explore: CMA-ES too begins with random sets, a tenth of the trials, at most 40.
        metrics: how many values each set has; above 1 only with :data:`SEVERAL_METRICS`.

    Raises:
        RunError: unknown method, nothing to search, or several metrics for a method that takes one.
    """
    if not free:
        raise RunError(f"{start.space.name}: no parameter is left to search")
    if method not in SEARCHES:
        raise RunError(f"method {method!r} is not one of {', '.join(SEARCHES)}")
    chosen = method_of(method)
    if metrics > 1 and not chosen.several_metrics:
        raise RunError(f"method {method} searches for one metric; for several use {' or '.join(SEVERAL_METRICS)}")
    assert chosen.propose is not None  # it is one of SEARCHES
    return chosen.propose(Search(start, free, seed, sigma, trials, explore, metrics))
