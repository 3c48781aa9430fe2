"""White balance that a rule sets for each RAW: as-shot, as the camera believed, or grey-world, from its pixels."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

from drivers.foreign_text import shown
from drivers.frames import RawFrame
from drivers.parameter import GAINS, Role
from drivers.parameters import Parameter, ParameterSet, ParameterSpace

WhiteBalance = Literal["as-shot", "grey-world"]
Gains = tuple[float, float, float]
_CLIPPED = 0.98
_CACHED = 10_000
_grey_world: dict[str, Gains] = {}


class AsShot(Protocol):
    """What as-shot white balance reads of a RAW: a RawRecord or a RawFrame."""

    @property
    def as_shot_wb(self) -> Gains | None:
        """White-balance gains, red, green, blue."""


class Stored(AsShot, Protocol):
    """A RAW of the data set whose frame can be loaded."""

    @property
    def hash(self) -> str:
        """The frame's content hash."""

    def load(self) -> RawFrame:
        """The frame."""


def frame_of(raw: Stored | RawFrame) -> RawFrame:
    """The frame of a RAW of the data set, or the frame itself."""
    return raw if isinstance(raw, RawFrame) else raw.load()


def grey_world(raw: Stored | RawFrame) -> Gains:
    """The gains (red, green = 1, blue) that make the mean of a RAW's unclipped pixels grey; cached by content hash."""
    if raw.hash not in _grey_world:
        planes = frame_of(raw).planes().reshape(3, -1)
        unclipped = planes[:, planes.max(axis=0) < _CLIPPED]
        red, green, blue = np.maximum((unclipped if unclipped.size else planes).mean(axis=1), 1e-4)
        if len(_grey_world) >= _CACHED:
            _grey_world.clear()
        _grey_world[raw.hash] = (float(green / red), 1.0, float(green / blue))
    return _grey_world[raw.hash]


def without_gains(space: ParameterSpace) -> str:
    """What a white balance cannot set on a device with these parameters, in one line; empty where it can set both."""
    missing = [role for role in GAINS if all(p.role != role for p in space.parameters)]
    if not missing:
        return ""
    whole = "the white balance is left to the search" if len(missing) == 2 else "that gain is left to the search"
    return (
        f"{shown(space.name)} has no parameter of the role {' or '.join(missing)}: {whole}, not set for each RAW; "
        "where a parameter is that gain, give it the role in the device's parameter space"
    )


def with_gains(parameters: ParameterSet, gains: Gains | None) -> ParameterSet:
    """The set with its red and blue gain set, clipped into their ranges.

    Unchanged without gains, or where the device has no such parameters.
    """
    if gains is None:
        return parameters
    red, green, blue = gains
    of_role: dict[Role | None, float] = {"red_gain": red / green, "blue_gain": blue / green}
    codes = [
        clipped_code(p, of_role[p.role]) if p.role in GAINS else code
        for p, code in zip(parameters.space.parameters, parameters.codes, strict=True)
    ]
    return ParameterSet(parameters.space, tuple(codes))


def with_as_shot(parameters: ParameterSet, raw: AsShot) -> ParameterSet:
    """The set with the gains of the RAW's as-shot white balance; unchanged where the RAW has none."""
    return with_gains(parameters, raw.as_shot_wb)


def balanced(parameters: ParameterSet, raw: Stored | RawFrame, how: WhiteBalance | None) -> ParameterSet:
    """The set with the gains that ``how`` gives for the RAW; unchanged for None."""
    if how == "grey-world":
        return with_gains(parameters, grey_world(raw))
    return with_as_shot(parameters, raw) if how == "as-shot" else parameters


def clipped_code(parameter: Parameter, value: float) -> int:
    """The code of a native value of a number, clipped into its range."""
    return parameter.nearest(value)
