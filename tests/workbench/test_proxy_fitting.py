from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sim_lab import PREDICTOR, PROXY, make_lab, picture
from small_isp import SmallIsp
from small_isp import make_lab as make_small_lab

from drivers.errors import FrameError
from drivers.frames import RgbFrame
from drivers.registry import open_device
from drivers.splits import Split
from drivers.weights import WeightsError
from proxy.files import load_proxy
from proxy.training import ProxyStep
from workbench.collect import campaign
from workbench.collect.bench import Bench
from workbench.collect.designs import Design
from workbench.errors import DatasetError, RunError
from workbench.lab.dataset import Dataset
from workbench.lab.runs import find_run, list_runs
from workbench.learn.own_weights import open_proxy
from workbench.learn.predictor_training import train
from workbench.learn.proxy_fitting import device_of, fit_proxy, hold_out, load_crops


def test_a_run_from_captures_to_weights(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab")
    steps: list[ProxyStep] = []
    run = fit_proxy(lab, PROXY, name="one", on_step=steps.append)
    assert find_run(lab, "fit-proxy").name == "one"
    assert [s.step for s in steps] == list(range(1, PROXY.base_steps + PROXY.steps + 1))
    record = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    assert record["finished"]
    assert record["config"]["recipe"] == PROXY.to_dict()
    with Dataset.open(lab) as dataset:
        assert record["dataset_digest"] == dataset.digest()
        (device,) = dataset.devices()
        collected = dataset.captures(purpose=campaign.PURPOSE)
        train, held = hold_out([c for c in collected if c.raw_hash in {r.hash for r in dataset.raws(Split.TRAIN)}])
        validation = len(dataset.captures(purpose=campaign.PURPOSE, split=Split.VALIDATION))
        space = dataset.space(device.identity)
    results = record["results"]
    assert results["captures"] == record["config"]["captures"] == len(train)
    assert results["curve"][-1][0] == PROXY.base_steps + PROXY.steps
    for label, count in (("new_sets_known_raws", len(held)), ("new_sets_new_raws", validation)):
        if count:
            assert results[label]["captures"] == count
            assert 0 < results[label]["psnr_p5"] <= results[label]["psnr_median"] < 60
    assert "new_sets_new_raws" in results
    assert "fidelity" not in results
    loaded = load_proxy(run.path)
    assert (loaded.space, loaded.device_identity) == (space, device.identity)
    assert loaded.render(picture(20)[0], space.defaults).shape == (64, 64, 3)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", captures=16)
    one, again, other = (
        list(load_proxy(fit_proxy(lab, replace(PROXY, seed=seed)).path).network.parameters()) for seed in (0, 0, 1)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_weights_that_the_run_did_not_write_are_refused(tmp_path: Path) -> None:
    """Also where the other proxy is of the very same device."""
    lab = make_lab(tmp_path / "lab", captures=16)
    one, other = (fit_proxy(lab, replace(PROXY, seed=seed), name=f"seed{seed}") for seed in (0, 1))
    open_proxy(one)
    shutil.copy(other.path / "weights.safetensors", one.path)
    refusal = r"seed0.weights\.safetensors: is not the file that the run wrote"
    with pytest.raises(WeightsError, match=refusal):
        open_proxy(one)
    with pytest.raises(WeightsError, match=refusal):
        train(lab, replace(PREDICTOR, steps=1), proxy_run="seed0")
    assert [run.name for run in list_runs(lab, "train")] == []
    older = one.results
    del older["weights_sha256"]
    one.update(results=older)
    open_proxy(one)


def test_fidelity_asks_the_device_once(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", captures=16, validation=1)
    with open_device("sim:sim20") as device:
        space = device.info().space
        first = fit_proxy(lab, PROXY, device=device, name="a").results["fidelity"]
        with Dataset.open(lab) as dataset:
            kept = len(dataset.captures(purpose="fidelity"))
        second = fit_proxy(lab, PROXY, device=device, name="b").results["fidelity"]
        with Dataset.open(lab) as dataset:
            assert len(dataset.captures(purpose="fidelity")) == kept > 0
            # Probes are no training material.
            assert len(dataset.captures(purpose=campaign.PURPOSE)) == 16
    assert first == second
    assert {m["parameter"] for m in first["parameters"]} == set(space.names)
    assert list(first["blocks"]) == list(space.blocks)
    assert {"device_change", "cosine", "gain", "psnr", "ssim"} <= set(first["parameters"][0])
    assert -1 <= first["rank_correlation"] <= 1
    assert first["captures"] >= first["rank_raws"] * first["rank_sets"]


def test_only_the_collection_is_learned_from(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", captures=16)
    with Dataset.open(lab) as dataset, open_device("sim:sim20") as device:
        space = device.info().space
        jobs = [(r, space.from_unit(np.full(len(space), 0.3))) for r in dataset.raws()]
        list(Bench(dataset, device, purpose="tune:x").capture_many(jobs))
        before = {c.parameters_hash for c in dataset.captures(purpose=campaign.PURPOSE, split=Split.TRAIN)}
        train, held = hold_out(dataset.captures(purpose=campaign.PURPOSE, split=Split.TRAIN))
    run = fit_proxy(lab, PROXY)
    assert run.results["captures"] == len(train)
    assert {c.parameters_hash for c in train} | {c.parameters_hash for c in held} == before


def test_crops_pair_each_raw_with_its_own_captures(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", captures=12)
    with Dataset.open(lab) as dataset:
        captures = dataset.captures()
        space = dataset.space(dataset.devices()[0].identity)
        crops = load_crops(dataset, captures, space)
    assert len(crops) == 12
    by_unit = {tuple(np.asarray(space.from_codes(c.codes).unit, np.float32)): c for c in captures}
    for i in range(12):
        capture = by_unit[tuple(crops.parameters[i].numpy())]
        assert crops.raw_hashes[i] == capture.raw_hash
        np.testing.assert_array_equal(crops.output[i].permute(1, 2, 0).numpy(), capture.rgb().pixels)


def test_held_out_sets_are_whole_and_stable(tmp_path: Path) -> None:
    class Record:
        def __init__(self, number: int) -> None:
            self.parameters_hash = f"{number:064x}"[-64:]

    records = [Record((i * 0x9E37) % 0x10000 << 240) for i in range(2000)]
    train, held = hold_out(records)  # type: ignore[arg-type]
    assert len(train) + len(held) == 2000
    assert 0.03 < len(held) / 2000 < 0.1
    assert hold_out(list(reversed(records)))[1] == held[::-1]  # type: ignore[arg-type]


def test_no_captures(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", captures=0)
    with pytest.raises(RunError, match=r"no captures; run `workbench collect` first"):
        fit_proxy(lab, PROXY)
    assert not (lab / "runs").exists()


def test_too_few_captures(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", captures=3, train=1, validation=2)
    with pytest.raises(RunError, match=r"1 training captures .* too few"):
        fit_proxy(lab, PROXY)


def test_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no data set here"):
        fit_proxy(tmp_path / "nowhere", PROXY)


def test_several_devices_need_a_name(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", captures=16)
    make_lab(lab, captures=16, device="sim:sim32")
    with Dataset.open(lab) as dataset:
        names = [d.identity for d in dataset.devices()]
        assert len(names) == 2
        with pytest.raises(RunError, match="several devices; give --identity, one of: ") as error:
            device_of(dataset, None)
        assert all(name in str(error.value) for name in names)
        with pytest.raises(RunError, match="no captures of other/1"):
            device_of(dataset, "other/1")
        assert [device_of(dataset, name) for name in names] == names
        spaces = {name: dataset.space(name) for name in names}
    with pytest.raises(RunError, match="several devices"):
        fit_proxy(lab, PROXY)
    for name in names:
        assert load_proxy(fit_proxy(lab, PROXY, identity=name).path).space == spaces[name]


def test_a_device_that_changes_the_size(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    make_small_lab(lab, train=2, test=0)
    with Dataset.open(lab) as dataset:
        # As a lab of an older version may hold them: today the bench keeps no such output.
        isp = SmallIsp()
        jobs = campaign.plan(isp.info().space, dataset.raws(), design=Design.SOBOL, captures=8, seed=0)
        whole = [isp.process(raw.load(), parameters) for raw, parameters in jobs]
        half = [replace(c, rgb=RgbFrame.from_pixels(c.rgb.pixels[::2, ::2])) for c in whole]
        dataset.add_captures(isp.info(), half, purpose=campaign.PURPOSE)
    with pytest.raises(FrameError, match=r"output is 16×16, the RAW 32×32"):
        fit_proxy(lab, PROXY)
