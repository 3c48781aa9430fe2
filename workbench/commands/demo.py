"""``workbench demo``: the whole path on the emulated device, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.limits import MANY, SEED
from workbench.commands.task_options import VIEWING, TaskOption


def demo(
    folder: Annotated[
        Path | None,
        typer.Option(help="Where the demo's RAWs, lab and report go; by default demo, or demo-quick with --quick."),
    ] = None,
    photographs: Annotated[
        Path | None, typer.Option(help="Folder of photographs instead of the sample ones and the lab scenes.")
    ] = None,
    task: TaskOption = VIEWING,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A trial run of the same path in minutes, whose figures are no result."),
    ] = False,
    captures: Annotated[
        int | None,
        typer.Option(
            min=200, max=MANY, help="Captures of the collection and of each search: 4000 for viewing, otherwise 2000."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Seed of everything.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all results as JSON; what is done goes to standard error.")
    ] = False,
) -> None:
    """Serve the emulated device, make scenes, collect, fit, train, tune, validate on the device, report.

    For viewing a second table follows: exposure and white balance by rule, and another ISP's renderings as references.
    """
    import contextlib
    import json
    import sys
    from dataclasses import replace

    from workbench.commands import demo_sizes
    from workbench.commands.demo_steps import run_demo

    if photographs and task != VIEWING:
        raise typer.BadParameter("--photographs is for --task viewing; a vision task's demo composes its own scenes")
    if quick and captures:
        raise typer.BadParameter("--captures is for the whole demo; --quick has its own few")
    if quick:
        sizes = demo_sizes.QUICK_VIEWING if task == VIEWING else demo_sizes.QUICK_DETECTOR
    else:
        sizes = demo_sizes.VIEWING if task == VIEWING else demo_sizes.DETECTOR
        sizes = replace(sizes, captures=captures or sizes.captures)
    where = folder or Path("demo-quick" if quick else "demo")
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        done = run_demo(where, task, sizes, photographs=photographs, seed=seed, trial=quick)
    if as_json:
        print(json.dumps(done.to_dict()))
