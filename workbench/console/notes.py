"""Notes: what does not stop a command, but must not go unsaid. One line for many of a kind, the first by name."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from drivers.foreign_text import shown

_NAMED = 3


def listed(names: Sequence[object], first: int = _NAMED) -> str:
    """The first few names and how many more there are: ``a, b, c and 4 more``."""
    told = ", ".join(shown(name) for name in names[:first])
    return f"{told} and {len(names) - first:,} more" if len(names) > first else told


class Notes:
    """Gathers what is noticed; :meth:`lines` tells each kind once, with its count and the first few by name."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, name: object) -> None:
        """One more of a kind.

        Args:
            kind: what was noticed, in the plural, such as ``boxes without area``.
            name: of what.
        """
        self._found.setdefault(kind, []).append(str(name))

    def lines(self, where: object = "") -> list[str]:
        """``WHERE: COUNT KIND: NAMES`` for each kind, in the order of the first of each."""
        start = f"{shown(where)}: " if where else ""
        return [f"{start}{len(names):,} {kind}: {listed(names)}" for kind, names in self._found.items()]


def say(lines: Iterable[str]) -> None:
    """Print notes for people, on stderr."""
    for line in lines:
        print(f"note: {shown(line)}", file=sys.stderr, flush=True)
