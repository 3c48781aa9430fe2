from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import ParameterError
from drivers.parameters import Parameter, ParameterSpace, Register, Scale

SPACE = ParameterSpace(
    name="toy",
    parameters=(
        Parameter(name="gain", block="exposure", kind="continuous", low=0.5, high=8, step=1 / 256, default=1,
                  scale="log", unit="×", description="digital gain", register=Register(address=0, width=16)),
        Parameter(name="offset", block="black_level", kind="continuous", low=-0.25, high=0.25, step=1 / 1024, default=0,
                  register=Register(address=2, width=16, signed=True)),
        Parameter(name="radius", block="noise_reduction", kind="integer", low=1, high=7, default=3,
                  register=Register(address=4, width=8)),
        Parameter(name="demosaic", block="demosaic", kind="choice", choices=("bilinear", "malvar", "ahd"),
                  default="malvar", register=Register(address=5, width=8)),
        Parameter(name="sharpen", block="sharpening", kind="bool", default=True, register=Register(address=6, width=8)),
    ),
)  # fmt: skip

units = st.lists(st.floats(-0.5, 1.5), min_size=len(SPACE), max_size=len(SPACE))


@st.composite
def parameters(draw: st.DrawFn) -> Parameter:
    kind = draw(st.sampled_from(["continuous", "log", "integer", "choice", "bool"]))
    common: dict[str, Any] = {"name": "p", "block": "b"}
    if kind == "bool":
        return Parameter(kind="bool", default=draw(st.booleans()), **common)
    if kind == "choice":
        choices = tuple(draw(st.lists(st.text(min_size=1), min_size=2, max_size=9, unique=True)))
        return Parameter(kind="choice", choices=choices, default=choices[-1], **common)
    if kind == "integer":
        low = draw(st.integers(-1000, 1000))
        return Parameter(kind="integer", low=low, high=low + draw(st.integers(1, 500)), default=low, **common)
    step = draw(st.sampled_from([1 / 65536, 1 / 256, 0.1, 1 / 3, 1.0, 7.0]))
    low_code = draw(st.integers(1 if kind == "log" else -300, 300))
    high = (low_code + draw(st.integers(1, 600))) * step
    scale: Scale = "log" if kind == "log" else "linear"
    return Parameter(
        kind="continuous", low=low_code * step, high=high, step=step, scale=scale, default=low_code * step, **common
    )


@given(parameters(), st.floats(0, 1))
def test_native_code_and_unit_agree(p: Parameter, share: float) -> None:
    code = p.low_code + round(share * (p.levels - 1))
    assert p.to_code(p.from_code(code)) == code
    unit = p.to_unit(code)
    assert 0 <= unit <= 1
    assert p.from_unit(unit) == code


@given(parameters(), st.floats(-2, 3), st.floats(-2, 3))
def test_unit_to_code_is_monotonic_and_in_range(p: Parameter, a: float, b: float) -> None:
    one, other = sorted((a, b))
    assert p.low_code <= p.from_unit(one) <= p.from_unit(other) <= p.high_code


@given(units)
def test_a_set_is_the_same_in_every_form(unit: list[float]) -> None:
    chosen = SPACE.from_unit(np.array(unit))
    for again in (
        SPACE.parse(chosen.values),
        SPACE.from_unit(chosen.unit),
        SPACE.from_codes(chosen.by_name),
        SPACE.from_toml(SPACE.to_toml(chosen, title="a title")),
        ParameterSpace.from_dict(json.loads(json.dumps(SPACE.to_dict()))).parse(chosen.values),
    ):
        assert again.codes == chosen.codes
        assert again.hash == chosen.hash


@given(st.permutations(list(SPACE.names)))
def test_hash_does_not_depend_on_key_order(order: list[str]) -> None:
    values = {"gain": 2, "offset": 0.125, "radius": 5, "demosaic": "ahd", "sharpen": False}
    assert SPACE.parse({n: values[n] for n in order}).hash == SPACE.parse(values).hash
    reordered = ParameterSpace(name="toy", parameters=tuple(SPACE[n] for n in order))
    assert reordered.parse(values).hash == SPACE.parse(values).hash


