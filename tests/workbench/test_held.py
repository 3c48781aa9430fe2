"""What training holds is said by every command that has to do with it, and by the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_lab import make_lab
from small_isp import SPACE, SmallIsp
from typer.testing import CliRunner

from drivers.agent import Agent, continuous
from drivers.frames import RawFrame
from drivers.parameters import ParameterSpace
from drivers.raw.raw_files import save_npz
from predictor.files import save_predictor
from predictor.metadata import LENGTH
from predictor.model import Predictor, PredictorConfig
from workbench.commands.fit_proxy import fit_proxy, print_results
from workbench.commands.predict import predict
from workbench.commands.train import train
from workbench.judge.strengths import TASKS, parameters_for, strongest, why_none
from workbench.lab.runs import RunFolder, find_run, new_run
from workbench.learn.held import held_by, held_in_words, not_followed, remark, why_held
from workbench.learn.results import ProxyFitResult

APP = typer.Typer()
for command in (fit_proxy, train, predict):
    APP.command(command.__name__.replace("_", "-"))(command)


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(APP, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout if code == 0 else str(done.exception)


def space_of(*parameters: tuple[str, str], kind: str = "continuous", description: str = "") -> ParameterSpace:
    """A space of (block, name) pairs."""
    bounds = {"low": 0, "high": 1, "step": 1 / 256} if kind == "continuous" else {}
    default = 0.5 if kind == "continuous" else False
    return ParameterSpace.from_dict(
        {
            "name": "isp",
            "parameters": [
                {"name": n, "block": b, "kind": kind, "default": default, "description": description, **bounds}
                for b, n in parameters
            ],
        }
    )


# ---- which, and why


@pytest.mark.parametrize(
    ("movement", "reason"),
    [
        ({"cosine": 0.9, "device_change": 3.0}, None),
        ({"cosine": 0.12, "device_change": 3.0}, "direction 0.12, 0.5 is the least"),
        ({"cosine": -0.8, "device_change": 3.0}, "direction -0.80, 0.5 is the least"),
        ({"cosine": None, "device_change": 0.0}, "the device's output does not change"),
        ({"cosine": float("nan"), "device_change": 2.0}, "the proxy's output does not change"),
        ({"cosine": None}, "the proxy's output does not change"),
    ],
)
def test_a_reason_stands_with_every_held_parameter(movement: dict[str, Any], reason: str | None) -> None:
    report = {"parameters": [{"parameter": "nr", "block": "noise", **movement}]}
    held = why_held(ProxyFitResult.from_json({"fidelity": report}, "run.json"))
    assert held == ({} if reason is None else {"nr": reason})


@pytest.mark.parametrize("record", [{}, {"config": {}}, {"config": {"held": None}}, {"results": {"fidelity": None}}])
def test_records_of_earlier_versions_hold_nothing(tmp_path: Path, record: dict[str, Any]) -> None:
    assert held_by(RunFolder(tmp_path, record)) == not_followed(RunFolder(tmp_path, record)) == []


def test_a_sentence_names_blocks_and_counts() -> None:
    told = held_in_words(SPACE, ["blur", "curve"])
    assert told.startswith("2 of 6 parameters held at their start values")
    assert told.endswith("noise (all 1): blur; tone: curve")


def test_what_is_not_searched_is_told_apart() -> None:
    nr, port = continuous("nr", 0, 1, step=1 / 16), continuous("port", 0, 1, step=1 / 16, searched=False)
    space = Agent(model="m", firmware="1", parameters=[nr, port]).space
    not_searched = "held at their start values, since the device says that they are not searched: isp: port"
    assert held_in_words(space, ["port"]) == "1 of 2 parameters " + not_searched
    told = held_in_words(space, ["port", "nr"])
    assert told.startswith("1 of 2 parameters held at their start values, since the proxy does not follow the device")
    assert told.endswith("isp: nr; 1 " + not_searched)
    assert remark(space, "nr") == "held at its start value: the proxy does not follow it"
    assert remark(space, "port") == "held at its start value: it is not searched"


# ---- noise reduction by block, whatever the firmware calls it


@pytest.mark.parametrize(
    "block", ["noise_reduction", "denoising", "bayer_nr", "ynr", "tnr3d", "noisefilter", "raw_denoise", "nr", "nr2"]
)
def test_blocks_for_noise_reduction_are_told_by_name(block: str) -> None:
    space = space_of((block, "a"), ("tone", "gamma"))
    assert [p.name for p in parameters_for(space, "noise reduction")] == ["a"]


def test_without_such_a_block_names_and_then_descriptions_tell() -> None:
    space = space_of(("detail", "chroma_denoise"), ("detail", "radius"))
    assert [p.name for p in parameters_for(space, "noise reduction")] == ["chroma_denoise"]
    space = space_of(("nlm", "h"), description="Strength of the noise filter")
    assert [p.name for p in parameters_for(space, "noise reduction")] == ["h"]


@pytest.mark.parametrize("block", ["tone", "inner", "scanner", "lens", "tuner", "wedge", "gamma"])
def test_other_blocks_are_not_taken_for_it(block: str) -> None:
    space = space_of((block, "a"))
    for task in TASKS:
        assert parameters_for(space, task) == []
        assert strongest(space, np.ones(1), task) is None
        assert f"({block})" in why_none(space, task)


@given(st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True), min_size=1, max_size=6, unique=True))
@settings(max_examples=50)
def test_no_device_is_said_to_have_no_parameter_for_it(names: list[str]) -> None:
    space = space_of(*((name, name) for name in names))
    for task in TASKS:
        assert "device has no" not in why_none(space, task)
        found = strongest(space, np.zeros(len(space)), task)
        assert (found is None) == (not parameters_for(space, task))


def test_what_is_held_is_drawn_only_where_all_of_its_kind_is() -> None:
    space = space_of(("nr", "luma_strength"), ("nr", "chroma_strength"))
    spreads = np.array([0.5, 0.1])
    cases: list[tuple[Sequence[str], str]] = [
        ((), "luma_strength"),
        (["luma_strength"], "chroma_strength"),
        (space.names, "luma_strength"),
    ]
    for held, drawn in cases:
        found = strongest(space, spreads, "noise reduction", held)
        assert found is not None
        assert found.name == drawn


def test_a_device_whose_noise_reduction_is_switches_only() -> None:
    space = space_of(("nr", "on"), ("nr", "median"), kind="bool")
    assert strongest(space, np.ones(2), "noise reduction") is None
    assert "(on, median) are no numbers" in why_none(space, "noise reduction")


# ---- the commands


def test_fit_proxy_and_train_name_what_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lab = make_lab(tmp_path / "lab", captures=16)
    small = ("--base-steps", "2", "--steps", "1", "--width", "4")
    assert "no fidelity report, so `train` will hold no parameter" in run("fit-proxy", *small, "--name", "p")
    assert "p has no fidelity report" in run("train", "--steps", "1", "--name", "first")
    fitted = find_run(lab, "fit-proxy")
    names = ["nr_a", "nr_b", "gamma"]
    rows: list[dict[str, Any]] = [
        {"parameter": n, "block": "nr" if n != "gamma" else "tone", "device_change": 2.0, "cosine": c, "gain": 0.9,
         "psnr": 30.0, "ssim": 0.9}
        for n, c in zip(names, (0.1, -0.2, 0.9), strict=True)
    ]  # fmt: skip
    print_results("p", ProxyFitResult.from_json({"captures": 4, "fidelity": {"parameters": rows}}, "p"))
    told = capsys.readouterr().out
    assert "2 of 3 parameters will be held" in told
    assert "nr: nr_a: direction 0.10" in told
    assert "nr: nr_b: direction -0.20" in told
    assert "gamma: direction" not in told
    print_results("p", ProxyFitResult.from_json({"captures": 4, "fidelity": {"parameters": rows[2:]}}, "p"))
    assert "`train` will hold none" in capsys.readouterr().out

    rows = [{"parameter": n, "cosine": c} for n, c in (("gamma", 0.2), ("contrast", 0.9), ("nr_strength", None))]
    fitted.update(results={**fitted.results, "fidelity": {"parameters": rows}})
    told = run("train", "--steps", "1", "--name", "second")
    assert "parameters held at their start values" in told
    assert "gamma" in told
    data = json.loads(run("train", "--steps", "1", "--name", "third", "--json"))
    assert data["held"] == held_by(find_run(lab, "train", "third")) == ["gamma", "nr_strength"]


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A RAW beside a lab with an untrained predictor."""
    monkeypatch.chdir(tmp_path)
    made = new_run(tmp_path / "lab", "train", "made")
    save_predictor(made.path, Predictor(PredictorConfig(len(SPACE), 4, LENGTH)), SPACE, SmallIsp().info().identity)
    made.finish({})
    mosaic = np.random.default_rng(0).integers(0, 1023, (64, 64), dtype=np.uint16)
    save_npz(tmp_path / "photo.npz", RawFrame(mosaic, "RGGB", (0,) * 4, 1023, iso=400, exposure_s=0.01))
    return tmp_path


