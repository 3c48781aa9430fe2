from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from toy_task import SPACE

from drivers.errors import WorkbenchError
from drivers.frames import RawFrame
from drivers.weights import FILE_NAME, WeightsError, save_weights
from predictor.files import input_planes, load_predictor, save_predictor
from predictor.metadata import LENGTH, balanced, metadata_vector
from predictor.model import ENCODERS, Attention, Predictor, PredictorConfig, gflop
from predictor.view import INPUT_SIDE, View


def planes(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def network(metadata: int = 0, parameters: int = 6, width: int = 8) -> Predictor:
    torch.manual_seed(0)
    return Predictor(PredictorConfig(parameters, width, metadata)).eval()


def raw(height: int = 64, width: int = 64, **metadata: Any) -> RawFrame:
    mosaic = np.random.default_rng(0).integers(0, 1024, (height, width), dtype=np.uint16)
    return RawFrame(mosaic, "RGGB", (0, 0, 0, 0), 1023, **metadata)


def test_five_encoders_with_doubling_channels() -> None:
    encoders = network(width=8).encoders
    assert len(encoders) == ENCODERS == 5
    channels = [3]
    for encoder in encoders:
        assert isinstance(encoder, nn.Sequential)
        convolution, activation, pool = encoder
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(activation, nn.ReLU)
        assert isinstance(pool, nn.MaxPool2d)
        assert (convolution.kernel_size, convolution.in_channels, pool.kernel_size) == ((3, 3), channels[-1], 2)
        channels.append(convolution.out_channels)
    assert channels == [3, 8, 16, 32, 64, 128]


def test_one_by_one_convolution_for_each_parameter() -> None:
    local = network(parameters=6, width=8).local
    assert (local.in_channels, local.out_channels, local.kernel_size) == (128, 6, (1, 1))


@pytest.mark.parametrize(("height", "width", "map_size"), [(64, 96, (2, 3)), (256, 128, (8, 4)), (32, 32, (1, 1))])
def test_map_sizes(height: int, width: int, map_size: tuple[int, int]) -> None:
    local, weights, _ = network().maps(planes(2, height, width))
    assert local.shape == weights.shape == (2, 6, *map_size)


@settings(deadline=None, max_examples=20)
@given(height=st.integers(32, 150), width=st.integers(32, 150), metadata=st.booleans())
def test_any_size(height: int, width: int, metadata: bool) -> None:
    net = network(LENGTH if metadata else 0)
    given_metadata = torch.zeros(2, LENGTH) if metadata else None
    local, weights, _ = net.maps(planes(2, height, width), given_metadata)
    assert local.shape == weights.shape
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum((2, 3)), torch.ones(2, 6), atol=1e-5, rtol=0)
    output = net(planes(2, height, width), given_metadata)
    assert output.shape == (2, 6)
    assert output.min() > 0
    assert output.max() < 1


def test_weighted_pooling_is_equation_6() -> None:
    net = network()
    image = planes(1, 96, 96)
    local, weights, _ = net.maps(image)
    logits = torch.zeros(6)
    for i in range(6):
        for y in range(local.shape[2]):
            for x in range(local.shape[3]):
                logits[i] += weights[0, i, y, x] * local[0, i, y, x]
    torch.testing.assert_close(net(image)[0], torch.sigmoid(logits))


def test_attention_looks_at_all_five_levels() -> None:
    net = network()
    image = planes(1, 128, 128)
    _, before, _ = net.maps(image)
    for squeeze in net.levels:
        assert isinstance(squeeze, nn.Conv2d)
        kept = squeeze.weight.detach().clone()
        with torch.no_grad():
            squeeze.weight.add_(3)
            _, after, _ = net.maps(image)
            squeeze.weight.copy_(kept)
        assert not torch.allclose(before, after, atol=1e-6)


def test_each_parameter_has_its_own_map() -> None:
    _, weights, _ = network().maps(planes(1, 128, 128))
    flat = weights[0].flatten(1)
    assert not any(torch.allclose(flat[i], flat[j], atol=1e-5) for i in range(6) for j in range(i))


@pytest.mark.parametrize("attention", get_args(Attention))
@pytest.mark.parametrize(("encoders", "metadata", "statistics"), [(3, 0, 0), (5, 7, 43), (6, 7, 0)])
@pytest.mark.parametrize("size", [(64, 96), (70, 101)])
def test_the_cost_is_what_torch_counts(
    attention: Attention, encoders: int, metadata: int, statistics: int, size: tuple[int, int]
) -> None:
    config = PredictorConfig(20, 8, metadata, attention=attention, encoders=encoders, statistics=statistics)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        Predictor(config).logits(torch.zeros(1, 3, *size), torch.zeros(1, config.told) if config.told else None)
    assert gflop(config, *size) == pytest.approx(counter.get_total_flops() / 1e9, rel=1e-12)


