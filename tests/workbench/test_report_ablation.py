"""The ablations of a report: what the study says, and that what does not hold is refused."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import browse
from sim_lab import PROXY, make_lab

from drivers.registry import open_device
from predictor.training import Recipe
from workbench.errors import RunError
from workbench.judge.ablation.results import SeedComparison
from workbench.judge.ablation.study import ablate_run
from workbench.judge.ablation.training import train_variants
from workbench.judge.ablation.variants import AblationSettings
from workbench.judge.methods import ValidationSettings
from workbench.judge.statistics import Interval, Verdict
from workbench.judge.validation import validate_run
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, write_json
from workbench.learn.proxy_fitting import fit_proxy
from workbench.report import write_report
from workbench.report.ablation_section import Step, order_in_words, reason_of
from workbench.report.words import interval_text, number
from workbench.tune.fixed import tune_run
from workbench.tune.tuner import TuneSettings

pytestmark = pytest.mark.usefixtures("module_in_memory")
ONLY = ("fixed-multi-5", "none-5", "multi-5", "multi-3")


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with a validation, a Pareto front and a study of three seeds; its networks know nothing."""
    lab = make_lab(tmp_path_factory.mktemp("ablated") / "lab", captures=16, test=7)
    fit_proxy(lab, PROXY, name="proxy")
    settings = AblationSettings(Recipe(steps=1, batch=2, width=4), seeds=(0, 1, 2), only=ONLY)
    trained = train_variants(lab, settings)
    with Dataset.open(lab) as dataset, open_device("sim:sim20") as device:
        several = TuneSettings("nsga2", captures=30, raws_per_trial=2, more_metrics=("ssim",))
        tune_run(lab, dataset, device, several, name="two")
        validate_run(lab, dataset, device, ValidationSettings(oracle_captures=0), name="final")
        ablate_run(lab, dataset, device, settings, trained, name="study")
    return lab


@pytest.fixture
def lab(studied: Path, tmp_path: Path, undrawn: None) -> Path:
    return Path(shutil.copytree(studied, tmp_path / "lab"))


