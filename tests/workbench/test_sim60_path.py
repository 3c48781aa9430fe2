"""The whole path on sim60 at a tiny size: Quad Bayer RAWs of `sim scenes`, its device over ZeroMQ, to a tuning file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import in_thread
from sim_lab import PREDICTOR, PROXY

from sim import profiles
from sim.firmware.registers import emulated
from sim.firmware.zmq_server import serve_firmware
from workbench import Lab, ValidationSettings
from workbench.board import tuning_file
from workbench.commands.sim_scenes import SceneCfa, scenes
from workbench.judge.methods import MethodKind
from workbench.judge.rerun import rerun
from workbench.lab.dataset import Dataset
from workbench.lab.dataset.verify import verify
from workbench.lab.runs import find_run
from workbench.learn.predictors import open_predictor
from workbench.learn.refining import RefineSettings
from workbench.rules.tuned import Rule

pytestmark = pytest.mark.usefixtures("module_in_memory")


@pytest.fixture
def url() -> Iterator[str]:
    with in_thread(serve_firmware, emulated("sim60"), "127.0.0.1:0") as url:
        yield url


def test_it_runs_on_sim60(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raws = tmp_path / "raws"
    scenes(raws, raws_per_photograph=0, lab_scenes=40, raws_per_scene=1, size="32x32", cfa=SceneCfa.QUAD, as_json=True)
    made = json.loads(capsys.readouterr().out)
    assert all(split["raws"] for split in made["splits"].values())
    lab = Lab(tmp_path / "lab")
    assert lab.collect(url, 80, raws=raws).captured == 80
    proxy = lab.fit_proxy(recipe=PROXY)
    lab.train(proxy=proxy, recipe=PREDICTOR)
    lab.tune(url, 40, raws_per_trial=4)
    table = lab.tune(url, 40, rule=Rule.industry, raws_per_trial=4)
    settings = RefineSettings(captures=400, rounds=1, spread=0.25)
    refined = lab.refine(table, url, settings=settings, steps=4, follow_captures=70)
    assert refined.results.refine is not None
    result = lab.validate(url, settings=ValidationSettings(oracle_captures=4))
    assert {MethodKind.fixed, MethodKind.industry, MethodKind.predicted, MethodKind.oracle} <= {
        m.kind for m in result.methods
    }
    assert lab.report().is_file()
    again = rerun(lab.path, table.name)
    assert again.agrees()
    assert again.figures > 20

    space = profiles.space("sim60")
    with Dataset.open(lab.path) as dataset:
        assert verify(dataset).problems == []
        stored = list(dataset.raws())
        asked = {c.parameters_hash: space.from_codes(c.codes) for c in dataset.captures()}
        predicted = open_predictor(find_run(lab.path, "train", refined.name)).predict([r.load() for r in stored])
    assert {raw.load().cfa_kind for raw in stored} == {"quad"}
    assert len(asked) > 80
    # `from_codes` has refused what breaks a constraint or lets the curve fall; and nothing is set that does not exist.
    for one in [*asked.values(), *map(space.take, predicted)]:
        other = {"binning": "remosaic_detail", "remosaic": "upscaling"}[str(one["quad_mode"])]
        assert one[other] == space.defaults[other]
    for run in (table.name, refined.name):
        told = json.loads(tuning_file.render(tuning_file.tuning_of(lab.path, run), "json"))
        assert len(told["sets"]) > 1
        values = [one["values"] for one in told["sets"]]
        assert all({"ccm_01", "tone_7", "quad_mode"} <= set(one) for one in values)
