from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sim_lab import PREDICTOR, PROXY, make_lab, picture

from drivers.frames import RawFrame
from drivers.splits import Split
from drivers.weights import WeightsError
from predictor.files import load_predictor
from predictor.training import TrainingStep, paper_recipe
from proxy.files import load_proxy
from workbench.errors import RunError
from workbench.lab.dataset import Dataset
from workbench.lab.dataset.records import RawRecord
from workbench.lab.runs import RunFolder, find_run
from workbench.learn.held import not_followed
from workbench.learn.predictor_training import train
from workbench.learn.predictors import open_predictor
from workbench.learn.proxy_fitting import fit_proxy


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_lab(tmp_path_factory.mktemp("training") / "lab", captures=16)
    fit_proxy(made, PROXY, name="proxy")
    return made


@pytest.fixture
def lab(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "lab"))


def test_a_run_from_raws_to_weights(lab: Path) -> None:
    steps: list[TrainingStep] = []
    before = {n: w.clone() for n, w in load_proxy(lab / "runs" / "proxy").network.state_dict().items()}
    run = train(lab, PREDICTOR, name="one", on_step=steps.append)
    assert find_run(lab, "train").name == "one"
    assert [s.step for s in steps] == list(range(1, PREDICTOR.steps + 1))
    record = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    assert record["finished"]
    config, results = record["config"], record["results"]
    assert config["recipe"] == PREDICTOR.to_dict()
    assert (config["proxy"], config["task"], config["raws"], config["metadata"]) == ("proxy", "viewing", 6, True)
    assert config["scenes"] == [f"scene{i}" for i in range(6)]
    assert config["held_out_scenes"] == ["scene6", "scene7"]
    assert {"curve", "held_out_loss", "parameters", "torch"} <= set(results)
    assert results["held_out_loss"] == min(held for *_, held in results["curve"] if held is not None)
    loaded = load_predictor(run.path)
    proxy = load_proxy(lab / "runs" / "proxy")
    assert (loaded.space, loaded.device_identity, loaded.metadata) == (proxy.space, proxy.device_identity, True)
    assert results["parameters"] == sum(w.numel() for w in loaded.network.parameters())
    predicted = loaded.predict([picture(20)[0], picture(21)[0]])
    assert all(len(p.values) == 20 for p in predicted)
    # The proxy is frozen: training goes through it, never into it.
    assert all(torch.equal(w, before[n]) for n, w in proxy.network.state_dict().items())


def test_weights_that_the_run_did_not_write_are_refused(lab: Path) -> None:
    one, other = (train(lab, replace(PREDICTOR, steps=1, seed=seed), name=f"seed{seed}") for seed in (0, 1))
    open_predictor(one)
    shutil.copy(other.path / "weights.safetensors", one.path)
    with pytest.raises(WeightsError, match=r"seed0.weights\.safetensors: is not the file that the run wrote"):
        open_predictor(one)
    older = one.results
    del older["weights_sha256"]
    one.update(results=older)
    open_predictor(one)


def test_the_paper_recipe_leaves_metadata_out(lab: Path) -> None:
    run = train(lab, replace(paper_recipe(), steps=2, width=4))
    assert load_predictor(run.path).metadata is False
    assert run.config["recipe"]["optimiser"] == "rmsprop"


def test_the_same_seed_gives_the_same_weights(lab: Path) -> None:
    one, again, other = (
        list(load_predictor(train(lab, replace(PREDICTOR, seed=seed)).path).network.parameters()) for seed in (0, 0, 1)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_training_starts_at_the_given_parameters(lab: Path) -> None:
    space = load_proxy(lab / "runs" / "proxy").space
    barely = replace(PREDICTOR, steps=1, learning_rate=1e-9, metadata=False)
    for start in (None, space.from_unit(np.full(len(space), 0.8))):
        loaded = load_predictor(train(lab, barely, start=start).path)
        unit = loaded.predict([picture(20)[0]])[0].unit
        expected = (start or space.defaults).unit
        moves = [p.kind == "continuous" for p in space.parameters]
        assert np.abs(unit - expected.clip(0.02, 0.98))[moves].max() < 0.25


def test_without_held_out_raws(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", captures=16, validation=0)
    fit_proxy(lab, PROXY)
    run = train(lab, PREDICTOR)
    assert run.results["held_out_loss"] is None
    assert len(load_predictor(run.path).predict([picture(20)[0]])) == 1


def test_test_scenes_are_never_read(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    with Dataset.open(lab) as dataset:
        kind = type(dataset.raws()[0])
    original = kind.load

    def load(record: RawRecord) -> RawFrame:
        read.append(record.split)
        return original(record)

    monkeypatch.setattr(kind, "load", load)
    train(lab, PREDICTOR)
    assert set(read) == {"train", "validation"}


def test_no_references(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", captures=16, references=False)
    fit_proxy(lab, PROXY)
    with pytest.raises(RunError, match="the data set has 6 train RAWs and none has a reference image"):
        train(lab, PREDICTOR)
    assert [p.name for p in (lab / "runs").iterdir()] == [find_run(lab, "fit-proxy").name]


def test_a_reference_of_another_size(lab: Path) -> None:
    raw, reference = picture(30)
    with Dataset.open(lab) as dataset:
        dataset.add_raw(raw, scene="odd", split=Split.TRAIN, name="odd.npz", reference=reference[::2, ::2].copy())
    with pytest.raises(RunError, match=r"odd.npz: its reference is 32×32, the RAW 64×64"):
        train(lab, PREDICTOR)


def test_no_proxy(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", captures=0)
    with pytest.raises(RunError, match=r"no finished fit-proxy run there; run `workbench fit-proxy` first"):
        train(lab, PREDICTOR)
    with pytest.raises(RunError, match="no run there"):
        train(lab, PREDICTOR, proxy_run="other")


def test_parameters_that_the_proxy_does_not_follow_are_held(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, {})
    assert not_followed(run) == []
    rows = [("gain", 0.9), ("noise", 0.1), ("deaf", None), ("inverted", -0.8)]
    moved = [{"parameter": name, "cosine": cosine} for name, cosine in rows]
    run.update(results={"fidelity": {"parameters": moved}})
    assert not_followed(run) == ["noise", "deaf", "inverted"]
