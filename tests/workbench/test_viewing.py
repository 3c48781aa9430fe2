from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.tasks.viewing_losses import detail, l2, log_detail, log_l2, structure


def test_losses() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    b[1] += 0.1
    assert l2(b, a) == pytest.approx(0.005)
    assert log_l2(b, a) == pytest.approx((np.log(1e-4) + np.log(0.0101)) / 2, rel=1e-4)
    perfect = a.clone().requires_grad_()
    log_l2(perfect, a).backward()
    assert perfect.grad is not None
    assert torch.isfinite(perfect.grad).all()


def picture(noise: float = 0.0) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    image = (0.5 + 0.2 * torch.sin(x / 2) * torch.cos(y / 3)).expand(1, 3, 64, 64)
    return image + noise * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))


def test_the_structural_term_sees_detail_and_not_brightness() -> None:
    clean = picture()
    assert structure(clean, clean) == pytest.approx(0, abs=1e-5)
    assert structure(0.2 + clean, clean) == pytest.approx(0, abs=1e-4)
    blurred = torch.nn.functional.avg_pool2d(clean, 5, 1, 2, count_include_pad=False)
    assert structure(blurred, clean) > 0.05
    assert structure(1 - clean, clean) > 1
    # As far off in L2 by noise as by brightness.
    noisy, brighter = picture(0.05), clean + 0.05
    assert l2(noisy, clean) == pytest.approx(float(l2(brighter, clean)), rel=0.1)
    assert detail(noisy, clean) > detail(brighter, clean) + 5e-4
    assert log_detail(noisy, clean) > log_detail(brighter, clean) + 1


@pytest.mark.parametrize("side", [4, 13, 16, 64])
def test_the_structural_term_is_of_each_image_and_of_any_size(side: int) -> None:
    output = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)).requires_grad_()
    target = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    found = structure(output, target)
    assert found.shape == (2,)
    assert float(found[0].detach()) == pytest.approx(float(structure(output[:1], target[:1]).detach()), rel=1e-5)
    log_detail(output, target).backward()
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()
    flat = torch.full((1, 3, side, side), 0.5, requires_grad=True)
    log_detail(flat, torch.full((1, 3, side, side), 0.5)).backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()
