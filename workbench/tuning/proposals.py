"""What to try next: random, TPE (Optuna) and CMA-ES, each deterministic, so that a search is replayed, not restored.

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
from workbench.errors import RunError

METHODS = ("tpe", "cmaes", "random")
optuna.logging.set_verbosity(optuna.logging.ERROR)


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
    return min(max(round(float(value) / parameter.step), parameter.low_code), parameter.high_code)


class Proposer(Protocol):
    """Proposes parameter sets in batches and learns from their values (higher is better)."""

    def ask(self) -> list[ParameterSet]:
        """The next batch."""

    def tell(self, batch: Sequence[ParameterSet], values: Sequence[float]) -> None:
        """The values of the batch asked last."""


class RandomProposer:
    """Uniform in the normalised space."""

    def __init__(self, start: ParameterSet, free: Sequence[str], seed: int) -> None:
        self._start, self._rng = start, np.random.default_rng(seed)
        self._where = [start.space.names.index(n) for n in free]

    def ask(self) -> list[ParameterSet]:
        """One random set."""
        unit = self._start.unit.copy()
        unit[self._where] = self._rng.random(len(self._where))
        return [self._start.space.from_unit(unit)]

    def tell(self, batch: Sequence[ParameterSet], values: Sequence[float]) -> None:
        """Nothing to learn."""


class TpeProposer:
    """Optuna's multivariate TPE over native values (about 8 ms a trial for 20 parameters and 250 trials)."""

    def __init__(self, start: ParameterSet, free: Sequence[str], seed: int, startup: int) -> None:
        self._start, self._free = start, list(free)
        self._distributions = {n: distribution(start.space[n]) for n in free}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True)
        # In memory: the study on disk is written one finished trial at a time, which is faster and leaves no zombies.
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._trial: optuna.Trial | None = None

    def ask(self) -> list[ParameterSet]:
        """The next trial's set."""
        self._trial = self._study.ask(self._distributions)
        codes = dict(zip(self._start.space.names, self._start.codes, strict=True))
        codes |= {n: _code(self._start.space[n], self._trial.params[n]) for n in self._free}
        return [self._start.space.from_codes(codes)]

    def tell(self, batch: Sequence[ParameterSet], values: Sequence[float]) -> None:
        """Record the values; sets that this proposer did not ask for (the starts) are added as trials."""
        for parameters, value in zip(batch, values, strict=True):
            if self._trial is not None:
                self._study.tell(self._trial, value)
                self._trial = None
            else:
                self._study.add_trial(finished_trial(parameters, self._free, value))


class CmaEsProposer:
    """CMA-ES in the normalised space; choices and integers are bins of the unit interval, so all N are searched.

    When it has converged it starts again around the best set, with twice the population.
    """

    def __init__(self, start: ParameterSet, free: Sequence[str], seed: int, sigma: float) -> None:
        self._space, self._seed, self._sigma, self._restarts = start.space, seed, sigma, 0
        self._where = [start.space.names.index(n) for n in free]
        self._best, self._best_value = start, -np.inf
        self._asked: list[np.ndarray] = []
        self._cma: cmaes.CMA | None = None

    def _new(self) -> cmaes.CMA:
        n = len(self._where)
        population = (4 + int(3 * np.log(n))) << min(self._restarts, 4)
        # The CMA-ES matrices need two dimensions; a lone parameter gets a dummy beside it.
        mean = np.append(self._best.unit[self._where], [0.5] * (n == 1))
        return cmaes.CMA(
            mean=np.clip(mean, 0.02, 0.98),
            sigma=self._sigma,
            bounds=np.tile([0.0, 1.0], (len(mean), 1)),
            seed=self._seed + self._restarts,
            population_size=max(population, 5),
        )

    def ask(self) -> list[ParameterSet]:
        """One population."""
        if self._cma is None:
            self._cma = self._new()
        self._asked = [self._cma.ask() for _ in range(self._cma.population_size)]
        batch = []
        for x in self._asked:
            unit = self._best.unit.copy()
            unit[self._where] = x[: len(self._where)]
            batch.append(self._space.from_unit(unit))
        return batch

    def tell(self, batch: Sequence[ParameterSet], values: Sequence[float]) -> None:
        """Learn from a population, or from starts told before the first one (the best becomes the mean)."""
        for parameters, value in zip(batch, values, strict=True):
            if value > self._best_value:
                self._best, self._best_value = parameters, value
        if self._cma is None or not self._asked:
            return
        self._cma.tell([(x, -v) for x, v in zip(self._asked, values, strict=True)])
        self._asked = []
        if self._cma.should_stop() or np.ptp(values) == 0:
            self._cma, self._restarts = None, self._restarts + 1


def new_proposer(
    method: str, start: ParameterSet, free: Sequence[str], seed: int, *, sigma: float = 0.2, trials: int = 200
) -> Proposer:
    """The proposer of a method.

    Args:
        method: one of :data:`METHODS`.
        start: parameters not searched keep its values; CMA-ES starts there.
        free: names of the parameters to search.
        seed: of everything random.
        sigma: CMA-ES's first step, in normalised units.
        trials: how many trials the search will have (TPE draws a tenth of them, 10 to 40, at random).

    Raises:
        RunError: unknown method, or nothing to search.
    """
    if not free:
        raise RunError(f"{start.space.name}: no parameter is left to search")
    if method == "cmaes":
        return CmaEsProposer(start, free, seed, sigma)
    if method == "tpe":
        return TpeProposer(start, free, seed, min(max(trials // 10, 10), 40))
    if method == "random":
        return RandomProposer(start, free, seed)
    raise RunError(f"method {method!r} is not one of {', '.join(METHODS)}")


def finished_trial(
    parameters: ParameterSet, free: Sequence[str], value: float, attributes: dict[str, Any] | None = None
) -> optuna.trial.FrozenTrial:
    """A finished Optuna trial with native values."""
    space: ParameterSpace = parameters.space
    return optuna.trial.create_trial(
        params={n: parameters[n] for n in free},
        distributions={n: distribution(space[n]) for n in free},
        value=value,
        user_attrs=attributes or {},
    )
