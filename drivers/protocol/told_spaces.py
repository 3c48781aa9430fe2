"""A device's parameter space in INFO, as the version in which it is told has it."""

from __future__ import annotations

from typing import Any

from drivers.errors import ParameterError
from drivers.parameter import GAINS
from drivers.parameters import ParameterSpace
from drivers.protocol.header_fields import show
from drivers.protocol.messages import MessageError

_FIRST = frozenset(
    ("name", "block", "kind", "low", "high", "scale", "step", "choices", "default", "unit", "description", "role")
) | {"register"}
"""What version 1 knows of a parameter."""
_FIRST_REGISTER = frozenset(("address", "width", "signed"))


def told_space(space: ParameterSpace, version: int) -> dict[str, Any]:
    """The space as plain data of a version.

    Raises:
        MessageError: ``version``: it has what this version has no words for.
    """
    told = space.to_dict()
    if version == 1:
        _check_keys(told, "version")
        for parameter in told["parameters"]:
            if parameter["role"] not in GAINS:
                parameter["role"] = None
            _check_first(parameter, "version")
    return told


def take_space(data: Any, version: int) -> ParameterSpace:
    """The device's parameter space, each parameter with a register.

    Raises:
        MessageError: it is none, or has keys that this version does not know.
    """
    _check_printable(data)
    try:
        space = ParameterSpace.from_dict(data)
    except (ParameterError, ValueError, TypeError, ArithmeticError) as error:
        raise MessageError("bad_message", f"header: space: {str(error)[:200]}") from error
    if version == 1:
        _check_keys(data, "bad_message")
        for told in data["parameters"]:
            _check_first(told, "bad_message")
    for parameter in space.parameters:
        if parameter.register is None:
            raise MessageError("bad_message", f"header: space: parameter {parameter.name} has no register")
    return space


def _check_first(parameter: dict[str, Any], code: str) -> None:
    """Refuses what version 1 does not have."""
    register = parameter.get("register") or {}
    later = sorted({*(set(parameter) - _FIRST), *(set(register) - _FIRST_REGISTER)})
    if parameter.get("kind") == "integer" and parameter.get("step", 1) != 1:
        later.append(f"step {parameter['step']:g} of an integer")
    if parameter.get("role") not in (None, *GAINS):
        later.append(f"role {parameter['role']}")
    if later:
        raise MessageError(code, f"parameter {parameter['name']}: {', '.join(later)}: needs version 2 of the protocol")


def _check_keys(space: dict[str, Any], code: str) -> None:
    if later := sorted(set(space) - {"name", "parameters"}):
        raise MessageError(code, f"space: {', '.join(later)}: needs version 2 of the protocol")


def _check_printable(value: Any, where: str = "space", keep: str = "") -> None:
    """Refuses control characters in any text of a space; ``keep``: let through all the same."""
    if isinstance(value, str):
        if not "".join(c for c in value if c not in keep).isprintable():
            raise MessageError("bad_message", f"header: {where} {show(value)} is not printable text")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check_printable(item, f"{where}.{i}")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_printable(key, f"{where}: the key")
            _check_printable(item, f"{where}.{key}", "\n\t" if key == "description" else "")
