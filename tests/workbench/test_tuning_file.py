"""``workbench export-tuning``: fixed sets, tables over ISO and predictors' choices as tuning files."""

from __future__ import annotations

import configparser
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import yaml  # type: ignore[import-untyped]
from sim_lab import make_lab
from typer.testing import CliRunner

from drivers.agent import Agent, continuous
from drivers.device import DeviceInfo
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.registry import open_device
from drivers.splits import Split
from predictor.files import save_predictor
from predictor.model import Predictor, PredictorConfig
from workbench.board.tuning_file import Tuning, TuningSet, at_iso, identifier, render, tuning_of
from workbench.commands.export_tuning import export_tuning
from workbench.errors import RunError
from workbench.lab.dataset import Dataset
from workbench.lab.runs import new_run
from workbench.learn.predictors import open_predictor
from workbench.rules.industry import TABLE, IndustryTable
from workbench.rules.mean_of_sets import mean_of
from workbench.rules.setting import Setting
from workbench.rules.tuned import BEST, FixedSet, UnderSettings

SETTING = Setting(name="mine", by_rule={"digital_gain": {"rule": "exposure"}}, held={"gamma": 2.0})  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def info() -> DeviceInfo:
    with open_device("sim:sim20") as device:
        return device.info()


def some_set(info: DeviceInfo, seed: int) -> ParameterSet:
    return info.space.from_unit(np.random.default_rng(seed).uniform(0.1, 0.9, len(info.space)))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, info: DeviceInfo) -> Path:
    """A lab with a fixed set, a table under a setting, and an untrained predictor on top of none."""
    lab = make_lab(tmp_path_factory.mktemp("tuning-file") / "lab", captures=7, train=6, validation=1, test=0)
    fixed = new_run(lab, "tune", "fixed")
    (fixed.path / BEST).write_text(info.space.to_toml(some_set(info, 0)), encoding="utf-8")
    fixed.update(config={"rule": "fixed"}, device=info)
    fixed.finish({"parameters_hash": some_set(info, 0).hash})
    table = new_run(lab, "tune", "table")
    sets = tuple(some_set(info, seed) for seed in (1, 2))
    IndustryTable(info.space, (100.0, 1600.0), sets).save(table.path / TABLE)
    table.update(config={"rule": "industry", "setting": SETTING.to_json()}, device=info)
    table.finish({})
    torch.manual_seed(0)
    network = Predictor(PredictorConfig(len(info.space), 4)).eval()
    for tensor in network.parameters():
        torch.nn.init.normal_(tensor, std=0.2)
    learned = new_run(lab, "train", "learned")
    save_predictor(learned.path, network, info.space, info.identity)
    learned.finish({})
    return lab


def test_a_fixed_set_is_one_set_for_all(lab: Path, info: DeviceInfo) -> None:
    tuning = tuning_of(lab, "fixed")
    (only,) = tuning.sets
    assert (only.iso, only.values, only.codes) == (None, some_set(info, 0).values, some_set(info, 0).by_name)
    assert (tuning.left_out, tuning.device) == ({}, info.identity)


def test_a_table_leaves_out_what_the_camera_sets_and_holds_what_is_held(lab: Path, info: DeviceInfo) -> None:
    tuning = tuning_of(lab, "table")
    assert tuning.left_out == {
        "digital_gain": "by rule exposure",
        "red_gain": "as-shot white balance",
        "blue_gain": "as-shot white balance",
    }
    assert [one.iso for one in tuning.sets] == [100.0, 1600.0]
    for one, seed in zip(tuning.sets, (1, 2), strict=True):
        wanted = some_set(info, seed).replace(gamma=2.0)
        assert one.codes == {n: c for n, c in wanted.by_name.items() if n not in tuning.left_out}


