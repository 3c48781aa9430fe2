import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workbench.errors import RunError
from workbench.lab.run_record import RunRecord
from workbench.lab.runs import RunFolder, find_run, list_runs, new_run, plain, recorded_run, write_json


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
    assert str(again.record.started) <= str(again.record.finished)


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
    write_json(run.path / "run.json", {**run.record.to_json(), key: value})
    with pytest.raises(RunError, match=f"run.json: {key} (=|is) .*put the file back"):
        RunFolder.open(run.path)
    assert list_runs(tmp_path) == []


def test_a_failing_write_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path, "tune")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("drivers.atomic_files.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            run.update(seed=7)
    assert RunFolder.open(run.path).record.seed is None
    assert {p.name for p in run.path.iterdir()} == {"run.json", ".lock"}


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


def test_a_clock_that_was_set_back_does_not_make_an_old_run_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_run(tmp_path, "tune", "first").finish({})
    monkeypatch.setattr("workbench.lab.runs._now", lambda: "2001-01-01T00:00:00.000000+00:00")
    for name in ("second", "third"):
        new_run(tmp_path, "tune", name).finish({})
        assert find_run(tmp_path, "tune").name == name
    assert [run.name for run in list_runs(tmp_path)] == ["third", "second", "first"]


AT_WORK = """
import sys
from pathlib import Path
from workbench.lab.runs import new_run, removed_on_failure
run = new_run(Path(sys.argv[1]), "tune", "mine")
with removed_on_failure(run):
    print("made", flush=True)
    sys.stdin.readline()
    raise SystemExit(3)
"""


def test_a_run_that_another_program_is_at_is_left_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", AT_WORK, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "made\n"
        with pytest.raises(RunError, match="another program is at it right now"):
            new_run(tmp_path, "tune", "mine")
        assert (tmp_path / "runs" / "mine" / "run.json").exists()
        other.stdin.write("\n")
        other.stdin.close()
        assert other.wait(30) == 3
    assert not (tmp_path / "runs" / "mine").exists()  # it failed, and only its maker removed it
    assert new_run(tmp_path, "tune", "mine").record.kind == "tune"


def test_a_program_that_was_killed_keeps_nobody_out(tmp_path: Path) -> None:
    command = [sys.executable, "-c", AT_WORK, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        other.kill()
    new_run(tmp_path, "tune", "mine").finish({})
    assert find_run(tmp_path, "tune", "mine").finished


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
@pytest.mark.parametrize("kind", ["pipe", "folder", "zero", "deep"])
def test_what_stands_in_a_records_place_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    run = new_run(tmp_path, "tune", "odd")
    run.finish({})
    file = run.path / "run.json"
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "zero":
        file.symlink_to("/dev/zero")
    else:
        file.write_text("[" * 200_000)
    with pytest.raises(RunError, match="cannot be read as a run") as caught:
        RunFolder.open(run.path)
    assert "\n" not in str(caught.value)
    assert list_runs(tmp_path) == []


@pytest.mark.parametrize("name", ["..", "../../etc", "/etc", "a/../b", "", ".hidden", 7, None, ["a"]])
def test_a_record_leads_to_no_folder_outside_the_lab(tmp_path: Path, name: object) -> None:
    with pytest.raises(RunError, match="which no run can be called"):
        recorded_run(tmp_path, name)
    assert recorded_run(tmp_path, "fit-proxy-1") == tmp_path / "runs" / "fit-proxy-1"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("train", "`workbench train`"),
        ("fit-proxy", "`workbench fit-proxy`"),
        ("validate", "`workbench validate`"),
    ],
)
def test_the_command_that_is_named_exists(tmp_path: Path, kind: str, told: str) -> None:
    with pytest.raises(RunError) as caught:
        find_run(tmp_path, kind)
    assert told in str(caught.value)
    new_run(tmp_path, kind, "half")
    with pytest.raises(RunError) as caught:
        find_run(tmp_path, kind, "half")
    assert told in str(caught.value)


def test_a_run_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    for i in range(10):
        new_run(tmp_path, "train", f"t{i}").finish({})
    with pytest.raises(RunError, match=r"no run there; the lab's train runs, newest first: .* and 2 more"):
        find_run(tmp_path, "train", "t99")


def test_parts_of_a_study_are_named_where_there_is_nothing_else(tmp_path: Path) -> None:
    run = new_run(tmp_path, "train", "ablate-multi-5-seed0")
    run.update(config={"study": "ablate"})
    run.finish({})
    with pytest.raises(RunError, match="but parts of a study such as ablate-multi-5-seed0"):
        find_run(tmp_path, "train")


def test_a_record_of_before_is_read_and_written_back_as_it_is(tmp_path: Path) -> None:
    """Fields that are not there, of another kind, or of another workbench stop nobody from reading the run."""
    file = tmp_path / "runs" / "old" / "run.json"
    file.parent.mkdir(parents=True)
    old = {
        "format": 1,
        "kind": "tune",
        "seed": "seven",
        "device": {"identity": "sim/1/abc", "space_hash": "abc", "bench": 3},
        "started": "2025-01-01T12:00:00+00:00",
        "finished": "2025-01-01T13:00:00+00:00",
        "results": {"psnr": 20.5},
        "remark": {"by": "hand"},
    }
    file.write_text(json.dumps(old))
    run = find_run(tmp_path, "tune")
    assert (run.record.seed, run.record.command, run.config, run.results) == (None, None, {}, {"psnr": 20.5})
    assert run.record.device is not None
    assert (run.record.device.identity, run.record.device.serial) == ("sim/1/abc", None)
    assert run.record.started == old["started"]
    run.update(rerun_of="older")
    assert json.loads(file.read_text()) == {**old, "seed": None, "rerun_of": "older"}


def test_a_new_record_has_its_fields_in_order(tmp_path: Path) -> None:
    run = new_run(tmp_path, "tune", "mine")
    run.update(seed=3, config={"a": np.int64(1)}, dataset_digest="d" * 64)
    run.finish({"psnr": float("nan")})
    record = json.loads((run.path / "run.json").read_text())
    assert list(record)[:3] == ["format", "kind", "name"]
    assert (record["seed"], record["config"], record["results"]) == (3, {"a": 1}, {"psnr": None})
    assert RunFolder.open(run.path).record == run.record
    assert set(record) == {*RunRecord.model_fields} - {"rerun_of"}


def test_a_time_after_which_there_is_none_is_no_time(tmp_path: Path) -> None:
    """A run that ends later is given a time after it."""
    new_run(tmp_path, "tune", "last").finish({})
    last = RunFolder.open(tmp_path / "runs" / "last")
    write_json(last.path / "run.json", {**last.record.to_json(), "finished": "9999-12-31T23:59:59.999999+00:00"})
    new_run(tmp_path, "tune", "next").finish({})
    with pytest.raises(RunError, match="finished is no time"):
        RunFolder.open(last.path)
