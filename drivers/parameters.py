"""Parameters of an ISP: their space, their values in native units, and the paper's normalised vector.

A value exists in three forms:

* **native**: what a person writes (``2.2``, ``"malvar"``, ``true``), in the parameter's unit;
* **code**: the integer that the device's register holds (fixed point for continuous parameters);
* **unit**: the paper's normalised value in [0, 1] (equation 1), one float for each parameter.

The code is the truth. Native and unit values are quantised to it, so two spellings of one setting are one setting.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from drivers.errors import ParameterError
from drivers.regular_files import TEXT_BYTES, read_regular
from drivers.validation_text import fault_in_words, short

Kind = Literal["continuous", "integer", "choice", "bool"]
Scale = Literal["linear", "log"]
Native = float | int | str | bool
MOST_PARAMETERS = 1024
_MOST_CODE = 2**53  # a float holds every whole number up to there


class Register(BaseModel):
    """Where a device keeps a parameter: byte address, width in bits, and whether codes are signed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: int = Field(ge=0, lt=2**32)
    width: Literal[8, 16, 32] = 16
    signed: bool = False

    def range(self) -> tuple[int, int]:
        """Smallest and largest code that the register holds."""
        if self.signed:
            return -(1 << (self.width - 1)), (1 << (self.width - 1)) - 1
        return 0, (1 << self.width) - 1


class Parameter(BaseModel):
    """One tunable parameter.

    Continuous parameters are stored in steps: ``code = round(native / step)``, so a register with 8 fraction bits has
    ``step = 1/256``. Choices are stored by their index, bools as 0 and 1.

    ``role`` marks the parameters that the as-shot white balance of a RAW sets directly: the gains of the red and the
    blue channel relative to green.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    block: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    kind: Kind
    low: float | None = None
    high: float | None = None
    scale: Scale = "linear"
    step: float = 1.0
    choices: tuple[str, ...] = ()
    default: Native
    unit: str = ""
    description: str = ""
    role: Literal["red_gain", "blue_gain"] | None = None
    register_: Register | None = Field(default=None, alias="register")

    @model_validator(mode="after")
    def _check(self) -> Parameter:
        for what, number in (("low", self.low), ("high", self.high), ("step", self.step)):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{self.name}: {what} {number} is not a finite number")
        if self.kind in ("continuous", "integer"):
            if self.low is None or self.high is None or not self.low < self.high:
                raise ValueError(f"{self.name}: low {self.low} must be below high {self.high}")
            if not self.step > 0:
                raise ValueError(f"{self.name}: step {self.step} must be above 0")
            if self.scale == "log" and self.low <= 0:
                raise ValueError(f"{self.name}: a log scale needs low above 0, not {self.low}")
            if self.kind == "integer" and (self.step != 1 or self.low != int(self.low) or self.high != int(self.high)):
                raise ValueError(f"{self.name}: an integer parameter needs integer bounds and step 1")
            if max(abs(self.low), abs(self.high)) / self.step > _MOST_CODE:
                raise ValueError(f"{self.name}: step {self.step:g} is too fine for {self.low:g}..{self.high:g}")
            if self.high_code <= self.low_code or (self.scale == "log" and self.low_code < 1):
                raise ValueError(f"{self.name}: step {self.step:g} is too coarse for {self.low:g}..{self.high:g}")
        if self.kind == "choice" and len(self.choices) < 2:
            raise ValueError(f"{self.name}: a choice needs at least two choices")
        if self.register_ is not None:
            low, high = self.register_.range()
            if self.low_code < low or self.high_code > high:
                raise ValueError(
                    f"{self.name}: codes {self.low_code}..{self.high_code} do not fit its register ({low}..{high})"
                )
        self.to_code(self.default)
        return self

    @cached_property
    def low_code(self) -> int:
        """Smallest code of the parameter."""
        return math.ceil(round(float(self.low or 0) / self.step, 6)) if self.kind in ("continuous", "integer") else 0

    @cached_property
    def high_code(self) -> int:
        """Largest code of the parameter."""
        if self.kind in ("continuous", "integer"):
            return math.floor(round(float(self.high or 0) / self.step, 6))
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
        return min(max(round(number / self.step), self.low_code), self.high_code)

    def from_code(self, code: int) -> Native:
        """Native value of a code.

        Raises:
            ParameterError: the code is outside the parameter's range.
        """
        if not self.low_code <= code <= self.high_code:
            raise ParameterError(
                f"parameter {self.name}: register code {code} is outside {self.low_code}..{self.high_code}"
            )
        if self.kind == "choice":
            return self.choices[code]
        if self.kind == "bool":
            return bool(code)
        if self.kind == "integer":
            return int(code)
        return min(max(float(f"{code * self.step:.12g}"), float(self.low or 0)), float(self.high or 0))

    def to_unit(self, code: int) -> float:
        """Normalised value in [0, 1] of a code: the bin's centre for discrete kinds."""
        if self.discrete and self.scale == "linear":
            return (code - self.low_code + 0.5) / self.levels
        low, high, value = self.low_code * self.step, self.high_code * self.step, code * self.step
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
        low, high = self.low_code * self.step, self.high_code * self.step
        value = low * (high / low) ** unit if self.scale == "log" else low + unit * (high - low)
        return min(max(round(value / self.step), self.low_code), self.high_code)


