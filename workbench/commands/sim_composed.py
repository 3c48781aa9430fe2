"""``workbench sim composed``: composed scenes with boxes and masks, in COCO format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.limits import SEED


def composed(
    folder: Annotated[Path, typer.Argument(help="Where to write images/ and instances.json.")],
    images: Annotated[int, typer.Option(min=1, max=100_000, help="How many images.")] = 200,
    side: Annotated[int, typer.Option(min=64, max=2048, help="Height and width in pixels, even.")] = 160,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Other scenes, with other image ids.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compose scenes of six kinds of objects that need a well-tuned ISP; `workbench sim coco` makes RAWs of them.

    The same arguments give the same files; a set that is complete is left as it is.
    """
    from sim.scenes.composed_scenes import IMAGES, make_composed_set
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress

    with (
        stoppable("the same command begins again and ends with the same files"),
        Progress("images", images, unit="image") as progress,
    ):
        path = make_composed_set(
            folder, images=images, seed=seed, side=side, progress=lambda done, _: progress.update(done)
        )
    if as_json:
        print(json.dumps({"annotations": str(path), "images": str(folder / IMAGES), "count": images}))
        return
    print(f"{path}: the objects of {images} images in {folder / IMAGES}")
