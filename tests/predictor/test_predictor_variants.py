"""The ablations' variants of the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from toy_task import LENGTH, SPACE, ToyData, loss, render

from drivers.frames import RawFrame
from drivers.weights import WeightsError, save_weights
from predictor.files import load_predictor, save_predictor
from predictor.model import Attention, Predictor, PredictorConfig
from predictor.training import Recipe, fit

KINDS = get_args(Attention)
SIZES = [(100, 70), (32, 32), (128, 65)]


def planes(height: int, width: int, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def network(attention: Attention = "multi", encoders: int = 5, metadata: int = 0) -> Predictor:
    torch.manual_seed(0)
    return Predictor(PredictorConfig(3, 4, metadata, attention=attention, encoders=encoders)).eval()


@pytest.mark.parametrize("attention", KINDS)
@pytest.mark.parametrize("encoders", [3, 4, 5, 6])
def test_every_variant_at_any_size(attention: Attention, encoders: int) -> None:
    for metadata in (0, LENGTH):
        net = network(attention, encoders, metadata)
        told = torch.ones(2, LENGTH) if metadata else None
        for height, width in SIZES:
            image = planes(height, width)
            local, weights, direct = net.maps(image, told)
            assert local.shape == weights.shape
            assert local.shape[2:] == (-(-height // 2**encoders), -(-width // 2**encoders))
            torch.testing.assert_close(weights.sum((2, 3)), torch.ones(2, 3), atol=1e-5, rtol=0)
            torch.testing.assert_close(net(image, told), torch.sigmoid((local * weights).sum((2, 3)) + direct))
            drawn = net.attention_maps(image, told)
            assert drawn.shape == local.shape
            assert drawn.min() >= 0
            torch.testing.assert_close(drawn.sum((2, 3)), torch.ones(2, 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("attention", KINDS)
def test_gradients_reach_every_weight(attention: Attention) -> None:
    net = network(attention, metadata=LENGTH)
    (
        net(planes(128, 128), torch.rand(2, LENGTH, generator=torch.Generator().manual_seed(0))) - 0.3
    ).square().sum().backward()
    without = {n for n, w in net.named_parameters() if w.grad is None or not torch.any(w.grad.abs() > 0)}
    # A shift of a whole map, which a softmax does not see.
    assert without <= {"attention.2.bias"}


def test_without_attention_the_local_predictions_are_averaged() -> None:
    net = network("none")
    image = planes(96, 64)
    local = net.maps(image)[0]
    torch.testing.assert_close(net.logits(image), local.mean((2, 3)))
    assert not any("attention" in name or "levels" in name for name in net.state_dict())


def test_single_attention_has_one_map_of_several_regions_for_all_parameters() -> None:
    image = planes(128, 128)
    one, many = network("single").maps(image)[1], network("multi").maps(image)[1]
    assert all(torch.equal(one[:, 0], one[:, i]) for i in range(3))
    assert one[0, 0].std() > 0
    assert not torch.allclose(many[:, 0], many[:, 1], atol=1e-5)


def test_self_attention_lets_a_region_change_what_another_says() -> None:
    image = planes(128, 128, batch=1)
    changed = image.clone()
    changed[:, :, :8, :8] = 1 - changed[:, :, :8, :8]
    cases: list[tuple[Attention, bool]] = [("self", True), ("none", False)]
    for attention, far in cases:
        net = network(attention)
        moved = (net.maps(image)[0] - net.maps(changed)[0])[0, :, -1, -1].abs().max()
        assert bool(moved > 0) is far, attention


@pytest.mark.parametrize("attention", KINDS)
def test_self_made_variants_are_saved_and_loaded(attention: Attention, tmp_path: Path) -> None:
    net = network(attention, encoders=4)
    save_predictor(tmp_path, net, SPACE, "model/1/abc")
    loaded = load_predictor(tmp_path)
    assert loaded.network.config == net.config
    mosaic = np.random.default_rng(0).integers(0, 1024, (128, 128), dtype=np.uint16)
    maps = loaded.attention(RawFrame(mosaic, "RGGB", (0, 0, 0, 0), 1023))
    assert maps.shape == (3, 4, 4)


def test_weights_of_before_the_variants_load(tmp_path: Path) -> None:
    net = network()
    config = {k: v for k, v in net.config.to_dict().items() if k not in ("attention", "encoders")}
    description = {"config": config, "space": SPACE.to_dict(), "device": "d", "longest": 512, "mirrored": False}
    save_weights(tmp_path, "predictor", net.state_dict(), description)
    assert load_predictor(tmp_path).network.config == net.config


@pytest.mark.parametrize("wrong", [{"encoders": 2}, {"encoders": 7}, {"attention": "both"}])
def test_a_variant_that_there_is_not(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"2 encoders|7 encoders|'both' is not one of"):
        PredictorConfig(3, **wrong)
    net = network()
    description = {"config": {**net.config.to_dict(), **wrong}, "space": SPACE.to_dict(), "device": "d"}
    save_weights(tmp_path, "predictor", net.state_dict(), {**description, "longest": 512, "mirrored": False})
    with pytest.raises(WeightsError, match="do not fit their description"):
        load_predictor(tmp_path)


@pytest.mark.parametrize(("attention", "encoders"), [("none", 3), ("single", 5), ("self", 4), ("multi", 6)])
def test_the_recipe_chooses_the_variant_and_it_learns(attention: Attention, encoders: int) -> None:
    recipe = Recipe(steps=40, batch=16, width=4, learning_rate=1e-2, attention=attention, encoders=encoders)

    def held_out(recipe: Recipe) -> tuple[Predictor, float]:
        start = np.full(3, 0.9)
        return fit(ToyData(), SPACE, render, loss, recipe, metadata_length=LENGTH, start=start)[:2]

    net, learned = held_out(recipe)
    assert (net.config.attention, net.config.encoders) == (attention, encoders)
    assert learned < 0.6 * held_out(replace(recipe, steps=1))[1]
