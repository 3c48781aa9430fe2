from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_task
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toy_task import LENGTH, SPACE, ToyData

from drivers.parameters import ParameterSpace
from predictor import training
from predictor.model import Predictor
from predictor.training import Example, Quantiser, Recipe, TrainingStep, evaluate, fit, paper_recipe

QUICK = Recipe(steps=6, batch=4, width=4, learning_rate=1e-2)
MIXED = ParameterSpace.from_dict(
    {
        "name": "mixed",
        "parameters": [
            toy_task._number("number"),
            {"name": "count", "block": "a", "kind": "integer", "low": -2, "high": 9, "default": 0},
            {"name": "choice", "block": "a", "kind": "choice", "choices": ["x", "y", "z"], "default": "x"},
            {"name": "flag", "block": "a", "kind": "bool", "default": False},
            {"name": "size", "block": "a", "kind": "integer", "low": 1, "high": 64, "scale": "log", "default": 1},
        ],
    }
)


MIDDLE = np.array([0.5, 0.5, 0.5])


def run(recipe: Recipe, **more: Any) -> tuple[Predictor, float, list[TrainingStep]]:
    steps: list[TrainingStep] = []
    net, held_out, *_ = fit(
        more.pop("data", ToyData()),
        SPACE,
        more.pop("render", toy_task.render),
        toy_task.loss,
        recipe,
        metadata_length=LENGTH,
        **{"start": MIDDLE, "on_step": steps.append, **more},
    )
    return net, held_out, steps


@pytest.mark.parametrize("metadata", [True, False])
def test_a_fit_improves_the_held_out_loss(metadata: bool) -> None:
    recipe = Recipe(steps=90, batch=16, width=4, learning_rate=1e-2, metadata=metadata)
    net, best, steps = run(recipe, start=np.array([0.5, 0.5, 0.5]))
    # Predicting one half for everything costs about 1/12; without metadata half of that cannot be known.
    assert best < (0.02 if metadata else 0.07)
    assert best == min(s.held_out for s in steps if s.held_out is not None)
    measured = evaluate(net, ToyData(), toy_task.render, toy_task.loss, Quantiser(SPACE))
    assert measured == pytest.approx(best, rel=1e-4)
    assert bool(net.config.metadata) is metadata


def test_seeds_repeat_exactly() -> None:
    (one, first, _), (other, again, _), (third, _, _) = (run(replace(QUICK, seed=s)) for s in (5, 5, 6))
    assert first == again
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), third.parameters(), strict=True))


class Watched(torch.optim.RMSprop):
    """Notes the learning rate of each step."""

    rates: list[float] = []  # noqa: RUF012

    def step(self, closure: Any = None) -> Any:
        Watched.rates.append(self.param_groups[0]["lr"])
        return super().step(closure)


