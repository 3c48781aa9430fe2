"""One parameter of an ISP and its register: the same value as native, as code and as the paper's number in [0, 1].

:mod:`drivers.parameters` says what the three forms are.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from drivers.errors import ParameterError
from drivers.validation_text import short

Kind = Literal["continuous", "integer", "choice", "bool"]
Scale = Literal["linear", "log"]
Coding = Literal["linear", "log2"]
Role = Literal["red_gain", "blue_gain", "digital_gain", "black_level", "raw_nr", "luma_nr", "chroma_nr", "sharpening"]
GAINS: tuple[Role, Role] = ("red_gain", "blue_gain")
"""The roles that version 1 of the protocol knows."""
Width = Literal[8, 16, 32]
Native = float | int | str | bool
NAME = r"^[a-z][a-z0-9_]{0,62}$"
"""What parameters and blocks may be called."""
_LATER: dict[str, Any] = {"offset": 0.0, "coding": "linear", "searched": True, "when": None}
"""What version 1 of the protocol, and data sets of that time, do not have."""
_MOST_CODE = 2**53  # a float holds every whole number up to there


@dataclass(frozen=True, kw_only=True)
class Register:
    """Where a device keeps a parameter: byte address, width in bits, and whether codes are signed.

    ``bits``: where it is a field of a register that several share, how many bits it has, the lowest being ``low_bit``.

    Raises:
        ParameterError: there is no such register.
    """

    address: int
    width: Width = 16
    signed: bool = False
    low_bit: int = 0
    bits: int | None = None

    def __post_init__(self) -> None:
        if type(self.address) is not int or not 0 <= self.address < 2**32:
            raise ParameterError(f"register address {short(self.address)} is not a whole number in 0..{2**32 - 1}")
        if self.width not in get_args(Width):
            raise ParameterError(f"register width {short(self.width)} is not 8, 16 or 32 bits")
        told = (self.low_bit, self.field_bits)
        if not all(type(n) is int for n in told) or self.low_bit < 0 or not 1 <= self.field_bits <= self._bits_left:
            raise ParameterError(f"bits {short(self.bits)} from {short(self.low_bit)} do not lie in {self.width} bits")

    @property
    def _bits_left(self) -> int:
        return self.width - self.low_bit

    @property
    def field_bits(self) -> int:
        """Bits of the codes."""
        return self.width if self.bits is None else self.bits

    def range(self) -> tuple[int, int]:
        """Smallest and largest code that the register holds."""
        if self.signed:
            return -(1 << (self.field_bits - 1)), (1 << (self.field_bits - 1)) - 1
        return 0, (1 << self.field_bits) - 1

    def put(self, code: int) -> int:
        """The code in its place in the register's word; the whole register holds it as it is."""
        return code if self.bits is None else (code & ((1 << self.bits) - 1)) << self.low_bit

    def take(self, word: int) -> int:
        """The code in a register's word."""
        if self.bits is None:
            return word
        code = word >> self.low_bit & ((1 << self.bits) - 1)
        return code - (1 << self.bits) if self.signed and code >> (self.bits - 1) else code


