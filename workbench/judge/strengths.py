"""Which of a device's parameters figure 5b is about: how strongly noise is reduced, how strongly it sharpens."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

import numpy as np

from drivers.parameters import Parameter, ParameterSpace

Task = Literal["noise reduction", "sharpening"]
TASKS: tuple[Task, Task] = ("noise reduction", "sharpening")
# In blocks' and parameters' names: noise_filter, denoising, bayer_nr, ynr, tnr3d; unsharp_mask, usm, edge_enhancement.
_NAMED = {
    "noise reduction": re.compile(r"(^|_)(noise|denois|[a-z0-9]{0,3}nr[0-9]?d?(_|$))"),
    "sharpening": re.compile(r"(^|_)((un)?sharp|usm|edge|ee(_|$))"),
}
_DESCRIBED = {
    "noise reduction": re.compile(r"denois|noise[ -](reduc|filter|suppress|remov|threshold)", re.IGNORECASE),
    "sharpening": re.compile(r"sharpen|unsharp|edge[ -]enhanc", re.IGNORECASE),
}
_STRENGTH_WORDS = ("strength", "amount", "level", "gain")
_STILL = 1e-3


def parameters_for(space: ParameterSpace, task: Task) -> list[Parameter]:
    """The parameters of a device for one task: of the blocks so named, else those so named, else so described.

    Firmware names its blocks as it likes, so an empty list says that none could be told, not that there are none.
    """
    named, described = _NAMED[task], _DESCRIBED[task]
    return (
        [p for p in space.parameters if named.search(p.block)]
        or [p for p in space.parameters if named.search(p.name)]
        or [p for p in space.parameters if described.search(p.description)]
    )


def strongest(space: ParameterSpace, spreads: np.ndarray, task: Task, held: Collection[str] = ()) -> Parameter | None:
    """Of the numbers among a task's parameters, the strength that the predictions spread most.

    Args:
        space: the device's parameters.
        spreads: ``float [N]``, how far predictions spread in each.
        task: of the two.
        held: parameters that training held; one of them is taken only where all are held.

    Returns:
        The parameter; None where no number could be told to be of the task.
    """
    own = [(float(spreads[space.names.index(p.name)]), p) for p in parameters_for(space, task)]
    own = [item for item in own if item[1].kind in ("continuous", "integer")]
    own = [item for item in own if item[1].name not in held] or own
    # What no prediction moves would be drawn as one line.
    own = [item for item in own if item[0] > _STILL] or own
    # Thresholds and radii are of the block too, but figure 5b is about how strongly it acts.
    strengths = [item for item in own if any(w in item[1].name.split("_") for w in _STRENGTH_WORDS)]
    return max(strengths or own, key=lambda item: item[0])[1] if own else None


def why_none(space: ParameterSpace, task: Task) -> str:
    """Why there is no parameter of a task to draw, without claiming that the device does not do it."""
    if own := parameters_for(space, task):
        names = ", ".join(p.name for p in own)
        return f"No parameter is drawn for {task}: the device's parameters for it ({names}) are no numbers."
    return (
        f"No parameter is drawn for {task}: none of the device's blocks ({', '.join(space.blocks)}) or parameters is "
        "named or described as one."
    )
