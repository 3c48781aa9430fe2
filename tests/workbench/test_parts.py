"""What a validation's gain is made of: by block of the device, and over ranges of ISO."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_isp import SPACE, SmallIsp, best_for, best_of, make_lab, render

from drivers.device import Capture, Failure, FrameFailedError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.splits import Split
from workbench.collect.bench import Bench
from workbench.commands.validate import print_results
from workbench.errors import RunError
from workbench.judge import blocks, gathering
from workbench.judge.blocks import ByBlock, gain_by_block, mixed_set
from workbench.judge.iso_ranges import by_iso
from workbench.judge.measuring import Measured, measure
from workbench.judge.methods import NONE, Method, MethodKind, ValidationSettings, baseline_of
from workbench.judge.rerun import rerun
from workbench.judge.results import ValidationResult, read_validation
from workbench.judge.validation import validate, validate_run
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.runs import RunFolder, new_run
from workbench.tasks.viewing import ViewingTask
from workbench.tasks.viewing_metrics import psnr
from workbench.tune.fixed import tune_run
from workbench.tune.tuner import TuneSettings

FIXED = best_for(800, 1.5, 1.5)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab of RAWs alone."""
    lab = tmp_path_factory.mktemp("parts") / "lab"
    make_lab(lab)
    return lab


@pytest.fixture
def lab(small: Path, tmp_path: Path) -> Path:
    make_lab(tmp_path / "lab")
    return tmp_path / "lab"


def methods_of(raws: list[RawRecord]) -> list[Method]:
    """One set for all, a prediction that is right but for the exposure, and the best of each RAW."""
    best = tuple(best_of(raw.load()) for raw in raws)
    return [
        Method(MethodKind.fixed, "best fixed", (FIXED,) * len(raws)),
        Method(MethodKind.predicted, "predicted", tuple(b.replace(exposure=1.25) for b in best), "run", metadata=True),
        Method(MethodKind.oracle, "oracle", best),
    ]


def measured_on(dataset: Dataset, device: SmallIsp) -> tuple[Bench, Measured]:
    raws = dataset.raws(Split.TEST)
    bench = Bench(dataset, device, purpose="validate", patience=len(raws))
    return bench, measure(bench, ViewingTask(), raws, methods_of(raws))


def mean_psnr(raws: list[RawRecord], sets: list[ParameterSet]) -> float:
    references = [raw.reference() for raw in raws]
    return float(
        np.mean([psnr(render(raw.load(), p), r) for raw, p, r in zip(raws, sets, references, strict=True)])  # type: ignore[arg-type]
    )


def test_each_block_is_exchanged_on_the_device(lab: Path) -> None:
    device = SmallIsp()
    with Dataset.open(lab) as dataset:
        bench, measured = measured_on(dataset, device)
        before = device.asked
        parts, notes = gain_by_block(bench, measured)
        assert sum(part.captures for part in parts) == device.asked - before
        assert {c.purpose for c in dataset.captures()} == {"validate"}
        raws = measured.raws
        fixed, predicted = ([*m.sets] for m in measured.methods[:2])
        assert notes == []
        assert [(p.lower, p.upper) for p in parts] == [("fixed", "predicted:run"), ("predicted:run", "oracle")]
        first, second = parts
        assert [b.block for b in first.blocks] == ["white_balance", "gain", "noise"]  # tone is alike
        assert first.blocks[0].parameters == ["red", "blue"]
        at = {"fixed": mean_psnr(raws, fixed), "predicted": mean_psnr(raws, predicted)}
        for block in first.blocks:
            alone = [mixed_set(f, p, block.parameters) for f, p in zip(fixed, predicted, strict=True)]
            without = [mixed_set(p, f, block.parameters) for f, p in zip(fixed, predicted, strict=True)]
            assert block.alone["psnr"].estimate == pytest.approx(mean_psnr(raws, alone) - at["fixed"])
            assert block.without["psnr"].estimate == pytest.approx(mean_psnr(raws, without) - at["predicted"])
            assert block.raws == sum(a != f for a, f in zip(alone, fixed, strict=True))
        # All that is left to the oracle is in one block, which therefore says the whole gap.
        (gap,) = second.blocks
        assert (gap.block, gap.parameters, gap.raws, second.captures) == ("gain", ["exposure"], len(raws), 0)
        whole = second.gain["psnr"].estimate
        assert whole is not None
        assert whole > 1
        assert gap.alone["psnr"].estimate == whole == pytest.approx(-(gap.without["psnr"].estimate or 0))
        assert gap.alone["psnr"].verdict == "better"
        assert gap.without["psnr"].verdict == "worse"
        # Lower is better of ΔE2000; a gain in it is above 0 too.
        assert (gap.alone["delta_e"].estimate or 0) > 0


