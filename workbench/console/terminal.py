"""The edge to the terminal: what commands print goes through :func:`guarded` streams, tables through :func:`console`.

Names of devices, files and parameters come from elsewhere. Behind the edge no character of theirs is acted on by a
terminal, none is taken for markup, and a console of any code page takes the text.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO, cast

from drivers.foreign_text import shown

if TYPE_CHECKING:
    from rich.console import Console

LINES = "\n\t"
"""Control characters that printed text may hold."""


class GuardedStream:
    """A text stream that writes :func:`~drivers.foreign_text.shown` text alone; anything else is the stream's own.

    Attributes:
        styled: the stream behind it, for what makes its own escape sequences and has seen to its texts.
    """

    def __init__(self, stream: TextIO) -> None:
        self.styled = stream

    def write(self, text: str) -> int:
        """Write text; characters that a terminal would act on are escaped, line ends and tabs are not.

        Raises:
            TypeError: no ``str``.
        """
        if not isinstance(text, str):
            raise TypeError(f"text is written here, not {type(text).__name__}")
        self.styled.write(shown(text, keep=LINES))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.styled, name)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Within this block stdout and stderr are guarded, and what their encoding lacks is written as ``\\xb5``."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_guard(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _guard(stream: TextIO | None) -> Any:
    if stream is None or isinstance(stream, GuardedStream):  # None: the program was started without this stream
        return stream
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    return GuardedStream(stream)


def console(*, stderr: bool = False) -> Console:
    """A rich console for tables: markup and emoji codes in texts are plain text, control characters are escaped."""
    from rich.console import Console

    class SafeConsole(Console):
        """Every ``str`` that is printed, also in the cells of a table, comes by here."""

        def render_str(self, text: str, **how: Any) -> Any:
            """The text as rich text."""
            return super().render_str(shown(text, keep=LINES), **{**how, "markup": False, "emoji": False})

    stream = sys.stderr if stderr else sys.stdout
    file = stream.styled if isinstance(stream, GuardedStream) else stream
    return SafeConsole(file=cast(TextIO, file), markup=False, emoji=False, highlight=False)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], lines: Sequence[str] = ()) -> None:
    """Print a table, whose first column is text and whose others are figures, and lines below it."""
    from rich.table import Table

    table = Table(title=title)
    for i, column in enumerate(columns):
        # Figures of one word stay whole; an interval may go below its estimate, so that names keep their room.
        whole = i > 0 and not any(" " in row[i] for row in rows)
        table.add_column(column, justify="right" if i else "left", no_wrap=whole, min_width=None if i else 14)
    for row in rows:
        table.add_row(*row)
    out = console()
    out.print(table)
    for line in lines:
        out.print(line, soft_wrap=True)
