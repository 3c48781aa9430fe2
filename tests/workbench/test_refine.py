"""``workbench refine``: rounds on the device around a rule's answers, and what the network makes of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from sim_lab import Choosy, make_lab, picture
from typer.testing import CliRunner

from drivers.errors import DeviceError
from drivers.registry import open_device
from drivers.splits import Split
from predictor.files import save_predictor
from predictor.model import Predictor, PredictorConfig
from predictor.moves import STEP
from workbench import Lab
from workbench.commands.refine import refine as refine_command
from workbench.errors import RunError
from workbench.judge.rerun import rerun
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, find_run, list_runs, new_run
from workbench.learn.base_rule import find_base
from workbench.learn.predictors import open_predictor
from workbench.learn.refine_run import refine
from workbench.learn.refining import PURPOSE, REACHES, RefineSettings
from workbench.learn.results import ResponseRanks, TrainResult
from workbench.rules.tuned import BEST
from workbench.tasks.viewing import ViewingTask

DEVICE = "sim:sim20"
SETTINGS = RefineSettings(captures=300, rounds=2, spread=0.25)
QUICK: dict[str, Any] = {"steps": 40, "follow_captures": 80}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with a fixed rule that leaves much to gain: the defaults."""
    lab = make_lab(tmp_path_factory.mktemp("refine") / "lab", captures=0, train=20, validation=5)
    with open_device(DEVICE) as device:
        info = device.info()
    run = new_run(lab, "tune", "defaults")
    (run.path / BEST).write_text(info.space.to_toml(info.space.defaults), encoding="utf-8")
    run.update(config={"rule": "fixed", "scenes": ["scene0"]}, device=info)
    run.finish({"score": 1.0, "captures": 100, "device_s": 1.5, "parameters_hash": info.space.defaults.hash})
    return lab


@pytest.fixture
def lab(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "lab"))


def run_refine(lab: Path, **more: Any) -> RunFolder:
    with open_device(DEVICE) as device:
        return refine(lab, device, SETTINGS, **{"source": "defaults", **QUICK, **more})


def command(*arguments: str) -> str:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(refine_command)
    done = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout


def asked(lab: Path) -> int:
    with Dataset.open(lab) as dataset:
        return sum(1 for _ in dataset.captures())


def test_it_gains_over_its_rule_on_the_device_and_goes_on_where_it_stopped(lab: Path) -> None:
    result = Lab(lab).refine("defaults", DEVICE, settings=SETTINGS, name="first", **QUICK).results
    run = find_run(lab, "train", "first")
    refined, follow = result.refine, result.follow
    assert refined is not None
    assert follow is not None
    assert refined.metrics == ("psnr",)
    assert 0 < refined.captures <= refined.budget == SETTINGS.captures
    assert refined.rounds[refined.best].gains["psnr"] > 1
    assert refined.reach is not None
    assert any(abs(refined.reach - share * SETTINGS.spread) < 1e-9 for share in REACHES)
    assert follow.gain > 0.5
    with Dataset.open(lab) as dataset, open_device(DEVICE) as device:
        kept = {c.purpose for c in dataset.captures()}
        predictor, gains = open_predictor(run), []
        for raw in dataset.raws(Split.VALIDATION):
            sets = (predictor.predict([raw.load()])[0], predictor.start(raw))
            images = [device.process(raw.load(), one).rgb.pixels for one in sets]
            better, rule = (ViewingTask().judge(raw, image).figures["psnr"] for image in images)
            gains.append(better - rule)
    assert np.mean(gains) > 0.5
    assert kept == {PURPOSE, "train:follow"}
    before = asked(lab)
    again = run_refine(lab, name="again")
    assert asked(lab) == before
    assert TrainResult.of(again).refine == refined
    with pytest.raises(RunError, match="run first: was refined; its command once more"):
        rerun(lab, "first")
    with Dataset.open(lab) as dataset:
        frames = [raw.load() for raw in dataset.raws()]
    assert open_predictor(again).predict(frames) == open_predictor(run).predict(frames)
    with Dataset.open(lab) as dataset:
        judged = dataset.raws(Split.VALIDATION)[0].scene
    again.update(config={**again.config, "scenes": [*again.config["scenes"], judged]})
    with pytest.raises(RunError, match=f"run again: was made with the validation scene '{judged}'"):
        run_refine(lab, source="again", name="leaking")
    assert [r.name for r in list_runs(lab, "train")] == ["again", "first"]


