"""A search on a device that fails frames: failed trials rank last, cost their captures, and end nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from small_isp import SPACE, SmallIsp, make_lab

from drivers.device import Capture, Failure, FrameFailedError
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.splits import Split
from workbench.collect.failures import TooManyFailuresError
from workbench.errors import RunError
from workbench.judge.budgets import less_than
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder
from workbench.rules.balance import without_gains
from workbench.tasks.viewing import Scorer
from workbench.tune.fixed import tune_run
from workbench.tune.oracle import search_oracle
from workbench.tune.search import SearchBench, open_study
from workbench.tune.tuner import TuneSettings

pytestmark = pytest.mark.usefixtures("studies_in_memory")
Refusal = Callable[[RawFrame, ParameterSet], bool]


class RefusingIsp(SmallIsp):
    """Refuses some frames, or gives half a picture for them."""

    def __init__(self, refuses: Refusal, *, spoils: bool = False) -> None:
        super().__init__()
        self.refuses, self.spoils, self.refused = refuses, spoils, 0

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        if not self.refuses(raw, parameters):
            return super().process(raw, parameters)
        self.refused += 1
        if not self.spoils:
            raise FrameFailedError("small: no", Failure(raw.hash, parameters, "failed", "no such curve", "boot-1"))
        good = super().process(raw, parameters)
        rgb = RgbFrame(good.rgb.encoded[:50], "image/png")
        return Capture(raw.hash, parameters, good.parameters_in_force, rgb, "boot-1", good.frame, 0.001, 0.001)


def curve_c(raw: RawFrame, parameters: ParameterSet) -> bool:
    return parameters["curve"] == "c"


def bright(raw: RawFrame, parameters: ParameterSet) -> bool:
    return float(parameters["exposure"]) > 3


def inverted(raw: RawFrame, parameters: ParameterSet) -> bool:
    return bool(parameters["invert"]) and raw.iso == 100.0


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    make_lab(tmp_path / "lab", train=8, test=2)
    return tmp_path / "lab"


def tune(lab: Path, device: SmallIsp, method: str = "random", **settings: object) -> RunFolder:
    with Dataset.open(lab) as dataset:
        rule = str(settings.pop("rule", "fixed"))
        expert = settings.pop("expert", None)
        made = TuneSettings(method, raws_per_trial=2, **{"captures": 60, **settings})  # type: ignore[arg-type]
        return tune_run(lab, dataset, device, made, rule=rule, expert=expert)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "refuses", "more"),
    [
        ("random", curve_c, ()),
        ("cmaes", bright, ()),
        ("tpe", curve_c, ()),
        ("gp", curve_c, ()),
        ("nelder-mead", bright, ()),
        ("blockwise", inverted, ()),
        ("nsga2", curve_c, ("ssim", "bytes")),
        ("worst-rank", curve_c, ("ssim",)),
    ],
)
def test_failed_trials_rank_last_and_cost_their_captures(
    lab: Path, method: str, refuses: Refusal, more: tuple[str, ...]
) -> None:
    device = RefusingIsp(refuses)
    captures = 36 if method == "gp" else 60
    run = tune(lab, device, method, more_metrics=more, captures=captures)
    results = run.results
    assert results["captures"] == device.asked + device.refused <= captures
    assert results["failed"] == device.refused
    assert not refuses(make_frame(100.0), SPACE.parse(results["parameters"]))
    study = open_study(lab, results["studies"][0], {})
    states = [trial.state for trial in study.trials]
    failed = [t for t in study.trials if t.state == optuna.trial.TrialState.FAIL]
    assert len(failed) == results["failed_trials"]
    assert all("failed: no such curve" in t.user_attrs["reason"] for t in failed)
    assert len(states) == results["failed_trials"] + results["trials"]
    if device.refused:
        assert results["failures_by_reason"] == {"failed: no such curve": device.refused}
    # The same again is read from the data set and the study, and ends where the first did.
    again = RefusingIsp(refuses)
    (run.path / results["file"]).unlink()
    repeated = tune(lab, again, method, more_metrics=more, captures=captures)
    assert again.asked == again.refused == 0
    assert repeated.results["parameters_hash"] == results["parameters_hash"]
    assert len(study.get_trials()) == len(states)


def make_frame(iso: float) -> RawFrame:
    import numpy as np

    return RawFrame(np.zeros((4, 4), np.uint16), "RGGB", (0, 0, 0, 0), 1023, iso=iso)


@pytest.mark.parametrize("spoils", [False, True])
def test_a_raw_that_the_device_never_takes_is_left_out(lab: Path, spoils: bool) -> None:
    with Dataset.open(lab) as dataset:
        bad = dataset.raws(Split.TRAIN)[1]
    device = RefusingIsp(lambda raw, parameters: raw.hash == bad.hash, spoils=spoils)
    results = tune(lab, device, captures=80).results
    assert list(results["raws_left_out"]) == [bad.name]
    assert results["failed_trials"] == 0
    assert results["captures"] <= 80


@pytest.mark.parametrize("rule", ["as-shot", "industry", "industry-grey-world", "regression", "auto"])
def test_every_rule_outlives_failures(lab: Path, rule: str) -> None:
    captures = 240 if rule == "regression" else 160
    device = RefusingIsp(curve_c)
    method = "cmaes" if rule == "auto" else "random"
    results = tune(lab, device, method, rule=rule, captures=captures).results
    assert results["failed"] == device.refused > 0
    assert results["score"] > 0


def test_defaults_that_fail_have_no_figure(lab: Path) -> None:
    device = RefusingIsp(lambda raw, parameters: parameters.hash == SPACE.defaults.hash)
    results = tune(lab, device).results
    assert results["default_on_trial_raws"] is None
    assert results["failed_trials"] == 1


def test_a_device_that_takes_nothing_ends_the_search(lab: Path) -> None:
    with pytest.raises((TooManyFailuresError, RunError), match="no such curve"):
        tune(lab, RefusingIsp(lambda raw, parameters: True), captures=400)
    with pytest.raises((TooManyFailuresError, RunError), match="no such curve"):
        tune(lab, RefusingIsp(lambda raw, parameters: True), captures=6)


def test_the_oracle_passes_failed_sets_over(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        raws = dataset.raws(Split.TRAIN)[:2]
        starts = [(raw, [SPACE.defaults.replace(curve="c"), SPACE.defaults]) for raw in raws]
        bench = SearchBench(dataset, RefusingIsp(curve_c), purpose="oracle", patience=2)
        found = search_oracle(bench, Scorer(), starts, budget=12)
        assert all(not r.failed and r.value > 0 and r.parameters["curve"] != "c" for r in found)
        nothing = SearchBench(dataset, RefusingIsp(lambda raw, p: True), purpose="oracle", patience=100)
        starts = [(raw, [SPACE.defaults.replace(blur=1)]) for raw in raws]
        assert all(r.failed for r in search_oracle(nothing, Scorer(), starts, budget=4))


@pytest.mark.parametrize(
    ("roles", "missing"),
    [
        ({}, "red_gain or blue_gain"),
        ({"red": "red_gain"}, "role blue_gain"),
        ({"blue": "blue_gain"}, "role red_gain"),
        ({"red": "red_gain", "blue": "blue_gain"}, ""),
    ],
)
def test_roles_that_are_not_there_are_said(roles: dict[str, str], missing: str) -> None:
    parameters = [{**p, "role": roles.get(p["name"])} for p in SPACE.to_dict()["parameters"]]
    text = without_gains(ParameterSpace.from_dict({"name": "some", "parameters": parameters}))
    assert missing in text
    assert bool(text) == bool(missing)


@pytest.mark.parametrize(
    ("spent", "budget", "rounding", "less"),
    [(29, 30, 1, False), (16, 30, 14, False), (28, 30, 0, True), (3999, 4000, 0, False), (None, 10, 0, True)],
)
def test_the_rounding_of_a_search_is_no_note(spent: int | None, budget: int, rounding: int, less: bool) -> None:
    assert less_than(spent, budget, rounding) == less
