from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from sim_lab import PROXY, Choosy, make_lab
from typer.testing import CliRunner

from drivers.errors import DeviceError
from drivers.registry import open_device
from drivers.splits import Split
from predictor.files import load_predictor
from predictor.training import Recipe
from proxy.files import load_proxy
from workbench.commands.ablate import ablate
from workbench.errors import RunError, StoppedError
from workbench.judge.ablation.format1 import spoken
from workbench.judge.ablation.results import AblationResult
from workbench.judge.ablation.study import ablate_run, check_device
from workbench.judge.ablation.table import difference
from workbench.judge.ablation.training import train_variants
from workbench.judge.ablation.variants import AblationSettings, all_variants
from workbench.judge.rerun import rerun
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, find_recorded, find_run, list_runs
from workbench.learn import predictor_training
from workbench.learn.proxy_fitting import fit_proxy

pytestmark = pytest.mark.usefixtures("module_in_memory")
RECIPE = Recipe(steps=2, batch=4, width=4)
QUICK = AblationSettings(RECIPE, seeds=(0,), only=("none-5", "multi-3"))
ARGUMENTS = ("--device", "sim:sim20", "--lab", "lab", "--steps", "2", "--batch", "4", "--width", "4")

APP = typer.Typer()
APP.command()(ablate)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(APP, [*ARGUMENTS, *arguments], catch_exceptions=False, env={"COLUMNS": "240"})
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lab of seven test scenes and a proxy."""
    folder = tmp_path_factory.mktemp("ablation")
    fit_proxy(make_lab(folder / "lab", captures=16, test=7), PROXY, name="proxy")
    return folder


@pytest.fixture
def lab(fitted: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(fitted)
    return fitted / "lab"


def test_the_variants_are_those_of_the_paper() -> None:
    keys = [v.key for v in all_variants(True)]
    assert keys[:5] == ["fixed-multi-5", "none-5", "single-5", "self-5", "multi-5"]
    assert keys[5:] == ["multi-3", "multi-4", "multi-6", "multi-5-image"]
    assert [v.key for v in all_variants(False)][-1] == "multi-5"
    assert len({v.trained for v in all_variants(True)}) == 8


def test_a_study_from_training_to_figures(lab: Path) -> None:
    only = ("fixed-multi-5", "self-5", "multi-5", "multi-3")
    options = [word for key in only for word in ("--only", key)]
    results = json.loads(run(*options, "--seeds", "0 1", "--json", "--name", "study"))
    assert [row["key"] for row in results["table"]] == list(only)
    assert (results["raws"], results["scenes"], results["seeds"], results["steps"]) == (7, 7, [0, 1], 2)
    rows = {row["key"]: row for row in results["table"]}
    assert rows["self-5"]["runs"] == ["ablate-self-5-seed0", "ablate-self-5-seed1"]
    assert rows["fixed-multi-5"]["runs"] == rows["multi-5"]["runs"]
    assert rows["multi-5"]["psnr_over_reference"] is None
    assert rows["multi-3"]["about"] == ["figure 5c"]
    assert rows["multi-5"]["about"] == ["table 3", "figure 5c", "inputs"]
    assert rows["multi-3"]["weights"] < rows["multi-5"]["weights"]
    # What the table says is what the RAWs say.
    for key, row in rows.items():
        scores = np.array([raw["variants"][key]["psnr"] for raw in results["per_raw"]])
        assert scores.shape == (7, 2)
        assert row["psnr"] == pytest.approx(scores.mean())
        assert row["psnr_by_seed"] == pytest.approx(scores.mean(axis=0))
        assert row["psnr_interval"]["low"] <= row["psnr"] <= row["psnr_interval"]["high"]
        if key != "multi-5":
            assert row["psnr_over_reference"]["estimate"] == pytest.approx(row["psnr"] - rows["multi-5"]["psnr"])
    assert [(p["lower"], p["higher"]) for p in results["order"]] == [
        ("self-5", "multi-5"),
    ]
    assert [row.encoders for row in AblationResult.read(lab / "runs" / "study" / "results.json").depths] == [3, 5]
    scatter = results["scatter"]
    assert [p["block"] for p in scatter["parameters"]] == ["noise_reduction", "sharpening"]
    assert len(scatter["points"]) == 7
    loaded = load_predictor(lab / "runs" / "ablate-multi-5-seed0")
    from workbench.lab.dataset import Dataset

    with Dataset.open(lab) as dataset:
        raw = next(r for r in dataset.raws(Split.TEST) if r.name == scatter["points"][0]["raw"])
        predicted = loaded.predict([raw.load()])[0]
        captures = [c for c in dataset.captures() if c.purpose == "ablate"]
    assert scatter["points"][0]["values"] == [predicted[p["name"]] for p in scatter["parameters"]]
    assert captures
    assert results["attention"]["variants"] == ["self-5", "multi-5", "multi-3"]
    folder = lab / "runs" / "study"
    for name in ("scatter.svg", "encoders.svg", "attention.svg"):
        assert (folder / name).read_text(encoding="utf-8").rstrip().endswith("</svg>")
    assert results["figures"] == ["scatter.svg", "encoders.svg", "attention.svg"]
    kept = AblationResult.read(folder / "results.json")
    assert spoken(kept) == {k: v for k, v in results.items() if k != "run"}
    record = find_run(lab, "ablate", "study")
    assert record.device.model == results["device"]["model"]
    assert record.config["variants"] == list(only)
    assert any("too few" in note for note in results["notes"])
    # Its trainings are made anew from the record; the captures are those of the data set.
    outcome = rerun(Path("lab"), "study")
    assert outcome.differences == []
    assert outcome.figures > 100
    assert outcome.after.name == "study-rerun"
    assert (lab / "runs" / "study-rerun-multi-3-seed1" / "run.json").is_file()


def test_what_is_trained_is_found_again(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train_variants(lab, replace(QUICK, prefix="again"))
    for trained in first.values():  # as before there was a choice of what the network sees
        recipe = {k: v for k, v in trained.config["recipe"].items() if k not in ("longest", "windows", "statistics")}
        trained.update(config={**trained.config, "recipe": recipe})
    monkeypatch.setattr(predictor_training, "train", None)
    second = train_variants(lab, replace(QUICK, prefix="again"))
    with pytest.raises(RunError, match="no finished train run"):
        find_run(lab, "train")
    assert find_run(lab, "train", "again-none-5-seed0").config["study"] == "ablate"
    assert {k: r.path for k, r in first.items()} == {k: r.path for k, r in second.items()}
    told = run(
        "--seeds", "0", "--only", "none-5", "--only", "multi-3", "--prefix", "again", "--scatter", "gamma", "contrast"
    )
    assert "none-5" in told
    assert "multi-5 was left out" in told
    newest = find_run(lab, "ablate")
    kept = json.loads((newest.path / "results.json").read_text(encoding="utf-8"))
    assert [p["name"] for p in kept["scatter"]["parameters"]] == ["gamma", "contrast"]
    with pytest.raises(RunError, match=r"run again-none-5-seed0: was trained with steps 2 instead of 3; give another"):
        train_variants(lab, replace(QUICK, prefix="again", recipe=replace(RECIPE, steps=3)))


def test_a_study_under_a_setting(lab: Path) -> None:
    only = ("--seeds", "0", "--only", "fixed-multi-5", "--only", "multi-5", "--prefix", "under")
    told = run(*only, "--setting", "3a", "--name", "under")
    assert "setting 3a" in told
    results = json.loads((lab / "runs" / "under" / "results.json").read_text(encoding="utf-8"))
    assert "digital_gain" in results["setting"]["by_rule"]
    assert find_run(lab, "ablate", "under").config["setting"] == results["setting"]
    assert find_recorded(lab, "train", "under-multi-5-seed0").config["setting"] == results["setting"]
    with Dataset.open(lab) as dataset:
        codes = [c.codes for c in dataset.captures() if c.purpose == "ablate"][-14:]
    # The set that is fixed too has the gain of each RAW.
    assert len({c["digital_gain"] for c in codes}) > 1
    with pytest.raises(RunError, match=r"another rule below it \(--on-top-of, --setting\)"):
        train_variants(lab, replace(QUICK, prefix="under", only=("multi-5",)))


def test_a_study_that_was_stopped_goes_on(lab: Path) -> None:
    settings = replace(QUICK, prefix="stopped", recipe=replace(RECIPE, steps=3))
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int, note: str) -> None:
        seen.append((done, total))
        if done == 5:
            raise StoppedError("run again")

    with pytest.raises(StoppedError):
        train_variants(lab, settings, stop)
    assert seen == [(i, 6) for i in range(1, 6)]
    names = [r.name for r in list_runs(lab, "train")]
    assert "stopped-none-5-seed0" in names
    assert "stopped-multi-3-seed0" not in names
    later: list[int] = []
    done = train_variants(lab, settings, lambda done, total, note: later.append(total))
    assert set(later) == {3}
    assert len(later) <= 3
    assert all(r.finished for r in done.values())


def test_a_training_that_saw_a_test_scene_is_refused(lab: Path) -> None:
    made = train_variants(lab, replace(QUICK, prefix="cheat", only=("none-5",)))
    (only,) = made.values()
    RunFolder.open(only.path).update(config={**only.config, "scenes": ["scene8"]})
    with pytest.raises(RunError, match=r"run cheat-none-5-seed0: was made with the test scene 'scene8'"):
        train_variants(lab, replace(QUICK, prefix="cheat", only=("none-5",)))


def test_networks_of_other_raws_do_not_share_a_table(lab: Path) -> None:
    made = train_variants(lab, replace(QUICK, prefix="grown", only=("none-5",)))
    (only,) = made.values()
    RunFolder.open(only.path).update(config={**only.config, "raws": 5, "scenes": only.config["scenes"][:-1]})
    with pytest.raises(RunError, match=r"was trained on 5 RAWs, without scene 'scene5'; the data set now has 6; give"):
        train_variants(lab, replace(QUICK, prefix="grown", only=("none-5",)))


def test_requests_that_cannot_be_met(lab: Path) -> None:
    with pytest.raises(RunError, match=r"unknown variant 'multi-7'; there are fixed-multi-5, none-5"):
        replace(QUICK, only=("multi-7",))
    for seeds in ((), (1, 1)):
        with pytest.raises(RunError, match="at least one seed and none twice"):
            replace(QUICK, seeds=seeds)
    with open_device("sim:sim20") as device, pytest.raises(RunError, match="unknown parameter 'nothing'"):
        check_device(lab, device.info(), replace(QUICK, scatter=("gamma", "nothing")))
    with (
        pytest.raises(DeviceError, match="does not take 7 of 7 RAWs"),
        Dataset.open(lab) as dataset,
        Choosy() as device,
    ):
        ablate_run(lab, dataset, device, QUICK, {})
    with open_device("sim:sim32") as device, pytest.raises(RunError, match=r"run proxy: its parameter space"):
        check_device(lab, device.info(), QUICK)
    result = CliRunner().invoke(APP, [*ARGUMENTS, "--seeds", "one"])
    assert result.exit_code == 2
    with pytest.raises(RunError, match=r"--raw none.npz: no test RAW of that name"):
        run("--seeds", "0", "--only", "none-5", "--prefix", "never", "--raw", "none.npz")
    assert not list(lab.glob("runs/never*"))
    start = load_proxy(find_run(lab, "fit-proxy").path).space.defaults.replace(gamma=1.8)
    train_variants(lab, replace(QUICK, prefix="started", only=("none-5",), start=start))
    with pytest.raises(RunError, match=r"run started-none-5-seed0: was trained with other parameters to start from"):
        train_variants(lab, replace(QUICK, prefix="started", only=("none-5",)))


def test_what_the_seeds_do_not_agree_on_is_not_shown() -> None:
    scenes = [f"scene{i}" for i in range(8)]
    base = np.zeros((3, 8))
    better = difference(base + 1.0, base, scenes)
    assert (better.verdict, better.by_seed) == ("better", [1, 1, 1])
    assert difference(base - 1.0, base, scenes).verdict == "worse"
    assert difference(base[:2] + 1.0, base[:2], scenes).verdict == "not shown"
    one_seed_only = base + np.array([[3.0], [0.1], [-0.1]])
    mixed = difference(one_seed_only, base, scenes)
    assert mixed.low is not None
    assert mixed.low > 0
    assert mixed.verdict == "not shown"
