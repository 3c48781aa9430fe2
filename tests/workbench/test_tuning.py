from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import shutil
import signal
import sqlite3
import sys
import time
import types
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna
import pytest
import typer
from small_isp import SPACE, SmallIsp, make_lab, render
from typer.testing import CliRunner, Result

from drivers.device import Capture
from drivers.errors import DeviceUnreachableError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.splits import Split
from workbench.collect.bench import Bench
from workbench.commands.tune import tune as tune_command
from workbench.errors import RunError, StoppedError
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, list_runs
from workbench.lab.stratified import stratified
from workbench.rules.balance import grey_world, with_as_shot, with_gains
from workbench.rules.industry import IndustryTable, knots_of, nearest_knot
from workbench.rules.regression import FEATURES, Regression, constant, features
from workbench.rules.tuned import sets_of
from workbench.tasks.viewing import Scorer, referenced_raws
from workbench.tune.fixed import tune_run
from workbench.tune.methods import SEARCHES, new_proposer
from workbench.tune.oracle import search_oracle
from workbench.tune.proposals import RandomProposer
from workbench.tune.regression import fit_ridge
from workbench.tune.search import SearchBench, open_study, search
from workbench.tune.tuner import TuneSettings
from workbench.tune.worst_rank import WorstRankProposer, worst_ranks


@dataclass(frozen=True)
class Facts:
    iso: float | None = None
    as_shot_wb: tuple[float, float, float] | None = None


