"""A predictor on top of a rule: the difference that it learns, where it begins, and the average of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_task
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toy_task import LENGTH, ToyData

from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.weights import load_weights, save_weights
from predictor.averaging import Average
from predictor.files import LoadedPredictor, load_predictor, save_predictor
from predictor.metadata import LENGTH as METADATA
from predictor.model import Predictor, PredictorConfig, clipped
from predictor.moves import moved
from predictor.training import Example, Fitted, Quantiser, Recipe, fit

KINDS = ParameterSpace.from_dict(
    {
        "name": "kinds",
        "parameters": [
            toy_task._number("number"),
            {**toy_task._number("fine"), "step": 2.0**-40},
            {**toy_task._number("ratio"), "low": 0.25, "high": 8, "step": 1 / 256, "scale": "log", "default": 1},
            {"name": "count", "block": "b", "kind": "integer", "low": -2, "high": 9, "default": 0},
            {"name": "size", "block": "b", "kind": "integer", "low": 1, "high": 64, "scale": "log", "default": 1},
            {"name": "choice", "block": "c", "kind": "choice", "choices": ["x", "y", "z"], "default": "x"},
            {"name": "flag", "block": "c", "kind": "bool", "default": False},
        ],
    }
)
ENDS = [ParameterSet(KINDS, tuple(getattr(p, end) for p in KINDS.parameters)) for end in ("low_code", "high_code")]
SETS = st.one_of(
    st.sampled_from(ENDS),
    st.tuples(*(st.integers(p.low_code, p.high_code) for p in KINDS.parameters)).map(lambda c: ParameterSet(KINDS, c)),
)


def frame() -> RawFrame:
    dn = np.random.default_rng(0).integers(0, 1023, (64, 96), dtype=np.uint16)
    return RawFrame(dn, "RGGB", (0, 0, 0, 0), 1023, iso=800, exposure_s=0.01, as_shot_wb=(2, 1, 1.5))


def untrained(metadata: int) -> Predictor:
    torch.manual_seed(1)
    return Predictor(PredictorConfig(len(KINDS), 4, metadata, on_top=True))


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("metadata", [METADATA, 0])
def test_the_untrained_predictor_is_the_rule(tmp_path: Path, mirrored: bool, metadata: int) -> None:
    save_predictor(tmp_path, untrained(metadata), KINDS, "model/1/abc", mirrored=mirrored)
    loaded = load_predictor(tmp_path)
    assert loaded.on_top
    move = loaded.moves(frame())

    @given(SETS)
    def holds(start: ParameterSet) -> None:
        assert moved(start, move).codes == start.codes

    holds()
    with pytest.raises(ValueError, match="differences to a rule"):
        loaded.predict([frame()])


def test_what_training_renders_untrained_is_the_rule_as_the_device_has_it() -> None:
    starts = torch.tensor(np.stack([s.unit for s in (*ENDS, KINDS.defaults)]), dtype=torch.float32)
    rendered = untrained(0)(torch.rand(3, 3, 32, 32), start=starts)
    torch.testing.assert_close(Quantiser(KINDS)(rendered), starts, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="what its rule gives"):
        untrained(0)(torch.rand(3, 3, 32, 32))


def test_moves_are_followed_from_the_start_and_end_at_the_range() -> None:
    start = KINDS.defaults
    there = moved(start, np.array([0.25, 0, -1, 0.5, 0, 1, 0]))
    assert there["number"] == 0.75
    assert there["ratio"] == 0.25
    assert there["choice"] == "z"
    assert [there[n] == start[n] for n in ("fine", "size", "flag")] == [True] * 3
    assert there.codes[3] == KINDS["count"].from_unit(KINDS["count"].to_unit(0) + 0.5)


def test_beyond_the_range_the_gradient_leads_back_inside_and_not_further_out() -> None:
    values = torch.tensor([-0.5, -0.5, 0.0, 0.5, 1.0, 1.5, 1.5], requires_grad=True)
    upstream = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0])
    result = clipped(values)
    assert result.tolist() == [0, 0, 0, 0.5, 1, 1, 1]
    result.backward(upstream)
    assert values.grad is not None
    assert values.grad.tolist() == [0, -1, 1, 1, -1, 1, 0]


class OnTop(ToyData):
    """The toy task with a start that is off by a quarter; ``spoilt``: what is learnt is wrong of the held-out ones."""

    def __init__(self, spoilt: bool = False) -> None:
        self.spoilt = spoilt

    def started(self, example: Example, target: Tensor) -> Example:
        start = torch.cat([(target - 0.25).clamp(0, 1), torch.full((len(target), 1), 0.5)], 1)
        return replace(example, start=start)

    def draw(self, batch: int, generator: torch.Generator) -> list[Example]:
        return [self.started(e, e.target) for e in super().draw(batch, generator)]

    def held_out(self) -> Iterator[Example]:
        for e in super().held_out():
            yield self.started(e, e.target + 0.25 if self.spoilt else e.target)


def train(data: OnTop) -> Fitted:
    recipe = Recipe(steps=60, batch=8, width=4, learning_rate=1e-2)
    return fit(
        data, toy_task.SPACE, toy_task.render, toy_task.loss, recipe, metadata_length=LENGTH, start=None, held=["mode"]
    )


def test_a_difference_to_the_rule_is_learnt() -> None:
    found = train(OnTop())
    assert found.of_start is not None
    assert 0.03 < found.of_start < 0.07
    assert found.held_out < found.of_start / 10
    example = next(OnTop().held_out())
    assert example.start is not None
    with torch.no_grad():
        parameters = found.network(example.planes, example.metadata, example.start)
    assert torch.equal(parameters[:, 2], example.start[:, 2])  # held


def test_where_nothing_better_is_learnt_the_rule_is_kept() -> None:
    found = train(OnTop(spoilt=True))
    assert found.held_out == found.of_start
    assert not found.averaged
    assert not any(t.any() for t in (found.network.local.weight, found.network.direct.weight))


def test_the_average_is_even_at_first_and_forgets_later() -> None:
    network = untrained(0)
    average = Average(network, 100)
    assert network.local.bias is not None
    for step in range(1, 101):
        with torch.no_grad():
            network.local.bias.fill_(float(step))
        average.add(step)
        assert average.begun(step) is (step > 51)
        if step == 54:
            assert average.weights["local.bias"][0] == pytest.approx(np.mean([51, 52, 53, 54]))
    assert 90 < float(average.weights["local.bias"][0]) < 95
    with average.in_place():
        assert torch.equal(network.local.bias, average.weights["local.bias"])
    assert network.local.bias[0] == 100


def test_a_loaded_predictor_of_the_old_form_gives_no_differences(tmp_path: Path) -> None:
    save_predictor(tmp_path, Predictor(PredictorConfig(len(KINDS), 4)), KINDS, "model/1/abc")
    tensors, told = load_weights(tmp_path, "predictor")
    del told["config"]["on_top"]  # as versions wrote it that knew no rule
    save_weights(tmp_path, "predictor", tensors, told)
    loaded: LoadedPredictor = load_predictor(tmp_path)
    assert not loaded.on_top
    with pytest.raises(ValueError, match="no differences"):
        loaded.moves(frame())
