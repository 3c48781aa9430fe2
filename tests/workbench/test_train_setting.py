"""``workbench train --setting``: what a setting sets is not predicted, and goes with the predictor."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sim_lab import PREDICTOR, PROXY, make_lab, picture

from drivers.registry import open_device
from predictor.training import paper_recipe
from workbench.errors import RunError
from workbench.judge.rerun import rerun
from workbench.lab.runs import RunFolder, new_run
from workbench.learn.base_rule import FILE
from workbench.learn.predictor_training import train
from workbench.learn.predictors import open_predictor
from workbench.learn.proxy_fitting import fit_proxy
from workbench.learn.results import TrainResult
from workbench.rules.industry import TABLE, IndustryTable
from workbench.rules.setting import recorded_setting

RECIPE = replace(PREDICTOR, steps=4, learning_rate=0.05)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with a proxy and a table over ISO; what training changes is done in a copy."""
    lab = make_lab(tmp_path_factory.mktemp("template") / "lab", captures=16, train=4, validation=2)
    fit_proxy(lab, PROXY, name="proxy")
    with open_device("sim:sim20") as device:
        info = device.info()
    low = info.space.from_unit(np.full(len(info.space), 0.3))
    run = new_run(lab, "tune", "ind")
    IndustryTable(info.space, (100.0, 1600.0), (low, info.space.defaults)).save(run.path / TABLE)
    run.update(config={"rule": "industry", "scenes": ["scene0"]}, device=info)
    run.finish({"score": 20.0, "captures": 100, "file": TABLE})
    return lab


@pytest.fixture
def lab(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "lab"))


@pytest.mark.parametrize("on_top_of", [None, "ind"])
def test_what_the_setting_sets_is_not_predicted(lab: Path, on_top_of: str | None) -> None:
    run = train(lab, RECIPE, on_top_of=on_top_of, setting="3a", name="net")
    shutil.rmtree(lab / "runs" / "ind")
    run = RunFolder.open(run.path)
    setting = recorded_setting(run)
    assert setting is not None
    assert TrainResult.of(run).setting == setting
    assert setting.names == {"red_gain", "blue_gain", "digital_gain", "black_offset"}
    predictor = open_predictor(run)
    raws = [picture(seed)[0] for seed in (20, 21, 22)]
    sets, starts = predictor.predict(raws), [predictor.start(raw) for raw in raws]
    for raw, chosen, start in zip(raws, sets, starts, strict=True):
        assert setting.of(chosen, raw).hash == chosen.hash
        assert setting.of(start, raw).hash == start.hash
        assert chosen["red_gain"] == 2
    assert any(chosen.hash != start.hash for chosen, start in zip(sets, starts, strict=True)), "the rest is learnt"
    assert run.config["on_top_of"]["run"] == (on_top_of or "start")
    assert json.loads((run.path / FILE).read_text())["of"]["settings"] == [setting.to_json()]


def test_a_training_from_a_set_under_a_setting_is_repeated_from_its_record(lab: Path) -> None:
    with open_device("sim:sim20") as device:
        start = device.info().space.defaults.replace(gamma=2.5, red_gain=3.0)
    run = train(lab, RECIPE, start=start, setting="3a", name="net")
    raw = picture(20)[0]
    assert (predicted := open_predictor(run).start(raw))["gamma"] == 2.5
    assert predicted["red_gain"] == 2, "the setting sets it, not the start"
    threads = torch.get_num_threads()
    torch.set_num_threads(run.record.threads or threads)
    try:
        assert rerun(lab, "net").differences == []
    finally:
        torch.set_num_threads(threads)


def test_the_papers_recipe_does_not_go_with_a_setting(lab: Path) -> None:
    with pytest.raises(RunError, match=r"the paper's recipe starts from one set.*under a setting"):
        train(lab, replace(paper_recipe(), steps=1), setting="3a")
