from __future__ import annotations

import numpy as np
import pytest
import torch
from gain_gamma import raw_of, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.cfa import CFA_PATTERNS, CfaPattern
from proxy import model as proxy_model
from proxy.crops import concatenate, raw_batch
from proxy.model import Proxy, ProxyConfig, demosaic_bilinear

SMALL = ProxyConfig(parameters=5, width=8, levels=3, embedding=16)


def perturbed(config: ProxyConfig = SMALL, seed: int = 0) -> Proxy:
    """An untrained network whose last layers are not zero, so that every path reaches the output."""
    torch.manual_seed(seed)
    network = Proxy(config)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return network


@settings(deadline=None, max_examples=25)
@given(height=st.integers(1, 21), width=st.integers(1, 21), cfa=st.sampled_from(CFA_PATTERNS), whole=st.booleans())
def test_any_even_size_and_cfa_order(height: int, width: int, cfa: CfaPattern, whole: bool) -> None:
    raw = raw_batch(raw_of(scene(1, 2 * height, 2 * width), cfa))
    output = perturbed()(raw, torch.full((1, 5), 0.3), residual=whole)
    assert output.shape == (1, 3, 2 * height, 2 * width)
    assert torch.isfinite(output).all()


def test_cfa_orders_agree_on_one_scene() -> None:
    rgb = scene(3)
    images = [demosaic_bilinear(b.mosaic, b.colours) for b in (raw_batch(raw_of(rgb, cfa)) for cfa in CFA_PATTERNS)]
    truth = torch.from_numpy(rgb).permute(2, 0, 1).float()
    for image in images:
        assert (image[0] - truth)[:, 2:-2, 2:-2].abs().max() < 0.01
    # Colours in the wrong place would be seen: this scene's channels differ.
    assert (truth[0] - truth[2]).abs().max() > 0.1


def test_a_batch_mixes_cfa_orders() -> None:
    raws = [raw_batch(raw_of(scene(i), cfa)) for i, cfa in enumerate(CFA_PATTERNS)]
    parameters = torch.rand(4, 5, generator=torch.Generator().manual_seed(1))
    network = perturbed().eval()
    together = network(concatenate(raws), parameters)
    alone = torch.cat([network(raw, parameters[i : i + 1]) for i, raw in enumerate(raws)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_demosaic_keeps_red_and_blue_samples() -> None:
    raw = raw_of(np.random.default_rng(0).uniform(0, 1, (8, 8, 3)), "GRBG")
    batch = raw_batch(raw)
    image = demosaic_bilinear(batch.mosaic, batch.colours)[0]
    torch.testing.assert_close(image[0, 0::2, 1::2], batch.mosaic[0, 0, 0::2, 1::2])
    torch.testing.assert_close(image[2, 1::2, 0::2], batch.mosaic[0, 0, 1::2, 0::2])


@pytest.mark.parametrize("whole", [False, True])
def test_gradients_reach_every_parameter(whole: bool) -> None:
    random = torch.Generator().manual_seed(2)
    parameters = torch.rand(2, 5, generator=random).requires_grad_()
    raw = concatenate([raw_batch(raw_of(scene(i))) for i in (1, 2)])
    (perturbed()(raw, parameters, residual=whole) * torch.rand(2, 3, 32, 32, generator=random)).sum().backward()
    assert parameters.grad is not None
    assert torch.isfinite(parameters.grad).all()
    assert (parameters.grad != 0).all()


def test_gradients_reach_every_weight() -> None:
    network = perturbed()
    raw = concatenate([raw_batch(raw_of(scene(i))) for i in (1, 2)])
    target = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    (network(raw, torch.full((2, 5), 0.4)) - target).square().mean().backward()
    without = [n for n, w in network.named_parameters() if w.grad is None or not torch.any(w.grad != 0)]
    assert without == []


def test_a_saturated_pixel_still_says_which_way() -> None:
    parameters = torch.full((1, 5), 0.5, requires_grad=True)
    perturbed()(raw_batch(raw_of(np.full((8, 8, 3), 1.02))), parameters, residual=False).sum().backward()
    assert parameters.grad is not None
    assert parameters.grad.abs().max() > 0


def test_matrices_keep_grey() -> None:
    entries = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    matrices = proxy_model._rows_of_zero(entries)
    torch.testing.assert_close(matrices.sum(2), torch.zeros(4, 3), atol=1e-5, rtol=0)
    off_diagonal = matrices[:, ~torch.eye(3, dtype=torch.bool)]
    torch.testing.assert_close(off_diagonal.sort(1).values, entries.sort(1).values)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), level=st.floats(0, 1), spread=st.floats(0, 0.5), limit=st.floats(-2, 4))
def test_equalisation_is_monotone_and_stays_in_range(seed: int, level: float, spread: float, limit: float) -> None:
    base = perturbed().base
    with torch.no_grad():
        base.histogram_limit.fill_(limit)
        thumbnail = level + spread * torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(seed))
        ramp = torch.linspace(-0.1, 1.1, 300).view(1, 1, 1, 300).expand(1, 3, 1, 300)
        mapped = base._equalised(ramp, thumbnail.clamp(0, 1))
    assert mapped.min() >= -1e-5
    assert mapped.max() <= 1 + 1e-5
    inside = mapped[0, 0, 0, 26:274]
    assert (inside.diff() >= -1e-5).all()


def test_equalisation_spreads_a_narrow_histogram() -> None:
    base = perturbed().base
    with torch.no_grad():
        base.histogram_limit.fill_(2.0)
        thumbnail = 0.4 + 0.2 * torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
        low, high = base._equalised(torch.tensor([0.4, 0.6]).view(1, 1, 1, 2).expand(1, 3, 1, 2), thumbnail)[0, 0, 0]
    assert high - low > 0.3


def test_a_crop_sees_the_whole_raw_through_its_thumbnail() -> None:
    dark, bright = raw_batch(raw_of(scene(1, 64, 64))), raw_batch(raw_of(np.clip(3 * scene(1, 64, 64), 0, 1)))
    crop = dark.mosaic[..., :32, :32]
    network = perturbed()
    same, other = (
        network(proxy_model.RawBatch(crop, b.colours, b.thumbnail, b.matrix), torch.full((1, 5), 0.5))
        for b in (dark, bright)
    )
    assert not torch.allclose(same, other, atol=1e-4)
