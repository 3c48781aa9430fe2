"""Regression from simple figures of a RAW to its best parameters: per-image optima found on the device, then ridge.

A few training RAWs get a search each; what it found is regressed on metadata and simple statistics of the pixels.
Numbers are regressed in the normalised space, choices and bools are the ones that most optima have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from drivers.parameters import ParameterSet
from workbench.console.progress import each
from workbench.errors import RunError
from workbench.lab.dataset import RawRecord
from workbench.lab.stratified import stratified
from workbench.rules.mean_of_sets import has_order, mode_of
from workbench.rules.regression import REGRESSION, Regression, constant, features
from workbench.tune.oracle import search_oracle
from workbench.tune.results import RegressionResult
from workbench.tune.search import Job
from workbench.tune.spending import spent_on_rule
from workbench.tune.tuner import RANK_RAWS, Tuner

IMAGES = 8
CAPTURES_AN_IMAGE = 100
_LEAST_AN_IMAGE = 10
_SIGMA = 0.06
_PENALTIES = 10.0 ** np.arange(-1, 5)


def fit_ridge(inputs: np.ndarray, optima: Sequence[ParameterSet]) -> tuple[Regression, float]:
    """Regress the optima on the inputs ``[M, F]``; the penalty is the one of the smallest leave-one-out error.

    Returns:
        The regression and its penalty.
    """
    from sklearn.linear_model import RidgeCV

    space = optima[0].space
    mean, scale = inputs.mean(axis=0), inputs.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    ridge = RidgeCV(alphas=_PENALTIES).fit((inputs - mean) / scale, np.array([p.unit for p in optima]))
    choices = {
        p.name: mode_of(column)
        for p, column in zip(space.parameters, zip(*(best.codes for best in optima), strict=True), strict=True)
        if not has_order(p)
    }
    # Of a device with one parameter they come without the axis of the parameters.
    weights, intercept = ridge.coef_.reshape(len(space), -1).T, np.atleast_1d(ridge.intercept_)
    return Regression(space, mean, scale, weights, intercept, choices), float(ridge.alpha_)


def _ranking(
    tuner: Tuner, images: Sequence[RawRecord], common: ParameterSet, regression: Regression
) -> list[list[Job]]:
    """The jobs that rank the one set and the regression: as many RAWs not regressed on as the budget allows."""
    used, keys = {raw.hash for raw in images}, set(tuner.keys)
    others = [raw for raw in tuner.train if raw.hash not in used]
    # In an order of which every beginning is a random choice.
    order = np.random.default_rng(tuner.settings.seed + 2).permutation(len(others))
    candidates: list[list[Job]] = [[], []]
    for raw in (others[i] for i in order):
        jobs = [(raw, tuner.given(p, raw)) for p in (common, regression.parameters_for(raw))]
        keys |= {(raw.hash, p.hash) for _, p in jobs}
        if len(keys) > tuner.settings.captures and candidates[0]:
            break
        for candidate, job in zip(candidates, jobs, strict=True):
            candidate.append(job)
    return candidates


def tune_regression(tuner: Tuner) -> tuple[Regression, RegressionResult]:
    """Regress on-device optima of a few training RAWs.

    A quarter of the budget searches one set for all RAWs; from it each of the few RAWs is searched on its own. At the
    end the regression has to beat the one set on other training RAWs, or the one set is kept.
    """
    s, free = tuner.settings, tuner.searched()
    scorer = tuner.scorer
    if not tuner.task.metrics[0].per_raw:
        raise RunError(
            f"rule regression searches the best set of single images, which mAP does not judge; for --task "
            f"{s.task.partition(':')[0]} choose another rule"
        )
    first = tuner.search("regression", tuner.raws, tuner.starts, free, s.captures // 4, white_balance=None)
    tuner.history = list(first.history)
    common = first.best()[0][1]
    rest = s.captures - tuner.captures
    count = min(max(IMAGES, s.captures // CAPTURES_AN_IMAGE), len(tuner.train) // 2)
    images = stratified(tuner.train, count, s.seed + 1)
    reserve = min(RANK_RAWS, max(rest // 10, 2), len(tuner.train) - len(images))
    share = (rest - 2 * reserve) // max(len(images), 1)
    if len(images) < 2 or share < _LEAST_AN_IMAGE:
        raise RunError(
            f"{s.captures} captures and {len(tuner.train)} training RAWs are too few for the regression; give at least "
            f"{2 * IMAGES * _LEAST_AN_IMAGE} captures and 4 RAWs"
        )
    bench, spent = tuner.bench(tuner.studies[0]), tuner.captures

    def progress(done: int, _: int, best: float) -> None:
        if tuner.progress:
            tuner.progress(spent + done, s.captures, first.best()[0][0] if math.isnan(best) else best)

    try:
        found = search_oracle(
            bench,
            scorer,
            [(r, [tuner.given(common, r)]) for r in images],
            free=free,
            budget=share,
            seed=s.seed,
            sigma=_SIGMA,
            progress=progress,
        )
    finally:
        tuner.done_with(bench)
    tuner.keys.update((raw.hash, tried) for raw, result in zip(images, found, strict=True) for tried in result.tried)
    # What fails with every set of its search has no best one to learn from.
    solved = [(raw, result) for raw, result in zip(images, found, strict=True) if not result.failed]
    if len(solved) < 2:
        raise RunError(
            f"of {len(images)} training RAWs the device took no set of the search of {len(images) - len(solved)}: too "
            "few are left to regress on; give a set that it takes with --expert"
        )
    inputs = np.array([features(raw) for raw, _ in each("measure RAWs", solved)])
    regression, penalty = fit_ridge(inputs, [result.parameters for _, result in solved])
    candidates = _ranking(tuner, images, common, regression)
    values = tuner.rank(tuner.studies[0], candidates)
    scores, which = tuner.first_values(values), tuner.best_of(values)
    result = RegressionResult(
        score=scores[which],
        file=REGRESSION,
        single_set_score=scores[0],
        regression_score=scores[1],
        kept=("single set", "regression")[which],
        images=tuple(raw.name for raw, _ in solved),
        captures_an_image=share,
        optima_score=float(np.mean([result.value for _, result in solved])),
        penalty=penalty,
        **spent_on_rule(tuner, first, candidates[0]),
    )
    return (constant(common), regression)[which], result
