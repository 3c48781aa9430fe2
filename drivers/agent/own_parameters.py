"""The parameters of one's own ISP, in a line each; registers are given out where none are named."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from drivers.errors import ParameterError
from drivers.parameter import Coding, Parameter, Register, Role, Scale, When
from drivers.vectors import Form, Vector

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
    offset: float = 0.0,
    coding: Coding = "linear",
    unit: str = "",
    description: str = "",
    role: Role | None = None,
    searched: bool = True,
    when: tuple[str, Sequence[str | bool]] | None = None,
    register: Register | None = None,
) -> Parameter:
    """A number in steps, such as ``continuous("gamma", 1, 4, step=1 / 256, default=2.2)``.

    Args:
        name: of the parameter; ``block``: the part of the ISP that it belongs to. Both ``[a-z][a-z0-9_]*``.
        low, high: range, inclusive.
        step: what one code is; values are ``offset`` and multiples of it, of ``coding`` log2 their logarithms are.
        default: value after a start; left out, the one nearest to the middle of the range.
        scale: how the range is searched; ``log`` for gains.
        unit, description: for people.
        role: what it is for, of :data:`~drivers.parameter.Role`: ``red_gain`` or ``blue_gain`` for the gain that an
            as-shot white balance sets directly.
        searched: whether the bench may choose it; else it stays at its default, or what is set by hand.
        when: name and values of a choice or switch under which it counts: ``when=("denoise", ["bilateral"])``.
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
        offset=offset,
        coding=coding,
        default=_middle(low, high, scale) if default is None else default,
        unit=unit,
        description=description,
        role=role,
        searched=searched,
        when=_when(when),
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
    step: int = 1,
    unit: str = "",
    description: str = "",
    role: Role | None = None,
    searched: bool = True,
    when: tuple[str, Sequence[str | bool]] | None = None,
    register: Register | None = None,
) -> Parameter:
    """A whole number, such as ``integer("radius", 1, 7)``, or ``integer("window", 3, 15, step=2)`` for odd ones.

    The arguments are those of :func:`continuous`; of a step, values count from ``low`` and codes from 0.

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
        step=step,
        offset=0 if step == 1 else low,
        default=_whole_middle(low, high, scale, step) if default is None else default,
        unit=unit,
        description=description,
        role=role,
        searched=searched,
        when=_when(when),
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


@dataclass(frozen=True)
class Several:
    """A vector and the parameters that it is of."""

    vector: Vector
    parameters: tuple[Parameter, ...]


def curve(name: str, knots: Sequence[float], low: float, high: float, *, step: float, **more: Any) -> Several:
    """A curve that does not fall, such as ``curve("tone", [0, 0.25, 0.5, 1], 0, 1, step=1 / 1024)``.

    Its values at the knots (in 0..1) are searched; the function gets them as ``float64 [K]`` by the name, and makes of
    them what it needs, for instance by ``numpy.interp``.

    Args:
        name: of the curve; its parameters are ``NAME_0``, ``NAME_1`` …
        knots: where in 0..1; low, high, step, more: of each value, see :func:`continuous`. Defaults are a straight line
            unless ``default`` gives a value a knot.

    Raises:
        ParameterError: these do not agree.
    """
    line = [low + (high - low) * x for x in knots]
    return _several(name, "curve", [f"{name}_{i}" for i in range(len(knots))], low, high, step, line, knots, more)


def matrix(name: str, low: float, high: float, *, step: float, **more: Any) -> Several:
    """A 3×3 matrix whose rows sum to 1: ``NAME_01``, ``NAME_02``, ``NAME_10`` … are searched, row and column.

    The function gets it whole by the name, ``float64 [3, 3]``. The default is the unit matrix. The arguments are those
    of :func:`curve`.
    """
    names = [f"{name}_{i}{j}" for i in range(3) for j in range(3) if i != j]
    return _several(name, "matrix", names, low, high, step, [0.0] * 6, (), more)


def bands(name: str, count: int, low: float, high: float, *, step: float, **more: Any) -> Several:
    """A number a band, such as gains of frequency bands; ``float64 [count]`` by the name. Arguments: :func:`curve`."""
    middle = [(low + high) / 2] * count
    return _several(name, "bands", [f"{name}_{i}" for i in range(count)], low, high, step, middle, (), more)


def table(name: str, iso: Sequence[float], low: float, high: float, *, step: float, **more: Any) -> Several:
    """A number over ISO: by the name the function gets it for the RAW's ISO, a float. Arguments: :func:`curve`."""
    middle = [(low + high) / 2] * len(iso)
    return _several(name, "table", [f"{name}_{i}" for i in range(len(iso))], low, high, step, middle, iso, more)


def _several(
    name: str,
    form: Form,
    names: Sequence[str],
    low: float,
    high: float,
    step: float,
    line: Sequence[float],
    at: Sequence[float],
    more: dict[str, Any],
) -> Several:
    defaults = more.pop("default", line)
    if not isinstance(defaults, Sequence) or len(defaults) != len(names):
        raise ParameterError(f"vector {name}: default needs {len(names)} values")
    own = tuple(
        continuous(one, low, high, step=step, default=default, **more)
        for one, default in zip(names, defaults, strict=True)
    )
    return Several(Vector(name=name, form=form, parameters=tuple(names), at=tuple(at)), own)


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


def _whole_middle(low: float, high: float, scale: Scale, step: int) -> int:
    middle = _middle(low, high, scale)
    if not (math.isfinite(middle) and isinstance(step, int) and step > 0):
        return 0  # refused by the parameter itself
    return math.floor(middle) if step == 1 else int(low) + int(middle - low) // step * step


def _when(when: tuple[str, Sequence[str | bool]] | None) -> When | None:
    return None if when is None else When(parameter=when[0], values=tuple(when[1]))
