"""What a prediction becomes on the device, and how it is averaged; without torch, for those beside a device too."""

from __future__ import annotations

import numpy as np

from drivers.parameters import ParameterSet

STEP = 0.25
"""What 1 before the sigmoid moves a normalised parameter on top of a rule: the sigmoid's slope in its middle, so that
one learning rate suits both forms."""
# A picture needs the same parameters whichever way round it is: the mean over its mirror images errs less.
MIRRORS: tuple[list[int], ...] = ([], [2], [3], [2, 3])
"""Axes of ``[B, 3, H, W]`` that are mirrored."""


def moved(start: ParameterSet, move: np.ndarray) -> ParameterSet:
    """The set with its normalised parameters moved, clipped into their ranges and quantised as the device would.

    Args:
        start: what the rule gives.
        move: ``float [N]``; where it is 0 the code stays as it is.
    """
    space = start.space
    there = space.from_unit(start.unit + move)
    codes = (
        code if by and p.searched else other
        for code, other, by, p in zip(there.codes, start.codes, move, space.parameters, strict=True)
    )
    return ParameterSet(space, tuple(codes))
