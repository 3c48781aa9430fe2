"""A data set copied to another lab, of files or of servers: all of it, resumed where it stopped, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fake_isp import FakeIsp, make_raw, make_set
from postgresql_server import PostgresqlServer
from s3_server import S3Server
from typer.testing import CliRunner

from drivers.device import Failure
from drivers.splits import Split
from workbench.commands.dataset import app
from workbench.errors import DatasetError
from workbench.lab.dataset import Dataset, DeviceUse, copying
from workbench.lab.dataset.bucket import BucketStore
from workbench.lab.dataset.copying import copy
from workbench.lab.dataset.verify import verify


def fill(lab: Path, first: int = 0, captures: int = 12) -> None:
    """RAWs, captures of which one is set aside and made again, a failure, a use."""
    device = FakeIsp()
    with Dataset.open(lab, create=True) as dataset:
        for i in range(3):
            picture = np.full((16, 16, 3), i, np.uint8)
            dataset.add_raw(make_raw(i), scene=f"s{i}", split=Split.TRAIN, name=f"ä{i}", reference=picture)
        made = [device.process(make_raw(i % 3), make_set(i)) for i in range(first, first + captures)]
        records = dataset.add_captures(device.info(), made, purpose="collect")
        dataset.set_aside([records[4].id], "lens cap on")
        dataset.add_captures(device.info(), made[3:6], purpose="again")
        failure = Failure(make_raw(0).hash, make_set(900), "failed", "no light", "boot-1")
        dataset.add_failures(device.info(), [failure], purpose="collect")
        dataset.add_device_use(
            DeviceUse(device.info().identity, "fake:", "7", "collect", "a", "b", 9, 1, 1, {"busy": 2})
        )


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    fill(tmp_path / "lab")
    return tmp_path / "lab"


@pytest.fixture
def farm(tmp_path: Path, postgresql: PostgresqlServer, object_store: S3Server) -> Path:
    folder = tmp_path / "farm"
    folder.mkdir()
    storage = f'[storage]\ndatabase = "{postgresql.new_database()}"\nblobs = "s3://bucket/lab"\n'
    (folder / "lab.toml").write_text(storage)
    return folder


def test_to_the_servers_and_back_nothing_changes(tmp_path: Path, lab: Path, farm: Path) -> None:
    for source, target in ((lab, farm), (farm, tmp_path / "back")):
        done = CliRunner().invoke(app, ["copy", str(source), str(target), "--json"])
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert (told["files"], told["captures"]) == (told["known"], 12)
        with Dataset.open(lab) as dataset, Dataset.open(target) as copied:
            assert told["digest"] == dataset.digest() == copied.digest()
            assert dataset.captures() == copied.captures()
            assert dataset.content() == copied.content()
            assert dataset.failures() == copied.failures()
            assert dataset.device_uses() == copied.device_uses()
            assert verify(copied).problems == []
    fill(tmp_path / "back", first=50)  # what the copy is for: it is added to like any other
    with Dataset.open(tmp_path / "back") as copied:
        assert len(copied.captures()) == 24


def test_where_it_stopped_it_goes_on(
    tmp_path: Path, lab: Path, farm: Path, monkeypatch: pytest.MonkeyPatch, object_store: S3Server
) -> None:
    monkeypatch.setattr(copying, "ROWS", 4)

    def stop_at(part: str, wanted: int) -> None:
        def progress(now: str, _unit: str, done: int, _total: int) -> None:
            if now == part and done >= wanted:
                raise KeyboardInterrupt

        with Dataset.open(lab) as dataset, Dataset.open(farm, create=True) as copied, pytest.raises(KeyboardInterrupt):
            copy(dataset, copied, progress)

    stop_at("files", 5)
    before = len(object_store.keys())
    stop_at("rows", 30)
    assert 0 < before < len(object_store.keys())
    with Dataset.open(farm) as copied:
        assert 0 < len(copied.captures()) < 12
    fill(lab, first=20)  # a lab that goes on meanwhile
    with Dataset.open(lab) as dataset, Dataset.open(farm, create=True) as copied:
        result = copy(dataset, copied)
        assert (result.captures, result.digest) == (24, dataset.digest())
        assert copied.device_uses() == dataset.device_uses()
        assert copy(dataset, copied).files == 0
        assert verify(copied).problems == []


@pytest.mark.parametrize("other", ["shorter", "longer", "changed"])
def test_another_data_set_is_not_written_into(tmp_path: Path, lab: Path, other: str) -> None:
    target = tmp_path / "target"
    fill(target, first=0 if other == "changed" else 30, captures={"shorter": 6, "longer": 40, "changed": 12}[other])
    with Dataset.open(lab) as dataset, Dataset.open(target) as copied:
        if other == "changed":
            copied.set_aside([7], "blurred")
        before = copied.digest()
        with pytest.raises(DatasetError, match=r"are not those of the lab to be copied; copy to an empty lab"):
            copy(dataset, copied)
        assert copied.digest() == before
        with pytest.raises(DatasetError, match="have the same database"):
            copy(dataset, dataset)


def test_what_cannot_be_read_back_is_no_copy(lab: Path, farm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = BucketStore._put
    monkeypatch.setattr(BucketStore, "_put", lambda self, blob: put(self, (blob[0], blob[1] + b"?")))
    with (
        Dataset.open(lab) as dataset,
        Dataset.open(farm, create=True) as copied,
        pytest.raises(DatasetError, match="the object is damaged"),
    ):
        copy(dataset, copied)
