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
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from drivers.errors import ParameterError
from drivers.parameter import GAINS, Kind, Native, Parameter, Register, Role, Scale
from drivers.regular_files import TEXT_BYTES, read_regular
from drivers.relations import Relations
from drivers.validation_text import short
from drivers.vectors import MOST_STATISTICS, Statistic, Vector

if TYPE_CHECKING:
    from tomlkit.items import Comment

__all__ = ["Kind", "Native", "Parameter", "ParameterSet", "ParameterSpace", "Register", "Scale", "parameters_hash"]

MOST_PARAMETERS = 1024


def parameters_hash(codes: Mapping[str, object]) -> str:
    """The canonical hash of codes by name, 64 hexadecimal digits.

    SHA-256 of the ASCII lines ``name=code\\n`` sorted by name: the same for every order of keys and spelling of
    numbers, and simple enough for firmware to compute.
    """
    return hashlib.sha256("".join(f"{n}={codes[n]}\n" for n in sorted(codes)).encode("ascii")).hexdigest()


@dataclass(frozen=True)
class ParameterSet:
    """One point of a parameter space: a code for each parameter, in the order of the space.

    What breaks the space's constraints is repaired as :mod:`drivers.relations` says.
    """

    space: ParameterSpace = field(repr=False, compare=False)
    codes: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.space.relations:
            object.__setattr__(self, "codes", self.space.relations.repaired(self.codes))

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

    def with_codes(self, codes: Mapping[str, int]) -> ParameterSet:
        """A copy with some codes changed, such as to those of another set; what breaks a constraint is repaired."""
        return ParameterSet(self.space, tuple(codes.get(name, code) for name, code in self.by_name.items()))

    def __getitem__(self, name: str) -> Native:
        return self.values[name]


