from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from drivers.frames import RawFrame
from drivers.parameters import ParameterSpace
from predictor.raw_features import LENGTH, raw_features
from predictor.response import PENALTIES, Around, Response, _of_captures, _of_terms

SPACE = ParameterSpace.from_dict(
    {
        "name": "three",
        "parameters": [
            {
                "name": "gain",
                "block": "gain",
                "kind": "continuous",
                "low": 0,
                "high": 1,
                "step": 1 / 256,
                "default": 0.5,
            },
            {
                "name": "blur",
                "block": "noise",
                "kind": "continuous",
                "low": 0,
                "high": 1,
                "step": 1 / 256,
                "default": 0.5,
            },
            {"name": "mode", "block": "tone", "kind": "choice", "choices": ["a", "b", "c"], "default": "a"},
        ],
    }
)
RAWS = 60


def material(seed: int = 0) -> tuple[np.ndarray, torch.Tensor, Around]:
    """RAWs of which one feature says where the best blur lies; mode ``c`` is the best for all."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(RAWS, 5))
    starts = np.tile(SPACE.defaults.unit, (RAWS, 1))
    raw = np.repeat(np.arange(RAWS), 12)
    unit = np.clip(starts[raw] + random.uniform(-0.2, 0.2, (len(raw), 3)), 0, 1)
    unit[:, 2] = (random.integers(3, size=len(raw)) + 0.5) / 3
    gain = true_gain(features[raw], unit) - true_gain(features[raw], starts[raw])
    return features, torch.as_tensor(starts, dtype=torch.float32), Around(raw, unit, gain)


def true_gain(features: np.ndarray, unit: np.ndarray) -> np.ndarray:
    best = 0.5 + 0.05 * np.clip(features[:, 0], -2, 2)
    result: np.ndarray = -((unit[:, 0] - 0.6) ** 2) - (unit[:, 1] - best) ** 2 + 0.01 * np.floor(unit[:, 2] * 3)
    return 100 * result


def fitted() -> tuple[Response, np.ndarray, torch.Tensor]:
    features, starts, around = material()
    response = Response(SPACE, features)
    response.fit(response.code(features), starts, around)
    return response, features, starts


def test_a_response_finds_the_best_move_of_each_raw() -> None:
    response, features, starts = fitted()
    assert response.explained > 0.8
    free = torch.ones(3, dtype=torch.bool)
    moves = response.best_moves(response.code(features), starts, 0.2, free).numpy()
    unit = starts.numpy() + moves
    assert np.abs(unit[:, 0] - 0.6).mean() < 0.03
    assert np.corrcoef(unit[:, 1], features[:, 0])[0, 1] > 0.9
    assert (np.floor(unit[:, 2] * 3) == 2).mean() > 0.9
    gains = true_gain(features, unit) - true_gain(features, starts.numpy())
    assert (gains > 0).all()


def test_moves_keep_to_the_spread_the_ranges_and_what_is_free() -> None:
    response, features, _ = fitted()
    starts = torch.tensor([[0.95, 0.02, 1 / 6]]).repeat(RAWS, 1)
    moves = response.best_moves(response.code(features), starts, 0.1, torch.tensor([True, False, False]))
    assert (moves[:, 1:] == 0).all()
    assert moves[:, 0].abs().max() <= 0.1 + 1e-6
    assert (starts + moves).max() <= 1


def test_its_gradient_is_that_of_its_gain_and_no_move_gains_nothing() -> None:
    response, features, starts = fitted()
    codes = response.code(features)[:4]
    assert response(codes, starts[:4], starts[:4]).abs().max() < 1e-5
    units = (starts[:4] + torch.tensor([0.05, -0.03, 0.1])).requires_grad_()
    response(codes, starts[:4], units).sum().backward()
    assert units.grad is not None
    for place in range(3):
        step = torch.zeros(3)
        step[place] = 1e-2
        with torch.no_grad():
            slope = (response(codes, starts[:4], units + step) - response(codes, starts[:4], units - step)) / 2e-2
        assert torch.allclose(units.grad[:, place], slope, atol=0.05, rtol=0.02)


def test_a_climb_follows_the_gradient_of_the_promise() -> None:
    response, features, starts = fitted()
    codes = response.code(features)
    random = np.random.default_rng(3)
    units = (starts + torch.as_tensor(random.uniform(-0.15, 0.15, starts.shape), dtype=torch.float32)).clamp(0, 1)
    units.requires_grad_()
    response.promise(codes, starts, units, 0.2).sum().backward()
    assert units.grad is not None
    slopes = response._slopes(codes, starts, units.detach(), 0.2)(units.detach())
    assert torch.allclose(slopes, units.grad[:, :2], atol=1e-3)


def test_beyond_the_spread_a_move_promises_no_more_than_at_its_border() -> None:
    response, features, starts = fitted()
    codes = response.code(features)
    move = torch.tensor([0.1, 0.0, 0.0])
    promises = [response.promise(codes, starts, starts + factor * move, 0.1) for factor in (1.0, 1.5, 2.0)]
    assert (promises[0] > promises[1]).all()
    assert (promises[1] > promises[2]).all()
    within = [response.promise(codes, starts, starts + factor * move, 0.4) for factor in (1.0, 2.0)]
    # The best gain lies at 0.6: with a wider spread the same move is trusted, and falls off as the device's figures do.
    assert torch.allclose(within[0], promises[0] + 0.05 * (1 - 1 / 16), atol=1e-4)


def frame(seed: int = 0, **more: Any) -> RawFrame:
    random = np.random.default_rng(seed)
    smooth = np.kron(random.uniform(0.1, 0.5, (2, 3)), np.ones((32, 32)))
    return RawFrame(np.rint(smooth * 4000 + 64).astype(np.uint16), "RGGB", (64,) * 4, 4095, **more)


def test_features_tell_noise_light_and_metadata_apart() -> None:
    plain = raw_features(frame())
    assert plain.shape == (LENGTH,)
    assert plain.dtype == np.float32
    mosaic = frame().mosaic
    noise = np.random.default_rng(1).normal(0, 60, mosaic.shape)
    noisy = raw_features(RawFrame((mosaic + noise).clip(0, 4095).astype(np.uint16), "RGGB", (64,) * 4, 4095))
    told = raw_features(frame(iso=800.0))
    assert np.abs(noisy - plain).max() > 1
    assert np.abs(noisy[:3] - plain[:3]).max() < 0.05
    assert np.flatnonzero(told != plain).min() >= LENGTH - 7


@pytest.mark.parametrize("shape", [(2, 2), (4, 6), (64, 2)])
@pytest.mark.parametrize("level", [0, 4095])
def test_features_of_any_frame_are_finite(shape: tuple[int, int], level: int) -> None:
    raw = RawFrame(np.full(shape, level, np.uint16), "RGGB", (0,) * 4, 4095)
    assert np.isfinite(raw_features(raw)).all()


def test_few_captures_and_their_terms_give_the_same_ridge() -> None:
    random = np.random.default_rng(3)
    design, gain, fold = random.normal(size=(40, 65)), random.normal(size=40), np.arange(40) % 5
    (error, weights), (of_few, few) = (ridge(design, gain, fold) for ridge in (_of_terms, _of_captures))
    for penalty in PENALTIES:
        assert of_few(penalty) == pytest.approx(error(penalty), rel=1e-9)
        np.testing.assert_allclose(few(penalty), weights(penalty), rtol=1e-8, atol=1e-12)
