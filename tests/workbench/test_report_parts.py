"""What the report shows of a gain's parts, and what of them it refuses."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from small_isp import SPACE, SmallIsp, best_of, make_lab

from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from workbench.judge import gathering
from workbench.judge.methods import ValidationSettings
from workbench.judge.results import read_validation
from workbench.judge.validation import validate_run
from workbench.lab.dataset import Dataset
from workbench.lab.runs import find_run, new_run, write_json
from workbench.report import write_report
from workbench.report.words import number
from workbench.tune.fixed import tune_run
from workbench.tune.tuner import TuneSettings

pytestmark = pytest.mark.usefixtures("module_in_memory")


class KnowingPredictor:
    """Reads the best parameters off the metadata, but for the exposure."""

    metadata = True
    base = None
    space = SPACE
    device_identity = SmallIsp().info().identity

    def predict(self, raws: list[RawFrame]) -> list[ParameterSet]:
        return [best_of(r).replace(exposure=1.25) for r in raws]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with a validation of a fixed set, a prediction and an oracle."""
    lab = tmp_path_factory.mktemp("report-parts") / "lab"
    make_lab(lab)
    run = new_run(lab, "train", "learned")
    run.update(config={"scenes": []})
    run.finish({})
    with pytest.MonkeyPatch.context() as patch, Dataset.open(lab) as dataset:
        patch.setattr(gathering, "open_predictor", lambda run: KnowingPredictor())
        tune_run(lab, dataset, SmallIsp(), TuneSettings("random", captures=24, raws_per_trial=3), name="best")
        validate_run(lab, dataset, SmallIsp(), ValidationSettings(oracle_captures=5), name="final")
    return lab


@pytest.fixture
def lab(made: Path, tmp_path: Path, undrawn: None) -> Path:
    return Path(shutil.copytree(made, tmp_path / "lab"))


def text_of(lab: Path) -> tuple[str, str]:
    """The page, and its text."""
    html = write_report(lab).read_text(encoding="utf-8")
    return html, re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def change(lab: Path, how: Callable[[dict[str, Any]], None]) -> None:
    file = find_run(lab, "validate").path / "results.json"
    results = json.loads(file.read_text(encoding="utf-8"))
    how(results)
    write_json(file, results)


def rows_of(lab: Path, name: str) -> list[dict[str, str]]:
    with (lab / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_page_says_where_the_gain_comes_from(made: Path, tmp_path: Path) -> None:
    lab = Path(shutil.copytree(made, tmp_path / "lab"))
    html, text = text_of(lab)
    results = read_validation(find_run(lab, "validate"))
    assert "Refused" not in text
    for label in ("PSNR", "SSIM"):
        assert f'aria-label="Gain by block in {label}, best fixed → predicted"' in html
    for part in results.by_block:
        for block in part.blocks:
            for metric in results.metrics:
                for gain in (block.alone, block.without):
                    assert number(gain[metric.key].estimate, metric.form(signed=True)) in text
    for span in results.by_iso:
        assert f"{span.title} ({span.raws} RAWs)" in text
    for method in results.methods:
        assert number(method.figures["aligned_psnr"].estimate) in text
    blocks = rows_of(lab, "report-blocks.csv")
    assert len(blocks) == sum(len(p.blocks) for p in results.by_block) * len(results.metrics)
    assert float(blocks[0]["alone"]) == results.by_block[0].blocks[0].alone["psnr"].estimate
    iso = rows_of(lab, "report-iso.csv")
    assert len(iso) == len(results.by_iso) * len(results.methods) * len(results.metrics)
    assert {row["refused"] for row in blocks + iso} == {""}


def test_figures_over_iso_that_are_not_those_of_the_raws_are_refused(lab: Path) -> None:
    def flatter(results: dict[str, Any]) -> None:
        results["by_iso"][0]["methods"]["predicted:learned"]["gains"]["ssim"]["estimate"] += 0.1

    change(lab, flatter)
    _, text = text_of(lab)
    assert "Refused: The figures over ISO are not those of the RAWs." in text
    assert "The figures over ISO are refused, see the marks above." in text
    assert "By block of the device: best fixed → predicted" in text
    assert {row["refused"] for row in rows_of(lab, "report-iso.csv")} == {"refused"}


@pytest.mark.parametrize(
    ("key", "more", "said"),
    [
        ("alone", 0.5, r"the PSNR of \w+, computed anew, is not that of the device's outputs"),
        ("raws", 1, "captures of 1 of 9 RAWs are not in the data set"),
    ],
)
def test_a_gain_by_block_that_is_not_the_devices_is_refused(lab: Path, key: str, more: float, said: str) -> None:
    def flatter(results: dict[str, Any]) -> None:
        part = results["by_block"][0]
        if key == "raws":
            part["raws"] += more
        else:
            strongest = max((b[key]["psnr"] for b in part["blocks"]), key=lambda gain: abs(gain["estimate"]))
            strongest["estimate"] *= 1 + more

    change(lab, flatter)
    html, text = text_of(lab)
    assert re.search(rf"Refused: Gain by block, best fixed to predicted \(image \+ metadata\): {said}\.", text)
    assert "The gain by block is refused, see the marks above." in text
    assert "Gain by block in" not in html
    assert {row["refused"] for row in rows_of(lab, "report-blocks.csv")} == {"refused"}


def test_a_validation_without_parts_has_a_line_instead(lab: Path) -> None:
    def old(results: dict[str, Any]) -> None:
        del results["by_iso"], results["by_block"]
        results["metrics"] = results["metrics"][:2]

    change(lab, old)
    _, text = text_of(lab)
    assert "Nothing over ISO: the RAWs tell one range or none, or the validation is an old one." in text
    assert "No gain by block: it needs a prediction and a baseline whose parameters differ" in text
    assert "aligned PSNR" not in text
    assert not (lab / "report-blocks.csv").exists()
