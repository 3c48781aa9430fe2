"""``workbench train --on-top-of``: the rule's copy, the untrained predictor, resuming, and how far it is followed."""

from __future__ import annotations

import functools
import gc
import json
import shutil
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sim_lab import PREDICTOR, PROXY, Choosy, make_lab, picture

from drivers.device import Capture, Device, DeviceInfo
from drivers.errors import DeviceError, DeviceUnreachableError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.registry import open_device
from drivers.splits import Split
from predictor.files import load_predictor, save_predictor
from predictor.raw_features import STATISTICS
from predictor.training import TrainingData, TrainingStep, paper_recipe
from predictor.view import View
from proxy.files import load_proxy
from workbench.collect.bench import Bench
from workbench.errors import RunError
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.runs import RunFolder, find_run, new_run
from workbench.learn import predictor_training
from workbench.learn.base_rule import FILE
from workbench.learn.following import PURPOSE, Start, choose_factors, raws_to_choose_on
from workbench.learn.predictor_training import train
from workbench.learn.predictors import RunPredictor, open_predictor
from workbench.learn.proxy_fitting import fit_proxy
from workbench.learn.results import TrainResult
from workbench.rules.industry import TABLE, IndustryTable
from workbench.rules.regression import REGRESSION, constant
from workbench.rules.tuned import BEST
from workbench.tasks.viewing import ViewingTask

