"""Parameter spaces that somebody else wrote, as plain data: checked by pydantic, whose faults name their place.

Whoever describes a space in Python needs none of this: :mod:`drivers.parameters` stands without pydantic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from drivers.errors import ParameterError
from drivers.parameter import NAME, Coding, Kind, Native, Parameter, Register, Role, Scale, When, Width
from drivers.parameters import MOST_PARAMETERS, ParameterSpace
from drivers.validation_text import fault_in_words
from drivers.vectors import MOST_STATISTICS, Form, Statistic, Vector


class RegisterModel(BaseModel):
    """:class:`~drivers.parameter.Register` as plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: int = Field(ge=0, lt=2**32)
    width: Width = 16
    signed: bool = False
    low_bit: int = Field(default=0, ge=0, lt=32)
    bits: int | None = Field(default=None, ge=1, le=32)


class WhenModel(BaseModel):
    """:class:`~drivers.parameter.When` as plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameter: str = Field(pattern=NAME)
    values: tuple[str | bool, ...] = Field(min_length=1, max_length=MOST_PARAMETERS)


class ParameterModel(BaseModel):
    """:class:`~drivers.parameter.Parameter` as plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME)
    block: str = Field(pattern=NAME)
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
    when: WhenModel | None = None
    register_: RegisterModel | None = Field(default=None, alias="register")

    @cached_property
    def parameter(self) -> Parameter:
        """The parameter."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name not in ("register_", "when")}
        register = None if self.register_ is None else Register(**self.register_.model_dump())
        when = None if self.when is None else When(**self.when.model_dump())
        return Parameter(**fields, register=register, when=when)

    @model_validator(mode="after")
    def _check(self) -> ParameterModel:
        _made(lambda: self.parameter)
        return self


class VectorModel(BaseModel):
    """:class:`~drivers.vectors.Vector` as plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME)
    form: Form
    parameters: tuple[str, ...] = Field(max_length=MOST_PARAMETERS)
    at: tuple[float, ...] = Field(default=(), max_length=MOST_PARAMETERS)


class StatisticModel(BaseModel):
    """:class:`~drivers.vectors.Statistic` as plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME)
    unit: str = ""
    description: str = ""


class SpaceModel(BaseModel):
    """:class:`~drivers.parameters.ParameterSpace` as plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    parameters: tuple[ParameterModel, ...] = Field(min_length=1, max_length=MOST_PARAMETERS)
    constraints: tuple[str, ...] = Field(default=(), max_length=MOST_PARAMETERS)
    vectors: tuple[VectorModel, ...] = Field(default=(), max_length=MOST_PARAMETERS)
    statistics: tuple[StatisticModel, ...] = Field(default=(), max_length=MOST_STATISTICS)

    @cached_property
    def space(self) -> ParameterSpace:
        """The space."""
        return ParameterSpace(
            self.name,
            tuple(p.parameter for p in self.parameters),
            self.constraints,
            tuple(Vector(**v.model_dump()) for v in self.vectors),
            tuple(Statistic(**s.model_dump()) for s in self.statistics),
        )

    @model_validator(mode="after")
    def _check(self) -> SpaceModel:
        _made(lambda: self.space)
        return self


def read_space(data: Any) -> ParameterSpace:
    """The space from plain data.

    Raises:
        ParameterError: the data does not describe a parameter space.
    """
    try:
        return SpaceModel.model_validate(data).space
    except ValidationError as error:
        raise ParameterError(f"parameter space: {fault_in_words(error, data, SpaceModel)}") from error


def _made(make: Callable[[], object]) -> None:
    """What pydantic is to tell with its place must be a ``ValueError``."""
    try:
        make()
    except ParameterError as error:
        raise ValueError(str(error)) from error
