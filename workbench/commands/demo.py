"""``workbench demo``: the whole path on the emulated device, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.limits import MANY, SEED
from workbench.commands.task_options import VIEWING, TaskOption


def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo's RAWs, lab and report go.")] = Path("demo"),
    photographs: Annotated[
        Path | None, typer.Option(help="Folder of photographs instead of the sample ones and the lab scenes.")
    ] = None,
    task: TaskOption = VIEWING,
    captures: Annotated[
        int | None,
        typer.Option(
            min=200, max=MANY, help="Captures of the collection and of each search: 4000 for viewing, otherwise 2000."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Seed of everything.")] = 0,
) -> None:
    """Serve the emulated device, make scenes, collect, fit, train, tune, validate on the device, report."""
    if task == VIEWING:
        from workbench.commands.viewing_demo import run_demo

        run_demo(folder, photographs=photographs, captures=captures or 4000, seed=seed)
        return
    if photographs:
        raise typer.BadParameter("--photographs is for --task viewing; a vision task's demo composes its own scenes")
    from workbench.commands.vision_demo import run_vision_demo

    run_vision_demo(folder, task, captures=captures or 2000, seed=seed)
