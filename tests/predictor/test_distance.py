from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_task import SPACE

from drivers.frames import RawFrame
from drivers.weights import FILE_NAME, WeightsError, save_weights
from predictor.distance import FOLDER, Distance, apply_declining, fit_distance, load_distance
from predictor.files import load_predictor, save_predictor
from predictor.metadata import LENGTH
from predictor.model import Predictor, PredictorConfig


def raw(seed: int, level: float = 0.3, noise: float = 0.02, **metadata: Any) -> RawFrame:
    """A smooth picture with a little noise, as the training RAWs are."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64] / 64
    picture = level * (1 + 0.5 * np.sin(random.uniform(2, 6) * x + random.uniform(2, 6) * y))
    dn = np.clip(1023 * (picture + noise * random.standard_normal((64, 64))), 0, 1023).astype(np.uint16)
    given = {"iso": 100.0 * 2 ** float(random.uniform(0, 4)), "exposure_s": 0.01, "as_shot_wb": (2.0, 1.0, 1.5)}
    return RawFrame(dn, "RGGB", (0, 0, 0, 0), 1023, **{**given, **metadata})


@pytest.fixture(params=[0, LENGTH])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    torch.manual_seed(0)
    save_predictor(tmp_path, Predictor(PredictorConfig(len(SPACE), 4, request.param)), SPACE, "model/1/abc")
    return tmp_path


def fit(folder: Path, **how: Any) -> Distance:
    return fit_distance(folder, (raw(i) for i in range(60)), (raw(i) for i in range(100, 130)), **how)


def test_raws_like_those_of_training_are_near_and_others_far(folder: Path) -> None:
    distance, predictor = fit(folder), load_predictor(folder)
    assert distance.limit is not None
    trained = [distance.of(predictor, raw(i)) for i in range(60)]
    assert np.sqrt(np.mean(np.square(trained))) == pytest.approx(1, abs=0.35)
    alike = [distance.of(predictor, raw(i)) for i in range(200, 240)]
    assert np.mean([distance.declines(d) for d in alike]) <= 0.2
    for odd in (raw(300, noise=0.4), raw(301, level=0.9), raw(302, level=0.002, noise=0.0)):
        assert distance.of(predictor, odd) > max(alike)
        assert distance.declines(distance.of(predictor, odd))


def test_metadata_count_where_they_are_inputs(folder: Path) -> None:
    distance, predictor = fit(folder), load_predictor(folder)
    known, odd, missing = (
        distance.of(predictor, raw(5, **given)) for given in ({}, {"iso": 409600.0}, {"as_shot_wb": None})
    )
    if predictor.metadata:
        assert distance.declines(odd)
        assert distance.declines(missing)
        assert math.isfinite(missing)
        assert not distance.declines(known)
    else:
        assert known == odd == missing


def test_the_limit_is_the_stated_quantile_of_the_validation_raws(folder: Path) -> None:
    for quantile in (0.5, 1.0):
        distance, predictor = fit(folder, quantile=quantile), load_predictor(folder)
        beyond = [distance.declines(distance.of(predictor, raw(i))) for i in range(100, 130)]
        assert np.mean(beyond) == pytest.approx(1 - quantile, abs=0.03)
        assert distance.quantile == quantile


def test_it_is_kept_beside_the_weights(folder: Path) -> None:
    assert load_distance(folder) is None
    distance, predictor = fit(folder), load_predictor(folder)
    again = load_distance(folder)
    assert again is not None
    assert (again.limit, again.quantile) == (distance.limit, distance.quantile)
    assert again.of(predictor, raw(7)) == distance.of(predictor, raw(7))


def test_without_validation_raws_nothing_is_declined(folder: Path) -> None:
    distance = fit_distance(folder, [raw(i) for i in range(8)], [])
    assert distance.limit is None
    assert not distance.declines(1e9)
    kept = load_distance(folder)
    assert kept is not None
    assert kept.limit is None


def test_one_training_raw_is_enough_to_be_measured_against(folder: Path) -> None:
    distance, predictor = fit_distance(folder, [raw(0)], [raw(1)]), load_predictor(folder)
    assert distance.of(predictor, raw(0)) == pytest.approx(0, abs=1e-6)
    assert distance.limit is not None
    assert 0 < distance.limit < math.inf


def test_files_that_are_no_distance(folder: Path) -> None:
    fit(folder)
    path = folder / FOLDER / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(WeightsError, match="not a weights file"):
        load_distance(folder)
    for tensors, told in (
        ({"mean": torch.zeros(3)}, {"limit": 1.0, "quantile": 0.9, "metadata": 0}),
        ({"mean": torch.zeros(3), "whiten": torch.zeros(2, 3)}, {"limit": 1.0, "quantile": 0.9, "metadata": 0}),
        ({"mean": torch.zeros(3), "whiten": torch.eye(3)}, {"limit": 1.0}),
        ({"mean": torch.zeros(3), "whiten": torch.eye(3)}, {"limit": "far", "quantile": 0.9, "metadata": 0}),
    ):
        save_weights(folder / FOLDER, "distance", tensors, told)
        with pytest.raises(WeightsError, match="does not fit its description"):
            load_distance(folder)


def test_declined_raws_get_the_fixed_set() -> None:
    fixed, predicted = SPACE.defaults, SPACE.from_unit(np.full(len(SPACE), 0.9))
    assert apply_declining([predicted] * 3, [0.5, 1.0, 1.01], 1.0, fixed) == (predicted, predicted, fixed)
    assert apply_declining([predicted] * 2, [0.5, 99.0], None, fixed) == (predicted, predicted)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        apply_declining([predicted] * 2, [0.5], 1.0, fixed)
