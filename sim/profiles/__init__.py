"""The profiles of the emulated ISP: their parameter spaces and hand-set expert parameters.

``NAME.toml`` lists the parameters in the order of the pipeline; a profile that ``extends`` another one adds its own
behind those of the other. ``NAME_expert.toml`` is a parameter set as :meth:`ParameterSpace.to_toml` writes it.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from drivers.errors import ParameterError
from drivers.parameters import ParameterSet, ParameterSpace

NAMES: tuple[str, ...] = ("sim20", "sim32")
_FOLDER = Path(__file__).parent
_FIRST_REGISTER = 0x0100


@cache
def space(name: str) -> ParameterSpace:
    """The parameter space of a profile.

    Raises:
        ParameterError: no such profile; the message lists those that exist.
    """
    if name not in NAMES:
        raise ParameterError(f"no emulated ISP profile {name!r}; known are {', '.join(NAMES)}")
    # Registers are 16 bits wide and lie one behind the other; the fraction bits give the step of a code.
    parameters = []
    for index, entry in enumerate(_entries(name)):
        bits = entry.pop("fraction_bits", 0)
        register = {"address": _FIRST_REGISTER + 2 * index, "width": 16, "signed": entry.get("low", 0) < 0}
        parameters.append({**entry, "step": 2.0**-bits, "register": register})
    return ParameterSpace.from_dict({"name": name, "parameters": parameters})


@cache
def expert(name: str) -> ParameterSet:
    """The hand-set expert parameters of a profile.

    Raises:
        ParameterError: no such profile.
    """
    return space(name).load_toml(_FOLDER / f"{name}_expert.toml")


def _entries(name: str) -> list[dict[str, Any]]:
    document = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    base = _entries(document["extends"]) if "extends" in document else []
    result: list[dict[str, Any]] = base + document["parameter"]
    return result
