"""What to try next: random, Optuna's samplers, CMA-ES; each deterministic, so that a search is replayed, not restored.

A proposer gives batches of parameter sets and is told their values. Everything follows from the seed and the values, so
a stopped search goes on by proposing again from the start, with the values known already taken from the study: no state
of a sampler is stored, and a search that was killed ends where an undisturbed one does.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import cmaes
import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from drivers.parameters import Native, Parameter, ParameterSet, ParameterSpace

# Share of the probability that the start's choice has at first; the others share the rest.
_LIKELY = 0.6
# First step of a wide search, in normalised units, and the generations without a better set that end a search.
_WIDE = 0.2
_PATIENCE = 12
optuna.logging.set_verbosity(optuna.logging.ERROR)

# The value of a set in each metric of a search, the first one the most important; higher is better in all of them.
Values = tuple[float, ...]


def distribution(parameter: Parameter) -> BaseDistribution:
    """Optuna's distribution of a parameter in native values."""
    if parameter.kind == "choice":
        return CategoricalDistribution(parameter.choices)
    if parameter.kind == "bool":
        return CategoricalDistribution((False, True))
    low, high = parameter.from_code(parameter.low_code), parameter.from_code(parameter.high_code)
    log = parameter.scale == "log"
    if parameter.kind == "integer":
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _code(parameter: Parameter, value: Native) -> int:
    if parameter.kind in ("choice", "bool"):
        return parameter.to_code(value)
    return parameter.nearest(float(value))


class Proposer(Protocol):
    """Proposes parameter sets in batches and learns from their values (higher is better).

    What is told before the first batch is asked are the sets that the search starts from.
    """

    def ask(self) -> list[ParameterSet]:
        """The next batch."""

    def tell(self, batch: Sequence[ParameterSet], values: Sequence[Values]) -> None:
        """The values of the batch asked last."""

    @property
    def centre(self) -> ParameterSet | None:
        """Where the search has its centre now; None where it has none."""


class RandomProposer:
    """Uniform in the normalised space."""

    def __init__(self, start: ParameterSet, free: Sequence[str], seed: int) -> None:
        self._start, self._rng = start, np.random.default_rng(seed)
        self._where = [start.space.names.index(n) for n in free]

    def ask(self) -> list[ParameterSet]:
        """One random set."""
        unit = self._start.unit.copy()
        unit[self._where] = self._rng.random(len(self._where))
        return [self._start.space.from_unit(unit, self._start)]

    def tell(self, batch: Sequence[ParameterSet], values: Sequence[Values]) -> None:
        """Nothing to learn."""

    @property
    def centre(self) -> None:
        """A random search has none."""
        return None


class OptunaProposer:
    """A sampler of Optuna over native values.

    Args:
        start: parameters not searched keep its values.
        free: names of the parameters to search.
        sampler: deterministic by its seed.
        metrics: how many values each set has.
        enqueue: hand the starts to the sampler as trials of its own, as those need that learn by generations.
    """

    def __init__(
        self,
        start: ParameterSet,
        free: Sequence[str],
        sampler: optuna.samplers.BaseSampler,
        metrics: int = 1,
        *,
        enqueue: bool = False,
    ) -> None:
        self._start, self._free, self._enqueue = start, list(free), enqueue
        self._distributions = {n: distribution(start.space[n]) for n in free}
        # In memory: the study on disk is written one finished trial at a time, which is faster and leaves no zombies.
        self._study = optuna.create_study(directions=["maximize"] * metrics, sampler=sampler)
        self._trial: optuna.Trial | None = None

    def ask(self) -> list[ParameterSet]:
        """The next trial's set."""
        self._trial = self._study.ask(self._distributions)
        searched = {n: _code(self._start.space[n], self._trial.params[n]) for n in self._free}
        return [self._start.with_codes(searched)]

    def tell(self, batch: Sequence[ParameterSet], values: Sequence[Values]) -> None:
        """Record the values; sets that this proposer did not ask for (the starts) are added as trials."""
        for parameters, value in zip(batch, values, strict=True):
            if self._trial is None and self._enqueue:
                self._study.enqueue_trial({n: parameters[n] for n in self._free})
                self._trial = self._study.ask(self._distributions)
            if self._trial is not None:
                self._study.tell(self._trial, value)
                self._trial = None
            else:
                self._study.add_trial(finished_trial(parameters, self._free, value))

    @property
    def centre(self) -> None:
        """Optuna's samplers have none."""
        return None


def tpe(start: ParameterSet, free: Sequence[str], seed: int, startup: int) -> OptunaProposer:
    """Multivariate TPE, ``startup`` random sets first (about 8 ms a trial for 20 parameters and 250 trials)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True)
    return OptunaProposer(start, free, sampler)


def gaussian_process(start: ParameterSet, free: Sequence[str], seed: int, startup: int) -> OptunaProposer:
    """A Gaussian process with expected improvement, ``startup`` random sets first (about 1 s a trial at 200 trials)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup)
    return OptunaProposer(start, free, sampler)


def nsga2(start: ParameterSet, free: Sequence[str], seed: int, population: int, metrics: int) -> OptunaProposer:
    """NSGA-II: a population that spreads along the Pareto front of several metrics; the starts are in the first one."""
    sampler = optuna.samplers.NSGAIISampler(seed=seed, population_size=population)
    return OptunaProposer(start, free, sampler, metrics, enqueue=True)


