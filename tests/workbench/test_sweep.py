"""The command lines of a file: each makes its run, finished runs stay, a line that fails leaves the others alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from sim_lab import make_lab
from typer import Typer
from typer.testing import CliRunner

from workbench.commands.sweep import sweep
from workbench.errors import RunError
from workbench.lab.runs import find_run, list_runs

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (the extra `cluster`)")


def ran(*words: object) -> Any:
    app = Typer()
    app.command()(sweep)
    return CliRunner().invoke(app, [str(word) for word in words])


def baselines(lab: Path, prefix: str) -> str:
    tune = f"tune --device board --lab {lab} --captures 8 --raws-per-trial 2 --method random"
    return f"# two baselines\n{tune} --name {prefix}-0\n\n{tune} --seed 1 --name {prefix}-1  # another seed\n"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    made = make_lab(tmp_path / "lab", captures=4, test=1)
    (made / "lab.toml").write_text('[devices]\nboard = "sim:sim20"\n')
    return made


def test_a_line_that_fails_leaves_the_others_and_finished_runs_stay(tmp_path: Path, lab: Path) -> None:
    file = tmp_path / "runs.txt"
    here = baselines(lab, "here").splitlines()
    file.write_text("\n".join([f"train --proxy missing --lab {lab} --name t", here[-1]]))
    made = ran(file, "--json")
    assert isinstance(made.exception, RunError)
    assert "1 of 2 lines failed, the first is line 1" in str(made.exception)
    assert "missing" in str(made.exception)
    told = json.loads(made.stdout)
    assert [line["state"] for line in told] == ["failed", "done"]
    assert "best fixed parameters" in told[1]["told"]
    assert find_run(lab, "tune", "here-1").record.seed == 1
    file.write_text(here[-1])
    again = ran(file)
    assert again.exit_code == 0
    assert "its run is finished already" in again.stdout
    assert len(list_runs(lab, "tune")) == 1


def test_a_line_that_was_changed_after_its_run_was_made_is_not_taken_for_done(tmp_path: Path, lab: Path) -> None:
    file = tmp_path / "runs.txt"
    line = baselines(lab, "b").splitlines()[1]
    file.write_text(f"\ufeff{line}\n", encoding="utf-8")
    assert ran(file).exit_code == 0
    file.write_text(f"{line} --seed 0 --json\n")  # a default that is given, and what shapes no result
    again = ran(file)
    assert (again.exit_code, "finished already" in again.stdout) == (0, True)
    file.write_text(line.replace("--captures 8", "--captures 16"))
    other = ran(file)
    assert isinstance(other.exception, RunError)
    assert "its run b-0 is finished already, made by another line: " in str(other.exception)
    assert "--captures 8" in str(other.exception)
    file.write_text(f"train --lab {lab} --name b-0")
    assert isinstance(ran(file).exception, RunError)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tune --device board", "line 1: give --name"),
        ("\ntrain --name a\ntrain --name a --seed 1", "line 3: line 2 has its --name a already"),
        ("trian --name a", "line 1: no command 'trian'"),
        ("train --name a --sead 1", "line 1: No such option"),
        ("report", "line 1: report makes no run"),
        ("train --name 'a", "line 1: No closing quotation"),
    ],
)
def test_a_line_that_cannot_be_is_told_before_any_begins(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "runs.txt"
    file.write_text(text)
    refused = ran(file)
    assert refused.exit_code == 2
    assert told in " ".join(refused.output.replace("│", "").split())


@needs_ray
def test_lines_on_ray_make_the_runs_of_one_process(tmp_path: Path, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Ray would start its workers with a niceness of 15, which beside other tests is for ever.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    file = tmp_path / "runs.txt"
    file.write_text(baselines(lab, "ray") + f"train --proxy missing --lab {lab} --name t\n")
    command = [sys.executable, "-m", "workbench.cli", "sweep", str(file), "--cluster", "local", "--json"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert made.returncode == 1, made.stderr
    assert "line 5: " in made.stderr
    assert [line["state"] for line in json.loads(made.stdout)] == ["done", "done", "failed"]
    file.write_text(baselines(lab, "here"))
    assert ran(file).exit_code == 0
    for seed in (0, 1):
        there, here = (find_run(lab, "tune", f"{prefix}-{seed}") for prefix in ("ray", "here"))
        assert there.results["score"] == here.results["score"]
        assert str(there.record.command).startswith("workbench tune --device board ")


@needs_ray
def test_a_board_is_a_resource_of_ray(tmp_path: Path) -> None:
    script = Path(__file__).with_name("ray_boards.py")
    environment = {**os.environ, "RAY_worker_niceness": "0"}
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=240, env=environment)
    assert (tmp_path / "lost").exists()
    assert len(list(tmp_path.glob("*.seen"))) == 3
