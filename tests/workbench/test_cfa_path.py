"""The path from collection to prediction on RAWs of every CFA, with an agent that takes them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from servers import in_thread
from sim_lab import PREDICTOR, PROXY

from drivers.agent import Agent, RawInput, continuous
from drivers.cfa import KINDS
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.raw.raw_files import load_raw, save_npz
from workbench.collect.collector import collect
from workbench.lab.dataset import Dataset
from workbench.learn.learning import fit_proxy, train
from workbench.learn.predictors import open_predictor

CFAS = {"bayer": "GRBG", "mono": "M", "quad": "RRGGRRGGGGBBGGBB", "rgb-ir": "BGRGGIGIRGBGGIGI", "rccb": "RCCB"}


def picture(mosaic: np.ndarray, metadata: Any, values: Any) -> np.ndarray:
    planes = RawFrame.from_metadata(mosaic, metadata).planes()
    image = np.clip(planes * values["gain"], 0, 1) ** 0.45
    shown: np.ndarray = np.rint(255 * image).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    return shown.transpose(1, 2, 0)


def test_every_cfa_goes_from_collection_to_prediction(tmp_path: Path) -> None:
    agent = Agent(
        model="any-cfa",
        firmware="1",
        parameters=[continuous("gain", 1, 4, step=1 / 64)],
        raw_input=RawInput(cfa=tuple(KINDS)),
    )
    agent.process(picture)
    folder, lab = tmp_path / "raws", tmp_path / "lab"
    folder.mkdir()
    rows = ["file,scene,split"]
    for kind, cfa in CFAS.items():
        for split in ("train", "validation", "test"):
            name = f"{kind}-{split}"
            rows.append(f"{name}.npz,{name},{split}")
            noise = np.random.default_rng(len(rows)).integers(0, 60, (32, 32))
            mosaic = (64 + 12 * np.arange(32) + noise).astype(np.uint16)
            raw = RawFrame(mosaic, cfa, (64.0,) * 4, 1023, iso=100.0)
            save_npz(folder / f"{name}.npz", raw)
            shown = picture(raw.mosaic, raw.metadata, {"gain": 2})
            cv2.imwrite(str(folder / f"{name}.reference.png"), shown[:, :, ::-1])
    (folder / "scenes.csv").write_text("\n".join(rows), encoding="utf-8")
    with in_thread(agent.serve, "zmq://127.0.0.1:0") as url:
        assert collect(lab, url, 20, raws=folder).captured == 20
    with Dataset.open(lab) as dataset:
        assert {raw.name.split("-t")[0].split("-v")[0]: raw.load().cfa for raw in dataset.raws()} == CFAS
    fit_proxy(lab, PROXY)
    predictor = open_predictor(train(lab, PREDICTOR)[0])
    for kind in CFAS:
        (predicted,) = predictor.predict([load_raw(folder / f"{kind}-test.npz")])
        assert 1 <= float(predicted.values["gain"]) <= 4
    (folder / "scenes.csv").write_text("file\nquad-test.npz\nmono-test.npz\n", encoding="utf-8")
    with pytest.raises(DeviceError, match=r"does not take the first RAW, .*its CFA is .*the device takes RGGB, BGGR"):
        collect(tmp_path / "other", "sim:sim20", 4, raws=folder)
