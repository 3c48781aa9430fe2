import json
import math
from pathlib import Path

import numpy as np
import pytest

from workbench.errors import RunError
from workbench.runs import RunFolder, find_run, list_runs, new_run, plain, write_json


def test_a_run_is_found_only_once_it_is_finished(tmp_path: Path) -> None:
    run = new_run(tmp_path, "tune")
    with pytest.raises(RunError, match="no finished tune run"):
        find_run(tmp_path, "tune")
    with pytest.raises(RunError, match="never finished"):
        find_run(tmp_path, "tune", run.name)
    run.finish({"psnr": np.float32(20.5)})
    again = find_run(tmp_path, "tune")
    assert again.path == run.path
    assert again.results == {"psnr": 20.5}
    assert again.record["started"] <= again.record["finished"]


def test_the_newest_finished_run_of_the_kind_wins(tmp_path: Path) -> None:
    first, second, other = (new_run(tmp_path, k) for k in ("tune", "tune", "train"))
    assert first.path != second.path
    for run in (second, first, other):
        run.finish({})
    assert find_run(tmp_path, "tune").name == first.name
    assert [r.name for r in list_runs(tmp_path)] == [other.name, first.name, second.name]
    with pytest.raises(RunError, match="is a train run, not a tune run"):
        find_run(tmp_path, "tune", other.name)
    assert find_run(tmp_path, "train", str(other.path)).name == other.name


def test_a_named_run_is_taken_up_until_it_is_finished(tmp_path: Path) -> None:
    run = new_run(tmp_path, "train", "mine")
    (run.path / "checkpoint").write_text("x")
    again = new_run(tmp_path, "train", "mine")
    assert (again.path / "checkpoint").read_text() == "x"
    with pytest.raises(RunError, match="unfinished train"):
        new_run(tmp_path, "tune", "mine")
    again.finish({})
    with pytest.raises(RunError, match="already there"):
        new_run(tmp_path, "train", "mine")


@pytest.mark.parametrize("name", ["", "../out", "a/b", "a\\b", ".hidden", "x" * 101])
def test_names_stay_inside_the_runs_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="run name"):
        new_run(tmp_path, "train", name)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"kind": "tune", "format": 99}', "\0"])
def test_a_broken_record_is_one_clear_line(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "runs" / "odd"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(content)
    with pytest.raises(RunError) as caught:
        RunFolder.open(folder)
    assert "\n" not in str(caught.value)
    assert "odd" in str(caught.value)
    assert list_runs(tmp_path) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", [1]),
        ("results", "good"),
        ("started", 5),
        ("started", "yesterday"),
        ("finished", "2026-01-01T00:00:00"),
    ],
)
def test_a_damaged_field_is_one_clear_line(tmp_path: Path, key: str, value: object) -> None:
    run = new_run(tmp_path, "tune", "odd")
    run.finish({})
    write_json(run.path / "run.json", {**run.record, key: value})
    with pytest.raises(RunError, match=f"run.json: {key} is .*put the file back"):
        RunFolder.open(run.path)
    assert list_runs(tmp_path) == []


def test_a_failing_write_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path, "tune")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("workbench.runs.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            run.update(seed=7)
    assert RunFolder.open(run.path).record["seed"] is None
    assert [p.name for p in run.path.iterdir()] == ["run.json"]


def test_records_are_strict_json(tmp_path: Path) -> None:
    run = new_run(tmp_path, "tune")
    run.finish({"a": math.inf, "b": np.array([1.0, math.nan]), "c": Path("x"), "d": {"b", "a"}})
    text = (run.path / "run.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=lambda s: pytest.fail(s))["results"] == {
        "a": None,
        "b": [1.0, None],
        "c": "x",
        "d": ["a", "b"],
    }
    assert plain((1, 2.5, None, True)) == [1, 2.5, None, True]


def test_a_clock_that_was_set_back_does_not_make_an_old_run_the_newest(tmp_path: Path, monkeypatch) -> None:
    new_run(tmp_path, "tune", "first").finish({})
    monkeypatch.setattr("workbench.runs._now", lambda: "2001-01-01T00:00:00.000000+00:00")
    for name in ("second", "third"):
        new_run(tmp_path, "tune", name).finish({})
        assert find_run(tmp_path, "tune").name == name
    assert [run.name for run in list_runs(tmp_path)] == ["third", "second", "first"]