def test_a_prediction_is_taken_apart_over_the_rule_that_it_is_on_top_of(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        raws = dataset.raws(Split.TEST)
        fixed, predicted, _ = methods_of(raws)
        linear = replace(fixed, kind=MethodKind.auto, run="linear")
        bench = Bench(dataset, SmallIsp(), purpose="validate", patience=len(raws))
        for on_top_of, lower in (("linear", "auto"), ("gone", "fixed"), (None, "fixed")):
            methods = [fixed, linear, replace(predicted, on_top_of=on_top_of)]
            (part,), _ = gain_by_block(bench, measure(bench, ViewingTask(), raws, methods))
            assert (part.lower, part.upper) == (lower, predicted.key)


def test_methods_alike_and_methods_alone_have_no_gain_by_block(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        raws = dataset.raws(Split.TEST)[:2]
        bench = Bench(dataset, SmallIsp(), purpose="validate")
        one = Method(MethodKind.fixed, "best fixed", (FIXED,) * 2)
        other = Method(MethodKind.predicted, "predicted", (FIXED,) * 2, "run")
        for methods in ([one], [other], [one, other]):
            assert gain_by_block(bench, measure(bench, ViewingTask(), raws, methods)) == ([], [])


def test_industry_is_the_baseline_where_it_is_there() -> None:
    assert baseline_of([MethodKind.fixed, MethodKind.industry, MethodKind.predicted]) is MethodKind.industry
    assert baseline_of([MethodKind.default, MethodKind.fixed]) is MethodKind.fixed
    assert baseline_of([MethodKind.default, MethodKind.expert]) is None


class Choosy(SmallIsp):
    """Fails with the exposure of the prediction behind the white balance of the best fixed set, on some RAWs."""

    def __init__(self, refused: set[str]) -> None:
        super().__init__()
        self.refused = refused

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        mixed = parameters["exposure"] == 1.25 and parameters["red"] == 1.5
        if mixed and raw.hash in self.refused:
            raise FrameFailedError("small: no", Failure(raw.hash, parameters, "failed", "not this one", "boot-1"))
        return super().process(raw, parameters)


def test_raws_on_which_an_exchanged_set_fails_are_left_out_of_the_gain_by_block_alone(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        refused = dataset.raws(Split.TEST)[3]
        bench, measured = measured_on(dataset, Choosy({refused.hash}))
        assert len(measured.raws) == 8
        parts, notes = gain_by_block(bench, measured)
        assert [part.raws for part in parts] == [7, 7]
        assert any(refused.name in note and note.startswith("gain by block: ") for note in notes)
        kept = [i for i, raw in enumerate(measured.raws) if raw.hash != refused.hash]
        expected = measured.of_places(kept).gain("predicted:run", "fixed", ViewingTask.metrics[0])
        assert parts[0].gain["psnr"] == expected


def test_a_block_whose_exchanged_set_fails_on_most_raws_is_left_out(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        bench, measured = measured_on(dataset, Choosy({raw.hash for raw in dataset.raws(Split.TEST)}))
        parts, notes = gain_by_block(bench, measured)
    assert [[b.block for b in part.blocks] for part in parts] == [["noise"], ["gain"]]
    assert [part.raws for part in parts] == [8, 8]
    assert sum("is left out" in note for note in notes) == 2


def test_figures_over_ranges_of_iso_are_those_of_their_raws(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        _, measured = measured_on(dataset, SmallIsp())
        metric = measured.task.metrics[0]
        parts = by_iso(measured)
        assert [p.title for p in parts] == ["ISO below 400", "ISO 400 to 1600", "ISO 1600 and above"]
        assert sum(p.raws for p in parts) == len(measured.raws)
        for part in parts:
            places = [i for i, raw in enumerate(measured.raws) if part.holds(raw.iso)]
            assert part.raws == len(places) > 0
            assert part.over == "fixed"
            for key, own in part.methods.items():
                values = measured.values(key, metric)[places]
                assert own.figures["psnr"].estimate == pytest.approx(values.mean())
                assert set(own.figures) == {m.key for m in ViewingTask.metrics}
                if key == "fixed":
                    assert own.gains == {}
                else:
                    over = measured.values("fixed", metric)[places]
                    assert own.gains["psnr"].estimate == pytest.approx((values - over).mean())
        one = [i for i, raw in enumerate(measured.raws) if parts[0].holds(raw.iso)]
        assert by_iso(measured.of_places(one)) == []


@pytest.mark.parametrize(
    ("iso", "place"), [(None, None), (50, 0), (399.9, 0), (400, 1), (1599, 1), (1600, 2), (204800, 2)]
)
def test_every_iso_is_in_one_range(lab: Path, iso: float | None, place: int | None) -> None:
    with Dataset.open(lab) as dataset:
        parts = by_iso(measured_on(dataset, SmallIsp())[1])
    assert [i for i, part in enumerate(parts) if part.holds(iso)] == ([] if place is None else [place])


# ---- in a validation


@dataclass
class KnowingPredictor:
    """Reads the best parameters off the metadata, but for the exposure."""

    metadata = True
    base = None
    space = SPACE
    device_identity = SmallIsp().info().identity

    def predict(self, raws: list[RawFrame]) -> list[ParameterSet]:
        return [best_of(r).replace(exposure=1.25) for r in raws]


@pytest.fixture
def knowing(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab with a fixed set and a predictor that is a fake."""
    with Dataset.open(lab) as dataset:
        tune_run(lab, dataset, SmallIsp(), TuneSettings("random", captures=24, raws_per_trial=3), name="best")
    run = new_run(lab, "train", "learned")
    run.update(config={"scenes": []})
    run.finish({})
    monkeypatch.setattr(gathering, "open_predictor", lambda run: KnowingPredictor())
    return lab


def validated(lab: Path, **settings: Any) -> tuple[RunFolder, ValidationResult]:
    with Dataset.open(lab) as dataset:
        asked = ValidationSettings(**{"oracle_captures": 5, "test_raws": 6, **settings})
        return validate_run(lab, dataset, SmallIsp(), asked, name="final")


def test_a_validation_records_prints_and_repeats_its_parts(
    knowing: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, results = validated(knowing)
    assert [(p.lower, p.upper) for p in results.by_block] == [
        ("fixed", "predicted:learned"),
        ("predicted:learned", "oracle"),
    ]
    assert run.config["by_block"] is True
    assert len(results.by_iso) > 1
    assert read_validation(run) == results
    assert (run.results["by_block"], run.results["by_iso"]) == ([], [])
    json.dumps(results.to_json(), allow_nan=False)
    monkeypatch.setenv("COLUMNS", "100")
    print_results(results)
    shown = capsys.readouterr().out
    for text in ("further metrics", "aligned PSNR", "by ISO", "gain by block", "white_balance", "captures more"):
        assert text in shown, text
    tables = shown[: shown.index("learned, 95 % intervals")]
    assert max(map(len, tables.splitlines())) <= 100
    assert "…" not in tables
    outcome = rerun(knowing, "final")
    assert outcome.differences == []
    assert outcome.after.config["by_block"] is True
    assert ByBlock.model_validate(results.by_block[0].to_json()) == results.by_block[0]


def test_gain_by_block_is_left_out_where_it_is_not_wanted(knowing: Path) -> None:
    run, results = validated(knowing, by_block=False)
    assert results.by_block == []
    assert run.config["by_block"] is False
    rerun(knowing, "final")
    assert blocks.wanted(ValidationSettings(), ViewingTask())
    seeing = type("Seeing", (ViewingTask,), {"detector_name": "yolo"})()
    assert not blocks.wanted(ValidationSettings(), seeing)
    assert blocks.wanted(ValidationSettings(by_block=True), seeing)


def test_gain_by_block_that_cannot_be_had_is_refused_before_the_first_capture(knowing: Path) -> None:
    device = SmallIsp(gone_after=0)
    for left_out in ({"predictors": (NONE,)}, {"fixed": NONE}):
        with (
            Dataset.open(knowing) as dataset,
            pytest.raises(RunError, match="--by-block: needs a prediction and a best fixed set or industry's table"),
        ):
            validate(knowing, dataset, device, ValidationSettings(by_block=True, **left_out))
    assert device.asked == 0
