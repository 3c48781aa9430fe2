"""Texts from elsewhere (names of files, units, categories) in matplotlib's figures."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.text import Text

from drivers.foreign_text import shown


def plain_texts(figure: Figure) -> None:
    """Escape what cannot be drawn in every text of a figure: surrogates, control characters, changes of direction.

    Dollar signs are the style's affair: ``text.parse_math`` must be off where names are drawn.
    """
    for text in figure.findobj(Text):
        before = text.get_text()
        if (after := shown(before, keep="\n")) != before:
            text.set_text(after)
