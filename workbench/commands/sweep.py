"""``workbench sweep``: the command lines of a file, one after another, or at once on a Ray cluster."""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import shlex
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.commands.cluster_option import ClusterOption

# What the framework raises for bad usage; typer has no public name for it.
_REFUSED: type[Exception] = typer.BadParameter.__mro__[2]
_NOT_OF_RESULT = frozenset(("lab", "as_json", "devices", "nodes", "rendezvous"))
TRAINING = ("fit-proxy", "train", "refine", "ablate")
"""Commands that compute long enough for a GPU of their own."""


@dataclass
class Line:
    """A line of the file.

    Attributes:
        number: from 1; ``words``: of the command.
        boards: names of ``lab.toml`` that it has as ``--device``.
        run: folder of the run that it makes; None where the command makes none.
        given: the command's options, as parsed.
        state: ``done``, ``there`` (the run was finished before) or ``failed``.
        told: what it printed; ``error``: of one that failed.
    """

    number: int
    words: list[str]
    boards: tuple[str, ...] = ()
    run: Path | None = None
    given: dict[str, Any] = field(default_factory=dict, repr=False)
    state: str = ""
    told: str = ""
    error: str = ""


def sweep(
    file: Annotated[
        Path,
        typer.Argument(
            help="Text file; each line is a command as after `workbench`, such as train --seed 1 --name seed1; # "
            "begins a comment."
        ),
    ],
    cluster: ClusterOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what came of each line as JSON.")] = False,
) -> None:
    """Run the command lines of a file: seeds, baselines, ablations, sweeps; at once on a Ray cluster.

    Runs that are finished are left as they are; a line that is not the one that made its run fails. A line whose
    --device is a name of lab.toml runs on a host of the cluster that offers a resource of that name, one at a time. A
    line that fails does not end the others.
    """
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.errors import RunError
    from workbench.lab.runs import RunFolder
    from workbench.learn.many_runs import Task, call_on_cluster

    lines = read_lines(file)
    for line in lines:
        if line.run and (line.run / "run.json").is_file() and RunFolder.open(line.run).finished:
            _compare(line, RunFolder.open(line.run).record.command)
    missing = [line for line in lines if not line.state]
    with stoppable("what is done is kept; run the same command again to go on"):
        if cluster and missing:
            with Progress("sweep", len(missing), unit="line") as progress:
                tasks = {
                    line.number: Task(
                        {"folder": str(Path.cwd()), "words": line.words}, line.words[0] in TRAINING, line.boards
                    )
                    for line in missing
                }
                ended = call_on_cluster(cluster, run_in_worker, tasks, progress.update)
            for line in missing:
                _note(line, *ended[line.number])
        for line in lines:
            if not line.state:
                _run_here(line)
            if not as_json:
                _print(line)
    if as_json:
        told = ({**asdict(line), "run": line.run and str(line.run)} for line in lines)
        print(json.dumps([{key: value for key, value in line.items() if key != "given"} for line in told]))
    if failed := [line for line in lines if line.state == "failed"]:
        first = failed[0]
        raise RunError(
            f"{file}: {len(failed)} of {len(lines)} lines failed, the first is line {first.number}: {first.error}; "
            "run the same command again for these alone"
        )


