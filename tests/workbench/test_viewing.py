from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from drivers.errors import FrameError
from workbench.tasks.viewing import MAX_PSNR_DB, log_loss, loss, psnr, score, ssim


def image(level: int, height: int = 16, width: int = 20) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_psnr() -> None:
    assert psnr(image(100), image(110)) == pytest.approx(20 * np.log10(25.5))
    assert psnr(image(110), image(100)) == psnr(image(100), image(110))
    assert psnr(image(0), image(255)) == 0
    assert psnr(image(7), image(7)) == MAX_PSNR_DB
    one = image(7)
    one[0, 0, 0] += 1
    assert MAX_PSNR_DB > psnr(one, image(7)) == pytest.approx(10 * np.log10(255**2 * one.size))


def test_psnr_of_a_large_image_does_not_overflow() -> None:
    assert psnr(image(0, 1500, 1500), image(255, 1500, 1500)) == 0


def test_ssim() -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert ssim(noisy, noisy) == pytest.approx(1)
    assert ssim(noisy, image(128, 32, 32)) < 0.2
    assert ssim(noisy, 255 - noisy) < 0
    assert set(score(noisy, noisy)) == {"psnr", "ssim"}


@pytest.mark.parametrize("metric", [psnr, ssim, score])
def test_other_sizes_are_refused(metric: Callable[[np.ndarray, np.ndarray], object]) -> None:
    with pytest.raises(FrameError, match="output is 20×16, its reference 16×20"):
        metric(image(1), image(1, 20, 16))


def test_frames_smaller_than_the_window_of_ssim_are_refused() -> None:
    with pytest.raises(FrameError, match=r"output of 16×10 is too small for SSIM, whose window is 11×11"):
        ssim(image(1, 10, 16), image(2, 10, 16))
    assert -1 <= ssim(image(1, 11, 12), image(2, 11, 12)) <= 1


def test_losses() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    b[1] += 0.1
    assert loss(b, a) == pytest.approx(0.005)
    assert log_loss(b, a) == pytest.approx((np.log(1e-4) + np.log(0.0101)) / 2, rel=1e-4)
    perfect = a.clone().requires_grad_()
    log_loss(perfect, a).backward()
    assert perfect.grad is not None
    assert torch.isfinite(perfect.grad).all()