@dataclass(frozen=True)
class ParameterSpace:
    """The ordered list of a device's parameters.

    Attributes:
        name: for people.
        parameters: in the device's order.
        constraints: what holds between two of them, such as ``threshold_low < threshold_high``.
        vectors: which of them are together a curve, a matrix and the like.
        statistics: figures that the device tells with each frame.

    Raises:
        ParameterError: there are none or too many, two have one name or share bits of a register, or what is said of
            several of them cannot hold.
    """

    name: str
    parameters: tuple[Parameter, ...]
    constraints: tuple[str, ...] = ()
    vectors: tuple[Vector, ...] = ()
    statistics: tuple[Statistic, ...] = ()

    def __post_init__(self) -> None:
        for what in ("parameters", "constraints", "vectors", "statistics"):
            object.__setattr__(self, what, tuple(getattr(self, what)))
        if not 1 <= len(self.parameters) <= MOST_PARAMETERS:
            raise ParameterError(f"a space has 1..{MOST_PARAMETERS} parameters, not {len(self.parameters)}")
        names = [*self.names, *(v.name for v in self.vectors), *(s.name for s in self.statistics)]
        if twice := {n for n in names if names.count(n) > 1}:
            raise ParameterError(f"parameter named twice: {', '.join(sorted(twice))}")
        if len(self.statistics) > MOST_STATISTICS:
            raise ParameterError(f"a space has at most {MOST_STATISTICS} statistics, not {len(self.statistics)}")
        self._check_registers()
        for vector in self.vectors:
            vector.check(self._by_name)
        if (broken := self.relations.broken([p.to_code(p.default) for p in self.parameters])) is not None:
            raise ParameterError(f"the defaults: {broken}")

    def _check_registers(self) -> None:
        """See that no two share bits: whole registers, or fields of one that all of them tell alike."""
        spans: list[tuple[int, int, str, Register]] = []
        for p in self.parameters:
            if (r := p.register) is not None:
                first = 8 * r.address + (0 if r.bits is None else r.low_bit)
                spans.append((first, first + r.field_bits, p.name, r))
        spans.sort(key=lambda span: span[:2])
        for (_, end, one, r), (start, _, other, next_) in itertools.pairwise(spans):
            fields = (r.address, r.width) == (next_.address, next_.width) and None not in (r.bits, next_.bits)
            if start < end or (8 * next_.address < 8 * r.address + r.width and not fields):
                raise ParameterError(f"registers of {one} and {other} overlap")

    @cached_property
    def relations(self) -> Relations:
        """What holds between parameters: the constraints, those of the vectors, and when parameters exist."""
        return Relations(self.parameters, [*self.constraints, *(c for v in self.vectors for c in v.constraints)])

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

    @property
    def not_searched(self) -> list[str]:
        """The parameters that stay as they are set by hand."""
        return [p.name for p in self.parameters if not p.searched]

    def role(self, role: str) -> Parameter | None:
        """The parameter with that role, or None."""
        return next((p for p in self.parameters if p.role == role), None)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over what codes mean, 64 hexadecimal digits.

        Spaces of one hash take the same codes for the same values; their order, their registers and what is for people
        alone may differ, so a set goes from one to the other by name (:meth:`take`).
        """
        means = sorted((p.meaning for p in self.parameters), key=lambda meaning: str(meaning[0]))
        if self.constraints:
            means.append(["constraints", *sorted(self.constraints)])
        means += sorted(([v.to_dict()] for v in self.vectors), key=str)
        return hashlib.sha256(json.dumps(means).encode()).hexdigest()

    @cached_property
    def hashes(self) -> frozenset[str]:
        """:attr:`hash`, and what it was in former records: over all that was known of a space, without later roles."""
        former = {self.hash}
        for roles in (get_args(Role), GAINS):
            data = self.to_dict()
            for told in data["parameters"]:
                told["role"] = told["role"] if told["role"] in roles else None
            former.add(hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest())
        return frozenset(former)

    def to_dict(self) -> dict[str, Any]:
        """The space as plain data (for the wire, the data set and files)."""
        told: dict[str, Any] = {"name": self.name, "parameters": [p.to_dict() for p in self.parameters]}
        if self.constraints:
            told["constraints"] = list(self.constraints)
        for key in ("vectors", "statistics"):
            if several := getattr(self, key):
                told[key] = [one.to_dict() for one in several]
        return told

    @classmethod
    def from_dict(cls, data: Any) -> ParameterSpace:
        """The space from plain data.

        Raises:
            ParameterError: the data does not describe a parameter space.
        """
        # Only here: a device's agent describes its own space, and has no pydantic.
        from drivers.parameter_models import read_space

        return read_space(data)

    @cached_property
    def defaults(self) -> ParameterSet:
        """The default of every parameter."""
        return ParameterSet(self, tuple(p.to_code(p.default) for p in self.parameters))

    def parse(self, values: Mapping[str, Any], *, partial: bool = False) -> ParameterSet:
        """A parameter set from native values; with ``partial`` the missing ones take their default.

        Raises:
            ParameterError: a name is unknown or missing, a value is of the wrong kind or out of range, or the values
                break a constraint.
        """
        for name in values:
            if name not in self._by_name:
                raise ParameterError(f"unknown parameter {short(name)} for {self.name}{_suggest(name, self.names)}")
        missing = [n for n in self.names if n not in values]
        if missing and not partial:
            raise ParameterError(f"missing parameter{'s' if missing[1:] else ''} for {self.name}: {', '.join(missing)}")
        return self._legal(tuple(p.to_code(values.get(p.name, p.default)) for p in self.parameters))

    def _legal(self, codes: tuple[int, ...]) -> ParameterSet:
        if (broken := self.relations.broken(codes)) is not None:
            raise ParameterError(f"{self.name}: {broken}")
        return ParameterSet(self, codes)

    def from_codes(self, codes: Mapping[str, int]) -> ParameterSet:
        """A parameter set from register codes by name, as a device reads them back.

        Raises:
            ParameterError: a name is unknown or missing, a code is out of range, or they break a constraint.
        """
        if set(codes) != set(self.names):
            odd = sorted(set(codes) ^ set(self.names))
            raise ParameterError(f"register codes do not match {self.name}: {', '.join(odd)}")
        for p in self.parameters:
            p.check_code(codes[p.name])
        return self._legal(tuple(int(codes[n]) for n in self.names))

    def take(self, parameters: ParameterSet) -> ParameterSet:
        """The same codes in this space's order.

        Raises:
            ParameterError: they are of other parameters.
        """
        return parameters if parameters.space is self else self.from_codes(parameters.by_name)

    def from_unit(self, unit: np.ndarray, kept: ParameterSet | None = None) -> ParameterSet:
        """The set nearest to a normalised vector ``float [N]``, quantised as the device would.

        What is not searched is as in ``kept``, a set of this space, else at its default.

        Raises:
            ParameterError: the vector has another length or is not finite.
        """
        vector = np.asarray(unit, dtype=np.float64).ravel()
        if len(vector) != len(self):
            raise ParameterError(f"normalised vector has {len(vector)} values, {self.name} has {len(self)} parameters")
        stay = self.defaults if kept is None else kept
        codes = (
            p.from_unit(u) if p.searched else code
            for p, u, code in zip(self.parameters, vector, stay.codes, strict=True)
        )
        return ParameterSet(self, tuple(codes))

    def to_toml(self, parameters: ParameterSet, title: str = "", remarks: Mapping[str, str] | None = None) -> str:
        """The set as TOML for people: a table for each block, a comment on each parameter.

        ``remarks`` are put beside the values of the parameters that they are about.
        """
        import tomlkit

        document = tomlkit.document()
        for line in [*([title] if title else []), f"Parameter set of {self.name}, hash {parameters.hash[:12]}"]:
            document.add(_comment(line))
        for block, names in self.blocks.items():
            table = tomlkit.table()
            for name in names:
                p = self[name]
                default = tomlkit.item(p.from_code(p.to_code(p.default))).as_string()
                table.add(_comment(f"{p.description or name} ({p.describe_range()}; default {default})"))
                value = tomlkit.item(parameters[name])
                if remarks and name in remarks:
                    value.trivia.comment_ws, value.trivia.comment = "  ", _comment(remarks[name]).trivia.comment
                table.add(name, value)
            document.add(tomlkit.nl())
            document.add(block, table)
        return tomlkit.dumps(document)

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


def _comment(text: str) -> Comment:
    """The text as a comment on one line: a device's description may hold line breaks, a TOML comment may not."""
    import tomlkit

    return tomlkit.comment(" ".join("".join(c if c.isprintable() else " " for c in text).split()))


def _suggest(name: str, names: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(names)}"
