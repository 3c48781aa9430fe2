"""Results as files: their JSON Schema, the older format, and what ``--json`` says for scripts that read that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from workbench.errors import RunError
from workbench.judge.ablation import format1 as ablation_format1
from workbench.judge.ablation.results import AblationResult
from workbench.judge.format1 import spoken
from workbench.judge.in_words import validation_lines
from workbench.judge.rerun import compare_results
from workbench.judge.results import ValidationResult, read_validation
from workbench.judge.schemas import schemas
from workbench.lab.runs import RunFolder, new_run, write_json

HERE = Path(__file__).parent
SCHEMAS = HERE.parents[1] / "docs" / "schemas"


def old(name: str) -> dict[str, Any]:
    """Results that a version before formats had a number of their own wrote, with few of their RAWs."""
    data: dict[str, Any] = json.loads((HERE / "format1" / f"{name}.json").read_text(encoding="utf-8"))
    return data


def test_the_schemas_are_those_of_the_models() -> None:
    """``python -m workbench.judge.schemas docs/schemas`` writes them anew."""
    made = schemas()
    assert {p.name for p in SCHEMAS.iterdir()} == {f"{name}.schema.json" for name in made}
    for name, text in made.items():
        assert (SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8") == text, name
        jsonschema.Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.parametrize(
    ("name", "kind", "schema"),
    [
        ("viewing", ValidationResult, "validate"),
        ("detection", ValidationResult, "validate"),
        ("ablation", AblationResult, "ablate"),
    ],
)
def test_the_older_format_is_read_and_what_is_written_fits_the_schema(
    name: str, kind: type[ValidationResult | AblationResult], schema: str
) -> None:
    result = kind.from_json(old(name), name)
    written = result.to_json()
    assert written["format"] == kind.FORMAT == 2
    assert kind.from_json(written, name) == result
    validator = jsonschema.Draft202012Validator(json.loads(schemas()[schema]))
    validator.validate(written)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**written, "scenes": "many"})
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**written, "surprise": 1})


def still(methods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The methods that there still are: what declined RAWs is left out."""
    return [m for m in methods if not m["key"].startswith("declining:")]


def test_a_validation_with_a_predictor_that_declined_is_read_without_it() -> None:
    now = ValidationResult.from_json(old("viewing"), "viewing").to_json()
    extra = {**now["methods"][-1], "key": "declining:net", "kind": "declining", "label": "predicted, declining"}
    rows = [
        {**r, "methods": {**r["methods"], "declining:net": next(iter(r["methods"].values()))}} for r in now["per_raw"]
    ]
    then = {**now, "methods": [*now["methods"], extra], "per_raw": rows, "declining": [{"predictor": "predicted:net"}]}
    assert ValidationResult.from_json(then, "x").to_json() == now


def test_a_viewing_validation_of_the_older_format_says_the_same() -> None:
    before = old("viewing")
    result = ValidationResult.from_json(before, "viewing")
    assert (result.task, result.detector, result.main.key) == ("viewing", None, "psnr")
    about, head = result.about, before["headline"]
    assert about is not None
    assert about.key == head["predictor"]
    assert about.kind == "predicted"
    assert f"predicted:{about.run}" == about.key
    assert about.over["fixed"]["psnr"].to_json() == head["gain_over_fixed"]  # type: ignore[index]
    assert result.headline is not None
    assert result.headline.gap_closed is not None
    assert result.headline.gap_closed.to_json() == head["gap_closed"]
    said = spoken(result)
    for now, then in zip(said["methods"], still(before["methods"]), strict=True):
        assert now["psnr"] == pytest.approx(then["psnr"], rel=1e-12)
        for key in ("key", "label", "run", "ssim", "psnr_interval", "psnr_gain_over_fixed", "captures", "rule"):
            assert now[key] == then[key], key
    for now, then in zip(said["per_raw"], before["per_raw"], strict=True):
        assert now["hash"] == then["hash"]
        assert "declining" not in {key.partition(":")[0] for key in now["methods"]}
        for key, scores in then["methods"].items():
            if key.startswith("declining:"):
                continue
            assert {k: now["methods"][key][k] for k in scores} == scores
    lines = validation_lines(result)
    assert f"  over the best fixed set: {head['gain_over_fixed']['estimate']:+.2f}" in "\n".join(lines)
    assert sorted(result.notes + result.budgets) == sorted(before["notes"])


def test_a_detectors_validation_of_the_older_format_says_the_same() -> None:
    before = old("detection")
    result = ValidationResult.from_json(before, "detection")
    assert (result.task, result.detector, result.main.key, result.of_raws.key) == (
        *("detection", before["detector"]),
        *("map50", "loss"),
    )
    said = spoken(result)
    assert said["objects"] == before["objects"] == result.facts["objects"]
    for now, then in zip(said["methods"], still(before["methods"]), strict=True):
        for key in ("key", "label", "map50", "map75", "map", "loss"):
            assert now[key] == then[key], key
        for over in ("gain_over_fixed", "gain_over_industry"):
            for metric, gain in (then[over] or {}).items():
                assert {k: now[over][metric][k] for k in gain} == gain
    again = ValidationResult.from_json(json.loads(json.dumps(result.to_json())), "x")
    count, differences = compare_results(result.to_json(), again.to_json())
    assert count > 100
    assert differences == []


def test_a_study_of_the_older_format_says_the_same() -> None:
    before = old("ablation")
    result = AblationResult.from_json(before, "ablation")
    said = ablation_format1.spoken(result)
    for now, then in zip(said["table"], before["table"], strict=True):
        assert {k: now[k] for k in then} == then
    assert [row.encoders for row in result.depths] == [row["encoders"] for row in before["encoders"]]
    assert said["order"] == before["order"]


def test_a_validation_by_a_detector_was_a_kind_of_its_own(tmp_path: Path) -> None:
    run = new_run(tmp_path, "validate-vision", "old")
    run.update(config={"task": "detection:mask-rcnn"})
    write_json(run.path / "results.json", old("detection"))
    run.finish({})
    again = RunFolder.open(run.path)
    assert again.kind == "validate"
    assert read_validation(again).task_key == "detection:mask-rcnn"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"format": 3}, r"x: format 3 of a validation; this workbench reads up to 2"),
        ({"format": "2"}, r"x: cannot be read as a validation \("),
        ({"methods": 5}, r"x: cannot be read as a validation \("),
        ({"scenes": None}, r"x: cannot be read as a validation \(scenes: "),
    ],
)
def test_damaged_results_are_one_line(damage: dict[str, Any], words: str) -> None:
    result = ValidationResult.from_json(old("viewing"), "viewing").to_json()
    with pytest.raises(RunError, match=words) as told:
        ValidationResult.from_json({**result, **damage}, "x")
    assert len(str(told.value).splitlines()) == 1
