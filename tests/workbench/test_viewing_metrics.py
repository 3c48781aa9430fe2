"""Properties of the metrics of human viewing: what each must see, and what it must not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from drivers.errors import FrameError
from workbench.tasks import viewing_metrics
from workbench.tasks.viewing import WORST, ViewingTask
from workbench.tasks.viewing_metrics import (
    FUNCTIONS,
    MAX_PSNR_DB,
    METRICS,
    aligned_psnr,
    delta_e,
    gradient_error,
    psnr,
    score,
    ssim,
    texture_lost,
)

SIDE = 128


def image(level: int, height: int = 16, width: int = 20) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def scene(seed: int, low: float = 0.15, high: float = 0.85) -> np.ndarray:
    """Structure at every scale, ``float [SIDE, SIDE, 3]`` in sRGB from ``low`` to ``high``: nothing is clipped."""
    random = np.random.default_rng(seed)
    scales = [s * gaussian_filter(random.normal(size=(SIDE, SIDE, 3)), (s, s, 0)) for s in (1, 3, 10)]
    whole = np.sum(scales, axis=0)
    return np.asarray(low + (high - low) * (whole - whole.min()) / np.ptp(whole))


def bytes_of(srgb: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(255 * np.clip(srgb, 0, 1)), np.uint8)


def light(srgb: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4))


def srgb(linear: np.ndarray) -> np.ndarray:
    return np.asarray(
        np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    )


def noisy(srgb_image: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    return srgb_image + np.random.default_rng(seed).normal(0, sigma, srgb_image.shape)


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
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert ssim(noise, noise) == pytest.approx(1)
    assert ssim(noise, image(128, 32, 32)) < 0.2
    assert ssim(noise, 255 - noise) < 0


@pytest.mark.parametrize("metric", [*FUNCTIONS.values(), score])
def test_other_sizes_are_refused(metric: Callable[[np.ndarray, np.ndarray], object]) -> None:
    with pytest.raises(FrameError, match="output is 20×16, its reference 16×20"):
        metric(image(1), image(1, 20, 16))


def test_frames_smaller_than_the_window_of_ssim_are_refused() -> None:
    with pytest.raises(FrameError, match=r"output of 16×10 is too small for SSIM, whose window is 11×11"):
        ssim(image(1, 10, 16), image(2, 10, 16))
    assert -1 <= ssim(image(1, 11, 12), image(2, 11, 12)) <= 1


@pytest.mark.parametrize("size", [(SIDE, SIDE), (11, 12), (250, 380)])
def test_the_same_image_is_perfect_in_every_metric(size: tuple[int, int]) -> None:
    same = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = score(same, same.copy())
    assert found == pytest.approx(
        {
            "psnr": MAX_PSNR_DB,
            "ssim": 1,
            "aligned_psnr": MAX_PSNR_DB,
            "delta_e": 0,
            "gradient_error": 0,
            "texture_lost": 0,
        },
        abs=0.02,
    )
    assert found["delta_e"] == 0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    gain=st.floats(0.3, 1.1),
    mixing=st.lists(st.floats(0, 0.2), min_size=9, max_size=9),
    sigma=st.sampled_from([0.0, 0.01, 0.03]),
)
def test_aligned_psnr_does_not_see_gain_and_matrix(seed: int, gain: float, mixing: list[float], sigma: float) -> None:
    """Nor do the figures of gradients: of the output as it is and seen through another matrix they are the same."""
    reference = scene(seed)
    output = np.clip(noisy(gaussian_filter(reference, (0.7, 0.7, 0)), sigma, seed), 0.05, 0.95)
    matrix = np.eye(3) + np.array(mixing).reshape(3, 3)
    other = srgb(light(output) @ (gain * matrix / matrix.sum(axis=1).max()).T)
    assert other.max() < 1
    first, second = (score(bytes_of(o), bytes_of(reference)) for o in (output, other))
    assert second["aligned_psnr"] == pytest.approx(first["aligned_psnr"], abs=0.3)
    assert second["gradient_error"] == pytest.approx(first["gradient_error"], rel=0.05)
    assert second["texture_lost"] == pytest.approx(first["texture_lost"], abs=0.02)


def test_aligned_psnr_sees_tone_detail_and_noise() -> None:
    reference = scene(3)
    perfect = aligned_psnr(bytes_of(srgb(0.5 * light(reference))), bytes_of(reference))
    assert perfect > 50
    for worse in (reference**1.5, gaussian_filter(reference, (1, 1, 0)), noisy(reference, 0.03)):
        darker = bytes_of(srgb(0.5 * light(np.clip(worse, 0, 1))))
        assert psnr(darker, bytes_of(reference)) < aligned_psnr(darker, bytes_of(reference)) < perfect - 10


def test_noise_does_not_make_the_aligned_picture_dark() -> None:
    """A fit to pixels would answer noise in the output with a smaller matrix, and so hide some of it."""
    reference = scene(4)
    output = bytes_of(noisy(reference, 0.1))
    brought = viewing_metrics.aligned(output, bytes_of(reference))
    assert light(brought).mean() == pytest.approx(light(reference).mean(), rel=0.02)
    assert aligned_psnr(output, bytes_of(reference)) == pytest.approx(psnr(output, bytes_of(reference)), abs=0.2)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), damage=st.sampled_from(["noise", "blown", "black", "grey", "other"]))
def test_aligned_psnr_is_never_below_psnr(seed: int, damage: str) -> None:
    reference = bytes_of(scene(seed, 0, 1))
    output = {
        "noise": bytes_of(noisy(scene(seed, 0, 1), 0.2)),
        "blown": bytes_of(4 * scene(seed, 0, 1)),
        "black": np.zeros_like(reference),
        "grey": np.full_like(reference, 90),
        "other": bytes_of(scene(seed + 1)),
    }[damage]
    found = score(output, reference)
    assert found["aligned_psnr"] >= found["psnr"]
    assert all(np.isfinite(value) for value in found.values())
    assert 0 <= found["texture_lost"] <= 1


def test_a_blown_out_picture_is_not_aligned() -> None:
    reference = bytes_of(scene(5))
    white = np.full_like(reference, 255)
    assert aligned_psnr(white, reference) == pytest.approx(psnr(white, reference))


def test_clipped_pixels_do_not_sway_the_matrix() -> None:
    dark = scene(6, 0.1, 0.6)
    reference, output = bytes_of(dark), bytes_of(srgb(0.5 * light(dark)))
    output[:, :30], reference[:, :30] = 255, 200
    brought = viewing_metrics.aligned(output, reference)[:, 40:]
    assert np.abs(brought - reference[:, 40:] / 255).max() < 0.02


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), amount=st.sampled_from([0.5, 0.8, 1.2, 2.0]), more=st.floats(1.3, 3))
def test_blur_and_noise_raise_the_gradient_error_and_only_blur_loses_texture(
    seed: int, amount: float, more: float
) -> None:
    plain = scene(seed)
    reference = bytes_of(plain)
    blurred = [bytes_of(gaussian_filter(plain, (s, s, 0))) for s in (amount, more * amount)]
    with_noise = [bytes_of(noisy(plain, 0.02 * s, seed)) for s in (amount, more * amount)]
    for outputs in (blurred, with_noise):
        first, second = (gradient_error(o, reference) for o in outputs)
        assert 0 < first < second
    assert 0.03 < texture_lost(blurred[0], reference) < texture_lost(blurred[1], reference)
    assert texture_lost(with_noise[1], reference) < 0.15


def test_delta_e_is_of_the_colour_and_of_every_few_pixels_of_a_large_image() -> None:
    assert delta_e(image(100), image(110)) == pytest.approx(3.7, abs=1)
    small = bytes_of(scene(8))
    tinted = bytes_of(scene(8) * [1.05, 1, 0.95])
    large, large_tinted = (np.tile(i, (3, 4, 1)) for i in (small, tinted))
    assert delta_e(tinted, small) > 1
    assert delta_e(large_tinted, large) == pytest.approx(delta_e(tinted, small), rel=0.05)


def test_each_metric_alone_is_that_of_all_together() -> None:
    output, reference = bytes_of(noisy(scene(9), 0.02)), bytes_of(scene(9))
    found = score(output, reference)
    assert list(found) == [m.key for m in METRICS] == list(FUNCTIONS) == list(WORST)
    assert {key: function(output, reference) for key, function in FUNCTIONS.items()} == found
    assert ViewingTask.search_metrics == tuple(found)
