"""The SQLite file of a data set: how it is opened, created, upgraded, and how its errors read."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from workbench.errors import DatasetError
from workbench.lab.dataset.place import Place
from workbench.lab.dataset.schema import SCHEMA_VERSION

BUSY_S = 10.0
DISK_FULL = "the disk is full; free some space and run the same command again, what was reported is kept"
READ_ONLY = "the file or its folder is read-only; make it writable or use another --lab"


class Database:
    """One SQLite file in WAL mode: foreign keys on, full synchronisation, bounded wait for locks.

    Attributes:
        path: the file.
        read_only: whether the folder refuses writing (then only reading works).
    """

    def __init__(self, path: Path, busy_s: float = BUSY_S) -> None:
        self.path = path
        self.busy_s = busy_s
        self.read_only = False
        self.engine = self._engine("rw")
        self._place = Place(path.parent, path, path.parent / "blobs")

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a read transaction.

        Raises:
            DatasetError: locked, damaged or unreadable, or a value in it cannot be what the workbench wrote.
        """
        with explained(self.path, self.busy_s), self.engine.connect() as connection:
            try:
                yield connection
            except (ValueError, RecursionError, TypeError) as error:  # what decoding a column raises: JSON, numbers
                raise DatasetError(
                    f"{self.path}: damaged, a value in it is not of its column ({error}); restore it from a backup"
                ) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a write transaction: all of it is on the disk at the end, or nothing.

        Raises:
            DatasetError: locked, full, read-only or damaged.
        """
        self.check_writable()
        with explained(self.path, self.busy_s), self.engine.connect() as connection:
            connection = connection.execution_options(write=True)
            with connection.begin():
                yield connection
                self._place.check()

    def check_writable(self) -> None:
        """Refuse to write where only reading works, or where the folder is no longer the one that was opened.

        Raises:
            DatasetError: the folder is read-only, or was renamed, deleted or replaced.
        """
        self._place.check()
        if self.read_only:
            raise DatasetError(f"{self.path.parent}: the folder is read-only; make it writable or use another --lab")

    def open(self, *, create: bool) -> None:
        """Connect and check the schema's version.

        Raises:
            DatasetError: missing (without ``create``), of another schema version, unreadable.
        """
        lab = self.path.parent
        if create:
            with explained(self.path, self.busy_s):
                lab.mkdir(parents=True, exist_ok=True)
        elif not self.path.is_file():
            raise DatasetError(f"{lab}: no data set here; run workbench collect --lab {lab}, or name another --lab")
        if create and not self.path.is_file():
            self.engine.dispose()
            self.engine = self._engine("rwc")
        version = self.version()
        if version is None and create:
            self.upgrade()
            version = SCHEMA_VERSION
        check_version(self.path, version)
        self._place.check()

    def upgrade(self) -> None:
        """Bring the schema to this workbench's version, in one transaction."""
        # Alembic takes 0.2 s to import; only this needs it.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        with self.writing() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

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
        return self._read_version()

    def _read_version(self) -> str | None:
        with self.reading() as connection:
            tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
            if "alembic_version" in tables:
                return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            if tables:
                raise DatasetError(f"{self.path}: not a data set of the workbench; name another --lab")
            return None

    def _engine(self, mode: str) -> Engine:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"

        def connect() -> sqlite3.Connection:
            # check_same_thread: the pool hands a connection to one thread at a time.
            return sqlite3.connect(uri, uri=True, timeout=self.busy_s, isolation_level=None, check_same_thread=False)

        engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)

        @event.listens_for(engine, "connect")
        def _settings(dbapi: Any, _record: Any) -> None:
            dbapi.execute("PRAGMA foreign_keys = ON")
            dbapi.execute("PRAGMA synchronous = FULL")
            if "immutable" not in mode:
                dbapi.execute("PRAGMA journal_mode = WAL")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # IMMEDIATE takes the write lock at once, so the bounded wait for it happens here and nowhere else.
            write = connection.get_execution_options().get("write")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

        return engine


def upgrade(lab: Path, busy_s: float = BUSY_S) -> tuple[str, str]:
    """Bring the data set of a lab folder to this workbench's schema; gives the version before and after.

    A copy of the database as it was is kept as ``dataset-VERSION.sqlite``.

    Raises:
        DatasetError: there is none, a newer workbench made it, or it cannot be written.
    """
    database = Database(lab / "dataset.sqlite", busy_s)
    try:
        if not database.path.is_file():
            raise DatasetError(f"{lab}: no data set here; name another --lab")
        before = database.version()
        if before is None or before >= SCHEMA_VERSION:
            check_version(database.path, before)
            return SCHEMA_VERSION, SCHEMA_VERSION
        if before not in _older_versions():
            raise DatasetError(
                f"{database.path}: has schema {before}, from which no migration of this workbench leads on; open it "
                "with the version that made it"
            )
        copy = database.path.with_name(f"dataset-{before}.sqlite")
        with database.reading() as connection, contextlib.closing(sqlite3.connect(copy)) as target:
            connection.connection.driver_connection.backup(target)  # type: ignore[union-attr]
        database.upgrade()
        return before, SCHEMA_VERSION
    finally:
        database.engine.dispose()


def _older_versions() -> set[str]:
    """The schema versions that a migration leads on from."""
    scripts = (Path(__file__).parent / "migrations" / "versions").glob("[0-9]*_*.py")
    return {script.name.partition("_")[0] for script in scripts} - {SCHEMA_VERSION}


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def check_version(path: Path, version: str | None) -> None:
    """Refuse a data set of another schema version, naming both and the command to run."""
    if version == SCHEMA_VERSION:
        return
    lab = path.parent
    if version is None:
        raise DatasetError(f"{path}: empty, its making was interrupted; run workbench collect --lab {lab}")
    if not version.isdigit():
        raise DatasetError(
            f"{path}: has schema {version!r}, which no workbench made; move the file away, or name another --lab"
        )
    if version > SCHEMA_VERSION:
        raise DatasetError(
            f"{path}: has schema {version}, made by a newer workbench; this one knows {SCHEMA_VERSION}: "
            "install the newer workbench"
        )
    raise DatasetError(
        f"{path}: has schema {version}, this workbench uses {SCHEMA_VERSION}; run workbench dataset upgrade --lab {lab}"
    )


@contextlib.contextmanager
def explained(path: Path, busy_s: float = BUSY_S) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into one DatasetError that says what to do."""
    try:
        yield
    except DBAPIError as error:
        raise _explain(path, busy_s, error.orig) from error
    except sqlite3.Error as error:
        raise _explain(path, busy_s, error) from error
    except OSError as error:
        place = error.filename or path
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DatasetError(f"{place}: {DISK_FULL}") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise DatasetError(f"{place}: {READ_ONLY}") from error
        raise DatasetError(f"{place}: cannot be written: {error.strerror or error}; use another --lab") from error


def _explain(path: Path, busy_s: float, error: BaseException | None) -> DatasetError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        text = f"locked by another program for more than {busy_s:g} s; close that one and run the same command again"
    elif name == "SQLITE_FULL":
        text = DISK_FULL
    elif name.startswith("SQLITE_READONLY"):
        text = READ_ONLY
    elif name.startswith("SQLITE_CANTOPEN"):
        text = "cannot be opened; check that the folder exists and is writable"
    elif name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        text = f"damaged or not a SQLite file ({error}); restore it from a backup, or move it away and collect anew"
    elif name.startswith("SQLITE_IOERR"):
        text = f"the disk refused to read or write ({error}); check free space and the disk"
    else:
        text = f"the database refused: {error}"
    return DatasetError(f"{path}: {text}")
