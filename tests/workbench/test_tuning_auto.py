"""``tune --rule auto`` on an emulated device whose best exposure is linear in the RAW's light."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_isp import SPACE, SmallIsp, make_lab, render

from drivers.device import DeviceInfo
from drivers.errors import DeviceUnreachableError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSpace
from drivers.splits import Split
from workbench.errors import RunError
from workbench.judge.methods import NONE, MethodKind, ValidationSettings
from workbench.judge.rerun import rerun
from workbench.judge.validation import validate_run
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder
from workbench.learn.base_rule import find_base
from workbench.report.build import write_report
from workbench.rules.regression import FEATURES, REGRESSION, Regression, constant, features
from workbench.rules.tuned import RULES, label_of, load_rule, rule_from, sets_of
from workbench.tune.auto_tuning import FIGURES, LinearRules
from workbench.tune.fixed import tune_run
from workbench.tune.results import AutoResult, tune_result
from workbench.tune.tuner import TuneSettings

pytestmark = pytest.mark.usefixtures("module_in_memory")
SETTINGS = TuneSettings("cmaes", captures=720, raws_per_trial=4)


def wanted(level: float) -> float:
    """The normalised exposure that is best for a RAW of this mean."""
    return 0.5 - 0.13 * float(np.log2(level / 0.2))


def make_light_lab(lab: Path, iso: bool = True) -> Path:
    """RAWs of many levels, each with a reference of the exposure that :func:`wanted` gives."""
    rng = np.random.default_rng(3)
    exposure = SPACE.names.index("exposure")
    with Dataset.open(lab, create=True) as dataset:
        for i in range(24):
            mosaic = rng.integers(0, int(100 * 2 ** rng.uniform(0, 2.5)), (32, 32), dtype=np.uint16)
            gains = tuple(float(g) for g in (rng.uniform(1, 2), 1.0, rng.uniform(1, 2)))
            speed = float(rng.choice([100, 800, 6400])) if iso else None
            raw = RawFrame(mosaic, "RGGB", (0,) * 4, 1023, iso=speed, exposure_s=0.01, as_shot_wb=gains)  # type: ignore[arg-type]
            best = SPACE.parse({"red": gains[0], "blue": gains[2], "blur": 0, "curve": "b"}, partial=True)
            unit = best.unit
            unit[exposure] = wanted(float(raw.planes()[1].mean()))
            dataset.add_raw(
                raw,
                scene=f"scene{i}",
                split=Split.TRAIN if i < 16 else Split.TEST,
                name=f"{i:02}.npz",
                reference=render(raw, SPACE.from_unit(unit)),
            )
    return lab


def tune(lab: Path, device: SmallIsp | None = None, settings: TuneSettings = SETTINGS, **more: Any) -> RunFolder:
    with Dataset.open(lab) as dataset:
        expert = SPACE.defaults.replace(curve="b", blur=0)
        return tune_run(lab, dataset, device or SmallIsp(), settings, rule="auto", expert=expert, **more)


def keys(lab: Path) -> set[tuple[str, str]]:
    with Dataset.open(lab) as dataset:
        return {(c.raw_hash, c.parameters_hash) for c in dataset.captures()}


def figures_of(run: RunFolder) -> dict[str, Any]:
    changing = {"seconds", "compute_s", "captures_asked_now"}
    return {k: v for k, v in run.results.items() if k not in changing}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunFolder]:
    lab = make_light_lab(tmp_path_factory.mktemp("auto") / "lab")
    return lab, tune(lab, name="light")


def test_it_finds_the_slope_where_the_best_parameter_follows_the_light(tuned: tuple[Path, RunFolder]) -> None:
    lab, run = tuned
    result = tune_result(run)
    assert isinstance(result, AutoResult)
    assert (result.kept, result.figures, result.parameters) == ("rule", FIGURES, 2)
    assert result.single_set_score is not None
    assert result.score == result.rule_score
    assert result.score is not None
    assert result.score > result.single_set_score + 1
    with Dataset.open(lab) as dataset:
        raws = dataset.raws(Split.TEST)
    sets = sets_of(run, SPACE, raws)
    asked = [wanted(float(raw.load().planes()[1].mean())) for raw in raws]
    given = [p.unit[SPACE.names.index("exposure")] for p in sets]
    assert np.corrcoef(asked, given)[0, 1] > 0.9
    for raw, p in zip(raws, sets, strict=True):
        assert raw.as_shot_wb is not None
        assert (p["red"], p["blue"]) == pytest.approx((raw.as_shot_wb[0], raw.as_shot_wb[2]), abs=1 / 256)
        assert (p["curve"], p["invert"]) == ("b", False)
    assert label_of(run) == "auto (as-shot WB, linear in ISO and light), cmaes"


def test_its_captures_are_those_of_the_device_on_training_raws(tuned: tuple[Path, RunFolder]) -> None:
    lab, run = tuned
    assert run.results["captures"] == len(keys(lab)) <= SETTINGS.captures
    with Dataset.open(lab) as dataset:
        assert {c.raw_hash for c in dataset.captures()} <= {r.hash for r in dataset.raws(Split.TRAIN)}
        assert {c.purpose for c in dataset.captures()} == {f"tune:{run.results['studies'][0]}"}


def test_a_finished_one_is_not_done_again(tuned: tuple[Path, RunFolder]) -> None:
    lab, run = tuned
    assert tune(lab, SmallIsp(gone_after=0)).path == run.path


@pytest.mark.parametrize("asked", [210, 333])
def test_it_never_spends_more_than_its_budget(tmp_path: Path, asked: int) -> None:
    make_lab(tmp_path)
    device = SmallIsp()
    results = tune(tmp_path, device, TuneSettings("cmaes", captures=asked, raws_per_trial=3, seed=5)).results
    assert results["captures"] == device.asked <= asked


def test_it_says_how_many_captures_it_needs_at_least(tmp_path: Path) -> None:
    make_lab(tmp_path)
    with pytest.raises(RunError, match=r"are too few for rule auto; give at least (\d+)") as caught:
        tune(tmp_path, settings=TuneSettings("cmaes", captures=20, raws_per_trial=3))
    least = int(str(caught.value).split()[-1])
    assert tune(tmp_path, settings=TuneSettings("cmaes", captures=least, raws_per_trial=3)).results["generations"] == 1


def test_it_goes_on_where_the_device_went_away_as_if_nothing_had_been(tmp_path: Path) -> None:
    settings = replace(SETTINGS, captures=200)
    calm = tune(make_light_lab(tmp_path / "calm"), settings=settings)
    lab, asked = make_light_lab(tmp_path / "stormy"), 0
    for gone_after in (0, 120):
        device = SmallIsp(gone_after=gone_after)
        with pytest.raises(DeviceUnreachableError):
            tune(lab, device, settings)
        asked += device.asked
    device = SmallIsp()
    stormy = tune(lab, device, settings)
    assert asked + device.asked == len(keys(lab))
    assert keys(lab) == keys(tmp_path / "calm")
    assert figures_of(stormy) == figures_of(calm)
    assert (stormy.path / REGRESSION).read_bytes() == (calm.path / REGRESSION).read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_it_goes_on_after_a_kill(tmp_path: Path) -> None:
    lab, settings = make_light_lab(tmp_path / "lab"), replace(SETTINGS, captures=200)
    # A fork has imported all already.
    process = multiprocessing.get_context("fork").Process(target=tune, args=(lab, SmallIsp(killed_after=130), settings))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    before, device = keys(lab), SmallIsp()
    results = tune(lab, device, settings).results
    assert results["captures"] == len(keys(lab))
    assert 0 < device.asked == len(keys(lab) - before)


def test_where_no_slope_helps_the_single_set_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_lab(tmp_path)
    # Steps so wide that one generation leads astray.
    monkeypatch.setattr("workbench.tune.auto_tuning._SIGMA", 3.0)
    run = tune(tmp_path, settings=TuneSettings("cmaes", captures=150, raws_per_trial=3))
    results = run.results
    assert results["kept"] == "single set"
    assert results["score"] == results["single_set_score"] > results["rule_score"]
    with Dataset.open(tmp_path) as dataset:
        sets = sets_of(run, SPACE, dataset.raws(Split.TEST))
    assert len({(p["exposure"], p["blur"], p["curve"]) for p in sets}) == 1
    assert len({p["red"] for p in sets}) > 1


def test_it_searches_for_other_metrics_and_under_a_setting(tmp_path: Path) -> None:
    lab = make_light_lab(tmp_path)
    (tmp_path / "held.toml").write_text("[held]\nblur = 2\n")
    settings = replace(SETTINGS, captures=150, metric="ssim")
    run = tune(lab, settings=settings, setting=tmp_path / "held.toml")
    result = tune_result(run)
    assert isinstance(result, AutoResult)
    assert (result.parameters, result.metrics[0].name) == (1, "ssim")
    assert result.score is not None
    assert 0 < result.score < 1
    with Dataset.open(lab) as dataset:
        assert {p["blur"] for p in sets_of(run, SPACE, dataset.raws(Split.TEST))} == {2}
        assert {c.codes["blur"] for c in dataset.captures()} == {2}


def test_another_method_and_several_metrics_are_refused_in_one_line(tmp_path: Path) -> None:
    make_lab(tmp_path)
    for settings, message in (
        (TuneSettings("tpe", 480, 4), r"rule auto has a search of its own \(CMA-ES\): leave --method tpe out"),
        (TuneSettings("nsga2", 480, 4, more_metrics=("ssim",)), "rule auto has a search of its own"),
    ):
        with pytest.raises(RunError, match=message):
            tune(tmp_path, SmallIsp(gone_after=0), settings)


class WithoutGains(SmallIsp):
    """No parameter has the role of a gain."""

    def info(self) -> DeviceInfo:
        data = SPACE.to_dict()
        for parameter in data["parameters"]:
            parameter["role"] = None
        return replace(super().info(), model="blind", space=ParameterSpace.from_dict(data))


def test_what_comes_to_nothing_is_told(tmp_path: Path) -> None:
    lab = make_light_lab(tmp_path, iso=False)
    settings = replace(SETTINGS, captures=150)
    run = tune(lab, settings=settings)
    assert run.results["notes"] == ["16 of 16 training RAWs tell no ISO: they count as of the mean ISO"]
    assert run.results["figures"] == ["mean_green", "green_p95"]
    with Dataset.open(lab) as dataset:
        blind = tune_run(lab, dataset, WithoutGains(), settings, rule="auto")
    assert "has no parameter of the role red_gain or blue_gain" in blind.results["notes"][0]
    assert blind.results["parameters"] == 4
    assert rerun(lab, blind.name).agrees()


def test_a_raw_without_iso_counts_as_one_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    figures = rng.normal(size=(8, len(FEATURES)))
    figures[:, FEATURES.index("iso_known")] = 1
    figures[0, [FEATURES.index("iso"), FEATURES.index("iso_known")]] = 0
    rules = LinearRules(SPACE.defaults, ["exposure", "curve"], figures)
    rule = rules.rule(np.array([0.1, 0.2, 0.0, 0.0]))
    known, unknown = figures[1].copy(), figures[1].copy()
    known[FEATURES.index("iso")] = figures[1:, FEATURES.index("iso")].mean()
    unknown[[FEATURES.index("iso"), FEATURES.index("iso_known")]] = 0
    assert rule.at(unknown) == rule.at(known)
    assert rule.at(figures[1]) != rule.at(known)
    offset = SPACE.defaults.unit[SPACE.names.index("exposure")] + 0.1
    assert rule.at(known)["exposure"] == SPACE["exposure"].from_code(SPACE["exposure"].from_unit(offset))


def test_its_file_is_read_back(tuned: tuple[Path, RunFolder], tmp_path: Path) -> None:
    lab, run = tuned
    rule = load_rule(run, SPACE)
    with Dataset.open(lab) as dataset:
        raws = dataset.raws(Split.TEST)
    again = rule_from("auto", rule.to_dict(), tmp_path)
    assert [again.parameters_for(r) for r in raws] == [rule.parameters_for(r) for r in raws]
    frame = raws[0].load()
    assert rule.parameters_for(frame) == rule.parameters_for(raws[0])
    data = constant(SPACE.defaults, "as-shot").to_dict() | {"white_balance": "guessed"}
    with pytest.raises(RunError, match="white balance 'guessed' is not one of as-shot, grey-world"):
        Regression.from_dict(data, tmp_path / "x.json")
    # A regression without one is as it was before there were any.
    assert "white_balance" not in constant(SPACE.defaults).to_dict()
    assert len(features(frame)) == len(FEATURES)
    assert list(RULES)[-1] == "auto"


def test_it_is_validated_reported_repeated_and_trained_on_top_of(tuned: tuple[Path, RunFolder], tmp_path: Path) -> None:
    lab = Path(shutil.copytree(tuned[0], tmp_path / "lab"))
    settings = ValidationSettings((NONE,), fixed=NONE, industry=NONE, by_block=False)
    with Dataset.open(lab) as dataset:
        run, results = validate_run(lab, dataset, SmallIsp(), settings)
        _, without = validate_run(lab, dataset, SmallIsp(), replace(settings, auto=NONE))
    assert [(m.kind, m.run, m.label) for m in results.methods] == [
        ("default", None, "default"),
        ("auto", "light", RULES["auto"]),
    ]
    gain = results.methods[0].over[MethodKind.auto]["psnr"].estimate
    assert gain is not None
    assert gain < -3
    assert [m.kind for m in without.methods] == ["default"]
    assert run.config["auto"] == "light"
    assert RULES["auto"] in write_report(lab, validation=run.name).read_text(encoding="utf-8")
    assert rerun(lab, run.name).agrees()
    base = find_base(lab, "auto", SPACE, "viewing")
    assert (base.kind, base.captures) == ("auto", tuned[1].results["captures"])
