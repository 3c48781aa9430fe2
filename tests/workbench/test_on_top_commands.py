"""A predictor on top of a rule through the commands: what is printed, counted, chosen, repeated and ablated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from sim_lab import make_lab
from typer.testing import CliRunner

from drivers.registry import open_device
from drivers.splits import Split
from workbench.commands.ablate import ablate
from workbench.commands.choose import choose
from workbench.commands.fit_proxy import fit_proxy
from workbench.commands.predict import predict
from workbench.commands.rerun import rerun
from workbench.commands.train import train
from workbench.commands.validate import validate
from workbench.judge.results import read_validation
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, find_run, new_run
from workbench.learn.base_rule import FILE
from workbench.learn.results import TrainResult
from workbench.rules.industry import TABLE, IndustryTable
from workbench.tasks.registry import task_of

pytestmark = pytest.mark.usefixtures("module_in_memory")
APP = typer.Typer()
for command, name in (
    *((fit_proxy, "fit-proxy"), (train, "train"), (predict, "predict"), (validate, "validate")),
    *((choose, "choose"), (rerun, "rerun"), (ablate, "ablate")),
):
    APP.command(name)(command)
DEVICE = ("--device", "sim:sim20")


def run(*arguments: str) -> str:
    return CliRunner().invoke(APP, arguments, catch_exceptions=False, env={"COLUMNS": "200"}).output


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with a rule, and a predictor on top of it whose following was chosen on the device."""
    folder = tmp_path_factory.mktemp("on-top")
    lab = make_lab(folder / "lab", captures=16, train=4, validation=2, test=2)
    with open_device("sim:sim20") as device:
        info = device.info()
    rule = new_run(lab, "tune", "table")
    sets = (info.space.defaults, info.space.defaults.replace(digital_gain=1.5))
    IndustryTable(info.space, (100.0, 1600.0), sets).save(rule.path / TABLE)
    rule.update(config={"rule": "industry", "scenes": ["scene0"], "method": "cmaes"}, device=info)
    rule.finish({"score": 20.0, "captures": 500, "device_s": 7.0, "compute_s": 11.0, "file": TABLE})
    run("fit-proxy", "--lab", str(lab), "--base-steps", "2", "--steps", "1", "--width", "4", "--name", "proxy")
    told = run("train", "--lab", str(lab), "--steps", "2", *ON_TOP, "--json", "--name", "net")
    (folder / "told.json").write_text(told.splitlines()[-1], encoding="utf-8")
    return folder


ON_TOP = ("--on-top-of", "industry", *DEVICE, "--follow-captures", "100", "--loss", "detail")


@pytest.fixture
def lab(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("lab")


def test_train_says_what_it_is_on_top_of_and_how_far_it_is_followed(lab: Path) -> None:
    told = json.loads(Path("told.json").read_text(encoding="utf-8"))
    assert told["on_top_of"]["run"] == "table"
    found = find_run(lab, "train", "net")
    assert told["follow"] == json.loads(json.dumps(found.results["follow"]))
    assert task_of(found).loss_name == "L2 + structure"
    assert TrainResult.of(found).rule_held_out_loss is not None
    text = run("train", "--steps", "1", "--on-top-of", "table", "--name", "plain")
    assert "held-out log L2 " in text
    assert ", the rule table has " in text
    assert "note: everything is followed (all factors 1): no device was asked how far" in text
    text = run("train", "--steps", "2", *ON_TOP, "--name", "again")
    assert "chosen on 2 validation RAWs of 2 scenes, by their outputs of the device" in text
    assert "captures of at most 100" in text


@pytest.mark.parametrize(
    "wrong",
    [
        ("--device", "sim:sim20"),
        ("--on-top-of", "table", "--recipe", "paper"),
        ("--on-top-of", "table", "--start", "start.toml"),
        ("--task", "detection", "--loss", "detail"),
    ],
)
def test_options_that_do_not_go_together_are_bad_usage(lab: Path, wrong: tuple[str, ...]) -> None:
    assert CliRunner().invoke(APP, ["train", *wrong]).exit_code == 2


def test_predict_shows_the_rules_own_values_beside(lab: Path, tmp_path: Path) -> None:
    with Dataset.open(lab) as dataset:
        raw = dataset.raws(Split.TEST)[0].load()
    from drivers.raw.raw_files import save_npz

    save_npz(Path("photo.npz"), raw)
    shutil.rmtree(lab / "runs" / "table")
    data = json.loads(run("predict", "photo.npz", "--json").splitlines()[-1])
    assert data["on_top_of"]["run"] == "table"
    assert set(data["follow"].values()) <= {0.0, 0.5, 1.0}
    assert data["rule_parameters"]["gamma"] == pytest.approx(data["parameters"]["gamma"], abs=0.5)
    told = run("predict", "photo.npz", "--toml", "photo.toml")
    assert "on top of industry (as-shot WB, ISO table) (table); " in told
    assert "on top of industry (table)" in Path("photo.toml").read_text(encoding="utf-8")
    (lab / "runs" / "net" / FILE).write_text("{", encoding="utf-8")
    failed = CliRunner().invoke(APP, ["predict", "photo.npz"])
    assert "cannot be read as the rule of net" in str(failed.exception)


def test_the_rules_captures_and_those_of_the_choice_are_counted(lab: Path) -> None:
    run("validate", *DEVICE, "--oracle-captures", "0", "--name", "val")
    results = read_validation(find_run(lab, "validate", "val"))
    row = results.by_key["predicted:net"]
    follow = TrainResult.of(find_run(lab, "train", "net")).follow
    assert follow is not None
    assert row.captures == results.collection_captures + 500 + follow.captures
    assert row.compute_s is not None
    assert row.compute_s > 11
    # Its own rule alone has had less.
    assert results.by_key["industry"].fewer_captures_than_collection
    assert f"had 500 captures, prediction {row.captures}: not the same budget" in results.budgets[0]
    (note,) = (n for n in results.notes if "on top of" in n)
    assert note.startswith("net: on top of industry (as-shot WB, ISO table) (table), whose captures")


def test_a_training_on_top_is_repeated_without_its_device_and_without_the_tuning(lab: Path) -> None:
    shutil.rmtree(lab / "runs" / "table")
    told = json.loads(run("rerun", "net", "--json").splitlines()[-1])
    assert told["agrees"] is True
    again = RunFolder.open(lab / "runs" / "net-rerun")
    assert again.config["on_top_of"] == find_run(lab, "train", "net").config["on_top_of"]
    assert again.results["follow"] == find_run(lab, "train", "net").results["follow"]


def test_choose_and_ablate_take_predictors_on_top_of_a_rule(lab: Path) -> None:
    chosen = json.loads(run("choose", *DEVICE, "--json").splitlines()[-1])
    assert [row["run"] for row in chosen["rows"]] == ["net"]
    study = ("--seeds", "0", "--steps", "1", "--width", "4", "--only", "multi-3", "--only", "fixed-multi-5")
    told = json.loads(
        run("ablate", *DEVICE, *study, "--on-top-of", "table", "--json", "--name", "study").splitlines()[-1]
    )
    assert [row["key"] for row in told["table"]] == ["fixed-multi-5", "multi-3"]
    assert find_run(lab, "ablate", "study").config["on_top_of"]["run"] == "table"
    failed = CliRunner().invoke(APP, ["ablate", *DEVICE, *study])
    assert "was trained with another rule below it (--on-top-of, --setting)" in str(failed.exception)
    told = json.loads(run("rerun", "study", "--json").splitlines()[-1])
    assert told["agrees"] is True
