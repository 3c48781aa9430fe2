"""A data set on PostgreSQL: crashes of writer and server, rows that stay, and what is said where it fails."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import kill_runner
import pytest
from fake_isp import FakeIsp, make_raw, make_set
from postgresql_server import PostgresqlServer
from s3_server import S3Server
from small_isp import SmallIsp, make_lab
from sqlalchemy.exc import IntegrityError
from test_kill import start as collecting

from drivers.errors import DeviceUnreachableError
from drivers.raw.raw_files import save_npz
from drivers.splits import Split
from workbench.errors import DatasetError
from workbench.lab.dataset import Dataset, answering
from workbench.lab.dataset.copying import copy
from workbench.lab.dataset.explained import BUSY_S
from workbench.lab.dataset.schema import SCHEMA_VERSION
from workbench.lab.dataset.storage import upgrade
from workbench.lab.dataset.verify import verify
from workbench.lab.lab_config import LabConfigError, load_lab_config
from workbench.lab.runs import RunFolder
from workbench.tune.fixed import tune_run
from workbench.tune.search import open_study
from workbench.tune.tuner import TuneSettings

CAPTURES = 300


@pytest.fixture
def lab(tmp_path: Path, postgresql: PostgresqlServer) -> Path:
    return on_server(tmp_path / "lab", postgresql.new_database())


def on_server(lab: Path, url: str) -> Path:
    lab.mkdir()
    (lab / "lab.toml").write_text(f'[storage]\ndatabase = "{url}"\n')
    return lab


def database_of(lab: Path) -> str:
    """The name of the lab's database on the server."""
    return str(load_lab_config(lab).storage.database).partition("@/")[2].partition("?")[0]


def fill(lab: Path) -> list[int]:
    """Two captures; their numbers."""
    device = FakeIsp()
    with Dataset.open(lab, create=True) as dataset:
        dataset.add_raw(make_raw(0), scene="s", split=Split.TRAIN, name="r")
        made = [device.process(make_raw(0), make_set(i)) for i in range(2)]
        return [record.id for record in dataset.add_captures(device.info(), made, purpose="collect")]


def test_nothing_lies_in_a_file_but_the_pictures(lab: Path) -> None:
    fill(lab)
    assert sorted(path.name for path in lab.iterdir()) == ["blobs", "lab.toml"]
    with Dataset.open(lab) as dataset:
        assert dataset.database.size() > 100_000
    assert upgrade(lab) == (SCHEMA_VERSION, SCHEMA_VERSION, "")


def test_both_databases_give_the_same_digest_in_the_same_order(tmp_path: Path, lab: Path) -> None:
    device, names = FakeIsp(), ["b", "A", "a", "Ä", "_", "ä", "B", "a b"]
    found = []
    for folder in (lab, tmp_path / "file"):
        with Dataset.open(folder, create=True) as dataset:
            for i, name in enumerate(names):
                dataset.add_raw(make_raw(i), scene=name, split=Split.TRAIN, name=name)
            made = [device.process(make_raw(i), make_set(i)) for i in range(len(names))]
            dataset.add_captures(device.info(), made, purpose="collect")
            found.append((dataset.digest(), [raw.name for raw in dataset.raws()]))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE captures SET frame = 0",
        "DELETE FROM captures",
        "UPDATE captures SET seal = ''",
        "UPDATE captures SET set_aside = NULL WHERE set_aside IS NOT NULL",
    ],
)
def test_captures_are_immutable(lab: Path, postgresql: PostgresqlServer, statement: str) -> None:
    first, _ = fill(lab)
    with Dataset.open(lab) as dataset:
        assert dataset.set_aside([first], "lens cap on") == 1
    with pytest.raises(IntegrityError, match="captures are immutable"):
        postgresql.execute(database_of(lab), statement)


def test_a_value_changed_behind_its_back_is_told(lab: Path, postgresql: PostgresqlServer) -> None:
    fill(lab)
    postgresql.execute(
        database_of(lab), "DROP TRIGGER captures_refuse_update ON captures", "UPDATE captures SET frame = 77"
    )
    with Dataset.open(lab) as dataset:
        assert sum("a value of its row was changed" in problem for problem in verify(dataset).problems) == 2


def test_a_writer_waits_for_another_no_longer_than_it_says(lab: Path) -> None:
    fill(lab)
    with Dataset.open(lab) as holder, Dataset.open(lab, busy_s=0.3) as dataset:
        with holder.database.writing(), pytest.raises(DatasetError, match=r"locked by another program for more than"):
            dataset.set_aside([1], "x")
        assert dataset.set_aside([1], "x") == 1


def test_a_writer_of_little_patience_may_pause_between_statements(lab: Path) -> None:
    fill(lab)
    with Dataset.open(lab, busy_s=0.1) as dataset, dataset.database.writing() as connection:
        # What the server goes by: for how long it puts up with a writer that asks nothing.
        said = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar_one()
    assert said == f"{0.8 * BUSY_S:g}s"


def test_a_database_without_or_with_another_data_set(lab: Path, postgresql: PostgresqlServer) -> None:
    with pytest.raises(DatasetError, match="no data set here; run workbench collect --lab"):
        Dataset.open(lab)
    postgresql.execute(database_of(lab), "CREATE TABLE other (x int)")
    with pytest.raises(DatasetError, match="not a data set of the workbench"):
        Dataset.open(lab, create=True)


