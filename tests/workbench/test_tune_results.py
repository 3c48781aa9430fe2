"""The results of ``tune`` runs: what was given is written, and read back of every version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivers.parameters import Native
from workbench.errors import RunError
from workbench.lab.runs import RunFolder
from workbench.rules.tuned import RULES, Rule
from workbench.tune.methods import METHODS, SEARCHES, MethodName, is_strong
from workbench.tune.results import (
    AutoResult,
    FixedResult,
    MetricRecord,
    ParetoPoint,
    ProxyGradientResult,
    RegressionResult,
    TableResult,
    TuneResult,
    tune_result,
)

# As the first versions wrote it.
OLD: dict[str, Any] = {"score": 20.1, "file": "best.toml", "captures": 40, "history": [[4, 15.5], [8, 20.1]]}


def run_of(config: dict[str, Any], results: dict[str, Any]) -> RunFolder:
    return RunFolder(Path("lab/runs/one"), {"kind": "tune", "config": config, "results": results})


@pytest.mark.parametrize(
    ("config", "more", "kind"),
    [
        ({}, {}, FixedResult),
        ({"rule": "as-shot"}, {"parameters": {"gamma": 2.2, "radius": 3, "mode": "b", "on": True}}, FixedResult),
        ({"industry": True}, {"knots_iso": [100.0, 800.0], "kept": "table"}, TableResult),
        ({"rule": "industry-grey-world"}, {}, TableResult),
        ({"rule": "regression"}, {"images": ["a.npz"], "penalty": 10.0}, RegressionResult),
        ({"rule": "auto"}, {"figures": ["iso"], "parameters": 18, "generations": 9, "kept": "rule"}, AutoResult),
        ({"rule": "fixed"}, {"proxy": "p", "held": ["gamma"]}, ProxyGradientResult),
    ],
)
def test_a_record_of_any_version_is_read_and_written_as_it_was(
    config: dict[str, Any], more: dict[str, Any], kind: type[TuneResult]
) -> None:
    result = tune_result(run_of(config, {**OLD, **more}))
    assert type(result) is kind
    assert (result.captures, result.history, result.device_s) == (40, ((4, 15.5), (8, 20.1)), None)
    assert result.to_json() == {**OLD, **more}


def test_values_keep_their_kind() -> None:
    values: dict[str, Native] = {"gamma": 2.0, "radius": 2, "mode": "2", "on": True}
    point = ParetoPoint(values={"psnr": 20.5}, parameters=values, parameters_hash="ab")
    written = FixedResult(score=20.5, file="best.toml", pareto=(point,)).to_json()["pareto"][0]["parameters"]
    assert [(v, type(v)) for v in written.values()] == [(v, type(v)) for v in values.values()]


def test_a_damaged_record_is_one_line() -> None:
    damages: list[dict[str, Any]] = [{"score": "high"}, {"pareto": [{}]}, {"surprise": 1}, {"format": 2}]
    for damage in damages:
        with pytest.raises(RunError, match=r"run\.json: ") as caught:
            tune_result(run_of({}, {**OLD, **damage}))
        assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match="rule 'magic' is not one of fixed, as-shot"):
        tune_result(run_of({"rule": "magic"}, OLD))


def test_every_method_and_rule_is_known_in_one_place() -> None:
    assert list(METHODS) == list(MethodName)
    assert [m for m in METHODS if METHODS[m].needs_proxy] == [m for m in MethodName if m not in SEARCHES]
    assert list(RULES) == list(Rule)
    assert (is_strong("cmaes"), is_strong("random"), is_strong("anneal"), is_strong(None)) == (
        True,
        False,
        False,
        False,
    )
    assert MetricRecord(name="psnr").to_json() == {"name": "psnr", "unit": "", "better": "higher"}