def test_a_predictor_is_refined_around_its_own_answers_not_its_rules(lab: Path) -> None:
    """Its answers lie further from the rule than the spread; they stay, and what is refined is its own network."""
    with open_device(DEVICE) as device:
        info = device.info()
    space = info.space
    base = find_base(lab, "defaults", space, "viewing")
    config = PredictorConfig(len(space), 4, on_top=True, encoders=3)
    network, gain = Predictor(config), space.names.index("digital_gain")
    with torch.no_grad():
        assert network.local.bias is not None
        network.local.bias[gain] = 0.6 / STEP
    run = new_run(lab, "train", "far")
    save_predictor(run.path, network, space, info.identity)
    base.save(run.path, dict.fromkeys(space.blocks, 0.5))  # 0.3 is followed
    run.update(config={"on_top_of": base.record(), "scenes": ["scene0"]}, device=info)
    run.finish({})
    far = open_predictor(find_run(lab, "train", "far"))
    with open_device(DEVICE) as device:
        settings = RefineSettings(captures=320, rounds=1, spread=0.1)
        again = refine(lab, device, settings, source="far", name="again", **QUICK)
        with pytest.raises(RunError, match="too few"):
            refine(lab, device, replace(settings, captures=1), source="far", **QUICK)
    refined = open_predictor(again)
    assert refined.network.network.config == config
    with Dataset.open(lab) as dataset:
        frames = [raw.load() for raw in dataset.raws(Split.VALIDATION)]
        tried = [c for c in dataset.captures() if c.purpose == PURPOSE]
    start = far.start(frames[0]).unit[gain]
    assert all(p.unit[gain] == pytest.approx(start + 0.3, abs=0.01) for p in far.predict(frames))
    # Nothing was asked near the rule, so nothing says that going back to it would be better.
    assert min(space.from_codes(c.codes).unit[gain] for c in tried) > start + 0.1
    assert all(refined.network.moves(frame)[gain] == pytest.approx(0.3, abs=0.2) for frame in frames)


def test_what_cannot_be_refined_is_one_line_and_leaves_no_run(lab: Path) -> None:
    too_few = "too few to refine in 2 rounds; give at least 16 RAWs and --captures"
    with pytest.raises(RunError, match=too_few), open_device(DEVICE) as device:
        refine(lab, device, RefineSettings(captures=100, rounds=2), source="defaults", **QUICK)
    with pytest.raises(RunError, match="no tune run of the rule industry"):
        run_refine(lab, source="industry")
    with pytest.raises(
        RunError, match=r"no tune or train run 'other' to refine \(tune runs: defaults; train runs: none"
    ):
        run_refine(lab, source="other")
    with pytest.raises(RunError, match="metric 'mood' is none"), open_device(DEVICE) as device:
        refine(lab, device, RefineSettings(metrics=("mood",)), source="defaults", **QUICK)
    with pytest.raises(DeviceError, match="does not take 25 of 25 RAWs"), Choosy() as device:
        refine(lab, device, SETTINGS, source="defaults", **QUICK)
    assert [run.name for run in list_runs(lab)] == ["defaults"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"captures": 0},
        {"rounds": 0},
        {"per_raw": 0},
        {"rank_raws": -1},
        {"seed": -1},
        {"spread": 0.0},
        {"spread": float("nan")},
    ],
)
def test_settings_that_no_refinement_can_have(wrong: dict[str, Any]) -> None:
    with pytest.raises(RunError, match=f"refining with {next(iter(wrong))} .*: give"):
        RefineSettings(**wrong)


def assert_moves_are_ranked(ranks: ResponseRanks | None) -> None:
    assert ranks is not None
    assert (ranks.raws, ranks.largest) == (3, 0.25)
    with open_device(DEVICE) as device:
        assert [p.parameter for p in ranks.parameters] == device.info().space.names
    by_name = {p.parameter: p for p in ranks.parameters}
    assert ranks.captures <= sum(p.moves for p in ranks.parameters)
    gain = by_name["digital_gain"]
    assert gain.moves >= 9
    assert gain in ranks.that_matter("psnr")
    assert all(p.rank is None or -1 <= p.rank <= 1 for p in ranks.parameters)
    # Gain is what these RAWs lack most; whatever else was learnt, it is ranked.
    assert gain.rank is not None
    assert gain.rank > 0.5
    assert {p.parameter for p in ranks.followed("psnr")} <= {p.parameter for p in ranks.that_matter("psnr")}


def test_the_command_prints_what_each_round_gained(lab: Path) -> None:
    options = ["--device", DEVICE, "--lab", str(lab), "--captures", "160", "--rounds", "1", "--spread", "0.25"]
    more = ["--metric", "psnr", "--metric", "delta_e", "--steps", "40", "--follow-captures", "80", "--name", "net"]
    told = command("defaults", *options, "--rank-raws", "3", *more)
    assert "parameters change PSNR by more than 0.1 dB; what is learnt ranks the moves of" in told
    refined = TrainResult.of(find_run(lab, "train", "net")).refine
    assert refined is not None
    assert refined.captures <= 160
    assert_moves_are_ranked(refined.ranks)
    assert "gain over what is refined on 5 validation RAWs" in told
    assert "predictor net, on top of defaults" in told
    (lab / "held.toml").write_text("[held]\nred_gain = 1.75\n", encoding="utf-8")
    repeated = json.loads(
        command("defaults", *options, *more[:-1], "next", "--setting", str(lab / "held.toml"), "--json")
    )
    assert repeated["refine"]["metrics"] == ["psnr", "delta_e"]
    assert repeated["follow"]["metric"] == "psnr and delta_e"
    assert repeated["follow"]["unit"] == "spreads"
    run = find_run(lab, "train", "next")
    assert run.config["source"] == "defaults"
    predictor, frame = open_predictor(run), picture(40)[0]
    moves = dict(zip(predictor.space.names, predictor.network.moves(frame), strict=True))
    assert moves["red_gain"] == 0
    assert any(moves.values())
    assert predictor.predict([frame])[0]["red_gain"] == predictor.start(frame)["red_gain"] == 1.75
