"""Errors of databases and of the file system, each as one line that says what to do."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from drivers.foreign_text import shown
from workbench.errors import DatasetError

BUSY_S = 10.0
DISK_FULL = "the disk is full; free some space and run the same command again, what was reported is kept"
READ_ONLY = "the file or its folder is read-only; make it writable or use another --lab"
_SERVER_READ_ONLY = "the server takes no changes (it is a standby, or its data set was set read-only); name the primary"
_CHECK_SERVER = (
    "check that PostgreSQL runs there, its name, the user and the password (PGHOST, PGUSER, PGPASSWORD, ~/.pgpass)"
)


class ServerLostError(DatasetError):
    """The database's server cannot be reached, or went away while it was asked."""


@contextlib.contextmanager
def explained(place: Path | str, busy_s: float = BUSY_S) -> Iterator[None]:
    """Turn errors of the database and of the file system into one DatasetError that says what to do."""
    try:
        yield
    except DBAPIError as error:
        raise _explain(place, busy_s, error.orig) from error
    except sqlite3.Error as error:
        raise _explain(place, busy_s, error) from error
    except OSError as error:
        at = error.filename or place
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DatasetError(f"{at}: {DISK_FULL}") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise DatasetError(f"{at}: {READ_ONLY}") from error
        raise DatasetError(f"{at}: cannot be written: {error.strerror or error}; use another --lab") from error


def _explain(place: Path | str, busy_s: float, error: BaseException | None) -> DatasetError:
    if hasattr(error, "sqlstate"):
        return _of_postgresql(place, busy_s, error)
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
    return DatasetError(f"{place}: {text}")


def _of_postgresql(place: Path | str, busy_s: float, error: BaseException | None) -> DatasetError:
    state = getattr(error, "sqlstate", None) or ""
    said = shown(next((line for line in str(error).splitlines() if line.strip()), type(error).__name__))
    if state == "55P03":
        text = f"locked by another program for more than {busy_s:g} s; close that one and run the same command again"
    elif state == "53100":
        text = DISK_FULL
    elif state == "25006":
        text = _SERVER_READ_ONLY
    elif state in ("28P01", "28000", "3D000"):
        text = f"the server refused: {said}; {_CHECK_SERVER}"
    elif state.startswith(("08", "57P")) or (not state and _of_the_connection(error)):
        return ServerLostError(f"{place}: cannot be reached: {said}; {_CHECK_SERVER}")
    else:
        text = f"the database refused: {said}"
    return DatasetError(f"{place}: {text}")


def _of_the_connection(error: BaseException | None) -> bool:
    return any(kind.__name__ == "OperationalError" for kind in type(error).__mro__)
