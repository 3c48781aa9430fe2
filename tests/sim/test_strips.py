"""A picture made by strips is the picture made at once, to the byte."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from drivers.all_cores import cores
from drivers.cfa import CFA_PATTERNS, QUAD_PATTERNS
from drivers.frames import RawFrame
from sim.isp import strips as in_strips
from sim.isp.pipelines import open_pipeline
from sim.isp.strips import Strip, each, strips

PATTERNS: dict[str, tuple[Any, ...]] = {
    "sim20": tuple(CFA_PATTERNS),
    "sim32": tuple(CFA_PATTERNS),
    "sim60": tuple(QUAD_PATTERNS),
}


def a_raw(seed: int, height: int, width: int, pattern: Any) -> RawFrame:
    """Waves, edges, noise and defects."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mosaic = 800 + 600 * np.sin(x / 37) + 500 * np.cos(y / 23) + 300 * ((x // 64 + y // 48) % 2)
    mosaic += random.normal(0, 60, mosaic.shape)
    mosaic[random.random(mosaic.shape) < 0.002] = 4095
    return RawFrame(np.clip(mosaic, 0, 4095).astype(np.uint16), pattern, (256, 256, 258, 255), 4095, iso=800.0)


@pytest.mark.parametrize("profile", PATTERNS)
def test_the_bytes_are_those_of_the_whole(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, random = open_pipeline(profile), np.random.default_rng(11)
    for trial, pixels in enumerate((1, 1 << 12, 1 << 13, 1 << 14) * 2):
        height, width = [(200, 260), (324, 128), (132, 500)][trial % 3]
        raw = a_raw(trial, height, width, PATTERNS[profile][trial % 4])
        parameters = pipeline.space.from_unit(random.random(len(pipeline.space)))
        monkeypatch.setattr(in_strips, "PIXELS", 1 << 30)
        whole = pipeline.process(raw, parameters)
        monkeypatch.setattr(in_strips, "PIXELS", pixels)
        assert len(strips(height, width)) > 2
        assert pipeline.process(raw, parameters) == whole, parameters.values


@pytest.mark.parametrize("profile", ["sim20", "sim32"])
@pytest.mark.parametrize("height", [14, 24, 28, 30])
def test_a_strip_that_sees_the_whole_picture_filters_as_the_whole(
    profile: str, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Noise of so small a range that a filter of luma averages the least value with the others.
    mosaic = np.random.default_rng(5).integers(900, 1100, (height, 64)).astype(np.uint16)
    pipeline, raw = open_pipeline(profile), RawFrame(mosaic, "RGGB", (256,) * 4, 4095)
    parameters = pipeline.space.from_unit(np.full(len(pipeline.space), 0.5))
    whole = pipeline.process(raw, parameters)
    monkeypatch.setattr(in_strips, "PIXELS", 12 * 64)
    assert len(strips(height, 64)) > 1
    assert pipeline.process(raw, parameters) == whole


@pytest.mark.parametrize(("height", "width"), [(2, 2), (6, 400), (1080, 1920), (3072, 4096), (10, 10**6)])
@pytest.mark.parametrize("around", [0, 16])
def test_strips_are_the_picture_and_what_lies_around(height: int, width: int, around: int) -> None:
    rows = np.arange(height)
    found = strips(height, width, around)
    assert np.array_equal(np.concatenate([rows[strip.rows] for strip in found]), rows)
    for strip in found:
        assert strip.rows.start % 4 == strip.seen.start % 4 == 0
        assert np.array_equal(rows[strip.seen][strip.inner], rows[strip.rows])
        seen = rows[strip.seen]
        assert (seen[0], seen[-1]) == (
            max(strip.rows.start - around, 0),
            min(strip.rows.stop + around, height) - 1,
        )


def test_all_cores_work_and_what_fails_is_told() -> None:
    found = strips(3072, 4096)
    both = threading.Barrier(2, timeout=60)

    def meet(strip: Strip) -> None:
        if strip in found[:2]:
            both.wait()

    if cores() > 1:
        each(meet, found)

    def fail(strip: Strip) -> None:
        raise ValueError(f"row {strip.rows.start}")

    for some in (found, found[:1]):
        with pytest.raises(ValueError, match="row 0"):
            each(fail, some)
