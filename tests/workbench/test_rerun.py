from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from sim_lab import make_lab as make_sim_lab
from small_isp import SPACE, SmallIsp, make_lab
from typer.testing import CliRunner

from drivers.errors import DeviceError
from drivers.splits import Split
from predictor.files import save_predictor
from predictor.model import Predictor, PredictorConfig
from workbench.collect.bench import Bench
from workbench.commands.fit_proxy import fit_proxy
from workbench.commands.rerun import rerun as command
from workbench.commands.train import train
from workbench.errors import RunError
from workbench.judge.methods import ValidationSettings
from workbench.judge.rerun import Difference, compare_results, rerun
from workbench.judge.validation import validate_run
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, find_recorded, list_runs, new_run, write_json
from workbench.tune.fixed import tune_run
from workbench.tune.tuner import TuneSettings

pytestmark = pytest.mark.usefixtures("module_in_memory")
APP = typer.Typer()
APP.command("fit-proxy")(fit_proxy)
APP.command()(train)
APP.command()(command)


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(APP, arguments, catch_exceptions=False, env={"COLUMNS": "200"})
    return done.exit_code, done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with two tunings and a validation of an untrained predictor; copied before anything changes in it."""
    folder = tmp_path_factory.mktemp("rerun")
    lab = folder / "lab"
    make_lab(lab)
    expert = folder / "expert.toml"
    expert.write_text('[tone]\ncurve = "b"\n')
    with Dataset.open(lab) as dataset:
        bench = Bench(dataset, SmallIsp(), purpose="collect")
        list(bench.capture_many((r, SPACE.defaults) for r in dataset.raws(Split.TRAIN)))
        # As-shot white balance sets the gains: no capture is made with this very set.
        unseen = SPACE.load_toml(expert).replace(red=3.5)
        settings = TuneSettings("cmaes", captures=60, raws_per_trial=3, seed=4)
        tune_run(lab, dataset, SmallIsp(), settings, expert=SPACE.load_toml(expert), name="fixed")
        tune_run(lab, dataset, SmallIsp(), TuneSettings("tpe", 60, 3), rule="industry", expert=unseen, name="table")
        learned = new_run(lab, "train", "learned")
        save_predictor(learned.path, Predictor(PredictorConfig(len(SPACE), 4, 0)), SPACE, SmallIsp().info().identity)
        learned.finish({})
        judged = ValidationSettings(expert=expert, test_raws=6, oracle_captures=9, seed=2)
        validate_run(lab, dataset, SmallIsp(), judged, name="final")
    return lab


@pytest.fixture
def lab(made: Path, tmp_path: Path) -> Path:
    """A copy of that lab."""
    return Path(shutil.copytree(made, tmp_path / "lab"))


@pytest.mark.parametrize("name", ["fixed", "table", "final"])
def test_a_run_is_repeated_exactly_without_its_device(lab: Path, name: str) -> None:
    with Dataset.open(lab) as dataset:
        digest = dataset.digest()
    told: list[tuple[str, str]] = []
    outcome = rerun(lab, name, progress=lambda part, unit, *count: told.append((part, unit)))
    assert {*told} >= ({("methods", "capture")} if name == "final" else {("tuning", "capture")})
    assert outcome.differences == []
    assert outcome.figures > 20
    assert outcome.agrees()
    assert outcome.after.name == f"{name}-rerun"
    again = RunFolder.open(lab / "runs" / f"{name}-rerun")
    assert again.finished
    assert again.record.rerun_of == name
    assert again.kind == outcome.before.kind
    assert again.record.seed == outcome.before.record.seed
    with Dataset.open(lab) as dataset:
        assert dataset.digest() == digest
    assert not list(lab.glob(".rerun-*"))
    if again.kind == "tune":
        # It searched: what it looked at was not in its study, only in the data set.
        assert again.results["trials"] == outcome.before.results["trials"]
        assert again.results["captures_asked_now"] == 0
    assert rerun(lab, name).after.name == f"{name}-rerun-2"


def test_a_record_that_was_touched_does_not_agree(lab: Path) -> None:
    file = lab / "runs" / "final" / "results.json"
    results = json.loads(file.read_text(encoding="utf-8"))
    results["methods"][0]["figures"]["psnr"]["estimate"] += 0.5
    write_json(file, results)
    code, told = run("rerun", "final", "--lab", str(lab))
    assert code == 1
    assert "methods[0].figures.psnr.estimate: " in told
    assert ", by 0.5" in told
    assert "final-rerun does not agree with final: 1 of " in told
    code, told = run("rerun", "final", "--lab", str(lab), "--tolerance", "0.6", "--name", "near")
    assert code == 0
    assert "near agrees with final" in told
    assert "differ by at most 0.5 (allowed: 0.6)" in told


def test_another_seed_in_the_record_gives_other_figures(lab: Path) -> None:
    old = RunFolder.open(lab / "runs" / "fixed")
    old.update(config={**old.config, "seed": 5})
    with pytest.raises(DeviceError, match=r"which the rerun needs; give the device with --device"):
        rerun(lab, "fixed")
    outcome = rerun(lab, "fixed", device=SmallIsp(), new_name="other")
    assert not outcome.agrees(1e-9)
    assert outcome.after.results["captures_asked_now"] > 0


def test_proxy_and_predictor_are_learned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lab = make_sim_lab(tmp_path / "lab", captures=16)
    fit = ("fit-proxy", "--lab", "lab", "--base-steps", "2", "--steps", "1", "--width", "4", "--seed", "3")
    assert run(*fit, "--name", "p")[0] == 0
    assert run("train", "--lab", "lab", "--steps", "2", "--no-metadata", "--name", "t")[0] == 0
    for name in ("p", "t"):
        code, told = run("rerun", name)
        assert code == 0, told
        assert f"{name}-rerun agrees with {name}" in told
        code, told = run("rerun", name, "--json")
        said = json.loads(told)
        assert (code, said["agrees"], said["rerun"]) == (0, True, f"{name}-rerun-2")
        assert said["same_dataset_digest"]
        first, second = (RunFolder.open(lab / "runs" / n).config["recipe"] for n in (name, f"{name}-rerun"))
        assert first == second


def test_what_cannot_be_repeated_is_one_clear_line(lab: Path) -> None:
    new_run(lab, "collect", "c").finish({})
    with pytest.raises(RunError, match=r"run c: a collect run is not repeated from its record; .*Its command was: "):
        rerun(lab, "c")
    new_run(lab, "tune", "half")
    with pytest.raises(RunError, match="run half: never finished"):
        rerun(lab, "half")
    seeing = new_run(lab, "tune", "seeing")
    seeing.update(config={"task": "detection abc"})
    seeing.finish({})
    with pytest.raises(RunError, match="is of the task detection abc, whose annotations the record does not hold"):
        rerun(lab, "seeing")
    with pytest.raises(RunError, match="no run there"):
        rerun(lab, "nothing")
    old = RunFolder.open(lab / "runs" / "fixed")
    old.update(config={**old.config, "expert_codes": {"tone": 1}})
    with pytest.raises(RunError, match="run fixed: the expert's set in its record is damaged"):
        rerun(lab, "fixed")
    # As records of older versions are.
    old.update(config={k: v for k, v in old.config.items() if k != "expert_codes"} | {"expert": "f" * 64})
    with pytest.raises(RunError, match="no capture was made with the parameter set ffffffffffff"):
        rerun(lab, "fixed")
    device = {**old.device.model_dump(), "identity": "small/9/abc"}
    write_json(old.path / "run.json", {**old.record.to_json(), "device": device})
    with pytest.raises(RunError, match=r"holds no captures of its device small/9/abc; give --device"):
        rerun(lab, "fixed")
    with pytest.raises(RunError, match="run fixed: was made with small/9/abc, the device is small/1/"):
        rerun(lab, "fixed", device=SmallIsp())
    assert {r.name for r in list_runs(lab)} == {"fixed", "table", "learned", "final", "c", "seeing"}


def test_a_name_that_is_taken_is_refused_before_any_work(lab: Path) -> None:
    before = RunFolder.open(lab / "runs" / "table").record
    with pytest.raises(RunError, match="run 'table' is already there; choose another name"):
        rerun(lab, "fixed", new_name="table")
    assert RunFolder.open(lab / "runs" / "table").record == before


def test_results_without_a_figure_agree_with_nothing(lab: Path) -> None:
    (lab / "runs" / "final" / "results.json").write_text('{"methods": []}', encoding="utf-8")
    with pytest.raises(RunError, match=r"results\.json: cannot be read as a validation .*again$"):
        rerun(lab, "final")


@pytest.mark.parametrize("content", ["", "[1]"])
def test_damaged_results_are_refused_before_any_work(lab: Path, content: str) -> None:
    (lab / "runs" / "final" / "results.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=r"results\.json: cannot be read as a validation .*again$"):
        rerun(lab, "final")
    assert not (lab / "runs" / "final-rerun").exists()


def test_a_record_that_lacks_a_setting_is_one_clear_line(lab: Path) -> None:
    old = RunFolder.open(lab / "runs" / "final")
    old.update(config={k: v for k, v in old.config.items() if k != "fixed"})
    with pytest.raises(RunError, match=r"run final: its record lacks 'fixed', so it cannot be repeated; its command"):
        rerun(lab, "final")


def test_a_validation_without_a_method_is_repeated_without_it(lab: Path) -> None:
    """What was not there at the time is not taken up because it is there now."""
    for name in ("table", "learned"):
        (lab / "runs" / name).rename(lab / name)
    with Dataset.open(lab) as dataset:
        settings = ValidationSettings(test_raws=6, oracle_captures=0, seed=2)
        validate_run(lab, dataset, SmallIsp(), settings, name="early")
    for name in ("table", "learned"):
        (lab / name).rename(lab / "runs" / name)
    outcome = rerun(lab, "early")
    assert outcome.agrees()
    assert [m["key"] for m in outcome.after.results["methods"]] == ["default", "fixed"]


def test_differences_are_told_largest_first() -> None:
    before = {"a": 1.0, "b": [1, 2, {"c": 3}], "gone": 1, "seconds": 3, "kept": "table"}
    after = {"a": 1.5, "b": [1, 2, {"c": 5}], "more": 2, "seconds": 9, "kept": "single set"}
    count, differences = compare_results(before, after)
    assert count == 6
    assert differences == [
        Difference("gone", 1, None),
        Difference("kept", "table", "single set"),
        Difference("b[2].c", 3, 5),
        Difference("a", 1.0, 1.5),
    ]
    assert [d.size for d in differences] == [float("inf"), float("inf"), 2, 0.5]
    assert compare_results(before, before) == (6, [])


@pytest.mark.parametrize("key", ["proxy", "fixed", "industry", "auto", "predictors", "tunes"])
@pytest.mark.parametrize("name", ["..", "../../elsewhere", "/etc", "a/../../b"])
def test_a_record_leads_to_nothing_outside_the_lab(tmp_path: Path, key: str, name: str) -> None:
    outside = new_run(tmp_path / "other", "fit-proxy", "elsewhere")
    outside.finish({})
    made = new_run(tmp_path / "lab", "validate", "v")
    made.update(config={key: [name] if key in ("predictors", "tunes") else name})
    made.finish({"psnr": 1.0})
    with pytest.raises(RunError, match="which no run can be called"):
        rerun(tmp_path / "lab", "v")
    assert [p.name for p in (tmp_path / "lab" / "runs").iterdir()] == ["v"]
    with pytest.raises(RunError, match="which no run can be called"):
        find_recorded(tmp_path / "lab", "fit-proxy", name)
