"""Human viewing: how near an output is to its reference (section 5.4: L2 loss, PSNR and SSIM)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drivers.errors import FrameError

if TYPE_CHECKING:
    from torch import Tensor

# An exact match has no finite PSNR; this cap keeps means finite and is far above what an 8-bit JPEG reaches.
MAX_PSNR_DB = 99.0
# Side of the Gaussian window: 2 · round(3.5 · 1.5) + 1 pixels.
SSIM_WINDOW = 11


def loss(output: Tensor, reference: Tensor) -> Tensor:
    """L2 loss (section 5.1) of ``float32 [B, 3, h, w]`` images in [0, 1], averaged over the batch."""
    return (output - reference.to(output.device)).square().mean()


def log_loss(output: Tensor, reference: Tensor) -> Tensor:
    """Mean over the batch of the log of each image's L2 loss: minus its PSNR, up to a factor.

    The plain mean is ruled by the few worst images; the task's metric is the mean PSNR.
    """
    return ((output - reference.to(output.device)).square().mean((1, 2, 3)) + 1e-4).log().mean()


def psnr(output: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two ``uint8 [H, W, 3]`` images, at most ``MAX_PSNR_DB``.

    Raises:
        FrameError: the sizes differ.
    """
    _check(output, reference)
    difference = output.astype(np.int16) - reference
    mse = float(np.einsum("ijk,ijk->", difference, difference, dtype=np.int64, casting="unsafe")) / difference.size
    return MAX_PSNR_DB if mse == 0 else min(10 * np.log10(255.0**2 / mse), MAX_PSNR_DB)


def ssim(output: np.ndarray, reference: np.ndarray) -> float:
    """Mean structural similarity of two ``uint8 [H, W, 3]`` images (Gaussian window, sigma 1.5), in [-1, 1].

    Raises:
        FrameError: the sizes differ, or a side is shorter than the window.
    """
    from skimage.metrics import structural_similarity

    _check(output, reference)
    if min(output.shape[:2]) < SSIM_WINDOW:
        raise FrameError(
            f"output of {output.shape[1]}×{output.shape[0]} is too small for SSIM, whose window is "
            f"{SSIM_WINDOW}×{SSIM_WINDOW}: give larger RAWs"
        )
    return float(
        structural_similarity(
            output, reference, channel_axis=2, data_range=255, gaussian_weights=True, use_sample_covariance=False
        )
    )


def score(output: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Both metrics of the task: ``psnr`` in dB and ``ssim``."""
    return {"psnr": psnr(output, reference), "ssim": ssim(output, reference)}


def _check(output: np.ndarray, reference: np.ndarray) -> None:
    if output.shape != reference.shape:
        raise FrameError(
            f"output is {output.shape[1]}×{output.shape[0]}, its reference {reference.shape[1]}×{reference.shape[0]}: "
            "give a reference of the device's output size"
        )
