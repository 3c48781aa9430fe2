"""The data set: what it keeps, what it refuses, and what it says when the disk or the database refuses."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_isp import SPACE, FakeIsp, make_raw, make_set
from hypothesis import given, settings
from hypothesis import strategies as st
from postgresql_server import KeptIn, on_both

from drivers.splits import Split
from workbench.errors import DatasetError
from workbench.lab.dataset import Dataset, content_rows
from workbench.lab.dataset.blobs import BlobKey, BlobStore
from workbench.lab.dataset.export import export
from workbench.lab.dataset.records import RawRecord
from workbench.lab.dataset.schema import SCHEMA_VERSION, Base
from workbench.lab.dataset.storage import upgrade
from workbench.lab.dataset.verify import verify

REFERENCE = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def fill(lab: Path, captures: int = 10) -> None:
    device = FakeIsp()
    with Dataset.open(lab, create=True) as dataset:
        for i in range(2):
            dataset.add_raw(
                make_raw(i), scene=f"s{i}", split=Split.TRAIN, name=f"{i}.npz", reference=REFERENCE if i else None
            )
        made = [device.process(make_raw(i % 2), make_set(i)) for i in range(captures)]
        dataset.add_captures(device.info(), made, purpose="collect")


@pytest.fixture
def lab(tmp_path: Path, kept_in: KeptIn) -> Path:
    fill(kept_in(tmp_path / "lab"))
    return tmp_path / "lab"


@on_both
def test_raw_comes_back_as_it_was(tmp_path: Path, kept_in: KeptIn) -> None:
    raw = make_raw(3)
    with Dataset.open(kept_in(tmp_path / "lab"), create=True) as dataset:
        kept = dataset.add_raw(raw, scene="door", split=Split.TEST, name="door.dng", reference=REFERENCE)
        assert dataset.add_raw(raw, scene="door", split=Split.TEST, name="other.dng", reference=REFERENCE) == kept
    with Dataset.open(tmp_path / "lab") as dataset:
        (record,) = dataset.raws(Split.TEST)
        assert dataset.raws(Split.TRAIN) == []
        loaded, reference = record.load(), record.reference()
    assert record == kept
    assert (record.name, record.scene, record.iso, record.as_shot_wb) == ("door.dng", "door", 103.0, (2, 1, 1.5))
    assert loaded.hash == raw.hash
    assert loaded.metadata == raw.metadata
    np.testing.assert_array_equal(loaded.mosaic, raw.mosaic)
    np.testing.assert_array_equal(reference, REFERENCE)


@on_both
def test_reference_can_come_later_but_not_change(tmp_path: Path, kept_in: KeptIn) -> None:
    with Dataset.open(kept_in(tmp_path), create=True) as dataset:
        assert not dataset.add_raw(make_raw(0), scene="s", split=Split.TRAIN, name="a").has_reference
        assert dataset.add_raw(make_raw(0), scene="s", split=Split.TRAIN, name="a", reference=REFERENCE).has_reference
        with pytest.raises(DatasetError, match="another reference"):
            dataset.add_raw(make_raw(0), scene="s", split=Split.TRAIN, name="a", reference=255 - REFERENCE)


@on_both
def test_scene_stays_in_its_split(tmp_path: Path, kept_in: KeptIn) -> None:
    with Dataset.open(kept_in(tmp_path), create=True) as dataset:
        dataset.add_raw(make_raw(0), scene="door", split=Split.TEST, name="a")
        with pytest.raises(DatasetError, match="door is in the test split"):
            dataset.add_raw(make_raw(1), scene="door", split=Split.TRAIN, name="b")
        with pytest.raises(DatasetError, match=r"scene door \(test\)"):
            dataset.add_raw(make_raw(0), scene="wall", split=Split.TRAIN, name="a")
        assert len(dataset.raws()) == 1


@on_both
def test_captures_come_back_as_they_were(lab: Path) -> None:
    device = FakeIsp()
    with Dataset.open(lab) as dataset:
        records = dataset.captures()
        assert [r.parameters_hash for r in records] == [make_set(i).hash for i in range(10)]
        for i, record in enumerate(records):
            made = device.process(make_raw(i % 2), make_set(i))
            assert record.rgb().encoded == made.rgb.encoded
            assert record.codes == made.parameters_in_force
            assert (record.boot_id, record.frame, record.purpose, record.repeat) == ("boot-1", i + 1, "collect", 0)
            assert record.created.endswith("Z")
        assert dataset.space(records[0].device_identity) == SPACE
        (kept,) = dataset.devices()
        assert (kept.captures, kept.space, kept.model) == (10, "tiny", "fake")
        assert dataset.captures(split=Split.TEST) == []
        assert dataset.captures(purpose="tune") == []
        assert len(dataset.captures(device_identity=records[0].device_identity, split=Split.TRAIN)) == 10
        with pytest.raises(DatasetError, match="no captures of device other"):
            dataset.space("other")


@on_both
def test_same_key_is_kept_once(lab: Path) -> None:
    device = FakeIsp()
    again = [device.process(make_raw(i % 2), make_set(i)) for i in (3, 11, 3, 11)]
    with Dataset.open(lab) as dataset:
        before = dataset.captures()
        records = dataset.add_captures(device.info(), again, purpose="tune")
        assert records[0] == records[2] == before[3]
        assert records[1] == records[3]
        assert len(dataset.captures()) == 11
        repeated = dataset.add_captures(device.info(), again[:1], purpose="tune", repeat=1)
        assert repeated[0].repeat == 1
        assert len(dataset.captures()) == 12
        other = FakeIsp(firmware="2").info()
        assert dataset.add_captures(other, again[:1], purpose="tune")[0].id != before[3].id


@on_both
def test_capture_of_unknown_raw_is_refused_whole(lab: Path) -> None:
    device = FakeIsp()
    made = [device.process(make_raw(i), make_set(50)) for i in (0, 77)]
    with Dataset.open(lab) as dataset:
        with pytest.raises(DatasetError, match="RAW that is not in the data set"):
            dataset.add_captures(device.info(), made, purpose="collect")
        assert len(dataset.captures()) == 10


@on_both
def test_what_is_remembered_of_captures_holds_for_these_alone(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeIsp()

    def anew() -> content_rows.Content:
        with monkeypatch.context() as patch:
            patch.setattr(content_rows, "_known", lambda *_: None)
            return dataset.content()

    def remembered() -> content_rows.Content:
        with monkeypatch.context() as patch:
            patch.setattr(content_rows, "content_of", lambda *_: pytest.fail("not remembered"))
            return dataset.content()

    monkeypatch.setattr(content_rows, "REMEMBERED", 5)
    with Dataset.open(lab) as dataset:
        seen = [dataset.content()]
        assert seen[0].captures == 10
        for change in (
            lambda: dataset.add_captures(device.info(), [device.process(make_raw(0), make_set(60))], purpose="tune"),
            lambda: dataset.set_aside([3], "lens cap on"),
            lambda: dataset.set_aside([11], "blurred"),
            lambda: dataset.add_captures(device.info(), [device.process(make_raw(0), make_set(60))], purpose="again"),
        ):
            change()
            seen.append(dataset.content())
            assert seen[-1] == remembered() == anew()
        assert len({content.digest for content in seen}) == 4  # the last is again that of the third
        assert seen[-1].set_aside == {"lens cap on": 1, "blurred": 1}
        assert [(purpose, count) for _, purpose, count in seen[-1].counts] == [("again", 1), ("collect", 9)]


@on_both
def test_digest_depends_on_captures_alone(tmp_path: Path, kept_in: KeptIn) -> None:
    device = FakeIsp()
    made = [device.process(make_raw(0), make_set(i)) for i in range(6)]
    digests = []
    for name, order in (("a", [0, 1, 2, 3, 4, 5]), ("b", [5, 3, 1, 0, 2, 4]), ("c", [0, 1, 2, 3, 4])):
        with Dataset.open(kept_in(tmp_path / name), create=True) as dataset:
            dataset.add_raw(make_raw(0), scene="s", split=Split.TRAIN, name=name)
            for i in order:
                dataset.add_captures(device.info(), [made[i]], purpose=name)
            digests.append(dataset.digest())
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("statement", ["UPDATE captures SET frame = 0", "DELETE FROM captures WHERE id = 1"])
def test_captures_are_immutable(lab: Path, statement: str) -> None:
    connection = sqlite3.connect(lab / "dataset.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="immutable"):
        connection.execute(statement)
    connection.close()


def test_settings_of_the_connection(lab: Path) -> None:
    with Dataset.open(lab) as dataset, dataset.database.reading() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


# Schema versions


@on_both
def test_migrations_make_the_mapped_schema(lab: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    import workbench.lab.dataset.migrations as migrations

    with Dataset.open(lab) as dataset, dataset.database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    assert ScriptDirectory(str(Path(str(migrations.__file__)).parent)).get_current_head() == SCHEMA_VERSION


def set_version(lab: Path, version: str) -> None:
    connection = sqlite3.connect(lab / "dataset.sqlite")
    connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.commit()
    connection.close()


def test_newer_schema_is_refused(lab: Path) -> None:
    set_version(lab, "9999")
    for call in (lambda: Dataset.open(lab), lambda: Dataset.open(lab, create=True), lambda: upgrade(lab)):
        with pytest.raises(
            DatasetError, match=f"schema 9999, made by a newer workbench; this one knows {SCHEMA_VERSION}"
        ):
            call()


def test_older_schema_names_the_command(lab: Path) -> None:
    set_version(lab, "0000")
    with pytest.raises(
        DatasetError, match=f"schema 0000, this workbench uses {SCHEMA_VERSION}; run workbench dataset upg"
    ):
        Dataset.open(lab)


def test_upgrade_of_the_current_schema_changes_nothing(lab: Path) -> None:
    before = (lab / "dataset.sqlite").read_bytes()
    assert upgrade(lab) == (SCHEMA_VERSION, SCHEMA_VERSION, "")
    assert (lab / "dataset.sqlite").read_bytes() == before


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no data set here; run workbench collect --lab"):
        Dataset.open(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "dataset.sqlite").write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(DatasetError, match="not a SQLite file"):
        Dataset.open(tmp_path)
    (tmp_path / "dataset.sqlite").unlink()
    connection = sqlite3.connect(tmp_path / "dataset.sqlite")
    connection.execute("CREATE TABLE other (x)")
    connection.commit()
    connection.close()
    with pytest.raises(DatasetError, match="not a data set of the workbench"):
        Dataset.open(tmp_path, create=True)


def test_interrupted_creation(tmp_path: Path) -> None:
    (tmp_path / "dataset.sqlite").touch()
    with pytest.raises(DatasetError, match="making was interrupted"):
        Dataset.open(tmp_path)
    with Dataset.open(tmp_path, create=True) as dataset:
        assert dataset.captures() == []


# What the disk and others do to it


def test_locked_database(lab: Path) -> None:
    device = FakeIsp()
    made = [device.process(make_raw(0), make_set(70))]
    holder = sqlite3.connect(lab / "dataset.sqlite", isolation_level=None)
    with Dataset.open(lab, busy_s=0.2) as dataset:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatasetError, match=r"locked by another program for more than 0\.2 s"):
            dataset.add_captures(device.info(), made, purpose="collect")
        holder.execute("ROLLBACK")
        assert dataset.add_captures(device.info(), made, purpose="collect")[0].frame == 1
    holder.close()


@on_both
@pytest.mark.parametrize("call", ["fsync", "write"])
def test_full_disk_at_a_file(lab: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    device = FakeIsp()
    made = [device.process(make_raw(0), make_set(100 + i)) for i in range(20)]
    real_fsync, real_open = os.fsync, os.open
    count = iter(range(1000))

    def fsync(handle: int) -> None:
        if next(count) == 11:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_fsync(handle)

    def open_full(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_WRONLY and next(count) == 11:
            return real_open("/dev/full", os.O_WRONLY)
        return real_open(path, flags, mode)

    with Dataset.open(lab) as dataset:
        with monkeypatch.context() as patch:
            if call == "fsync":
                patch.setattr(os, "fsync", fsync)
            elif not Path("/dev/full").exists():
                pytest.skip("this system has no /dev/full")
            else:
                patch.setattr(os, "open", open_full)
            with pytest.raises(DatasetError, match="the disk is full"):
                dataset.add_captures(device.info(), made, purpose="collect")
        assert len(dataset.captures()) == 10
        assert dataset.blobs.temporary_files() == []
        assert len(dataset.add_captures(device.info(), made, purpose="collect")) == 20
        assert verify(dataset).problems == []


def test_full_disk_at_the_database(lab: Path) -> None:
    device = FakeIsp()
    made = [device.process(make_raw(0), make_set(100 + i)) for i in range(500)]
    with Dataset.open(lab) as dataset:
        with dataset.database.reading() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(DatasetError, match="the disk is full"):
            dataset.add_captures(device.info(), made, purpose="collect")
        with dataset.database.reading() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        assert len(dataset.captures()) == 10
        assert len(dataset.add_captures(device.info(), made, purpose="collect")) == 500
        assert verify(dataset).problems == []


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be written"):
        Dataset.open(tmp_path / "file" / "lab", create=True)


READ_ONLY = """
import sys
from pathlib import Path
from fake_isp import FakeIsp, make_raw, make_set
from workbench.lab.dataset import Dataset
from workbench.lab.dataset.verify import verify
from workbench.errors import DatasetError
lab, device = Path(sys.argv[1]), FakeIsp()
for create in (False, True):
    with Dataset.open(lab, create=create) as dataset:
        assert len(dataset.captures()) == 10 and verify(dataset).problems == []
        for write in (
            lambda: dataset.add_captures(device.info(), [device.process(make_raw(0), make_set(70))], purpose="x"),
            lambda: dataset.add_raw(make_raw(9), scene="n", split="train", name="n"),
        ):
            try:
                write()
            except DatasetError as error:
                print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
