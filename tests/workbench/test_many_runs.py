"""A study's trainings on a Ray cluster are those of one process; lost workers cost time and no run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import ray_study
from sim_lab import PROXY, make_lab
from typer import Typer
from typer.testing import CliRunner

from workbench.commands.ablate import ablate
from workbench.errors import RunError
from workbench.judge.ablation.training import train_variants
from workbench.lab.runs import find_run
from workbench.learn.learning import fit_proxy
from workbench.learn.results import TrainResult

HAS_RAY = find_spec("ray") is not None


@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed (the extra `cluster`)")
def test_a_study_on_ray_equals_the_one_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    lab = make_lab(tmp_path / "lab", captures=16, test=2)
    fit_proxy(lab, PROXY, name="proxy")
    # Ray would start its workers with a niceness of 15, which beside other tests is for ever.
    environment = {**os.environ, "RAY_worker_niceness": "0"}
    subprocess.run([sys.executable, ray_study.__file__, str(lab)], check=True, timeout=240, env=environment)
    assert len(list(lab.glob("*.lost"))) == 2
    here = train_variants(lab, replace(ray_study.SETTINGS, prefix="here"))
    for (key, seed), run in here.items():
        assert TrainResult.of(find_run(lab, "train", f"ray-{key}-seed{seed}")) == TrainResult.of(run)
    app = Typer()
    app.command()(ablate)
    told = {}
    for prefix in ("here", "ray"):
        words = ["--device", "sim:sim20", "--lab", str(lab), "--seeds", "0,1", "--steps", "4", "--batch", "4"]
        words += ["--width", "4", "--only", "none-5", "--prefix", prefix, "--json"]
        told[prefix] = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    assert told["ray"]["table"]
    assert json.dumps(told["ray"]["table"]).replace("ray-", "here-") == json.dumps(told["here"]["table"])
    assert told["ray"]["per_raw"] == told["here"]["per_raw"]


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_a_cluster_is_one_line(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", captures=4, test=1)
    fit_proxy(lab, PROXY, name="proxy")
    with pytest.raises(RunError, match=r"--cluster needs Ray .* `pip install 'isp-workbench\[cluster\]'`"):
        train_variants(lab, ray_study.SETTINGS, cluster="auto")
