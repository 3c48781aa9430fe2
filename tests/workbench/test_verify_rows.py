"""`dataset verify` tells of every value changed behind the data set's back, also where it is no value at all."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from fake_isp import FakeIsp, make_raw, make_set

from drivers.splits import Split
from workbench.errors import DatasetError
from workbench.lab.dataset import Dataset, capture_rows, copying
from workbench.lab.dataset import verify as verifying
from workbench.lab.dataset.verify import verify


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    device, lab = FakeIsp(), tmp_path_factory.mktemp("verified") / "lab"
    with Dataset.open(lab, create=True) as dataset:
        dataset.add_raw(make_raw(0), scene="s0", split=Split.TRAIN, name="0.npz")
        captures = [device.process(make_raw(0), make_set(i)) for i in range(3)]
        dataset.add_captures(device.info(), captures, purpose="collect")
        assert verify(dataset).problems == []
    return lab


@pytest.fixture
def lab(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "lab"))


def change(lab: Path, statement: str) -> None:
    database = sqlite3.connect(lab / "dataset.sqlite")
    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        database.execute(f"DROP TRIGGER {name}")
    database.execute("PRAGMA ignore_check_constraints = ON")
    assert database.execute(statement).rowcount >= 1
    database.commit()
    database.close()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE captures SET frame = 'x' WHERE id = 1", "a value of its row was changed"),
        ("UPDATE captures SET device_s = 1e999 WHERE id = 1", "a value of its row was changed"),
        ("UPDATE captures SET raw = 'dead' WHERE id = 1", "missing row of raws"),
        ("UPDATE captures SET device = 'dead' WHERE id = 1", "missing row of devices"),
        ("DELETE FROM captures WHERE id = 2", "rows are gone"),
        ("UPDATE blobs SET size = size + 1 WHERE rowid = 1", "bytes in its row"),
        ("UPDATE blobs SET size = 'x' WHERE rowid = 1", "bytes in its row"),
        ("UPDATE parameter_sets SET codes = '[1, 2]' WHERE rowid = 1", "its codes do not give its hash"),
        ("UPDATE parameter_sets SET codes = 'null' WHERE rowid = 1", "its codes do not give its hash"),
        ("""UPDATE parameter_sets SET codes = '{"p\u00e9": 1}' WHERE rowid = 1""", "its codes do not give its hash"),
        ("""UPDATE parameter_sets SET codes = '{"a": [null]}' WHERE rowid = 1""", "its codes do not give its hash"),
        ("UPDATE devices SET space = '[]'", "parameter space"),
        ("UPDATE devices SET space = '{}'", "parameter space"),
    ],
)
def test_a_changed_value_is_told(lab: Path, statement: str, told: str) -> None:
    change(lab, statement)
    with Dataset.open(lab) as dataset:
        assert told in "\n".join(verify(dataset).problems)


@pytest.mark.parametrize("value", ["{", "[" * 20_000, f'{{"a": {"9" * 5000}}}', "1" + "e" * 9])
@pytest.mark.parametrize("column", ["parameter_sets SET codes", "captures SET read_back", "raws SET as_shot_wb"])
def test_a_value_that_cannot_be_read_is_one_error(lab: Path, column: str, value: str) -> None:
    change(lab, f"UPDATE {column} = '{value}' WHERE rowid = 1")
    with Dataset.open(lab) as dataset, pytest.raises(DatasetError, match=r"a value in it is not of its column"):
        verify(dataset)


def test_a_split_that_is_none_is_one_error(lab: Path) -> None:
    change(lab, "UPDATE scenes SET split = 'trial'")
    with (
        Dataset.open(lab) as dataset,
        pytest.raises(DatasetError, match=r"a value in it is not of its column \('trial' is not a valid Split\)"),
    ):
        verify(dataset)


def test_pages_are_read_to_their_end(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "PAGE", 2)
    monkeypatch.setattr(capture_rows, "PAIRS", 2)
    with Dataset.open(lab) as dataset:
        found = verify(dataset)
        assert (found.problems, found.files, found.captures, found.unused_files) == ([], 4, 3, 0)
        assert [c.id for c in dataset.each_capture()] == [1, 2, 3]
    change(lab, "UPDATE captures SET frame = 7 WHERE id = 3")
    with Dataset.open(lab) as dataset:
        assert [line.partition(":")[0] for line in verify(dataset).problems] == ["captures 3"]


def test_a_copy_that_was_interrupted_is_told(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise DatasetError("interrupted")

    with Dataset.open(lab) as source, Dataset.open(tmp_path / "other", create=True) as target:
        with monkeypatch.context() as patch:
            patch.setattr(copying, "_copy_rows", interrupted)
            with pytest.raises(DatasetError, match="interrupted"):
                copying.copy(source, target)
        (told,) = verify(target).problems
        assert "4 of 4 are of no RAW and no capture" in told
        assert "run the same `workbench dataset copy` again" in told
        copying.copy(source, target)
        assert verify(target).problems == []