def test_hash_does_not_depend_on_spelling_but_on_the_value() -> None:
    spellings = ["gain = 2", "gain = 2.0", "gain = 2.0001", "gain = 20e-1", "[exposure]\ngain = +2.0"]
    assert len({SPACE.from_toml(s).hash for s in spellings}) == 1
    assert SPACE.from_toml("gain = 2.01").hash != SPACE.from_toml("gain = 2").hash


def test_hash_is_what_firmware_would_compute() -> None:
    import hashlib

    text = b"demosaic=1\ngain=256\noffset=0\nradius=3\nsharpen=1\n"
    assert SPACE.defaults.hash == hashlib.sha256(text).hexdigest()


def test_toml_has_a_table_a_block_and_a_comment_a_parameter() -> None:
    text = SPACE.to_toml(SPACE.defaults, title="two\nlines")
    assert "# two lines\n" in text
    assert "# digital gain (0.5..8 ×; default 1.0)\ngain = 1.0" in text
    assert '# demosaic (bilinear | malvar | ahd; default "malvar")\ndemosaic = "malvar"' in text
    assert tomllib.loads(text)["noise_reduction"] == {"radius": 3}


def test_toml_stays_valid_with_odd_descriptions_and_choices() -> None:
    odd = Parameter(name="mode", block="b", kind="choice", choices=('a "b"', "naïve 😀", "c\\d"), default="naïve 😀",
                    description="first line\nsecond = 2\x07", unit="\n")  # fmt: skip
    space = ParameterSpace(name="odd", parameters=(odd,))
    for choice in odd.choices:
        assert space.from_toml(space.to_toml(space.parse({"mode": choice})))["mode"] == choice


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gian = 2", "unknown parameter 'gian' for toy; did you mean 'gain'?"),
        ("zzz = 2", "it has gain, offset"),
        ("gain = 9", "gain: 9 is outside 0.5..8 ×"),
        ("gain = nan", "gain: nan is outside"),
        (f"gain = 1{'0' * 400}", "gain: inf is outside"),
        ("gain = true", "gain: True is not a number"),
        ('gain = "2"', "gain: '2' is not a number"),
        ("gain = 2026-01-01", "is not a number"),
        ("radius = 2.5", "radius: 2.5 is not a whole number"),
        ('demosaic = "amaze"', "'amaze' is not one of bilinear | malvar | ahd"),
        ("sharpen = 1", "sharpen: 1 is not true or false"),
        ("[sharpening]\ngain = 2", "gain belongs in [exposure], not in [sharpening]"),
        ("gain = 2\n[exposure]\ngain = 2", "gain is given twice"),
        ("gain = ", "not valid TOML"),
    ],
)
def test_bad_toml_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        SPACE.from_toml(text, "my.toml")
    assert str(caught.value).startswith("my.toml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_missing_values(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"nope\.toml: cannot read"):
        SPACE.load_toml(tmp_path / "nope.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParameterError, match="not UTF-8"):
        SPACE.load_toml(tmp_path / "binary.toml")
    with pytest.raises(ParameterError, match=r"missing parameters for toy: offset, radius"):
        SPACE.parse({"gain": 1, "demosaic": "ahd", "sharpen": True})
    assert SPACE.parse({}, partial=True).codes == SPACE.defaults.codes


def test_codes_from_a_device_are_checked() -> None:
    codes = SPACE.defaults.by_name
    with pytest.raises(ParameterError, match="do not match toy: radius"):
        SPACE.from_codes({n: c for n, c in codes.items() if n != "radius"})
    with pytest.raises(ParameterError, match=r"radius: register code 8 is outside 1\.\.7"):
        SPACE.from_codes({**codes, "radius": 8})


def test_unit_vector_is_checked() -> None:
    with pytest.raises(ParameterError, match="3 values, toy has 5"):
        SPACE.from_unit(np.zeros(3))
    with pytest.raises(ParameterError, match="not finite"):
        SPACE.from_unit(np.full(5, math.nan))


def test_discrete_values_share_the_unit_interval_equally() -> None:
    p = SPACE["demosaic"]
    assert [p.from_unit(u) for u in (0, 0.33, 0.34, 0.66, 0.67, 1)] == [0, 0, 1, 1, 2, 2]
    counts = np.bincount([SPACE["radius"].from_unit(u) for u in (np.arange(700) + 0.5) / 700])[1:]
    assert counts.tolist() == [100] * 7


def test_log_scale_halves_the_unit_interval_at_the_geometric_mean() -> None:
    p = SPACE["gain"]
    assert p.from_code(p.from_unit(0.5)) == pytest.approx(math.sqrt(0.5 * 8), abs=p.step)
    assert (p.from_code(p.from_unit(0)), p.from_code(p.from_unit(1))) == (0.5, 8.0)


def test_replace_keeps_the_rest() -> None:
    changed = SPACE.defaults.replace(radius=7)
    assert changed.values == {**SPACE.defaults.values, "radius": 7}
    with pytest.raises(ParameterError, match="unknown parameter 'raduis'"):
        SPACE.defaults.replace(raduis=7)


def _space(*changes: dict[Any, Any]) -> dict[Any, Any]:
    base = {"name": "p", "block": "b", "kind": "integer", "low": 0, "high": 3, "default": 0}
    return {"name": "s", "parameters": [{**base, **c} for c in changes]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_space({}, {}), "named twice: p"),
        (
            _space({"register": {"address": 0, "width": 16}}, {"name": "q", "register": {"address": 1}}),
            "registers of p and q overlap",
        ),
        (_space({"high": 300, "register": {"address": 0, "width": 8}}), "do not fit its register"),
        (_space({"low": 3}), "must be below high"),
        (_space({"step": 0.5}), "a whole step"),
        (_space({"kind": "continuous", "scale": "log"}), "log scale needs low above 0"),
        (_space({"kind": "continuous", "low": 0.4, "high": 1.2, "default": 0.5}), "too coarse"),
        (_space({"kind": "continuous", "low": 1e-9, "high": 9, "scale": "log", "default": 1}), "too coarse"),
        (_space({"default": 4}), "outside 0..3"),
        (_space({"kind": "choice", "choices": ["one"], "default": "one"}), "at least two"),
        (_space({"kind": "choice", "choices": ["a", "b", "a"], "default": "a"}), "'a' stands among its choices twice"),
        (_space({"name": "Bad name"}), "name"),
        (_space({"colour": "red"}), "parameters[0].colour: unknown key"),
        (_space(), "parameters"),
        ([], "parameter space"),
    ],
)
def test_bad_spaces_are_refused(data: Any, message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        ParameterSpace.from_dict(data)
    assert message in str(caught.value)


def test_neighbouring_registers_do_not_overlap() -> None:
    data = _space({"register": {"address": 0, "width": 16}}, {"name": "q", "register": {"address": 2, "width": 32}})
    assert ParameterSpace.from_dict(data).names == ["p", "q"]


def test_roles_and_blocks() -> None:
    red = Parameter(name="r", block="wb", kind="continuous", low=0.5, high=4, step=0.01, default=2, role="red_gain")
    space = ParameterSpace(name="s", parameters=(red, *SPACE.parameters))
    assert space.role("red_gain") is red
    assert space.role("blue_gain") is None
    assert list(space.blocks) == ["wb", "exposure", "black_level", "noise_reduction", "demosaic", "sharpening"]


def test_space_hash_is_of_what_codes_mean() -> None:
    data = SPACE.to_dict()
    for told in data["parameters"]:
        told |= {"description": "in other words", "unit": "other", "block": "elsewhere", "register": None}
    data["parameters"][0] |= {"high": 8, "default": 2.0}
    same = ParameterSpace.from_dict({"name": "other", "parameters": data["parameters"][::-1]})
    assert same.hash == SPACE.hash
    chosen = SPACE.from_unit(np.full(len(SPACE), 0.8))
    assert same.take(chosen).codes == chosen.codes[::-1]
    assert same.take(chosen).hash == chosen.hash
    data["parameters"][0]["high"] = 7.5
    assert ParameterSpace.from_dict(data).hash != SPACE.hash