def test_cost_is_the_papers() -> None:
    paper = gflop(PredictorConfig(parameters=32, width=32), 1536, 2048)
    assert paper == pytest.approx(129.39, rel=0.1)
    assert gflop(PredictorConfig(32, 32), 768, 1024) == pytest.approx(paper / 4, rel=0.01)
    assert gflop(PredictorConfig(32, 16), 1536, 2048) < paper / 3


def test_image_only_ignores_metadata() -> None:
    net = network()
    image = planes(2, 64, 64)
    assert torch.equal(net(image), net(image, torch.ones(2, LENGTH)))
    assert not any("metadata" in name or "direct" in name for name in net.state_dict())


def test_metadata_change_the_prediction_and_must_be_there() -> None:
    net = network(LENGTH)
    image = planes(1, 64, 64)
    assert not torch.allclose(net(image, torch.zeros(1, LENGTH)), net(image, torch.ones(1, LENGTH)), atol=1e-5)
    with pytest.raises(ValueError, match="needs metadata"):
        net(image)


def test_statistics_enter_standardised_and_within_bounds() -> None:
    net = Predictor(PredictorConfig(3, 4, 2, statistics=2)).eval()
    net.standardise(torch.tensor([[0.0, 7.0], [10.0, 7.0]]))
    image, metadata = planes(1, 32, 32), [0.5, 1.0]

    def logits(*statistics: float) -> torch.Tensor:
        return net.logits(image, torch.tensor([[*metadata, *statistics]]))

    assert not torch.equal(logits(0.0, 7.0), logits(5.0, 7.0))
    # Beyond 2.5 deviations of the training RAWs a statistic says no more; one that never varied counts as it is.
    assert torch.equal(logits(5 + 5 * 2.5, 7.0), logits(1e6, 7.0))
    assert not torch.equal(logits(5.0, 7.5), logits(5.0, 7.0))
    again = Predictor(net.config)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.logits(image, torch.tensor([[*metadata, 3.0, 7.0]])), logits(3.0, 7.0))


@pytest.mark.parametrize("metadata", [0, LENGTH])
def test_gradients_reach_every_weight(metadata: int) -> None:
    net = network(metadata)
    target = planes(1, 2, 6)[0, :2]
    output = net(planes(2, 128, 128), torch.rand(2, metadata, generator=torch.Generator().manual_seed(0)))
    (output - target).square().sum().backward()
    # The attention's last bias shifts a whole map, which a softmax does not see.
    without = [n for n, w in net.named_parameters() if w.grad is None or not torch.any(w.grad != 0)]
    assert [n for n in without if n != "attention.2.bias"] == []


def test_start_at() -> None:
    torch.manual_seed(3)
    net = Predictor(PredictorConfig(4, 16, LENGTH)).eval()
    start = torch.tensor([0.1, 0.5, 0.75, 0.98])
    net.start_at(torch.logit(start))
    for seed in range(3):
        predicted = net(planes(1, 64, 64, seed), torch.zeros(1, LENGTH))[0]
        assert (torch.logit(predicted) - torch.logit(start)).abs().max() < 1.0
    with torch.no_grad():
        net.local.weight.zero_()
        net.direct.weight.zero_()
    torch.testing.assert_close(net(planes(1, 64, 64), torch.zeros(1, LENGTH))[0], start)


def test_metadata_vector() -> None:
    full = metadata_vector(raw(iso=800, exposure_s=0.01, as_shot_wb=(2.0, 1.0, 1.5)))
    assert full.shape == (LENGTH,)
    assert full.dtype == np.float32
    np.testing.assert_allclose(full, [0, 1, 0, 1, 0.5, 2 * np.log2(1.5) - 1.5, 1], atol=1e-6)
    assert metadata_vector(raw(iso=6400))[0] > metadata_vector(raw(iso=100))[0]
    # Gains count relative to green.
    np.testing.assert_allclose(metadata_vector(raw(as_shot_wb=(4.0, 2.0, 3.0)))[4:], full[4:], atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value", "places"),
    [("iso", 100.0, (0, 1)), ("exposure_s", 0.5, (2, 3)), ("as_shot_wb", (1.3, 1.0, 2.2), (4, 5, 6))],
)
def test_missing_metadata_are_zero_and_flagged(field: str, value: Any, places: tuple[int, ...]) -> None:
    assert not metadata_vector(raw()).any()
    only = metadata_vector(raw(**{field: value}))
    assert set(np.flatnonzero(only)) == set(places)
    assert only[places[-1]] == 1


def test_balanced_metadata_are_those_of_the_changed_raw() -> None:
    # Red pixels twice as bright need half the gain.
    changed = balanced(metadata_vector(raw(iso=100, as_shot_wb=(2.0, 1.0, 1.5))), 2.0, 0.5)
    np.testing.assert_allclose(changed, metadata_vector(raw(iso=100, as_shot_wb=(1.0, 1.0, 3.0))), atol=1e-6)
    assert not balanced(metadata_vector(raw()), 2.0, 0.5).any()


