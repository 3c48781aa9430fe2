"""Several parameters that are one thing to the ISP, in few numbers: a curve, a matrix, gains of bands, a table.

Each number is a parameter like any other. The form says what the ISP makes of them (PROTOCOL.md, section 5).
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from drivers.errors import ParameterError
from drivers.parameter import NAME, Parameter
from drivers.validation_text import short

MOST_STATISTICS = 64
Form = Literal["curve", "matrix", "bands", "table"]


@dataclass(frozen=True, kw_only=True)
class Vector:
    """Parameters that belong together.

    Attributes:
        name: of the whole; ``parameters``: names of its numbers, in its own order.
        form: ``curve``: values of a curve that does not fall, at knots; ``matrix``: the six elements beside the
            diagonal of a 3×3 matrix whose rows sum to 1, row by row; ``bands``: one value a band; ``table``: values at
            ISO speeds.
        at: ascending; of a curve, where the knots are in 0..1, evenly spaced where left out; of a table, ISO speeds.
    """

    name: str
    form: Form
    parameters: tuple[str, ...]
    at: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))
        object.__setattr__(self, "at", tuple(float(place) for place in self.at))
        if not isinstance(self.name, str) or not re.fullmatch(NAME[:-1], self.name):
            raise ParameterError(f"vector {short(self.name)}: its name is not 1..63 of a-z, 0-9 and _, a letter first")
        if self.form not in get_args(Form):
            raise ParameterError(f"vector {self.name}: form {short(self.form)} is not {' or '.join(get_args(Form))}")
        count = len(self.parameters)
        if count < 2 or len(set(self.parameters)) < count or (self.form == "matrix" and count != 6):
            raise ParameterError(
                f"vector {self.name}: a {self.form} of {count} parameters; a matrix has 6, others 2 or more"
            )
        needed = {"table": {count}, "curve": {0, count}}.get(self.form, {0})
        rising = all(a < b for a, b in itertools.pairwise(self.at))
        if len(self.at) not in needed or not rising or not np.isfinite(self.at).all():
            raise ParameterError(f"vector {self.name}: at {short(list(self.at))} is not one rising number a parameter")
        if (self.form == "curve" and not all(0 <= x <= 1 for x in self.at)) or (
            self.form == "table" and self.at[0] <= 0
        ):
            raise ParameterError(
                f"vector {self.name}: at {short(list(self.at))}: knots lie in 0..1, ISO speeds above 0"
            )

    @property
    def constraints(self) -> list[str]:
        """What the form asks of the parameters: a curve does not fall."""
        pairs = itertools.pairwise(self.parameters) if self.form == "curve" else ()
        return [f"{one} <= {other}" for one, other in pairs]

    def check(self, parameters: Mapping[str, Parameter]) -> None:
        """See that its parameters are there, and are numbers.

        Raises:
            ParameterError: one is not.
        """
        for name in self.parameters:
            if name not in parameters or parameters[name].kind not in ("continuous", "integer"):
                raise ParameterError(f"vector {self.name}: {short(name)} is no number among the parameters")

    def knots(self) -> np.ndarray:
        """Where a curve's knots are, ``float64 [K]`` in 0..1."""
        return np.array(self.at) if self.at else np.linspace(0, 1, len(self.parameters))

    def value(self, values: Mapping[str, Any], iso: float | None = None) -> np.ndarray | float:
        """What the ISP makes of native values by name.

        A curve's and the bands' values, ``float64 [K]``; the matrix, ``float64 [3, 3]``; of a table the number for the
        ISO speed: linear in its logarithm, beyond the ends that of the end, without an ISO that of the middle knot.
        """
        own = np.array([float(values[name]) for name in self.parameters])
        if self.form == "matrix":
            matrix = np.zeros((3, 3))
            matrix[~np.eye(3, dtype=bool)] = own
            return matrix + np.diag(1 - matrix.sum(axis=1))
        if self.form == "table":
            return float(np.interp(np.log2(iso), np.log2(self.at), own)) if iso else float(own[len(own) // 2])
        return own

    def to_dict(self) -> dict[str, Any]:
        """The vector as plain data."""
        return {**dataclasses.asdict(self), "parameters": list(self.parameters), "at": list(self.at)}


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """A figure that a device tells with each frame, such as the mean that its metering found."""

    name: str
    unit: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(NAME[:-1], self.name):
            raise ParameterError(f"statistic {short(self.name)}: is not 1..63 of a-z, 0-9 and _, a letter first")

    def to_dict(self) -> dict[str, Any]:
        """The statistic as plain data."""
        return dataclasses.asdict(self)
