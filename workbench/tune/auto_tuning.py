"""Tunes the rule ``auto``: as-shot white balance sets the gains, other numbers are linear in three figures of a RAW.

The figures are log2 ISO and log2 of the mean and of the 95th percentile of its green plane, standardised over training
RAWs. First one set is searched for all RAWs, then the offsets from it and the slopes together, in the normalised space,
with separable CMA-ES: each generation is judged on training RAWs of its own, so that so many slopes do not fit the
noise of a few RAWs. What is found is the mean of the search's centres over its last half.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cmaes
import numpy as np

from drivers.parameters import ParameterSet
from workbench.console.progress import each
from workbench.errors import RunError
from workbench.lab.dataset import RawRecord
from workbench.lab.stratified import stratified
from workbench.rules.balance import WhiteBalance
from workbench.rules.mean_of_sets import has_order
from workbench.rules.regression import FEATURES, REGRESSION, Regression, constant, features
from workbench.tune.ranking import filled
from workbench.tune.results import AutoResult
from workbench.tune.search import Job, as_values
from workbench.tune.spending import spent_on_rule
from workbench.tune.tuner import Tuner

FIGURES = ("iso", "mean_green", "green_p95")
"""What the rule follows, of :data:`workbench.rules.regression.FEATURES`."""
_WHITE_BALANCE: WhiteBalance = "as-shot"
_SINGLE_SET_SHARE = 0.2
_SIGMA = 0.05
# A slope's first step, of an offset's: three slopes move a RAW's parameter together.
_SLOPE_STEP = 0.6
_MEASURED_ON = 256


class _Figures:
    """The features of RAWs, each read once."""

    def __init__(self) -> None:
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, raw: RawRecord) -> np.ndarray:
        if raw.hash not in self._known:
            self._known[raw.hash] = features(raw)
        return self._known[raw.hash]


class LinearRules:
    """The rules around one set: a vector of offsets and slopes of its searched numbers makes one of them.

    Args:
        single: the set.
        names: parameters that follow; choices and bools among them do not.
        figures: features of training RAWs ``[R, F]``, by which the three figures are standardised.

    Attributes:
        columns: places in the features of those figures that differ between RAWs.
        numbers: places of the parameters that follow.
    """

    def __init__(self, single: ParameterSet, names: Sequence[str], figures: np.ndarray) -> None:
        self._single, parameters = single, single.space.parameters
        self.numbers = [i for i, p in enumerate(parameters) if p.name in set(names) and has_order(p)]
        self._choices = {p.name: c for p, c in zip(parameters, single.codes, strict=True) if not has_order(p)}
        self._mean, self._scale = np.zeros(len(FEATURES)), np.ones(len(FEATURES))
        self.columns = []
        self._known_iso = FEATURES.index("iso_known")
        for column in (FEATURES.index(figure) for figure in FIGURES):
            values = figures[:, column]
            if FEATURES[column] == "iso":
                values = values[figures[:, self._known_iso] > 0]
            if len(values) and values.std() > 1e-6:
                self._mean[column], self._scale[column] = values.mean(), values.std()
                self.columns.append(column)
        self._mean[self._known_iso] = 1.0

    def __len__(self) -> int:
        """Offsets and slopes."""
        return len(self.numbers) * (1 + len(self.columns))

    def rule(self, moves: np.ndarray) -> Regression:
        """The rule of offsets from the set and slopes a standard deviation, ``float64 [len(self)]``."""
        offsets, *slopes = moves.reshape(1 + len(self.columns), len(self.numbers))
        intercept, weights = self._single.unit.copy(), np.zeros((len(FEATURES), len(self._single.space)))
        intercept[self.numbers] += offsets
        for column, slope in zip(self.columns, slopes, strict=True):
            weights[column, self.numbers] = slope
            if FEATURES[column] == "iso":
                # A RAW without ISO counts as one of the mean.
                weights[self._known_iso] = -weights[column] * self._mean[column] / self._scale[column]
        return Regression(
            self._single.space, self._mean, self._scale, weights, intercept, self._choices, _WHITE_BALANCE
        )


def _scores(tuner: Tuner, candidates: Sequence[Sequence[Job]], best: float) -> list[float]:
    """The metric of each candidate, given as its jobs on the same RAWs; RAWs on which all fail are left out."""
    spent = tuner.captures

    def on_frame(done: int) -> None:
        if tuner.progress:
            tuner.progress(min(spent + done, tuner.settings.captures), tuner.settings.captures, best)

    judged, _ = tuner.judged(tuner.studies[0], candidates, on_frame)
    for candidate in candidates:
        tuner.count(candidate)
    used = [i for i in range(len(candidates[0])) if any(own[i] is not None for own in judged)]
    worst = as_values(tuner.scorer.worst)[0]
    return [
        as_values(tuner.scorer.combine([own[i] for i in used]))[0]
        if used and all(own[i] is not None for i in used)
        else worst
        for own in judged
    ]


def _searched(
    tuner: Tuner, rules: LinearRules, read: _Figures, population: int, budget: int, best: float
) -> tuple[Regression, int]:
    """What a search of offsets and slopes that looks at captures until ``budget`` finds, and its generations."""
    settings, generations = tuner.settings, 0
    scale = np.repeat([1.0, *[_SLOPE_STEP] * len(rules.columns)], len(rules.numbers))
    centres = [np.zeros(len(rules))]
    search = cmaes.SepCMA(np.zeros(len(rules)), _SIGMA, seed=settings.seed, population_size=population)
    while True:
        raws = stratified(tuner.train, settings.raws_per_trial, settings.seed + 3 + generations)
        asked = [search.ask() for _ in range(population)]
        made = [rules.rule(scale * moves) for moves in asked]
        jobs = [[(raw, tuner.given(rule.at(read(raw)), raw, _WHITE_BALANCE)) for raw in raws] for rule in made]
        new = {(raw.hash, p.hash) for own in jobs for raw, p in own} - tuner.keys
        if not new or tuner.captures + len(new) > budget:
            return rules.rule(scale * np.mean(centres[len(centres) // 2 :], axis=0)), generations
        scores = _scores(tuner, jobs, best)
        search.tell([(moves, -score) for moves, score in zip(asked, scores, strict=True)])
        centres.append(search.mean.copy())
        generations += 1


def tune_auto(tuner: Tuner) -> tuple[Regression, AutoResult]:
    """Search the rule; at the end it has to beat the one set on a larger set of RAWs, or the one set is kept.

    Raises:
        RunError: the captures are too few, or no number is left to follow the figures.
    """
    s, trial = tuner.settings, len(tuner.raws)
    free, read = tuner.searched(_WHITE_BALANCE), _Figures()
    figures = np.array([read(raw) for raw in each("measure RAWs", stratified(tuner.train, _MEASURED_ON, s.seed))])
    ranked = tuner.rank_raws(tuner.raws, tuner.train, s.captures)
    budget = s.captures - 2 * len(ranked)
    size = len(LinearRules(tuner.starts[0], free, figures))
    if not size:
        raise RunError(f"rule auto: {tuner.info.space.name} has no number left to search; choose another rule")
    population = 4 + int(3 * np.log(size))
    starts = (len(tuner.starts) + 1) * trial
    generation = population * trial
    if budget < starts + generation:
        # More captures are ranked on more RAWs.
        enough = next(
            c
            for c in itertools.count(s.captures + 1)
            if c - 2 * len(tuner.rank_raws(tuner.raws, tuner.train, c)) >= starts + generation
        )
        raise RunError(f"{s.captures} captures are too few for rule auto; give at least {enough}")
    # Searches spend whole trials.
    share = min(int(_SINGLE_SET_SHARE * budget), budget - generation)
    share = max(share - share % trial, starts)
    first = tuner.search("auto", tuner.raws, tuner.starts, free, share, white_balance=_WHITE_BALANCE)
    tuner.history = list(first.history)
    best, single = first.best()[0]
    rules = LinearRules(single, free, figures)
    found, generations = _searched(tuner, rules, read, population, budget, best)
    both = (constant(single, _WHITE_BALANCE), found)
    ranked, _ = filled(tuner, [rule.parameters_for for rule in both], ranked)
    ranking = [[(raw, tuner.given(rule.parameters_for(raw), raw)) for raw in ranked] for rule in both]
    values = tuner.rank(tuner.studies[0], ranking)
    (of_single, of_rule), which = tuner.first_values(values), tuner.best_of(values)
    result = AutoResult(
        score=(of_single, of_rule)[which],
        file=REGRESSION,
        single_set_score=of_single,
        rule_score=of_rule,
        kept=("single set", "rule")[which],
        figures=tuple(FEATURES[column] for column in rules.columns),
        parameters=len(rules.numbers),
        generations=generations,
        **spent_on_rule(tuner, first, ranked),
    )
    return both[which], result
