"""Who sets each parameter: `--setting` of tune and validate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from small_isp import SPACE, SmallIsp, make_lab
from typer.testing import CliRunner

from drivers.errors import ParameterError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSpace
from drivers.registry import open_device
from drivers.splits import Split
from workbench.commands.tune import tune as tune_command
from workbench.errors import RunError
from workbench.judge.in_words import title_of, validation_lines
from workbench.judge.methods import NONE, ValidationSettings
from workbench.judge.rerun import rerun
from workbench.judge.results import ValidationResult
from workbench.judge.validation import validate_run
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder
from workbench.report.build import write_report
from workbench.rules.resolving import resolve
from workbench.rules.setting import Exposure, MeanLevel, Setting, load_setting, recorded_setting
from workbench.rules.tuned import load_rule, rule_from, sets_of, under
from workbench.tune.fixed import tune_run
from workbench.tune.results import tune_result
from workbench.tune.search import open_study
from workbench.tune.tuner import TuneSettings

pytestmark = pytest.mark.usefixtures("module_in_memory")
TOML = """
[by_rule]
red = "as-shot"
blue = { rule = "as-shot" }
exposure = { rule = "exposure", gain = 1.5, mean = 0, highlights = 0, iso = 0 }

[held]
invert = false
"""
GIVEN = {"exposure": 1.5, "invert": False}


def frame(level: float = 0.25, **more: Any) -> RawFrame:
    return RawFrame(np.full((8, 8), round(1000 * level), np.uint16), "RGGB", (0,) * 4, 1000, **more)


def setting_of(text: str, folder: Path) -> Setting:
    (folder / "my.toml").write_text(text)
    return load_setting(folder / "my.toml")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    make_lab(tmp_path / "lab", test=3)
    (tmp_path / "my.toml").write_text(TOML)
    return tmp_path / "lab"


def tuned(lab: Path, settings: TuneSettings, **more: Any) -> RunFolder:
    with Dataset.open(lab) as dataset:
        return tune_run(lab, dataset, SmallIsp(), settings, **more)


# ---- the setting


def test_a_set_gets_what_the_setting_sets_for_the_raw(tmp_path: Path) -> None:
    setting = setting_of(
        """
        [by_rule]
        red = "as-shot"
        blue = "grey-world"
        exposure = { rule = "exposure", gain = 4, mean = 0.5, highlights = 0.5, iso = -0.5 }
        [held]
        curve = "c"
        """,
        tmp_path,
    )
    base = SPACE.parse({"red": 3.5, "blur": 1}, partial=True)
    given = setting.of(base, frame(iso=400.0, as_shot_wb=(2.0, 1.0, 1.5)))
    # 4 · 0.25^0.5 · 0.25^0.5 · 4^-0.5
    assert given.values == {"red": 2, "blue": 1, "exposure": 0.5, "blur": 1, "curve": "c", "invert": False}
    assert setting.of(base, frame(1, as_shot_wb=(9.0, 1.0, 1.5)))["red"] == 4, "clipped into the range"
    assert setting.of(base, frame())["red"] == 3.5, "without as-shot white balance the set's own"
    assert setting.left(SPACE.names) == ["blur", "invert"]
    mean = Setting(by_rule={"exposure": MeanLevel(rule="mean", target=0.5)})
    assert mean.of(base, frame(0.25))["exposure"] == 2


def test_a_setting_is_known_by_its_content(tmp_path: Path) -> None:
    one = setting_of(TOML, tmp_path)
    assert Setting.model_validate(json.loads(json.dumps(one.to_json()))) == one
    assert one.model_copy(update={"name": "other"}).hash == one.hash
    assert setting_of(TOML.replace("1.5", "1.6"), tmp_path).hash != one.hash
    assert one.told == (
        "my.toml (red by rule as-shot, blue by rule as-shot, exposure by rule exposure, invert held at False)"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"no parameter is set; write \[by_rule\] or \[held\]"),
        ('[by_rule]\nred = "auto"\n', r"by_rule\.red: rule auto is not one of as-shot, grey-world, mean, exposure"),
        ("[by_rule]\nexposure = { rule = 'mean', target = 0 }\n", "target = 0: must be above 0"),
        ("[by_rule]\nexposure = { rule = 'mean', target = 1e300 }\n", r"target = 1e\+300: must be at most 1"),
        (
            "[by_rule]\nexposure = { rule = 'exposure', gain = 1, mean = -1e6, highlights = 0, iso = 0 }\n",
            "mean = -1000000.0: must be at least -20",
        ),
        (
            "[by_rule]\nexposure = { rule = 'exposure', gain = 2 }\n",
            "gain, mean, highlights and iso are given together",
        ),
        ("[by_rule]\nred = 'as-shot'\n[held]\nred = 2\n", "red is set by rule and held"),
        ("[fixed]\nred = 2\n", "fixed: unknown key"),
        ("[held\n", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_told_in_a_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ParameterError, match=rf"my\.toml: .*{told}") as error:
        setting_of(text, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[held]\nblurr = 2\n", r"setting my\.toml: unknown parameter 'blurr' for small; did you mean 'blur'"),
        ("[by_rule]\nred = 'as-shot'\nexposur = 'exposure'\n", "unknown parameter 'exposur'"),
        ("[held]\nblur = 9\n", "parameter blur: 9 is outside 0..3"),
        ("[by_rule]\nexposure = 'as-shot'\n", "exposure is not of the role red_gain or blue_gain"),
        ("[by_rule]\ncurve = 'exposure'\n", "curve is a choice, which no rule sets"),
        (
            "[held]\nred = 1\nblue = 1\nexposure = 1\nblur = 1\ncurve = 'a'\ninvert = false\n",
            "sets every parameter of small",
        ),
    ],
)
def test_what_a_device_has_not_is_told(lab: Path, text: str, told: str) -> None:
    setting = setting_of(text, lab)
    with Dataset.open(lab) as dataset, pytest.raises(ParameterError, match=told):
        resolve(setting, SPACE, dataset)


def test_a_rule_that_ends_at_the_end_of_a_range_is_told(lab: Path) -> None:
    """Such as a target of 0..255 where 0..1 is meant."""
    text = "[by_rule]\nexposure = { rule = 'mean', target = 118 }\nred = 'as-shot'\n"
    (lab / "my.toml").write_text(text)
    with Dataset.open(lab) as dataset:
        (note,) = resolve(lab / "my.toml", SPACE, dataset).notes
        assert "rule mean puts exposure beyond its range of 0.5 to 4 for 12 of 12 training RAWs" in note
        (lab / "my.toml").write_text(text.replace("118", "0.4"))
        assert resolve(lab / "my.toml", SPACE, dataset).notes == ()


def test_a_gain_beyond_all_numbers_is_the_largest() -> None:
    steep = Exposure(rule="exposure", gain=1, mean=-20, highlights=-20, iso=20)
    setting = Setting(by_rule={"exposure": steep})
    assert setting.of(SPACE.defaults, frame(0, iso=1e300))["exposure"] == 4


def test_the_built_in_setting_finds_what_a_camera_sets(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        for profile, blacks in (("sim20", 1), ("sim32", 3)):
            with open_device(f"sim:{profile}") as device:
                setting, notes = resolve("3a", device.info().space, dataset)
            assert setting is not None
            assert {n: r.rule for n, r in setting.by_rule.items()} == {
                "red_gain": "as-shot",
                "blue_gain": "as-shot",
                "digital_gain": "exposure",
            }
            assert list(setting.held.values()) == [0] * blacks
            assert notes == ()
        setting, notes = resolve("3a", SPACE, dataset)
        assert setting is not None
        assert set(setting.names) == {"red", "blue"}
        assert [n for n in notes if "has no parameter of the role digital_gain" in n]
        bare = ParameterSpace(name="bare", parameters=tuple(p for p in SPACE.parameters if p.role is None))
        with pytest.raises(
            ParameterError, match="no parameter of the roles red_gain, blue_gain, digital_gain and black_level"
        ):
            resolve("3a", bare, dataset)


def test_open_constants_are_fitted_to_the_training_references(lab: Path) -> None:
    setting = setting_of("[by_rule]\nexposure = 'exposure'\nred = 'as-shot'\n", lab)
    with Dataset.open(lab) as dataset:
        found, _ = resolve(setting, SPACE, dataset)
        assert found is not None
        rule = found.by_rule["exposure"]
        assert isinstance(rule, Exposure)
        assert not rule.open
        # The references were made with 1.5 and nearly sRGB's curve.
        gains = [found.of(SPACE.defaults, raw)["exposure"] for raw in dataset.raws()]
        assert np.median(np.array(gains, float)) == pytest.approx(1.5, abs=0.25)
        assert resolve(found, SPACE, dataset).setting == found
    empty = lab.parent / "empty"
    with Dataset.open(empty, create=True) as dataset:
        dataset.add_raw(frame(), scene="a", split=Split.TRAIN, name="a.npz")
        with pytest.raises(RunError, match=r"setting my\.toml: no training RAW has a reference to fit"):
            resolve(setting, SPACE, dataset)


# ---- tune


@pytest.mark.parametrize("rule", ["fixed", "industry", "regression"])
def test_no_capture_of_a_tuning_goes_against_the_setting(lab: Path, rule: str) -> None:
    captures = {"fixed": 60, "industry": 72, "regression": 170}[rule]
    run = tuned(lab, TuneSettings("cmaes", captures, 3), rule=rule, setting=lab.parent / "my.toml")
    setting = tune_result(run).setting
    assert setting == recorded_setting(run) == load_setting(lab.parent / "my.toml")
    with Dataset.open(lab) as dataset:
        raws = {r.hash: r for r in dataset.raws()}
        captured = [(raws[c.raw_hash], SPACE.from_codes(c.codes)) for c in dataset.captures()]
        assert len(captured) > 20
        assert all(setting.of(p, raw).hash == p.hash for raw, p in captured)
        assert len({p["blur"] for _, p in captured}) > 1, "the rest is searched"
        given = sets_of(run, SPACE, list(raws.values()))
        assert all(setting.of(p, raw).hash == p.hash for raw, p in zip(raws.values(), given, strict=True))
    (study, *_) = tune_result(run).studies
    trials = open_study(lab, study, {}).get_trials(deepcopy=False)
    assert not setting.names & set(trials[-1].params)


def test_a_tuning_under_a_setting_is_another_one(lab: Path) -> None:
    settings = TuneSettings("random", 30, 3)
    plain = tuned(lab, settings)
    setting = load_setting(lab.parent / "my.toml")
    under_it = tuned(lab, settings, setting=setting)
    assert under_it.name != plain.name
    assert tuned(lab, settings, setting=setting).name == under_it.name
    assert tuned(lab, settings).name == plain.name
    assert "setting" not in plain.config
    assert recorded_setting(plain) is None
    assert set(tune_result(plain).studies).isdisjoint(tune_result(under_it).studies)


def test_a_descent_does_not_go_with_a_setting(lab: Path) -> None:
    with pytest.raises(RunError, match="method proxy-gradient descends with one set for all RAWs"):
        tuned(lab, TuneSettings("proxy-gradient", 30, 3), setting="3a")


def test_a_setting_that_is_not_there_is_one_line(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.registry.open_device", lambda url, deadline_s: SmallIsp())
    app = typer.Typer()
    app.command()(tune_command)
    line = ["--device", "small:", "--lab", str(lab), "--setting", "4a"]
    done = CliRunner().invoke(app, line)
    assert isinstance(done.exception, ParameterError)
    assert str(done.exception).startswith("4a: cannot read the setting: No such file or directory; give 3a or a TOML")


def test_a_rule_keeps_its_settings_as_plain_data(lab: Path) -> None:
    setting = load_setting(lab.parent / "my.toml")
    run = tuned(lab, TuneSettings("random", 30, 3), setting=setting)
    rule = load_rule(run, SPACE)
    again = rule_from("fixed", json.loads(json.dumps(rule.to_dict())), run.path)
    assert again == rule == under(rule, setting)
    other = Setting(held={"exposure": 3.0})
    assert under(rule, other).parameters_for(frame(as_shot_wb=(2, 1, 2)))["exposure"] == 3
    assert under(rule, other).parameters_for(frame(as_shot_wb=(2, 1, 2)))["red"] == 2
    run.update(config={**run.config, "setting": {"held": 3}})
    with pytest.raises(RunError, match="a setting in it is damaged"):
        load_rule(run, SPACE)


# ---- validate


def validated(lab: Path, **settings: Any) -> tuple[RunFolder, ValidationResult]:
    with Dataset.open(lab) as dataset:
        asked = ValidationSettings(**{"predictors": (NONE,), **settings})
        return validate_run(lab, dataset, SmallIsp(), asked)


def test_every_method_of_a_validation_is_under_the_setting(lab: Path) -> None:
    setting = load_setting(lab.parent / "my.toml")
    fixed = tuned(lab, TuneSettings("random", 30, 3), setting=setting)
    bare = tuned(lab, TuneSettings("random", 36, 3), name="bare")
    expert = lab.parent / "expert.toml"
    expert.write_text(SPACE.to_toml(SPACE.defaults.replace(blur=1)))
    asked = {"fixed": fixed.name, "tunes": (bare.name,), "expert": expert, "oracle_captures": 6}
    run, results = validated(lab, setting=lab.parent / "my.toml", **asked)
    with Dataset.open(lab) as dataset:
        raws = {r.hash: r for r in dataset.raws(Split.TEST)}
    keys = [m.key for m in results.methods if m.kind != "clean"]
    assert keys == ["default", "expert", "fixed", "tune:bare", "oracle"]
    for row in results.per_raw:
        for key in keys:
            codes = SPACE.from_codes(row.methods[key].codes)
            assert setting.of(codes, raws[row.hash]).hash == codes.hash, key
    assert results.setting == recorded_setting(run) == setting
    assert "made under another setting than this validation (the setting my.toml): bare (none)" in results.notes
    assert title_of(results).endswith("outputs of the device, setting my.toml")
    assert any("the same in every method: setting my.toml (red by rule as-shot" in x for x in validation_lines(results))
    assert ValidationResult.from_json(json.loads(json.dumps(results.to_json())), "again") == results
    (lab.parent / "my.toml").unlink()  # the record has the content
    assert rerun(lab, run.name, device=SmallIsp()).differences == []
    again = rerun(lab, fixed.name, device=SmallIsp()).after
    assert recorded_setting(again) == setting
    page = write_report(lab, validation=run.name).read_text(encoding="utf-8")
    assert "The same in every method: setting my.toml" in page


def test_a_validation_without_a_setting_says_what_was_made_under_one(lab: Path) -> None:
    setting = load_setting(lab.parent / "my.toml")
    run = tuned(lab, TuneSettings("random", 30, 3), setting=setting)
    record, results = validated(lab, fixed=run.name)
    assert results.setting is None
    assert "setting" not in record.config
    assert f"made under another setting than this validation (no setting): {run.name} (my.toml)" in results.notes