pytestmark = pytest.mark.usefixtures("module_in_memory")
DEVICE = "sim:sim20"
BARELY = replace(PREDICTOR, steps=1, learning_rate=1e-12, last_learning_rate=0)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with a proxy and a rule of each kind; what training changes is done in a copy."""
    lab = make_lab(tmp_path_factory.mktemp("template") / "lab", captures=16, validation=4)
    fit_proxy(lab, PROXY, name="proxy")
    with open_device(DEVICE) as device:
        info = device.info()
    space, defaults = info.space, info.space.defaults
    low, high = (space.from_unit(np.full(len(space), u)) for u in (0.0, 1.0))
    for rule in ("fixed", "industry", "regression"):
        run = new_run(lab, "tune", rule[:3])
        results: dict[str, Any] = {"score": 20.0, "captures": 100, "device_s": 1.5, "compute_s": 2.5}
        if rule == "fixed":
            (run.path / BEST).write_text(space.to_toml(high), encoding="utf-8")
            results["parameters_hash"] = high.hash
        elif rule == "industry":
            IndustryTable(space, (100.0, 1600.0), (low, defaults)).save(run.path / TABLE)
        else:
            constant(defaults).save(run.path / REGRESSION)
        run.update(config={"rule": rule, "scenes": ["scene0", "earlier"]}, device=info)
        run.finish(results)
    return lab


@pytest.fixture
def lab(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "lab"))


@pytest.mark.parametrize("rule", ["fixed", "industry", "regression"])
def test_barely_trained_it_is_the_rule_and_stands_alone(lab: Path, rule: str) -> None:
    run = train(lab, BARELY, on_top_of=rule, name="net")
    raws = [picture(seed)[0] for seed in (20, 21, 22)]
    expected = [open_predictor(run).start(raw).codes for raw in raws]
    assert run.config["on_top_of"]["run"] == rule[:3]
    assert {"earlier", "scene5"} <= set(run.config["scenes"])
    shutil.rmtree(lab / "runs" / rule[:3])
    predictor = open_predictor(RunFolder.open(run.path))
    assert [p.codes for p in predictor.predict(raws)] == expected
    if rule == "industry":
        assert len(set(expected)) == len(raws)
    found = TrainResult.of(run)
    assert found.follow is None
    assert found.held_out_loss == pytest.approx(found.rule_held_out_loss, abs=1e-6)
    assert found.notes == ("everything is followed (all factors 1): no device was asked how far",)


def test_a_stopped_training_goes_on_as_if_it_had_not_been(lab: Path) -> None:
    recipe = replace(PREDICTOR, steps=6)
    undisturbed = train(lab, recipe, on_top_of="ind", name="undisturbed")

    class StoppedError(Exception):
        pass

    def stop(step: TrainingStep) -> None:
        if step.step == 5:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(lab, recipe, on_top_of="ind", on_step=stop)
    seen: list[int] = []
    resumed = train(lab, recipe, on_top_of="ind", on_step=lambda step: seen.append(step.step))
    assert seen == [6]  # every step of six is measured, and kept before it is told
    one, two = (load_predictor(run.path).network.state_dict() for run in (undisturbed, resumed))
    assert all(torch.equal(one[k], two[k]) for k in one)
    first, second = (TrainResult.of(run) for run in (undisturbed, resumed))
    assert (first.curve, first.held_out_loss, first.averaged) == (second.curve, second.held_out_loss, second.averaged)
    assert first.rule_held_out_loss == second.rule_held_out_loss


def test_files_that_are_not_the_rule(lab: Path) -> None:
    run = train(lab, BARELY, on_top_of="ind", name="net")
    good = (run.path / FILE).read_text(encoding="utf-8")

    def message(text: str | None) -> str:
        (run.path / FILE).unlink(missing_ok=True)
        if text is not None:
            (run.path / FILE).write_text(text, encoding="utf-8")
        with pytest.raises(RunError) as error:
            open_predictor(run)
        assert "\n" not in str(error.value)
        assert str(run.path / FILE) in str(error.value)
        return str(error.value)

    data = json.loads(good)
    assert "No such file" in message(None)
    assert "cannot be read as the rule of net" in message(good[:200])
    assert "cannot be read as the rule of net" in message(json.dumps({**data, "follow": [1]}))
    assert "format 2" in message(json.dumps({**data, "format": 2}))
    assert "rule 'x' is not one of" in message(json.dumps({**data, "rule": "x"}))
    assert "factors go from 0 to 1, not tone 2" in message(json.dumps({**data, "follow": {"tone": 2}}))
    assert "has a factor for tome, which is no block" in message(json.dumps({**data, "follow": {"tome": 0.5}}))
    told = {"blocks": [{"block": "tone", "factor": 0.5}]}
    run.update(results={**run.results, "follow": told})
    assert "follows tone otherwise than net found" in message(good)
    assert "follows tone otherwise than net found" in message(json.dumps({**data, "follow": {}}))
    (run.path / FILE).write_text(json.dumps({**data, "follow": {**data["follow"], "tone": 0.5}}), encoding="utf-8")
    assert open_predictor(run).follow["tone"] == 0.5
    data["of"]["knots"][0]["iso"] = 101
    assert "is not the rule that net was trained on top of" in message(json.dumps(data))


def test_what_does_not_go_together_is_told_before_anything_is_trained(lab: Path, tmp_path: Path) -> None:
    with open_device("sim:sim32") as other:
        strange = new_run(lab, "tune", "strange")
        strange.update(config={"rule": "regression"}, device=other.info())
        constant(other.info().space.defaults).save(strange.path / REGRESSION)
        strange.finish({"score": 1.0})
        with pytest.raises(RunError, match=r"run strange: was tuned on .*whose parameters are not those"):
            train(lab, BARELY, on_top_of="strange")
        with pytest.raises(RunError, match=r"sim:sim32 is .* whose parameters are not those of the proxy"):
            train(lab, BARELY, on_top_of="ind", device=other)
    with pytest.raises(RunError, match="the paper's recipe starts from one set"):
        train(lab, replace(paper_recipe(), steps=1, width=4), on_top_of="ind")
    start = load_proxy(lab / "runs" / "proxy").space.defaults
    with pytest.raises(RunError, match="leave --start out"):
        train(lab, BARELY, on_top_of="ind", start=start)
    with pytest.raises(RunError, match="no tune run of the rule as-shot for viewing on this device"):
        train(lab, BARELY, on_top_of="as-shot")
    with pytest.raises(RunError, match="the lab's tune runs"):
        train(lab, BARELY, on_top_of="nobody")
    with open_device(DEVICE) as device:
        with pytest.raises(RunError, match="give the rule with --on-top-of"):
            train(lab, BARELY, device=device)
        with pytest.raises(RunError, match=r"10 captures are too few .* --follow-captures \d+ or more"):
            train(lab, BARELY, on_top_of="ind", device=device, follow_captures=10)
    with (
        pytest.raises(DeviceError, match=r"does not take \d of \d RAWs, such as"),
        Choosy() as device,
    ):
        train(lab, BARELY, on_top_of="ind", device=device)
    leaky = find_run(lab, "tune", "ind")
    leaky.update(config={**leaky.config, "scenes": ["scene6"]})
    with pytest.raises(RunError, match="run ind: was tuned on the validation scene 'scene6'"):
        train(lab, BARELY, on_top_of="ind")
    assert not find_run(lab, "fit-proxy").path.parent.joinpath("train").exists()
    assert {p.name for p in (lab / "runs").iterdir()} == {"proxy", "fix", "ind", "reg", "strange"}


def bent(run: RunFolder, moves: Mapping[str, float]) -> RunPredictor:
    """The predictor of a run made to move named parameters by so much, of every RAW."""
    loaded = load_predictor(run.path)
    bias = loaded.network.local.bias
    assert bias is not None
    with torch.no_grad():
        for name, move in moves.items():
            bias[loaded.space.names.index(name)] = 4 * move
    save_predictor(run.path, loaded.network, loaded.space, loaded.device_identity, mirrored=True)
    if run.finished:
        run.update(results={**run.results, "weights_sha256": None})
    return open_predictor(run)


def exposed(raws: list[RawRecord], space: ParameterSpace, off: float) -> list[Start]:
    """What the reference was made with, off by so much in exposure, and a move that would mend that."""
    gain = space.names.index("digital_gain")
    move = np.zeros(len(space))
    move[gain] = -off
    unit = space.defaults.unit.copy()
    unit[gain] += off
    return [Start(raw, space.from_unit(unit), move) for raw in raws]


@pytest.mark.parametrize(
    ("loss", "metric", "unit", "least"), [("l2", "psnr", "dB", 3), ("detail", "psnr and ssim", "spreads", 0.5)]
)
def test_a_block_is_followed_where_that_is_shown_to_gain(
    lab: Path, loss: str, metric: str, unit: str, least: float
) -> None:
    """References are the device's own output with the defaults: what leads there gains, what leads away loses."""
    with Dataset.open(lab) as dataset, open_device(DEVICE) as device:
        space = device.info().space
        for i in range(4):
            frame = picture(40 + i)[0]
            output = device.process(frame, space.defaults).rgb.pixels
            dataset.add_raw(frame, scene=f"new{i}", split=Split.VALIDATION, name=f"new{i}", reference=output)
        raws = [raw for raw in dataset.raws(Split.VALIDATION) if raw.scene.startswith("new")]
        starts = exposed(raws, space, 0.2)
        gamma = space.names.index("gamma")
        for start in starts:
            start.move[gamma] = 0.3
        asked: list[tuple[int, int]] = []
        follow, told = choose_factors(
            Bench(dataset, device, purpose=PURPOSE), ViewingTask(loss), starts, 400, lambda *a: asked.append(a)
        )
    assert (told.metric, told.unit) == (metric, unit)
    good, bad = space["digital_gain"].block, space["gamma"].block
    assert follow == {block: 1.0 if block == good else 0.0 for block in space.blocks}
    rows = {row.block: row for row in told.blocks}
    assert told.gain > least
    assert rows[good].gain == pytest.approx(told.gain)
    assert rows[bad].gain is None
    assert told.rule is not None
    assert told.chosen is not None
    assert told.chosen - told.rule == pytest.approx(told.gain)
    assert told.raws == told.scenes == len(raws)
    # A RAW has 9 sets of two blocks and three factors.
    assert len(raws) * 5 <= told.captures <= len(raws) * 9
    assert [*dict.fromkeys(asked)] == [(done, 400) for done in range(1, told.captures + 1)]
    with Dataset.open(lab) as dataset:
        made = [c for c in dataset.captures() if c.purpose == PURPOSE]
    assert 0 < len(made) <= told.captures