def results_of(lab: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((lab / "runs" / "study" / "results.json").read_text(encoding="utf-8"))
    return results


def change(lab: Path, how: Callable[[dict[str, Any]], object]) -> None:
    results = results_of(lab)
    how(results)
    write_json(lab / "runs" / "study" / "results.json", results)


@pytest.fixture(scope="module")
def written(studied: Path) -> Path:
    return write_report(studied)


def section(lab: Path) -> str:
    return section_of(write_report(lab))


def section_of(page: Path) -> str:
    html = page.read_text(encoding="utf-8")
    return html[html.index("<h2>Ablations") : html.index("<h2>Proxy against device")]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_study_is_in_the_report(studied: Path, written: Path) -> None:
    html, results = section_of(written), results_of(studied)
    assert "Refused" not in html
    assert 'class="said"' not in html
    for row in results["table"]:
        assert row["label"] in html
        psnr = Interval(**row["figures"]["psnr"])
        assert number(psnr.estimate) in html
        assert interval_text(psnr) in html
        assert " ".join(number(v) for v in row["by_seed"]["psnr"]) in html
    (pair,) = results["order"]
    assert number(pair["gain"]["estimate"], "+.2f") in html
    assert "4 of its 5 steps are not in this study" in html
    digest = RunFolder.open(studied / "runs" / "study").record.dataset_digest
    assert digest is not None
    figures = re.findall(r"<figure>\s*<svg.*?</figure>", html, re.DOTALL)
    assert [re.findall(r'aria-label="([^"]*)"', f)[0] for f in figures] == [
        "Result against the number of encoders (figure 5c)",
        f"{' against '.join(p['name'].replace('_', ' ') for p in results['scatter']['parameters'])} (figure 5b)",
    ]
    for figure in figures:
        assert f"Run study · data set {digest[:12]} · seed 0 · device emulated-isp sim20" in figure
    maps = re.findall(r'alt="([^"]*)"', html)
    drawn = ["RAW, grey-world", *(n.replace("_", " ") for n in results["attention"]["parameters"])]
    assert maps == [f"{results['attention']['raw']}: {name}" for name in drawn] * 3


@pytest.mark.usefixtures("undrawn")
def test_the_tables_are_beside_it(studied: Path, tmp_path: Path) -> None:
    results = results_of(studied)
    write_report(studied, ablation="study", out=tmp_path / "r.html")
    table = rows_of(tmp_path / "r-ablation.csv")
    assert [row["key"] for row in table] == list(ONLY)
    assert [float(row["psnr_db"]) for row in table] == [row["figures"]["psnr"]["estimate"] for row in results["table"]]
    assert [float(row["ssim_seed_2"]) for row in table] == [row["by_seed"]["ssim"][2] for row in results["table"]]
    (step,) = rows_of(tmp_path / "r-ablation-order.csv")
    assert (step["lower"], step["higher"]) == ("fixed-multi-5", "none-5")
    assert float(step["gain_db"]) == results["order"][0]["gain"]["estimate"]
    raws = rows_of(tmp_path / "r-ablation-raws.csv")
    assert len(raws) == 7 * 4 * 3
    one = next(r for r in raws if (r["raw"], r["key"], r["seed"]) == (results["per_raw"][3]["name"], "none-5", "1"))
    assert float(one["psnr_db"]) == results["per_raw"][3]["variants"]["none-5"]["psnr"][1]
    point = results["scatter"]["points"][0]
    drawn = next(r for r in raws if (r["raw"], r["key"], r["seed"]) == (point["raw"], "multi-5", "0"))
    assert [float(drawn[p["name"]]) for p in results["scatter"]["parameters"]] == point["values"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (
            lambda r: r["table"][1]["figures"]["psnr"].update(estimate=99.0),
            "figures are not those of its RAWs (no attention",
        ),
        (lambda r: r["table"][0]["by_seed"]["ssim"].reverse(), "figures are not those of its RAWs (fixed"),
        (
            lambda r: r["table"][1]["over_reference"]["psnr"].update(verdict="better"),
            "figures are not those of its RAWs",
        ),
        (
            lambda r: r["order"][0]["gain"].update(low=0.5),
            "figures are not those of its RAWs (fixed-multi-5 to none-5)",
        ),
        (lambda r: r["per_raw"][6].update(hash="0" * 64), "1 of 7 RAWs are no test RAWs of the data set"),
    ],
)
def test_figures_that_do_not_hold_are_refused(lab: Path, how: Callable[[dict[str, Any]], object], words: str) -> None:
    change(lab, how)
    html = section(lab)
    assert f"Refused: study: {words}" in html
    assert "<svg" not in html
    assert 'class="not-shown"' not in html
    assert {row["refused"] for row in rows_of(lab / "report-ablation.csv")} == {"refused"}


def test_scores_that_no_capture_has_are_refused(lab: Path) -> None:
    def flatter(results: dict[str, Any]) -> None:
        # A proxy's promise in place of the device's answer, consistent in itself: one seed of one variant is higher.
        row = next(r for r in results["table"] if r["key"] == "multi-3")
        for raw in results["per_raw"]:
            raw["variants"]["multi-3"]["psnr"] = [v + 0.5 for v in raw["variants"]["multi-3"]["psnr"]]
        row["figures"]["psnr"]["estimate"] += 0.5
        row["by_seed"]["psnr"] = [v + 0.5 for v in row["by_seed"]["psnr"]]
        over = row["over_reference"]["psnr"]
        for key in ("estimate", "low", "high"):
            over[key] += 0.5
        over["by_seed"] = [v + 0.5 for v in over["by_seed"]]
        shown = all(v > 0 for v in over["by_seed"]) or all(v < 0 for v in over["by_seed"])
        side = "better" if over["low"] > 0 else "worse" if over["high"] < 0 else "not shown"
        # Where few scenes made it, Wilcoxon's test does not agree; the check computes the verdict anew as well.
        over["verdict"] = side if shown else "not shown"

    change(lab, flatter)
    html = section(lab)
    assert re.search(r"Refused: study: \d+\.npz: no capture of emulated-isp [^ ]+ has the PSNR", html)


def test_a_network_that_saw_a_test_scene_is_refused(lab: Path) -> None:
    run = RunFolder.open(lab / "runs" / "ablate-none-5-seed1")
    scene = results_of(lab)["per_raw"][0]["scene"]
    run.update(config={**run.config, "scenes": [scene]})
    assert f"Refused: study: {run.name} was trained with 1 of the test scenes ({scene})" in section(lab)