def parameters_hash(codes: Mapping[str, int]) -> str:
    """The canonical hash of codes by name, 64 hexadecimal digits.

    SHA-256 of the ASCII lines ``name=code\\n`` sorted by name: the same for every order of keys and spelling of
    numbers, and simple enough for firmware to compute.
    """
    return hashlib.sha256("".join(f"{n}={codes[n]}\n" for n in sorted(codes)).encode("ascii")).hexdigest()


@dataclass(frozen=True)
class ParameterSet:
    """One point of a parameter space: a code for each parameter, in the order of the space."""

    space: ParameterSpace = field(repr=False, compare=False)
    codes: tuple[int, ...]

    @cached_property
    def values(self) -> dict[str, Native]:
        """Native values by name, in the order of the space."""
        return {p.name: p.from_code(c) for p, c in zip(self.space.parameters, self.codes, strict=True)}

    @cached_property
    def unit(self) -> np.ndarray:
        """The paper's vector: ``float64 [N]`` in [0, 1]."""
        return np.array([p.to_unit(c) for p, c in zip(self.space.parameters, self.codes, strict=True)])

    @property
    def by_name(self) -> dict[str, int]:
        """Codes by name, in the order of the space; the caller's own dictionary."""
        return dict(zip(self.space.names, self.codes, strict=True))

    @cached_property
    def hash(self) -> str:
        """See :func:`parameters_hash`."""
        return parameters_hash(self.by_name)

    def replace(self, **changes: Native) -> ParameterSet:
        """A copy with some native values changed."""
        return self.space.parse({**self.values, **changes})

    def __getitem__(self, name: str) -> Native:
        return self.values[name]


