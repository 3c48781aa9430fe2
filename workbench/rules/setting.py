"""Who sets each parameter: what a setting does not name is searched or predicted; the rest goes by rule or is held.

In a camera the 3A loops set exposure gain and white balance for every frame. With the setting ``3a`` they do so here,
and what is compared is what is left to tuners: noise reduction, sharpening, tone, colour.
:mod:`workbench.rules.resolving` makes one for a device.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, get_args

import numpy as np
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from drivers.errors import ParameterError
from drivers.foreign_text import shown
from drivers.frames import RawFrame
from drivers.parameter import Native, Parameter
from drivers.parameters import ParameterSet
from drivers.regular_files import read_toml
from drivers.validation_text import fault_in_words
from workbench.errors import RunError
from workbench.lab.results import Model
from workbench.lab.runs import RunFolder
from workbench.rules.balance import Stored, WhiteBalance, clipped_code, frame_of, grey_world

BUILT_IN = "3a"
"""As-shot white balance, the exposure gain by rule, the black level held."""
_CACHED = 10_000
_LEAST = 1e-4
_STEEPEST = 20.0
_STOPS = 1000.0  # beyond any range, within the numbers
_levels: dict[str, tuple[float, float]] = {}


class RawToSet(Stored, Protocol):
    """A RAW as rules read it: a RawRecord, whose pixels are read where a rule needs them; a RawFrame will do too."""

    @property
    def iso(self) -> float | None:
        """ISO speed."""


class Balance(Model):
    """The red or blue gain as white balance gives it for the RAW."""

    rule: WhiteBalance

    @property
    def open(self) -> bool:
        """Whether a constant is to be fitted."""
        return False

    def value(self, raw: RawToSet | RawFrame, parameter: Parameter) -> float | None:
        """The gain; None where the RAW tells no as-shot white balance."""
        gains = raw.as_shot_wb if self.rule == "as-shot" else grey_world(raw)
        if gains is None:
            return None
        return (gains[0] if parameter.role == "red_gain" else gains[2]) / gains[1]


class MeanLevel(Model):
    """The gain that brings the mean of the RAW's green plane (black 0, white 1) to ``target``; None: to be fitted."""

    rule: Literal["mean"]
    target: float | None = Field(default=None, gt=0, le=1e6, allow_inf_nan=False)

    @property
    def open(self) -> bool:
        """Whether a constant is to be fitted."""
        return self.target is None

    def value(self, raw: RawToSet | RawFrame, parameter: Parameter) -> float | None:
        """The gain."""
        assert self.target is not None  # it is resolved
        return self.target / levels(raw)[0]


