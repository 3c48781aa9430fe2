from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_isp import SPACE, SmallIsp, best_for, best_of, make_lab, render
from typer.testing import CliRunner, Result

from drivers.device import DeviceInfo
from drivers.errors import DeviceUnreachableError, FrameError, WorkbenchError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.raw.raw_files import load_raw, save_npz
from drivers.splits import Split
from predictor.files import save_predictor
from predictor.metadata import LENGTH
from predictor.model import Predictor, PredictorConfig
from workbench.collect.bench import Bench
from workbench.commands.predict import predict
from workbench.commands.validate import print_results
from workbench.commands.validate import validate as validate_command
from workbench.errors import RunError
from workbench.judge import gathering, validation
from workbench.judge.format1 import spoken
from workbench.judge.in_words import validation_lines
from workbench.judge.methods import NONE, ValidationSettings
from workbench.judge.rerun import rerun
from workbench.judge.results import ValidationResult, read_validation
from workbench.judge.validation import validate, validate_run
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, find_run, list_runs, new_run
from workbench.learn.attention_maps import most_concentrated
from workbench.rules.mean_of_sets import mean_of
from workbench.rules.tuned import load_rule
from workbench.tune.fixed import tune_run
from workbench.tune.tuner import TuneSettings

pytestmark = pytest.mark.usefixtures("module_in_memory")


@dataclass
class KnowingPredictor:
    """Reads the best parameters off the metadata; without metadata it always says the same."""

    metadata: bool = True
    space: ParameterSpace = SPACE
    device_identity: str = SmallIsp().info().identity
    base: None = None

    def predict(self, raws: list[RawFrame]) -> list[ParameterSet]:
        if not self.metadata:
            return [best_for(800, 1.5, 1.5)] * len(raws)
        return [best_of(r).replace(exposure=1.375) for r in raws]


class HonestProxy:
    space = SPACE

    def render(self, raw: RawFrame, parameters: ParameterSet) -> np.ndarray:
        return render(raw, parameters)


@pytest.fixture(scope="module")
def tuned_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with collection, a fixed set and a table, to be copied and left as it is."""
    lab = tmp_path_factory.mktemp("validation") / "lab"
    make_lab(lab)
    with Dataset.open(lab) as dataset:
        bench = Bench(dataset, SmallIsp(), purpose="collect:test")
        raws = dataset.raws(Split.TRAIN)
        list(bench.capture_many((r, SPACE.defaults.replace(blur=b)) for r in raws for b in range(3)))
        for industry in (False, True):
            tune_run(lab, dataset, SmallIsp(), TuneSettings("cmaes", captures=150, raws_per_trial=3), industry=industry)
    return lab


@pytest.fixture
def tuned(tuned_once: Path, tmp_path: Path) -> Path:
    """A copy of the tuned lab for one test."""
    return Path(shutil.copytree(tuned_once, tmp_path / "tuned"))


def train_run(lab: Path, name: str, scenes: list[str] | None = None, proxy: str | None = None) -> RunFolder:
    run = new_run(lab, "train", name)
    run.update(config={"scenes": scenes or [], "proxy": proxy})
    run.finish({})
    return run


@pytest.fixture
def knowing(tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tuned lab with two predictors and a proxy that are fakes."""
    for name in ("with", "without"):
        train_run(tuned, name, proxy="proxy")
    new_run(tuned, "fit-proxy", "proxy").finish({})
    monkeypatch.setattr(gathering, "open_predictor", lambda run: KnowingPredictor(run.name == "with"))
    monkeypatch.setattr(validation, "open_proxy", lambda run: HonestProxy())
    return tuned


def validated(lab: Path, device: SmallIsp | None = None, **settings: Any) -> ValidationResult:
    with Dataset.open(lab) as dataset:
        return validate(lab, dataset, device or SmallIsp(), ValidationSettings(**{"oracle_captures": 25, **settings}))


def run_validation(lab: Path, device: SmallIsp | None = None, **settings: Any) -> dict[str, Any]:
    """The validation as ``--json`` prints it."""
    return spoken(validated(lab, device, **settings))