def test_a_stale_study_is_marked(lab: Path) -> None:
    with sqlite3.connect(lab / "dataset.sqlite") as database:
        # The data set itself refuses.
        for (trigger,) in database.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            database.execute(f"drop trigger {trigger}")
        database.execute("delete from captures where id = (select min(id) from captures)")
    html = write_report(lab).read_text(encoding="utf-8")
    assert html.count("The ablate run study is stale") == 2
    assert html.count("The tune run two is stale") >= 1
    assert "The ablate run study is stale" in html[html.index("<h2>Ablations") :]


def test_lost_networks_leave_the_figures(lab: Path) -> None:
    for run in (lab / "runs").glob("ablate-*"):
        shutil.rmtree(run)
    html = section(lab)
    assert "9 of its train runs are not in this lab any more" in html
    assert "Figure 6 cannot be drawn again, see attention.svg in the folder of study" in html
    assert html.count("<svg") == 2


def test_a_damaged_study_is_one_clear_line(lab: Path) -> None:
    (lab / "runs" / "study" / "results.json").write_text("{", encoding="utf-8")
    html = write_report(lab).read_text(encoding="utf-8")
    assert "The ablation study cannot be read" in html
    assert "<h2>Ablations" not in html
    with pytest.raises(RunError, match="no run there"):
        write_report(lab, ablation="nothing")


def gain(by_seed: list[float], low: float | None, high: float | None, verdict: Verdict) -> SeedComparison:
    return SeedComparison(estimate=0.1, low=low, high=high, clusters=4, samples=4, by_seed=by_seed, verdict=verdict)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (gain([0.1, 0.2], 0.05, 0.3, "not shown"), "2 seeds, 3 are the least"),
        (gain([0.1] * 3, None, None, "not shown"), "4 scenes are too few"),
        (gain([0.1, -0.1, 0.4], 0.05, 0.3, "not shown"), "the 3 seeds do not agree on its sign"),
        (gain([0.1] * 3, -0.05, 0.3, "not shown"), "the 95 % interval holds 0"),
        (gain([0.1] * 3, 0.05, 0.3, "better"), "the 95 % interval and all 3 seeds lie above 0"),
        (gain([-0.1] * 3, -0.3, -0.05, "worse"), "the 95 % interval and all 3 seeds lie below 0"),
    ],
)
def test_a_step_says_why(told: SeedComparison, words: str) -> None:
    assert reason_of(told) == words


def test_the_order_in_words() -> None:
    def steps(*verdicts: Verdict) -> list[Step]:
        return [Step("a", "b", gain([0.1] * 3, 0.1, 0.2, v), "") for v in verdicts]

    assert order_in_words(steps("better", "better", "not shown", "worse", "better")) == (
        "Of the 5 steps of this study: 3 shown, 1 the other way round, 1 not shown."
    )
    assert (
        order_in_words(steps("better", "better", "better", "better", "better")) == "All 5 steps of this study: shown."
    )
    assert order_in_words(steps("worse")) == (
        "The one step of this study: the other way round. 4 of its 5 steps are not in this study."
    )
    assert "no two neighbours" in order_in_words([])


def test_a_browser_shows_the_studies_without_complaint(written: Path, tmp_path: Path) -> None:
    script = """<script>parent.postMessage([innerWidth, document.documentElement.scrollWidth,
        [...document.images].every((i) => i.complete && i.naturalWidth > 0)], "*")</script></body>"""
    page = tmp_path / "framed.html"
    page.write_text(written.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    heard = "const all = []; onmessage = (e) => { all.push(e.data); document.title = JSON.stringify(all); }"
    frames = "".join(f'<iframe src="{page.name}" width="{w}" height="900"></iframe>' for w in (1280, 390))
    outer = tmp_path / "outer.html"
    outer.write_text(f"<title></title><script>{heard}</script>{frames}", encoding="utf-8")
    dom, console = browse(outer, tmp_path, "--virtual-time-budget=20000", "--dump-dom")
    assert not console
    seen = sorted(json.loads(re.findall(r"<title>(.*?)</title>", dom)[0]))
    assert [width for width, *_ in seen] == [390, 1280]
    assert all(needed <= width and pictures for width, needed, pictures in seen)
