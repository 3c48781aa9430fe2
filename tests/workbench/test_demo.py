"""``workbench demo``: every step over ZeroMQ at a small size, for human viewing and for a detector."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from drivers.foreign_text import shown
from workbench import Lab
from workbench.commands import demo_sizes, report, validate
from workbench.commands.demo_sizes import TRIAL, SettingsSizes
from workbench.errors import RunError
from workbench.judge.results import ValidationResult
from workbench.lab.dataset import Dataset
from workbench.report.words import number

SMALL: dict[str, Any] = {
    "captures": 24,
    "raws_per_trial": 2,
    "base_steps": 2,
    "proxy_steps": 1,
    "proxy_width": 4,
    "steps": 2,
    "batch": 2,
}


def run(*arguments: str) -> Result:
    """What the command prints."""
    from test_doc_examples import APP

    done = CliRunner().invoke(APP, ["demo", *arguments], catch_exceptions=False, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, studies_in_memory: None) -> Path:
    """The quick demo, smaller still; the folder to run it in."""
    viewing = replace(
        demo_sizes.QUICK_VIEWING,
        **SMALL,
        lab_scenes=10,
        raws_per_scene=1,
        raws_per_photograph=0,
        test_raws=2,
        oracle_captures=2,
        settings=SettingsSizes(
            24, raws_per_trial=2, follow_captures=80, steps=1, raws_per_scene=1, raws_per_photograph=0
        ),
    )
    monkeypatch.setattr(demo_sizes, "QUICK_VIEWING", viewing)
    detector = replace(demo_sizes.QUICK_DETECTOR, **SMALL, train_images=12, test_images=6)
    monkeypatch.setattr(demo_sizes, "QUICK_DETECTOR", detector)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_demo_runs_and_its_figures_are_marked_as_none(small: Path) -> None:
    done = run("--quick", "--json")
    told = done.stderr
    assert told.count(TRIAL) >= 3
    results = Lab("demo-quick/lab").validation()
    assert results.notes[0] == TRIAL
    assert [m.kind for m in results.methods][:4] == ["default", "expert", "fixed", "industry"]
    assert results.about is not None
    assert results.about.run == "predictor"
    assert results.oracle is not None
    assert results.oracle.captures_per_raw >= 2
    page = Path("demo-quick/report.html").read_text(encoding="utf-8")
    assert TRIAL in page
    # What is shown is what was run: the same words are commands that are taken.
    commands = [shlex.split(line)[2:] for line in told.splitlines() if line.startswith("$ workbench ")]
    assert [words[0] for words in commands if words[0] != "sim"] == [
        *("collect", "tune", "tune", "fit-proxy", "train", "validate"),
        *("tune", "train", "validate", "collect", "tune", "train", "validate", "report"),
    ]
    from test_doc_examples import COMMAND

    for words in commands:
        COMMAND.make_context("workbench", words, resilient_parsing=False)
    _check_settings(told, json.loads(done.stdout), results)
    with pytest.raises(RunError, match="holds a demo with other settings"):
        run("--quick", "--task", "segmentation", "--folder", "demo-quick")


def _check_settings(told: str, said: dict[str, Any], first: ValidationResult) -> None:
    """The second table: printed, in the JSON, and of references that are not mixed."""
    assert said["validation"]["methods"][2]["psnr"] == first.methods[2].figures["psnr"].estimate
    three_a, reference = (said["settings"][name] for name in ("3A on", "reference ISP"))
    table = told[told.index("settings that users have") :]
    for setting, found in (("3A on", three_a), ("reference ISP", reference)):
        assert found["notes"][0] == TRIAL
        for method in found["methods"]:
            if method["kind"] in ("industry", "predicted"):
                assert f"{method['figures']['aligned_psnr']['estimate']:.2f}" in table
        assert f"{setting}: predicted on top of industry" in table
    assert three_a["setting"]["name"] == "3a"
    assert reference["setting"] is None
    gains = three_a["per_raw"][0]["methods"]
    assert len({scores["codes"]["digital_gain"] for scores in gains.values()}) == 1
    # The lab's own runs stay what its next command takes.
    assert first.setting is None
    with Dataset.open(Path("demo-quick/lab")) as dataset, Dataset.open(Path("demo-quick/lab-reference")) as other:
        own, rendered = ({raw.hash: raw.encoded_reference() for raw in data.raws()} for data in (dataset, other))
    assert own.keys() == rendered.keys()
    assert not set(own.values()) & set(rendered.values())


def test_the_demo_of_a_detector_goes_on_where_it_was(
    small: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = run("--quick", "--task", "segmentation").stdout
    results = Lab("demo-quick/lab").validation()
    assert results.task == "segmentation"
    assert results.raws == results.scenes == 6
    assert list(results.by_key) == [
        *("default", "expert", "fixed", "industry"),
        *("mean:predictor", "predicted:predictor", "clean"),
    ]
    map50 = {key: m.figures["map50"].estimate for key, m in results.by_key.items()}
    assert map50["clean"] > map50["default"]  # type: ignore[operator]
    about = results.about
    assert about is not None
    assert about.over["fixed"]["loss"].low is not None  # type: ignore[index]
    gain = about.over["industry"]["map50"]  # type: ignore[index]
    assert f"over industry: mAP50 {gain.estimate:+.3f}" in told
    text = Path("demo-quick/report.html").read_text(encoding="utf-8")
    for piece in ("predicted over industry", number(gain.estimate, "+.3f"), shown(TRIAL), "What the detector sees"):
        assert piece in text
    # Once more, with the two steps that are done anew each time only noted down: each judges every image again.
    anew: list[dict[str, Any]] = []
    monkeypatch.setattr(validate, "validate", lambda **options: anew.append(options))
    monkeypatch.setattr(report, "report", lambda **options: anew.append(options))
    again = run("--quick", "--task", "segmentation").stdout
    assert again.count("already done") == 4
    assert [options["lab"] for options in anew] == [Path("demo-quick/lab")] * 2
    assert anew[0]["expert"].is_file()


def test_what_does_not_go_together_is_bad_usage(small: Path) -> None:
    from test_doc_examples import APP

    for words in (["--quick", "--captures", "400"], ["--task", "detection", "--photographs", "."]):
        assert CliRunner().invoke(APP, ["demo", *words]).exit_code == 2
    assert not list(small.iterdir())
