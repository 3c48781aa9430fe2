"""The recipes of a training by name, and defaults; light to import, so that the command line can list them."""

from __future__ import annotations

from enum import StrEnum

FOLLOW_CAPTURES = 600
"""That choosing how far to follow a predictor may look at."""


class RecipeName(StrEnum):
    """The recipes that can be chosen: ours, and the paper's of section 5.1."""

    fast = "fast"
    paper = "paper"
