"""The profiles of the emulated ISP: their parameter spaces and hand-set expert parameters.

``NAME.toml`` lists the parameters in the order of the pipeline; a profile that ``extends`` another one adds its own
behind those of the other, ``without`` some of them, then the numbers of its vectors. ``NAME_expert.toml`` is a
parameter set as :meth:`ParameterSpace.to_toml` writes it.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from drivers.agent.own_parameters import Several, bands, curve, matrix, table
from drivers.errors import ParameterError
from drivers.parameters import ParameterSet, ParameterSpace

NAMES: tuple[str, ...] = ("sim20", "sim32", "sim60")
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
    document = _document(name)
    several = [_several(entry) for entry in document.get("vector", [])]
    parameters = [*_entries(document), *(p.to_dict() for one in several for p in one.parameters)]
    # Registers are 16 bits wide and lie one behind the other.
    for index, entry in enumerate(parameters):
        entry["register"] = {"address": _FIRST_REGISTER + 2 * index, "width": 16, "signed": (entry.get("low") or 0) < 0}
    constraints, vectors = document.get("constraints", []), [one.vector.to_dict() for one in several]
    return ParameterSpace.from_dict(
        {"name": name, "parameters": parameters, "constraints": constraints, "vectors": vectors}
    )


@cache
def expert(name: str) -> ParameterSet:
    """The hand-set expert parameters of a profile.

    Raises:
        ParameterError: no such profile.
    """
    return space(name).load_toml(_FOLDER / f"{name}_expert.toml")


def _document(name: str) -> dict[str, Any]:
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def _entries(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The single parameters; the fraction bits give the step of a code."""
    base = _entries(_document(document["extends"])) if "extends" in document else []
    kept = [entry for entry in base if entry["name"] not in document.get("without", [])]
    for entry in document["parameter"]:
        entry["step"] = 2.0 ** -entry.pop("fraction_bits", 0)
    return [*kept, *document["parameter"]]


def _several(entry: dict[str, Any]) -> Several:
    name, form, low, high = (entry.pop(key) for key in ("name", "form", "low", "high"))
    step = 2.0 ** -entry.pop("fraction_bits")
    match form:
        case "curve":
            return curve(name, entry.pop("at"), low, high, step=step, **entry)
        case "table":
            return table(name, entry.pop("at"), low, high, step=step, **entry)
        case "bands":
            return bands(name, entry.pop("count"), low, high, step=step, **entry)
    return matrix(name, low, high, step=step, **entry)