def test_a_budget_that_is_spent_leaves_what_was_not_tried_at_the_rule(lab: Path) -> None:
    with Dataset.open(lab) as dataset, open_device(DEVICE) as device:
        space, raws = device.info().space, dataset.raws(Split.VALIDATION)
        starts = [Start(s.raw, s.rule, np.full(len(space), 0.1)) for s in exposed(raws, space, 0.0)]
        follow, told = choose_factors(Bench(dataset, device, purpose=PURPOSE), ViewingTask(), starts, len(raws))
    assert told.captures == len(raws)
    assert set(follow.values()) == {0.0}
    assert told.everything is None
    assert told.chosen == told.rule


def test_how_far_is_chosen_on_the_device_and_kept_with_the_run(lab: Path) -> None:
    with open_device(DEVICE) as device:
        captures = len(raws_of(lab)) * (2 + 4 * len(device.info().space.blocks))
        run = train(lab, PREDICTOR, on_top_of="ind", device=device, follow_captures=captures, name="net")
        record = RunFolder.open(run.path).record
        assert record.device is not None
        assert record.device.identity == device.info().identity
    told = TrainResult.of(run).follow
    assert told is not None
    assert (told.metric, told.budget, told.raws) == ("psnr", captures, 4)
    assert told.captures <= captures
    predictor = open_predictor(run)
    assert predictor.follow == {row.block: row.factor for row in told.blocks}
    assert run.config["follow_captures"] == captures


def raws_of(lab: Path) -> list[RawRecord]:
    with Dataset.open(lab) as dataset:
        return dataset.raws(Split.VALIDATION)