@dataclass(frozen=True, kw_only=True)
class When:
    """The choice or bool, and the values of it, under which a parameter exists."""

    parameter: str
    values: tuple[str | bool, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))

    def holds(self, values: Mapping[str, Native]) -> bool:
        """Whether the parameter exists with these values of others by name."""
        return values[self.parameter] in self.values

    def __str__(self) -> str:
        return f"{self.parameter} is {' or '.join(str(value) for value in self.values)}"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One tunable parameter.

    Numbers are stored in steps: ``native = offset + code · step``, so a register with 8 fraction bits has
    ``step = 1/256``, and a window of 3, 5 … 15 pixels offset 1 and step 2. With ``coding`` log2 the logarithm is
    stored: ``native = 2 ** (offset + code · step)``. Choices are stored by their index, bools as 0 and 1.

    One that is not ``searched`` stays as it is set by hand, at its default else. One that has a ``when`` counts only
    under these values of a choice, and is at its default under others.

    ``role`` marks the parameters that are treated specially. ``red_gain`` and ``blue_gain``, relative to green, are set
    directly by the as-shot white balance of a RAW, ``digital_gain`` by the exposure; ``black_level`` is held where 3A
    is on; ``raw_nr``, ``luma_nr``, ``chroma_nr`` and ``sharpening`` say how strongly it acts.

    Raises:
        ParameterError: its parts do not agree.
    """

    name: str
    block: str
    kind: Kind
    low: float | None = None
    high: float | None = None
    scale: Scale = "linear"
    step: float = 1.0
    offset: float = 0.0
    coding: Coding = "linear"
    choices: tuple[str, ...] = ()
    default: Native
    unit: str = ""
    description: str = ""
    role: Role | None = None
    searched: bool = True
    when: When | None = None
    register: Register | None = None

    def __post_init__(self) -> None:
        for what in ("low", "high", "step", "offset"):
            if (number := getattr(self, what)) is not None or what in ("step", "offset"):
                object.__setattr__(self, what, self._number(what, number))
        choices = self.choices if isinstance(self.choices, list | tuple) else ("",)
        object.__setattr__(self, "choices", tuple(choices))
        if isinstance(self.default, np.generic):
            object.__setattr__(self, "default", self.default.item())
        self._check_words()
        self._check_range()
        self.to_code(self.default)

    def _number(self, what: str, number: Any) -> float:
        try:
            value = math.nan if isinstance(number, str | bool) else float(number)
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if not math.isfinite(value):
            raise ParameterError(f"{short(self.name)}: {what} {short(number)} is not a finite number")
        return value

    def _check_words(self) -> None:
        for what in ("name", "block"):
            word = getattr(self, what)
            # The end of a line that `$` lets through is no part of a name.
            if not isinstance(word, str) or not re.fullmatch(NAME, word) or word.endswith("\n"):
                raise ParameterError(
                    f"parameter {short(self.name)}: {what} {short(word)} is not 1..63 of a-z, 0-9 and _, a letter first"
                )
        for what, known in (("kind", Kind), ("scale", Scale), ("coding", Coding), ("role", Role)):
            if (word := getattr(self, what)) not in get_args(known) and not (what == "role" and word is None):
                raise ParameterError(f"{self.name}: {what} {short(word)} is not {' or '.join(get_args(known))}")
        if not all(isinstance(text, str) for text in (self.unit, self.description, *self.choices)):
            raise ParameterError(f"{self.name}: unit, description and choices are texts")

    def _check_range(self) -> None:
        if self.kind in ("continuous", "integer"):
            if self.low is None or self.high is None or not self.low < self.high:
                raise ParameterError(f"{self.name}: low {self.low} must be below high {self.high}")
            if not self.step > 0:
                raise ParameterError(f"{self.name}: step {self.step} must be above 0")
            if self.scale == "log" and self.low <= 0:
                raise ParameterError(f"{self.name}: a log scale needs low above 0, not {self.low}")
            if self.coding == "log2" and self.low <= 0:
                raise ParameterError(f"{self.name}: a logarithm needs low above 0, not {self.low}")
            whole = all(n == int(n) for n in (self.low, self.high, self.step, self.offset))
            if self.kind == "integer" and not (whole and self.coding == "linear"):
                raise ParameterError(f"{self.name}: an integer parameter needs integer bounds, a whole step and offset")
            if max(abs(self._steps(self.low)), abs(self._steps(self.high))) > _MOST_CODE:
                raise ParameterError(f"{self.name}: step {self.step:g} is too fine for {self.low:g}..{self.high:g}")
            if self.high_code <= self.low_code or (self.scale == "log" and self.number_of(self.low_code) <= 0):
                raise ParameterError(f"{self.name}: step {self.step:g} is too coarse for {self.low:g}..{self.high:g}")
        if self.kind == "choice" and len(self.choices) < 2:
            raise ParameterError(f"{self.name}: a choice needs at least two choices")
        if self.kind == "choice" and (twice := [c for n, c in enumerate(self.choices) if c in self.choices[:n]]):
            raise ParameterError(f"{self.name}: {short(twice[0])} stands among its choices twice; leave one")
        if self.kind in ("choice", "bool") and self.scale != "linear":
            raise ParameterError(f"{self.name}: a {self.kind} has no numbers to put on a {self.scale} scale")
        if self.register is not None:
            low, high = self.register.range()
            if self.low_code < low or self.high_code > high:
                raise ParameterError(
                    f"{self.name}: codes {self.low_code}..{self.high_code} do not fit its register ({low}..{high})"
                )

    @property
    def meaning(self) -> list[Any]:
        """What its codes mean, as plain data that sorts by name."""
        more: dict[str, Any] = {} if self.offset == 0 else {"offset": self.offset}
        if self.coding != "linear":
            more["coding"] = self.coding
        if self.when is not None:
            more["when"] = [self.when.parameter, sorted(self.when.values), self.to_code(self.default)]
        means = [self.name, self.kind, self.scale, self.low, self.high, self.step, list(self.choices)]
        return [*means, more] if more else means

    def to_dict(self) -> dict[str, Any]:
        """The parameter as plain data, without what came later where it is not used."""
        told = {**dataclasses.asdict(self), "choices": list(self.choices)}
        if self.when is not None:
            told["when"]["values"] = list(self.when.values)
        for key, unused in _LATER.items():
            if told[key] == unused:
                del told[key]
        if self.register is not None and self.register.bits is None:
            del told["register"]["low_bit"], told["register"]["bits"]
        return told

    def _steps(self, native: float) -> float:
        """A number in steps from the offset."""
        return ((math.log2(native) if self.coding == "log2" else native) - self.offset) / self.step

    def number_of(self, code: int) -> float:
        """The number that a code stands for, unrounded; beyond the range too."""
        number = self.offset + code * self.step
        return 2.0**number if self.coding == "log2" else number

    @cached_property
    def low_code(self) -> int:
        """Smallest code of the parameter."""
        return math.ceil(round(self._steps(float(self.low or 0)), 6)) if self.kind in ("continuous", "integer") else 0

    @cached_property
    def high_code(self) -> int:
        """Largest code of the parameter."""
        if self.kind in ("continuous", "integer"):
            return math.floor(round(self._steps(float(self.high or 0)), 6))
        return len(self.choices) - 1 if self.kind == "choice" else 1

    @property
    def levels(self) -> int:
        """Number of distinct codes."""
        return self.high_code - self.low_code + 1

    @property
    def discrete(self) -> bool:
        """Whether the unit interval is cut into one equal bin a value (integer, choice, bool)."""
        return self.kind != "continuous"

    def describe_range(self) -> str:
        """The legal values, for people: ``0.5..8 ×`` or ``bilinear | malvar``."""
        if self.kind == "choice":
            return " | ".join(self.choices)
        if self.kind == "bool":
            return "false | true"
        return f"{self.low:g}..{self.high:g}{' ' + self.unit if self.unit else ''}"

    def to_code(self, value: Any) -> int:
        """Code of a native value.

        Raises:
            ParameterError: the value is of the wrong kind or out of range.
        """
        if self.kind == "choice":
            if value not in self.choices:
                raise ParameterError(f"parameter {self.name}: {short(value)} is not one of {self.describe_range()}")
            return self.choices.index(value)
        if self.kind == "bool":
            if not isinstance(value, bool | np.bool_):
                raise ParameterError(f"parameter {self.name}: {short(value)} is not true or false")
            return int(value)
        if isinstance(value, bool | np.bool_ | str) or not isinstance(value, int | float | np.integer | np.floating):
            raise ParameterError(f"parameter {self.name}: {short(value)} is not a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or not self.low <= number <= self.high:  # type: ignore[operator]
            raise ParameterError(f"parameter {self.name}: {number:g} is outside {self.describe_range()}")
        if self.kind == "integer" and number != int(number):
            raise ParameterError(f"parameter {self.name}: {number:g} is not a whole number")
        if self.kind == "integer" and (number - self.offset) % self.step:
            near = [self.from_code(c) for c in (self.low_code, self.low_code + 1, self.high_code)]
            raise ParameterError(f"parameter {self.name}: {number:g} is not one of {near[0]}, {near[1]} … {near[2]}")
        return min(max(round(self._steps(number)), self.low_code), self.high_code)

    def check_code(self, code: int) -> None:
        """See that a code is one of the parameter's.

        Raises:
            ParameterError: it is outside the parameter's range.
        """
        if not self.low_code <= code <= self.high_code:
            raise ParameterError(
                f"parameter {self.name}: register code {code} is outside {self.low_code}..{self.high_code}"
            )

    def from_code(self, code: int) -> Native:
        """Native value of a code.

        Raises:
            ParameterError: the code is outside the parameter's range.
        """
        self.check_code(code)
        if self.kind == "choice":
            return self.choices[code]
        if self.kind == "bool":
            return bool(code)
        if self.kind == "integer":
            return int(self.number_of(code))
        return min(max(float(f"{self.number_of(code):.12g}"), float(self.low or 0)), float(self.high or 0))

    def to_unit(self, code: int) -> float:
        """Normalised value in [0, 1] of a code: the bin's centre for discrete kinds."""
        if self.discrete and self.scale == "linear":
            return (code - self.low_code + 0.5) / self.levels
        low, high, value = (self.number_of(c) for c in (self.low_code, self.high_code, code))
        if self.scale == "log":
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def from_unit(self, unit: float) -> int:
        """Code nearest to a normalised value; values outside [0, 1] are clipped."""
        if not math.isfinite(unit):
            raise ParameterError(f"parameter {self.name}: normalised value {unit} is not finite")
        unit = min(max(float(unit), 0.0), 1.0)
        if self.discrete and self.scale == "linear":
            return self.low_code + min(int(unit * self.levels), self.levels - 1)
        low, high = self.number_of(self.low_code), self.number_of(self.high_code)
        value = low * (high / low) ** unit if self.scale == "log" else low + unit * (high - low)
        return min(max(round(self._steps(value)), self.low_code), self.high_code)

    def nearest(self, number: float) -> int:
        """The code nearest to a number, which may be infinite or beyond the range; the end's code there."""
        if number <= 0 and self.coding == "log2":
            return self.low_code
        return round(min(max(self._steps(number), self.low_code), self.high_code))

    def least_above(self, number: float, *, equal: bool) -> int:
        """The smallest code whose number is above another (``equal``: or as large), be it beyond the range."""
        if number <= 0 and self.coding == "log2":
            return self.low_code
        code = math.ceil(round(self._steps(number), 6))
        return code if equal or round(self._steps(number), 6) < code else code + 1

    def greatest_below(self, number: float, *, equal: bool) -> int:
        """The largest code whose number is below another (``equal``: or as small), be it beyond the range."""
        if number <= 0 and self.coding == "log2":
            return self.low_code - 1
        code = math.floor(round(self._steps(number), 6))
        return code if equal or round(self._steps(number), 6) > code else code - 1