def test_recipe_paper_is_section_5_1(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = paper_recipe(seed=4)
    assert (recipe.optimiser, recipe.metadata, recipe.width, recipe.seed) == ("rmsprop", False, 32, 4)
    assert (recipe.epochs, recipe.steps) == (400, 0)
    monkeypatch.setattr(torch.optim, "RMSprop", Watched)
    Watched.rates = []
    # 16 RAWs in batches of 8 are 2 steps an epoch; 10 epochs, the rate drops after 5 of them.
    net, _, steps = run(replace(recipe, epochs=10, width=4))
    assert Watched.rates == [1e-4] * 10 + [1e-6] * 10
    assert [s.step for s in steps] == list(range(1, 21))
    assert {s.steps for s in steps} == {20}
    assert net.config.metadata == 0


def test_the_fast_recipe_warms_up_and_decays() -> None:
    recipe = Recipe(steps=100, learning_rate=1e-2, last_learning_rate=1e-4)
    rates = [training._rate(recipe, step, 100) for step in range(1, 101)]
    peak = int(np.argmax(rates))
    assert 2 <= peak < 15
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
    assert max(rates) <= 1e-2
    assert rates[-1] == pytest.approx(1e-4, rel=0.01)


def test_the_coarse_share_goes_through_the_cheap_part() -> None:
    seen: list[tuple[bool, bool]] = []

    def render(raw: Tensor, parameters: Tensor, whole: bool) -> Tensor:
        seen.append((torch.is_grad_enabled(), whole))
        return parameters

    run(replace(QUICK, steps=8, coarse=0.75), render=render)
    assert [whole for learning, whole in seen if learning] == [False] * 6 + [True] * 2
    assert all(whole for learning, whole in seen if not learning)


def test_start_decides_the_first_predictions() -> None:
    start = np.array([0.2, 0.9, 0.5])
    seen: list[torch.Tensor] = []

    def render(raw: Tensor, parameters: Tensor, whole: bool) -> Tensor:
        seen.append(parameters.detach())
        return parameters

    run(replace(QUICK, steps=1, metadata=False), render=render, start=start)
    assert (torch.logit(seen[0][:, :2]) - torch.logit(torch.tensor(start[:2]).float())).abs().max() < 0.8
    # A start at the very edge still leaves a gradient.
    net, _, _ = run(QUICK, start=np.array([0.0, 1.0, 0.5]))
    assert all(torch.isfinite(w).all() for w in net.parameters())


def test_without_held_out_examples_the_last_weights_stay() -> None:
    class NoCheck(ToyData):
        def held_out(self) -> Iterator[Example]:
            return iter(())

    net, held_out, _ = run(QUICK, data=NoCheck())
    assert held_out == float("inf")
    assert all(torch.isfinite(w).all() for w in net.parameters())


def test_the_best_weights_are_kept() -> None:
    calls = {"n": 0}

    def loss(parameters: Tensor, target: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return toy_task.loss(parameters, target)
        calls["n"] += 1
        return torch.tensor(float(calls["n"]))  # worse at every look

    seen: list[TrainingStep] = []
    args = (ToyData(), SPACE, toy_task.render)
    common: dict[str, Any] = {"metadata_length": LENGTH, "start": MIDDLE, "evaluations": 4}
    long, best, curve, *_ = fit(*args, loss, replace(QUICK, steps=12), on_step=seen.append, **common)
    looks = [s for s in seen if s.held_out is not None]
    assert [s.step for s in looks] == [3, 6, 9, 12]
    assert best == looks[0].held_out
    assert curve == [(s.step, s.loss, s.held_out) for s in seen if s.held_out is not None or s.step == 10]
    # What came after the first look left no trace: other evaluations, same first steps, same weights.
    weights: list[dict[str, Any]] = []
    original = training.evaluate

    def remember(network: Predictor, *rest: Any) -> float:
        weights.append({k: v.clone() for k, v in network.state_dict().items()})
        return original(network, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "evaluate", remember)
        fit(*args, toy_task.loss, replace(QUICK, steps=12), **common)
    assert all(torch.equal(v, weights[0][k]) for k, v in long.state_dict().items())
    assert not all(torch.equal(v, weights[-1][k]) for k, v in long.state_dict().items())


@pytest.mark.parametrize("metadata", [True, False])
def test_held_parameters_stay_where_they_start(metadata: bool) -> None:
    recipe = replace(QUICK, steps=20, learning_rate=1e-2, metadata=metadata)
    net, _, _ = run(recipe, start=np.array([0.5, 0.3, 0.5]), held=["hidden"])
    example = next(ToyData().held_out())
    with torch.no_grad():
        parameters = net(example.planes, example.metadata if metadata else None)
    torch.testing.assert_close(parameters[:, 1], torch.full((len(parameters),), 0.3))
    assert parameters[:, 0].std() > 1e-3


@given(st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5))
def test_quantiser_agrees_with_the_device(unit: list[float]) -> None:
    quantised = Quantiser(MIXED)(torch.tensor([unit]))[0].double().numpy()
    device = MIXED.from_unit(np.array(unit)).unit
    # Continuous values stay; the log integer, whose steps are uneven, is not rounded either.
    np.testing.assert_array_equal(quantised[[0, 4]], np.array(unit)[[0, 4]])
    for i in (1, 2, 3):
        bins = MIXED.parameters[i].levels
        # On the edge of two bins float32 may fall to either side.
        if abs(unit[i] * bins - round(unit[i] * bins)) > 1e-5 or unit[i] in (0.0, 1.0):
            assert quantised[i] == pytest.approx(device[i], abs=1e-6)


def test_quantiser_lets_gradients_straight_through() -> None:
    unit = torch.rand(3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    upstream = torch.rand(3, 5, generator=torch.Generator().manual_seed(1))
    (Quantiser(MIXED)(unit) * upstream).sum().backward()
    torch.testing.assert_close(unit.grad, upstream)


class InParts(ToyData):
    """The same batches, given in parts of 1, 1 and the rest."""

    def draw(self, batch: int, generator: torch.Generator) -> list[Example]:
        (whole,) = super().draw(batch, generator)
        cuts = [slice(0, 1), slice(1, 2), slice(2, None)]
        return [Example(whole.planes[c], whole.metadata[c], whole.raw[c], whole.target[c]) for c in cuts]


def test_a_batch_in_parts_trains_as_the_whole_batch_does() -> None:
    whole, _, _ = run(replace(QUICK, steps=3))
    parts, _, _ = run(replace(QUICK, steps=3), data=InParts())
    for name, tensor in whole.state_dict().items():
        assert torch.allclose(tensor, parts.state_dict()[name], atol=1e-5), name


class StoppedError(Exception):
    pass


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    recipe = replace(QUICK, steps=12)
    undisturbed, expected, _ = run(recipe)

    def stop(step: TrainingStep) -> None:
        if step.step == 7:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(recipe, checkpoint=tmp_path / "state", on_step=stop)
    net, held_out, steps = run(recipe, checkpoint=tmp_path / "state")
    assert [s.step for s in steps] == list(range(7, 13))  # step 6 was the last that was kept
    assert held_out == pytest.approx(expected, rel=1e-6)
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, net.state_dict()[name]), name


def test_the_state_of_another_recipe_is_not_taken_up(tmp_path: Path) -> None:
    run(replace(QUICK, seed=5), checkpoint=tmp_path)
    _, _, steps = run(QUICK, checkpoint=tmp_path)
    assert [s.step for s in steps] == list(range(1, 7))