def test_what_is_held_against_a_constraint_is_repaired_as_on_the_device(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = [continuous(name, 0, 1, step=1 / 64, default=value) for name, value in (("low", 0.25), ("high", 0.75))]
    space = Agent(model="m", firmware="1", parameters=levels, constraints=["low < high"]).space
    held = Setting(held={"low": 0.875})
    rule = UnderSettings(FixedSet(space.defaults), (held,))
    monkeypatch.setattr("workbench.board.tuning_file.load_rule", lambda run, of: rule)
    monkeypatch.setattr(Dataset, "space", lambda dataset, identity: space)
    (one,) = tuning_of(lab, "fixed").sets
    assert one.codes == rule.parameters_for(None).by_name == {"low": 48, "high": 56}  # type: ignore[arg-type]


def test_of_a_predictor_it_has_the_mean_of_its_choices_over_iso(lab: Path) -> None:
    tuning = tuning_of(lab, "learned")
    assert [one.iso for one in tuning.sets] == sorted(one.iso or 0 for one in tuning.sets)
    assert sum(one.raws or 0 for one in tuning.sets) == 6
    predictor = open_predictor(new_run_of(lab))
    with Dataset.open(lab) as dataset:
        lowest = [raw.load() for raw in dataset.raws(Split.TRAIN) if raw.iso == tuning.sets[0].iso]
    assert tuning.sets[0].raws == len(lowest)
    assert tuning.sets[0].codes == mean_of(predictor.predict(lowest)).by_name


def new_run_of(lab: Path):  # type: ignore[no-untyped-def]
    from workbench.lab.runs import find_run

    return find_run(lab, "train", "learned")


def test_ini_and_json_say_the_values(lab: Path) -> None:
    tuning = tuning_of(lab, "table")
    ini = configparser.ConfigParser()
    ini.read_string(render(tuning, "ini"))
    assert ini.sections() == ["iso_100", "iso_1600"]
    assert dict(ini["iso_1600"]) == {name: str(value) for name, value in tuning.sets[1].values.items()}
    told = json.loads(render(tuning, "json"))
    assert (told["run"], told["left_out"]) == ("table", tuning.left_out)
    assert [one["values"] for one in told["sets"]] == [one.values for one in tuning.sets]
    assert [one["codes"] for one in told["sets"]] == [one.codes for one in tuning.sets]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_the_c_header_compiles_and_holds_the_codes(lab: Path, tmp_path: Path) -> None:
    tuning = tuning_of(lab, "table")
    (tmp_path / "tuning.h").write_text(render(tuning, "c-header"), encoding="utf-8")
    fields = [identifier(name) for name in tuning.sets[0].codes]
    prints = "".join(f'printf("%lld ", (long long)isp_tuning[i].{field});' for field in fields)
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "tuning.h"\nint main(void) {\n'
        f'for (int i = 0; i < ISP_TUNING_SETS; i++) {{ printf("%u ", isp_tuning[i].iso); {prints} puts(""); }}\n'
        "return 0; }\n",
        encoding="utf-8",
    )
    build = ["cc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "main.c", "-o", "main"]
    subprocess.run(build, cwd=tmp_path, check=True, timeout=120)
    done = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True, encoding="ascii", timeout=60)
    rows = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert rows == [[int(one.iso or 0), *one.codes.values()] for one in tuning.sets]


def camera_tuning(**values: float) -> Tuning:
    """A tuning of a device whose parameters are named as libcamera names its own, two sets over ISO."""
    space = ParameterSpace("camera", tuple(continuous(n, 0, 8, default=1, step=1 / 256, block="isp") for n in values))
    one = space.parse(values)
    sets = tuple(TuningSet(iso, dict(one.values), dict(one.by_name)) for iso in (100.0, 1600.0))
    return Tuning("run", "camera */ #", space, {}, sets)


def test_libcameras_files_have_their_form() -> None:
    names = {"rpi_sharpen__strength": 1.5, "rpi_denoise__normal__sdn__strength": 0.25, "rpi_contrast__gamma": 2.0}
    tuning = camera_tuning(**names, rk_gamma_out_correction__gamma=2.25, rk_filter__sharpness=3.0, other=2.0)
    pi = json.loads(render(at_iso(tuning, 400), "libcamera-rpi"))
    assert (pi["version"], pi["target"]) == (2.0, "pisp")
    assert all(len(entry) == 1 for entry in pi["algorithms"])
    algorithms = {name: keys for entry in pi["algorithms"] for name, keys in entry.items()}
    curve = algorithms.pop("rpi.contrast")["gamma_curve"]
    assert algorithms == {"rpi.sharpen": {"strength": 1.5}, "rpi.denoise": {"normal": {"sdn": {"strength": 0.25}}}}
    x, y = np.array(curve[::2]), np.array(curve[1::2])
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 65535, 65535)
    assert np.all(np.diff(x) > 0)
    assert np.abs(y - 65535 * np.sqrt(x / 65535)).max() <= 1
    rockchip = yaml.safe_load(render(at_iso(tuning, 2000), "libcamera-rkisp1"))
    filters = [{"GammaOutCorrection": {"gamma": 2.25}}, {"Filter": {"sharpness": 3.0}}]
    assert rockchip == {"version": 1, "algorithms": filters}


