"""What captures in an hour, a night and a week buy."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import typer
from small_isp import SPACE, SmallIsp, make_lab
from typer.testing import CliRunner

import drivers.registry
from drivers.errors import DeviceError
from workbench.collect.bench import Bench
from workbench.commands.plan import plan
from workbench.errors import RunError
from workbench.judge.gain_curve import between_runs, distinct_budgets, expected_gains
from workbench.judge.methods import MethodKind
from workbench.judge.plan_in_words import plan_lines
from workbench.judge.plan_results import Plan, StepCosts, ValidatedBudget
from workbench.judge.planning import collected_in, make_plan, measure_frames, step_costs, validated_budgets
from workbench.judge.results import DeviceUsed, Headline, MethodResult, RawResult, RawScores, ValidationResult
from workbench.judge.statistics import Comparison, Interval
from workbench.lab.dataset import Dataset
from workbench.lab.runs import find_run, list_runs, new_run
from workbench.tasks.task import Metric

INFO = SmallIsp().info()
METRICS = [Metric("psnr", "PSNR", "dB", decimals=2), Metric("ssim", "SSIM")]


def point(captures: int, gain: float, error: float = 0.01, run: str = "") -> ValidatedBudget:
    return ValidatedBudget(
        run=run or f"train-{captures}",
        validation="v",
        captures=captures,
        gain=gain,
        low=gain - 1.96 * error,
        high=gain + 1.96 * error,
    )


def test_a_curve_that_saturates_goes_through_its_points_and_on() -> None:
    def true(captures: int) -> float:
        return 2 - 30 / math.sqrt(captures)

    points = [point(c, true(c)) for c in (500, 1000, 2000, 4000, 8000)]
    between, far = expected_gains(points, [3000, 100_000])
    assert between.gain == pytest.approx(true(3000), abs=0.03)
    assert between.low < true(3000) < between.high
    assert between.beyond == pytest.approx(3 / 8)
    assert far.low < true(100_000) < far.high
    assert far.beyond == pytest.approx(12.5)
    # The further from what was measured, the less is known.
    assert far.high - far.low > 3 * (between.high - between.low)


def test_two_points_leave_the_bend_open() -> None:
    points = [point(1000, 0.5), point(4000, 1.0)]
    near, week, year = expected_gains(points, [4000, 40_000, 4_000_000])
    assert near.gain == pytest.approx(1.0, abs=0.02)
    assert 1.0 < week.low < week.gain < week.high
    assert year.high - year.low > week.high - week.low > 0.2


def test_captures_do_no_harm_and_wide_intervals_stay_wide() -> None:
    falling = expected_gains([point(1000, 1.0), point(4000, 0.6)], [4000, 400_000])
    assert falling[1].gain == pytest.approx(falling[0].gain, abs=0.01)
    (sure,) = expected_gains([point(1000, 0.5), point(4000, 1.0)], [8000])
    (unsure,) = expected_gains([point(1000, 0.5, 0.4), point(4000, 1.0, 0.4)], [8000])
    assert unsure.high - unsure.low > 2 * (sure.high - sure.low)
    seeds = [point(1000, 0.5), point(4000, 0.5, run="a"), point(4000, 1.5, run="b")]
    assert between_runs(seeds) == pytest.approx(np.sqrt(0.5))
    assert between_runs(seeds[:2]) is None
    (spread,) = expected_gains(seeds, [4000])
    assert spread.high - spread.low > 1


def test_budgets_that_are_nearly_one() -> None:
    assert distinct_budgets([]) == 0
    assert distinct_budgets([point(1000, 1), point(1000, 2), point(1200, 1)]) == 1
    assert distinct_budgets([point(1000, 1), point(1300, 1), point(4000, 1)]) == 3


def test_time_for_the_collection_is_what_the_other_steps_leave() -> None:
    assert collected_in(100, 0.1, StepCosts()) == 500
    costs = StepCosts(fit_s=10, train_s=20, tune_s_a_capture=0.05, fidelity_captures=50, validation_captures=150)
    assert collected_in(100, 0.1, costs) == (100 - 30 - 20) / 0.25
    assert collected_in(30, 0.1, costs) == 0


def comparison(gain: float, error: float | None) -> Comparison:
    low, high = (None, None) if error is None else (gain - error, gain + error)
    return Comparison(estimate=gain, low=low, high=high, clusters=8, samples=8, verdict="not shown")


def validation(
    lab: Path,
    name: str,
    captures: int,
    gain: float,
    *,
    error: float | None = 0.1,
    fewer: bool = False,
    task: str = "viewing",
    train: str | None = None,
    metadata: bool = True,
    cost: int | None = None,
) -> None:
    """A finished validate run whose prediction gains so much over industry."""
    train = train or f"train-{captures}"
    figures = {m.key: Interval(estimate=1.0, low=0.5, high=1.5, clusters=8, samples=8) for m in METRICS}
    chosen = RawScores(figures={m.key: 1.0 for m in METRICS}, codes=SPACE.defaults.by_name, output_hash="")
    industry = MethodResult(
        kind=MethodKind.industry,
        key="industry",
        label="industry",
        figures=figures,
        captures=captures // 2 if fewer else captures,
    )
    predicted = MethodResult(
        kind=MethodKind.predicted,
        run=train,
        key=f"predicted:{train}",
        label="predicted",
        figures=figures,
        over={MethodKind.industry: {"psnr": comparison(gain, error)}},
        captures=cost or 2 * captures,
        metadata=metadata,
    )
    run = new_run(lab, "validate", name)
    results = ValidationResult(
        task=task,
        task_key=task,
        metrics=METRICS,
        device=DeviceUsed(identity=INFO.identity, model="small", firmware="1", space=SPACE.name, space_hash=SPACE.hash),
        raws=4,
        scenes=4,
        space=SPACE.to_dict(),
        collection_captures=captures,
        methods=[industry, predicted],
        headline=Headline(method=predicted.key),
        per_raw=[RawResult(name="a", hash="a", scene="a", methods={industry.key: chosen, predicted.key: chosen})],
    )
    results.write(run.path / "results.json")
    run.update(config={"task": task}, device=INFO)
    run.finish(results.brief())


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A lab with ten captures and no run."""
    make_lab(tmp_path, train=4, test=0)
    with Dataset.open(tmp_path) as dataset:
        jobs = [(raw, SPACE.defaults.replace(blur=blur)) for raw in dataset.raws() for blur in range(3)]
        list(Bench(dataset, SmallIsp(), purpose="collect").capture_many(jobs))
    return tmp_path


