"""Searches and rules where parameters stand in constraints, and exist under a choice alone."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.agent import Agent, choice, continuous
from drivers.parameters import ParameterSet
from workbench.judge.blocks import mixed_set
from workbench.rules.regression import FEATURES, Regression
from workbench.tune.proposals import CmaEsProposer, gaussian_process

SPACE = Agent(
    model="two-thresholds",
    firmware="1",
    parameters=[
        continuous("low", 0, 1, step=1 / 64, default=0.25, block="one"),
        continuous("high", 0, 1, step=1 / 64, default=0.75, block="other"),
        choice("denoise", ["off", "bilateral"]),
        continuous("sigma", 0, 4, step=1 / 16, default=1, when=("denoise", ["bilateral"])),
    ],
    constraints=["low < high"],
).space


def legal(parameters: ParameterSet) -> bool:
    return SPACE.relations.broken(parameters.codes) is None


def test_optunas_samplers_propose_legal_sets() -> None:
    search = gaussian_process(SPACE.defaults, SPACE.names, seed=3, startup=12)
    asked = []
    for _ in range(12):
        batch = search.ask()
        asked += batch
        search.tell(batch, [(0.0,)])
    assert all(map(legal, asked))
    assert len({a.hash for a in asked}) > 8


def test_cma_es_searches_what_exists_under_the_choice_that_it_proposes() -> None:
    asked = CmaEsProposer(SPACE.defaults, SPACE.names, seed=1, sigma=0.3).ask()
    asked += CmaEsProposer(SPACE.defaults, SPACE.names, seed=2, sigma=0.3).ask()
    chosen = [a["sigma"] for a in asked if a["denoise"] == "bilateral"]
    assert chosen
    assert set(chosen) != {1.0}


def test_a_regression_keeps_what_exists_under_its_choice() -> None:
    flat = np.zeros(len(FEATURES))
    rule = Regression(
        SPACE, flat, flat + 1, np.zeros((len(FEATURES), 4)), np.array([0.2, 0.8, 0.0, 0.75]), {"denoise": 1}
    )
    assert rule.at(flat)["sigma"] == pytest.approx(3)


def test_sets_of_which_a_block_is_exchanged_are_legal() -> None:
    own, other = SPACE.parse({"low": 0.5}, partial=True), SPACE.parse({"low": 0.1, "high": 0.3}, partial=True)
    mixed = mixed_set(own, other, ["high"])
    assert legal(mixed)
    assert mixed != own
