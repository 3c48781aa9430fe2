"""The edge of the command line: errors that nobody foresaw, consoles of other code pages, help in brackets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from workbench import cli


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException) -> str:
    """What ``main`` prints on stderr when a command ends with this error."""

    def command() -> None:
        raise error

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(cli, "_register", lambda: None)
    monkeypatch.setattr(sys, "argv", ["workbench"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        ValueError("two\nlines"),
        KeyError("name"),
        UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"),
        RecursionError(),
        MemoryError(),
        OverflowError("too large \x1b[31m"),
        AssertionError(),
    ],
    ids=lambda e: type(e).__name__,
)
def test_an_unforeseen_error_is_one_line_and_its_trace_a_private_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, error: Exception
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told = run(monkeypatch, capsys, error)
    assert told.count("\n") == 1
    assert told.startswith(f"error: unforeseen {type(error).__name__}")
    assert "\x1b" not in told
    (file,) = tmp_path.glob("workbench-error-*.txt")
    assert str(file) in told
    assert "Traceback" in file.read_text(encoding="utf-8")
    if os.name == "posix":
        assert file.stat().st_mode & 0o077 == 0


def test_it_does_not_fail_where_the_trace_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    told = run(monkeypatch, capsys, ValueError("odd"))
    assert told.count("\n") == 1
    assert "its trace could not be written" in told


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1251", "latin-1"])
def test_a_console_of_another_code_page_gets_escapes(encoding: str) -> None:
    command = [sys.executable, "-m", "workbench.cli", "device", "info", "sim:sim20"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "100"}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    done.stdout.decode(encoding)


def test_a_file_name_that_is_no_utf_8_is_told(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/r\xe9.dng"
    command = [os.fsencode(sys.executable), b"-m", b"workbench.cli", b"predict", odd]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert b"Traceback" not in done.stderr


def _commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        return [(path, command)]
    return [found for name, sub in command.commands.items() for found in _commands(sub, (*path, name))]


def test_no_help_loses_what_stands_in_brackets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    app = typer.Typer()
    monkeypatch.setattr(cli, "app", app)
    cli._register()
    found = 0
    for path, command in _commands(get_command(app)):
        texts = [command.help or "", *(getattr(p, "help", "") or "" for p in command.params)]
        wanted = {word.replace("\\", "") for text in texts for word in re.findall(r"\\?\[[a-z._]+\]", text)}
        if not wanted:
            continue
        with pytest.raises(SystemExit):
            get_command(app).main([*path, "--help"])
        told = capsys.readouterr().out
        for word in wanted:
            found += 1
            assert word in told, f"{' '.join(path)} --help"
    assert found
