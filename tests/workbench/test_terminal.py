"""What comes from elsewhere reaches a terminal as text: no escape sequence, no markup, whatever its code page."""

from __future__ import annotations

import io
import sys

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from drivers.foreign_text import shown
from workbench import cli
from workbench.console import terminal
from workbench.console.progress import Progress

FOREIGN = [
    "\x1b]0;PWNED\x07\x1b[31m",
    "a\x9b31mb",
    "evil\u202egnp.exe",
    "name-\udcff.npz",
    "[/x][bold]",
    ":smile: [link=x]",
    "µ → 漢 ─",
]


def stream(encoding: str) -> tuple[io.BytesIO, io.TextIOWrapper]:
    raw = io.BytesIO()
    return raw, io.TextIOWrapper(raw, encoding=encoding, write_through=True)


@pytest.mark.parametrize("encoding", ["ascii", "cp1251", "cp1252", "cp437", "latin-1", "utf-8"])
@pytest.mark.parametrize("text", FOREIGN)
def test_any_text_is_printed_on_any_console(monkeypatch: pytest.MonkeyPatch, encoding: str, text: str) -> None:
    (out, out_stream), (err, err_stream) = stream(encoding), stream(encoding)
    monkeypatch.setattr(sys, "stdout", out_stream)
    monkeypatch.setattr(sys, "stderr", err_stream)
    from rich.table import Table

    with terminal.guarded():
        print(f"out {text}")
        print(f"err {text}", file=sys.stderr)
        table = Table(text, title=text)
        table.add_row(text)
        terminal.console().print(table)
        terminal.console().print(text)
    for written in (out.getvalue(), err.getvalue()):
        plain = written.decode(encoding)
        assert shown(plain, keep="\n") == plain
    if text.isascii():
        assert out.getvalue().decode(encoding).count(shown(text)) >= 3


@given(st.text(st.characters(), max_size=60))
def test_nothing_that_a_terminal_acts_on_passes(text: str) -> None:
    raw, behind = stream("utf-8")
    guard = terminal.GuardedStream(behind)
    guard.write(text)
    written = raw.getvalue().decode()
    assert shown(written, keep=terminal.LINES) == written
    if text.isascii() and text.isprintable():
        assert written == text


def test_only_text_is_written() -> None:
    with pytest.raises(TypeError):
        terminal.GuardedStream(stream("utf-8")[1]).write(b"")  # type: ignore[arg-type]


def test_streams_that_are_not_there_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with terminal.guarded():
        print("nobody reads this")
    assert sys.stdout is None


@pytest.mark.parametrize("text", FOREIGN)
def test_progress_shows_foreign_text(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with Progress(f"read {text}", 2) as progress:
        progress.update(1, text)
    line = capsys.readouterr().err.rstrip("\n")
    assert line
    assert shown(line) == line


def commands(command: object, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    inner = getattr(command, "commands", None)
    if not inner:
        return [(path, command)]
    return [found for name, each in inner.items() for found in commands(each, (*path, name))]


def every_command() -> list[tuple[tuple[str, ...], object]]:
    import workbench.commands

    app = typer.Typer(rich_markup_mode=None)
    workbench.commands.register(app)
    return commands(typer.main.get_command(app))


EVERY = every_command()


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[" ".join(path) for path, _ in EVERY])
def test_help_says_all_that_its_texts_say(
    path: tuple[str, ...], command: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["workbench", *path, "--help"])
    monkeypatch.setattr(cli, "_register", lambda: None)
    app = typer.Typer(rich_markup_mode=None)
    import workbench.commands

    workbench.commands.register(app)
    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    told = "".join(capsys.readouterr().out.split())
    texts = [command.callback.__doc__, *(getattr(p, "help", None) for p in command.params)]  # type: ignore[attr-defined]
    for text in filter(None, texts):
        assert "".join(text.split()) in told


def test_the_app_itself_takes_no_markup() -> None:
    assert cli.app.rich_markup_mode is None