@pytest.mark.parametrize("held", [["blur"], ["blur", "curve"], ["red", "blue", "exposure"]])
def test_predict_marks_what_is_held(photo: Path, held: list[str]) -> None:
    find_run(photo / "lab", "train").update(config={"held": held})
    told = run("predict", "photo.npz", "--toml", "p.toml")
    assert f"{len(held)} of 6 parameters held" in told
    text = (photo / "p.toml").read_text()
    marked = [line.split(" = ")[0] for line in text.splitlines() if line.endswith("the proxy does not follow it")]
    assert marked == held
    data = json.loads(run("predict", "photo.npz", "--json"))
    assert data["held"] == held
    assert SPACE.load_toml(photo / "p.toml").hash == data["parameters_hash"]


def test_no_map_is_drawn_of_what_is_held(photo: Path) -> None:
    made = find_run(photo / "lab", "train")
    made.update(config={"held": ["blur"]})
    assert "blur" in run("predict", "photo.npz", "--attention", "--show", "blur", code=1)
    assert not list(photo.glob("*.png"))
    run("predict", "photo.npz", "--attention", "--show", "red")
    made.update(config={"held": SPACE.names})
    assert "every parameter is held" in run("predict", "photo.npz", "--attention", code=1)


def test_a_run_of_an_earlier_version_predicts_as_before(photo: Path) -> None:
    told = run("predict", "photo.npz")
    assert "held" not in told
    assert json.loads(run("predict", "photo.npz", "--json"))["held"] == []
