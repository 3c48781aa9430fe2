"""Each block of the emulated ISP on its own."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.cfa import CFA_PATTERNS
from drivers.frames import RawFrame
from sim.isp.black_level import subtract_black
from sim.isp.colour import BUILT_IN_MATRIX, matrix_codes, transform_colour
from sim.isp.compression import compress
from sim.isp.defect_correction import correct_defects
from sim.isp.demosaic import demosaic, suppress_false_colour
from sim.isp.formats import COMPANDED_WHITE, LINEAR_WHITE, align, compand, from_ycc, to_ycc
from sim.isp.noise_reduction import reduce_noise
from sim.isp.sharpening import sharpen
from sim.isp.tone import (
    adjust_local_contrast,
    adjust_saturation,
    apply_curve,
    equalise,
    tone_curve,
)
from sim.isp.white_balance import apply_gains
from sim.isp.yuv_noise_reduction import reduce_chroma_noise, reduce_luma_noise

METHODS = ("bilinear", "malvar", "edge_aware")
NO_BLACK = (0.0, 0.0, 0.0, 0.0)


def mosaic_of(rgb: np.ndarray, cfa: str) -> np.ndarray:
    """Bayer mosaic of int [3, H, W]."""
    mosaic = np.empty(rgb.shape[1:], np.int16)
    for i, colour in enumerate(cfa):
        mosaic[i // 2 :: 2, i % 2 :: 2] = rgb["RGB".index(colour), i // 2 :: 2, i % 2 :: 2]
    return mosaic


def smooth_mosaic(height: int = 32, width: int = 40) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    mosaic: np.ndarray = (3000 + 40 * x + 25 * y).astype(np.int16)
    return mosaic


# --- alignment to the bus


@pytest.mark.parametrize("white", [255, 1023, 4095, 15000, 16383, 65535])
def test_align_puts_the_top_bit_of_any_bit_depth_at_bit_13(white: int) -> None:
    raw = RawFrame(np.array([[0, white], [white // 2, 65535]], np.uint16), "RGGB", (4, 4, 4, 4), white)
    bus = align(raw)
    assert bus.white.bit_length() == 14
    assert bus.mosaic[0, 1] == bus.mosaic[1, 1] == bus.white
    assert bus.black[0] / bus.white == pytest.approx(4 / white, rel=1e-3)


# --- defect correction


@pytest.mark.parametrize("value", [16383, 0])
@pytest.mark.parametrize("where", [(10, 11), (0, 0), (31, 39)])
def test_defect_correction_removes_a_hot_and_a_dead_pixel(value: int, where: Any) -> None:
    clean = smooth_mosaic() + np.int16(2000)
    bad = clean.copy()
    bad[where] = value
    fixed = correct_defects(bad, 0.25)
    assert abs(int(fixed[where]) - int(clean[where])) < 200
    others = np.ones(clean.shape, bool)
    others[where] = False
    assert np.array_equal(fixed[others], clean[others])


def test_defect_correction_keeps_a_clean_picture_and_what_is_within_the_threshold() -> None:
    clean = smooth_mosaic()
    assert np.array_equal(correct_defects(clean, 0.02), clean)
    bump = clean.copy()
    bump[8, 8] += 3000
    assert np.array_equal(correct_defects(bump, 0.3), bump)
    assert correct_defects(bump, 0.1)[8, 8] < bump[8, 8]


def test_defect_correction_compares_only_with_the_same_colour() -> None:
    rgb = np.empty((3, 16, 16), np.int16)
    rgb[:] = np.array([12000, 3000, 500])[:, None, None]
    mosaic = mosaic_of(rgb, "GRBG")
    assert np.array_equal(correct_defects(mosaic, 0.02), mosaic)


# --- noise reduction of the RAW


def noisy_flat(level: float = 4000, sigma: float = 150, size: int = 64) -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.rint(level + sigma * rng.standard_normal((size, size))).astype(np.int16)


def test_raw_noise_reduction_lowers_noise_more_at_higher_strength_and_keeps_the_mean() -> None:
    noisy = noisy_flat()
    spreads = [reduce_noise(noisy, NO_BLACK, strength).std() for strength in (0.0, 0.1, 0.2, 1.0)]
    assert spreads[0] == noisy.std()
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[-1] < 0.4 * spreads[0]
    assert reduce_noise(noisy, NO_BLACK, 1.0).mean() == pytest.approx(noisy.mean(), abs=3)


def test_raw_noise_reduction_acts_more_where_the_signal_is_higher() -> None:
    left = reduce_noise(noisy_flat(1000, 100), NO_BLACK, 0.1).std()
    right = reduce_noise(noisy_flat(12000, 100), NO_BLACK, 0.1).std()
    assert right < left


def test_raw_noise_reduction_does_not_mix_colours_and_keeps_edges() -> None:
    rgb = np.empty((3, 32, 32), np.int16)
    rgb[:] = np.array([9000, 4000, 1000])[:, None, None]
    rgb[:, :, 16:] //= 8
    mosaic = mosaic_of(rgb, "BGGR")
    out = reduce_noise(mosaic, NO_BLACK, 0.2)
    assert np.abs(out.astype(int) - mosaic).max() < 60


def test_raw_noise_reduction_edge_keeps_more_of_an_edge() -> None:
    edge = np.full((32, 32), 2000, np.int16)
    edge[:, 16:] = 4500
    change = [np.abs(reduce_noise(edge, NO_BLACK, 1.0, e).astype(int) - edge).max() for e in (0.0, 1.0)]
    assert change[1] < change[0]


# --- black level


def test_black_becomes_zero_white_full_scale_and_noise_below_black_stays_negative() -> None:
    mosaic = np.array([[1024, 16380], [1000, 8702]], np.int16)
    out = subtract_black(mosaic, "RGGB", (1024,) * 4, 16380)
    assert out[0, 0] == 0
    assert out[0, 1] == LINEAR_WHITE
    assert -30 < out[1, 0] < 0
    assert out[1, 1] == pytest.approx(LINEAR_WHITE / 2, abs=1)


@settings(max_examples=60, deadline=None)
@given(
    white=st.integers(1, 65535),
    share=st.lists(st.floats(0, 0.999), min_size=4, max_size=4),
    pixels=st.lists(st.integers(0, 65535), min_size=4, max_size=4),
)
def test_black_level_agrees_with_real_arithmetic_for_any_levels(white: int, share: Any, pixels: Any) -> None:
    black = tuple(white * s for s in share)
    raw = RawFrame(np.array(pixels, np.uint16).reshape(2, 2), "RGGB", black, white)
    bus = align(raw)
    out = subtract_black(bus.mosaic, bus.cfa, bus.black, bus.white).ravel()
    for i in range(4):
        span = bus.white - bus.black[i]
        if span < 64:
            continue
        wanted = (int(bus.mosaic.ravel()[i]) - bus.black[i]) / span * LINEAR_WHITE
        if wanted > -8000:
            assert abs(int(out[i]) - min(wanted, LINEAR_WHITE)) <= 2


def test_black_level_of_each_position_and_offsets_of_each_colour() -> None:
    mosaic = np.array([[100, 200], [300, 400]], np.int16)
    assert not subtract_black(mosaic, "GRBG", (100, 200, 300, 400), 16383).any()
    lifted = subtract_black(mosaic, "GRBG", (100, 200, 300, 400), 16383, -10, 4, -7)
    assert lifted.tolist() == [[10, 6], [17, 10]]


# --- gains


@pytest.mark.parametrize("cfa", CFA_PATTERNS)
def test_gains_reach_their_colour_in_every_cfa_order(cfa: Any) -> None:
    out = apply_gains(np.full((4, 6), 1000, np.int16), cfa, 2.0, 1.5, 0.75)
    wanted = np.array([{"R": 3000, "G": 2000, "B": 1500}[c] for c in cfa]).reshape(2, 2)
    assert np.array_equal(out, np.tile(wanted, (2, 3)))


@pytest.mark.parametrize("cfa", CFA_PATTERNS)
def test_green_balance_acts_on_the_greens_of_red_rows_only(cfa: Any) -> None:
    out = apply_gains(np.full((2, 2), 1000, np.int16), cfa, 1.0, 1.0, 1.0, 1.1).ravel()
    for i, colour in enumerate(cfa):
        in_red_row = "R" in cfa[i // 2 * 2 : i // 2 * 2 + 2]
        assert out[i] == (1100 if colour == "G" and in_red_row else 1000)


def test_gains_saturate_at_white() -> None:
    out = apply_gains(np.array([[16383, 9000], [-5000, 10]], np.int16), "RGGB", 8.0, 4.0, 4.0)
    assert out.tolist() == [[LINEAR_WHITE, LINEAR_WHITE], [-8192, 320]]


# --- demosaicking


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cfa", CFA_PATTERNS)
@pytest.mark.parametrize("size", [(2, 2), (8, 12)])
def test_demosaic_reproduces_a_flat_colour(method: Any, cfa: Any, size: Any) -> None:
    rgb = np.empty((3, *size), np.int16)
    rgb[:] = np.array([11000, 6000, 900])[:, None, None]
    assert np.array_equal(demosaic(mosaic_of(rgb, cfa), cfa, method), rgb)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cfa", CFA_PATTERNS)
def test_demosaic_reproduces_a_colour_ramp_inside(method: Any, cfa: Any) -> None:
    y, x = np.mgrid[:24, :20]
    rgb = np.stack([2000 + 16 * x + 32 * y, 3000 + 16 * x + 32 * y, 500 + 16 * x + 32 * y]).astype(np.int16)
    out = demosaic(mosaic_of(rgb, cfa), cfa, method)
    assert np.array_equal(out[:, 4:-4, 4:-4], rgb[:, 4:-4, 4:-4])


def test_the_better_methods_are_better_on_fine_detail() -> None:
    y, x = np.mgrid[:96, :96]
    grey = 6000 + 5000 * np.sin(((x - 48) ** 2 + (y - 48) ** 2) / 90)
    rgb = np.stack([grey * 0.8, grey, grey * 0.6]).astype(np.int16)
    error = {}
    for method in METHODS:
        out = demosaic(mosaic_of(rgb, "RGGB"), "RGGB", method)
        error[method] = np.square(out.astype(float) - rgb).mean()
    assert error["malvar"] < 0.7 * error["bilinear"]
    assert error["edge_aware"] < 0.7 * error["bilinear"]


def test_edge_aware_leaves_no_false_colour_along_a_grey_edge() -> None:
    rgb = np.full((3, 32, 32), 1000, np.int16)
    rgb[:, :, 15:] = 9000
    out = demosaic(mosaic_of(rgb, "RGGB"), "RGGB", "edge_aware").astype(int)
    bilinear = demosaic(mosaic_of(rgb, "RGGB"), "RGGB", "bilinear").astype(int)
    assert np.abs(out[0] - out[1]).max() < 0.5 * np.abs(bilinear[0] - bilinear[1]).max()


def test_false_colour_suppression_removes_a_speck_of_colour_and_keeps_green() -> None:
    rgb = np.full((3, 16, 16), 5000, np.int16)
    rgb[0, 8, 8] = 9000
    assert np.array_equal(suppress_false_colour(rgb, 0), rgb)
    cleaned = suppress_false_colour(rgb, 1)
    assert cleaned[0, 8, 8] == 5000
    assert np.array_equal(cleaned[1], rgb[1])


# --- colour transform


def random_linear(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, LINEAR_WHITE + 1, (3, 16, 16)).astype(np.int16)


def test_colour_matrix_strength_0_is_the_identity_and_1_the_matrix() -> None:
    rgb = random_linear()
    assert np.array_equal(transform_colour(rgb, matrix_codes(None, 0.0)), rgb)
    out = transform_colour(rgb, matrix_codes(None, 1.0))
    wanted = np.clip(np.einsum("ij,jhw->ihw", np.array(BUILT_IN_MATRIX), rgb.astype(float)), 0, LINEAR_WHITE)
    assert np.abs(out - wanted).max() <= 10


@pytest.mark.parametrize("hue", [0.0, -15.0, 7.3])
@pytest.mark.parametrize("strength", [0.3, 1.0, 1.25])
def test_grey_stays_exactly_grey(hue: float, strength: float) -> None:
    grey = np.broadcast_to(np.arange(0, LINEAR_WHITE + 1, 127, dtype=np.int16), (3, 1, 130)).copy()
    assert np.array_equal(transform_colour(grey, matrix_codes(None, strength, hue)), grey)


def test_hue_turns_red_towards_yellow_one_way_and_magenta_the_other() -> None:
    red = np.array([8000, 2000, 2000], np.int16).reshape(3, 1, 1)
    to_yellow = transform_colour(red, matrix_codes(None, 0.0, 15.0)).ravel()
    to_magenta = transform_colour(red, matrix_codes(None, 0.0, -15.0)).ravel()
    assert to_yellow[1] > to_yellow[2]
    assert to_magenta[2] > to_magenta[1]


def test_the_matrix_of_the_raw_is_used_and_extreme_ones_saturate() -> None:
    rgb = random_linear()
    swap = ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    assert np.array_equal(transform_colour(rgb, matrix_codes(swap, 1.0)), rgb[[1, 0, 2]])
    out = transform_colour(rgb, matrix_codes(((99.0, -99.0, 1.0),) * 3, 1.0))
    assert out.min() >= 0
    assert out.max() <= LINEAR_WHITE


# --- companding and luma


def test_companding_is_monotone_and_spans_the_range() -> None:
    codes = compand(np.arange(-100, LINEAR_WHITE + 1).astype(np.int16))
    assert codes[:101].max() == 0
    assert codes[-1] == COMPANDED_WHITE
    assert np.all(np.diff(codes) >= 0)


def test_luma_and_colour_differences_are_reversible() -> None:
    rgb = np.random.default_rng(2).integers(0, COMPANDED_WHITE + 1, (3, 40, 40)).astype(np.int16)
    assert np.array_equal(from_ycc(*to_ycc(rgb)), rgb)


# --- noise reduction of luma and chroma


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_luma_noise_reduction_smooths_noise_and_keeps_a_strong_edge(radius: int) -> None:
    rng = np.random.default_rng(3)
    luma = np.full((48, 48), 1000.0)
    luma[:, 24:] = 3400
    noisy = np.rint(luma + 60 * rng.standard_normal(luma.shape)).astype(np.int16)
    out = reduce_luma_noise(noisy, 0.4, radius)
    assert out[:, :20].std() < 0.6 * noisy[:, :20].std()
    assert out[:, 24:].mean() - out[:, :24].mean() > 2350
    assert reduce_luma_noise(noisy, 0.0, radius) is noisy


def test_a_wider_luma_window_smooths_more() -> None:
    noisy = noisy_flat(2000, 80)
    spreads = [reduce_luma_noise(noisy, 1.0, radius).std() for radius in (1, 2, 3)]
    assert spreads == sorted(spreads, reverse=True)


def test_luma_edge_protection_brings_detail_back_at_edges_only() -> None:
    luma = np.full((32, 32), 1000, np.int16)
    luma[:, 16:] = 2200
    off, on = (reduce_luma_noise(luma, 1.0, 3, edge) for edge in (0.0, 1.0))
    assert np.abs(on - luma).max() < np.abs(off - luma).max()
    assert np.array_equal(on[:, :8], luma[:, :8])


def test_chroma_noise_reduction_smooths_noise_within_its_limit() -> None:
    rng = np.random.default_rng(4)
    chroma = np.rint(50 * rng.standard_normal((48, 48))).astype(np.int16)
    chroma[:, 24:] += 2000
    out = reduce_chroma_noise(chroma, 0.1)
    assert out[:, :18].std() < 0.5 * chroma[:, :18].std()
    assert np.abs(out - chroma).max() <= 64
    assert reduce_chroma_noise(chroma, 0.0) is chroma


# --- sharpening


def step(low: float = 1000, high: float = 2000) -> np.ndarray:
    luma = np.full((16, 32), low, np.int16)
    luma[:, 16:] = high
    return luma


def test_sharpening_overshoots_at_a_step_in_proportion_to_the_amount() -> None:
    peaks = [int(sharpen(step(), amount, 1.0, 0.0).max()) - 2000 for amount in (0.0, 0.5, 1.0, 2.0)]
    assert peaks[0] == 0
    assert peaks[1] > 50
    assert peaks[2] == pytest.approx(2 * peaks[1], abs=2)
    assert peaks[3] == pytest.approx(4 * peaks[1], abs=4)


def test_sharpening_threshold_leaves_small_detail_alone() -> None:
    small = step(1000, 1040)
    assert np.array_equal(sharpen(small, 3.0, 1.0, 0.02), small)
    assert not np.array_equal(sharpen(small, 3.0, 1.0, 0.0), small)


def test_sharpening_overshoot_limit_and_range() -> None:
    limited = sharpen(step(), 3.0, 1.0, 0.0, overshoot=0.0)
    assert limited.max() == 2000
    assert limited.min() == 1000
    extreme = sharpen(step(0, COMPANDED_WHITE), 3.0, 2.5, 0.0)
    assert extreme.min() == 0
    assert extreme.max() == COMPANDED_WHITE


def test_sharpening_radius_sets_the_width_of_the_halo() -> None:
    narrow, wide = (np.count_nonzero(sharpen(step(), 1.0, radius, 0.0)[8] != step()[8]) for radius in (0.5, 2.5))
    assert wide > narrow


# --- tone


@settings(max_examples=60, deadline=None)
@given(
    gamma=st.floats(1.4, 3.2),
    contrast=st.floats(-0.5, 1),
    lift=st.floats(0, 1),
    rolloff=st.floats(0, 1),
)
@example(gamma=2.0, contrast=0.0, lift=0.0, rolloff=5e-324)
def test_the_tone_curve_rises_from_black_to_at_most_white(
    gamma: float, contrast: float, lift: float, rolloff: float
) -> None:
    curve = tone_curve(gamma, contrast, lift, rolloff)
    assert curve[0] == 0
    assert 0.8 < curve[-1] <= 1
    assert np.all(np.diff(curve) >= -1e-12)


def test_contrast_1_and_gamma_2_2_invert_the_unprocessing_of_brooks() -> None:
    display = np.linspace(0, 1, 200)
    linear = (0.5 - np.sin(np.arcsin(1 - 2 * display) / 3)) ** 2.2
    codes = compand(np.rint(linear * LINEAR_WHITE).astype(np.int16))
    rgb = apply_curve(np.broadcast_to(codes, (3, 1, 200)), tone_curve(2.2, 1.0))
    # Below 5 % the 14-bit linear steps are wider than the 8-bit output's.
    assert np.abs(rgb[0, 0] / 255.0 - display)[10:].max() < 1.5 / 255


def test_shadow_lift_brightens_the_dark_and_rolloff_darkens_the_light() -> None:
    plain = tone_curve(2.2, 0.0)
    lifted, rolled = tone_curve(2.2, 0.0, shadow_lift=1.0), tone_curve(2.2, 0.0, highlight_rolloff=1.0)
    assert lifted[400] > 1.3 * plain[400]
    assert lifted[-1] == plain[-1]
    assert rolled[-1] < 0.9 * plain[-1]
    assert np.array_equal(rolled[:2000], plain[:2000])


def test_equalisation_spreads_a_narrow_histogram_and_0_is_off() -> None:
    luma = np.random.default_rng(6).integers(1800, 2200, (64, 64)).astype(np.int16)
    plain = tone_curve(2.2, 0.0)
    bent = equalise(plain, luma, 0.6)
    assert np.ptp(bent[luma]) > 1.3 * np.ptp(plain[luma])
    assert np.all(np.diff(bent) >= -1e-12)
    assert equalise(plain, luma, 0.0) is plain


def random_rgb8(seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, 32, 32)).astype(np.uint8)


def test_saturation_0_is_grey_1_the_identity_and_2_more_colourful() -> None:
    rgb = random_rgb8() // 4 + np.uint8(96)
    assert adjust_saturation(rgb, 1.0) is rgb
    grey = adjust_saturation(rgb, 0.0)
    assert np.ptp(grey.astype(int), axis=0).max() <= 1
    assert np.ptp(adjust_saturation(rgb, 2.0).astype(int), axis=0).mean() > 1.8 * np.ptp(rgb.astype(int), axis=0).mean()


def test_local_contrast_raises_contrast_in_a_flat_part_and_depends_on_the_tiles() -> None:
    rng = np.random.default_rng(8)
    grey = np.rint(100 + 6 * rng.standard_normal((64, 64))).astype(np.uint8)
    rgb = np.stack([grey] * 3)
    assert adjust_local_contrast(rgb, 0.0, 4) is rgb
    half, full = adjust_local_contrast(rgb, 0.5, 4), adjust_local_contrast(rgb, 1.0, 4)
    assert full.std() > half.std() > rgb.std()
    assert np.array_equal(full[0], full[2])
    assert not np.array_equal(full, adjust_local_contrast(rgb, 1.0, 8))


# --- JPEG


def test_jpeg_decodes_to_the_same_picture_with_red_first() -> None:
    rgb = np.zeros((3, 48, 64), np.uint8)
    rgb[0] = 200
    rgb[2] = np.linspace(0, 255, 64, dtype=np.uint8)
    data = compress(rgb, 95, False)
    assert data[:2] == b"\xff\xd8"
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == (48, 64, 3)
    assert np.abs(decoded[..., ::-1].transpose(2, 0, 1).astype(int) - rgb).max() < 12


def test_jpeg_quality_and_subsampling_set_the_size() -> None:
    rgb = random_rgb8()
    sizes = [len(compress(rgb, quality, False)) for quality in (30, 80, 100)]
    assert sizes == sorted(sizes)
    assert len(compress(rgb, 80, True)) < sizes[1]
