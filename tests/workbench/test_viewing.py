from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.tasks.viewing import log_loss, loss


def test_losses() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    b[1] += 0.1
    assert loss(b, a) == pytest.approx(0.005)
    assert log_loss(b, a) == pytest.approx((np.log(1e-4) + np.log(0.0101)) / 2, rel=1e-4)
    perfect = a.clone().requires_grad_()
    log_loss(perfect, a).backward()
    assert perfect.grad is not None
    assert torch.isfinite(perfect.grad).all()
