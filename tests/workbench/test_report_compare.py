from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from browser import browse
from small_isp import SPACE, SmallIsp, make_lab
from typer.testing import CliRunner

from drivers.splits import Split
from workbench.collect.bench import Bench
from workbench.commands.report import report
from workbench.errors import RunError
from workbench.judge.methods import ValidationSettings
from workbench.judge.statistics import compare
from workbench.judge.validation import validate_run
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, find_run, write_json
from workbench.report import write_comparison
from workbench.tune.fixed import tune_run
from workbench.tune.tuner import TuneSettings

pytestmark = pytest.mark.usefixtures("module_in_memory")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with two validations: a poor fixed set, and a good one on fewer RAWs."""
    lab = tmp_path_factory.mktemp("compare") / "lab"
    make_lab(lab, test=10)
    with Dataset.open(lab) as dataset:
        bench = Bench(dataset, SmallIsp(), purpose="collect")
        list(bench.capture_many((r, SPACE.defaults) for r in dataset.raws(Split.TRAIN)))
        tune_run(lab, dataset, SmallIsp(), TuneSettings("random", 20, 3), name="poor")
        tune_run(lab, dataset, SmallIsp(), TuneSettings("cmaes", 150, 3), name="good")
        for name, settings in (
            ("before", ValidationSettings(fixed="poor", oracle_captures=0)),
            ("after", ValidationSettings(fixed="good", tunes=("poor",), oracle_captures=0, test_raws=9, seed=1)),
        ):
            validate_run(lab, dataset, SmallIsp(), settings, name=name)
    return lab


def rows_of(lab: Path, name: str) -> dict[str, dict[str, Any]]:
    results = json.loads((find_run(lab, "validate", name).path / "results.json").read_text(encoding="utf-8"))
    return {row["name"]: row for row in results["per_raw"]}


def test_methods_are_compared_raw_by_raw(two: Path, tmp_path: Path) -> None:
    out = write_comparison(two, "before", "after", out=tmp_path / "c.html")
    before, after = rows_of(two, "before"), rows_of(two, "after")
    common = [name for name in before if name in after]
    assert len(common) == 9
    table = {r["method"]: r for r in csv.DictReader((tmp_path / "c.csv").open(encoding="utf-8", newline=""))}
    assert list(table) == ["default", "best fixed"]
    difference = np.array(
        [
            after[n]["methods"]["fixed"]["figures"]["psnr"] - before[n]["methods"]["fixed"]["figures"]["psnr"]
            for n in common
        ]
    )
    expected = compare(difference, [before[n]["scene"] for n in common])
    fixed = table["best fixed"]
    assert float(fixed["gain_db"]) == pytest.approx(difference.mean())
    assert (float(fixed["low"]), float(fixed["high"])) == pytest.approx((expected.low, expected.high))
    assert fixed["verdict"] == expected.verdict == "better"
    assert fixed["words"] == expected.words()
    assert table["default"]["verdict"] == "not shown"
    assert "no RAW differs" in table["default"]["words"]
    raws = list(csv.DictReader((tmp_path / "c-raws.csv").open(encoding="utf-8", newline="")))
    assert [float(r["gain_db"]) for r in raws if r["method"] == "best fixed"] == pytest.approx(list(difference))
    html = out.read_text(encoding="utf-8")
    for piece in (
        "only the 9 that both have are compared",
        "The data sets are not the same",
        "captures, not the same budget",
        "Only after has: fixed set, random",
        "shown to be better",
    ):
        assert piece in html
    assert "The devices are not the same" not in html
    assert "best fixed, RAW by RAW" in html
    assert "default, RAW by RAW" not in html
    assert html.count("Run before ·") == html.count("Run after ·") == 2


def test_another_device_is_marked(two: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(two, tmp_path / "other"))
    run = RunFolder.open(other / "runs" / "after")
    file = run.path / "results.json"
    results = json.loads(file.read_text(encoding="utf-8"))
    results["device"]["firmware"] = "2"
    write_json(file, results)
    html = write_comparison(two, "after", str(run.path)).read_text(encoding="utf-8")
    assert (two / "report-compare.html").is_file()
    assert "The devices are not the same: differences are of devices and methods together." in html
    assert html.count(">differs<") == 1


def test_a_refused_figure_is_not_compared(two: Path, tmp_path: Path) -> None:
    lab = Path(shutil.copytree(two, tmp_path / "lab"))
    file = lab / "runs" / "after" / "results.json"
    results = json.loads(file.read_text(encoding="utf-8"))
    for row in results["per_raw"]:
        row["methods"]["fixed"]["figures"]["psnr"] += 1
    write_json(file, results)
    html = write_comparison(lab, "before", "after").read_text(encoding="utf-8")
    assert "About the second run" in html
    assert "Refused: best fixed" in html
    table = {r["method"]: r for r in csv.DictReader((lab / "report-compare.csv").open(encoding="utf-8", newline=""))}
    assert table["best fixed"]["verdict"] == "refused"
    assert table["best fixed"]["gain_db"] == ""


def test_runs_without_a_raw_in_common(two: Path, tmp_path: Path) -> None:
    lab = Path(shutil.copytree(two, tmp_path / "lab"))
    file = lab / "runs" / "after" / "results.json"
    results = json.loads(file.read_text(encoding="utf-8"))
    for row in results["per_raw"]:
        row["hash"] = "0" * 64
    write_json(file, results)
    with pytest.raises(RunError, match="before and after: have no test RAW in common"):
        write_comparison(lab, "before", "after")
    with pytest.raises(RunError, match="is no name of a page"):
        write_comparison(lab, "before", "before", out=tmp_path / "x.csv")
    with pytest.raises(RunError, match="no run there"):
        write_comparison(lab, "before", "never")


def test_the_command_and_a_browser(two: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(report)
    out = tmp_path / "c.html"
    told = CliRunner().invoke(app, ["--lab", str(two), "--compare", "before", "after", "--out", str(out)])
    assert told.exit_code == 0, told.output
    assert told.output.strip() == str(out)
    both = ["--lab", str(two), "--compare", "before", "after", "--validation", "before"]
    assert CliRunner().invoke(app, both).exit_code == 2
    dom, console = browse(out, tmp_path, "--dump-dom")
    assert not console
    assert "<h1>after against before</h1>" in dom
