"""Where the data set of a lab folder is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from workbench.lab.dataset.blobs import BlobStore
from workbench.lab.dataset.database import Database
from workbench.lab.dataset.explained import BUSY_S
from workbench.lab.dataset.sqlite_file import SqliteFile
from workbench.lab.lab_config import SCHEME, load_lab_config


def database_of(lab: Path, busy_s: float = BUSY_S) -> Database:
    """The database of a lab folder, not opened yet: its file, or what ``[storage]`` of its ``lab.toml`` names.

    Raises:
        LabConfigError: the ``lab.toml`` cannot be read.
        DatasetError: what a server needs is not installed.
    """
    if url := load_lab_config(lab).storage.database:
        # Only here: SQLAlchemy's package of PostgreSQL takes a while to import.
        from workbench.lab.dataset.postgresql import PostgresqlDatabase

        return PostgresqlDatabase(lab, url, busy_s)
    return SqliteFile(lab / "dataset.sqlite", busy_s)


def blobs_of(lab: Path, busy_s: float = BUSY_S) -> BlobStore:
    """The blobs of a lab folder: its files, or the bucket that ``[storage]`` of its ``lab.toml`` names.

    Raises:
        LabConfigError: the ``lab.toml`` cannot be read.
        DatasetError: what a bucket needs is not installed, or no credentials are given.
    """
    storage = load_lab_config(lab).storage
    if storage.blobs:
        from workbench.lab.dataset.bucket import BucketStore

        return BucketStore(storage.blobs, lab / "cache", storage.cache_bytes, busy_s)
    return BlobStore(lab / "blobs")


@contextlib.contextmanager
def studies_of(lab: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where Optuna's studies of a lab folder are kept: its name, SQLAlchemy's URL, and what it makes an engine with.

    The file ``studies.sqlite``, or beside the data set on its server; there only one at a time is within the block.

    Raises:
        LabConfigError: the ``lab.toml`` cannot be read.
        DatasetError: the server cannot be reached, or what it needs is not installed.
    """
    if url := load_lab_config(lab).storage.database:
        from workbench.lab.dataset.postgresql import studies_engine

        with studies_engine(lab, url) as engine:
            yield url, f"{SCHEME}://", engine
        return
    file = lab / "studies.sqlite"
    # As a URI, whatever its path holds: ``?``, ``#``, ``%``, braces that Optuna fills.
    parsed = URL.create("sqlite", database=file.absolute().as_uri(), query={"uri": "true"})
    yield str(file), parsed.render_as_string(), {"connect_args": {"timeout": 30}}


def upgrade(lab: Path, busy_s: float = BUSY_S) -> tuple[str, str, str]:
    """Bring the data set of a lab folder to this workbench's schema: version before, after, and the copy's name.

    Raises:
        DatasetError: there is none, a newer workbench made it, or it cannot be written.
    """
    database = database_of(lab, busy_s)
    try:
        return database.brought_up()
    finally:
        database.engine.dispose()