def planned(lab: Path) -> Plan:
    with Dataset.open(lab) as dataset:
        return make_plan(lab, dataset, INFO.identity, 0.1)


def test_a_lab_with_one_budget_foretells_nothing_and_says_so(lab: Path) -> None:
    made = planned(lab)
    assert [t.captures for t in made.times] == [36_000, 360_000, 6_048_000]
    assert [t.collected for t in made.times] == [18_000, 180_000, 3_024_000]
    assert made.capture_bytes is not None
    assert made.times[0].disk_bytes == round(36_000 * made.capture_bytes)
    assert all(t.expected is None for t in made.times)
    assert "the lab has no validated budget over industry" in made.notes[0]
    validation(lab, "v1", 1000, 0.5)
    made = planned(lab)
    assert "the lab has one validated budget" in made.notes[0]
    assert [b.captures for b in made.budgets] == [1000]
    text = "\n".join(plan_lines(made))
    assert "as given" in text
    assert "1,000 captures: +0.50 [+0.40, +0.60] (train-1000)" in text


def test_a_lab_with_two_budgets_gives_a_range_and_says_what_is_extrapolated(lab: Path) -> None:
    validation(lab, "v1", 5000, 0.5)
    validation(lab, "v2", 30_000, 1.0)
    for kind, results in (
        ("fit-proxy", {"fidelity": {"captures": 700}}),
        ("tune", {"score": 1.0, "file": "best.toml", "captures": 100, "compute_s": 2.0}),
    ):
        run = new_run(lab, kind, kind)
        run.update(config={"identity": INFO.identity})
        run.finish(results)
    made = planned(lab)
    assert made.costs.fidelity_captures == 700
    assert made.costs.tune_s_a_capture == pytest.approx(0.02)
    assert made.costs.validation_captures == 8
    hour, night, week = made.times
    assert 16_000 < hour.collected < 18_000
    assert hour.expected is not None
    assert night.expected is not None
    assert week.expected is not None
    assert 0.5 < hour.expected.gain < 1.0 < week.expected.gain
    assert hour.expected.beyond < 1 < night.expected.beyond < week.expected.beyond
    assert any("more than 30,000 captures, which were validated, are extrapolated" in note for note in made.notes)
    assert any("no budget was validated with two runs" in note for note in made.notes)
    text = "\n".join(plan_lines(made))
    assert "× beyond" in text
    assert "fidelity report 700 captures" in text
    assert Plan.from_json(json.loads(json.dumps(made.to_json())), "plan") == made


