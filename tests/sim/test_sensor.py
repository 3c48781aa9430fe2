from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.cfa import CFA_PATTERNS, QUAD_PATTERNS
from drivers.errors import FrameError
from sim.camera import sensor as sensor_module
from sim.camera.illuminants import FAMILIES, daylight_uv, draw_illuminant, illuminant, planckian_uv
from sim.camera.sensor import Sensor, inverse_smoothstep, linearise, render, smoothstep

DAY = illuminant("daylight", 5000, lux=20000)


def flat(colour: Any, side: int = 64) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (side, side, 3)).copy()


def test_linearise_and_render_are_inverse_on_every_byte() -> None:
    every = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    assert np.array_equal(render(linearise(every)), every)


@given(st.floats(0, 1))
def test_inverse_smoothstep_undoes_the_tone_curve(x: Any) -> None:
    assert inverse_smoothstep(smoothstep(np.array(x))) == pytest.approx(x, abs=1e-6)


def test_known_chromaticities() -> None:
    assert illuminant("daylight", 6504).xy == pytest.approx((0.3127, 0.3290), abs=5e-4)
    assert illuminant("tungsten", 2856).xy == pytest.approx((0.4476, 0.4074), abs=5e-4)


def test_duv_is_the_distance_from_the_locus_and_positive_is_green() -> None:
    x, y = illuminant("fluorescent", 4000, 0.01).xy
    d = -2 * x + 12 * y + 3
    u, v = 4 * x / d, 6 * y / d
    locus = np.array([planckian_uv(t) for t in np.arange(3000, 5000, 5.0)])
    assert np.hypot(*(locus - (u, v)).T).min() == pytest.approx(0.01, rel=0.02)
    assert v > planckian_uv(4000)[1]
    assert daylight_uv(5000)[1] > planckian_uv(5000)[1]


def test_drawn_lights_stay_in_their_family() -> None:
    rng = np.random.default_rng(0)
    lights = [draw_illuminant(rng) for _ in range(400)]
    assert {light.family for light in lights} == set(FAMILIES)
    for light in lights:
        kind = FAMILIES[light.family]
        assert kind.cct[0] <= light.cct <= kind.cct[1]
        assert kind.lux[0] <= light.lux <= kind.lux[1]


def test_dark_pictures_are_likelier_at_dusk() -> None:
    def share(mean: float) -> float:
        rng = np.random.default_rng(1)
        return sum(draw_illuminant(rng, mean).family == "dusk" for _ in range(500))

    assert share(0.02) > 2 * share(0.4)


def test_wb_gains_come_from_the_light() -> None:
    sensor = Sensor()
    warm, cold = sensor.wb_gains(illuminant("tungsten", 2700)), sensor.wb_gains(illuminant("daylight", 7000))
    assert warm[0] < cold[0]
    assert warm[2] > cold[2]
    neutral, green = (sensor.wb_gains(illuminant("led", 4000, duv)) for duv in (0.0, 0.012))
    assert green[0] > neutral[0]
    assert green[2] > neutral[2]


@pytest.mark.parametrize("seed", range(8))
def test_cameras_differ_and_are_plausible(seed: Any) -> None:
    sensor = Sensor(seed)
    assert np.array(sensor.colour_matrix).sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert np.diag(sensor.colour_matrix).min() > 1
    assert sensor.colour_matrix != Sensor(seed + 1).colour_matrix
    assert sensor.colour_matrix == Sensor(seed).colour_matrix
    for light in (illuminant("tungsten", 2700), DAY, illuminant("daylight", 7500)):
        gains = sensor.wb_gains(light)
        assert all(0.9 < g < 4 for g in gains)


def test_the_true_matrix_leaves_the_calibrated_one_with_the_light() -> None:
    sensor = Sensor()
    calibrated = np.array(sensor.colour_matrix)
    away = [np.abs(sensor.true_colour_matrix(illuminant("tungsten", t)) - calibrated).max() for t in (5000, 3400, 2500)]
    assert away[0] < 1e-9 < away[1] < away[2] < 0.3
    assert sensor.true_colour_matrix(illuminant("fluorescent", 3000)).sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_a_grey_becomes_grey_again_with_the_right_gains() -> None:
    sensor, scale = Sensor(defect_share=0), 0.4
    for light in (DAY, illuminant("tungsten", 2600), illuminant("fluorescent", 3500, 0.01)):
        camera = sensor.scene_light(flat([128] * 3), light, scale) * np.array(sensor.wb_gains(light)) / scale
        assert camera[0, 0] == pytest.approx(linearise(np.full(3, 128, np.uint8)), rel=1e-3)


def test_blown_highlights_saturate_and_the_rest_keeps_its_scale() -> None:
    sensor = Sensor()
    assert sensor.scene_light(flat([255] * 3), DAY, 0.3)[0, 0] == pytest.approx(1, abs=0.02)
    assert sensor.scene_light(flat([200] * 3), DAY, 0.3)[0, 0, 1] == pytest.approx(
        0.3 * float(linearise(np.array(200, np.uint8))), rel=1e-3
    )


def test_the_light_on_the_photosites_is_to_the_bit_what_the_formula_gives() -> None:
    rng = np.random.default_rng(0)
    photograph = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    photograph[::3] |= 0xF0  # highlights
    sensor, scale = Sensor(), 0.3
    linear = linearise(photograph)
    camera = np.maximum(linear @ np.linalg.inv(sensor.true_colour_matrix(DAY)).astype(np.float32).T, 0)
    inverse = (np.float32(scale) / np.array(sensor.wb_gains(DAY))).astype(np.float32)
    blown = np.clip((linear.mean(axis=2, keepdims=True) - 0.9) / 0.1, 0, 1) ** 2
    assert 0 < np.count_nonzero(blown) < blown.size
    expected = camera * np.maximum(blown + (1 - blown) * inverse, inverse)
    assert np.array_equal(sensor.scene_light(photograph, DAY, scale), expected)


