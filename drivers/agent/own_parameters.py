"""The parameters of one's own ISP, in a line each; registers are given out where none are named."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from drivers.errors import ParameterError
from drivers.parameter import Parameter, Register, Role, Scale

BLOCK = "isp"
"""Where no block is named."""
_BYTES = 4  # of a register that is given out: every code that travels fits


def continuous(
    name: str,
    low: float,
    high: float,
    *,
    step: float,
    default: float | None = None,
    block: str = BLOCK,
    scale: Scale = "linear",
    unit: str = "",
    description: str = "",
    role: Role | None = None,
    register: Register | None = None,
) -> Parameter:
    """A number in steps, such as ``continuous("gamma", 1, 4, step=1 / 256, default=2.2)``.

    Args:
        name: of the parameter; ``block``: the part of the ISP that it belongs to. Both ``[a-z][a-z0-9_]*``.
        low, high: range, inclusive.
        step: what one code is; values are multiples of it.
        default: value after a start; left out, the one nearest to the middle of the range.
        scale: how the range is searched; ``log`` for gains.
        unit, description: for people.
        role: what it is for, of :data:`~drivers.parameter.Role`: ``red_gain`` or ``blue_gain`` for the gain that an
            as-shot white balance sets directly.
        register: where the ISP keeps it; left out, one is given out.

    Raises:
        ParameterError: these do not agree.
    """
    return Parameter(
        name=name,
        block=block,
        kind="continuous",
        low=low,
        high=high,
        step=step,
        scale=scale,
        default=_middle(low, high, scale) if default is None else default,
        unit=unit,
        description=description,
        role=role,
        register=register,
    )


def integer(
    name: str,
    low: int,
    high: int,
    *,
    default: int | None = None,
    block: str = BLOCK,
    scale: Scale = "linear",
    unit: str = "",
    description: str = "",
    role: Role | None = None,
    register: Register | None = None,
) -> Parameter:
    """A whole number, such as ``integer("radius", 1, 7)``; the arguments are those of :func:`continuous`.

    Raises:
        ParameterError: these do not agree.
    """
    return Parameter(
        name=name,
        block=block,
        kind="integer",
        low=low,
        high=high,
        scale=scale,
        default=_whole_middle(low, high, scale) if default is None else default,
        unit=unit,
        description=description,
        role=role,
        register=register,
    )


def choice(
    name: str,
    choices: Sequence[str],
    *,
    default: str | None = None,
    block: str = BLOCK,
    description: str = "",
    register: Register | None = None,
) -> Parameter:
    """One of several words, such as ``choice("demosaic", ["bilinear", "malvar"])``; the first one is the default.

    Raises:
        ParameterError: there are fewer than two, or the default is none of them.
    """
    return Parameter(
        name=name,
        block=block,
        kind="choice",
        choices=choices,  # type: ignore[arg-type]  # a list is taken too, a text is refused
        default=(choices[0] if choices else "") if default is None else default,
        description=description,
        register=register,
    )


def switch(
    name: str,
    *,
    default: bool = False,
    block: str = BLOCK,
    description: str = "",
    register: Register | None = None,
) -> Parameter:
    """On or off, such as ``switch("sharpen", default=True)``."""
    return Parameter(name=name, block=block, kind="bool", default=default, description=description, register=register)


def in_registers(parameters: Iterable[Parameter]) -> tuple[Parameter, ...]:
    """The parameters, each with a register: those without one get 32 bits behind all that are named, in their order.

    Raises:
        ParameterError: a code does not fit 32 bits.
    """
    known = tuple(parameters)
    ends = [p.register.address + p.register.width // 8 for p in known if p.register is not None]
    address = -(-max(ends, default=0) // _BYTES) * _BYTES
    placed = []
    for p in known:
        if p.register is None:
            if not -(2**31) <= p.low_code <= p.high_code < 2**31:
                raise ParameterError(
                    f"{p.name}: codes {p.low_code}..{p.high_code} need more than 32 bits; choose a larger step"
                )
            p = dataclasses.replace(p, register=Register(address=address, width=32, signed=p.low_code < 0))
            address += _BYTES
        placed.append(p)
    return tuple(placed)


def _middle(low: float, high: float, scale: Scale) -> float:
    """The middle as the scale has it; where there is none the range is refused by the parameter itself."""
    if not all(isinstance(end, int | float) for end in (low, high)):
        return math.nan
    if scale == "log" and low > 0 and high > 0:
        return math.sqrt(low * high)
    return (low + high) / 2


def _whole_middle(low: float, high: float, scale: Scale) -> int:
    middle = _middle(low, high, scale)
    return math.floor(middle) if math.isfinite(middle) else 0
