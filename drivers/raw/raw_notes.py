"""What is worth saying of a RAW file that was read: where its own tags and LibRaw disagree, values that look odd."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from drivers.foreign_text import shown


class RawNote(NamedTuple):
    """One thing to say of one file.

    Attributes:
        kind: a short name; notes of one kind are told once for all files.
        text: one line, without the file's name.
    """

    kind: str
    text: str


def told_once(notes: Iterable[tuple[str, RawNote]]) -> list[str]:
    """One line a kind, the first file's, with how many other files it also holds for.

    Args:
        notes: pairs of a file's name and a note, in the order in which they came.
    """
    first: dict[str, tuple[str, RawNote]] = {}
    files: dict[str, set[str]] = {}
    for name, note in notes:
        first.setdefault(note.kind, (name, note))
        files.setdefault(note.kind, set()).add(name)
    lines = []
    for kind, (name, note) in first.items():
        others = len(files[kind]) - 1
        more = f" (and the like in {others} other RAW{'s' if others > 1 else ''})" if others else ""
        lines.append(f"{shown(name)}: {shown(note.text)}{more}")
    return lines
