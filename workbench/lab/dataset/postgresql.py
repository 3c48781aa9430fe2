"""A data set's database on a PostgreSQL server, as ``[storage] database`` in ``lab.toml`` names it.

Password, and what else the URL leaves out, come from the environment or ``~/.pgpass``: libpq reads them itself.
"""

from __future__ import annotations

import math
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from workbench.errors import DatasetError
from workbench.lab.dataset.database import Database
from workbench.lab.dataset.explained import BUSY_S

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


def _engine(url: str, busy_s: float) -> Engine:
    try:
        parsed = make_url(url)
        options = parsed.query.get("options", "")
        arguments = {
            "connect_timeout": max(2, math.ceil(busy_s)),
            "client_encoding": "utf8",
            "tcp_user_timeout": _GONE_S * 1000,
            "keepalives_idle": _GONE_S // 3,
            "keepalives_interval": _GONE_S // 6,
            "keepalives_count": 4,
            # What is reported is on the disk, whatever the server's default is.
            "options": f"{options} -c lock_timeout={round(busy_s * 1000)} -c synchronous_commit=on",
        }
        engine = create_engine(parsed, connect_args=arguments, pool_pre_ping=True)
    except ArgumentError as error:
        raise DatasetError(f"{url}: is no URL of a database: {error}") from error
    except ImportError as error:
        raise DatasetError(f"{url}: needs psycopg, which is not here; {EXTRA}") from error

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("write"):
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext(current_schema()))")
        else:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    return engine
