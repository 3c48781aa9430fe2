"""The options of the commands that serve a task: human viewing, detection or segmentation."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from workbench.tasks.vision import VisionTask


class TaskName(StrEnum):
    """The tasks that an image serves."""

    viewing = "viewing"
    detection = "detection"
    segmentation = "segmentation"


TaskOption = Annotated[TaskName, typer.Option(help="What the images are for.")]
DetectorOption = Annotated[
    str | None,
    typer.Option(help="Detector of the task: darknet:FILE.cfg, torchvision:NAME, package.module:factory."),
]
AnnotationsOption = Annotated[
    Path | None, typer.Option(help="Objects in the RAWs, COCO format, as `workbench sim coco` writes it.")
]


def vision_task(
    task: TaskName, detector: str | None, annotations: Path | None, viewing_weight: float = 0.0
) -> VisionTask | None:
    """The task that the options name; None for human viewing.

    Raises:
        typer.BadParameter: a detector is given for human viewing.
    """
    if task is TaskName.viewing:
        given = {"--detector": detector, "--annotations": annotations, "--viewing-weight": viewing_weight}
        if named := [option for option, value in given.items() if value]:
            raise typer.BadParameter(f"{' and '.join(named)}: for --task detection and --task segmentation alone")
        return None
    from workbench.lab import trust
    from workbench.tasks.detectors import is_factory
    from workbench.tasks.vision import open_task

    name = "detection" if task is TaskName.detection else "segmentation"
    opened = open_task(name, detector, annotations, viewing_weight)  # type: ignore[arg-type]
    if detector and is_factory(detector):
        trust.remember(detector)
    return opened
