"""A PostgreSQL of the tests' own: in a folder of its own, on a Unix socket there, ended by them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine

PORT = 5432  # names the socket's file; no network port is opened
DEADLINE_S = 60
_NOBODY = 65534

KeptIn = Callable[[Path], Path]

# Runs a test of what is kept on either database; its fixture ``kept_in`` makes the lab folders.
on_both = pytest.mark.parametrize("kept_in", ["sqlite", "postgresql"], indirect=True)


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs; skips the test where there is none."""
    if found := shutil.which(name):
        return found
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / name).is_file():
            return str(folder / name)
    return pytest.skip(f"PostgreSQL is absent: no program {name} (Debian: apt-get install postgresql)")


class PostgresqlServer:
    """A running server. It refuses to be root, so that root runs it as nobody."""

    def __init__(self) -> None:
        initdb, self._pg_ctl = program("initdb"), program("pg_ctl")
        self._as: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path is at most 107 bytes long
        if os.geteuid() == 0:
            if (setpriv := shutil.which("setpriv")) is None:
                pytest.skip("root needs setpriv to start PostgreSQL, which refuses to run as root")
            self._as = [setpriv, f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
            os.chown(self.folder, _NOBODY, _NOBODY)
        self._run(initdb, "-D", str(self.folder / "data"), "-U", "isp", "-A", "trust", "-E", "UTF8", "--no-sync")
        self._count = 0
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # Of the machine's own failing nothing is tested: fsync is for that alone.
        options = f"-k {self.folder} -p {PORT} -c listen_addresses= -c fsync=off -c shared_buffers=16MB"
        self._control("start", "-o", options, "-l", str(self.folder / "log"))

    def stop(self, mode: str = "immediate") -> None:
        """End it; ``immediate`` as a crash does, with what was committed to be found again from its log."""
        self._control("stop", "-m", mode)

    def remove(self) -> None:
        """End it and its folder."""
        self.stop()
        shutil.rmtree(self.folder)

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        self._count += 1
        name = f"lab{self._count}"
        self.execute("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
        return self._url(name)

    def execute(self, database: str, *statements: str) -> None:
        """Run statements, each by itself."""
        engine = create_engine(self._url(database), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://isp@/{database}?host={self.folder}&port={PORT}"

    def _control(self, *words: str) -> None:
        self._run(self._pg_ctl, *words, "-w", "-t", str(DEADLINE_S), "-D", str(self.folder / "data"))

    def _run(self, *words: str) -> None:
        # The server keeps what it inherits open: a pipe would never end.
        with (self.folder / "said").open("w") as said:
            done = subprocess.run(
                [*self._as, *words], stdout=said, stderr=said, stdin=subprocess.DEVNULL, cwd="/", timeout=120
            )
        assert done.returncode == 0, (self.folder / "said").read_text()