def test_what_libcameras_files_cannot_hold_is_one_line() -> None:
    tuning = camera_tuning(gamma=2.0)
    with pytest.raises(RunError, match=r"^libcamera-rpi: .* this run has 2 over ISO; choose with --iso$"):
        render(tuning, "libcamera-rpi")
    with pytest.raises(RunError, match=r"^libcamera-rkisp1: no parameter is named rk_ALGORITHM__KEY"):
        render(at_iso(tuning, 100), "libcamera-rkisp1")
    with pytest.raises(RunError, match="has one set for all ISO; leave --iso out"):
        at_iso(replace(tuning, sets=(replace(tuning.sets[0], iso=None),)), 100)


def command(*arguments: str) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(export_tuning)
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def test_the_command_takes_a_template_of_ones_own(lab: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.j2"
    own.write_text("{% for p in parameters %}{{ p.block }}/{{ p.name }};{% endfor %}\n", encoding="utf-8")
    out = tmp_path / "deep" / "own.txt"
    code, printed, notes = command("table", "--lab", str(lab), "--template", str(own), "--out", str(out))
    assert (code, printed) == (0, f"{out}\n")
    assert out.read_text(encoding="utf-8").startswith("noise_reduction/defect_threshold;")
    assert "note: digital_gain is left out: by rule exposure; your camera's loops set it" in notes
    assert "training RAWs" in command("learned", "--lab", str(lab))[2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\n{% for %}\n", "line 2: "),
        ("a\nb\n{{ nothing }}\n", "line 3: 'nothing' is undefined"),
        ("{{ sets[9].iso }}", "line 1: "),
        ("{{ ''.__class__.__mro__ }}", "line 1: access to attribute '__class__'"),
        ("{{ 1 / 0 }}", "line 1: division by zero"),
    ],
)
def test_what_is_wrong_with_a_template_is_one_line(lab: Path, tmp_path: Path, text: str, told: str) -> None:
    own = tmp_path / "own.j2"
    own.write_text(text, encoding="utf-8")
    with pytest.raises(RunError) as error:
        render(tuning_of(lab, "fixed"), str(own))
    assert told in str(error.value)
    assert str(error.value).endswith("mend the template")
    assert "\n" not in str(error.value)


def test_other_runs_and_templates_that_are_not_there(lab: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none.j2: cannot be read as a template .*; give c-header, ini, json, .*, or a"):
        render(tuning_of(lab, "fixed"), str(tmp_path / "none.j2"))
    new_run(lab, "collect", "other").finish({})
    with pytest.raises(RunError, match="is a collect run, not a tune run"):
        tuning_of(lab, "other")
    with pytest.raises(RunError, match="no run there"):
        tuning_of(lab, "gone")


def test_a_devices_words_end_no_comment(lab: Path) -> None:
    tuning = replace(tuning_of(lab, "fixed"), device="a */ b\n#error c")
    header = render(tuning, "c-header")
    assert header.splitlines()[0].startswith("/* Tuning of a * / b")
    assert not any(line.startswith("#error") for line in header.splitlines())
