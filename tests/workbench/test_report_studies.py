"""What a report says of studies beside the validation: Pareto fronts, result against captures spent."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_isp import SPACE, SmallIsp, make_lab

from workbench.judge.methods import ValidationSettings
from workbench.judge.validation import validate_run
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, find_run
from workbench.report import write_report
from workbench.report.material import open_dataset, read_material
from workbench.report.pareto import Front, fronts_of
from workbench.report.searches import curves_of
from workbench.tune.fixed import tune_run
from workbench.tune.tuner import TuneSettings

pytestmark = pytest.mark.usefixtures("module_in_memory")


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with a best fixed set, tunings for several metrics, and a validation that knows one of them."""
    lab = tmp_path_factory.mktemp("studies") / "lab"
    make_lab(lab)
    two = TuneSettings("nsga2", captures=90, raws_per_trial=3, more_metrics=("ssim",))
    with Dataset.open(lab) as dataset:
        device = SmallIsp()
        tune_run(lab, dataset, device, TuneSettings("cmaes", captures=60, raws_per_trial=3), name="best")
        tune_run(lab, dataset, device, two, name="two")
        costs = TuneSettings("worst-rank", captures=60, raws_per_trial=3, more_metrics=("ssim", "bytes"))
        tune_run(lab, dataset, device, costs, name="three")
        tune_run(lab, dataset, device, TuneSettings("random", captures=40, raws_per_trial=2), name="other-raws")
        tune_run(
            lab, dataset, device, TuneSettings("random", captures=20, metric="ssim", raws_per_trial=2), name="ssim"
        )
        validate_run(lab, dataset, device, ValidationSettings(oracle_captures=0, tunes=("two",)), name="final")
    return lab


@pytest.fixture(scope="module")
def written(studied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(studied, out=tmp_path_factory.mktemp("studies-page") / "r.html")


@pytest.fixture
def lab(studied: Path, tmp_path: Path, undrawn: None) -> Path:
    return Path(shutil.copytree(studied, tmp_path / "lab"))


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def fronts(lab: Path) -> dict[str, Front]:
    found = read_material(lab)
    dataset = open_dataset(found)
    assert dataset is not None
    with dataset:
        return {front.run.name: front for front in fronts_of(found, dataset)[0]}


def change(lab: Path, name: str, how: Callable[[dict[str, Any]], None]) -> None:
    run = RunFolder.open(lab / "runs" / name)
    results = json.loads(json.dumps(run.results))
    how(results)
    run.update(results=results)


def test_a_front_is_drawn_with_all_that_was_tried(studied: Path, written: Path) -> None:
    html = written.read_text(encoding="utf-8")
    run = find_run(studied, "tune", "two")
    assert len(run.results["tried"]) == run.results["trials"]
    front = fronts(studied)["two"]
    assert not front.marks
    assert [r.values for r in front.sets] == [[p["values"][m] for m in ("psnr", "ssim")] for p in run.results["pareto"]]
    assert f"{len(front.sets)} of {run.results['trials']} sets tried are beaten by no other in both metrics" in html
    (drawn,) = re.findall(r'aria-label="Pareto front of PSNR and SSIM:.*?</figure>', html, re.DOTALL)
    for words in ("best fixed", "chosen", "default", "Pareto front", "tried"):
        assert f">{words}</text>" in drawn
    assert "Run two ·" in drawn
    assert f"data set {str(run.record.dataset_digest)[:12]}" in drawn
    # The methods on the test RAWs are the validation's, with the set that this search chose.
    (methods,) = re.findall(r'aria-label="PSNR and SSIM of the methods, test RAWs".*?</figure>', html, re.DOTALL)
    assert ">chosen by two</text>" in methods
    assert "Run final ·" in methods


def test_the_sets_held_against_a_front_are_on_its_raws(studied: Path) -> None:
    front = fronts(studied)["two"]
    best = find_run(studied, "tune", "best")
    others = {row.key: row for row in front.others}
    assert others["fixed"].values[0] == pytest.approx(best.results["score_on_trial_raws"])
    assert others["default"].values[0] == pytest.approx(best.results["default_on_trial_raws"])
    signs = [(a - b for a, b in zip(others["fixed"].values, row.values, strict=True)) for row in front.sets]
    assert others["fixed"].beats == sum(min(s) >= 0 for s in map(list, signs) if max(s) > 0)


def test_the_csv_holds_the_front_and_what_was_tried(studied: Path, written: Path) -> None:
    rows = rows_of(written.with_name("r-pareto.csv"))
    for name in ("two", "three"):
        run = find_run(studied, "tune", name)
        own = [r for r in rows if r["run"] == name]
        front = [r for r in own if r["set"].startswith("front")]
        assert [float(r["psnr"]) for r in front] == [p["values"]["psnr"] for p in run.results["pareto"]]
        assert [r["parameters_hash"] for r in front] == [p["parameters_hash"] for p in run.results["pareto"]]
        parsed = SPACE.parse({n: json.loads(v.lower()) if n == "invert" else v if n == "curve" else float(v)
                              for n in SPACE.names if (v := front[0][n])})  # fmt: skip
        assert parsed.hash == front[0]["parameters_hash"]
        assert len([r for r in own if r["set"] == "tried"]) == run.results["trials"]
        assert all(r["bytes"] == "" for r in own) == (name == "two")


def test_three_metrics_with_a_cost_are_drawn_in_their_own_units(studied: Path, written: Path) -> None:
    front = fronts(studied)["three"]
    assert [(m.label, m.lower) for m in front.metrics] == [
        ("PSNR (dB)", False),
        ("SSIM", False),
        ("output size (bytes)", True),
    ]
    assert not front.marks
    assert all(row.values[2] > 0 for row in (*front.sets, *front.others))
    html = written.read_text(encoding="utf-8")
    assert "output size (bytes), lower is better</text>" in html


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda r: r["pareto"][0]["values"].update(psnr=99.0), "not those of the device's captures"),
        (lambda r: r["tried"].append([99.0, 1.0]), "are beaten by another"),
        (
            lambda r: r["pareto"][0].update(parameters=SPACE.defaults.replace(red=3.5, blue=0.5).values),
            "captures of its front are not in the data set",
        ),
    ],
)
def test_a_front_that_does_not_hold_is_refused(lab: Path, how: Callable[[dict[str, Any]], None], words: str) -> None:
    change(lab, "two", how)
    out = write_report(lab)
    html = out.read_text(encoding="utf-8")
    assert re.search(rf"Refused: two: [^<]*{re.escape(words)}", html.replace("&#39;", "'"))
    assert "Pareto front of PSNR and SSIM:" not in html
    assert {r["refused"] for r in rows_of(out.with_name("report-pareto.csv")) if r["run"] == "two"} == {"refused"}


