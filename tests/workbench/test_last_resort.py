"""Errors that nobody foresaw: one line with the file that holds the trace, exit code 1, whatever else fails."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sim_lab import make_lab

from workbench import cli
from workbench.console import last_resort, user_files


class BrokenError(Exception):
    def __str__(self) -> str:
        raise ValueError("not even its text")


def deep(n: int = 0) -> None:
    deep(n + 1)


def undecodable() -> None:
    "µ".encode("ascii")


def raising(error: Exception) -> Callable[..., None]:
    def run(**_: object) -> None:
        raise error

    return run


UNFORESEEN = [
    raising(ValueError("a\nb \x1b[31m [/x]")),
    raising(KeyError("space")),
    raising(MemoryError()),
    raising(OverflowError("int too large")),
    raising(BrokenError()),
    raising(ZeroDivisionError("name-\udcff")),
    lambda **_: deep(),
    lambda **_: undecodable(),
]


def end(run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(cli, "_register", lambda: None)
    monkeypatch.setattr(cli, "app", run)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("error: unexpected ")
    assert "\x1b" not in err
    return err


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    return tmp_path / "state" / "isp-workbench" / "traces"


@pytest.mark.parametrize("run", UNFORESEEN)
def test_one_line_and_a_trace(
    run: Callable[..., None], state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("API_TOKEN", "do-not-tell")
    err = end(run, monkeypatch, capsys)
    (file,) = state.iterdir()
    assert f"the full trace is in {file}; please report it" in err
    text = file.read_text()
    assert "Traceback (most recent call last)" in text
    assert "do-not-tell" not in text
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_secret_keys_are_left_out(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"
    end(raising(ValueError(f'odd line: secret-key = "{secret}"')), monkeypatch, capsys)
    assert secret not in next(state.iterdir()).read_text()


def test_without_a_place_for_the_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").write_text("a file")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "nowhere"))
    err = end(raising(ValueError("x")), monkeypatch, capsys)
    assert "could not be written" in err


def test_a_home_that_cannot_be_written_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").write_text("a file")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    err = end(raising(ValueError("x")), monkeypatch, capsys)
    (file,) = tmp_path.glob("trace-*.txt")
    assert str(file) in err


def test_old_traces_make_room(state: Path) -> None:
    for _ in range(last_resort.KEPT + 3):
        last_resort.told(ValueError("x"))
    assert len(list(state.iterdir())) == last_resort.KEPT


def test_a_thread_ends_in_one_line(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(**_: object) -> None:
        thread = threading.Thread(target=raising(ValueError("in a thread")))
        thread.start()
        thread.join()

    monkeypatch.setattr(cli, "_register", lambda: None)
    monkeypatch.setattr(cli, "app", run)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    err = capsys.readouterr().err
    assert err.startswith("note: a thread ended: unexpected ValueError: in a thread; the full trace is in ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("named", ["", "relative/folder"])
def test_folders_of_the_user(named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", named)
    if sys.platform != "win32":
        assert user_files.config_folder() == tmp_path / ".config" / "isp-workbench"


def test_private_files_are_whole_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.json"
    user_files.write_private(file, b"one")
    user_files.write_private(file, b"two")
    assert file.read_bytes() == b"two"
    assert [p.name for p in file.parent.iterdir()] == ["b.json"]
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_name_that_is_no_utf_8_is_told(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/r\xe9.dng"
    command = [os.fsencode(sys.executable), b"-m", b"workbench.cli", b"predict", odd]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1251", "latin-1"])
def test_a_console_of_another_code_page_gets_escapes(encoding: str) -> None:
    command = [sys.executable, "-m", "workbench.cli", "device", "info", "sim:sim20"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "100"}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    done.stdout.decode(encoding)


@pytest.mark.skipif(os.name != "posix", reason="a shell closes the streams")
def test_streams_that_are_closed_leave_their_numbers_to_no_file(tmp_path: Path) -> None:
    """What is printed to stdout or stderr by a library would land in the file that got its number."""
    lab = make_lab(tmp_path / "lab", captures=0)
    words = "-m workbench.cli dataset info --lab"
    closed = subprocess.run(["sh", "-c", f'"$1" {words} "$2" <&- >&- 2>&-', "sh", sys.executable, str(lab)])
    assert closed.returncode == 0
    opened = """import os, sys; from pathlib import Path; from workbench import cli
cli._open_streams()
with open(sys.argv[1], "wb") as file:
    assert file.fileno() > 2
    os.write(1, b"from C"); os.write(2, b"from C"); print("from Python", flush=True)
"""
    file = tmp_path / "file"
    alone = ["sh", "-c", '"$1" -c "$2" "$3" <&- >&- 2>&-', "sh", sys.executable, opened, str(file)]
    assert subprocess.run(alone).returncode == 0
    assert file.read_bytes() == b""
