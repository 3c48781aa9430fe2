"""What comes from elsewhere is shown without acting on the terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.foreign_text import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RAW 1 µm, 日本", "RAW 1 µm, 日本"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\u202eright to left", "\\u202eright to left"),
        ("latin1-\udce9", "latin1-\\udce9"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_examples(text: str, expected: str) -> None:
    assert shown(text) == expected


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs"])))
def test_nothing_is_left_that_a_terminal_acts_on(text: str) -> None:
    result = shown(text)
    result.encode()  # raises where a surrogate is left
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in result)
    assert shown(result) == result


def test_several_lines_are_kept_where_asked() -> None:
    assert shown("a\n\x1b", keep="\n") == "a\n\\x1b"
