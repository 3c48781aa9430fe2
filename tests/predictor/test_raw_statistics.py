"""The figures of a large RAW are taken of an even grid of its pixels, and say the same."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.frames import RawFrame
from predictor import raw_features
from predictor.raw_features import raw_statistics


def test_a_grid_of_a_large_raw_says_what_all_its_pixels_say(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    light = 200 + 1500 * np.linspace(0, 1, 1600)[:, None] * np.linspace(0.2, 1, 1600) ** 2
    mosaic = random.poisson(light).clip(0, 4095).astype(np.uint16)
    raw = RawFrame(mosaic, "RGGB", (64.0,) * 4, 4095)
    grid = raw_statistics(raw)
    monkeypatch.setattr(raw_features, "_SAMPLE", mosaic.size)
    whole = raw_statistics(raw, raw.planes())
    assert 0 < np.abs(grid - whole).max() < 0.02


@pytest.mark.parametrize("kind", ["signed", "few different", "all one", "steep"])
def test_percentiles_of_many_values_are_those_of_numpy(kind: str) -> None:
    random = np.random.default_rng(1)
    values = random.normal(0, 1, 70_001).astype(np.float32)
    if kind == "few different":
        values = np.round(values)
    elif kind == "all one":
        values = np.full_like(values, -0.25)
    elif kind == "steep":
        values = np.exp(20 * values)
    values = values.reshape(-1, 1)
    percents = (0, 1, 25, 50, 90.5, 99, 100)
    assert values.size >= raw_features._MANY
    found, expected = raw_features._percentiles(values, percents), np.percentile(values, percents)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("light", [0.3, 0.93, 4.0], ids=["nothing clipped", "some clipped", "all clipped"])
def test_colours_are_of_the_pixels_that_are_not_clipped(light: float) -> None:
    random = np.random.default_rng(2)
    balance = np.tile([[0.5, 1.0], [1.0, 0.7]], (200, 300))
    mosaic = (64 + 4031 * light * balance * random.uniform(0.9, 1.1, (400, 600))).clip(0, 4095).astype(np.uint16)
    raw = RawFrame(mosaic, "RGGB", (64.0,) * 4, 4095)
    planes = raw.planes()
    clipped = planes.max(0) > 0.98
    kept = ~clipped if not clipped.all() else ~np.zeros_like(clipped)
    red, green, blue = (float(plane[kept].mean()) for plane in planes)
    balanced = planes / np.array([red, green, blue])[:, None, None]
    told = raw_statistics(raw)
    assert told[11] == pytest.approx(clipped.mean())
    np.testing.assert_allclose(told[14:16], np.log2([red / green, blue / green]), atol=1e-5)
    assert told[-1] == pytest.approx((balanced.max(0) - balanced.min(0)).mean(), abs=1e-5)
