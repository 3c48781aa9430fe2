"""Trainings on a GPU are those on the CPU. The GPU is a pretended one, so that every machine runs this."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pretended_gpu import GPU, pretended_gpu
from sim_lab import PREDICTOR, PROXY, SIDE, make_lab

from drivers.parameters import Parameter, ParameterSpace
from drivers.registry import open_device
from drivers.weights import load_weights, training_device
from predictor.training import Quantiser, TrainingStep, paper_recipe
from workbench.lab.runs import RunFolder, new_run
from workbench.learn.predictor_training import train
from workbench.learn.proxy_fitting import fit_proxy
from workbench.learn.refine_run import refine
from workbench.learn.refining import RefineSettings
from workbench.rules.tuned import BEST
from workbench.tasks.vision import open_task

RECIPES = {"fast": replace(PREDICTOR, steps=3), "paper": replace(paper_recipe(), steps=2, epochs=0, batch=4, width=4)}
FORMS = {"base": PROXY, "plain": replace(PROXY, name="paper", base_steps=0)}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_lab(tmp_path_factory.mktemp("on_gpu") / "lab", captures=16, train=16)
    fit_proxy(made, PROXY, name="proxy")
    return made


def same(kind: str, work: Callable[[str], RunFolder], within: float = 2e-3) -> None:
    """The weights are the same wherever the run is made, but for rounding."""
    here = work("on-cpu")
    with pretended_gpu():
        there = work("on-gpu")
    (ours, told), (theirs, also_told) = (load_weights(run.path, kind) for run in (here, there))
    assert told == also_told
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.allclose(tensor, theirs[name], rtol=0.0, atol=within), name


def test_the_pretended_gpu_refuses_what_a_gpu_would() -> None:
    with pretended_gpu():
        assert training_device() == GPU
        there, here = torch.ones(2, 3, device=GPU), torch.ones(2, 3)
        assert (there + 1).device == here.to(GPU).device == (there * here[0, 0]).device == GPU
        for work in (torch.add, torch.dot, torch.maximum):
            with pytest.raises(RuntimeError, match="on the same device"):
                work(there[0], here[0])
        with pytest.raises(TypeError, match="to numpy"):
            there.numpy()
        assert there.cpu().numpy().sum() == float(there.sum()) == 6


@pytest.mark.parametrize("form", FORMS)
def test_a_proxy(lab: Path, form: str) -> None:
    same("proxy", lambda name: fit_proxy(lab, FORMS[form], name=f"{form}-{name}"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_predictor(lab: Path, recipe: str) -> None:
    same("predictor", lambda name: train(lab, RECIPES[recipe], proxy_run="proxy", name=f"{recipe}-{name}"))


def test_a_predictor_that_was_stopped_goes_on(lab: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(step: TrainingStep) -> None:
        if step.step == 5:
            raise StoppedError

    def work(name: str) -> RunFolder:
        recipe = replace(PREDICTOR, steps=6, seed=1)
        if name == "on-cpu":
            return train(lab, recipe, proxy_run="proxy", name="undisturbed")
        seen: list[int] = []
        with pytest.raises(StoppedError):
            train(lab, recipe, proxy_run="proxy", on_step=stop)
        run = train(lab, recipe, proxy_run="proxy", on_step=lambda step: seen.append(step.step))
        assert seen == [6]
        return run

    same("predictor", work)


def test_codes_of_a_space_with_constraints() -> None:
    levels = [
        Parameter(name=name, block="tone", kind="integer", low=0, high=9, default=default)
        for name, default in (("low", 2), ("high", 7))
    ]
    quantise = Quantiser(ParameterSpace("board", tuple(levels), ("low < high",)))
    asked = torch.tensor([[0.91, 0.12], [0.33, 0.71]])
    with pretended_gpu():
        there = quantise(asked.to(GPU))
        assert there.device == GPU
        assert torch.equal(there.cpu(), quantise(asked))


def test_in_mixed_precision(lab: Path) -> None:
    with pretended_gpu():
        fitted = fit_proxy(lab, replace(PROXY, mixed=True), name="mixed")
        trained = train(lab, replace(RECIPES["fast"], mixed=True), proxy_run="mixed", name="mixed-predictor")
    for run, kind in ((fitted, "proxy"), (trained, "predictor")):
        weights, _ = load_weights(run.path, kind)
        assert all(weight.dtype != torch.bfloat16 and weight.isfinite().all() for weight in weights.values())


def test_a_predictor_led_by_a_detector(lab: Path, tmp_path: Path) -> None:
    corner, side = SIDE // 4, SIDE // 2
    polygon = [corner, corner, corner + side, corner, corner + side, corner + side, corner, corner + side]
    box = {"bbox": [corner, corner, side, side], "area": side**2, "segmentation": [polygon]}
    names = [f"{number}.npz" for number in range(19)]
    annotations = {
        "images": [{"id": i, "file_name": name, "width": SIDE, "height": SIDE} for i, name in enumerate(names, 1)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, **box} for i in range(1, 20)],
        "categories": [{"id": 1, "name": "ball"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(annotations), encoding="utf-8")

    def work(name: str) -> RunFolder:
        task = open_task("detection", "offline:mask-rcnn", tmp_path / "annotations.json", viewing_weight=0.5)
        return train(lab, replace(RECIPES["fast"], steps=2), proxy_run="proxy", task=task, name=f"detector-{name}")

    same("predictor", work)


def test_a_refined_predictor(lab: Path) -> None:
    with open_device("sim:sim20") as device:
        info = device.info()
    run = new_run(lab, "tune", "defaults")
    (run.path / BEST).write_text(info.space.to_toml(info.space.defaults), encoding="utf-8")
    run.update(config={"rule": "fixed", "scenes": ["scene0"]}, device=info)
    run.finish({"score": 1.0, "captures": 100, "device_s": 1.5, "parameters_hash": info.space.defaults.hash})
    settings = RefineSettings(captures=88, rounds=1, per_raw=4)

    def work(name: str) -> RunFolder:
        with open_device("sim:sim20") as device:
            return refine(lab, device, settings, source="defaults", steps=4, follow_captures=68, name=f"refined-{name}")

    same("predictor", work)
