"""Regression from simple figures of a RAW to its best parameters: per-image optima found on the device, then ridge.

A few training RAWs get a search each; what it found is regressed on metadata and simple statistics of the pixels.
Numbers are regressed in the normalised space, choices and bools are the ones that most optima have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drivers.errors import ParameterError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.regular_files import read_json
from predictor.metadata import metadata_vector
from workbench.errors import RunError
from workbench.lab.dataset import RawRecord
from workbench.lab.run_record import RECORD_BYTES
from workbench.lab.runs import write_json
from workbench.tune.balance import frame_of
from workbench.tune.material import stratified
from workbench.tune.mean_of_sets import has_order, mode_of
from workbench.tune.oracle import search_oracle
from workbench.tune.results import RegressionResult
from workbench.tune.search import Job
from workbench.tune.tuner import RANK_RAWS, Tuner

FEATURES = (
    *("iso", "iso_known", "exposure", "exposure_known", "as_shot_red", "as_shot_blue", "as_shot_known"),
    *("mean_red", "mean_green", "mean_blue", "green_p5", "green_p50", "green_p95", "clipped_share"),
)
REGRESSION = "regression.json"
"""The file's name in a run's folder."""
IMAGES = 8
CAPTURES_AN_IMAGE = 100
_LEAST_AN_IMAGE = 10
_SIGMA = 0.06
_PENALTIES = 10.0 ** np.arange(-1, 5)


def features(raw: RawRecord | RawFrame) -> np.ndarray:
    """``float64 [len(FEATURES)]``: the predictor's metadata, log2 of the planes' levels, share of clipped pixels."""
    frame = frame_of(raw)
    planes = frame.planes()
    levels = [*planes.mean(axis=(1, 2)), *np.percentile(planes[1], [5, 50, 95])]
    light = np.log2(np.maximum(levels, 1e-4))
    return np.concatenate([metadata_vector(frame), light, [float((planes.max(axis=0) > 0.98).mean())]])


@dataclass(frozen=True, eq=False)
class Regression:
    """A ridge regression to normalised parameters.

    Attributes:
        space: the device's parameters.
        mean, scale: of the features, ``[F]``.
        weights: ``[F, N]``; ``intercept``: ``[N]``, the parameters of a RAW of mean features.
        choices: code of each choice and bool, by name.
    """

    space: ParameterSpace
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    intercept: np.ndarray
    choices: dict[str, int]

    def parameters_for(self, raw: RawRecord | RawFrame) -> ParameterSet:
        """The parameters that a RAW gets, from its metadata and pixels."""
        unit = self.intercept + (features(raw) - self.mean) / self.scale @ self.weights
        return self.space.from_codes({**self.space.from_unit(unit).by_name, **self.choices})

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        arrays = {k: getattr(self, k) for k in ("mean", "scale", "weights", "intercept")}
        write_json(
            path,
            {"format": 1, "space": self.space.to_dict(), "features": FEATURES, **arrays, "choices": self.choices},
        )

    @classmethod
    def load(cls, path: Path) -> Regression:
        """A regression from its file.

        Raises:
            RunError: the file cannot be read or is not a regression.
        """
        try:
            data: Any = read_json(Path(path), RECORD_BYTES)
            if data["format"] != 1 or tuple(data["features"]) != FEATURES:
                raise RunError(f"{path}: regression of another version of the workbench; tune it again")
            space = ParameterSpace.from_dict(data["space"])
            inputs, outputs = len(FEATURES), len(space)
            shapes = {"mean": [inputs], "scale": [inputs], "intercept": [outputs], "weights": [inputs, outputs]}
            arrays = {k: np.array(data[k], dtype=np.float64).reshape(shape) for k, shape in shapes.items()}
            choices = {str(k): int(v) for k, v in data["choices"].items()}
            for name, code in choices.items():
                space[name].from_code(code)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ParameterError) as error:
            raise RunError(f"{path}: cannot be read as a regression: {error}") from error
        if not all(np.isfinite(a).all() for a in arrays.values()) or (arrays["scale"] <= 0).any():
            raise RunError(f"{path}: holds figures that are not finite, or a scale that is not above 0")
        return cls(space, choices=choices, **arrays)


def constant(parameters: ParameterSet) -> Regression:
    """The regression that gives every RAW the same set."""
    zero = np.zeros(len(FEATURES))
    return Regression(
        parameters.space, zero, zero + 1, np.zeros((len(FEATURES), len(parameters.space))), parameters.unit, {}
    )


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
        jobs = [(raw, common), (raw, regression.parameters_for(raw))]
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
    s, space = tuner.settings, tuner.info.space
    scorer = tuner.scorer
    if not tuner.task.metrics[0].per_raw:
        raise RunError(
            f"rule regression searches the best set of single images, which mAP does not judge; for --task "
            f"{s.task.partition(':')[0]} choose another rule"
        )
    first = tuner.search("regression", tuner.raws, tuner.starts, space.names, s.captures // 4, white_balance=None)
    tuner.history = list(first.history)
    common = first.best()[0][1]
    rest = s.captures - tuner.captures
    count = min(max(IMAGES, s.captures // CAPTURES_AN_IMAGE), len(tuner.train) // 2)
    images = stratified(tuner.train, count, s.seed + 1)
    reserve = min(RANK_RAWS, max(rest // 10, 2), len(tuner.train) - len(images))
    each = (rest - 2 * reserve) // max(len(images), 1)
    if len(images) < 2 or each < _LEAST_AN_IMAGE:
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
            bench, scorer, [(r, [common]) for r in images], budget=each, seed=s.seed, sigma=_SIGMA, progress=progress
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
    inputs = np.array([features(raw) for raw, _ in solved])
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
        captures_an_image=each,
        optima_score=float(np.mean([result.value for _, result in solved])),
        penalty=penalty,
        default_on_trial_raws=next((v for v, p in first.trials if p.hash == tuner.starts[0].hash), None),
        trials=len(first.trials),
        ranked_on=len(candidates[0]),
        training_scenes=tuple(sorted({r.scene for r in tuner.train})),
        **tuner.spent(),
    )
    return (constant(common), regression)[which], result
