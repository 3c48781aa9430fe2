from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.camera.illuminants import illuminant
from sim.camera.metering import Camera
from sim.camera.sensor import Sensor, render
from sim.camera.sums import summed

CAMERA = Camera(Sensor())


def flat(linear: Any, side: Any = 32) -> np.ndarray:
    return render(np.full((side, side, 3), linear))


def shots(count: Any, **kinds: Any) -> Any:
    rng = np.random.default_rng(0)
    camera = Camera(Sensor(), **kinds)
    means = np.exp(rng.normal(np.log(0.2), 0.45, count)).clip(0.01, 0.8)
    return [camera.shoot(flat(m), rng) for m in means]


def test_the_meter_goes_only_part_of_the_way() -> None:
    dark, bright = CAMERA.meter(flat(0.05)), CAMERA.meter(flat(0.4))
    assert dark > bright
    assert 0.05 * dark < 0.4 * bright
    assert (dark / bright) == pytest.approx(8**CAMERA.metering, rel=0.05)


def test_the_middle_counts_more() -> None:
    middle, rim = np.full((2, 32, 32, 3), 0.1)
    middle[8:24, 8:24] = 0.5
    rim[:4], rim[-4:] = 0.5, 0.5
    assert middle.mean() == pytest.approx(rim.mean())
    assert CAMERA.meter(render(middle)) < CAMERA.meter(render(rim))


def test_highlights_are_protected() -> None:
    picture = np.full((32, 32, 3), 0.002)
    picture[::4, ::4] = 0.9
    scale = CAMERA.meter(render(picture))
    assert scale * 0.9 <= 1.01
    assert CAMERA.meter(flat(0.002)) > scale


def test_the_program_spends_time_first_then_iso_then_gives_up() -> None:
    seen = [CAMERA.program(0.5, lux) for lux in (20000, 500, 60, 20, 5, 0.5)]
    for seconds, iso, _ in seen:
        assert seconds <= 1 / 30 + 1e-9
        assert iso == 100 or seconds == pytest.approx(1 / 30, rel=0.27)
        assert (3 * np.log2(iso / 100)) % 1 == pytest.approx(0, abs=1e-6)
    isos, scales = [iso for _, iso, _ in seen], [scale for *_, scale in seen]
    assert isos == sorted(isos)
    assert (isos[0], isos[-1]) == (100, 12800)
    assert scales[0] == pytest.approx(0.5)
    assert scales[-1] < 0.1
    assert scales == sorted(scales, reverse=True)


def test_exposure_scale_is_physical() -> None:
    seconds, iso, scale = CAMERA.program(0.5, 1000)
    twice = CAMERA.program(0.5, 2000)
    assert iso == twice[1] == 100
    assert twice[0] == pytest.approx(seconds / 2)
    assert scale == twice[2]


def test_white_balance_errs_along_the_temperatures() -> None:
    light = illuminant("daylight", 5200)
    right = np.log(np.array(CAMERA.sensor.wb_gains(light)))[[0, 2]]
    rng = np.random.default_rng(0)
    error = np.array([np.log(CAMERA.auto_white_balance(light, rng))[[0, 2]] for _ in range(3000)]) - right
    along, across = (error[:, 0] - error[:, 1]) / np.sqrt(2), (error[:, 0] + error[:, 1]) / np.sqrt(2)
    outliers = np.sqrt(1 + 8 * CAMERA.awb_outliers)
    assert along.std() == pytest.approx(0.08 * outliers, rel=0.1)
    assert across.std() == pytest.approx(0.03 * outliers, rel=0.1)
    assert np.abs(error.mean(axis=0)).max() < 0.01
    kurtosis = ((along - along.mean()) ** 4).mean() / along.var() ** 2
    assert kurtosis > 4


def test_a_part_of_a_tungsten_cast_is_left() -> None:
    light = illuminant("tungsten", 2700)
    camera = Camera(Sensor(), awb_error=(0, 0))
    right, daylight = (np.log(np.array(g)) for g in (camera.sensor.wb_gains(light), camera.sensor.daylight_gains))
    rng = np.random.default_rng(0)
    for _ in range(20):
        left = (np.log(camera.auto_white_balance(light, rng)) - right)[[0, 2]] / (daylight - right)[[0, 2]]
        assert left == pytest.approx(left[0], abs=1e-3)
        assert 0.199 <= left[0] <= 0.301


def test_what_the_isp_must_do_is_within_its_ranges() -> None:
    seen = shots(300)
    gain = np.array([1 / s.scale for s in seen])
    assert np.percentile(gain, 2) > 0.7
    assert np.percentile(gain, 98) < 6
    gains = np.array([s.wb_gains for s in seen])
    shot = np.array([s.raw.as_shot_wb for s in seen])
    assert gains.min() > 0.5
    assert np.percentile(gains, 99) < 4
    assert shot.min() > 0.5
    assert np.percentile(shot, 99) < 4
    assert len({s.raw.iso for s in seen}) > 10


def test_metadata_and_pixels_tell_the_exposure_in_part() -> None:
    """What a predictor has to know must be visible, but the metadata alone must not give it away."""
    seen = shots(500)
    need = np.log2([1 / s.scale for s in seen])
    meta = np.log2([[s.raw.iso, s.raw.exposure_s] for s in seen])
    level = np.log2([s.raw.planes()[1].mean() for s in seen])[:, None]

    def left(*known: Any) -> Any:
        x = np.column_stack([np.ones(len(need)), *known])
        return (need - x @ np.linalg.lstsq(x, need, rcond=None)[0]).std()

    assert left(meta, level) < 0.75 * need.std()
    assert left(meta) > 0.7 * need.std()


def test_the_same_state_takes_the_same_raw() -> None:
    first, second, other = (CAMERA.shoot(flat(0.2), np.random.default_rng(s)).raw for s in (1, 1, 2))
    assert first.hash == second.hash
    assert first.hash != other.hash


def test_the_metadata_are_those_of_the_camera() -> None:
    raw = CAMERA.shoot(flat(0.2), np.random.default_rng(0), name="scene_000.npz").raw
    assert raw.colour_matrix == CAMERA.sensor.colour_matrix
    assert raw.white_level == 4095
    assert raw.source == "scene_000.npz"
    assert raw.as_shot_wb is not None
    assert raw.as_shot_wb[1] == 1
    assert raw.exposure_s is not None
    assert 0 < raw.exposure_s <= 0.0334


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 65_536, 65_537, 300_001, 3 * 722 * 1000])
def test_a_sum_by_parts_is_to_the_bit_that_of_numpy(count: int, dtype: Any) -> None:
    values = np.random.default_rng(count).random(count).astype(dtype)
    parts = []

    def part(start: int, stop: int) -> np.ndarray:
        parts.append(stop - start)
        return values[start:stop].copy()

    total = summed(part, 0, count)
    assert total.dtype == dtype
    assert total == values.sum()
    assert sum(parts) == count
    assert max(parts) <= 65_536
