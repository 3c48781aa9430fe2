"""What comes from elsewhere reaches a terminal as text: no escape sequence, no markup, whatever its code page."""

from __future__ import annotations

import io
import sys
import time

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from drivers.foreign_text import shown
from workbench import cli
from workbench.console import progress, terminal
from workbench.console.interrupt import stoppable
from workbench.console.progress import LINE_EVERY_S, Progress, each
from workbench.errors import StoppedError

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
    with Progress(f"read {text}", 2) as shows:
        shows.update(1, text)
    line = capsys.readouterr().err.rstrip("\n")
    assert line
    assert shown(line) == line


def test_a_part_is_told_once_it_takes_long(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def passed(seconds: float) -> str:
        for _ in each("read RAWs", range(4)):
            now[0] += seconds
        return capsys.readouterr().err

    assert passed(LINE_EVERY_S / 4 - 0.1) == ""
    assert passed(LINE_EVERY_S / 2).splitlines() == [
        "read RAWs: 2 of 4 RAWs, 2.5 s each, 0:05 left",
        "read RAWs: 4 of 4 RAWs, 2.5 s each",
    ]


def test_a_part_can_be_stopped_at_every_item() -> None:
    taken = []

    def take() -> None:
        with stoppable("go on") as stop:
            for item in each("read RAWs", range(4)):
                taken.append(item)
                stop.requested = item == 1

    with pytest.raises(StoppedError, match="go on"):
        take()
    assert taken == [0, 1]


def test_on_a_terminal_a_part_has_a_line_in_the_jobs_own_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    with Progress("train", 10) as job:
        for _ in each("read RAWs", range(3)):
            pass
        assert [(task.description, task.completed, task.total) for task in job._bar.tasks] == [
            ("train", 0, 10),
            ("read RAWs", 3, 3),
        ]
        assert job._bar.live.is_started
    assert not job._bar.live.is_started


def commands(command: object, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    inner = getattr(command, "commands", None)
    if not inner:
        return [(path, command)]
    return [found for name, one in inner.items() for found in commands(one, (*path, name))]


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