def test_a_good_predictor_is_shown_to_be_better(
    knowing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expert = tmp_path / "expert.toml"
    expert.write_text('[tone]\ncurve = "b"\n')
    typed = validated(knowing, expert=expert)
    results = spoken(typed)
    rows = {m["key"]: m for m in results["methods"]}
    assert list(rows) == [
        "default",
        "expert",
        "fixed",
        "industry",
        "mean:with",
        "predicted:with",
        "mean:without",
        "predicted:without",
        "oracle",
    ]
    head = results["headline"]
    assert head["predictor"] == "predicted:with"
    assert head["gain_over_fixed"]["verdict"] == "better"
    assert head["gain_over_fixed"]["estimate"] == pytest.approx(rows["predicted:with"]["psnr"] - rows["fixed"]["psnr"])
    assert head["worse_than_fixed_share"] == 0
    gap = (rows["predicted:with"]["psnr"] - rows["fixed"]["psnr"]) / (rows["oracle"]["psnr"] - rows["fixed"]["psnr"])
    assert head["gap_closed"]["estimate"] == pytest.approx(gap)
    assert rows["fixed"]["captures"] >= 150 > results["collection_captures"] == 36
    assert rows["predicted:with"]["captures"] == 36
    assert results["proxy"]["psnr_to_device"] == 99
    assert results["proxy"]["promised"] == results["proxy"]["given"]
    assert results["notes"] == []
    json.dumps(results, allow_nan=False)
    assert ValidationResult.from_json(typed.to_json(), "again") == typed
    print_results(typed)
    shown = capsys.readouterr().out
    assert "per-image" in shown
    assert "gap to the per-image oracle closed" in shown


def test_of_large_frames_the_proxy_renders_some_and_that_is_said(
    knowing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "PROXY_PIXELS", 3 * 32 * 32)
    monkeypatch.setattr(validation, "PROXY_RAWS", 2)
    rendered: list[str] = []

    class Counting(HonestProxy):
        def render(self, raw: RawFrame, parameters: ParameterSet) -> np.ndarray:
            rendered.append(raw.hash)
            return super().render(raw, parameters)

    monkeypatch.setattr(validation, "open_proxy", lambda run: Counting())
    results = validated(knowing, oracle_captures=0)
    assert "the proxy's promise is that of 3 of 8 RAWs: it takes long to render more" in results.notes
    assert rendered == [results.per_raw[place].hash for place in (0, 4, 7)]
    assert results.proxy is not None
    assert results.proxy.psnr_to_device == 99
    assert results.proxy.promised == results.proxy.given
    assert len(results.per_raw) == 8


def test_the_oracle_searches_for_the_metric_that_is_asked_for(
    knowing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = validated(knowing, oracle_metric="ssim")
    by_key = {m.key: m.figures["ssim"].estimate or 0.0 for m in found.methods}
    assert found.oracle is not None
    assert found.oracle.metric == "ssim"
    assert found.oracle.curve[-1] == pytest.approx(by_key["oracle"])
    assert max(by_key.values()) == by_key["oracle"]
    assert found.headline is not None
    assert found.headline.gap_closed is not None
    fixed, predicted, best = (by_key[key] for key in ("fixed", "predicted:with", "oracle"))
    assert found.headline.gap_closed.estimate == pytest.approx((predicted - fixed) / (best - fixed))
    print_results(found)
    told = capsys.readouterr().out
    assert "per-image oracle" in told
    assert "gap to the per-image oracle closed in SSIM" in told
    with pytest.raises(RunError, match="no oracle for metric 'mAP' of task viewing: choose psnr, ssim"):
        validated(knowing, oracle_metric="mAP")


def test_further_tune_runs_are_rows_of_their_own(knowing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Dataset.open(knowing) as dataset:
        for name, settings, rule in (
            ("simplex", TuneSettings("nelder-mead", 60, 3), "fixed"),
            ("simplex-2", TuneSettings("nelder-mead", 60, 3, seed=1), "fixed"),
            ("grey", TuneSettings("cmaes", 60, 3), "industry-grey-world"),
        ):
            tune_run(knowing, dataset, SmallIsp(), settings, rule=rule, name=name)
    typed = validated(knowing, tunes=("simplex", "simplex-2", "grey"), oracle_captures=5)
    results = spoken(typed)
    rows = {m["key"]: m for m in results["methods"]}
    assert list(rows)[1:6] == ["fixed", "industry", "tune:simplex", "tune:simplex-2", "tune:grey"]
    assert rows["fixed"]["search"] == "cmaes"
    assert rows["tune:simplex"]["label"] == "fixed set, nelder-mead (simplex)"
    assert rows["tune:grey"]["label"] == "industry (grey-world WB, ISO table), cmaes"
    assert (rows["tune:grey"]["rule"], rows["tune:grey"]["search"]) == ("industry-grey-world", "cmaes")
    for key, row in rows.items():
        assert row["device_s"] == pytest.approx(0.001 * row["captures"])
        if key.startswith("tune:"):
            gain = row["psnr_gain_over_fixed"]
            assert gain["estimate"] == pytest.approx(row["psnr"] - rows["fixed"]["psnr"])
            assert gain["low"] <= gain["estimate"] <= gain["high"]
            assert row["captures"] <= 60
            assert row["compute_s"] > 0
    print_results(typed)
    assert "grey-world" in capsys.readouterr().out


def test_the_command_takes_further_tune_runs(knowing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    monkeypatch.setattr("drivers.registry.open_device", lambda url, deadline_s: SmallIsp())
    names = [run.name for run in list_runs(knowing, "tune")]
    app = typer.Typer()
    app.command()(validate_command)
    arguments = ["--device", "small:", "--lab", str(knowing), "--oracle-captures", "0", "--json"]
    done = CliRunner().invoke(app, [*arguments, "--tune", names[0], "--tune", names[1], "--tune", names[0]])
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)
    assert [m["run"] for m in results["methods"] if m["key"].startswith("tune:")] == names
    assert RunFolder.open(knowing / "runs" / results["run"]).config["tunes"] == names


def test_a_further_run_that_saw_a_test_scene_is_refused(knowing: Path) -> None:
    with Dataset.open(knowing) as dataset:
        leaky = tune_run(knowing, dataset, SmallIsp(), TuneSettings("random", 20, 4), name="leaky-tune")
    leaky.update(config={**leaky.config, "scenes": ["scene15"]})
    with pytest.raises(RunError, match="leaky-tune: was made with the test scene 'scene15'"):
        run_validation(knowing, tunes=("leaky-tune",))


def test_a_weaker_search_does_not_take_the_place_of_the_best_fixed_set(knowing: Path) -> None:
    before = run_validation(knowing, oracle_captures=0)["methods"][1]["run"]
    with Dataset.open(knowing) as dataset:
        tune_run(knowing, dataset, SmallIsp(), TuneSettings("random", 20, 4), name="weak")
    assert run_validation(knowing, oracle_captures=0)["methods"][1]["run"] == before
    assert run_validation(knowing, oracle_captures=0, fixed="weak")["methods"][1]["run"] == "weak"


def test_a_search_for_another_metric_does_not_take_the_place_of_the_best_fixed_set(knowing: Path) -> None:
    before = run_validation(knowing, oracle_captures=0)
    with Dataset.open(knowing) as dataset:
        settings = TuneSettings("cmaes", 30, 3, metric="ssim")
        tune_run(knowing, dataset, SmallIsp(), settings, name="by-ssim")
    after = run_validation(knowing, oracle_captures=0)
    assert after["methods"][1]["run"] == before["methods"][1]["run"] != "by-ssim"
    asked = run_validation(knowing, oracle_captures=0, fixed="by-ssim")
    assert asked["methods"][1]["run"] == "by-ssim"
    assert "best fixed (by-ssim) was tuned for ssim, not for psnr" in asked["notes"]


def test_repeated_runs_do_not_take_the_place_of_the_originals(knowing: Path) -> None:
    before = run_validation(knowing, oracle_captures=0)
    train_run(knowing, "with-rerun", proxy="proxy").update(rerun_of="with")
    tuned = rerun(knowing, str(before["methods"][1]["run"]), device=SmallIsp()).after
    after = run_validation(knowing, oracle_captures=0)
    assert [m["run"] for m in after["methods"]] == [m["run"] for m in before["methods"]]
    assert find_run(knowing, "train").name != "with-rerun"
    for name in ("with-rerun", tuned.name):
        assert find_run(knowing, RunFolder.open(knowing / "runs" / name).kind, name).name == name


def test_none_leaves_a_method_out(knowing: Path) -> None:
    results = run_validation(knowing, oracle_captures=0, fixed=NONE, industry=NONE, predictors=(NONE,))
    assert [m["key"] for m in results["methods"]] == ["default"]


def test_an_interval_that_wilcoxon_does_not_share_is_no_gain(knowing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One verdict on every page: bootstrap and signed-rank test together."""
    gain = run_validation(knowing, oracle_captures=0)["headline"]["gain_over_fixed"]
    assert gain["verdict"] == "better"
    assert gain["p_value"] < 0.05
    assert gain["worse_share"] == 0
    monkeypatch.setattr("workbench.judge.statistics._signed_rank_p", lambda means: 0.3)
    results = run_validation(knowing, oracle_captures=0)
    for told in (results["headline"]["gain_over_fixed"], results["methods"][-1]["psnr_gain_over_fixed"]):
        assert told["low"] > 0
        assert told["verdict"] == "not shown"


def test_captures_that_no_budget_counts_are_noted_once(knowing: Path) -> None:
    proxy = RunFolder.open(knowing / "runs" / "proxy")
    proxy.finish({**proxy.results, "fidelity": {"captures": 336}})
    notes = run_validation(knowing, oracle_captures=0)["notes"]
    assert notes == ["the fidelity report of proxy took 336 captures more, which no budget counts"]


def test_a_predictor_of_another_lab_is_refused(knowing: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(knowing / "runs" / "with", tmp_path / "other" / "runs" / "with"))
    with pytest.raises(RunError, match=r"is a run of another lab; copy its folder and its proxy's to"):
        run_validation(knowing, oracle_captures=0, predictors=(str(elsewhere),))


def test_a_predictor_of_another_task_is_noted(knowing: Path) -> None:
    run = train_run(knowing, "seeing", proxy="proxy")
    run.update(config={**run.config, "task": "detection abc"})
    notes = run_validation(knowing, oracle_captures=0, predictors=("seeing",))["notes"]
    assert "predictor seeing was trained for detection abc, not for viewing" in notes


def test_a_table_that_was_changed_is_refused(knowing: Path) -> None:
    with Dataset.open(knowing) as dataset:
        tuned = tune_run(knowing, dataset, SmallIsp(), TuneSettings("random", 60, 3), rule="industry", name="edited")
    assert load_rule(tuned, SPACE).space.hash == SPACE.hash
    file = tuned.path / "table.json"
    told = json.loads(file.read_text(encoding="utf-8"))
    told["knots"][0]["parameters"]["exposure"] = 2.25
    file.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(RunError, match=r"table\.json: is not the rule that the run found; put the file back"):
        load_rule(tuned, SPACE)
    # A run of an older version does not say what it wrote.
    tuned.update(results={k: v for k, v in tuned.results.items() if k != "file_sha256"})
    assert load_rule(tuned, SPACE).space.hash == SPACE.hash


def other_space() -> ParameterSpace:
    """Lacks a parameter: a name alone makes no other space."""
    return ParameterSpace.from_dict({**SPACE.to_dict(), "parameters": SPACE.to_dict()["parameters"][:-1]})


def test_a_best_set_that_was_changed_is_refused_and_leaves_no_run(knowing: Path) -> None:
    with Dataset.open(knowing) as dataset:
        tuned = tune_run(knowing, dataset, SmallIsp(), TuneSettings("random", 20, 4), name="edited")
    file = tuned.path / "best.toml"
    file.write_text(file.read_text(encoding="utf-8") + "\n[tone]\ncurve = 'c'\n", encoding="utf-8")
    before = sorted(p.name for p in (knowing / "runs").iterdir())
    for text in (SPACE.to_toml(SPACE.defaults.replace(blur=1), "edited"), "[noise]\nblur = 1\n"):
        file.write_text(text, encoding="utf-8")
        with (
            Dataset.open(knowing) as dataset,
            pytest.raises(RunError, match=r"best\.toml: is not the set that the run"),
        ):
            validate_run(knowing, dataset, SmallIsp(), ValidationSettings(fixed="edited"))
    tuned.update(device=replace(SmallIsp().info(), space=other_space()))
    with pytest.raises(
        RunError, match=r"run edited: was tuned on small, whose parameters are not those of this device"
    ):
        run_validation(knowing, tunes=("edited",))
    assert sorted(p.name for p in (knowing / "runs").iterdir()) == before


def test_without_a_best_fixed_set_no_heading_stands_alone(knowing: Path) -> None:
    results = validated(knowing, oracle_captures=0, fixed=NONE, industry=NONE)
    assert not any("intervals by scene" in line for line in validation_lines(results))


def test_an_unknown_proxy_is_refused_before_the_first_capture(knowing: Path) -> None:
    device = SmallIsp(gone_after=0)
    with pytest.raises(RunError, match="nothing"):
        run_validation(knowing, device, proxy="nothing", oracle_captures=999)
    assert device.asked == 0


def test_every_figure_is_of_the_device_on_test_raws(knowing: Path) -> None:
    results = run_validation(knowing)
    with Dataset.open(knowing) as dataset:
        raws = {r.hash: r for r in dataset.raws(Split.TEST)}
        outputs = {(c.raw_hash, c.parameters_hash): c for c in dataset.captures()}
        assert len(results["per_raw"]) == len(raws) == results["raws"] == 8
        for row in results["per_raw"]:
            raw = raws[row["hash"]]
            best = max(m["psnr"] for m in row["methods"].values())
            assert row["methods"]["oracle"]["psnr"] == best
            for method in row["methods"].values():
                p = SPACE.from_codes(method["codes"])
                capture = outputs[raw.hash, p.hash]
                assert capture.output_hash == method["output_hash"]
                assert np.array_equal(capture.rgb().pixels, render(raw.load(), p))
    for row in results["methods"]:
        assert row["psnr"] == pytest.approx(np.mean([r["methods"][row["key"]]["psnr"] for r in results["per_raw"]]))


def test_validation_goes_on_and_then_asks_nothing(knowing: Path) -> None:
    settings: dict[str, Any] = {"seed": 3}
    device = SmallIsp(gone_after=37)
    with pytest.raises(DeviceUnreachableError):
        run_validation(knowing, device, **settings)
    first, again = run_validation(knowing, **settings), run_validation(knowing, SmallIsp(gone_after=0), **settings)
    for results in (first, again):
        assert results["methods"][-1].pop("compute_s") >= 0
    assert again == first


def test_the_run_keeps_everything(knowing: Path) -> None:
    with Dataset.open(knowing) as dataset:
        run, results = validate_run(
            knowing, dataset, SmallIsp(), ValidationSettings(oracle_captures=0, predictors=("without",)), name="final"
        )
    again = find_run(knowing, "validate")
    assert again.path == run.path
    assert read_validation(again) == results
    assert again.results["headline"]["method"] == "predicted:without"
    assert again.results["oracle"] is None
    assert again.results["per_raw"] == []
    assert again.record.dataset_digest
    assert again.config["fixed"].startswith("tune-")
    device = SmallIsp(gone_after=0)
    with Dataset.open(knowing) as dataset, pytest.raises(RunError, match="'final' is already there"):
        validate_run(knowing, dataset, device, ValidationSettings(oracle_captures=30), name="final")


def test_without_any_run_the_default_still_has_a_figure(tmp_path: Path) -> None:
    make_lab(tmp_path, train=1, test=2)
    results = validated(tmp_path, oracle_captures=5)
    assert list(results.by_key) == ["default", "oracle"]
    assert results.headline is None
    assert len(results.notes) == 3
    assert len(validation_lines(results)) == 4


def test_a_predictor_that_saw_a_test_scene_is_refused(knowing: Path) -> None:
    train_run(knowing, "leaky", scenes=["scene1", "scene15"])
    with pytest.raises(RunError, match="leaky: was made with the test scene 'scene15'"):
        run_validation(knowing, predictors=("leaky",))


def test_a_predictor_of_another_space_is_refused(knowing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "open_predictor", lambda run: KnowingPredictor(space=other_space()))
    with pytest.raises(RunError, match="is not that of the device small/1"):
        run_validation(knowing, predictors=("with",))


def test_runs_made_with_another_firmware_are_noted(knowing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class UpdatedIsp(SmallIsp):
        def info(self) -> DeviceInfo:
            return replace(super().info(), firmware="2")

    results = run_validation(knowing, UpdatedIsp(), oracle_captures=0)
    noted = [note for note in results["notes"] if "was made with small/1" in note]
    assert len(noted) == 4
    assert all("this is small/2" in note for note in noted)


def test_a_predictor_that_does_not_load_is_left_out_with_a_note(tuned: Path) -> None:
    for name in ("broken", "with"):
        train_run(tuned, name)
    notes = run_validation(tuned, oracle_captures=0)["notes"]
    assert any(note.startswith("left out: ") and "broken" in note for note in notes)


def test_runs_of_the_wrong_sort_are_refused(knowing: Path) -> None:
    table = next(r for r in (knowing / "runs").glob("tune-*") if (r / "table.json").exists())
    with pytest.raises(RunError, match="is a table over ISO"):
        run_validation(knowing, fixed=table.name)
    with pytest.raises(RunError, match="is a train run, not a tune run"):
        run_validation(knowing, industry="with")


def test_a_tuning_with_a_smaller_budget_is_marked(knowing: Path) -> None:
    with Dataset.open(knowing) as dataset:
        list(
            Bench(dataset, SmallIsp(), purpose="collect:more").capture_many(
                (r, SPACE.defaults.replace(exposure=1 + b / 64))
                for r in dataset.raws(Split.TRAIN)
                for b in range(1, 13)
            )
        )
    results = run_validation(knowing, oracle_captures=0)
    assert next(m for m in results["methods"] if m["key"] == "fixed")["fewer_captures_than_collection"]
    fixed = next(m["run"] for m in results["methods"] if m["key"] == "fixed")
    further = run_validation(knowing, oracle_captures=0, tunes=(fixed,))
    assert next(m for m in further["methods"] if m["key"] == f"tune:{fixed}")["fewer_captures_than_collection"]
    assert any("not the same budget" in line for line in results["budgets"])


def test_a_reference_of_another_size_is_one_clear_line(tmp_path: Path) -> None:
    raw = RawFrame(np.zeros((16, 16), np.uint16), "RGGB", (0, 0, 0, 0), 1023)
    with Dataset.open(tmp_path, create=True) as dataset:
        dataset.add_raw(raw, scene="s", split=Split.TEST, name="s.npz", reference=np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(FrameError, match="output is 16×16, its reference 8×8"):
        run_validation(tmp_path)


def test_mean_of_predictions() -> None:
    sets = [
        SPACE.parse({"red": r, "blue": 1.0, "exposure": 1.0, "blur": b, "curve": c, "invert": i})
        for r, b, c, i in [(1.0, 0, "a", True), (2.0, 3, "c", False), (3.0, 3, "c", False)]
    ]
    mean = mean_of(sets)
    assert (mean["red"], mean["blur"], mean["curve"], mean["invert"]) == (2.0, 2, "c", False)


# ---- workbench predict


@pytest.fixture
def real_predictor(tmp_path: Path) -> Path:
    run = new_run(tmp_path / "lab", "train", "real")
    save_predictor(run.path, Predictor(PredictorConfig(len(SPACE), 4, LENGTH)), SPACE, "small/1/x")
    run.finish({})
    mosaic = np.random.default_rng(0).integers(0, 1023, (96, 128), dtype=np.uint16)
    raw = RawFrame(mosaic, "GBRG", (0, 0, 0, 0), 1023, iso=400, exposure_s=0.01, as_shot_wb=(2.0, 1.0, 1.5))
    save_npz(tmp_path / "photo.npz", raw)
    return tmp_path


def run_predict(*arguments: str) -> Result:
    import typer

    app = typer.Typer()
    app.command()(predict)
    return CliRunner().invoke(app, list(arguments), catch_exceptions=True)


def test_predict_prints_native_values_and_toml(real_predictor: Path) -> None:
    file, lab = str(real_predictor / "photo.npz"), str(real_predictor / "lab")
    done = run_predict(file, "--lab", lab, "--toml", str(real_predictor / "out" / "p.toml"))
    assert done.exit_code == 0, done.output
    assert "white_balance" in done.output
    assert "GFLOP for 64×48 planes of the 128×96 RAW" in done.output
    data = json.loads(run_predict(file, "--lab", lab, "--json").output)
    written = SPACE.load_toml(real_predictor / "out" / "p.toml")
    assert written.values == data["parameters"]
    assert written.hash == data["parameters_hash"]
    assert data["metadata"] is True
    assert data["gflop"] > 0


@pytest.mark.parametrize("name", ["photo.toml", "photo.raw"])
def test_predict_writes_over_nothing_that_it_read(real_predictor: Path, name: str) -> None:
    """Parameters and a dump's sidecar are both TOML, and may well have been given one name."""
    raw = load_raw(real_predictor / "photo.npz")
    dump, sidecar = real_predictor / "photo.raw", real_predictor / "photo.toml"
    dump.write_bytes(raw.mosaic.astype("<u2").tobytes())
    sidecar.write_text(
        'width = 128\nheight = 96\ncontainer = "u16"\nendianness = "little"\nbits = 10\ncfa = "GBRG"\n'
        "black_level = 0\nwhite_level = 1023\n"
    )
    before = dump.read_bytes(), sidecar.read_bytes()
    lab = str(real_predictor / "lab")
    done = run_predict(str(dump), "--lab", lab, "--toml", str(real_predictor / name))
    assert isinstance(done.exception, WorkbenchError)
    assert "was read from it; give the parameters another name" in str(done.exception)
    assert (dump.read_bytes(), sidecar.read_bytes()) == before
    other = real_predictor / "other.toml"
    assert run_predict(str(dump), "--lab", lab, "--toml", str(other)).exit_code == 0
    assert run_predict(str(dump), "--lab", lab, "--toml", str(other)).exit_code == 0


def test_predict_draws_attention(real_predictor: Path) -> None:
    import cv2

    done = run_predict(
        str(real_predictor / "photo.npz"),
        "--lab",
        str(real_predictor / "lab"),
        "--attention",
        "--out",
        str(real_predictor / "maps"),
        "--show",
        "exposure",
        "--show",
        "blur",
    )
    assert done.exit_code == 0, done.output
    image = cv2.imread(str(real_predictor / "maps" / "photo.attention.png"))
    assert image is not None
    assert image.std() > 10


def test_predict_names_an_unknown_parameter(real_predictor: Path) -> None:
    done = run_predict(
        str(real_predictor / "photo.npz"), "--lab", str(real_predictor / "lab"), "--attention", "--show", "gamma"
    )
    assert isinstance(done.exception, RunError)
    assert "gamma" in str(done.exception)


def test_the_most_concentrated_maps_are_chosen() -> None:
    maps = np.full((4, 3, 3), 1 / 9)
    maps[2] = 0
    maps[2, 1, 1] = 1
    maps[1] = np.array([[0.5, 0.5, 0]] + [[0, 0, 0]] * 2)
    assert most_concentrated(maps, ["a", "b", "c", "d"], 2) == ["b", "c"]
