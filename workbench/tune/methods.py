"""The searches that a tuning can use, by name."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.parameters import ParameterSet
from workbench.errors import RunError
from workbench.tune.blockwise import BlockwiseProposer
from workbench.tune.nelder_mead import NelderMeadProposer
from workbench.tune.proposals import CmaEsProposer, Proposer, RandomProposer, gaussian_process, nsga2, tpe
from workbench.tune.worst_rank import WorstRankProposer

METHODS = ("cmaes", "tpe", "random", "nelder-mead", "blockwise", "gp", "nsga2", "worst-rank")
# These search for several metrics at once.
SEVERAL_METRICS = ("nsga2", "worst-rank")
_SCREENING_SHARE = 0.2


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
        method: one of :data:`METHODS`.
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
    if method not in METHODS:
        raise RunError(f"method {method!r} is not one of {', '.join(METHODS)}")
    if metrics > 1 and method not in SEVERAL_METRICS:
        raise RunError(f"method {method} searches for one metric; for several use {' or '.join(SEVERAL_METRICS)}")
    tenth = trials // 10
    if method == "cmaes":
        return CmaEsProposer(start, free, seed, sigma, min(tenth, 40) if explore else 0)
    if method == "tpe":
        return tpe(start, free, seed, min(max(tenth, 10), 40))
    if method == "gp":
        return gaussian_process(start, free, seed, min(max(tenth, 10), 40))
    if method == "nsga2":
        return nsga2(start, free, seed, min(max(tenth, 8), 50), metrics)
    if method == "worst-rank":
        return WorstRankProposer(start, free, seed, sigma, int(_SCREENING_SHARE * trials))
    if method == "nelder-mead":
        return NelderMeadProposer(start, free, seed)
    if method == "blockwise":
        return BlockwiseProposer(start, free, seed, trials, sigma)
    return RandomProposer(start, free, seed)
