from __future__ import annotations

import numpy as np
import pytest
from gain_gamma import SPACE, render, scene

from drivers.parameters import ParameterSet
from proxy.fidelity import Probe, movements, probe_sets, rank_correlation


def test_probe_sets_move_one_parameter() -> None:
    base = SPACE.from_unit(np.array([0.4, 0.6, 0.2]))
    probes = probe_sets(SPACE, base)
    assert [name for name, _, _ in probes] == SPACE.names
    for i, (_, before, after) in enumerate(probes):
        moved = [a != b for a, b in zip(before.codes, after.codes, strict=True)]
        assert moved == [j == i for j in range(3)]
        assert before.unit[i] < after.unit[i]


def probes_with(proxy) -> list[Probe]:
    base = SPACE.from_unit(np.array([0.4, 0.6, 0.2]))
    made = []
    for name, before, after in probe_sets(SPACE, base):
        images = [render(scene(1), p) for p in (before, after)]
        made.append(Probe(name, *images, proxy(before), proxy(after)))
    return made


def test_a_perfect_proxy() -> None:
    table = movements(SPACE, probes_with(lambda p: render(scene(1), p)))
    assert [(m.parameter, m.block) for m in table] == [("gain", "gain"), ("gamma", "tone"), ("red_blue", "colour")]
    for m in table:
        assert m.device_change > 1
        assert (m.cosine, m.gain) == (pytest.approx(1), pytest.approx(1))
        assert m.psnr > 70
        assert m.ssim == pytest.approx(1)


def test_a_proxy_that_ignores_one_parameter() -> None:
    def deaf(p: ParameterSet) -> np.ndarray:
        return render(scene(1), p.replace(gamma=0.6))

    gain, gamma, _ = movements(SPACE, probes_with(deaf))
    assert gain.gain > 0.5
    assert gamma.gain == 0
    assert np.isnan(gamma.cosine)


def test_a_proxy_that_moves_the_wrong_way() -> None:
    base = scene(1)
    inverted = movements(SPACE, probes_with(lambda p: 255 - render(base, p)))
    assert all(m.cosine == pytest.approx(-1) and m.gain == pytest.approx(-1) for m in inverted)


def test_parameters_without_probes_are_left_out() -> None:
    only = [p for p in probes_with(lambda p: render(scene(1), p)) if p.parameter == "gamma"]
    assert [m.parameter for m in movements(SPACE, only)] == ["gamma"]


def test_rank_correlation() -> None:
    device = np.array([[1.0, 2, 3, 4], [10, 20, 5, 7]])
    assert rank_correlation(device, device**3) == pytest.approx(1)
    assert rank_correlation(device, -device) == pytest.approx(-1)
    assert rank_correlation(device[:1], np.array([[1.0, 2, 4, 3]])) == pytest.approx(0.8)
    # A RAW on which every set is equally good ranks nothing.
    assert np.isnan(rank_correlation(np.ones((1, 4)), device[:1]))
    mixed = np.array([[1.0, 1, 1, 1], [1, 2, 3, 4]])
    assert rank_correlation(mixed, device[[0, 0]]) == pytest.approx(1)