class ParameterSpace(BaseModel):
    """The ordered list of a device's parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    parameters: tuple[Parameter, ...] = Field(min_length=1, max_length=MOST_PARAMETERS)

    @model_validator(mode="after")
    def _check(self) -> ParameterSpace:
        names = [p.name for p in self.parameters]
        if twice := {n for n in names if names.count(n) > 1}:
            raise ValueError(f"parameter named twice: {', '.join(sorted(twice))}")
        spans: list[tuple[int, int, str]] = []
        for p in self.parameters:
            if p.register_ is not None:
                spans.append((p.register_.address, p.register_.address + p.register_.width // 8, p.name))
        spans.sort()
        for (_, end, one), (start, _, other) in itertools.pairwise(spans):
            if start < end:
                raise ValueError(f"registers of {one} and {other} overlap")
        return self

    def __len__(self) -> int:
        return len(self.parameters)

    def __getitem__(self, name: str) -> Parameter:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Parameter]:
        return {p.name: p for p in self.parameters}

    @property
    def names(self) -> list[str]:
        """Parameter names in order."""
        return [p.name for p in self.parameters]

    @property
    def blocks(self) -> dict[str, list[str]]:
        """Parameter names by block, in order."""
        blocks: dict[str, list[str]] = {}
        for p in self.parameters:
            blocks.setdefault(p.block, []).append(p.name)
        return blocks

    def role(self, role: str) -> Parameter | None:
        """The parameter with that role, or None."""
        return next((p for p in self.parameters if p.role == role), None)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the space's canonical JSON, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The space as plain data (for the wire, the data set and files)."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def from_dict(cls, data: Any) -> ParameterSpace:
        """The space from plain data.

        Raises:
            ParameterError: the data does not describe a parameter space.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ParameterError(f"parameter space: {fault_in_words(error, data, cls)}") from error

    @cached_property
    def defaults(self) -> ParameterSet:
        """The default of every parameter."""
        return ParameterSet(self, tuple(p.to_code(p.default) for p in self.parameters))

    def parse(self, values: Mapping[str, Any], *, partial: bool = False) -> ParameterSet:
        """A parameter set from native values; with ``partial`` the missing ones take their default.

        Raises:
            ParameterError: a name is unknown or missing, or a value is of the wrong kind or out of range.
        """
        for name in values:
            if name not in self._by_name:
                raise ParameterError(f"unknown parameter {short(name)} for {self.name}{_suggest(name, self.names)}")
        missing = [n for n in self.names if n not in values]
        if missing and not partial:
            raise ParameterError(f"missing parameter{'s' if missing[1:] else ''} for {self.name}: {', '.join(missing)}")
        return ParameterSet(self, tuple(p.to_code(values.get(p.name, p.default)) for p in self.parameters))

    def from_codes(self, codes: Mapping[str, int]) -> ParameterSet:
        """A parameter set from register codes by name, as a device reads them back.

        Raises:
            ParameterError: a name is unknown or missing, or a code is out of range.
        """
        if set(codes) != set(self.names):
            odd = sorted(set(codes) ^ set(self.names))
            raise ParameterError(f"register codes do not match {self.name}: {', '.join(odd)}")
        for p in self.parameters:
            p.from_code(codes[p.name])
        return ParameterSet(self, tuple(int(codes[n]) for n in self.names))

    def from_unit(self, unit: np.ndarray) -> ParameterSet:
        """The set nearest to a normalised vector ``float [N]``, quantised as the device would.

        Raises:
            ParameterError: the vector has another length or is not finite.
        """
        vector = np.asarray(unit, dtype=np.float64).ravel()
        if len(vector) != len(self):
            raise ParameterError(f"normalised vector has {len(vector)} values, {self.name} has {len(self)} parameters")
        return ParameterSet(self, tuple(p.from_unit(u) for p, u in zip(self.parameters, vector, strict=True)))

    def to_toml(self, parameters: ParameterSet, title: str = "", remarks: Mapping[str, str] | None = None) -> str:
        """The set as TOML for people: a table for each block, a comment on each parameter.

        ``remarks`` are put beside the values of the parameters that they are about.
        """
        lines = [f"# {_comment(title)}"] if title else []
        lines.append(f"# Parameter set of {self.name}, hash {parameters.hash[:12]}")
        for block, names in self.blocks.items():
            lines += ["", f"[{block}]"]
            for name in names:
                p = self[name]
                default = _toml_value(p.from_code(p.to_code(p.default)))
                lines.append("# " + _comment(f"{p.description or name} ({p.describe_range()}; default {default})"))
                remark = f"  # {_comment(remarks[name])}" if remarks and name in remarks else ""
                lines.append(f"{name} = {_toml_value(parameters[name])}{remark}")
        return "\n".join(lines) + "\n"

    def from_toml(self, text: str, source: str = "parameters") -> ParameterSet:
        """A set from TOML text; parameters left out take their default.

        Raises:
            ParameterError: not TOML, a parameter in the wrong block, or a bad value; the message names ``source``.
        """
        try:
            document = tomllib.loads(text.removeprefix("\ufeff"))
        except RecursionError as error:
            raise ParameterError(f"{source}: not valid TOML: it is nested too deeply") from error
        except ValueError as error:
            raise ParameterError(f"{source}: not valid TOML: {error}") from error
        values: dict[str, Any] = {}
        for block, name, value in _flatten(document):
            if block and name in self._by_name and self[name].block != block:
                raise ParameterError(f"{source}: {name} belongs in [{self[name].block}], not in [{block}]")
            if name in values:
                raise ParameterError(f"{source}: {name} is given twice")
            values[name] = value
        try:
            return self.parse(values, partial=True)
        except ParameterError as error:
            raise ParameterError(f"{source}: {error}") from error

    def load_toml(self, path: Path) -> ParameterSet:
        """A set from a TOML file.

        Raises:
            ParameterError: the file cannot be read or is not a set of this space.
        """
        try:
            text = read_regular(Path(path), TEXT_BYTES).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise ParameterError(f"{path}: cannot read the parameter file: {reason}") from error
        return self.from_toml(text, str(path))


def _flatten(document: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from ((key, name, inner) for name, inner in value.items())
        else:
            yield "", key, value


def _comment(text: str) -> str:
    """The text on one line: a device's description may hold line breaks, a TOML comment may not."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _toml_value(value: Native) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _suggest(name: str, names: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(names)}"
