"""How soon a command is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from measures.clocks import process, workbench
from measures.size import Size
from measures.table import Bar, Row, cpu_and_wall


def rows(size: Size, folder: Path) -> Iterator[Row]:
    pairs = [(workbench("--help"), process([sys.executable, "-c", ""])) for _ in range(size.times + 1)][1:]
    ours, bare = zip(*pairs, strict=True)
    yield from cpu_and_wall("`workbench --help`", ours, "Python alone", bare, bar=Bar(0.2))