def test_what_was_learnt_from_is_let_go_before_the_device_chooses(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[TrainingData]] = []
    training_data, choose = ViewingTask.training_data, predictor_training.choose_how_far

    @functools.wraps(training_data)
    def kept(self: ViewingTask, *arguments: Any, **options: Any) -> TrainingData:
        data = training_data(self, *arguments, **options)
        made.append(weakref.ref(data))
        return data

    def chosen(*arguments: Any, **options: Any) -> Any:
        gc.collect()
        assert [data() for data in made] == [None]
        return choose(*arguments, **options)

    monkeypatch.setattr(ViewingTask, "training_data", kept)
    monkeypatch.setattr(predictor_training, "choose_how_far", chosen)
    with open_device(DEVICE) as device:
        train(lab, BARELY, on_top_of="ind", device=device, follow_captures=100, name="chosen")
    assert len(made) == 1


def test_factors_scale_each_block(lab: Path) -> None:
    run = train(lab, BARELY, on_top_of="reg", name="net")
    predictor = bent(run, {"gamma": 0.2, "digital_gain": 0.2})
    raw = picture(20)[0]
    start = predictor.start(raw)
    block = predictor.space["gamma"].block
    for factor in (0.0, 0.5, 1.0):
        (found,) = replace(predictor, follow={block: factor}).predict([raw])
        moves = dict(zip(predictor.space.names, found.unit - start.unit, strict=True))
        assert moves["gamma"] == pytest.approx(0.2 * factor, abs=0.01)
        assert moves["digital_gain"] == pytest.approx(0.2, abs=0.01)
        assert sum(move != 0 for move in moves.values()) == (2 if factor else 1)


def test_raws_to_choose_on(lab: Path) -> None:
    space = load_proxy(lab / "runs" / "proxy").space
    sets = 2 + 4 * len(space.blocks)
    raws = raws_of(lab)
    assert len(raws_to_choose_on(raws, space, (), 3 * sets)) == 3
    assert len(raws_to_choose_on(raws, space, (), 100 * sets)) == len(raws)
    # What is held is not tried: the same captures take more RAWs.
    held = [name for name in space.names if name != "gamma"]
    assert len(raws_to_choose_on(raws, space, held, 4 * 6)) == 4
    with pytest.raises(RunError, match="has RAWs of one scene, too few"):
        raws_to_choose_on(raws[:1], space, (), 100 * sets)


class Leaving(Device):
    """Goes away after so many captures."""

    def __init__(self, device: Device, left: int) -> None:
        self.url, self._device, self.left = device.url, device, left

    def info(self) -> DeviceInfo:
        return self._device.info()

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        self.left -= 1
        if self.left < 0:
            raise DeviceUnreachableError("gone")
        return self._device.process(raw, parameters)

    def close(self) -> None:
        pass


def test_where_the_device_went_away_the_choice_goes_on_without_training_again(lab: Path) -> None:
    steps: list[int] = []

    def trained(device: Device) -> RunFolder:
        return train(
            lab, PREDICTOR, on_top_of="ind", device=device, follow_captures=100, on_step=lambda s: steps.append(s.step)
        )

    with open_device(DEVICE) as device:
        with pytest.raises(DeviceUnreachableError):
            trained(Leaving(device, 20))
        assert len(steps) == PREDICTOR.steps
        run = trained(second := Leaving(device, 100))
    assert len(steps) == PREDICTOR.steps
    told = TrainResult.of(run).follow
    assert told is not None
    assert 100 - second.left <= told.captures - 20


def test_a_task_that_knows_no_rule_is_told_in_one_line(lab: Path) -> None:
    class OldTask(ViewingTask):
        def training_data(self, training: Any, held_out: Any, *, vary: bool, seed: int) -> Any:  # type: ignore[override]
            raise AssertionError

    with pytest.raises(RunError, match="task viewing: its training_data takes no `starts`"):
        train(lab, BARELY, on_top_of="ind", task=OldTask())  # type: ignore[arg-type]


def test_where_a_raw_is_large_a_training_with_windows_sees_a_view_of_each(lab: Path) -> None:
    recipe = replace(BARELY, longest=32, windows=True, statistics=True, metadata=False)
    small = load_predictor(train(lab, recipe, on_top_of="ind", name="small").path)
    assert (small.view, small.network.config.told) == (View(), 0)
    large = RawFrame(np.tile(picture(7)[0].mosaic, (2, 3)), "RGGB", (64,) * 4, 4095, iso=800.0)
    with Dataset.open(lab) as dataset:
        reference = np.tile(picture(7)[1], (2, 3, 1))
        dataset.add_raw(large, scene="large", split=Split.TRAIN, name="large.npz", reference=reference)
    run = train(lab, recipe, on_top_of="ind", name="large")
    predictor = open_predictor(run)
    assert predictor.network.view == View(32, windows=True, statistics=True)
    assert predictor.network.network.config.told == STATISTICS
    assert predictor.network.network.statistics_deviation.std() > 0
    assert predictor.predict([large])[0].codes == predictor.start(large).codes
    assert predictor.network.attention(large).shape[1:] == (1, 1)
