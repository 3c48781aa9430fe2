"""Small RAWs and captures to ask of the emulated ``sim20``, and whether what came back is right."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from drivers.device import Capture, Failure
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from sim.isp.pipeline import Pipeline

PIPELINE = Pipeline("sim20")
SPACE = PIPELINE.space


def make_raw(seed: int, side: int = 32) -> RawFrame:
    rng = np.random.default_rng(seed)
    return RawFrame(
        rng.integers(64, 1023, (side, side), np.uint16), "RGGB", (64.0,) * 4, 1023, iso=100.0, exposure_s=0.01
    )


RAWS = [make_raw(n) for n in range(4)]


def make_jobs(count: int) -> list[tuple[RawFrame, ParameterSet]]:
    rng = np.random.default_rng(7)
    return [(RAWS[n % len(RAWS)], SPACE.from_unit(rng.random(len(SPACE)))) for n in range(count)]


def captures_of(results: Iterable[Capture | Failure]) -> list[Capture]:
    """The results, none of which is a failure."""
    captures = []
    for result in results:
        assert isinstance(result, Capture), result
        captures.append(result)
    return captures


def assert_right(jobs: list[tuple[RawFrame, ParameterSet]], results: Iterable[Capture | Failure]) -> None:
    captures = captures_of(results)
    assert [(c.raw_hash, c.parameters.hash) for c in captures] == [(r.hash, p.hash) for r, p in jobs]
    for (raw, parameters), capture in zip(jobs, captures, strict=True):
        assert capture.rgb.encoded == PIPELINE.process(raw, parameters)
        assert capture.parameters_in_force == parameters.by_name
