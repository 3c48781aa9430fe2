"""The SQLite file of a data set: how it is opened and created, and whether its folder still is where it was."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

from workbench.lab.dataset.database import Database
from workbench.lab.dataset.explained import BUSY_S, explained
from workbench.lab.dataset.place import Place


class SqliteFile(Database):
    """One SQLite file in WAL mode: foreign keys on, full synchronisation, bounded wait for locks.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, busy_s: float = BUSY_S) -> None:
        super().__init__(path.parent, str(path), busy_s)
        self.path = path
        self.engine = self._engine("rw")
        self._place = Place(path.parent, path, path.parent / "blobs")

    def exists(self) -> bool:
        """Whether the file is there, if empty."""
        return self.path.is_file()

    def check_place(self) -> None:
        """See that the folder still is the one that was opened.

        Raises:
            DatasetError: it was renamed, deleted or replaced.
        """
        self._place.check()

    def prepare(self) -> None:
        """Let the file be made where it is missing."""
        if not self.path.is_file():
            self.engine.dispose()
            self.engine = self._engine("rwc")

    def version(self) -> str | None:
        """The schema's version; None for an empty file.

        Raises:
            DatasetError: locked, damaged, unreadable, or no data set.
        """
        log = self.path.with_name(self.path.name + "-wal")
        refused = not (os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK))
        if refused and self.path.is_file() and not _has_content(log):
            # In a folder that cannot be written SQLite cannot make its shared-memory file, so it cannot read either,
            # unless told that nothing will change; that is true where no log waits beside the file.
            self.engine.dispose()
            self.engine, self.read_only = self._engine("ro&immutable=1"), True
        return super().version()

    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def keep_copy(self, version: str) -> str:
        """Copy the database as ``dataset-VERSION.sqlite`` beside it; gives the copy's name.

        Raises:
            DatasetError: it cannot be read or the copy not be written.
        """
        copy = self.path.with_name(f"dataset-{version}.sqlite")
        with (
            explained(copy, self.busy_s),
            self.reading() as connection,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            connection.connection.driver_connection.backup(target)  # type: ignore[union-attr]
        return copy.name

    def _engine(self, mode: str) -> Engine:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"

        def connect() -> sqlite3.Connection:
            # check_same_thread: the pool hands a connection to one thread at a time.
            return sqlite3.connect(uri, uri=True, timeout=self.busy_s, isolation_level=None, check_same_thread=False)

        engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)

        @event.listens_for(engine, "connect")
        def _settings(dbapi: Any, _record: Any) -> None:
            dbapi.execute("PRAGMA foreign_keys = ON")
            # KiB, in place of 2 MiB: a batch of captures that is looked up among 100,000 touches more pages than those.
            dbapi.execute("PRAGMA cache_size = -16384")
            if "immutable" not in mode:
                dbapi.execute("PRAGMA journal_mode = WAL")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # IMMEDIATE takes the write lock at once, so the bounded wait for it happens here and nowhere else.
            options = connection.get_execution_options()
            if options.get("write"):
                connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if options['durable'] else 'NORMAL'}")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("write") else "BEGIN")

        return engine


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
