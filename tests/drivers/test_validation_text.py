"""A fault in a file is told by its key, its value and what it must be, never in the terms of Python types."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drivers.errors import DeviceError, ParameterError
from drivers.foreign_text import shown
from drivers.parameter_models import SpaceModel
from drivers.parameters import ParameterSpace
from drivers.programs.recipes import Recipe, load
from drivers.validation_text import fault_in_words
from workbench.lab.lab_config import LabConfig, LabConfigError, load_lab_config


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    colour: str = Field(default="red", max_length=5)
    gain: float = Field(default=1, ge=0, allow_inf_nan=False)


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    wb: tuple[float, float, float] | None = None
    level: int | tuple[int, int, int, int] = 0
    words: tuple[str, ...] = Field(default=("a",), min_length=1, max_length=2)
    flag: bool = False
    count: int = Field(default=1, gt=0, lt=9)
    parts: tuple[Part, ...] = ()
    one: Part = Part()


def fault_of(text: str) -> str:
    document = tomllib.loads(text)
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(document)
    return fault_in_words(caught.value, document, Whole)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "name: missing"),
        ('name = "a"\nwb = [2.0, 1.0]', "wb = [2.0, 1.0]: must have more values than 2"),
        ('name = "a"\nwb = [2.0, 1.0, 1.0, 1.0]', "wb = [2.0, 1.0, 1.0, 1.0]: must have at most 3 values, not 4"),
        ('name = "a"\nwb = [2.0, "x", 1.0]', "wb[1] = 'x': must be a number"),
        ('name = "a"\nlevel = "x"', "level = 'x': must be a whole number or be a list"),
        ('name = "a"\nlevel = [1, 2]', "level = [1, 2]: must be a whole number or have more values than 2"),
        ('name = "a"\nwords = []', "words = []: must have at least 1 values, not 0"),
        ('name = "a"\nwords = "b"', "words = 'b': must be a list"),
        ('name = "a"\nflag = "on!"', "flag = 'on!': must be true or false"),
        ('name = "a"\ncount = 0', "count = 0: must be above 0"),
        ('name = "a"\ncount = 9', "count = 9: must be below 9"),
        ('name = "a"\ncount = 1.5', "count = 1.5: must be a whole number"),
        ('name = "a"\nnam = 1', "nam: unknown key; did you mean 'name'?"),
        ('name = "a"\n[one]\ncolor = "red"', "one.color: unknown key; did you mean 'colour'?"),
        ('name = "a"\n[[parts]]\n[[parts]]\nzzz = 1', "parts[1].zzz: unknown key; there are colour, gain"),
        ('name = "a"\none = 3', "one = 3: must be a table of keys"),
        ('name = "a"\n[one]\ngain = nan', "one.gain = nan: must be"),
        ('name = "a"\n[one]\ncolour = "purple"', "one.colour = 'purple': must have at most 5 characters"),
        ("name = 3", "name = 3: must be text"),
    ],
)
def test_a_fault_is_told_by_key_value_and_what_it_must_be(text: str, told: str) -> None:
    assert fault_of(text).startswith(told)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=90),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)
_KEYS = st.sampled_from([*Whole.model_fields, "parameters", "output", "devices", "network", "model"]) | st.text(
    max_size=300
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=6), st.sampled_from([Whole, LabConfig, Recipe, SpaceModel]))
@settings(max_examples=200, deadline=None)
def test_whatever_stands_in_a_file_its_fault_is_one_short_line(
    document: dict[Any, Any], model: type[BaseModel]
) -> None:
    try:
        model.model_validate(document)
    except ParameterError:
        return
    except ValidationError as error:
        told = fault_in_words(error, document, model)
        assert told == shown(told)
        assert 0 < len(told) < 500
        assert "Input should" not in told
        assert "pydantic" not in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[devices]\nboard = 3\n", r"devices.board = 3: must be text"),
        ('[devices]\n"my board" = "sim:"\n', r"devices: the name 'my board' must be of the form"),
        ('[network]\nplain = "192.0.2.9"\n', r"network.plain = '192.0.2.9': must be a list"),
        ("[networks]\nplain = []\n", r"networks: unknown key; did you mean 'network'\?"),
        ("[network]\nplains = []\n", r"network.plains: unknown key; did you mean 'plain'\?"),
    ],
)
def test_faults_of_a_lab_file(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "lab.toml").write_text(text)
    with pytest.raises(LabConfigError, match=told) as caught:
        load_lab_config(tmp_path)
    assert str(tmp_path / "lab.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_whose_value_has_the_wrong_length(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('model = "m"\ncommand = []\n[output]\nfile = "a.png"\nkind = "png"\n')
    with pytest.raises(DeviceError, match=r"command = \[\]: must have at least 1 values, not 0"):
        load(str(tmp_path / "r.toml"))


SPACE = ParameterSpace.from_dict(
    {
        "name": "isp",
        "parameters": [
            {"name": "gain", "block": "b", "kind": "continuous", "low": 0, "high": 4, "step": 0.5, "default": 1}
        ],
    }
)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("text", ["gain = 2.0\n", "[b]\ngain = 2.0\n", "\r\n[b]\r\ngain = 2.0\r\n"])
def test_a_byte_order_mark_in_a_parameter_file_changes_nothing(tmp_path: Path, mark: str, text: str) -> None:
    file = tmp_path / "expert.toml"
    file.write_bytes((mark + text).encode())
    assert SPACE.load_toml(file)["gain"] == 2.0


@pytest.mark.parametrize(
    "content", [b"a = " + b"[" * 3000, b"\xff\xfe", b"gain = ", b"[b]\ngain = 'x'", b"[b.c]\nx = 1"]
)
def test_a_parameter_file_that_is_none_is_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "expert.toml"
    file.write_bytes(content)
    with pytest.raises(ParameterError) as caught:
        SPACE.load_toml(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_pipe_as_a_parameter_file_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "expert.toml")
    with pytest.raises(ParameterError, match="named pipe"):
        SPACE.load_toml(tmp_path / "expert.toml")
