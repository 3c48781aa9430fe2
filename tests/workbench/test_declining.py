"""Declining in ``workbench validate`` and ``workbench predict``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from small_isp import SPACE, SmallIsp, make_lab
from typer.testing import CliRunner

from drivers.frames import RawFrame
from drivers.raw.raw_files import save_npz
from drivers.splits import Split
from predictor.distance import Distance, fit_distance
from predictor.files import load_predictor, save_predictor
from predictor.metadata import LENGTH
from predictor.model import Predictor, PredictorConfig
from workbench.commands.predict import predict
from workbench.judge.in_words import validation_lines
from workbench.judge.methods import ValidationSettings
from workbench.judge.validation import validate
from workbench.lab.dataset import Dataset
from workbench.lab.runs import new_run
from workbench.tune.fixed import tune_run
from workbench.tune.tuner import TuneSettings


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Distance]:
    """A lab with a fixed set and an untrained predictor that declines about every other RAW."""
    lab = tmp_path_factory.mktemp("declining") / "lab"
    make_lab(lab)
    with Dataset.open(lab) as dataset:
        tune_run(lab, dataset, SmallIsp(), TuneSettings("cmaes", captures=60, raws_per_trial=3), name="fixed")
        run = new_run(lab, "train", "net")
        torch.manual_seed(0)
        network = Predictor(PredictorConfig(len(SPACE), 4, LENGTH))
        save_predictor(run.path, network, SPACE, SmallIsp().info().identity)
        train, test = ([r.load() for r in dataset.raws(split)] for split in (Split.TRAIN, Split.TEST))
        distance = fit_distance(run.path, train, test, quantile=0.5)
        run.finish({})
    return lab, distance


def test_declined_raws_get_the_best_fixed_set(made: tuple[Path, Distance]) -> None:
    lab, distance = made
    with Dataset.open(lab) as dataset:
        results = validate(lab, dataset, SmallIsp(), ValidationSettings(oracle_captures=0))
        frames = {r.name: r.load() for r in dataset.raws(Split.TEST)}
    rows = results.by_key
    assert list(rows)[-3:] == ["mean:net", "predicted:net", "declining:net"]
    learned, searched = rows["predicted:net"].captures, rows["fixed"].captures
    assert learned is not None
    assert searched is not None
    assert rows["declining:net"].captures == learned + searched
    predictor, declined = load_predictor(lab / "runs" / "net"), []
    for row in results.per_raw:
        own = row.methods
        declined.append(distance.declines(distance.of(predictor, frames[row.name])))
        assert own["declining:net"] == own["fixed" if declined[-1] else "predicted:net"]
    assert 0 < sum(declined) < len(declined)
    (summary,) = results.declining
    assert summary.predictor == "predicted:net"
    assert summary.declined_share == pytest.approx(np.mean(declined))
    worse = results.gains("predicted:net", "fixed") < 0
    assert summary.worse_share == pytest.approx(worse.mean())
    assert summary.worse_share_declining == pytest.approx((worse & ~np.array(declined)).mean())
    assert results.headline is not None
    assert results.headline.method == "predicted:net"
    assert any(line.startswith("net declines 50% of RAWs: worse than the best") for line in validation_lines(results))


def test_without_a_fixed_set_there_is_nothing_to_decline_to(tmp_path: Path) -> None:
    make_lab(tmp_path / "lab", train=3, test=2)
    with Dataset.open(tmp_path / "lab") as dataset:
        run = new_run(tmp_path / "lab", "train", "net")
        save_predictor(run.path, Predictor(PredictorConfig(len(SPACE), 4)), SPACE, SmallIsp().info().identity)
        frames = [r.load() for r in dataset.raws()]
        fit_distance(run.path, frames, frames)
        run.finish({})
        results = validate(tmp_path / "lab", dataset, SmallIsp(), ValidationSettings(oracle_captures=0))
    assert list(results.by_key) == ["default", "mean:net", "predicted:net"]
    assert results.declining == []


def test_predict_says_how_far_a_raw_is_and_declines(made: tuple[Path, Distance], tmp_path: Path) -> None:
    lab, distance = made
    app = typer.Typer()
    app.command()(predict)

    def told(raw: RawFrame, *more: str) -> str:
        save_npz(tmp_path / "photo.npz", raw)
        arguments = [str(tmp_path / "photo.npz"), "--lab", str(lab), *more]
        return CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "200"}).output

    with Dataset.open(lab) as dataset:
        predictor = load_predictor(lab / "runs" / "net")
        near = min((r.load() for r in dataset.raws(Split.TRAIN)), key=lambda raw: distance.of(predictor, raw))
    far = RawFrame(np.full((32, 32), 1000, np.uint16), "RGGB", (0, 0, 0, 0), 1023)
    text = told(near)
    assert f"limit {distance.limit:.2f} (50% of the validation RAWs lie within)" in text
    assert "declined" not in text
    assert "declined: use the best fixed set" in told(far)
    data = json.loads(told(far, "--json"))
    assert (data["declined"], data["distance_limit"]) == (True, distance.limit)
    assert data["distance"] == pytest.approx(distance.of(predictor, far))
    assert json.loads(told(near, "--json"))["declined"] is False
