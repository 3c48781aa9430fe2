"""Two tunings at once, then two validations, on one data set of a server: no frame is asked for twice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from postgresql_server import KeptIn
from sim_lab import make_lab

from workbench import Lab, ValidationSettings
from workbench.lab.dataset import Dataset
from workbench.tune.methods import MethodName

BOARD = "sim:sim20"


def at_once(*calls: Callable[[], object]) -> None:
    """The calls, each with its own connections and device, as in processes of their own."""
    barrier = Barrier(len(calls))

    def begin(call: Callable[[], object]) -> None:
        barrier.wait(60)
        call()

    with ThreadPoolExecutor() as pool:
        list(pool.map(begin, calls))


def assert_each_asked_once(lab: Path, least: int) -> None:
    with Dataset.open(lab) as dataset:
        captures, uses = dataset.captures(), dataset.device_uses()
    assert len(captures) >= least
    assert sum(use.asked for use in uses) == len(captures)
    assert len({(c.raw_hash, c.parameters_hash) for c in captures}) == len(captures)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kept_in", ["postgresql"], indirect=True)
def test_two_of_a_kind_share_their_captures(tmp_path: Path, kept_in: KeptIn) -> None:
    lab = make_lab(kept_in(tmp_path / "lab"), captures=0, test=2)

    def tune(name: str) -> object:
        return Lab(lab).tune(BOARD, 24, method=MethodName.random, raws_per_trial=4, name=name)

    def validate(name: str) -> object:
        return Lab(lab).validate(BOARD, settings=ValidationSettings(fixed="one", oracle_captures=4), name=name)

    at_once(lambda: tune("one"), lambda: tune("other"))
    assert_each_asked_once(lab, 24)
    at_once(lambda: validate("first"), lambda: validate("second"))
    assert_each_asked_once(lab, 26)
