"""``workbench fit-proxy`` and ``workbench train`` as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from sim_lab import make_lab
from typer.testing import CliRunner

from drivers.errors import ParameterError
from drivers.registry import open_device
from predictor.files import load_predictor
from proxy.files import load_proxy
from workbench.commands.fit_proxy import fit_proxy
from workbench.commands.train import train
from workbench.errors import RunError
from workbench.lab.runs import find_run

APP = typer.Typer()
APP.command("fit-proxy")(fit_proxy)
APP.command()(train)
FIT = ("fit-proxy", "--lab", "lab", "--base-steps", "2", "--steps", "1", "--width", "4")
TRAIN = ("train", "--lab", "lab", "--steps", "2")


def run(*arguments: str) -> str:
    return CliRunner().invoke(APP, arguments, catch_exceptions=False, env={"COLUMNS": "200"}).stdout


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_lab(tmp_path / "lab", captures=16)


def test_fit_and_train_as_json(lab: Path) -> None:
    fitted = json.loads(run(*FIT, "--json", "--name", "p"))
    assert fitted["run"] == "p"
    assert fitted["new_sets_new_raws"]["captures"] > 0
    trained = json.loads(run(*TRAIN, "--json", "--proxy", "p", "--name", "t"))
    assert trained["run"] == "t"
    assert trained["gflop_2048x1536"] > 1
    assert load_predictor(find_run(lab, "train", "t").path).space == load_proxy(lab / "runs" / "p").space
    assert find_run(lab, "train").config["proxy"] == "p"


def test_fit_and_train_for_people(lab: Path) -> None:
    told = run(*FIT, "--device", "sim:sim20")
    with open_device("sim:sim20") as device:
        names = device.info().space.names
    assert all(name in told for name in ("training captures", "rank correlation", *names))
    told = run(*TRAIN, "--recipe", "paper", "--steps", "1")
    assert "20 parameters, first encoder 32 channels, without metadata" in told
    assert "GFLOP for a pass over planes of 2048×1536, to which larger RAWs are averaged" in told
    assert "held-out L2" in told
    assert "with metadata" in run(*TRAIN, "--metadata")
    assert "without metadata" in run(*TRAIN, "--no-metadata")


def test_without_held_out_raws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_lab(tmp_path / "lab", captures=16, validation=0)
    run(*FIT)
    assert "no held-out RAWs to measure on" in run(*TRAIN)


def test_start_from_a_file(lab: Path) -> None:
    run(*FIT)
    (lab / "start.toml").write_text("gamma = 99\n")
    with pytest.raises(ParameterError, match=r"start.toml: parameter gamma: 99 is outside"):
        run(*TRAIN, "--start", str(lab / "start.toml"))


def test_a_name_that_is_taken(lab: Path) -> None:
    run(*FIT, "--name", "x")
    with pytest.raises(RunError, match="'x' is already there"):
        run(*FIT, "--name", "x")
    with pytest.raises(RunError, match="'x' is already there"):
        run(*TRAIN, "--name", "x")
    with pytest.raises(RunError, match="is a fit-proxy run, not a train run"):
        find_run(lab, "train", "x")
