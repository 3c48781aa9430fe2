"""The results of ``fit-proxy`` and ``train`` runs: what was given is written, and read back of every version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from workbench.errors import RunError
from workbench.lab.runs import RunFolder
from workbench.learn.results import FidelityReport, Following, HeldOutPsnr, Movement, ProxyFitResult, TrainResult

# As the first versions wrote it: no blocks, no frames that failed.
OLD: dict[str, Any] = {
    "captures": 12,
    "curve": [[20, -5.5], [40, -6.0]],
    "new_sets_new_raws": {"captures": 3, "psnr": 20.5, "psnr_median": 21.0, "psnr_p5": 15.0},
    "fidelity": {"parameters": [{"parameter": "gamma", "device_change": 0.0, "cosine": None, "gain": None}]},
}


def test_an_older_record_is_read_and_written_as_it_was() -> None:
    result = ProxyFitResult.of(RunFolder(Path("lab/runs/one"), {"results": OLD}))
    assert result.curve == ((20, -5.5), (40, -6.0))
    assert result.new_sets_known_raws is None
    assert result.fidelity is not None
    assert result.fidelity.parameters[0].direction == 0
    assert (result.fidelity.captures, result.fidelity.faults) == (None, {})
    assert result.to_json() == OLD


def test_what_is_no_number_is_written_as_null() -> None:
    moved = Movement(parameter="nr", block="noise", device_change=0.0, cosine=float("nan"), gain=float("nan"))
    report = FidelityReport(parameters=(moved,), blocks={"noise": Following(cosine=float("nan"))}, captures=8)
    held = HeldOutPsnr(captures=1, psnr=20.0, psnr_median=20.0, psnr_p5=20.0)
    result = ProxyFitResult(curve=((20, -5.5),), captures=4, new_sets_new_raws=held, fidelity=report)
    written = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert written["fidelity"]["parameters"][0] == {
        "parameter": "nr",
        "block": "noise",
        "device_change": 0.0,
        "cosine": None,
        "gain": None,
    }
    assert set(written) == {"curve", "captures", "new_sets_new_raws", "fidelity"}
    again = ProxyFitResult.from_json(written, "run.json")
    assert again.to_json() == written
    trained = TrainResult(curve=((1, 0.5, None),), held_out_loss=float("inf"), parameters=9, torch="2")
    assert trained.to_json() == {"curve": [[1, 0.5, None]], "held_out_loss": None, "parameters": 9, "torch": "2"}


def test_results_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrainResult().torch = "3"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"curve": 5}, "curve"),
        ({"curve": [[1, "low"]]}, "curve"),
        ({"fidelity": {"parameters": [{"cosine": 1.0}]}}, r"fidelity\.parameters\.0\.parameter"),
        ({"format": 2}, "reads up to 1"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_damaged_record_is_one_line(damage: dict[str, Any], told: str) -> None:
    run = RunFolder(Path("lab/runs/one"), {"results": {**OLD, **damage}})
    with pytest.raises(RunError, match=told) as caught:
        ProxyFitResult.of(run)
    assert "run.json" in str(caught.value)
    assert "\n" not in str(caught.value)
