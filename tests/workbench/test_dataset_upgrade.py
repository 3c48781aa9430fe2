"""A data set that the workbench of schema 0001 made: upgraded whole, with a copy, and usable."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from fake_isp import FakeIsp, make_raw, make_set

import workbench.lab.dataset.migrations as migrations
from drivers.frames import RgbFrame
from drivers.raw.raw_files import save_npz
from workbench.errors import DatasetError
from workbench.lab.dataset import Dataset
from workbench.lab.dataset.blobs import BlobKey, BlobStore
from workbench.lab.dataset.sqlite_file import SqliteFile
from workbench.lab.dataset.storage import upgrade
from workbench.lab.dataset.verify import verify


@pytest.fixture
def old_lab(tmp_path: Path) -> Path:
    """Two RAWs, three captures, rows as schema 0001 had them, of a device that was known by all that it told."""
    lab = tmp_path / "lab"
    lab.mkdir()
    database = SqliteFile(lab / "dataset.sqlite")
    (lab / "dataset.sqlite").touch()
    config = Config()
    config.set_main_option("script_location", str(Path(str(migrations.__file__)).parent))
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    database.engine.dispose()
    device, store = FakeIsp(), BlobStore(lab / "blobs")
    info, rows = device.info(), sqlite3.connect(lab / "dataset.sqlite")
    space = info.space.to_dict()
    space["parameters"][0]["description"] = "as it was described then"
    told = hashlib.sha256(json.dumps(space, sort_keys=True).encode()).hexdigest()
    identity = f"{info.model}/{info.firmware}/{told[:12]}"
    rows.execute(
        "INSERT INTO devices VALUES (?, ?, ?, ?, 't')",
        (identity, info.model, info.firmware, json.dumps(space)),
    )
    for i in range(2):
        raw = make_raw(i)
        save_npz(tmp_path / "raw.npz", raw)
        data = (tmp_path / "raw.npz").read_bytes()
        key = BlobKey.of(data, "npz")
        store.write([(key, data)])
        rows.execute("INSERT INTO blobs VALUES (?, ?, ?)", (key.hash, key.suffix, key.size))
        rows.execute("INSERT INTO scenes VALUES (?, 'train')", (f"s{i}",))
        m = raw.metadata
        rows.execute(
            "INSERT INTO raws VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 't')",
            (
                *(raw.hash, f"{i}.npz", f"s{i}", raw.width, raw.height, m["iso"], m["exposure_s"]),
                None if m["as_shot_wb"] is None else json.dumps(m["as_shot_wb"]),
                key.hash,
            ),
        )
    for i in range(3):
        made = device.process(make_raw(i % 2), make_set(i))
        key = BlobKey.of(made.rgb.encoded, "jpg" if made.rgb.media_type == "image/jpeg" else "png")
        store.write([(key, made.rgb.encoded)])
        codes = json.dumps(made.parameters.by_name)
        rows.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)", (key.hash, key.suffix, key.size))
        rows.execute("INSERT INTO parameter_sets VALUES (?, ?)", (made.parameters.hash, codes))
        rows.execute(
            "INSERT INTO captures VALUES (NULL, ?, ?, ?, 0, ?, ?, 'unit', 'boot', ?, 0.1, 0.2, 'collect', 't', 'w')",
            (made.raw_hash, identity, made.parameters.hash, key.hash, codes, i + 1),
        )
    rows.commit()
    rows.close()
    return lab


def test_upgraded_whole(old_lab: Path) -> None:
    with pytest.raises(DatasetError, match=r"run workbench dataset upgrade"):
        Dataset.open(old_lab)
    assert upgrade(old_lab) == ("0001", "0002", "dataset-0001.sqlite")
    with sqlite3.connect(old_lab / "dataset-0001.sqlite") as kept:
        assert kept.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    with Dataset.open(old_lab) as dataset:
        assert [c.frame for c in dataset.captures()] == [1, 2, 3]
        assert [r.orientation for r in dataset.raws()] == [1, 1]
        assert verify(dataset).problems == []
        assert isinstance(dataset.captures()[0].rgb(), RgbFrame)
        device = FakeIsp()
        again = [device.process(make_raw(i % 2), make_set(i)) for i in range(4)]
        dataset.add_captures(device.info(), again, purpose="collect")
        assert len(dataset.captures(device_identity=device.info().identity)) == 4  # three were there
        (known,) = dataset.devices()
        assert (known.identity, known.captures) == (device.info().identity, 4)
        assert verify(dataset).problems == []


def test_captures_stay_immutable_after_it(old_lab: Path) -> None:
    upgrade(old_lab)
    with sqlite3.connect(old_lab / "dataset.sqlite") as rows:
        for statement in (
            "UPDATE captures SET frame = 0",
            "DELETE FROM captures",
            "UPDATE captures SET set_aside = NULL",
            "UPDATE captures SET seal = ''",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="immutable"):
                rows.execute(statement)
