"""The losses of human viewing: L2 (section 5.1), and L2 with a structural term that sees texture and noise.

The structural term is of the family of MS-SSIM: how far contrast and structure in small windows are those of the
reference, in luma, at :data:`SCALES` scales (each half the size of the one before), their mean. Brightness is left to
L2. All take ``float32 [B, 3, h, w]`` images in [0, 1] and their references, and are averaged over the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from proxy.training import log_mse

SCALES = 3
WINDOW = 7
# In a loss that is no logarithm: of good pictures L2 is a few thousandths, the structural term a few tenths.
WEIGHT = 0.03
_LUMA = (0.299, 0.587, 0.114)
_C2 = 0.03**2
_STRUCTURE_FLOOR = 1e-2


def l2(output: Tensor, reference: Tensor) -> Tensor:
    """L2 loss (section 5.1)."""
    return (output - reference.to(output.device)).square().mean()


def log_l2(output: Tensor, reference: Tensor) -> Tensor:
    """Mean of the log of each image's L2 loss: minus its PSNR, up to a factor.

    The plain mean is ruled by the few worst images; the task's metric is the mean PSNR.
    """
    return log_mse(output, reference.to(output.device))


def detail(output: Tensor, reference: Tensor) -> Tensor:
    """L2 loss and :data:`WEIGHT` times the structural term."""
    return l2(output, reference) + WEIGHT * structure(output, reference.to(output.device)).mean()


def log_detail(output: Tensor, reference: Tensor) -> Tensor:
    """:func:`log_l2` and the mean of the log of each image's structural term: shares of both count alike."""
    lost = structure(output, reference.to(output.device))
    return log_l2(output, reference) + (lost + _STRUCTURE_FLOOR).log().mean()


def structure(output: Tensor, reference: Tensor) -> Tensor:
    """How much contrast and structure differ: ``[B]``, 0 of equal images, 1 of unrelated ones, up to 2 of negatives."""
    weights = torch.tensor(_LUMA, device=output.device).view(1, 3, 1, 1)
    a, b = ((image * weights).sum(1, keepdim=True) for image in (output, reference))
    lost = []
    for scale in range(SCALES):
        if scale:
            if min(a.shape[2:]) < 2 * WINDOW:
                break
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        lost.append(1 - _similarity(a, b))
    return torch.stack(lost).mean(0)


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    """The contrast-structure part of SSIM in windows of :data:`WINDOW` pixels, mean over the image: ``[B]``."""
    side = min(WINDOW, *a.shape[2:])
    # Centred first: differences of squares of nearly equal figures lose all digits.
    a, b = a - a.mean((2, 3), keepdim=True), b - b.mean((2, 3), keepdim=True)
    mean_a, mean_b = (F.avg_pool2d(x, side, stride=1) for x in (a, b))
    energy = F.avg_pool2d(a * a + b * b, side, stride=1) - mean_a * mean_a - mean_b * mean_b
    shared = F.avg_pool2d(a * b, side, stride=1) - mean_a * mean_b
    return ((2 * shared + _C2) / (energy.clamp_min(0) + _C2)).mean((1, 2, 3))
