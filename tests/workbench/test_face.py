"""The lab from Python: the README's ten lines at a small size, and the surface that others build on."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sim_lab import PREDICTOR, PROXY, picture

import workbench
from drivers.raw.raw_files import save_npz
from drivers.splits import Split
from workbench import Lab, RunError, ValidationSettings
from workbench.judge.results import ValidationResult

pytestmark = pytest.mark.usefixtures("module_in_memory")
SURFACE = Path(__file__).with_name("surface.json")


def raws(folder: Path) -> Path:
    """Seven RAWs with references, of every split."""
    import cv2

    folder.mkdir()
    rows = ["file,scene,split,reference"]
    for i, split in enumerate(["train"] * 4 + ["validation"] + ["test"] * 2):
        raw, reference = picture(i)
        save_npz(folder / f"{i}.npz", raw)
        cv2.imwrite(str(folder / f"{i}.png"), reference[..., ::-1])
        rows.append(f"{i}.npz,s{i},{split},{i}.png")
    (folder / "scenes.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_notebook_goes_from_raws_to_a_verdict(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    lab = Lab(tmp_path / "lab")
    collected = lab.collect(device="sim:sim20", raws=raws(tmp_path / "raws"), captures=16)
    assert collected.captured == 16
    assert lab.collect(device="sim:sim20", raws=tmp_path / "raws", captures=16).new == 0
    proxy = lab.fit_proxy(recipe=PROXY)
    known = proxy.results.new_sets_known_raws
    assert known is not None
    assert proxy.results.captures == len(lab.captures(split=Split.TRAIN)) - known.captures
    predictor = lab.train(proxy=proxy, recipe=replace(PREDICTOR, steps=2))
    assert predictor.kind == "train"
    assert predictor.results.curve
    fixed = lab.tune(device="sim:sim20", captures=12, raws_per_trial=2)
    assert fixed.results.captures is not None
    assert fixed.results.captures <= 12
    result = lab.validate(device="sim:sim20", settings=ValidationSettings(oracle_captures=4))
    assert isinstance(result, ValidationResult)
    table = result.table()
    for method in result.methods:
        assert method.label in table
    assert {m.run for m in result.methods if m.run} == {predictor.name, fixed.name}
    assert lab.validation() == result
    frame = lab.captures().to_frame()
    assert len(frame) == len(lab.captures())
    assert {"gamma", "scene", "parameters_hash"} <= set(frame.columns)
    assert lab.report().is_file()
    measured = lab.plan("sim:sim20")
    assert measured.frames > 0
    given = lab.plan(frame_s=0.5)
    assert [t.captures for t in given.times] == [int(t.seconds / 0.5) for t in given.times]
    assert given.identity == measured.identity
    for both in ({}, {"device": "sim:sim20", "frame_s": 0.5}, {"frame_s": 0.0}):
        with pytest.raises(RunError, match="needs a device or the seconds of a capture"):
            lab.plan(**both)
    loop = lab.run("sim:sim20", raws=tmp_path / "raws", predictor=predictor, frames=3)
    assert (loop.run, loop.frames) == (predictor.name, 3)
    assert lab.runs("train") == [predictor.name]
    with pytest.raises(RunError, match="is a train run, not a fit-proxy run"):
        lab.train(proxy=predictor.name)


def surface() -> dict[str, object]:
    """What ``from workbench import …`` gives: signatures of functions and methods, fields of results."""
    told: dict[str, object] = {}
    for name in workbench.__all__:
        thing = getattr(workbench, name)
        if inspect.isclass(thing):
            fields = getattr(thing, "model_fields", None) or getattr(thing, "__dataclass_fields__", {})
            members = {
                key: str(inspect.signature(value))
                for key, value in vars(thing).items()
                if inspect.isfunction(value) and not key.startswith("_")
            }
            told[name] = {"fields": sorted(fields), "methods": members}
        else:
            told[name] = str(inspect.signature(thing))
    return told


def test_the_surface_changes_by_decision_alone() -> None:
    """To change it: ``python tests/workbench/test_face.py`` writes the file anew, and the review sees what moved."""
    assert json.loads(SURFACE.read_text(encoding="utf-8")) == surface()


def test_what_is_named_is_there_and_importing_it_waits_for_nothing() -> None:
    assert set(workbench.__all__) <= set(dir(workbench))
    with pytest.raises(AttributeError, match="no attribute 'Laboratory'"):
        workbench.Laboratory  # noqa: B018
    told = "import sys, workbench; print('torch' in sys.modules, 'sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


if __name__ == "__main__":
    SURFACE.write_text(json.dumps(surface(), indent=1) + "\n", encoding="utf-8")
