"""What SQLite and PostgreSQL say differently; all other statements of the data set are the same on both.

Text is ordered by its bytes (UTF-8) on both, so that lists and the digest do not depend on a server's locale. Whole
numbers have 64 bits on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, Integer, String
from sqlalchemy.dialects import sqlite

TEXT = String().with_variant(String(collation="C"), "postgresql")
WHOLE = Integer().with_variant(BigInteger(), "postgresql")


def insert(connection: Connection, table: Any) -> Any:
    """An insert of the connection's dialect, with ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    # Only here: the package of PostgreSQL's dialects takes a while to import.
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def put_row(connection: Connection, table: Any, row: dict[str, Any], key: Sequence[str]) -> None:
    """Add a row, or change the one that has its key."""
    statement = insert(connection, table).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=row))


def tables(connection: Connection) -> set[str]:
    """Names of the tables that the data set's name leads to."""
    if connection.dialect.name == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    else:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    return set(connection.exec_driver_sql(query).scalars())


def clock(connection: Connection) -> float:
    """What the database's clock says, in seconds since 1970; all hosts go by it."""
    if connection.dialect.name == "sqlite":
        query = "SELECT (julianday('now') - 2440587.5) * 86400.0"
    else:
        query = "SELECT extract(epoch FROM clock_timestamp())::float8"
    return float(connection.exec_driver_sql(query).scalar_one())


def integrity_problems(connection: Connection) -> Iterator[str]:
    """What the database's own check finds, a line each.

    PostgreSQL has none to ask for: it checks pages as it reads them, and keys that name rows as they are written.
    """
    if connection.dialect.name != "sqlite":
        return
    for line in connection.exec_driver_sql("PRAGMA integrity_check").scalars():
        if line != "ok":
            yield line
    for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield f"row {row} of {table} names a missing row of {parent}"


def numbers_rows_without_gaps(connection: Connection) -> bool:
    """Whether rows' numbers have no gaps while no row is taken out; PostgreSQL also counts what was not added."""
    return connection.dialect.name == "sqlite"


def refusals(dialect: str, table: str, rules: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """Statements that make triggers refuse changes of a table's rows: ``captures are immutable``.

    Args:
        dialect: SQLAlchemy's name of it.
        table: of that name.
        rules: name of the trigger, the event (``UPDATE OF a, b``), and when (empty: always).
    """
    if dialect == "postgresql":
        yield (
            f"CREATE OR REPLACE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{table} are immutable' USING ERRCODE = 'integrity_constraint_violation'; END $$"
        )
    for name, event, when in rules:
        condition = f" WHEN ({when})" if when else ""
        if dialect == "postgresql":
            yield (
                f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW{condition} "
                f"EXECUTE FUNCTION {table}_refuse()"
            )
        else:
            yield (
                f"CREATE TRIGGER {name} BEFORE {event} ON {table}{condition} "
                f"BEGIN SELECT RAISE(ABORT, '{table} are immutable'); END"
            )


def end_refusal(dialect: str, table: str, name: str) -> str:
    """The statement that takes such a trigger away."""
    return f"DROP TRIGGER {name} ON {table}" if dialect == "postgresql" else f"DROP TRIGGER {name}"
