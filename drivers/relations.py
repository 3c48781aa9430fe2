"""What makes a set legal beside each parameter's own range: constraints between parameters, and ``when`` they exist.

A set that breaks a constraint is refused where a person or a device wrote it. What a design, a search or a network
proposes is repaired, always in the same way:

1. Where the lesser of two parameters with the same codes is above the greater one, they change places, until none is.
2. What is still broken: from the least on, the greater one is raised to its smallest code that will do.
3. A parameter that does not exist under its choice is at its default, so that sets that do the same are the same set.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from drivers.errors import ParameterError
from drivers.parameter import NAME, Parameter
from drivers.validation_text import short

_CONSTRAINT = re.compile(f"({NAME[1:-1]}) (<=?) ({NAME[1:-1]})")


@dataclass(frozen=True)
class _Pair:
    lesser: int
    greater: int
    equal: bool
    alike: bool

    def holds(self, parameters: Sequence[Parameter], codes: Sequence[int]) -> bool:
        one = parameters[self.lesser].number_of(codes[self.lesser])
        return codes[self.greater] >= parameters[self.greater].least_above(one, equal=self.equal)


class Relations:
    """The constraints and conditions of a space's parameters."""

    def __init__(self, parameters: Sequence[Parameter], constraints: Sequence[str]) -> None:
        """Read them.

        Args:
            parameters: of the space.
            constraints: such as ``threshold_low < threshold_high`` or ``knot_0 <= knot_1``.

        Raises:
            ParameterError: one is not of this form, names what is not there, or cannot be kept.
        """
        self._parameters = tuple(parameters)
        self._place = {p.name: i for i, p in enumerate(parameters)}
        self._pairs = [self._pair(text) for text in sorted(constraints)]
        self._order = self._from_the_least()
        self._bounds = self._room()
        self._when = [(i, *self._condition(p)) for i, p in enumerate(parameters) if p.when is not None]

    def __bool__(self) -> bool:
        return bool(self._pairs or self._when)

    def broken(self, codes: Sequence[int]) -> str | None:
        """The first constraint that codes, in the space's order, break; None where they break none."""
        for pair in self._pairs:
            if not pair.holds(self._parameters, codes):
                lesser, greater = (self._parameters[i] for i in (pair.lesser, pair.greater))
                values = lesser.from_code(codes[pair.lesser]), greater.from_code(codes[pair.greater])
                sign = "<=" if pair.equal else "<"
                return f"{lesser.name} {sign} {greater.name} does not hold: {values[0]} and {values[1]}"
        return None

    def repaired(self, codes: Sequence[int]) -> tuple[int, ...]:
        """The codes with every constraint kept, and what does not exist at its default."""
        found, parameters = list(codes), self._parameters
        if any(not pair.holds(parameters, found) for pair in self._pairs):
            moved = True
            while moved:
                moved = False
                for pair in self._pairs:
                    if pair.alike and found[pair.lesser] > found[pair.greater]:
                        found[pair.lesser], found[pair.greater] = found[pair.greater], found[pair.lesser]
                        moved = True
            for i in self._order:
                low, high = self._bounds[i]
                for pair in self._pairs:
                    if pair.greater == i:
                        one = parameters[pair.lesser].number_of(found[pair.lesser])
                        low = max(low, parameters[i].least_above(one, equal=pair.equal))
                found[i] = min(max(found[i], low), high)
        for i, other, there in self._when:
            if found[other] not in there:
                found[i] = parameters[i].to_code(parameters[i].default)
        return tuple(found)

    def constrained_with(self, name: str) -> set[str]:
        """The parameters that stand in a constraint with one."""
        sides = [{self._parameters[pair.lesser].name, self._parameters[pair.greater].name} for pair in self._pairs]
        return {other for side in sides if name in side for other in side - {name}}

    def _pair(self, text: object) -> _Pair:
        found = _CONSTRAINT.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ParameterError(f"constraint {short(text)} is not of the form NAME < NAME or NAME <= NAME")
        for name in found[1], found[3]:
            if name not in self._place:
                raise ParameterError(f"constraint {text}: there is no parameter {name}")
        one, other = (self._parameters[self._place[name]] for name in (found[1], found[3]))
        if any(p.kind not in ("continuous", "integer") or not p.searched for p in (one, other)):
            raise ParameterError(f"constraint {text}: needs two numbers that are searched")
        if one.when != other.when:
            raise ParameterError(f"constraint {text}: needs parameters that exist under the same choice")
        keys = ("kind", "low_code", "high_code", "step", "offset", "coding")
        alike = all(getattr(one, key) == getattr(other, key) for key in keys)
        return _Pair(self._place[one.name], self._place[other.name], found[2] == "<=", alike)

    def _from_the_least(self) -> list[int]:
        """The constrained parameters, each behind those that are to be below it."""
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for pair in self._pairs:
            sorter.add(self._parameters[pair.greater].name, self._parameters[pair.lesser].name)
        try:
            return [self._place[name] for name in sorter.static_order()]
        except CycleError as error:
            raise ParameterError(f"constraints go round in a circle: {' < '.join(error.args[1])}") from None

    def _room(self) -> dict[int, tuple[int, int]]:
        """Smallest and largest code of each constrained parameter with which the others can be kept."""
        parameters = self._parameters
        low, high = ({i: getattr(parameters[i], end) for i in self._order} for end in ("low_code", "high_code"))
        for i in self._order:
            for pair in (p for p in self._pairs if p.greater == i):
                one = parameters[pair.lesser].number_of(low[pair.lesser])
                low[i] = max(low[i], parameters[i].least_above(one, equal=pair.equal))
        for i in reversed(self._order):
            for pair in (p for p in self._pairs if p.lesser == i):
                one = parameters[pair.greater].number_of(high[pair.greater])
                high[i] = min(high[i], parameters[i].greatest_below(one, equal=pair.equal))
            if low[i] > high[i]:
                raise ParameterError(f"{parameters[i].name}: its constraints leave it no value")
        return {i: (low[i], high[i]) for i in self._order}

    def _condition(self, parameter: Parameter) -> tuple[int, frozenset[int]]:
        """Place of the choice on which a parameter depends, and the codes under which it exists."""
        when = parameter.when
        assert when is not None
        other = self._parameters[self._place[when.parameter]] if when.parameter in self._place else None
        if other is None or other.kind not in ("choice", "bool") or other.when is not None or not when.values:
            raise ParameterError(
                f"{parameter.name}: when needs values of a choice or bool that itself exists always, not "
                f"{short(when.parameter)}"
            )
        return self._place[other.name], frozenset(other.to_code(value) for value in when.values)
