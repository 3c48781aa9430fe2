"""A run's predictor on frame after frame: graphs beside the run say what its network says, at most four are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fake_isp import make_raw

from drivers.registry import open_device
from predictor.files import save_predictor
from predictor.model import Predictor, PredictorConfig
from workbench.board import kept_graph
from workbench.board.frame_predictor import SIZES, FramePredictor
from workbench.lab.runs import RunFolder, new_run
from workbench.learn.predictors import open_predictor


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    with open_device("sim:sim20") as device:
        info = device.info()
    torch.manual_seed(1)
    made = new_run(tmp_path / "lab", "train", "net")
    save_predictor(made.path, Predictor(PredictorConfig(len(info.space), width=4)), info.space, info.identity)
    made.update(config={}, device=info)
    made.finish({})
    return made


def test_every_size_is_predicted_as_by_the_network_and_the_first_ones_by_a_graph(run: RunFolder) -> None:
    loaded = open_predictor(run)
    predictor = FramePredictor(run, loaded)
    sides = [64 + 2 * i for i in range(SIZES + 1)]
    for side in sides * 2:
        raw = make_raw(side, side)
        expected = loaded.predict([raw])[0]
        assert np.abs(predictor.predict(raw).unit - expected.unit).max() < 0.01
    assert {folder.name for folder in (run.path / "graphs").iterdir()} == {f"{s}x{s}" for s in sides[:SIZES]}


def test_without_a_graph_the_network_predicts(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(kept_graph, "_make", no_room)
    loaded, raw = open_predictor(run), make_raw(3)
    assert FramePredictor(run, loaded).predict(raw) == loaded.predict([raw])[0]
