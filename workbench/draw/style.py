"""The style of every figure: its colours, fonts and lines.

A ``matplotlibrc`` of the user's own, or what a notebook has set, is left out of it: figures are the same everywhere,
and need no LaTeX.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from matplotlib.rcsetup import cycler

INK, GRID = "#333a42", "#dfe3e8"
COLOURS = {
    "default": "#9aa3ad",
    "expert": "#7a6a9e",
    "fixed": "#4a4f57",
    "industry": "#c46a00",
    "auto": "#8f7a1e",
    "mean": "#86b4dd",
    "predicted": "#0b63b0",
    "oracle": "#2a8a4a",
}
WORSE = "#b8322a"
SERIES = ("#0b63b0", "#c46a00", "#2a8a4a", "#7a6a9e")
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.edgecolor": "#8a929b",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=SERIES),
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


@contextlib.contextmanager
def plain_style(changes: Any = ()) -> Iterator[None]:
    """Matplotlib's own style, with these changes (``rcParams`` by name), for the figures made within the block."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(changes)
        yield


def styled() -> contextlib.AbstractContextManager[None]:
    """The house style for the figures made within the block."""
    return plain_style(_STYLE)