class CmaEsProposer:
    """CMA-ES for mixed spaces (CatCMA with margin, by the cmaes library, with its own handling of bounds).

    Continuous parameters are searched in the normalised space, integers as the levels of theirs, choices and bools as
    categories: plain CMA-ES with choices as bins of the unit interval stays on the choices that it starts from once its
    steps are small. When it has converged or found nothing better for some generations, it starts again around the best
    set with wide steps, all choices alike and twice the population.

    With ``explore``, that many random sets come first and the first steps are wide as well: for a search that starts
    from a poor set.
    """

    def __init__(self, start: ParameterSet, free: Sequence[str], seed: int, sigma: float, explore: int = 0) -> None:
        self._wide = explore > 0
        self._explore, self._random = explore, RandomProposer(start, free, seed)
        self._space, self._seed, self._sigma, self._restarts = start.space, seed, sigma, 0
        self._best, self._best_value = start, -np.inf
        where = [(i, p) for i, p in enumerate(start.space.parameters) if p.name in set(free)]
        self._continuous = [i for i, p in where if p.kind == "continuous"]
        self._integers = [i for i, p in where if p.kind == "integer"]
        self._categories = [i for i, p in where if p.kind in ("choice", "bool")]
        self._asked: list[Any] = []
        self._cma: cmaes.CatCMAwM | None = None
        self._seen: set[str] = set()
        self._stagnant = 0

    def _new(self) -> cmaes.CatCMAwM:
        parameters = self._space.parameters
        numbers = self._continuous + self._integers
        sizes = [parameters[i].levels for i in self._categories]
        likely = np.zeros((len(sizes), max(sizes, default=0)))
        for row, i, size in zip(likely, self._categories, sizes, strict=True):
            likely_now = 1 / size if self._wide else _LIKELY
            row[:size] = (1 - likely_now) / (size - 1)
            row[self._best.codes[i]] = likely_now
        return cmaes.CatCMAwM(
            x_space=[[0.0, 1.0]] * len(self._continuous) or None,
            z_space=[_levels(parameters[i]) for i in self._integers] or None,
            c_space=sizes or None,
            mean=np.clip(self._best.unit[numbers], 0.02, 0.98) if numbers else None,
            sigma=max(self._sigma, _WIDE) if self._wide else self._sigma,
            cov=np.eye(len(numbers)) if numbers else None,
            cat_param=likely if sizes else None,
            seed=self._seed + self._restarts,
            population_size=max(4 + int(3 * np.log(len(numbers) + len(sizes))), 6) << min(self._restarts, 4),
        )

    def _set(self, x: np.ndarray | None, z: np.ndarray | None, c: np.ndarray | None) -> ParameterSet:
        unit = self._best.unit.copy()
        if x is not None:
            unit[self._continuous] = x
        if z is not None:
            unit[self._integers] = z
        if c is not None:
            for i, row in zip(self._categories, c, strict=True):
                unit[i] = self._space.parameters[i].to_unit(int(np.argmax(row)))
        return self._space.from_unit(unit, self._best)

    def ask(self) -> list[ParameterSet]:
        """One population."""
        if self._explore:
            batch = [s for _ in range(self._explore) for s in self._random.ask()]
            self._explore = 0
            return batch
        if self._cma is None:
            self._cma = self._new()
        self._asked = [self._cma.ask() for _ in range(self._cma.population_size)]
        return [
            self._set(
                s.x if self._continuous else None, s.z if self._integers else None, s.c if self._categories else None
            )
            for s in self._asked
        ]

    @property
    def best(self) -> ParameterSet:
        """The best set so far."""
        return self._best

    def revalue(self, value: float) -> None:
        """Give the best set so far another value: where values are ranks, they change with every set seen."""
        self._best_value = value

    @property
    def centre(self) -> ParameterSet | None:
        """The mean of the last population's numbers, with the choices of the best set."""
        if not self._asked or not self._continuous:
            return None
        return self._set(np.mean([s.x for s in self._asked], axis=0), None, None)

    def tell(self, batch: Sequence[ParameterSet], values: Sequence[Values]) -> None:
        """Learn from a population, or from starts told before the first one (the search begins at the best)."""
        before, new = self._best_value, {p.hash for p in batch} - self._seen
        self._seen |= new
        for parameters, (value, *_) in zip(batch, values, strict=True):
            if value > self._best_value:
                self._best, self._best_value = parameters, value
        if self._cma is None:
            return
        self._stagnant = 0 if self._best_value > before else self._stagnant + 1
        self._cma.tell([(s, -v[0]) for s, v in zip(self._asked, values, strict=True)])
        if 2 * len(new) < len(batch) or self._stagnant >= _PATIENCE:
            self._cma, self._wide, self._restarts, self._stagnant = None, True, self._restarts + 1, 0


def _levels(parameter: Parameter) -> list[float]:
    """Up to 256 levels of an integer parameter, normalised."""
    codes = np.linspace(parameter.low_code, parameter.high_code, min(parameter.levels, 256)).round().astype(int)
    return [parameter.to_unit(int(code)) for code in np.unique(codes)]


def finished_trial(
    parameters: ParameterSet, free: Sequence[str], values: Sequence[float], attributes: dict[str, Any] | None = None
) -> optuna.trial.FrozenTrial:
    """A finished Optuna trial with native values of the parameters."""
    space: ParameterSpace = parameters.space
    return optuna.trial.create_trial(
        params={n: parameters[n] for n in free},
        distributions={n: distribution(space[n]) for n in free},
        values=list(values),
        user_attrs=attributes or {},
    )


def failed_trial(
    parameters: ParameterSet, free: Sequence[str], reason: str, attributes: dict[str, Any]
) -> optuna.trial.FrozenTrial:
    """A failed Optuna trial with native values of the parameters and the reason, which has no value."""
    space: ParameterSpace = parameters.space
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.FAIL,
        params={n: parameters[n] for n in free},
        distributions={n: distribution(space[n]) for n in free},
        user_attrs={**attributes, "reason": reason},
    )
