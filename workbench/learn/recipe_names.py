"""The recipes of a training by name; light to import, so that the command line can list them."""

from __future__ import annotations

from enum import StrEnum


class RecipeName(StrEnum):
    """The recipes that can be chosen: ours, and the paper's of section 5.1."""

    fast = "fast"
    paper = "paper"
