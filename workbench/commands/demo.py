"""``workbench demo``: the whole path on the emulated device, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo's RAWs, lab and report go.")] = Path("demo"),
    photographs: Annotated[
        Path | None, typer.Option(help="Folder of photographs instead of the sample ones and the lab scenes.")
    ] = None,
    captures: Annotated[int, typer.Option(min=64, help="Captures of the collection and of each search.")] = 4000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything.")] = 0,
) -> None:
    """Serve the emulated device, make scenes, collect, fit, train, tune, validate on the device, report."""
    from workbench.demo import run_demo

    run_demo(folder, photographs=photographs, captures=captures, seed=seed)