@pytest.fixture(scope="module")
def no_studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study file without studies: to make one takes longer than a short search."""
    file = tmp_path_factory.mktemp("studies") / "studies.sqlite"
    optuna.delete_study(study_name=open_study(file.parent, "none", {}).study_name, storage=f"sqlite:///{file}")
    return file


@pytest.fixture
def lab(tmp_path: Path, studies_in_memory: None) -> Path:
    make_lab(tmp_path / "lab")
    return tmp_path / "lab"


@pytest.fixture
def lab_on_disk(tmp_path: Path, no_studies: Path) -> Path:
    """With a study file."""
    make_lab(tmp_path / "lab")
    shutil.copy(no_studies, tmp_path / "lab")
    return tmp_path / "lab"


def storage_of(lab: Path) -> str:
    return f"sqlite:///{lab / 'studies.sqlite'}"


def tune(lab: Path, device: SmallIsp, settings: TuneSettings, **more: Any) -> RunFolder:
    with Dataset.open(lab) as dataset:
        return tune_run(lab, dataset, device, settings, **more)


def keys(lab: Path) -> set[tuple[str, str]]:
    with Dataset.open(lab) as dataset:
        return {(c.raw_hash, c.parameters_hash) for c in dataset.captures()}


@pytest.mark.parametrize("method", SEARCHES)
def test_tuning_finds_better_parameters_on_training_raws_only(lab: Path, method: str) -> None:
    device = SmallIsp()
    captures = {"gp": 100, "cmaes": 240, "tpe": 240, "blockwise": 240}.get(method, 140)
    settings = TuneSettings(method, captures=captures, raws_per_trial=4)
    run = tune(lab, device, settings)
    results = run.results
    assert results["score"] > results["default_on_trial_raws"] + 2
    assert results["captures"] == captures
    assert results["captures"] == device.asked == results["captures_asked_now"]
    best = SPACE.load_toml(run.path / "best.toml")
    assert best.hash == results["parameters_hash"]
    if method in ("cmaes", "tpe", "blockwise"):
        assert (best["curve"], best["invert"]) == ("b", False)
    with Dataset.open(lab) as dataset:
        assert {c.purpose for c in dataset.captures()} == {f"tune:{results['studies'][0]}"}
        training = {r.hash: r.scene for r in dataset.raws(Split.TRAIN)}
        assert {c.raw_hash for c in dataset.captures()} <= set(training)
        assert set(run.config["scenes"]) <= set(training.values())


def test_trials_are_in_an_ordinary_study_with_native_values(lab_on_disk: Path) -> None:
    run = tune(lab_on_disk, SmallIsp(), TuneSettings("cmaes", captures=100, raws_per_trial=4))
    study = optuna.load_study(
        study_name=run.results["studies"][0], storage=f"sqlite:///{lab_on_disk / 'studies.sqlite'}"
    )
    assert len(study.trials) == run.results["trials"]
    assert all(t.state is optuna.trial.TrialState.COMPLETE for t in study.trials)
    assert study.trials[0].params == SPACE.defaults.values
    assert study.best_trial.params["curve"] in ("a", "b", "c")
    assert study.best_value == pytest.approx(max(h[1] for h in run.results["history"]))


def test_the_expert_is_tried_second(lab_on_disk: Path) -> None:
    expert = SPACE.parse({"exposure": 1.5, "curve": "b", "invert": False}, partial=True)
    run = tune(lab_on_disk, SmallIsp(), TuneSettings("tpe", captures=100, raws_per_trial=4), expert=expert)
    study = optuna.load_study(
        study_name=run.results["studies"][0], storage=f"sqlite:///{lab_on_disk / 'studies.sqlite'}"
    )
    assert study.trials[1].params == expert.values
    assert run.results["expert_on_trial_raws"] == pytest.approx(study.trials[1].value)


@pytest.mark.parametrize(
    ("method", "rule", "more_metrics"),
    [
        ("tpe", "fixed", ()),
        ("nsga2", "as-shot", ("ssim", "bytes")),
        ("cmaes", "industry", ()),
    ],
)
def test_a_tuning_that_lost_its_device_goes_on_as_if_nothing_had_been(
    tmp_path: Path, method: str, rule: str, more_metrics: tuple[str, ...]
) -> None:
    settings = TuneSettings(method, captures=90, raws_per_trial=3, more_metrics=more_metrics)
    for name in ("calm", "stormy"):
        make_lab(tmp_path / name)
    calm = tune(tmp_path / "calm", SmallIsp(), settings, rule=rule)
    asked = 0
    for gone_after in (0, 3, 40):
        device = SmallIsp(gone_after=gone_after)
        with pytest.raises(DeviceUnreachableError):
            tune(tmp_path / "stormy", device, settings, rule=rule)
        asked += device.asked
    device = SmallIsp()
    stormy = tune(tmp_path / "stormy", device, settings, rule=rule)
    assert asked + device.asked == len(keys(tmp_path / "stormy"))
    assert keys(tmp_path / "stormy") == keys(tmp_path / "calm")
    changing = {"seconds", "compute_s", "captures_asked_now"}
    assert {k: v for k, v in stormy.results.items() if k not in changing} == {
        k: v for k, v in calm.results.items() if k not in changing
    }


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_tuning_killed_at_any_capture_goes_on(tmp_path: Path) -> None:
    settings = TuneSettings("cmaes", 60, 3)
    make_lab(tmp_path / "lab")
    for killed_after in (40, 7):
        # A fork has imported all already.
        process = multiprocessing.get_context("fork").Process(
            target=tune, args=(tmp_path / "lab", SmallIsp(killed_after=killed_after), settings)
        )
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
    before, device = keys(tmp_path / "lab"), SmallIsp()
    run = tune(tmp_path / "lab", device, settings)
    make_lab(tmp_path / "calm")
    calm = tune(tmp_path / "calm", SmallIsp(), settings)
    assert run.results["parameters_hash"] == calm.results["parameters_hash"]
    assert keys(tmp_path / "lab") == keys(tmp_path / "calm")
    assert 0 < device.asked == len(keys(tmp_path / "lab") - before) < len(keys(tmp_path / "calm"))


def test_a_finished_tuning_is_not_done_again(lab: Path) -> None:
    settings = TuneSettings("cmaes", captures=100, raws_per_trial=4)
    first = tune(lab, SmallIsp(), settings)
    again = tune(lab, SmallIsp(gone_after=0), settings)
    assert again.path == first.path
    assert len(list_runs(lab, "tune")) == 1


@pytest.mark.parametrize(("method", "captures"), [("cmaes", 40), ("cmaes", 43), ("tpe", 40)])
def test_a_small_budget_is_kept(lab: Path, method: str, captures: int) -> None:
    device = SmallIsp()
    run = tune(lab, device, TuneSettings(method, captures=captures, raws_per_trial=4))
    assert captures - 4 < run.results["captures"] == device.asked <= captures


def test_a_taken_name_is_refused_before_the_search(lab: Path) -> None:
    tune(lab, SmallIsp(), TuneSettings("random", captures=20, raws_per_trial=4), name="mine")
    device = SmallIsp()
    with pytest.raises(RunError, match="'mine' is already there"):
        tune(lab, device, TuneSettings("random", captures=24, raws_per_trial=4), name="mine")
    assert device.asked == 0


def test_the_run_records_the_data_set_of_its_start(lab: Path) -> None:
    settings = TuneSettings("random", captures=20, raws_per_trial=4)
    with Dataset.open(lab) as dataset:
        before = dataset.digest()
        with pytest.raises(DeviceUnreachableError):
            tune_run(lab, dataset, SmallIsp(gone_after=0), settings, name="mine")
        run = tune_run(lab, dataset, SmallIsp(), settings, name="mine")
        assert run.record.dataset_digest == before != dataset.digest()
    assert [r.name for r in list_runs(lab, "tune")] == ["mine"]


def test_a_larger_budget_goes_on_from_the_smaller_one(lab: Path) -> None:
    tune(lab, SmallIsp(), TuneSettings("cmaes", captures=60, raws_per_trial=4))
    before, device = keys(lab), SmallIsp()
    run = tune(lab, device, TuneSettings("cmaes", captures=120, raws_per_trial=4))
    assert device.asked == len(keys(lab) - before) < run.results["captures"]


def test_a_space_that_runs_out_of_sets_ends(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        raws = referenced_raws(dataset, Split.TRAIN)[:2]
        for method in SEARCHES:
            result = search(
                SearchBench(dataset, SmallIsp(), purpose="t"),
                Scorer(),
                study=open_study(lab, method, {}),
                method=method,
                seed=0,
                starts=[SPACE.defaults],
                free=["invert"],
                jobs_for=lambda p: [(raw, p) for raw in raws],
                budget=1000,
            )
            assert len(result.trials) == 2


def test_a_study_file_that_refuses_in_mid_search_is_told_and_the_search_goes_on(lab_on_disk: Path) -> None:
    settings = TuneSettings("cmaes", captures=64, raws_per_trial=4)
    with pytest.raises(DeviceUnreachableError):
        tune(lab_on_disk, SmallIsp(gone_after=20), settings)
    with contextlib.closing(sqlite3.connect(lab_on_disk / "studies.sqlite")) as connection, connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON trials BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    with pytest.raises(RunError, match=r"cannot be read or written: .*disk is full; check .* every capture is kept"):
        tune(lab_on_disk, SmallIsp(), settings)
    kept = len(keys(lab_on_disk))
    with contextlib.closing(sqlite3.connect(lab_on_disk / "studies.sqlite")) as connection, connection:
        connection.execute("DROP TRIGGER full")
    assert tune(lab_on_disk, SmallIsp(), settings).finished
    assert len(keys(lab_on_disk)) > kept


def test_a_study_file_that_cannot_be_read_is_one_line(lab_on_disk: Path) -> None:
    study = open_study(lab_on_disk, "t", {})
    with contextlib.closing(sqlite3.connect(lab_on_disk / "studies.sqlite")) as connection, connection:
        connection.execute("DROP TABLE trials")
    with (
        Dataset.open(lab_on_disk) as dataset,
        pytest.raises(RunError, match=r"cannot be read or written: .*no such table"),
    ):
        search(
            SearchBench(dataset, SmallIsp(gone_after=0), purpose="t"),
            Scorer(),
            study=study,
            method="random",
            seed=0,
            starts=[SPACE.defaults],
            free=["invert"],
            jobs_for=lambda p: [(raw, p) for raw in dataset.raws(Split.TRAIN)],
            budget=100,
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (TuneSettings("anneal"), "anneal"),
        (TuneSettings(captures=10), "10 captures are too few"),
        (TuneSettings(metric="vmaf", captures=100), "vmaf"),
        (TuneSettings(metric="bytes", captures=100), "metric 'bytes' is not one of psnr, ssim"),
        (TuneSettings("nsga2", 100, metric="psnr", more_metrics=("vmaf",)), "vmaf"),
        (TuneSettings("nsga2", 100, metric="psnr", more_metrics=("psnr",)), "one is given twice"),
        (TuneSettings("cmaes", 100, metric="psnr", more_metrics=("ssim",)), "use nsga2 or worst-rank"),
    ],
)
def test_settings_that_cannot_be_used(lab: Path, settings: TuneSettings, message: str) -> None:
    with pytest.raises(RunError, match=message):
        tune(lab, SmallIsp(gone_after=0), settings)


def test_no_reference_is_one_clear_line(tmp_path: Path) -> None:
    with Dataset.open(tmp_path, create=True) as dataset, pytest.raises(RunError, match="no RAW in the train split"):
        referenced_raws(dataset, Split.TRAIN)


def test_a_study_file_of_another_kind_is_refused(lab_on_disk: Path) -> None:
    (lab_on_disk / "studies.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(RunError, match=r"studies\.sqlite: is no study file .*; move it away and") as caught:
        tune(lab_on_disk, SmallIsp(), TuneSettings(captures=100, raws_per_trial=4))
    assert "\n" not in str(caught.value)


def test_stratified_spreads_over_iso_and_scenes(tmp_path: Path) -> None:
    make_lab(tmp_path, train=40, test=0)
    with Dataset.open(tmp_path) as dataset:
        raws = dataset.raws(Split.TRAIN)
    chosen = stratified(raws, 10, seed=1)
    assert len({r.hash for r in chosen}) == 10
    assert chosen == stratified(raws, 10, seed=1) != stratified(raws, 10, seed=2)
    share = Counter(r.iso for r in raws)
    for iso, count in Counter(r.iso for r in chosen).items():
        assert abs(count - share[iso] / 4) <= 1.5
    more = stratified(raws, 20, seed=3, taken=chosen)
    assert not {r.hash for r in more} & {r.hash for r in chosen}
    assert stratified(raws, 100, seed=0) == raws


@pytest.mark.parametrize("method", SEARCHES)
def test_proposals_stay_in_the_space_and_leave_the_rest(method: str) -> None:
    free = ["exposure", "blur", "curve", "invert"]
    start = SPACE.parse({"red": 2.0, "blue": 3.0}, partial=True)
    proposer = new_proposer(method, start, free, 0)
    proposer.tell([start], [(0.0,)])
    for step in range(12):
        batch = proposer.ask()
        assert all((p["red"], p["blue"]) == (2.0, 3.0) for p in batch)
        proposer.tell(batch, [(float(i + step),) for i, _ in enumerate(batch)])


def quality(p: ParameterSet) -> tuple[float, float]:
    """Two metrics of a set: near to a point of the space in light, and in gains and mode."""
    light = abs(float(p["exposure"]) - 1.5) + abs(float(p["blur"]) - 1)
    return -light, -abs(float(p["red"]) - 2) - abs(float(p["blue"]) - 3) - (p["curve"] != "b") - float(p["invert"])


def proposed(method: str, count: int, metrics: int) -> list[tuple[float, ...]]:
    proposer = new_proposer(method, SPACE.defaults, SPACE.names, 3, trials=count, metrics=metrics)
    batch = [SPACE.defaults]
    told: list[tuple[float, ...]] = []
    while len(told) < count:
        values = [quality(p)[:metrics] if metrics > 1 else (sum(quality(p)),) for p in batch]
        told += [(*v, *p.codes) for v, p in zip(values, batch, strict=True)]
        proposer.tell(batch, values)
        batch = proposer.ask()
    return told


@pytest.mark.parametrize(
    ("method", "metrics"), [*((m, 1) for m in SEARCHES if m != "gp"), ("nsga2", 2), ("worst-rank", 2)]
)
def test_proposals_follow_from_the_seed_and_the_values_and_get_better(method: str, metrics: int) -> None:
    told = proposed(method, 100, metrics)
    assert proposed(method, 100, metrics) == told
    start, best = sum(told[0][:metrics]), max(sum(t[:metrics]) for t in told)
    assert best > start / 2


def test_the_gaussian_process_proposes_the_same_again() -> None:
    assert proposed("gp", 12, 1) == proposed("gp", 12, 1)


def test_blockwise_leaves_a_block_for_good() -> None:
    names = [p.name for p in SPACE.parameters]
    told = [t[1:] for t in proposed("blockwise", 120, 1)]
    block_of = {i: p.block for i, p in enumerate(SPACE.parameters)}
    assert [*SPACE.blocks] == ["white_balance", "gain", "noise", "tone"]
    moved = [{block_of[i] for i in range(len(names)) if {a[i], b[i]} != {a[i]}} for a, b in itertools.pairwise(told)]
    order = [block for blocks in moved for block in blocks if len(blocks) == 1]
    first = {block: order.index(block) for block in SPACE.blocks}
    assert list(first.values()) == sorted(first.values())


def test_worst_ranks_sell_no_metric_for_another() -> None:
    values = np.array([[9.0, 0.0], [5.0, 5.0], [0.0, 9.0], [4.0, 4.0]])
    assert np.argsort(worst_ranks(values))[0] == 1
    assert np.argmin(worst_ranks(values * [1000, 0.001])) == 1


def test_the_screening_keeps_the_parameters_that_matter() -> None:
    proposer = WorstRankProposer(SPACE.defaults, SPACE.names, 0, 0.1, 64)
    batch = proposer.ask()
    assert len(batch) == 64
    proposer.tell(batch, [(float(p["exposure"]) + 2 * float(p["curve"] == "b"), float(p["red"])) for p in batch])
    assert proposer.kept == ["red", "exposure", "curve"]
    kept = {(p["blue"], p["blur"], p["invert"]) for p in proposer.ask()}
    assert len(kept) == 1


def test_several_metrics_need_a_method_that_takes_them() -> None:
    with pytest.raises(RunError, match="cmaes searches for one metric; for several use nsga2 or worst-rank"):
        new_proposer("cmaes", SPACE.defaults, SPACE.names, 0, metrics=2)


# ---- the industry's table


def test_as_shot_gains_are_clipped_into_the_range() -> None:
    p = with_as_shot(SPACE.defaults, Facts(as_shot_wb=(4.0, 2.0, 20.0)))
    assert (p["red"], p["blue"]) == (2.0, 4.0)
    assert with_as_shot(SPACE.defaults, Facts()) == SPACE.defaults


def test_table_interpolates_numbers_and_picks_discrete_ones(tmp_path: Path) -> None:
    low = SPACE.parse({"exposure": 1.0, "blur": 0, "curve": "a"}, partial=True)
    high = SPACE.parse({"exposure": 3.0, "blur": 3, "curve": "c"}, partial=True)
    IndustryTable(SPACE, (100.0, 400.0), (low, high)).save(tmp_path / "table.json")
    table = IndustryTable.load(tmp_path / "table.json")
    for iso, exposure, blur, curve in [
        (50, 1.0, 0, "a"),
        (100, 1.0, 0, "a"),
        (150, 1.0 + 2 * np.log2(1.5) / 2, 0, "a"),
        (200, 2.0, 0, "a"),
        (210, 1.0 + 2 * np.log2(2.1) / 2, 3, "c"),
        (400, 3.0, 3, "c"),
        (9999, 3.0, 3, "c"),
    ]:
        p = table.parameters_for(Facts(iso=float(iso)))  # type: ignore[arg-type]
        assert p["exposure"] == pytest.approx(exposure, abs=1 / 256)
        assert (p["blur"], p["curve"]) == (blur, curve)
    wb = table.parameters_for(Facts(iso=100.0, as_shot_wb=(2.0, 1.0, 1.5)))  # type: ignore[arg-type]
    assert (wb["red"], wb["blue"], wb["exposure"]) == (2.0, 1.5, 1.0)


def test_knots() -> None:
    raws = [Facts(iso=i) for i in (100, 100, 200, 800, 800, 3200, 6400)]
    assert knots_of(raws) == (100.0, 800.0, 3200.0)
    assert knots_of([Facts(iso=400.0)] * 5) == (400.0,)
    assert knots_of([Facts()]) == (100.0,)
    assert [nearest_knot((100, 800, 6400), iso) for iso in (None, 50, 300, 2300, 1e6)] == [1, 0, 1, 2, 2]


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "space": {}, "knots": []}'])
def test_a_broken_table_is_one_clear_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(RunError, match=r"table\.json"):
        IndustryTable.load(tmp_path / "table.json")


@pytest.mark.parametrize(("captures", "raws", "seed"), [(61, 3, 0), (64, 4, 5), (90, 4, 0), (131, 3, 5)])
def test_industry_never_spends_more_than_its_budget(lab: Path, captures: int, raws: int, seed: int) -> None:
    """Equal budgets are what a comparison rests on."""
    run = tune(lab, SmallIsp(), TuneSettings(captures=captures, raws_per_trial=raws, seed=seed), industry=True)
    assert run.results["captures"] <= captures


@pytest.mark.parametrize("raws", [3, 4])
def test_industry_says_how_many_captures_it_needs_at_least(lab: Path, raws: int) -> None:
    with pytest.raises(RunError, match=r"are too few for the industry's table; give at least (\d+)") as caught:
        tune(lab, SmallIsp(), TuneSettings(captures=2 * raws, raws_per_trial=raws), industry=True)
    least = int(str(caught.value).split()[-1])
    run = tune(lab, SmallIsp(), TuneSettings(captures=least, raws_per_trial=raws), industry=True)
    assert run.results["captures"] <= least


def test_industry_beats_the_fixed_set_where_the_light_changes(lab: Path) -> None:
    settings = TuneSettings("cmaes", captures=280, raws_per_trial=4, seed=3)
    fixed, industry = (tune(lab, SmallIsp(), settings, industry=i) for i in (False, True))
    assert industry.results["score"] > fixed.results["score"] + 1
    assert 270 <= industry.results["captures"] <= 280
    table = IndustryTable.load(industry.path / "table.json")
    light = Facts(as_shot_wb=(2.0, 1.0, 1.5))
    assert table.parameters_for(light)["red"] == 2.0  # type: ignore[arg-type]


# ---- the oracle


def oracle(lab: Path, device: SmallIsp, budget: int = 60, seed: int = 0) -> list[tuple[float, ParameterSet]]:
    with Dataset.open(lab) as dataset:
        raws = referenced_raws(dataset, Split.TEST)
        starts = [(r, [SPACE.defaults, with_as_shot(SPACE.defaults, r)]) for r in raws]
        found = search_oracle(Bench(dataset, device, purpose="oracle"), Scorer(), starts, budget=budget, seed=seed)
        for result in found:
            assert result.captures == budget == len(result.curve)
            assert result.curve == sorted(result.curve)
            assert result.curve[-1] == result.value
            assert result.last_quarter_gain >= 0
        return [(r.value, r.parameters) for r in found]


def test_oracle_comes_near_the_known_best_of_each_raw(lab: Path) -> None:
    found = oracle(lab, SmallIsp(), budget=120)
    assert np.mean([value for value, _ in found]) > 25
    assert len({p.hash for _, p in found}) == len(found)


def test_oracle_is_deterministic_and_goes_on_without_asking_twice(lab: Path, tmp_path: Path) -> None:
    make_lab(tmp_path / "calm")
    calm = oracle(tmp_path / "calm", SmallIsp())
    first = SmallIsp(gone_after=171)
    with pytest.raises(DeviceUnreachableError):
        oracle(lab, first)
    second = SmallIsp()
    assert oracle(lab, second) == calm
    assert first.asked + second.asked == 8 * 60
    assert oracle(lab, SmallIsp(gone_after=0)) == calm


def test_oracle_tries_every_start_even_beyond_its_budget(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        raw = referenced_raws(dataset, Split.TEST)[0]
        starts = [SPACE.defaults.replace(exposure=e) for e in (1.0, 1.5, 2.0, 3.0)]
        device = SmallIsp()
        found = search_oracle(Bench(dataset, device, purpose="o"), Scorer(), [(raw, starts)], budget=2)[0]
    frame = raw.load()
    from workbench.tasks.viewing_metrics import psnr

    assert device.asked == 4
    reference = raw.reference()
    assert reference is not None
    assert found.value == pytest.approx(max(psnr(render(frame, s), reference) for s in starts))


def test_oracle_searches_from_a_poor_first_start_too_and_ends_where_the_best_was_found(lab: Path) -> None:
    class Watched(SmallIsp):
        exposures: ClassVar[list[float]] = []

        def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
            self.exposures.append(float(parameters["exposure"]))
            return super().process(raw, parameters)

    far, near = SPACE.defaults.replace(exposure=4.0), SPACE.defaults.replace(exposure=1.0)
    with Dataset.open(lab) as dataset:
        raw = referenced_raws(dataset, Split.TEST)[0]
        found = search_oracle(Bench(dataset, Watched(), purpose="o"), Scorer(), [(raw, [far, near])], budget=80)[0]
    by_start = np.abs(np.array(Watched.exposures)[:, None] - [4.0, 1.0]).argmin(axis=1)
    assert 8 < (by_start[2:40] == 0).sum() < 30
    assert (by_start[40:] == 0).mean() < 0.2
    assert (found.start, found.captures) == (1, 80)


# ---- the command


def command(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(tune_command)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_tunes_and_prints_json(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.registry.open_device", lambda url, deadline_s: SmallIsp())
    (tmp_path / "expert.toml").write_text('[tone]\ncurve = "b"\n')
    arguments = ["--device", "small:", "--lab", str(lab), "--captures", "60", "--raws-per-trial", "3"]
    done = command(*arguments, "--expert", str(tmp_path / "expert.toml"), "--json")
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)
    assert 60 - 3 < results["captures"] <= 60
    assert (lab / "runs" / results["run"] / "best.toml").is_file()
    assert "captures spent and best score so far: 3: " in command(*arguments, "--method", "blockwise").stdout
    by_flag, by_rule = command(*arguments, "--industry"), command(*arguments, "--rule", "industry")
    assert by_flag.exit_code == 0, by_flag.output
    assert "table.json" in by_flag.stdout
    assert by_rule.stdout == by_flag.stdout
    done = command(*arguments, "--method", "nsga2", "--metric", "psnr", "--metric", "bytes")
    assert done.exit_code == 0, done.output
    assert "Pareto front" in done.stdout
    assert json.loads(command(*arguments, "--method", "worst-rank", "--json").stdout)["metrics"][1]["name"] == "ssim"
    assert command(*arguments, "--industry", "--rule", "regression").exit_code == 2
    refused = command(*arguments, "--metric", "psnr", "--metric", "bytes")
    assert "for several use nsga2 or worst-rank" in str(refused.exception)


def test_ctrl_c_says_how_to_go_on(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(SmallIsp):
        def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
            if self.asked == 20:
                signal.raise_signal(signal.SIGINT)
            return super().process(raw, parameters)

    monkeypatch.setattr("drivers.registry.open_device", lambda url, deadline_s: Interrupted())
    arguments = ["--device", "small:", "--lab", str(lab), "--captures", "60", "--raws-per-trial", "3"]
    done = command(*arguments)
    assert isinstance(done.exception, StoppedError)
    assert "same command again to go on" in str(done.exception)
    # Also while what it raised is kept, as a notebook keeps it: the next search of this process waits for nobody.
    with contextlib.closing(sqlite3.connect(lab / "dataset.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    before = keys(lab)
    assert len(before) >= 20
    assert list_runs(lab, "tune") == []
    device = SmallIsp()
    monkeypatch.setattr("drivers.registry.open_device", lambda url, deadline_s: device)
    assert command(*arguments).exit_code == 0
    assert device.asked == len(keys(lab) - before)


# ---- rules


def test_grey_world_gains_are_those_of_the_pixels() -> None:
    mosaic = np.full((8, 8), 100, np.uint16)
    mosaic[::2, ::2], mosaic[1::2, 1::2] = 50, 200
    mosaic[0, :4] = 1023
    raw = RawFrame(mosaic, "RGGB", (0, 0, 0, 0), 1023)
    assert grey_world(raw) == pytest.approx((2.0, 1.0, 0.5))
    assert with_gains(SPACE.defaults, grey_world(raw))["red"] == 2.0
    white = RawFrame(np.full((8, 8), 1023, np.uint16), "RGGB", (0, 0, 0, 0), 1023)
    assert grey_world(white) == pytest.approx((1.0, 1.0, 1.0))


@pytest.mark.parametrize("rule", ["as-shot", "industry-grey-world"])
def test_rules_set_the_gains_of_each_raw(lab: Path, rule: str) -> None:
    device = SmallIsp()
    run = tune(lab, device, TuneSettings("cmaes", captures=150, raws_per_trial=3), rule=rule)
    assert (run.config["rule"], run.config["industry"]) == (rule, False)
    assert run.results["captures"] == device.asked
    with Dataset.open(lab) as dataset:
        raws = dataset.raws(Split.TEST)
    sets = sets_of(run, SPACE, raws)
    for raw, p in zip(raws, sets, strict=True):
        gains = raw.as_shot_wb if rule == "as-shot" else grey_world(raw)
        assert gains is not None
        assert (p["red"], p["blue"]) == pytest.approx((gains[0], gains[2]), abs=1 / 256)
    if rule == "as-shot":
        assert len({(p["exposure"], p["blur"], p["curve"]) for p in sets}) == 1


def test_a_run_of_an_older_version_is_given_back(lab: Path) -> None:
    settings = TuneSettings("random", captures=20, raws_per_trial=4)
    first = tune(lab, SmallIsp(), settings)
    first.update(config={k: v for k, v in first.config.items() if k not in ("rule", "more_metrics")})
    assert tune(lab, SmallIsp(gone_after=0), settings).path == first.path


def test_several_metrics_give_a_pareto_front_in_their_own_units(lab_on_disk: Path) -> None:
    settings = TuneSettings("nsga2", captures=100, raws_per_trial=4, metric="psnr", more_metrics=("ssim", "bytes"))
    run = tune(lab_on_disk, SmallIsp(), settings)
    assert [m["better"] for m in run.results["metrics"]] == ["higher", "higher", "lower"]
    front = [(p["values"]["psnr"], p["values"]["ssim"], -p["values"]["bytes"]) for p in run.results["pareto"]]
    assert len(front) > 1
    assert front == sorted(front, reverse=True)
    for point in front:
        assert not any(other != point and all(a >= b for a, b in zip(other, point, strict=True)) for other in front)
    assert run.results["values"]["bytes"] > 0
    assert SPACE.parse(run.results["pareto"][0]["parameters"]).hash == run.results["pareto"][0]["parameters_hash"]
    study = optuna.load_study(
        study_name=run.results["studies"][0], storage=f"sqlite:///{lab_on_disk / 'studies.sqlite'}"
    )
    assert len(study.directions) == 3
    assert len({tuple(t.values) for t in study.best_trials}) <= len(front)


def test_a_metric_that_is_to_be_low_is_searched_for_and_told_as_it_is(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TuneSettings("nsga2", captures=60, raws_per_trial=3, metric="aligned_psnr", more_metrics=("delta_e",))
    run = tune(lab, SmallIsp(), settings)
    assert [(m["name"], m["unit"], m["better"]) for m in run.results["metrics"]] == [
        ("aligned_psnr", "dB", "higher"),
        ("delta_e", "", "lower"),
    ]
    assert all(p["values"]["aligned_psnr"] > 0 < p["values"]["delta_e"] for p in run.results["pareto"])
    monkeypatch.setattr("drivers.registry.open_device", lambda url, deadline_s: SmallIsp())
    arguments = ["--device", "small:", "--lab", str(lab), "--captures", "60", "--raws-per-trial", "3"]
    done = command(*arguments, "--metric", "delta_e", "--name", "by-colour")
    assert done.exit_code == 0, done.output
    results = RunFolder.open(lab / "runs" / "by-colour").results
    assert results["default_on_trial_raws"] < results["score"] < 0
    assert f"best fixed parameters (by-colour): {-results['score']:.2f} on" in done.stdout


def test_what_a_tuning_cost_is_counted_from_the_data_set(lab: Path) -> None:
    settings = TuneSettings("random", captures=40, raws_per_trial=4)
    first = tune(lab, SmallIsp(), settings)
    again = tune(lab, SmallIsp(gone_after=0), settings, name="again")
    assert first.results["device_s"] == again.results["device_s"] == pytest.approx(0.001 * first.results["captures"])
    assert (again.results["captures"], again.results["captures_asked_now"]) == (first.results["captures"], 0)
    assert 0 < first.results["compute_s"] <= first.results["seconds"]


def test_computing_before_a_stop_counts(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = RandomProposer.ask

    def slow(self: RandomProposer) -> list[ParameterSet]:
        clock.now += 100.0
        return ask(self)

    class Clock:
        now = 0.0

    clock = Clock()
    monkeypatch.setattr(RandomProposer, "ask", slow)
    for module in ("search", "tuner", "spending"):
        monkeypatch.setattr(
            f"workbench.tune.{module}.time", types.SimpleNamespace(monotonic=lambda: clock.now, time=time.time)
        )
    settings = TuneSettings("random", captures=40, raws_per_trial=4)
    with pytest.raises(DeviceUnreachableError):
        tune(lab, SmallIsp(gone_after=22), settings)
    before = clock.now
    assert before >= 400
    run = tune(lab, SmallIsp(), settings)
    proposed = (run.results["trials"] - 1) * 100.0
    # What was proposed before the stop is proposed again, to replay the search: both count.
    assert run.results["compute_s"] == pytest.approx(proposed + before - 100.0)
    assert run.results["seconds"] == pytest.approx(clock.now - before)


def test_the_ridge_finds_what_follows_from_the_metadata() -> None:
    rng = np.random.default_rng(3)
    frames, optima = [], []
    for _ in range(40):
        red = float(rng.uniform(1, 3))
        mosaic = rng.integers(0, 600, (16, 16), dtype=np.uint16)
        frames.append(RawFrame(mosaic, "RGGB", (0, 0, 0, 0), 1023, iso=100.0, as_shot_wb=(red, 1.0, 1.5)))
        optima.append(SPACE.parse({"red": 0.5 + 1.1 * float(np.log2(red)), "curve": "b"}, partial=True))
    inputs = np.array([features(f) for f in frames])
    assert inputs.shape == (40, len(FEATURES))
    regression, penalty = fit_ridge(inputs[:30], optima[:30])
    assert penalty < 10
    for frame, best in zip(frames[30:], optima[30:], strict=True):
        chosen = regression.parameters_for(frame)
        assert chosen["red"] == pytest.approx(best["red"], abs=0.1)
        assert (chosen["curve"], chosen["blur"]) == ("b", 3)
    assert constant(optima[3]).parameters_for(frames[0]) == optima[3]


def test_a_ridge_of_noise_is_nearly_the_mean() -> None:
    rng = np.random.default_rng(0)
    optima = [SPACE.from_unit(rng.random(len(SPACE))) for _ in range(30)]
    _, penalty = fit_ridge(rng.normal(size=(30, len(FEATURES))), optima)
    assert penalty >= 100


def test_regression_is_tuned_on_the_device_and_read_again(lab: Path, tmp_path: Path) -> None:
    settings = TuneSettings("cmaes", captures=300, raws_per_trial=3)
    with pytest.raises(DeviceUnreachableError):
        tune(lab, SmallIsp(gone_after=150), settings, rule="regression")
    device = SmallIsp()
    run = tune(lab, device, settings, rule="regression")
    assert 290 < run.results["captures"] == 150 + device.asked <= 300
    assert run.results["kept"] in ("single set", "regression")
    assert run.results["score"] == max(run.results["single_set_score"], run.results["regression_score"])
    assert run.results["optima_score"] > run.results["single_set_score"]
    with Dataset.open(lab) as dataset:
        raws = dataset.raws(Split.TEST)
    sets = sets_of(run, SPACE, raws)
    assert sets == tuple(Regression.load(run.path / run.results["file"]).parameters_for(r.load()) for r in raws)


def test_too_few_captures_or_several_metrics_for_a_rule(lab: Path) -> None:
    with pytest.raises(RunError, match="too few for the regression; give at least 160"):
        tune(lab, SmallIsp(), TuneSettings("random", captures=80, raws_per_trial=3), rule="regression")
    several = TuneSettings("nsga2", captures=80, raws_per_trial=3, more_metrics=("ssim",))
    with pytest.raises(RunError, match="rule industry is tuned for one metric"):
        tune(lab, SmallIsp(gone_after=0), several, rule="industry")
    with pytest.raises(RunError, match="rule 'magic' is not one of fixed, as-shot"):
        tune(lab, SmallIsp(gone_after=0), several, rule="magic")


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "features": []}'])
def test_a_broken_regression_is_one_clear_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "regression.json").write_text(text)
    with pytest.raises(RunError, match=r"regression\.json"):
        Regression.load(tmp_path / "regression.json")