class Exposure(Model):
    """A gain that follows the RAW's level and ISO: gain · mean^a · highlights^b · (ISO/100)^c.

    A camera has metered a RAW already: the gain that its picture still needs is neither constant nor what brings the
    mean to one target. What of it the RAW tells is fitted to references.

    Attributes:
        gain: above 0; mean: a, of the mean of the green plane; highlights: b, of its 95th percentile; iso: c, each
            from -20 to 20. All are given, or all are to be fitted.
    """

    rule: Literal["exposure"]
    gain: float | None = Field(default=None, gt=0, le=1e6, allow_inf_nan=False)
    mean: float | None = Field(default=None, ge=-_STEEPEST, le=_STEEPEST, allow_inf_nan=False)
    highlights: float | None = Field(default=None, ge=-_STEEPEST, le=_STEEPEST, allow_inf_nan=False)
    iso: float | None = Field(default=None, ge=-_STEEPEST, le=_STEEPEST, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> Exposure:
        given = [v is not None for v in (self.gain, self.mean, self.highlights, self.iso)]
        if any(given) and not all(given):
            raise ValueError("gain, mean, highlights and iso are given together, or none of them")
        return self

    @property
    def open(self) -> bool:
        """Whether a constant is to be fitted."""
        return self.gain is None

    def value(self, raw: RawToSet | RawFrame, parameter: Parameter) -> float | None:
        """The gain."""
        assert self.gain is not None  # it is resolved
        exponents = np.array([self.mean, self.highlights, self.iso], dtype=np.float64)
        stops = np.log2(self.gain) + features(raw) @ exponents
        return float(2.0 ** np.clip(stops, -_STOPS, _STOPS))


Rule = Balance | MeanLevel | Exposure
RULES = (*get_args(WhiteBalance), "mean", "exposure")


def _spelt(rule: Any) -> Any:
    """A rule as a table, however it is spelt: ``"as-shot"`` is ``{ rule = "as-shot" }``."""
    table = {"rule": rule} if isinstance(rule, str) else rule
    if isinstance(table, dict) and table.get("rule") not in RULES:
        raise ValueError(f"rule {shown(table.get('rule'))} is not one of {', '.join(RULES)}")
    return table


class Setting(Model):
    """Who sets each parameter.

    Attributes:
        name: for people: ``3a`` or the file's name; no part of the hash.
        by_rule: rules by parameter; held: native values by parameter.
    """

    name: str = ""
    by_rule: dict[str, Annotated[Rule, Field(discriminator="rule"), BeforeValidator(_spelt)]] = Field(
        default_factory=dict
    )
    held: dict[str, Native] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Setting:
        if both := sorted(set(self.by_rule) & set(self.held)):
            raise ValueError(f"{both[0]} is set by rule and held; choose one")
        if not self.by_rule and not self.held:
            raise ValueError("no parameter is set; write [by_rule] or [held]")
        return self

    @property
    def names(self) -> frozenset[str]:
        """The parameters that it sets."""
        return frozenset((*self.by_rule, *self.held))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of what it sets, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.to_json() | {"name": ""}, sort_keys=True).encode()).hexdigest()

    @property
    def told(self) -> str:
        """For people: its name, what goes by rule and what is held."""
        rules = [f"{name} by rule {rule.rule}" for name, rule in self.by_rule.items()]
        held = [f"{n} held at {f'{v:.6g}' if isinstance(v, float) else v}" for n, v in self.held.items()]
        return f"{self.name or 'unnamed'} ({', '.join(rules + held)})"

    def left(self, names: Sequence[str]) -> list[str]:
        """The parameters of these that it leaves to a search or a prediction."""
        return [name for name in names if name not in self.names]

    def of(self, parameters: ParameterSet, raw: RawToSet | RawFrame) -> ParameterSet:
        """The set as a RAW gets it: with what the setting sets, clipped into the ranges.

        A RAW that tells no as-shot white balance keeps the set's gains.
        """
        space, codes = parameters.space, parameters.by_name
        for name, held in self.held.items():
            codes[name] = space[name].to_code(held)
        for name, rule in self.by_rule.items():
            if (value := rule.value(raw, space[name])) is not None:
                codes[name] = clipped_code(space[name], value)
        return ParameterSet(space, tuple(codes.values()))


def load_setting(path: Path) -> Setting:
    """A setting from its TOML file.

    Raises:
        ParameterError: it cannot be read, or is none.
    """
    try:
        document = read_toml(path)
    except OSError as error:
        raise ParameterError(
            f"{path}: cannot read the setting: {error.strerror}; give {BUILT_IN} or a TOML file"
        ) from error
    except ValueError as error:
        raise ParameterError(f"{path}: not valid TOML: {str(error).splitlines()[0]}") from error
    try:
        return Setting.model_validate({**document, "name": path.name})
    except ValidationError as error:
        raise ParameterError(f"{path}: {fault_in_words(error, document, Setting)}") from error


def recorded_setting(run: RunFolder) -> Setting | None:
    """The setting under which a run was made; None where it had none.

    Raises:
        RunError: the record is damaged.
    """
    record = run.config.get("setting")
    return None if record is None else settings_from([record], run.path / "run.json")[0]


def settings_from(data: Any, where: object) -> tuple[Setting, ...]:
    """Settings from plain JSON data; ``where`` is named in errors.

    Raises:
        RunError: the data is damaged.
    """
    try:
        return tuple(Setting.model_validate(one) for one in data)
    except (ValidationError, TypeError) as error:
        raise RunError(
            f"{where}: a setting in it is damaged ({str(error).splitlines()[0]}); put the file back"
        ) from error


def levels(raw: Stored | RawFrame) -> tuple[float, float]:
    """Mean and 95th percentile of a RAW's green plane (black 0, white 1), at least 0.0001; cached by content hash."""
    if raw.hash not in _levels:
        green = frame_of(raw).planes()[1]
        if len(_levels) >= _CACHED:
            _levels.clear()
        _levels[raw.hash] = (max(float(green.mean()), _LEAST), max(float(np.percentile(green, 95)), _LEAST))
    return _levels[raw.hash]


def features(raw: RawToSet | RawFrame) -> np.ndarray:
    """What :class:`Exposure` follows, as log2: mean, highlights, ISO/100 (0 where it is not known); ``float64 [3]``."""
    return np.log2([*levels(raw), (raw.iso or 100.0) / 100.0])
