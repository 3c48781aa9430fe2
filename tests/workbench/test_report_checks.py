"""Cheats, planted one at a time: what flatters is refused or marked."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_isp import SPACE, SmallIsp, best_of, make_lab, render

from drivers.splits import Split
from predictor.files import save_predictor
from predictor.model import Predictor, PredictorConfig
from workbench.collect.bench import Bench
from workbench.errors import RunError
from workbench.judge.methods import ValidationSettings
from workbench.judge.validation import validate_run
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, new_run, write_json
from workbench.report import build
from workbench.report.build import make_page
from workbench.report.build import render as render_page
from workbench.report.checks import Mark, check_validation, digest_until
from workbench.report.material import read_material
from workbench.report.method_tables import methods_csv
from workbench.tasks.viewing_metrics import score
from workbench.tune.fixed import tune_run
from workbench.tune.tuner import TuneSettings

pytestmark = pytest.mark.usefixtures("module_in_memory")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with nothing to hide, of its predictor apart, which is untrained."""
    lab = tmp_path_factory.mktemp("cheats") / "lab"
    make_lab(lab)
    with Dataset.open(lab) as dataset:
        raws = dataset.raws(Split.TRAIN)
        bench = Bench(dataset, SmallIsp(), purpose="collect")
        list(bench.capture_many((r, SPACE.defaults.replace(blur=b)) for r in raws for b in range(2)))
        tune_run(lab, dataset, SmallIsp(), TuneSettings("random", captures=60, raws_per_trial=3), name="fixed")
        run = new_run(lab, "train", "learned")
        save_predictor(run.path, Predictor(PredictorConfig(len(SPACE), 4, 0)), SPACE, SmallIsp().info().identity)
        run.update(config={"metadata": False, "scenes": [r.scene for r in raws]}, dataset_digest=dataset.digest())
        run.finish({"curve": [[10, 0.2, None]]})
        validate_run(lab, dataset, SmallIsp(), ValidationSettings(oracle_captures=0), name="final")
    return lab


@pytest.fixture
def lab(honest: Path, tmp_path: Path, undrawn: None) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "lab"))


def marks_of(lab: Path) -> list[Mark]:
    with Dataset.open(lab) as dataset:
        return check_validation(read_material(lab), dataset)


def change(lab: Path, how: Callable[[dict[str, Any]], None]) -> None:
    file = lab / "runs" / "final" / "results.json"
    results = json.loads(file.read_text(encoding="utf-8"))
    how(results)
    write_json(file, results)


def test_an_honest_validation_has_no_marks(honest: Path) -> None:
    assert marks_of(honest) == []
    page = make_page(read_material(honest))
    assert page.headline
    assert 'class="marks' not in render_page(page)


def test_a_predictor_trained_with_a_test_scene_is_refused(lab: Path) -> None:
    run = RunFolder.open(lab / "runs" / "learned")
    run.update(config={**run.config, "scenes": ["scene3", "scene15"]})
    with Dataset.open(lab) as dataset, pytest.raises(RunError, match="was made with the test scene 'scene15'"):
        validate_run(lab, dataset, SmallIsp(), ValidationSettings(oracle_captures=0))
    # And where the validation came first, or is another's.
    (mark,) = [m for m in marks_of(lab) if m.methods == ("predicted:learned",)]
    assert mark.refused
    assert "made with 1 of the test scenes (scene15)" in mark.text
    page = make_page(read_material(lab))
    assert page.headline == []
    html = render_page(page)
    assert "The headline is refused" in html
    assert 'class="about bad"' in html


