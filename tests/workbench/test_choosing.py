"""``workbench choose``: predictors compared on the validation RAWs, the test RAWs left alone."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from sim_lab import Choosy, make_lab
from test_vision import TASK, lab, vision_template  # noqa: F401
from typer.testing import CliRunner

from drivers.errors import WorkbenchError
from drivers.registry import open_device
from drivers.splits import Split
from workbench.commands.choose import choose
from workbench.commands.fit_proxy import fit_proxy
from workbench.commands.train import train
from workbench.commands.tune import tune
from workbench.judge.choosing import choose_run
from workbench.lab.dataset import Dataset
from workbench.lab.runs import find_run
from workbench.rules.setting import recorded_setting
from workbench.rules.tuned import sets_of

pytestmark = pytest.mark.usefixtures("module_in_memory")
APP = typer.Typer()
for command, name in ((fit_proxy, "fit-proxy"), (train, "train"), (tune, "tune"), (choose, "choose")):
    APP.command(name)(command)
DEVICE = ("--device", "sim:sim20")


def run(*arguments: str) -> str:
    return CliRunner().invoke(APP, arguments, catch_exceptions=False, env={"COLUMNS": "80"}).stdout


def fit_and_train(*task: str) -> None:
    run("fit-proxy", "--base-steps", "2", "--steps", "1", "--width", "4")
    for name in ("first", "second"):
        run("train", *task, "--steps", "2", "--batch", "4", "--seed", str(len(name)), "--name", name)


def captures(folder: Path, split: str) -> int:
    with Dataset.open(folder) as dataset:
        raws = {raw.hash for raw in dataset.raws(Split(split))}
        return sum(capture.raw_hash in raws for capture in dataset.captures())


@pytest.fixture(scope="module")
def viewing_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_lab(tmp_path_factory.mktemp("choosing") / "lab", captures=16, train=5, validation=3, test=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.parent)
        fit_and_train()
    return made


@pytest.fixture
def viewing_lab(viewing_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(viewing_template, tmp_path / "lab"))


def test_the_best_on_the_validation_raws_is_named_and_no_test_raw_is_seen(viewing_lab: Path) -> None:
    before = captures(viewing_lab, "test")
    results = json.loads(run("choose", *DEVICE, "--json"))
    assert captures(viewing_lab, "test") == before
    assert [row["run"] for row in results["rows"]] == ["first", "second"]
    assert results["raws"] == len(results["per_raw"]) == 3
    for row in results["rows"]:
        mean = np.mean([raw["scores"][row["run"]] for raw in results["per_raw"]])
        assert row["scores"]["psnr"] == pytest.approx(mean)
    first, second = (row["scores"]["psnr"] for row in results["rows"])
    assert first != second
    assert results["best"] == ("first" if first > second else "second")
    assert results["rows"][1]["gain"]["estimate"] == pytest.approx(second - first)
    assert json.loads((find_run(viewing_lab, "choose").path / "results.json").read_text()) == results

    run("tune", *DEVICE, "--captures", "16", "--raws-per-trial", "4", "--name", "fixed")
    made = captures(viewing_lab, "validation")
    told = run("choose", *DEVICE, "--predictor", "second")
    assert "best fixed (fixed)" in told
    assert "first" not in told
    assert "the best by PSNR (dB): second" in told
    assert captures(viewing_lab, "validation") == made + 3  # the fixed set's: those of the predictor are known

    told = run("choose", *DEVICE, "--predictor", "second", "--setting", "3a", "--name", "under")
    assert "setting 3a" in told
    assert "--setting 3a --predictor second" in told
    setting = recorded_setting(find_run(viewing_lab, "choose", "under"))
    assert setting is not None
    with Dataset.open(viewing_lab) as dataset:
        raws, made_with = dataset.raws(Split.VALIDATION), {(c.raw_hash, c.parameters_hash) for c in dataset.captures()}
    sets = sets_of(find_run(viewing_lab, "tune", "fixed"), open_device("sim:sim20").info().space, raws)
    assert {(raw.hash, setting.of(p, raw).hash) for raw, p in zip(raws, sets, strict=True)} <= made_with


def test_a_detectors_loss_chooses(lab: Path) -> None:  # noqa: F811
    fit_and_train(*TASK)
    results = json.loads(run("choose", *DEVICE, *TASK, "--json"))
    assert results["metric"] == "loss"
    losses = {row["run"]: row["scores"]["loss"] for row in results["rows"]}
    assert losses.keys() == {"first", "second"}
    assert results["best"] == min(losses, key=losses.__getitem__)
    gain = results["rows"][1]["gain"]["estimate"]
    assert gain == pytest.approx(losses["first"] - losses["second"])
    assert all(0 <= row["scores"]["map50"] <= 1 for row in results["rows"])
    told = run("choose", *DEVICE, *TASK)
    assert f"the best by log loss: {results['best']}" in told
    test = f"test it once: workbench validate {shlex.join([*DEVICE, *TASK, '--predictor', results['best']])}"
    assert test in told
    with pytest.raises(WorkbenchError, match="no predictor of the task viewing"):
        run("choose", *DEVICE)


def test_what_cannot_choose_is_one_clear_line(viewing_lab: Path) -> None:
    record = viewing_lab / "runs" / "second" / "run.json"
    told = json.loads(record.read_text())
    with Dataset.open(viewing_lab) as dataset:
        told["config"]["scenes"].append(dataset.raws(Split.VALIDATION)[0].scene)
    record.write_text(json.dumps(told))
    with pytest.raises(WorkbenchError, match="second: was made with the validation scene"):
        run("choose", *DEVICE)
    with pytest.raises(WorkbenchError, match="third"):
        run("choose", *DEVICE, "--predictor", "third")
    with pytest.raises(WorkbenchError, match="is not that of the device"):
        run("choose", "--device", "sim:sim32", "--predictor", "first")
    with pytest.raises(WorkbenchError, match="no predictor of the task viewing for this device"):
        run("choose", "--device", "sim:sim32")
    make_lab(Path("other"), captures=4, train=2, validation=0, test=2)
    with pytest.raises(WorkbenchError, match="no validation RAW"):
        run("choose", *DEVICE, "--lab", "other")
    with (
        pytest.raises(WorkbenchError, match=r"does not take 3 of 3 RAWs, such as 5.npz: it has 64×64 pixels"),
        Dataset.open(viewing_lab) as dataset,
        Choosy() as device,
    ):
        choose_run(viewing_lab, dataset, device)
