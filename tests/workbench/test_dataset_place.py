"""Where a data set lies: odd paths, folders renamed, deleted or replaced meanwhile, files replaced in place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import optuna
import pytest
from fake_isp import FakeIsp, make_raw, make_set

from drivers.splits import Split
from workbench.errors import DatasetError
from workbench.lab.dataset import Dataset, NewRaw
from workbench.lab.dataset.source_files import seen
from workbench.lab.dataset.verify import verify
from workbench.tune.search import open_study


def add(dataset: Dataset, number: int) -> None:
    device = FakeIsp()
    dataset.add_captures(device.info(), [device.process(make_raw(0), make_set(number))], purpose="collect")


@pytest.mark.parametrize("what", ["renamed", "deleted", "replaced", "blobs replaced", "database replaced"])
def test_nothing_is_written_once_the_lab_is_elsewhere(tmp_path: Path, what: str) -> None:
    lab = tmp_path / "lab"
    with Dataset.open(lab, create=True) as dataset:
        dataset.add_raw(make_raw(0), scene="s", split=Split.TRAIN, name="r")
        add(dataset, 1)
        if what == "deleted":
            shutil.rmtree(lab)
        elif what == "renamed":
            lab.rename(tmp_path / "moved")
        elif what == "replaced":
            lab.rename(tmp_path / "moved")
            shutil.copytree(tmp_path / "moved", lab)
        elif what == "blobs replaced":
            shutil.copytree(lab / "blobs", tmp_path / "copy")
            (lab / "blobs").rename(tmp_path / "old")
            (tmp_path / "copy").rename(lab / "blobs")
        else:
            shutil.copy(lab / "dataset.sqlite", tmp_path / "copy")
            (tmp_path / "copy").replace(lab / "dataset.sqlite")
        with pytest.raises(DatasetError, match="renamed, deleted or replaced while this ran"):
            add(dataset, 2)
    if what in ("renamed", "replaced"):
        with Dataset.open(tmp_path / "moved") as moved:
            assert len(moved.captures()) == 1
            assert verify(moved).problems == []
    if what in ("renamed", "deleted"):
        assert not lab.exists()


@pytest.mark.parametrize("name", ["what?", "a#b", "50%41", "run{1}", "it's", "zwei wörter", "sqlite:", "a&b=c"])
def test_studies_lie_in_the_lab_whatever_its_name(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / "studies.sqlite"
    study = open_study(file.parent, "s", {})
    study.add_trial(optuna.trial.create_trial(values=[1.0]))
    assert file.is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(open_study(file.parent, "s", {}).trials) == 1


def kept(dataset: Dataset, path: Path) -> None:
    dataset.add_raws([NewRaw(make_raw(0), "s", Split.TRAIN, "r", files=(seen(path),))])


def test_a_file_replaced_with_its_size_and_time_is_another(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(b"first")
    os.utime(path, ns=(1_000, 1_000))
    with Dataset.open(tmp_path / "lab", create=True) as dataset:
        kept(dataset, path)
        assert [r.name for r in dataset.known_files().raws_of(path)] == ["r"]
        for replace in (path.write_bytes, lambda data: _renamed_over(path, data)):
            replace(b"other")
            os.utime(path, ns=(1_000, 1_000))
            assert dataset.known_files().raws_of(path) == []
            replace(b"first")
            os.utime(path, ns=(9_000, 9_000))
            assert [r.name for r in dataset.known_files().raws_of(path)] == ["r"]  # touched, the content is the same


def _renamed_over(path: Path, data: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(data)
    other.replace(path)


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("kind", ["pipe", "folder", "zero"])
def test_what_stands_in_a_files_place_is_a_problem_not_a_wait(tmp_path: Path, kind: str) -> None:
    with Dataset.open(tmp_path / "lab", create=True) as dataset:
        dataset.add_raw(make_raw(0), scene="s", split=Split.TRAIN, name="r")
        add(dataset, 1)
        file = dataset.blobs.path(dataset.captures()[0].output_hash, "png")
        file.unlink()
        if kind == "pipe":
            os.mkfifo(file)
        elif kind == "folder":
            file.mkdir()
        else:
            file.symlink_to("/dev/zero")
        (problem,) = verify(dataset).problems
        assert str(file) in problem