def test_what_does_not_belong_to_the_curve_is_left_out(lab: Path) -> None:
    validation(lab, "old", 1000, 0.1, train="a")
    validation(lab, "new", 1000, 0.2, train="a")
    validation(lab, "unfair", 2000, 9.0, fewer=True)
    validation(lab, "few-scenes", 3000, 9.0, error=None)
    run = new_run(lab, "validate", "damaged")
    run.update(device=INFO)
    run.finish({})
    notes: list[str] = []
    budgets, metric, _ = validated_budgets(list_runs(lab), notes)
    assert [(b.run, b.gain) for b in budgets] == [("a", 0.2)]
    assert metric == METRICS[0]
    assert len(notes) == 3
    assert any("where industry had fewer captures" in note for note in notes)
    assert any("has no interval" in note for note in notes)
    for name, kind, config in (
        ("p", "fit-proxy", {"collected": 500}),
        ("b", "train", {"proxy": "p"}),
        ("c", "train", {"on_top_of": {"rule": "industry"}}),
    ):
        run = new_run(lab, kind, name)
        run.update(config={**config, "identity": INFO.identity})
        run.finish({})
    validation(lab, "on-top", 2000, 3.0, train="c")
    validation(lab, "image-only", 2000, 3.0, metadata=False)
    validation(lab, "later", 4000, 0.1, train="b")
    # Of a predictor the captures count that its proxy was fitted to; other kinds of predictors are other curves.
    assert [(b.run, b.captures) for b in validated_budgets(list_runs(lab), [])[0]] == [("b", 500), ("a", 1000)]
    validation(lab, "boxes", 9000, 5.0, task="detection:abc")
    assert [b.captures for b in validated_budgets(list_runs(lab), [])[0]] == [9000]  # the newest one's task
    assert step_costs([]) == StepCosts()


def test_refined_predictions_are_a_curve_of_their_own(lab: Path) -> None:
    spent = {"captures": 5000, "budget": 6000, "device_s": 0.25, "rounds": [], "best": 0, "metrics": ["psnr"]}
    for name, config, results in (
        ("a", {}, {}),
        ("refined", {"refine": {"captures": 6000}}, {"refine": spent}),
        ("longer", {"refine": {"captures": 9000}}, {"refine": spent}),
    ):
        run = new_run(lab, "train", name)
        run.update(config={**config, "identity": INFO.identity})
        run.finish(results)
    trained, refined = (find_run(lab, "train", name) for name in ("a", "longer"))
    assert step_costs(list_runs(lab)).train_s == trained.took_s()
    took_s = refined.took_s()
    assert took_s is not None
    assert step_costs(list_runs(lab), refined=True).train_s == max(took_s - 0.25, 0)
    validation(lab, "v1", 1000, 0.5, train="a")
    validation(lab, "v2", 4000, 1.0, train="refined")
    # The rule under it is part of what a refined prediction takes, so the table must have had all of it.
    notes: list[str] = []
    assert validated_budgets(list_runs(lab), notes).budgets == []
    assert notes == ["left out: refined in v2, where industry had fewer captures than the prediction"]
    validation(lab, "v3", 4000, 1.0, train="refined", cost=4000)
    validation(lab, "v4", 9000, 3.0, train="longer", cost=9000)
    made = planned(lab)
    assert made.refined
    assert [(b.run, b.captures) for b in made.budgets] == [("refined", 4000), ("longer", 9000)]
    assert made.times[0].expected is not None
    text = "\n".join(plan_lines(made))
    assert "for prediction: what is left for rule, refinement and choosing how far to follow it" in text
    validation(lab, "v5", 2000, 0.7, train="a")
    assert [(b.run, b.captures) for b in planned(lab).budgets] == [("a", 2000)]
    assert not planned(lab).refined


def test_the_frame_time_is_measured_with_captures_that_are_kept(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        isp = SmallIsp()
        seconds, frames = measure_frames(dataset, isp)
        assert seconds > 0
        assert isp.asked == frames + 2
        measure_frames(dataset, isp)
        kept = dataset.captures(purpose="plan")
        assert len(kept) == isp.asked
        with pytest.raises(DeviceError, match="gone"):
            measure_frames(dataset, SmallIsp(gone_after=0))


def test_without_raws_nothing_is_measured(tmp_path: Path) -> None:
    with Dataset.open(tmp_path, create=True) as dataset, pytest.raises(RunError, match="no training RAW to capture"):
        measure_frames(dataset, SmallIsp())


def test_the_command(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers.registry, "open_device", lambda url, deadline_s=30.0: SmallIsp())
    app = typer.Typer(rich_markup_mode=None)
    app.command()(plan)

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["--lab", str(lab), *words])
        return done.exit_code, done.stdout

    assert run()[0] == 2
    assert run("--device", "small:", "--frame-ms", "3")[0] == 2
    assert run("--device", "small:", "--identity", "a")[0] == 2
    code, out = run("--frame-ms", "250")
    assert code == 0, out
    assert f"{INFO.identity}: 250 ms a capture, as given" in out
    assert "14,400" in out
    code, out = run("--device", "small:", "--json")
    assert code == 0, out
    told = json.loads(out)
    assert told["frames"] > 0
    assert [t["captures"] for t in told["times"]] == [int(t["seconds"] / told["frame_s"]) for t in told["times"]]