def read_lines(file: Path) -> list[Line]:
    """The lines of the file, each checked as a command line.

    Raises:
        typer.BadParameter: the file cannot be read, or a line is no command that makes something in a lab.
    """
    from drivers.errors import WorkbenchError
    from drivers.regular_files import TEXT_BYTES, read_regular
    from workbench.commands import COMMANDS

    try:
        text = read_regular(file, TEXT_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, WorkbenchError) as error:
        raise typer.BadParameter(f"{file}: {error}") from None
    lines: list[Line] = []
    for number, written in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(written, comments=True)
        except ValueError as error:
            raise typer.BadParameter(f"{file} line {number}: {error}") from None
        if words:
            lines.append(Line(number, words))
    where: dict[Path, int] = {}
    for line in lines:
        at, name = f"{file} line {line.number}", line.words[0]
        if name not in COMMANDS:
            raise typer.BadParameter(f"{at}: no command {name!r}; `workbench --help` lists them")
        try:
            line.given = given = _parsed(line.words)
        except typer.Exit:
            raise typer.BadParameter(f"{at}: asks for help; leave that out") from None
        except _REFUSED as error:
            raise typer.BadParameter(f"{at}: {' '.join(error.format_message().split())}") from None  # type: ignore[attr-defined]
        if "device" not in given and "name" not in given:
            raise typer.BadParameter(f"{at}: {name} makes no run; give one that does, such as train or tune")
        if "name" in given:
            if not given["name"]:
                raise typer.BadParameter(f"{at}: give --name, by which its run is found and taken up again")
            line.run = Path(given["lab"]) / "runs" / given["name"]
            if line.run in where:
                raise typer.BadParameter(f"{at}: line {where[line.run]} has its --name {given['name']} already")
            where[line.run] = line.number
        devices = given.get("device") or ()
        devices = [devices] if isinstance(devices, str) else devices
        line.boards = tuple(dict.fromkeys(d.partition("?")[0] for d in devices if ":" not in d.partition("?")[0]))
    return lines


def _parsed(words: list[str]) -> dict[str, Any]:
    """The options of a command line, each with its value or default."""
    from workbench.commands import register

    app = typer.Typer()
    register(app, words[:1])
    group: Any = typer.main.get_command(app)
    given: dict[str, Any] = group.commands[words[0]].make_context(words[0], words[1:]).params
    return given


def _compare(line: Line, made_by: str | None) -> None:
    """Whether the line is the one that made its finished run: by the options that shape a result."""
    from drivers.foreign_text import shown

    try:
        words = shlex.split(made_by or "")[1:]
        given = _parsed(words) if words[:1] == line.words[:1] else {}
    except (ValueError, typer.Exit, _REFUSED):  # an older workbench's, or a program of the user's own
        given = {}
    differ = [n for n, value in line.given.items() if n not in _NOT_OF_RESULT and given.get(n, ()) != value]
    line.state = "there"
    if differ:
        line.state = "failed"
        line.error = (
            f"its run {line.run and line.run.name} is finished already, made by another line: "
            f"{shown(made_by or 'unknown')}; give this line another --name, or make it that one again"
        )


def run_in_worker(folder: str, words: list[str]) -> tuple[int, str, str]:
    """Run a command line in this process, which the cluster keeps for it alone: exit code, stdout and stderr."""
    os.chdir(folder)
    sys.argv = ["workbench", *words]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_module("workbench.cli", run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return code, out.getvalue(), err.getvalue()


def _run_here(line: Line) -> None:
    from workbench.console.interrupt import check

    check()
    print(f"line {line.number}: workbench {shlex.join(line.words)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "workbench.cli", *line.words]
    with (
        tempfile.TemporaryFile("w+", errors="replace") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True, errors="replace") as made,
    ):
        assert made.stderr is not None
        said = []
        for text in made.stderr:  # its progress, as it comes
            said.append(text)
            print(text, end="", file=sys.stderr, flush=True)
        made.wait()
        out.seek(0)
        told = out.read()
    check()
    _note(line, made.returncode, told, "".join(said))


def _note(line: Line, code: int, out: str, err: str) -> None:
    line.state, line.told = "failed" if code else "done", out
    if code:
        last = next((text for text in reversed(err.splitlines()) if text.strip()), f"exit code {code}")
        line.error = last.removeprefix("error: ")


def _print(line: Line) -> None:
    said = {"there": "its run is finished already", "failed": line.error}.get(line.state, "")
    print(f"line {line.number}: workbench {shlex.join(line.words)}" + (f": {said}" if said else ""))
    if line.told:
        print(line.told, end="")
