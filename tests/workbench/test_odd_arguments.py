"""Every command with arguments as strangers give them: one line of error, exit code 0, 1 or 2, never a traceback."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

import workbench.commands
from drivers.foreign_text import shown
from workbench import cli

ODD_NAME = "odd\x1b[31m[bold][x]\n\u202e$x^"
ODD = ["missing", "file", "fifo", ODD_NAME, f"{ODD_NAME}/a.dng", "deep", "no-utf8-\udcff", "\x00", "", "loop", "folder"]
KINDS = (Path, str, list[str], list[Path])
# These make what they are given as their folder, or serve until they are stopped.
MAKERS = {("demo",), ("device", "share"), ("sim", "serve"), ("sim", "scenes"), ("sim", "coco"), ("sim", "composed")}
STRIDE = 6


def _every() -> Any:
    app = typer.Typer()
    workbench.commands.register(app)
    return get_command(app)


EVERY = _every()
"""Every command, built once: that takes longer than most of what is asked of it."""


def _commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if inner := getattr(command, "commands", None):
        return [found for name, each in inner.items() for found in _commands(each, (*path, name))]
    return [(path, command)]


def _kind(parameter: Any) -> Any:
    return getattr(getattr(parameter, "type_descriptor", None), "annotation", None)


def _arguments(path: tuple[str, ...], command: Any, target: Any, odd: str) -> list[str]:
    given = list(path)
    for parameter in command.params:
        number = "2" if _kind(parameter) is int else "folder"
        value = odd if parameter is target else "sim:sim20" if parameter.name in ("url", "device") else number
        if parameter is target or parameter.required:
            given += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
    if path == ("collect",) and "--raws" not in given:
        given += ["--raws", ODD_NAME]
    return given


def _cases() -> list[list[str]]:
    """Each text option of each command with every sixth of the odd values, another first one each time."""
    cases, turn = [], itertools.count()
    for path, command in _commands(EVERY):
        targets = [p for p in command.params if _kind(p) in KINDS]
        for target in targets if path not in MAKERS else ():
            start = next(turn) % STRIDE
            cases += [_arguments(path, command, target, odd) for odd in ODD[start::STRIDE]]
    return cases


CASES = _cases()


@pytest.fixture
def odd_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "deep").write_text("a=" + "[" * 100_000)
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "loop").symlink_to("loop")
        (tmp_path / ODD_NAME).mkdir()
        (tmp_path / ODD_NAME / "a.dng").write_bytes(b"no picture")
        (tmp_path / ODD_NAME / "b\udcff\x1b[2J.dng").write_bytes(b"no picture")
    return tmp_path


@pytest.mark.parametrize("arguments", CASES, ids=[shown(" ".join(a)).replace("/", "|") for a in CASES])
def test_odd_arguments(
    arguments: list[str], odd_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_register", lambda: None)
    monkeypatch.setattr(cli, "app", EVERY)
    monkeypatch.setattr(sys, "argv", ["workbench", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capfd.readouterr()
    assert stop.value.code in (0, 1, 2)
    for told in (out, err):
        assert "Traceback" not in told
        assert "unexpected" not in told
        assert shown(told, keep="\n\t") == told
    if stop.value.code:
        assert err.splitlines()[-1].startswith("error: ")


def test_every_command_is_tried() -> None:
    assert len(CASES) > 100
    tried = {tuple(case[:2]) for case in CASES} | {tuple(case[:1]) for case in CASES}
    for path, _ in _commands(EVERY):
        assert path in MAKERS or path in tried, path
