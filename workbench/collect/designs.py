"""How the parameter sets of a campaign are spread over the space."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from drivers.errors import WorkbenchError

if TYPE_CHECKING:  # the command line imports the designs' names, and NumPy takes it 0.2 s
    import numpy as np

    from drivers.parameters import ParameterSet, ParameterSpace


class Design(StrEnum):
    """How the parameter sets are chosen: scrambled Sobol', Latin hypercube, uniform near given points, or near what a
    tuned rule gives for each RAW (:mod:`workbench.collect.around_rule`).
    """

    SOBOL = "sobol"
    LHS = "lhs"
    AROUND = "around"
    AROUND_RULE = "around-rule"


class CampaignError(WorkbenchError):
    """A campaign that cannot be planned."""


def points(
    space: ParameterSpace, design: Design, captures: int, seed: int, around: Sequence[ParameterSet], spread: float
) -> np.ndarray:
    """The design's points, ``float64 [≥ captures, N]`` in [0, 1]; see :func:`workbench.collect.campaign.plan`.

    Raises:
        CampaignError: ``spread`` is outside (0, 1], or the points would depend on the RAW.
    """
    import numpy as np

    if design is Design.AROUND_RULE:
        raise CampaignError(f"design {design} needs stored RAWs: what a rule gives follows from the RAW")
    if not 0 < spread <= 1:
        raise CampaignError(f"spread {spread:g} is outside (0, 1]")
    centres = [c.unit for c in around] or [space.defaults.unit]
    dimensions = len(space)
    # Points that quantise to a pair that was there are passed over, so a few more are drawn than are needed.
    # (Not so for lhs: part of a Latin hypercube is none.)
    count = captures if design is Design.LHS else captures + captures // 4 + 64
    if design is Design.AROUND:
        random = np.random.default_rng([seed, 1])
        middle = np.array([centres[i % len(centres)] for i in range(count)])
        low, high = np.maximum(middle - spread, 0), np.minimum(middle + spread, 1)
        return np.asarray(low + random.random((count, dimensions)) * (high - low))
    from scipy.stats import qmc

    if design is Design.LHS:
        return np.asarray(qmc.LatinHypercube(dimensions, seed=seed).random(count))
    # Whole powers of two keep the sequence balanced; the first points do not depend on how many follow.
    return np.asarray(qmc.Sobol(dimensions, scramble=True, seed=seed).random_base2((count - 1).bit_length()))
