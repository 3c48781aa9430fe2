"""The database of a data set, whichever it is: transactions, schema version, upgrade."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, Engine

from workbench.errors import DatasetError
from workbench.lab.dataset.dialects import tables
from workbench.lab.dataset.explained import explained
from workbench.lab.dataset.schema import SCHEMA_VERSION


class Database(ABC):
    """A database of one data set.

    Attributes:
        lab: the lab folder; ``name``: what the database is called in messages, without a password.
        busy_s: how long another writer is waited for, in seconds.
        read_only: whether only reading works.
        engine: SQLAlchemy's.
    """

    engine: Engine

    def __init__(self, lab: Path, name: str, busy_s: float) -> None:
        self.lab = lab
        self.name = name
        self.busy_s = busy_s
        self.read_only = False

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is one, if empty."""

    @abstractmethod
    def check_place(self) -> None:
        """See that the database still is the one that was opened.

        Raises:
            DatasetError: it is not.
        """

    @abstractmethod
    def prepare(self) -> None:
        """Make ready for :meth:`upgrade` where there is none."""

    @abstractmethod
    def size(self) -> int:
        """Bytes that it takes on its disk."""

    @abstractmethod
    def keep_copy(self, version: str) -> str:
        """Keep a copy of what is there before an upgrade; gives its name, empty where none is made."""

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a read transaction: all of its queries see the data set at one moment.

        Raises:
            DatasetError: locked, damaged or unreadable, or a value in it cannot be what the workbench wrote.
        """
        with explained(self.name, self.busy_s), self.engine.connect() as connection:
            try:
                yield connection
            except (ValueError, RecursionError, TypeError) as error:  # what decoding a column raises: JSON, numbers
                raise DatasetError(
                    f"{self.name}: damaged, a value in it is not of its column ({error}); restore it from a backup"
                ) from error

    @contextlib.contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """A connection in a write transaction, the only one at a time: all of it is on the disk at the end, or nothing.

        Not ``durable``: a machine that fails may lose it, whole; it costs no wait for the disk.

        Raises:
            DatasetError: locked, full, read-only or damaged.
        """
        self.check_writable()
        with explained(self.name, self.busy_s), self.engine.connect() as connection:
            connection = connection.execution_options(write=True, durable=durable)
            with connection.begin():
                yield connection
                self.check_place()

    def check_writable(self) -> None:
        """Refuse to write where only reading works, or where the folder is no longer the one that was opened.

        Raises:
            DatasetError: the folder is read-only, or was renamed, deleted or replaced.
        """
        self.check_place()
        if self.read_only:
            raise DatasetError(f"{self.lab}: the folder is read-only; make it writable or use another --lab")

    def open(self, *, create: bool) -> None:
        """Connect and check the schema's version.

        Raises:
            DatasetError: missing (without ``create``), of another schema version, unreadable.
        """
        if create:
            with explained(self.name, self.busy_s):
                self.lab.mkdir(parents=True, exist_ok=True)
            self.prepare()
        elif not self.exists():
            raise self.missing()
        version = self.version()
        if version is None and create:
            self.upgrade()
            version = SCHEMA_VERSION
        self.check_version(version)
        self.check_place()

    def missing(self) -> DatasetError:
        """That there is no data set."""
        return DatasetError(
            f"{self.lab}: no data set here; run workbench collect --lab {self.lab}, or name another --lab"
        )

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
        """The schema's version; None for an empty database.

        Raises:
            DatasetError: locked, damaged, unreadable, or no data set.
        """
        with self.reading() as connection:
            found = tables(connection)
            if "alembic_version" in found:
                return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            if found:
                raise DatasetError(f"{self.name}: not a data set of the workbench; name another --lab")
            return None

    def check_version(self, version: str | None) -> None:
        """Refuse a data set of another schema version, naming both and the command to run."""
        if version == SCHEMA_VERSION:
            return
        if version is None:
            raise DatasetError(
                f"{self.name}: empty, its making was interrupted; run workbench collect --lab {self.lab}"
            )
        if not version.isdigit():
            raise DatasetError(
                f"{self.name}: has schema {version!r}, which no workbench made; move it away, or name another --lab"
            )
        if version > SCHEMA_VERSION:
            raise DatasetError(
                f"{self.name}: has schema {version}, made by a newer workbench; this one knows {SCHEMA_VERSION}: "
                "install the newer workbench"
            )
        raise DatasetError(
            f"{self.name}: has schema {version}, this workbench uses {SCHEMA_VERSION}; "
            f"run workbench dataset upgrade --lab {self.lab}"
        )

    def brought_up(self) -> tuple[str, str, str]:
        """Bring an older data set to this workbench's schema: the version before and after, the name of a copy kept.

        Raises:
            DatasetError: there is none, a newer workbench made it, or it cannot be written.
        """
        if not self.exists():
            raise DatasetError(f"{self.lab}: no data set here; name another --lab")
        before = self.version()
        if before is None or before >= SCHEMA_VERSION:
            self.check_version(before)
            return SCHEMA_VERSION, SCHEMA_VERSION, ""
        if before not in _older_versions():
            raise DatasetError(
                f"{self.name}: has schema {before}, from which no migration of this workbench leads on; open it "
                "with the version that made it"
            )
        copy = self.keep_copy(before)
        self.upgrade()
        return before, SCHEMA_VERSION, copy


def _older_versions() -> set[str]:
    """The schema versions that a migration leads on from."""
    scripts = (Path(__file__).parent / "migrations" / "versions").glob("[0-9]*_*.py")
    return {script.name.partition("_")[0] for script in scripts} - {SCHEMA_VERSION}
