from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from small_isp import SPACE, render

from drivers.agent import Agent, choice, continuous
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from workbench.learn.fidelity import MAX_PSNR_DB, Probe, movements, probe_sets, rank_correlation
from workbench.learn.loss_moves import moves_from

BASE = SPACE.from_unit(np.array([0.4, 0.6, 0.2, 0.1, 0.5, 0.2]))
RAW = RawFrame(np.random.default_rng(1).integers(60, 600, (16, 16), dtype=np.uint16), "RGGB", (0, 0, 0, 0), 1023)


def test_probe_sets_move_one_parameter() -> None:
    probes = probe_sets(SPACE, BASE)
    assert [name for name, _, _ in probes] == SPACE.names
    for i, (_, before, after) in enumerate(probes):
        moved = [a != b for a, b in zip(before.codes, after.codes, strict=True)]
        assert moved == [j == i for j in range(len(SPACE))]
        assert before.unit[i] < after.unit[i]


def test_what_is_not_searched_is_not_moved_and_what_depends_on_a_choice_is_moved_where_it_exists() -> None:
    agent = Agent(
        model="m",
        firmware="1",
        parameters=[
            choice("denoise", ["off", "box", "bilateral"]),
            continuous("sigma", 0, 4, step=1 / 16, default=1, when=("denoise", ["bilateral"])),
            continuous("port", 0, 1, step=1 / 16, searched=False),
        ],
    )
    probes = {name: (before, after) for name, before, after in probe_sets(agent.space, agent.space.defaults)}
    assert list(probes) == ["denoise", "sigma"]
    assert [p.values for p in probes["sigma"]] == [
        {"denoise": "bilateral", "sigma": sigma, "port": 0.5} for sigma in (0.375, 3.625)
    ]
    assert {name for name, _ in moves_from(agent.space, agent.space.defaults)} == {"denoise"}
    assert {name for name, _ in moves_from(agent.space, probes["sigma"][0])} == {"denoise", "sigma"}


def probes_with(proxy: Callable[[ParameterSet], np.ndarray]) -> list[Probe]:
    return [
        Probe(name, render(RAW, before), render(RAW, after), proxy(before), proxy(after))
        for name, before, after in probe_sets(SPACE, BASE)
    ]


def test_a_perfect_proxy() -> None:
    table = movements(SPACE, probes_with(lambda p: render(RAW, p)))
    assert [(m.parameter, m.block) for m in table] == [(p.name, p.block) for p in SPACE.parameters]
    for m in table:
        assert m.device_change is not None
        assert m.device_change > 1
        assert m.cosine == pytest.approx(1)
        assert m.gain == pytest.approx(1)
        assert m.psnr == MAX_PSNR_DB
        assert m.ssim == pytest.approx(1)


def test_a_proxy_that_ignores_one_parameter() -> None:
    table = {m.parameter: m for m in movements(SPACE, probes_with(lambda p: render(RAW, p.replace(curve="b"))))}
    assert (table["exposure"].gain or 0) > 0.5
    assert table["curve"].gain == 0
    assert table["curve"].cosine is not None
    assert np.isnan(table["curve"].cosine)
    assert table["curve"].direction == 0


def test_a_proxy_that_moves_the_wrong_way() -> None:
    inverted = movements(SPACE, probes_with(lambda p: 255 - render(RAW, p)))
    assert all(m.cosine == pytest.approx(-1) and m.gain == pytest.approx(-1) for m in inverted)


def test_parameters_without_probes_are_left_out() -> None:
    only = [p for p in probes_with(lambda p: render(RAW, p)) if p.parameter == "curve"]
    assert [m.parameter for m in movements(SPACE, only)] == ["curve"]


def test_rank_correlation() -> None:
    device = np.array([[1.0, 2, 3, 4], [10, 20, 5, 7]])
    assert rank_correlation(device, device**3) == pytest.approx(1)
    assert rank_correlation(device, -device) == pytest.approx(-1)
    assert rank_correlation(device[:1], np.array([[1.0, 2, 4, 3]])) == pytest.approx(0.8)
    # A RAW on which every set is equally good ranks nothing.
    assert np.isnan(rank_correlation(np.ones((1, 4)), device[:1]))
    mixed = np.array([[1.0, 1, 1, 1], [1, 2, 3, 4]])
    assert rank_correlation(mixed, device[[0, 0]]) == pytest.approx(1)