def test_two_labs_share_a_database_in_schemas_of_their_own(tmp_path: Path, postgresql: PostgresqlServer) -> None:
    url = postgresql.new_database()
    labs = [on_server(tmp_path / name, f"{url}&options=-csearch_path%3D{name}") for name in ("left", "right")]
    with pytest.raises(DatasetError, match="no schema"):
        Dataset.open(labs[0], create=True)
    postgresql.execute(database_of(labs[0]), "CREATE SCHEMA left_", "CREATE SCHEMA right_")
    labs = [on_server(tmp_path / f"{n}_", f"{url}&options=-csearch_path%3D{n}_") for n in ("left", "right")]
    fill(labs[0])
    with Dataset.open(labs[1], create=True) as other, Dataset.open(labs[0]) as dataset:
        assert (len(dataset.captures()), len(other.captures())) == (2, 0)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nowhere?host=/nowhere-at-all", "cannot be reached"),
        ("nowhere?host=127.0.0.1&port=1", "cannot be reached"),
        ("nowhere?{server}", "nowhere"),
    ],
)
def test_what_cannot_be_reached_is_one_line(
    tmp_path: Path, postgresql: PostgresqlServer, place: str, said: str
) -> None:
    url = f"postgresql+psycopg://isp@/{place.format(server=postgresql.new_database().partition('?')[2])}"
    with pytest.raises(DatasetError, match=said) as told:
        Dataset.open(on_server(tmp_path / "lab", url), create=True, busy_s=2)
    assert "\n" not in str(told.value)
    assert "PGPASSWORD" in str(told.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg://isp:geheim@db/lab", "has a password in it; leave it out"),
        ("postgresql+psycopg://isp@db/lab?password=geheim", "has a password in it; leave it out"),
        ("mysql://isp:geheim@db/lab", r"must be postgresql\+psycopg://"),
        ("postgresql+psycopg://[isp:geheim@db/lab", "is no URL"),
    ],
)
def test_a_password_is_refused_and_not_repeated(tmp_path: Path, url: str, said: str) -> None:
    lab = on_server(tmp_path / "lab", url)
    with pytest.raises(LabConfigError, match=said) as told:
        Dataset.open(lab)
    assert "geheim" not in str(told.value)


def test_without_the_driver_the_next_step_is_named(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DatasetError, match=r"needs psycopg, which is not here; run pip install"):
        Dataset.open(lab)


@pytest.fixture
def raws(tmp_path: Path) -> Path:
    folder = tmp_path / "raws"
    folder.mkdir()
    for i in range(8):
        save_npz(folder / f"{i}.npz", make_raw(i))
    return folder


def reported(process: subprocess.Popen[str], wanted: int) -> set[tuple[str, ...]]:
    """So many captures that a collector said are committed; all of the rest where it says fewer."""
    assert process.stdout is not None
    said: set[tuple[str, ...]] = set()
    for line in process.stdout:
        if len(words := tuple(line.split())) == 3 and line.endswith("\n"):
            said.add(words)
        if len(said) >= wanted:
            break
    return said


@pytest.mark.timeout(240)
def test_killed_writers_and_restarted_servers_lose_and_double_nothing(
    tmp_path: Path, lab: Path, raws: Path, postgresql: PostgresqlServer, object_store: S3Server
) -> None:
    with (lab / "lab.toml").open("a") as file:
        file.write('blobs = "s3://bucket/lab"\n')
    said: set[tuple[str, ...]] = set()
    for wanted in (1, 37, 90):
        process = collecting(lab, raws, CAPTURES)
        said |= reported(process, wanted)
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode != 0
    process = collecting(lab, raws, CAPTURES)
    for wanted in (1, 20):  # what it goes on with it collects over two restarts, with no help
        said |= reported(process, wanted)
        postgresql.stop()
        object_store.stop()
        postgresql.start()
        object_store.start()
    said |= reported(process, CAPTURES)
    process.communicate(timeout=120)
    assert process.returncode == 0
    kill_runner.main(tmp_path / "whole", raws, CAPTURES)
    with Dataset.open(lab) as dataset, Dataset.open(tmp_path / "whole") as undisturbed:
        records = dataset.captures()
        kept = {(r.raw_hash, r.parameters_hash, r.output_hash) for r in records}
        assert len(records) == len(kept) == CAPTURES
        assert said <= kept
        assert dataset.digest() == undisturbed.digest()
        assert verify(dataset).problems == []


@contextlib.contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP here")
def test_a_server_that_hangs_is_given_up(
    lab: Path, postgresql: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "ANSWER_S", 1.5)
    first, second = fill(lab)
    main = int((postgresql.folder / "data" / "postmaster.pid").read_text().split()[0])
    with Dataset.open(lab, busy_s=2) as dataset:
        with dataset.database.reading() as connection:
            pid = int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
        with frozen([pid]):  # one connection of the server's: the next does
            assert dataset.set_aside([first], "x") == 1
        with dataset.database.reading() as connection:
            pid = int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
        with frozen([main, pid]), pytest.raises(DatasetError, match="cannot be reached") as told:
            dataset.set_aside([second], "x")
        assert "\n" not in str(told.value)
        assert dataset.set_aside([second], "x") == 1


def test_a_search_goes_on_from_its_study_on_the_server(tmp_path: Path, lab: Path) -> None:
    make_lab(tmp_path / "small")
    with Dataset.open(tmp_path / "small") as small, Dataset.open(lab, create=True) as dataset:
        copy(small, dataset)
    settings = TuneSettings("random", captures=24, raws_per_trial=4)

    def tune(device: SmallIsp) -> RunFolder:
        with Dataset.open(lab) as dataset:
            return tune_run(lab, dataset, device, settings)

    with pytest.raises(DeviceUnreachableError):
        tune(SmallIsp(gone_after=10))
    run = tune(device := SmallIsp())
    assert device.asked == 14
    study = open_study(lab, run.results["studies"][0], {})
    assert len(study.trials) == run.results["trials"] == 6
    assert not (lab / "studies.sqlite").exists()
    with Dataset.open(lab) as dataset:
        assert dataset.database.version() == SCHEMA_VERSION
