"""Frames that came to nothing, captures set aside, and what devices were asked: kept, given back, and told."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_isp import FakeIsp, make_raw, make_set
from postgresql_server import KeptIn, on_both
from typer.testing import CliRunner

from drivers.device import Capture, Failure
from drivers.frames import RgbFrame
from drivers.splits import Split
from workbench.commands.dataset import app
from workbench.lab.dataset import Dataset, DeviceUse
from workbench.lab.dataset.verify import verify


@pytest.fixture
def dataset(tmp_path: Path, kept_in: KeptIn) -> Iterator[Dataset]:
    with Dataset.open(kept_in(tmp_path / "lab"), create=True) as opened:
        for i in range(2):
            opened.add_raw(make_raw(i), scene=f"s{i}", split=Split.TRAIN, name=f"{i}.npz")
        yield opened


def failure(raw: int, number: int, reason: str = "no memory") -> Failure:
    return Failure(make_raw(raw).hash, make_set(number), "failed", reason, "boot")


def command(*words: str) -> str:
    result = CliRunner().invoke(app, [*words])
    assert result.exit_code == 0, result.output
    return result.output


@on_both
def test_a_failure_is_kept_once_with_its_first_reason(dataset: Dataset) -> None:
    info = FakeIsp().info()
    first = dataset.add_failures(info, [failure(0, 1), failure(1, 1)], purpose="collect")
    assert [f.reason for f in first] == ["no memory"] * 2
    again = dataset.add_failures(info, [failure(0, 1, "something else")], purpose="collect")
    assert (again[0].id, again[0].reason) == (first[0].id, "no memory")
    key = make_raw(0).hash, make_set(1).hash
    assert dataset.outcomes(info.identity, [key, (make_raw(0).hash, make_set(2).hash)]) == {key: again[0]}
    assert dataset.outcomes("another/1/device", [key]) == {}
    assert len(dataset.failures(device_identity=info.identity, purpose="collect")) == 2
    assert verify(dataset).problems == []


@on_both
def test_forgotten_failures_can_come_again(dataset: Dataset) -> None:
    info = FakeIsp().info()
    dataset.add_failures(info, [failure(0, 1)], purpose="collect")
    assert json.loads(command("info", "--json", "--lab", str(dataset.lab)))["failures"] == {"failed: no memory": 1}
    for words in (("retry",), ("set-aside", "--undecodable")):
        refused = CliRunner().invoke(app, [*words, "--device", "fake/1", "--lab", str(dataset.lab)])
        assert f"no device fake/1; it has {info.identity}" in str(refused.exception)
    assert "0 failures forgotten" not in command("retry", "--device", info.identity, "--lab", str(dataset.lab))
    dataset.add_failures(info, [failure(0, 1)], purpose="collect")
    assert "1 failures forgotten" in command("retry", "--lab", str(dataset.lab))
    assert dataset.failures() == []
    assert dataset.add_failures(info, [failure(0, 1, "again")], purpose="collect")[0].reason == "again"


@on_both
def test_a_live_failure_has_no_raw(dataset: Dataset) -> None:
    info = FakeIsp().info()
    kept = dataset.add_failures(info, [Failure("", make_set(1), "failed", "shutter")], purpose="collect live")
    assert kept[0].raw_hash == ""
    assert verify(dataset).problems == []


def poisoned(dataset: Dataset) -> list[Capture]:
    """Three captures, the second of which is no picture of its RAW, as labs from before may hold."""
    device = FakeIsp()
    made = [device.process(make_raw(0), make_set(i)) for i in range(3)]
    text = RgbFrame(b"hello", "image/png")
    made[1] = Capture(made[1].raw_hash, made[1].parameters, made[1].parameters_in_force, text, "boot", 9, 0.1, 0.1)
    dataset.add_captures(device.info(), made, purpose="collect")
    return made


@on_both
def test_what_is_no_picture_is_found_set_aside_and_captured_again(dataset: Dataset) -> None:
    made, lab = poisoned(dataset), str(dataset.lab)
    before = dataset.digest()
    assert "capture 2: the output is no" in "\n".join(verify(dataset).problems)
    told = json.loads(command("set-aside", "--undecodable", "--dry-run", "--json", "--lab", lab))
    assert list(told["captures"]) == ["2"]
    assert told["set_aside"] == 0
    assert dataset.digest() == before
    assert "1 captures are set aside" in command("set-aside", "--undecodable", "--lab", lab)
    assert [c.id for c in dataset.captures()] == [1, 3]
    assert verify(dataset).problems == []
    assert dataset.digest() != before
    key = made[1].raw_hash, made[1].parameters.hash
    assert dataset.find(FakeIsp().info().identity, [key]) == {}
    good = FakeIsp().process(make_raw(0), make_set(1))
    assert dataset.add_captures(FakeIsp().info(), [good], purpose="collect")[0].id > 3
    assert "1 captures are set aside" in command("info", "--lab", lab)


@on_both
def test_named_captures_need_a_reason_and_keep_it(dataset: Dataset) -> None:
    poisoned(dataset)
    lab = str(dataset.lab)
    assert CliRunner().invoke(app, ["set-aside", "1", "--lab", lab]).exit_code == 2
    assert CliRunner().invoke(app, ["set-aside", "--lab", lab]).exit_code == 2
    command("set-aside", "1", "--reason", "lens cap on", "--lab", lab)
    assert dataset.set_aside([1], "another reason") == 0
    assert dataset.content().set_aside == {"lens cap on": 1}


def test_set_aside_is_for_ever(dataset: Dataset) -> None:
    poisoned(dataset)
    dataset.set_aside([1], "lens cap on")
    with sqlite3.connect(dataset.lab / "dataset.sqlite") as rows, pytest.raises(sqlite3.IntegrityError):
        rows.execute("UPDATE captures SET set_aside = NULL, set_aside_at = NULL")


@on_both
def test_use_of_devices_is_kept_without_what_follows_the_question_mark(dataset: Dataset) -> None:
    use = DeviceUse("m/1/abc", "zmq://192.0.2.7:5555?keys=home/secret", "7", "collect", "a", "b", 9, 1, 2, {"busy": 3})
    dataset.add_device_use(use)
    (kept,) = dataset.device_uses()
    assert kept == DeviceUse(**{**vars(use), "url": "zmq://192.0.2.7:5555"})
    assert json.loads(command("info", "--json", "--lab", str(dataset.lab)))["mended"] == {"busy": 3}
