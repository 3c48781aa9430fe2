"""Which of a device's parameters figure 5b is about: how strongly noise is reduced, how strongly it sharpens."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np

from drivers.parameter import Role
from drivers.parameters import Parameter, ParameterSpace
from workbench.rules.roles import NOISE_REDUCTION, of_role, tells_roles

Task = Literal["noise reduction", "sharpening"]
TASKS: tuple[Task, Task] = ("noise reduction", "sharpening")
_ROLES: dict[Task, tuple[Role, ...]] = {"noise reduction": NOISE_REDUCTION, "sharpening": ("sharpening",)}
_STRENGTH_WORDS = ("strength", "amount", "level", "gain")
_STILL = 1e-3


def parameters_for(space: ParameterSpace, task: Task) -> list[Parameter]:
    """The parameters of a device for one task; see :func:`~workbench.rules.roles.of_role`."""
    return of_role(space, *_ROLES[task])


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
    named = [item for item in own if any(w in item[1].name.split("_") for w in _STRENGTH_WORDS)]
    strengths = own if tells_roles(space) else named
    return max(strengths or own, key=lambda item: item[0])[1] if own else None


def why_none(space: ParameterSpace, task: Task) -> str:
    """Why there is no parameter of a task to draw, without claiming that the device does not do it."""
    if own := parameters_for(space, task):
        names = ", ".join(p.name for p in own)
        return f"No parameter is drawn for {task}: the device's parameters for it ({names}) are no numbers."
    if tells_roles(space):
        return f"No parameter is drawn for {task}: the device tells none of the role {' or '.join(_ROLES[task])}."
    return (
        f"No parameter is drawn for {task}: none of the device's blocks ({', '.join(space.blocks)}) or parameters is "
        "named or described as one."
    )
