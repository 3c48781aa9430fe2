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
