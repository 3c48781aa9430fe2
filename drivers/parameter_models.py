"""Parameter spaces that somebody else wrote, as plain data: checked by pydantic, whose faults name their place.

Whoever describes a space in Python needs none of this: :mod:`drivers.parameters` stands without pydantic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from drivers.errors import ParameterError
from drivers.parameter import NAME, Kind, Native, Parameter, Register, Role, Scale, Width
from drivers.parameters import MOST_PARAMETERS, ParameterSpace
from drivers.validation_text import fault_in_words


class RegisterModel(BaseModel):
    """:class:`~drivers.parameter.Register` as plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: int = Field(ge=0, lt=2**32)
    width: Width = 16
    signed: bool = False


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
    choices: tuple[str, ...] = ()
    default: Native
    unit: str = ""
    description: str = ""
    role: Role | None = None
    register_: RegisterModel | None = Field(default=None, alias="register")

    @cached_property
    def parameter(self) -> Parameter:
        """The parameter."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "register_"}
        register = None if self.register_ is None else Register(**self.register_.model_dump())
        return Parameter(**fields, register=register)

    @model_validator(mode="after")
    def _check(self) -> ParameterModel:
        _made(lambda: self.parameter)
        return self


class SpaceModel(BaseModel):
    """:class:`~drivers.parameters.ParameterSpace` as plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    parameters: tuple[ParameterModel, ...] = Field(min_length=1, max_length=MOST_PARAMETERS)

    @cached_property
    def space(self) -> ParameterSpace:
        """The space."""
        return ParameterSpace(self.name, tuple(p.parameter for p in self.parameters))

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
