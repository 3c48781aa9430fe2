"""The options of the commands that serve a task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from workbench.tasks.task import Task

VIEWING = "viewing"


def _known(name: str) -> str:
    """See that there is such a task."""
    if name != VIEWING:
        from workbench.tasks.registry import task_names

        if name not in (names := task_names()):
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(names)}")
    return name


TaskOption = Annotated[
    str,
    typer.Option(
        help="What the images are for: viewing, detection, segmentation, or what a package adds.",
        callback=_known,
        metavar="TASK",
    ),
]
DetectorOption = Annotated[
    str | None,
    typer.Option(help="Detector of the task: darknet:FILE.cfg, torchvision:NAME, package.module:factory."),
]
AnnotationsOption = Annotated[
    Path | None, typer.Option(help="Objects in the RAWs, COCO format, as `workbench sim coco` writes it.")
]


OnTopOfOption = Annotated[
    str | None,
    typer.Option(
        help="Learn a difference to a rule: a tune run, or fixed, industry, … for the newest of that rule. Untrained, "
        "the predictor is the rule."
    ),
]


def asked_task(
    name: str, detector: str | None, annotations: Path | None, viewing_weight: float = 0.0, loss: str | None = None
) -> Task:
    """The task that the options name.

    Raises:
        typer.BadParameter: options are given to a task that takes none.
        RunError: the task cannot be opened.
    """
    from workbench.lab import trust
    from workbench.tasks.detectors import is_factory
    from workbench.tasks.registry import open_task, takes_options
    from workbench.tasks.task import TaskOptions

    options = TaskOptions(detector, annotations, viewing_weight, loss)
    if loss and name != VIEWING:
        raise typer.BadParameter(f"--loss {loss}: for --task {VIEWING} alone; a detector has its own loss")
    if (named := options.given()) and not takes_options(name):
        raise typer.BadParameter(f"{' and '.join(named)}: for --task detection and --task segmentation alone")
    opened = open_task(name, options)
    if detector and is_factory(detector):
        trust.remember(detector)
    return opened
