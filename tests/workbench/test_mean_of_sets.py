from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_isp import SPACE

from drivers.parameters import ParameterSet, ParameterSpace
from workbench.rules.mean_of_sets import mean_of, mode_of

LOG = ParameterSpace.from_dict(
    {
        "name": "log",
        "parameters": [
            {
                "name": "gain",
                "block": "b",
                "kind": "continuous",
                "low": 1,
                "high": 64,
                "step": 1 / 64,
                "scale": "log",
                "default": 1,
            },
            {"name": "quality", "block": "b", "kind": "integer", "low": 1, "high": 100, "default": 90},
        ],
    }
)

some_sets = st.lists(
    st.tuples(*(st.integers(p.low_code, p.high_code) for p in SPACE.parameters)), min_size=1, max_size=9
).map(lambda rows: [ParameterSet(SPACE, row) for row in rows])


@given(some_sets)
def test_numbers_take_their_rounded_mean_and_choices_the_most_frequent_code(sets: list[ParameterSet]) -> None:
    merged = mean_of(sets)
    for i, p in enumerate(SPACE.parameters):
        column = [s.codes[i] for s in sets]
        if p.kind in ("continuous", "integer"):
            # A mean that lies half way between two codes may become either.
            assert abs(merged.codes[i] - sum(column) / len(column)) <= 0.5 + 1e-6
        else:
            most = max(column.count(code) for code in column)
            assert merged.codes[i] == min(code for code in column if column.count(code) == most)


@given(some_sets, st.randoms())
def test_the_order_of_the_sets_does_not_matter_and_equal_ones_are_their_own_mean(
    sets: list[ParameterSet], random: object
) -> None:
    shuffled = list(sets)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    # The sum of floats may round another way.
    for one, other in zip(mean_of(shuffled).codes, mean_of(sets).codes, strict=True):
        assert abs(one - other) <= 1
    assert mean_of([sets[0]] * len(sets)) == sets[0]


def test_a_log_parameter_moves_evenly_and_an_integer_lies_between_its_two() -> None:
    low, high = LOG.parse({"gain": 1, "quality": 10}), LOG.parse({"gain": 64, "quality": 91})
    assert mean_of([low, high])["gain"] == pytest.approx(8, rel=0.01)
    assert mean_of([low, high])["quality"] in (50, 51)


def test_of_equally_frequent_codes_the_lowest_is_taken() -> None:
    for codes in itertools.permutations([2, 0, 0, 2, 1]):
        assert mode_of(codes) == 0