def test_read_only_folder_can_be_read(lab: Path) -> None:
    command = [sys.executable, "-c", READ_ONLY, str(lab)]
    if os.geteuid() == 0:
        # Root may write everywhere, unless it gives that capability up.
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv to be refused")
        command = ["setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override", *command]
    here = Path(__file__).resolve().parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])}
    everything = [lab, *lab.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    finally:
        for path in everything:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the folder is read-only") == 4


# Verify and export


@on_both
def test_verify_finds_damage(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        assert verify(dataset).problems == []
        first, second = dataset.captures()[:2]
        path = dataset.blobs.path(first.output_hash, "png")
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        dataset.blobs.path(second.output_hash, "png").unlink()
        (dataset.blobs.root / "tmp" / "left.jpg").write_bytes(b"half")
        result = verify(dataset)
        assert len(result.problems) == 2
        assert any(first.output_hash in p and "damaged" in p for p in result.problems)
        assert any(second.output_hash in p and "missing" in p for p in result.problems)
        assert (result.temporary_files, result.captures, result.raws) == (1, 10, 2)
        with pytest.raises(DatasetError, match="damaged"):
            first.rgb()


def test_verify_finds_a_damaged_raw_and_false_codes(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        blob = Path(next(path for path in dataset.blobs.files() if path.suffix == ".npz"))
        blob.write_bytes(blob.read_bytes()[:100])
        connection = sqlite3.connect(lab / "dataset.sqlite")
        connection.execute(
            "UPDATE parameter_sets SET codes = json_set(codes, '$.gain', 1000) WHERE hash = ?", (make_set(4).hash,)
        )
        connection.commit()
        connection.close()
        problems = "\n".join(verify(dataset).problems)
    assert blob.name in problems
    assert f"parameter set {make_set(4).hash[:12]}" in problems
    assert "capture 5: the device's read-back differs" in problems


@on_both
def test_export(lab: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Dataset.open(lab) as dataset:
        assert export(dataset, out) == 10
        captures = dataset.captures()
        with pytest.raises(DatasetError, match="exists already"):
            export(dataset, out)
    with (out / "captures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == [c.id for c in captures]
    for i, row in enumerate(rows):
        assert (out / row["output"]).read_bytes() == captures[i].rgb().encoded
        assert float(row["gain"]) == make_set(i)["gain"]
        assert row["mode"] == make_set(i)["mode"]
    with (out / "raws.csv").open(newline="") as file:
        raws = {row["raw"]: row for row in csv.DictReader(file)}
    assert {row["raw"] for row in rows} == set(raws)
    assert all((out / row["file"]).is_file() for row in raws.values())
    assert sum(1 for row in raws.values() if row["reference"] and (out / row["reference"]).is_file()) == 1


@on_both
def test_export_while_raws_and_captures_are_added(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Dataset.open(lab) as dataset, Dataset.open(lab) as other:
        listed = dataset.raws

        def raws_then_more() -> list[RawRecord]:
            found = listed()
            other.add_raw(make_raw(7), scene="s7", split=Split.TRAIN, name="7.npz")
            device = FakeIsp()
            other.add_captures(device.info(), [device.process(make_raw(7), make_set(3))], purpose="collect")
            return found

        monkeypatch.setattr(dataset, "raws", raws_then_more)
        assert export(dataset, tmp_path / "out") == 10
    assert len(list((tmp_path / "out" / "captures").iterdir())) == 10


@on_both
def test_export_of_a_damaged_data_set_leaves_nothing(lab: Path, tmp_path: Path) -> None:
    (own := tmp_path / "here" / "out.partial").mkdir(parents=True)  # a folder of the user's stays
    with Dataset.open(lab) as dataset:
        dataset.blobs.path(dataset.captures()[5].output_hash, "png").unlink()
        with pytest.raises(DatasetError, match="missing"):
            export(dataset, own.with_name("out"))
    assert list(own.parent.iterdir()) == [own]


# Blobs


@given(st.lists(st.binary(max_size=200), max_size=12))
@settings(max_examples=30, deadline=None)
def test_blobs_come_back(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> None:
    root = tmp_path_factory.mktemp("blobs")
    store = BlobStore(root)
    try:
        store.write([(BlobKey.of(data, "jpg"), data) for data in contents])
        for data in contents:
            assert store.read(BlobKey.of(data, "jpg").hash, "jpg") == data
        assert len(list(store.files())) == len(set(contents))
        assert store.temporary_files() == []
    finally:
        store.close()
        shutil.rmtree(root)


def test_blob_that_is_there_is_not_rewritten_and_a_short_one_is(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    key = BlobKey.of(b"pixels", "png")
    store.write([(key, b"pixels")])
    path = store.path(key.hash, "png")
    before = path.stat()
    store.write([(key, b"pixels")])
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    path.write_bytes(b"pix")
    store.write([(key, b"pixels")])
    assert store.read(key.hash, "png") == b"pixels"


@on_both
def test_stale_temporary_files_go_away(lab: Path) -> None:
    old, new = lab / "blobs" / "tmp" / "old.jpg", lab / "blobs" / "tmp" / "new.jpg"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    with Dataset.open(lab, create=True) as dataset:
        assert dataset.blobs.temporary_files() == [new]