def test_a_front_of_an_older_version_is_drawn_without_what_was_tried(lab: Path) -> None:
    change(lab, "two", lambda r: r.pop("tried"))
    front = fronts(lab)["two"]
    assert not front.refused
    assert front.text.startswith(f"{len(front.sets)} set")
    change(lab, "two", lambda r: r["pareto"][0].pop("values"))
    html = write_report(lab).read_text(encoding="utf-8")
    assert "The results of the tune run two are left out" in html


def test_without_the_data_set_a_front_is_marked_as_unverified(lab: Path) -> None:
    (lab / "dataset.sqlite").unlink()
    html = write_report(lab).read_text(encoding="utf-8")
    assert "the values of its front were not verified" in html
    assert "Pareto front of PSNR and SSIM:" in html


def test_every_tuning_has_its_curve(studied: Path, written: Path) -> None:
    found = read_material(studied)
    curves = {c.run.name: c for c in curves_of(found)}
    assert set(curves) == {"best", "two", "three", "other-raws"}
    assert curves["best"].key == "fixed"
    assert curves["two"].key == "tune:two"
    assert [name for name, c in curves.items() if not c.same_raws] == ["other-raws"]
    html = written.read_text(encoding="utf-8")
    (drawn,) = re.findall(r'aria-label="Result against captures spent".*?</figure>', html, re.DOTALL)
    assert "Not drawn, of another metric: ssim." in drawn
    for name, curve in curves.items():
        assert f"{curve.label}: {curve.points[-1, 1]:.2f}" in drawn
        assert f"Run {name} ·" in drawn
        rows = [r for r in rows_of(written.with_name("r-searches.csv")) if r["run"] == name]
        history = find_run(studied, "tune", name).results["history"]
        assert [[int(r["captures"]), float(r["best_so_far"])] for r in rows] == history
