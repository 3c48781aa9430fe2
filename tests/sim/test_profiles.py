"""The profiles of the emulated ISP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivers.errors import ParameterError
from drivers.parameters import ParameterSpace
from sim import profiles

FOLDER = Path(profiles.__file__).parent
BLOCKS = {
    "noise_reduction",
    "black_level",
    "white_balance",
    "demosaic",
    "colour",
    "sharpening",
    "tone",
    "compression",
}


@pytest.mark.parametrize(("name", "count"), [("sim20", 20), ("sim32", 32)])
def test_a_profile_has_its_number_of_parameters_of_mixed_kinds_in_all_blocks(name: str, count: int) -> None:
    space = profiles.space(name)
    assert space.name == name
    assert len(space) == count
    assert {p.kind for p in space.parameters} == {"continuous", "integer", "choice", "bool"}
    assert {p.scale for p in space.parameters} == {"linear", "log"}
    assert set(space.blocks) == BLOCKS


@pytest.mark.parametrize("name", profiles.NAMES)
def test_every_parameter_has_a_register_a_description_and_a_default_within_its_range(name: Any) -> None:
    space = profiles.space(name)
    addresses = [p.register.address for p in space.parameters if p.register]
    assert len(set(addresses)) == len(space)
    for p in space.parameters:
        assert p.description
        assert p.register is not None
        low, high = p.register.range()
        assert low <= p.low_code <= p.to_code(p.default) <= p.high_code <= high
        if p.kind == "continuous":
            assert (1 / p.step).is_integer()  # fixed point


def test_sim32_is_sim20_and_twelve_more() -> None:
    shared, rich = profiles.space("sim20"), profiles.space("sim32")
    assert rich.parameters[:20] == shared.parameters
    assert len(set(rich.names) - set(shared.names)) == 12


@pytest.mark.parametrize("name", profiles.NAMES)
def test_the_gains_that_the_as_shot_white_balance_sets_are_marked(name: Any) -> None:
    space = profiles.space(name)
    assert space.role("red_gain") is space["red_gain"]
    assert space.role("blue_gain") is space["blue_gain"]


@pytest.mark.parametrize("name", profiles.NAMES)
def test_a_space_survives_plain_data(name: Any) -> None:
    space = profiles.space(name)
    assert ParameterSpace.from_dict(space.to_dict()).hash == space.hash


@pytest.mark.parametrize("name", profiles.NAMES)
def test_the_expert_file_is_complete_and_in_the_form_that_the_space_writes(name: Any) -> None:
    space, expert = profiles.space(name), profiles.expert(name)
    text = (FOLDER / f"{name}_expert.toml").read_text(encoding="utf-8")
    title = text.splitlines()[0].removeprefix("# ")
    assert text == space.to_toml(expert, title)
    assert expert != space.defaults


def test_unknown_profiles_are_refused_with_the_known_ones() -> None:
    for function in (profiles.space, profiles.expert):
        with pytest.raises(ParameterError, match=r"'sim21'.*sim20, sim32"):
            function("sim21")