def test_a_baseline_with_a_smaller_budget_is_marked(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        settings = TuneSettings("random", captures=12, raws_per_trial=3)
        tune_run(lab, dataset, SmallIsp(), settings, name="poor")
        validate_run(lab, dataset, SmallIsp(), ValidationSettings(fixed="poor", oracle_captures=0), name="unfair")
        found = read_material(lab, "unfair")
        (mark,) = check_validation(found, dataset)
    assert not mark.refused
    assert mark.methods == ("fixed",)
    assert "had 12 captures, collection 24: a smaller budget" in mark.text
    page = make_page(found)
    assert page.smaller == {"fixed"}
    assert "12*" in render_page(page)


def test_a_budget_that_is_not_that_of_its_run_is_refused(lab: Path) -> None:
    run = RunFolder.open(lab / "runs" / "fixed")
    run.update(results={**run.results, "captures": 12})
    refused, marked = marks_of(lab)
    assert refused.refused
    assert "said to have had" in refused.text
    assert marked.smaller_budget


def as_proxy_would(results: dict[str, Any], lab: Path, *, keep_hashes: bool) -> None:
    """Every figure of the prediction becomes one of a rendering that no device made."""
    with Dataset.open(lab) as dataset:
        raws = {r.hash: r for r in dataset.raws(Split.TEST)}
        for row in results["per_raw"]:
            own, raw = row["methods"]["predicted:learned"], raws[row["hash"]]
            frame = raw.load()
            image = render(frame, best_of(frame).replace(exposure=1.4))
            reference = raw.reference()
            assert reference is not None
            own["figures"] = score(image, reference)
            if not keep_hashes:
                own["output_hash"] = "0" * 64
    (method,) = [m for m in results["methods"] if m["key"] == "predicted:learned"]
    for metric in (m["key"] for m in results["metrics"]):
        values = [r["methods"][method["key"]]["figures"][metric] for r in results["per_raw"]]
        method["figures"][metric]["estimate"] = float(np.mean(values))
    psnr = [[r["methods"][k]["figures"]["psnr"] for k in (method["key"], "fixed")] for r in results["per_raw"]]
    method["over"]["fixed"]["psnr"]["estimate"] = float(np.mean([own - fixed for own, fixed in psnr]))


@pytest.mark.parametrize("keep_hashes", [False, True])
def test_a_proxy_figure_passed_as_a_device_figure_is_refused(lab: Path, keep_hashes: bool) -> None:
    change(lab, lambda results: as_proxy_would(results, lab, keep_hashes=keep_hashes))
    (mark,) = marks_of(lab)
    assert mark.refused
    assert mark.methods == ("predicted:learned",)
    what = "the PSNR of 8 of 8 RAWs, computed anew" if keep_hashes else "8 of 8 outputs are not what the device small/1"
    assert what in mark.text
    found = read_material(lab)
    page = make_page(found)
    assert page.headline == []
    assert page.comparisons.keys() == {"default", "mean:learned"}
    assert "The gains are refused" in page.absent["gains"]
    assert "gains" not in page.drawings
    row = next(line for line in methods_csv(found).splitlines() if line.startswith("predicted:learned,"))
    assert ",refused," in row


def test_a_mean_that_is_not_of_its_raws_is_refused(lab: Path) -> None:
    def flatter(results: dict[str, Any]) -> None:
        results["methods"][-1]["figures"]["psnr"]["estimate"] += 3

    change(lab, flatter)
    (mark,) = marks_of(lab)
    assert mark.refused
    assert "its means are not those of its RAWs" in mark.text


def test_captures_of_another_device_do_not_count(lab: Path) -> None:
    change(lab, lambda results: results["device"].update(identity="small/2/abc"))
    marks = [m for m in marks_of(lab) if "captures of small/2/abc are not in the data set" in m.text]
    assert len(marks) == len(read_material(lab).labels)
    assert all(m.refused for m in marks)
    assert make_page(read_material(lab)).absent["gains"].startswith("No figure of this validation holds")


def test_a_run_is_stale_once_a_capture_that_it_saw_is_another(lab: Path) -> None:
    with sqlite3.connect(lab / "dataset.sqlite") as database:
        # The data set itself refuses; a cheat would not mind.
        for (trigger,) in database.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            database.execute(f"drop trigger {trigger}")
        database.execute("delete from captures where id = (select min(id) from captures)")
    marks = marks_of(lab)
    assert not any(m.refused for m in marks)
    assert [m.text.split(" is stale")[0] for m in marks] == [
        "The validate run final",
        "The train run learned",
        "The tune run fixed",
    ]
    assert marks[1].methods == ("mean:learned", "predicted:learned")
    assert "is stale: captures that it was made with are not in the data set" in render_page(
        make_page(read_material(lab))
    )


def test_captures_collected_later_are_told(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        before = dataset.digest()
        bench = Bench(dataset, SmallIsp(), purpose="collect")
        list(bench.capture_many((r, SPACE.defaults.replace(curve="c")) for r in dataset.raws(Split.TRAIN)))
        assert dataset.digest() != before
    (mark,) = marks_of(lab)
    assert not mark.refused
    assert mark.text == "12 captures were collected after this validation: it does not know them."


def test_the_digest_at_a_moment_is_the_data_sets_own(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        captures = dataset.captures()
        assert digest_until(captures, "2999-01-01T00:00:00.000000+00:00") == dataset.digest()
        assert digest_until(captures, "2000-01-01T00:00:00.000000+00:00") != dataset.digest()


def test_a_raw_that_is_no_test_raw_refuses_everything(lab: Path) -> None:
    with sqlite3.connect(lab / "dataset.sqlite") as database:
        database.execute("update scenes set split = 'train' where name = 'scene15'")
    marks = marks_of(lab)
    assert "1 of 8 RAWs are no test RAWs of the data set (015.npz)." in [m.text for m in marks]
    assert make_page(read_material(lab)).found.refused == set(read_material(lab).labels)


def test_without_the_data_set_nothing_is_verified_and_that_is_said(lab: Path) -> None:
    (lab / "dataset.sqlite").unlink()
    (mark,) = check_validation(read_material(lab), None)
    assert "no figure could be verified" in mark.text
    assert "no figure could be verified" in build.render(make_page(read_material(lab)))


@pytest.mark.parametrize(
    ("name", "results"),
    [
        ("learned", {"curve": [[10, 0.2, None], "text"]}),
        ("fixed", {"history": "text", "captures": 60}),
        ("proxy", {"curve": [[1, 0.5]], "fidelity": {"blocks": 3.5}}),
    ],
)
def test_results_that_are_none_are_left_out_and_that_is_said(lab: Path, name: str, results: dict[str, Any]) -> None:
    if name == "proxy":
        new_run(lab, "fit-proxy", name).finish({})
        RunFolder.open(lab / "runs" / name).update(config={"identity": SmallIsp().info().identity})
    RunFolder.open(lab / "runs" / name).update(results=results)
    html = render_page(make_page(read_material(lab)))
    assert f"run {name} are left out: " in html
    assert "cannot be read as results of a" in html
