"""A picture in strips of rows: each is worked on within the processor's cache, and several at once on all cores."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from drivers.all_cores import on_all_cores

PIXELS = 1 << 19
"""Of a strip, about."""
AT_ONCE = 8
"""Strips that are worked on at a time, at most: each takes some 40 MB."""
_STEP = 4
"""Strips begin at rows of this multiple, so that every one begins with the same colours of the CFA."""


class Strip(NamedTuple):
    """Rows of a picture.

    Attributes:
        rows: of the picture, that come of the strip.
        seen: the same with what is looked at around them, as far as the picture goes.
        inner: where ``rows`` lie within ``seen``.
    """

    rows: slice
    seen: slice
    inner: slice


def strips(height: int, width: int, around: int = 0) -> list[Strip]:
    """The strips of a picture from the top down.

    ``around``: rows that are looked at above and below each, a multiple of 4.
    """
    step = max(PIXELS // width // _STEP, 1) * _STEP
    found = []
    for first in range(0, height, step):
        last = min(first + step, height)
        top = max(first - around, 0)
        found.append(Strip(slice(first, last), slice(top, last + around), slice(first - top, last - top)))
    return found


def each(work: Callable[[Strip], None], found: list[Strip]) -> None:
    """Work on every strip, on all cores up to :data:`AT_ONCE`; what it raises comes through."""
    on_all_cores(work, found, AT_ONCE)
