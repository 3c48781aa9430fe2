"""A data set's database on a PostgreSQL server, as ``[storage] database`` in ``lab.toml`` names it.

Password, and what else the URL leaves out, come from the environment or ``~/.pgpass``: libpq reads them itself.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.schema import CreateSchema

from workbench.errors import DatasetError
from workbench.lab.dataset.database import Database
from workbench.lab.dataset.explained import BUSY_S
from workbench.lab.lab_config import SCHEME

EXTRA = "run pip install 'isp-workbench[storage]'"
# A server that vanished without a word is given up after this long, in seconds.
_GONE_S = 30


class PostgresqlDatabase(Database):
    """One database, or one schema of it, on a server.

    A writer holds a lock of the data set for its transaction, as on SQLite: so nothing can deadlock, and captures'
    numbers grow in the order in which they became durable. What is written outside of it, files, goes on at once.
    """

    def __init__(self, lab: Path, url: str, busy_s: float = BUSY_S) -> None:
        super().__init__(lab, url, busy_s)
        self.engine = _engine(url, busy_s)

    def exists(self) -> bool:
        """Whether the database has a data set; also so where it is another program's, which its version tells."""
        return self.version() is not None

    def check_place(self) -> None:
        """Nothing: the connection stays with its database, whatever becomes of names."""

    def prepare(self) -> None:
        """Nothing: making a database is its administrator's."""

    def size(self) -> int:
        """Bytes of the whole database."""
        with self.reading() as connection:
            return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())

    def keep_copy(self, version: str) -> str:
        """No copy: an upgrade is one transaction, and backups are the server's."""
        return ""


@contextlib.contextmanager
def studies_engine(lab: Path, url: str, busy_s: float = BUSY_S) -> Iterator[dict[str, Any]]:
    """What SQLAlchemy makes an engine with for Optuna's studies, in a schema of their own beside the data set's.

    Both have a table ``alembic_version``. Within the block others wait: two that make the tables at once would fail.

    Raises:
        DatasetError: the server cannot be reached, or lets no schema be made.
    """
    database = PostgresqlDatabase(lab, url, busy_s)
    try:
        with database.writing() as connection:
            schema = f"{connection.scalar(text('SELECT current_schema()'))}_studies"
            connection.execute(CreateSchema(schema, if_not_exists=True))
        path = '-c search_path="{}"'.format(schema.replace("\\", r"\\").replace(" ", r"\ "))
        with database.writing():
            yield {"creator": _connecting(url, busy_s, path), "pool_pre_ping": True}
    finally:
        database.engine.dispose()


def _engine(url: str, busy_s: float) -> Engine:
    try:
        engine = create_engine(f"{SCHEME}://", creator=_connecting(url, busy_s), pool_pre_ping=True)
    except ImportError as error:
        raise DatasetError(f"{url}: needs psycopg, which is not here; {EXTRA}") from error
    from psycopg import IsolationLevel

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        write = bool(options.get("write"))
        # Both are said with the server's BEGIN, which comes with the first statement.
        native: Any = connection.connection.driver_connection
        native.read_only = not write
        native.isolation_level = None if write else IsolationLevel.REPEATABLE_READ
        if write:
            more = "" if options["durable"] else "set_config('synchronous_commit', 'off', true), "
            # A writer whose host stopped in mid-transaction lets go of the lock before others give up. How long they
            # wait counts, not how long this one would: a short patience is no reason to be put out between statements.
            more += f"set_config('idle_in_transaction_session_timeout', '{round(BUSY_S * 800)}', true)"
            connection.exec_driver_sql(f"SELECT {more}, pg_advisory_xact_lock(hashtext(current_schema()))")

    return engine


def _connecting(url: str, busy_s: float, more: str = "") -> Callable[[], Any]:
    """What makes connections: with deadlines, and ``more`` of the server's options."""
    from workbench.lab.dataset.answering import AnsweringConnection

    try:
        parsed = make_url(url)
        words, given = parsed.get_dialect()().create_connect_args(parsed)
    except ArgumentError as error:
        raise DatasetError(f"{url}: is no URL of a database: {error}") from error
    # What is reported is on the disk, whatever the server's default is.
    own = f"-c lock_timeout={round(busy_s * 1000)} -c synchronous_commit=on"
    arguments = {
        **given,
        "connect_timeout": max(2, math.ceil(busy_s)),
        "client_encoding": "utf8",
        "tcp_user_timeout": _GONE_S * 1000,
        "keepalives_idle": _GONE_S // 3,
        "keepalives_interval": _GONE_S // 6,
        "keepalives_count": 4,
        "options": " ".join(part for part in (given.get("options"), own, more) if part),
    }
    return lambda: AnsweringConnection.connect(*words, **arguments)
