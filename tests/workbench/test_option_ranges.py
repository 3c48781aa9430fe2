"""Numbers that no sensible use comes near are bad usage, for every option of every command that takes a number."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import typer
from typer.main import get_command

import workbench.commands
from workbench import cli

ODD = ("nan", "inf", "-inf", "1e300", "-1", "1" + "0" * 30, "1" + "0" * 5000, "0x10", "\udcff", "\x1b[31m", "")


def numbers(command: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str]]:
    if inner := getattr(command, "commands", None):
        return [found for name, each in inner.items() for found in numbers(each, (*path, name))]
    kinds = {p.opts[0]: p.type_descriptor.annotation for p in command.params if hasattr(p, "type_descriptor")}
    return [(path, option) for option, kind in kinds.items() if kind in (int, float)]


def _every() -> Any:
    app = typer.Typer()
    workbench.commands.register(app)
    return get_command(app)


EVERY = _every()
"""Every command, built once: that takes longer than what is asked of it hundreds of times."""
OPTIONS = numbers(EVERY)


def test_there_are_such_options() -> None:
    assert len(OPTIONS) > 30
    assert {"--deadline", "--seed", "--captures", "--batch", "--spread", "--oracle-captures"} <= {o for _, o in OPTIONS}


@pytest.mark.parametrize(("path", "option"), OPTIONS, ids=[f"{' '.join(p)} {o}" for p, o in OPTIONS])
def test_odd_numbers_are_bad_usage(
    path: tuple[str, ...], option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_register", lambda: None)
    monkeypatch.setattr(cli, "app", EVERY)
    for odd in ODD:
        if option == "--tolerance" and (odd in ("inf", "1e300") or odd.startswith("10")):
            continue  # anything agrees then
        # Required options are left out: a number that is let in starts nothing, and the message names another option.
        monkeypatch.setattr(sys, "argv", ["workbench", *path, f"{option}={odd}"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        last = capsys.readouterr().err.splitlines()[-1]
        assert stop.value.code == 2, odd
        assert last.startswith("error: ")
        assert option in last, (odd, last)
        assert "\x1b" not in last


@pytest.mark.parametrize(
    "arguments",
    [
        *(("sim", "scenes", "out", "--size", size) for size in ("1x", "999999x2", "-1x2", "9" * 5000 + "x1", "nan")),
        *(
            ("ablate", "--device", "sim:sim20", "--seeds", seeds)
            for seeds in ("-1", "9" * 11, "9" * 5000, "nan", "1;2")
        ),
    ],
)
def test_numbers_within_texts(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_register", lambda: None)
    monkeypatch.setattr(cli, "app", EVERY)
    monkeypatch.setattr(sys, "argv", ["workbench", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