@pytest.mark.parametrize("cfa", ["GRBG", QUAD_PATTERNS[0]])
def test_a_mosaic_is_the_same_in_strips_of_any_height(cfa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    photograph = np.random.default_rng(0).integers(0, 256, (52, 64, 3), dtype=np.uint8)
    sensor = Sensor(cfa=cfa, defect_share=0.01)
    mosaics = []
    for pixels in (1 << 16, 8 * 64, 1):
        monkeypatch.setattr(sensor_module, "_STRIP", pixels)
        mosaics.append(sensor.expose(photograph, DAY, 0.5, 800, np.random.default_rng(1)))
    assert all(np.array_equal(mosaic, mosaics[0]) for mosaic in mosaics[1:])


@pytest.mark.parametrize("cfa", CFA_PATTERNS)
def test_every_cfa_order_puts_each_colour_in_its_place(cfa: Any) -> None:
    sensor = Sensor(cfa=cfa, defect_share=0)
    photograph = flat([200, 90, 40])
    light = sensor.scene_light(photograph, DAY, 0.5)[0, 0]
    mosaic = sensor.expose(photograph, DAY, 0.5, 100, np.random.default_rng(0)).astype(float)
    for i, colour in enumerate(cfa):
        black = sensor.black_level[i]
        got = (mosaic[i // 2 :: 2, i % 2 :: 2].mean() - black) / (sensor.white_level - black)
        assert got == pytest.approx(light["RGB".index(colour)], abs=2e-4)


@pytest.mark.parametrize("iso", [100, 1600, 12800])
def test_noise_has_the_variance_of_the_model(iso: int) -> None:
    sensor = Sensor(defect_share=0, bits=16)
    photograph = flat([150] * 3, 256)
    green = sensor.expose(photograph, DAY, 0.8, iso, np.random.default_rng(0))[::2, 1::2].astype(float)
    black = sensor.black_level[1]
    shot, read = sensor.noise(iso)
    value = 0.8 * float(linearise(np.array(150, np.uint8)))
    assert (green / (sensor.white_level - black)).var() == pytest.approx(shot * value + read, rel=0.05)


def test_noise_rises_with_iso_from_clean_to_very_noisy() -> None:
    assert Sensor().noise(100)[0] == pytest.approx(1e-4)
    assert Sensor().noise(12800)[0] == pytest.approx(0.0128)
    shot, read = Sensor().noise(3200)
    assert np.log(read) == pytest.approx(2.18 * np.log(shot) + 1.20, abs=4 * 0.26)


def test_defects_are_few_and_always_the_same() -> None:
    sensor = Sensor()
    photograph = flat([110] * 3, 256)
    clean = [Sensor(defect_share=0).expose(photograph, DAY, 0.4, 100, np.random.default_rng(i)) for i in (0, 1)]
    seen = [sensor.expose(photograph, DAY, 0.4, 100, np.random.default_rng(i)) for i in (0, 1)]
    first, second = (set(np.flatnonzero(a != b)) for a, b in zip(seen, clean, strict=True))
    assert first == second
    assert len(first) == round(3e-4 * 256 * 256)
    assert (seen[0].ravel()[sorted(first)] < 300).any()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_bit_depth_and_clipping(bits: int) -> None:
    sensor = Sensor(bits=bits)
    black = int(max(sensor.black_level))
    white = sensor.expose(flat([255] * 3), DAY, 4.0, 100, np.random.default_rng(0))
    assert white.max() == sensor.white_level == 2**bits - 1
    dark = sensor.expose(flat([0] * 3), DAY, 0.5, 12800, np.random.default_rng(0))
    assert dark.min() < min(sensor.black_level)
    assert abs(float(np.median(dark)) - black) < 0.01 * 2**bits
    assert np.abs(np.array(sensor.black_level) - 2**bits / 16).max() < 0.001 * 2**bits + 1


def test_the_raw_renders_back_to_the_photograph() -> None:
    yy, xx = np.mgrid[0:128, 0:128]
    photograph = np.stack([60 + xx, 40 + yy, 200 - (xx + yy) // 2], axis=2).astype(np.uint8)
    sensor = Sensor(defect_share=0, bits=16)
    mosaic = sensor.expose(photograph, DAY, 0.5, 100, np.random.default_rng(0))
    black = np.tile(np.array(sensor.black_level).reshape(2, 2), (64, 64))
    value = np.clip((mosaic - black) / (sensor.white_level - black), 0, 1)
    # OpenCV names the order by the second row.
    rgb = cv2.cvtColor((value * 65535).astype(np.uint16), cv2.COLOR_BayerBG2RGB) / 65535
    back = render(rgb * np.array(sensor.wb_gains(DAY)) / 0.5 @ np.array(sensor.colour_matrix).T)
    assert cv2.PSNR(back, photograph) > 33


def test_bad_input_is_named() -> None:
    with pytest.raises(FrameError, match="RGBG"):
        Sensor(cfa="RGBG")
    with pytest.raises(FrameError, match="bit depth 7"):
        Sensor(bits=7)
    with pytest.raises(FrameError, match="float64"):
        Sensor().expose(np.zeros((4, 4, 3)), DAY, 0.5, 100, np.random.default_rng(0))
    with pytest.raises(FrameError, match="5×4"):
        Sensor().expose(np.zeros((4, 5, 3), np.uint8), DAY, 0.5, 100, np.random.default_rng(0))