@pytest.mark.parametrize("size", [(128, 128), (2, 2), (20, 300), (2050, 1030), (1024, 64), (3000, 4000)])
def test_input_planes(size: tuple[int, int]) -> None:
    mosaic = np.full(size, 512, np.uint16)
    made = input_planes(RawFrame(mosaic, "BGGR", (0, 0, 0, 0), 1023))
    assert made.shape[0] == 3
    assert min(made.shape[1:]) >= 32
    assert max(made.shape[1:]) <= max(INPUT_SIDE, 32)
    torch.testing.assert_close(made, torch.full_like(made, 512 / 1023))
    if min(size) >= 64 and max(size) <= 2 * INPUT_SIDE:
        assert made.shape[1:] == (size[0] // 2, size[1] // 2)


def test_input_planes_of_a_large_raw_are_means() -> None:
    ramp = np.repeat(np.arange(1024, dtype=np.uint16)[None] * 60, 128, 0)
    frame = RawFrame(ramp, "RGGB", (0, 0, 0, 0), 65535)
    whole, small = torch.from_numpy(frame.planes()), input_planes(frame, View(128))
    assert small.shape == (3, 32, 128)
    expected = whole.view(3, 16, 4, 128, 4).mean((2, 4))
    torch.testing.assert_close(small[:, :16], expected)


def test_save_and_load(tmp_path: Path) -> None:
    for metadata in (0, LENGTH):
        net = network(metadata, parameters=len(SPACE))
        save_predictor(tmp_path, net, SPACE, "model/1/abc", longest=100)
        loaded = load_predictor(tmp_path)
        assert (loaded.space, loaded.device_identity, loaded.longest) == (SPACE, "model/1/abc", 100)
        assert loaded.metadata is bool(metadata)
        assert not loaded.network.training
        assert all(torch.equal(a, loaded.network.state_dict()[n]) for n, a in net.state_dict().items())
        frames = [raw(64, 64, iso=100), raw(80, 300)]
        sets = loaded.predict(frames)
        assert [len(s.codes) for s in sets] == [3, 3]
        with torch.no_grad():
            inputs = torch.from_numpy(metadata_vector(frames[1]))[None] if metadata else None
            unit = net(input_planes(frames[1], View(100))[None], inputs)[0].numpy()
        assert sets[1] == SPACE.from_unit(unit)
        maps = loaded.attention(frames[1])
        assert (maps.ndim, maps.shape[0], maps.dtype) == (3, 3, np.dtype(np.float32))
        np.testing.assert_allclose(maps.sum((1, 2)), 1, atol=1e-5)
    assert loaded.gflop(64, 64) == gflop(net.config, 64, 64)


def test_a_mirrored_predictor_says_the_same_of_mirror_images(tmp_path: Path) -> None:
    net = network(parameters=len(SPACE))
    torch.nn.init.normal_(net.local.weight, std=1.0)
    frame = raw(64, 96)
    # Mirrored by whole 2×2 blocks, so that the CFA stays.
    blocks = frame.mosaic.reshape(32, 2, 48, 2)[:, :, ::-1].reshape(64, 96)
    other = RawFrame(np.ascontiguousarray(blocks), frame.cfa, frame.black_level, frame.white_level)
    for mirrored in (True, False):
        save_predictor(tmp_path, net, SPACE, "model/1/abc", mirrored=mirrored)
        loaded = load_predictor(tmp_path)
        assert loaded.gflop(32, 48) == gflop(net.config, 32, 48) * (4 if mirrored else 1)
        with torch.no_grad():
            one, two = (torch.sigmoid(loaded._pooled(r)) for r in (frame, other))
        assert np.allclose(one, two, atol=1e-5) is mirrored


def test_files_that_are_no_predictor(tmp_path: Path) -> None:
    def message() -> str:
        with pytest.raises(WorkbenchError) as error:
            load_predictor(tmp_path)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no such file" in message()
    save_weights(tmp_path, "proxy", {"x": torch.zeros(1)}, {})
    assert "holds a proxy, not a predictor" in message()
    path = save_predictor(tmp_path, network(parameters=3), SPACE, "d")
    path.write_bytes(path.read_bytes()[:-10])
    assert "not a weights file" in message()
    torch.save({"x": torch.zeros(1)}, tmp_path / FILE_NAME)
    assert "not a weights file" in message()


@pytest.mark.parametrize("change", ["config", "space", "device", "longest", "width"])
def test_a_description_that_does_not_fit(tmp_path: Path, change: str) -> None:
    net = network(parameters=3)
    description: dict[str, Any] = {
        "config": net.config.to_dict(),
        "space": SPACE.to_dict(),
        "device": "d",
        "longest": 512,
    }
    if change == "width":
        description["config"]["width"] = 16
    else:
        del description[change]
    save_weights(tmp_path, "predictor", net.state_dict(), description)
    with pytest.raises(WeightsError, match="do not fit their description"):
        load_predictor(tmp_path)
