"""What a parameter is for: by the role that the device tells; by names where it tells none."""

from __future__ import annotations

import re

from drivers.parameter import GAINS, Parameter, Role
from drivers.parameters import ParameterSpace

NOISE_REDUCTION: tuple[Role, ...] = ("raw_nr", "luma_nr", "chroma_nr")
# In blocks' and parameters' names: noise_filter, denoising, bayer_nr, ynr, tnr3d; unsharp_mask, usm, edge_enhancement.
_NOISE = re.compile(r"(^|_)(noise|denois|[a-z0-9]{0,3}nr[0-9]?d?(_|$))")
_SHARP = re.compile(r"(^|_)((un)?sharp|usm|edge|ee(_|$))")
_NAMED = {**dict.fromkeys(NOISE_REDUCTION, _NOISE), "sharpening": _SHARP}
_DESCRIBED = {
    **dict.fromkeys(
        NOISE_REDUCTION, re.compile(r"denois|noise[ -](reduc|filter|suppress|remov|threshold)", re.IGNORECASE)
    ),
    "sharpening": re.compile(r"sharpen|unsharp|edge[ -]enhanc", re.IGNORECASE),
}


def tells_roles(space: ParameterSpace) -> bool:
    """Whether a device tells the roles of its parameters.

    Version 1 of the protocol, and data sets of that time, know those of the white balance's gains alone.
    """
    return any(p.role is not None and p.role not in GAINS for p in space.parameters)


def of_role(space: ParameterSpace, *roles: Role) -> list[Parameter]:
    """The parameters of these roles, in the order of the space.

    Where the device tells none, names are looked at: ``digital_gain``, ``black_offset…``; for noise reduction and
    sharpening the blocks so named, else the parameters so named, else those so described. Firmware names its blocks as
    it likes, so an empty list then says that none could be told, not that there are none.
    """
    known = [p for p in space.parameters if p.role in roles]
    if tells_roles(space):
        return known
    found = [p for p in space.parameters if "digital_gain" in roles and p.name == "digital_gain"]
    found += [p for p in space.parameters if "black_level" in roles and p.name.startswith("black_offset")]
    if words := {_NAMED[role]: _DESCRIBED[role] for role in roles if role in _NAMED}:
        found += _by_words(space, list(words), list(words.values()))
    names = {p.name for p in (*known, *found)}
    return [p for p in space.parameters if p.name in names]


def _by_words(space: ParameterSpace, named: list[re.Pattern[str]], described: list[re.Pattern[str]]) -> list[Parameter]:
    return (
        [p for p in space.parameters if any(word.search(p.block) for word in named)]
        or [p for p in space.parameters if any(word.search(p.name) for word in named)]
        or [p for p in space.parameters if any(word.search(p.description) for word in described)]
    )
