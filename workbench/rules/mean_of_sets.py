"""One parameter set of many, by one rule wherever predictions are merged.

Ordered quantities, integers such as a radius or a quality among them, have a meaningful mean: it is taken in the
normalised space (so that a log parameter moves evenly) and rounded to a code, of an integer therefore to the nearest
one. Choices and bools have no order to take a mean in: they take the most frequent code, of equally frequent ones the
lowest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drivers.parameters import Parameter, ParameterSet


def has_order(parameter: Parameter) -> bool:
    """Whether a parameter's codes are quantities, which have a mean; those of choices and bools have none."""
    return parameter.kind in ("continuous", "integer")


def mode_of(codes: Sequence[int]) -> int:
    """The most frequent code, of equally frequent ones the lowest."""
    values, counts = np.unique(codes, return_counts=True)
    return int(values[counts.argmax()])


def mean_of(sets: Sequence[ParameterSet]) -> ParameterSet:
    """The mean of sets of one space, at least one: this module's docstring says what that is."""
    space = sets[0].space
    mean = space.from_unit(np.mean([s.unit for s in sets], axis=0))
    columns = zip(*(s.codes for s in sets), strict=True)
    return ParameterSet(
        space,
        tuple(
            merged if has_order(p) and p.searched else mode_of(column)
            for p, merged, column in zip(space.parameters, mean.codes, columns, strict=True)
        ),
    )
