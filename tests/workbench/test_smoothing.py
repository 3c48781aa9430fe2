"""The filter of a video's parameters, and what is taken for a scene cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from workbench.loop.scene_cuts import SceneCuts
from workbench.loop.smoothing import REACHED, Smoother

SPACE = ParameterSpace.from_dict(
    {
        "name": "video",
        "parameters": [
            {"name": "gain", "block": "a", "kind": "continuous", "low": 0, "high": 4, "step": 1 / 4096, "default": 1},
            {
                "name": "ratio",
                "block": "a",
                "kind": "continuous",
                "scale": "log",
                "low": 0.1,
                "high": 10,
                "step": 1e-4,
                "default": 1,
            },
            {"name": "count", "block": "a", "kind": "integer", "low": -3, "high": 4, "default": 0},
            {"name": "mode", "block": "a", "kind": "choice", "choices": ["a", "b", "c"], "default": "a"},
            {"name": "on", "block": "a", "kind": "bool", "default": False},
        ],
    }
)
NUMBERS = range(3)
CHOICES = range(3, 5)
units = st.lists(st.floats(0, 1), min_size=len(SPACE), max_size=len(SPACE))
settles = st.integers(1, 60)


def sets(values: Sequence[Sequence[float]]) -> list[ParameterSet]:
    return [SPACE.from_unit(np.array(unit)) for unit in values]


def smoothed(predicted: Sequence[ParameterSet], settle: int) -> list[ParameterSet]:
    smoother = Smoother(SPACE, settle)
    return [smoother.next(parameters) for parameters in predicted]


@given(st.lists(units, min_size=1, max_size=20), settles)
def test_it_stays_between_what_was_predicted(values: list[list[float]], settle: int) -> None:
    predicted = sets(values)
    for n, parameters in enumerate(smoothed(predicted, settle), 1):
        for i, code in enumerate(parameters.codes):
            so_far = [p.codes[i] for p in predicted[:n]]
            assert min(so_far) <= code <= max(so_far)
            if i in CHOICES:
                assert code in so_far


@settings(max_examples=50)
@given(units, units, st.integers(1, 25))
def test_a_step_is_followed_to_90_percent_in_as_many_frames(
    before: list[float], after: list[float], settle: int
) -> None:
    first, second = sets([before, after])
    outputs = smoothed([first, *[second] * (10 * settle)], settle)
    assert outputs[0].codes == first.codes
    for i, p in enumerate(SPACE.parameters):
        steps = [abs(o.codes[i] - second.codes[i]) for o in outputs]
        assert steps == sorted(steps, reverse=True)  # towards the target alone, never beyond and back
        assert steps[-1] == 0
        reached = outputs[settle].codes[i]
        if i in CHOICES:
            assert reached == second.codes[i]
            continue
        # 90 % of the normalised step; the code is the one there, or its neighbour.
        start, end = first.unit[i], second.unit[i]
        there = p.from_unit(start + REACHED * (end - start))
        assert abs(reached - there) <= 1


def test_the_step_response_is_that_of_first_order() -> None:
    start, end = sets([[0.0] * 5, [1.0] * 5])
    outputs = smoothed([start, *[end] * 20], 10)
    for n, parameters in enumerate(outputs):
        assert parameters.codes[0] == pytest.approx(end.codes[0] * (1 - (1 - REACHED) ** (n / 10)), abs=1)


@given(st.lists(units, min_size=1, max_size=8), units, settles)
def test_a_scene_cut_is_followed_in_one_frame(values: list[list[float]], new: list[float], settle: int) -> None:
    smoother = Smoother(SPACE, settle)
    for parameters in sets(values):
        smoother.next(parameters)
    (target,) = sets([new])
    assert smoother.next(target, cut=True).codes == target.codes
    assert smoother.next(target).codes == target.codes  # nothing of the scene before is left


def flicker(outputs: Sequence[ParameterSet], parameters: Sequence[int]) -> float:
    values = np.array([o.unit for o in outputs])[:, list(parameters)]
    return float(np.abs(np.diff(values, axis=0)).mean())


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_noise_flickers_less(seed: int, settle: int) -> None:
    noise = np.random.default_rng(seed).normal(0.5, 0.1, (60, len(SPACE)))
    predicted = sets(np.clip(noise, 0, 1).tolist())
    outputs = smoothed(predicted, settle)
    for part in (NUMBERS, CHOICES):
        assert flicker(outputs, part) <= flicker(predicted, part)
    assert flicker(outputs, NUMBERS) < 0.7 * flicker(predicted, NUMBERS)


def test_a_number_on_the_edge_between_two_codes_stays() -> None:
    edge = SPACE["count"].to_unit(1) + 0.5 / SPACE["count"].levels
    values = [[0.5, 0.5, edge + 0.01 * (-1) ** n, 0.1, 0.1] for n in range(40)]
    assert len({p.codes[2] for p in sets(values)}) == 2
    assert len({p.codes[2] for p in smoothed(sets(values), 10)}) == 1


def test_a_choice_between_two_stays_until_one_has_the_majority() -> None:
    smoother = Smoother(SPACE, 10)
    one, other = sets([[0.5, 0.5, 0.5, 0.1, 0.1], [0.5, 0.5, 0.5, 0.9, 0.9]])
    assert {smoother.next((one, other)[n % 2]).codes for n in range(60)} == {one.codes}
    after = [smoother.next(other)["mode"] for _ in range(10)]
    assert after[0] == "a"
    assert after[-1] == "c"
    assert "b" not in after


def test_without_a_filter_everything_is_taken_as_it_is() -> None:
    predicted = sets(np.random.default_rng(0).random((9, len(SPACE))).tolist())
    assert [p.codes for p in smoothed(predicted, 0)] == [p.codes for p in predicted]


def scene(seed: int, *, shift: int = 0, light: float = 1.0, noise: int = 0, side: int = 64) -> RawFrame:
    """A frame of patches; moved sideways, in other light, with other noise."""
    patches = np.random.default_rng(seed).uniform(100, 1500, (8, 8))
    mosaic = np.roll(np.kron(patches, np.ones((side // 8, side // 8))), shift, 1) * light
    noisy = mosaic + np.random.default_rng(noise).normal(0, np.sqrt(mosaic))
    return RawFrame(np.clip(noisy + 64, 0, 4095).astype(np.uint16), "GRBG", (64.0,) * 4, 4095)


def cuts(frames: Sequence[RawFrame]) -> list[int]:
    found = SceneCuts()
    return [n for n, frame in enumerate(frames) if found.seen(frame)]


def test_another_scene_is_a_cut_and_noise_is_none() -> None:
    still = [scene(1, noise=n) for n in range(5)]
    assert cuts([*still, *(scene(2, noise=n) for n in range(5)), *still]) == [5, 10]


def test_a_pan_and_a_slow_change_of_light_are_none() -> None:
    assert not cuts([scene(1, shift=2 * n, noise=n) for n in range(20)])
    assert not cuts([scene(1, light=1.2**-n, noise=n) for n in range(10)])


def test_light_that_is_switched_on_and_scenes_that_all_differ() -> None:
    assert cuts([scene(1, light=0.2, noise=n) for n in range(3)] + [scene(1, noise=4)]) == [3]
    darker = [scene(n, light=1.0 if n % 2 else 0.3) for n in range(12)]
    assert cuts(darker) == list(range(1, 12))


@pytest.mark.parametrize("side", [8, 512])
def test_frames_of_any_size_and_order_of_colours(side: int) -> None:
    frame = scene(3, side=side)
    other = replace(frame, cfa="BGGR")
    assert not cuts([frame, frame])
    assert not cuts([other, other])
