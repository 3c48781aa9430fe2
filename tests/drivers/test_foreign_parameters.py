"""Spaces and parameter files that somebody else wrote: a set, or one line that names what is wrong."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.errors import ParameterError
from drivers.parameters import ParameterSpace

GAIN: dict[str, Any] = {
    "name": "gain",
    "block": "tone",
    "kind": "continuous",
    "low": 1,
    "high": 4,
    "step": 0.5,
    "default": 1,
}
SIZE: dict[str, Any] = {"name": "size", "block": "tone", "kind": "integer", "low": 0, "high": 9, "default": 3}
MODE: dict[str, Any] = {"name": "mode", "block": "tone", "kind": "choice", "choices": ["a", "b"], "default": "a"}


def space(*parameters: dict[str, Any]) -> ParameterSpace:
    return ParameterSpace.from_dict({"name": "space", "parameters": list(parameters)})


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ParameterError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("base", "change"),
    [
        (GAIN, {"high": math.inf}),
        (GAIN, {"low": -math.inf}),
        (GAIN, {"low": math.nan}),
        (GAIN, {"high": 10**400}),
        (GAIN, {"step": math.inf}),
        (GAIN, {"step": math.nan}),
        (GAIN, {"step": 5e-324}),
        (GAIN, {"low": -1e308, "high": 1e308}),
        (GAIN, {"low": 4, "high": 1}),
        (GAIN, {"default": math.nan}),
        (GAIN, {"default": 10**400}),
        (GAIN, {"default": "1" * 10_000}),
        (SIZE, {"high": 2**70}),
        (SIZE, {"high": math.inf}),
        (SIZE, {"default": 2.5}),
        (MODE, {"default": 10**5000}),
        (MODE, {"low": math.nan}),
        (MODE, {"scale": "log"}),
        (MODE, {"choices": deep(5000)}),
        (MODE, {"choices": "ab" * 5000}),
        (MODE, {"default": "\x1b[31m" + "x" * 5000}),
        (GAIN, {"name": "gain\n"}),
        (GAIN, {"name": "Größe"}),
        (GAIN, {"block": "\x1b]0;x\x07"}),
        (GAIN, {"register": {"address": 2**40}}),
        (GAIN, {"register": {"address": 0, "width": 8}, "high": 400}),
    ],
)
def test_a_parameter_that_cannot_be_is_refused(base: dict[str, Any], change: dict[str, Any]) -> None:
    message = refusal(lambda: space({**base, **change}))
    assert "\x1b" not in message


@pytest.mark.parametrize(
    "data", [None, [], "space", 3, deep(5000), {"name": "x"}, {"name": "x", "parameters": deep(9)}]
)
def test_what_is_no_space_is_refused(data: Any) -> None:
    refusal(lambda: ParameterSpace.from_dict(data))


_SCALAR = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([2**70, 10**400, "a"])
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([GAIN, SIZE, MODE]),
    st.dictionaries(
        st.sampled_from(["low", "high", "step", "default", "choices", "scale", "kind", "name", "register", "role"]),
        _SCALAR | st.lists(_SCALAR, max_size=3) | st.sampled_from(["log", "integer", "choice", "bool"]),
        min_size=1,
        max_size=4,
    ),
)
def test_any_parameter_is_read_or_refused(base: dict[str, Any], change: dict[str, Any]) -> None:
    try:
        made = space({**base, **change})
    except ParameterError as error:
        told = str(error)
        assert told.isprintable()
        return
    (parameter,) = made.parameters
    for code in (parameter.low_code, parameter.high_code, made.defaults.codes[0]):
        assert parameter.low_code <= parameter.from_unit(parameter.to_unit(code)) <= parameter.high_code
        assert made.from_codes({parameter.name: code}).codes == (code,)
    assert ParameterSpace.from_dict(made.to_dict()).hash == made.hash


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gain = 1e400", "inf is outside"),
        ("gain = nan", "nan is outside"),
        ("gain = " + "9" * 400, "inf is outside"),
        ("gain = " + "9" * 5000, "not valid TOML"),
        ("gain = 0x" + "f" * 5000, "inf is outside"),
        ("mode = 0x" + "f" * 5000, "this int is not one of"),
        ("gain = []", "[] is not a number"),
        ("gain = [" * 2000, "not valid TOML"),
        ("a = " + "[" * 50_000, "nested too deeply"),
        ('mode = "\\u001b[31m"', "is not one of a | b"),
        ("size = 2.5", "2.5 is not a whole number"),
        ("size = true", "True is not a number"),
        ("[tone.gain]\nx = 1", "is not a number"),
        ('"\\u001b" = 1', "unknown parameter"),
        ("[mode]\ngain = 1", "belongs in [tone]"),
    ],
)
def test_a_parameter_file_with_odd_values_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "expert.toml"
    path.write_text(text, encoding="utf-8")
    known = space(GAIN, SIZE, MODE)
    for read in (lambda: known.load_toml(path), lambda: known.from_toml(text, str(path))):
        message = refusal(read)
        assert reason in message
        assert str(path) in message
        assert "\x1b" not in message


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    path = tmp_path / "expert.toml"
    path.write_text("\ufeff[tone]\ngain = 2\n", encoding="utf-8")
    assert space(GAIN, SIZE).load_toml(path)["gain"] == 2


@pytest.mark.skipif(os.name == "nt", reason="pipes and links")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "is a named pipe"),
        (Path.mkdir, "is a folder"),
        (lambda p: p.symlink_to("/dev/zero"), "is a character device"),
        (lambda p: p.write_bytes(b" " * (5 << 20)), "at most"),
        (lambda p: p.write_bytes(b"gain = \xff"), "not UTF-8"),
        (lambda p: None, "No such file"),
    ],
)
def test_only_regular_files_are_read(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    path = tmp_path / "expert.toml"
    make(path)
    message = refusal(lambda: space(GAIN).load_toml(path))
    assert reason in message
    assert str(path) in message
