"""What a parameter is for: by the role that its device tells, and by names only where it tells none."""

from __future__ import annotations

from typing import get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.agent import continuous
from drivers.agent.own_parameters import in_registers
from drivers.parameter import GAINS, Role
from drivers.parameters import Parameter, ParameterSpace
from drivers.protocol import wire
from workbench.judge.strengths import TASKS, parameters_for, strongest, why_none
from workbench.rules.balance import with_gains
from workbench.rules.resolving import built_in
from workbench.rules.roles import NOISE_REDUCTION, of_role

ROLES = get_args(Role)


def number(name: str, role: Role | None = None, block: str = "isp") -> Parameter:
    return continuous(name, 0.5, 4, step=1 / 16, default=1, block=block, role=role)


def space_of(*parameters: Parameter) -> ParameterSpace:
    return ParameterSpace("roles", in_registers(parameters))


@given(st.lists(st.sampled_from([None, *ROLES]), min_size=1, max_size=12))
def test_roles_travel_in_version_2_and_those_of_the_gains_alone_in_version_1(roles: list[Role | None]) -> None:
    space = space_of(*(number(f"p{i}", role) for i, role in enumerate(roles)))
    told = {}
    for version in (1, 2):
        info = wire.decode(wire.encode(wire.Info(3, "m", "1", "s", "b", 4, 1 << 20, space, version=version)))
        assert isinstance(info, wire.Info)
        told[version] = [p.role for p in info.space.parameters]
    assert told[2] == roles
    assert told[1] == [role if role in GAINS else None for role in roles]


@given(st.lists(st.sampled_from([None, *ROLES]), min_size=1, max_size=12), st.sampled_from(ROLES))
def test_where_a_device_tells_roles_names_say_nothing(roles: list[Role | None], role: Role) -> None:
    names = ("luma_nr", "digital_gain", "black_offset", "sharpen")
    misnamed = [number(name, block="noise_reduction") for name in names]
    space = space_of(number("x", "raw_nr"), *misnamed, *(number(f"p{i}", r) for i, r in enumerate(roles)))
    assert [p.role for p in of_role(space, role)] == [role] * ([*roles, "raw_nr"].count(role))


def test_without_roles_names_tell() -> None:
    space = space_of(
        number("red", "red_gain"), number("digital_gain"), number("black_offset_red"), number("a", block="nr"),
        number("unsharp_amount"),
    )  # fmt: skip
    for roles, names in (
        (("red_gain",), ["red"]),
        (("digital_gain",), ["digital_gain"]),
        (("black_level",), ["black_offset_red"]),
        (NOISE_REDUCTION, ["a"]),
        (("sharpening",), ["unsharp_amount"]),
        ((*NOISE_REDUCTION, "digital_gain"), ["digital_gain", "a"]),
    ):
        assert [p.name for p in of_role(space, *roles)] == names


def test_an_info_of_version_1_with_a_later_role_is_refused() -> None:
    header = msgpack.unpackb(
        wire.encode(wire.Info(3, "m", "1", "s", "b", 4, 8, space_of(number("g", "raw_nr")), version=2))[0]
    )
    with pytest.raises(wire.MessageError, match=r"parameter g: role raw_nr: needs version 2"):
        wire.decode([msgpack.packb({k: v for k, v in header.items() if k != "version"})])


def test_3a_sets_what_has_the_roles_whatever_it_is_called() -> None:
    space = space_of(
        number("r", "red_gain"), number("b", "blue_gain"), number("k", "digital_gain"), number("ped", "black_level"),
        number("digital_gain"), number("black_offset"), number("s", "sharpening"),
    )  # fmt: skip
    setting, notes = built_in(space)
    assert {name: rule.rule for name, rule in setting.by_rule.items()} == {
        "r": "as-shot",
        "b": "as-shot",
        "k": "exposure",
    }
    assert (list(setting.held), notes) == (["ped"], [])
    balanced = with_gains(space.defaults, (2.0, 1.0, 1.5))
    assert {n: v for n, v in balanced.values.items() if v != 1} == {"r": 2.0, "b": 1.5}


def test_what_is_drawn_has_the_role() -> None:
    space = space_of(number("detail", "sharpening"), number("edge_strength", block="sharpening"), number("g"))
    assert [p.name for p in parameters_for(space, "sharpening")] == ["detail"]
    assert strongest(space, space.defaults.unit, "noise reduction") is None
    assert "the device tells none of the role raw_nr or luma_nr or chroma_nr" in why_none(space, TASKS[0])
