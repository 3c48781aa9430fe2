"""The figures of a report as inline SVG. Narrow on purpose: at a phone's width their text is still legible."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from drivers.foreign_text import shown
from drivers.parameters import Parameter, ParameterSpace
from workbench.draw.figure_texts import plain_texts
from workbench.draw.style import COLOURS, INK, SERIES, WORSE
from workbench.judge.methods import MethodKind
from workbench.judge.results import MethodResult
from workbench.report.material import Source
from workbench.tasks.task import Metric

WIDTH = 4.6


@dataclass(frozen=True)
class Drawing:
    """A figure of the page: ``svg``, its title, what to read in it, its kind of output and its sources."""

    title: str
    svg: Markup
    text: str
    kind: str
    sources: list[Source]


def colour_of(kind: MethodKind) -> str:
    """The colour that methods of a kind have in every figure."""
    return COLOURS.get(kind, SERIES[3])


def _canvas(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def to_svg(figure: Figure, name: str, label: str) -> Markup:
    """A figure as an ``<svg>`` element to put into a page.

    Args:
        figure: the figure.
        name: unique on the page; the ids of the figure's elements begin with it.
        label: what it shows, for screen readers.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    plain_texts(figure)
    figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Several figures share the page, and matplotlib numbers the elements of each from 1.
    prefix = f"{name}-"
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'href="#', f'href="#{prefix}', text)
    text = re.sub(r"url\(#", f"url(#{prefix}", text)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{escape(shown(label))}"', 1).strip())


def methods(rows: Sequence[MethodResult], metric: Metric) -> Figure:
    """A metric of every method with its 95 % interval."""
    figure, axes = _canvas(0.8 + 0.34 * len(rows))
    for y, row in enumerate(rows):
        colour, interval = colour_of(row.kind), row.figures[metric.key]
        value = np.nan if interval.estimate is None else interval.estimate
        if interval.low is not None and interval.high is not None:
            axes.plot([interval.low, interval.high], [y, y], color=colour, linewidth=2.2, alpha=0.55)
        axes.plot(value, y, "o", color=colour, markersize=6)
        axes.annotate(
            format(value, metric.form()), (value, y), (0, 6), textcoords="offset points", ha="center", size=7.5
        )
    axes.set_yticks(range(len(rows)), [_wrap(r.label) for r in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.margins(x=0.08)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(metric.title if metric.higher_is_better else f"{metric.title}, lower is better")
    return figure


def gains(gain: np.ndarray, oracle: np.ndarray | None, metric: Metric) -> Figure:
    """Gain over the best fixed set of each RAW, sorted.

    Args:
        gain: ``[R]``; ``oracle``: the same of the per-image oracle, in the same order, or None.
        metric: that they are of.
    """
    order = np.argsort(-gain, kind="stable")
    figure, axes = _canvas(3.1)
    x, y = np.arange(len(gain)), gain[order]
    colours = np.where(y < 0, WORSE, COLOURS["predicted"])
    axes.bar(x, y, width=0.9, color=list(colours))
    shown: list[Any] = [
        Patch(color=COLOURS["predicted"], label="predicted"),
        Patch(color=WORSE, label="predicted, worse"),
    ]
    if oracle is not None:
        size = float(np.clip(200 / len(gain), 3, 9))
        shown += axes.plot(
            x,
            oracle[order],
            "_",
            color=COLOURS["oracle"],
            markersize=size,
            markeredgewidth=1.6,
            label="per-image oracle",
        )
    _legend(figure, handles=shown)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xlabel(f"{len(gain)} test RAWs, best gain first")
    axes.set_ylabel(_over_fixed(metric))
    axes.set_xticks([])
    axes.grid(axis="x", visible=False)
    return figure


def differences(gain: np.ndarray, metric: Metric) -> Figure:
    """Paired gains of a run over another (``[R]``), sorted; losses in red."""
    figure, axes = _canvas(2.6)
    y = np.sort(gain)[::-1]
    axes.bar(np.arange(len(y)), y, width=0.9, color=list(np.where(y < 0, WORSE, COLOURS["predicted"])))
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xlabel(f"{len(y)} test RAWs, largest difference first")
    less = "second less first" if metric.higher_is_better else "first less second"
    axes.set_ylabel(f"{less} ({metric.unit or metric.label})")
    axes.set_xticks([])
    axes.grid(axis="x", visible=False)
    return figure


def histogram(gain: np.ndarray, metric: Metric) -> Figure:
    """How the RAWs' gains over the best fixed set (``[R]``) are distributed; losses in red."""
    figure, axes = _canvas(3.1)
    low, high = min(float(gain.min()), 0.0), max(float(gain.max()), 0.0)
    count = int(np.clip(np.ceil(2 * len(gain) ** 0.5), 6, 30))
    width = max(high - low, 0.5) / count
    # 0 is an edge, so that no bar holds gains and losses.
    edges = np.arange(np.floor(low / width), np.ceil(high / width) + 1) * width
    for part, colour, label in (
        (gain[gain < 0], WORSE, "worse than best fixed"),
        (gain[gain >= 0], COLOURS["predicted"], "better or equal"),
    ):
        axes.hist(part, bins=list(edges), color=colour, label=f"{label}: {len(part)}", rwidth=0.92)
    axes.axvline(float(np.median(gain)), color=INK, linestyle="--", linewidth=1, label="median")
    _legend(figure)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(_over_fixed(metric))
    axes.set_ylabel("test RAWs")
    axes.grid(axis="x", visible=False)
    return figure


def proxy_loss(curve: Sequence[Sequence[float]]) -> Figure:
    """Training loss of the proxy over its steps: ``[[step, loss], …]``."""
    figure, axes = _canvas(2.8)
    points = np.array(curve, dtype=float)
    axes.plot(points[:, 0], points[:, 1], color=SERIES[0], linewidth=1.4)
    axes.set_xlabel("training step")
    axes.set_ylabel("mean log squared error, smoothed")
    return figure


def predictor_loss(curves: dict[str, Sequence[Sequence[float | None]]]) -> Figure:
    """Training and held-out loss of predictors by label: ``[[step, loss, held_out | null], …]``."""
    figure, axes = _canvas(2.8)
    logarithmic = False
    for colour, (label, curve) in zip(itertools.cycle(SERIES), curves.items(), strict=False):
        points = np.array([[np.nan if v is None else v for v in row] for row in curve], dtype=float)
        axes.plot(points[:, 0], points[:, 1], color=colour, linewidth=0.8, alpha=0.45)
        logarithmic |= bool(np.nanmin(points[:, 1]) <= 0)
        held = points[np.isfinite(points[:, 2])]
        axes.plot(held[:, 0], held[:, 2], "o-", color=colour, markersize=3, linewidth=1.5, label=f"{label}, held out")
    # The fast recipe's loss is a logarithm already.
    if not logarithmic:
        axes.set_yscale("log")
        _plain_log(axes)
    axes.set_xlabel("training step (faint: training batches)")
    axes.set_ylabel("loss through the proxy")
    _legend(figure)
    return figure


def oracle(curve: Sequence[float], references: dict[MethodKind, float], metric: Metric) -> Figure:
    """Mean best value of the per-image oracle after each capture, with other methods' means by kind as lines."""
    figure, axes = _canvas(2.8)
    axes.plot(np.arange(1, len(curve) + 1), curve, color=COLOURS["oracle"], linewidth=1.6, label="oracle")
    for kind, value in references.items():
        label = "best fixed" if kind is MethodKind.fixed else kind.value
        axes.axhline(value, color=colour_of(kind), linestyle="--", linewidth=1.1, label=label)
    axes.set_xlabel("captures of each RAW")
    axes.set_ylabel(f"mean best {metric.title}")
    _legend(figure)
    return figure


def against_iso(parameter: Parameter, iso: np.ndarray, series: dict[MethodKind, tuple[str, np.ndarray]]) -> Figure:
    """A parameter against ISO (figure 5b).

    Args:
        parameter: the parameter.
        iso: ``[R]``, NaN where the RAW does not say.
        series: for each kind of method its label and native values ``[R]``.
    """
    figure, axes = _canvas(3.2)
    known = np.isfinite(iso) & (iso > 0)
    drawn = {MethodKind.oracle: ("D", 11, 0.55), MethodKind.industry: ("s", 13, 0.6)}
    for kind, (label, values) in series.items():
        if kind is MethodKind.fixed:
            axes.axhline(values[0], color=colour_of(kind), linestyle="--", linewidth=1.2, label=label)
            continue
        marker, size, alpha = drawn.get(kind, ("o", 18, 0.75))
        axes.scatter(
            iso[known],
            values[known],
            s=size,
            marker=marker,
            alpha=alpha,
            color=colour_of(kind),
            linewidths=0,
            label=label,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(100 * 2.0 ** np.arange(-2, 13))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    if parameter.scale == "log":
        axes.set_yscale("log", base=2)
        _plain_log(axes)
    axes.set_xlabel("ISO")
    axes.set_ylabel(parameter.name.replace("_", " ") + (f" ({parameter.unit})" if parameter.unit else ""))
    _legend(figure)
    return figure


def spread(space: ParameterSpace, units: np.ndarray, fixed: np.ndarray | None) -> Figure:
    """How far predictions spread over the test RAWs in the normalised space, a row for each parameter.

    Args:
        space: of N parameters.
        units: predictions ``[R, N]``.
        fixed: the best fixed set ``[N]``, or None.
    """
    figure, axes = _canvas(0.9 + 0.215 * len(space))
    rows = np.arange(len(space))
    low, q1, median, q3, high = np.percentile(units, [0, 25, 50, 75, 100], axis=0)
    axes.hlines(rows, low, high, color=COLOURS["mean"], linewidth=1.6, label="all")
    axes.hlines(rows, q1, q3, color=COLOURS["predicted"], linewidth=5, label="middle half")
    axes.plot(median, rows, "o", color="white", markeredgecolor=COLOURS["predicted"], markersize=4, label="median")
    if fixed is not None:
        axes.plot(fixed, rows, "D", color=WORSE, markersize=3.5, label="best fixed", linestyle="none")
    axes.set_yticks(rows, [n.replace("_", " ") for n in space.names], fontsize=7.5)
    axes.set_ylim(len(space) - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("normalised value")
    _legend(figure)
    return figure


def _over_fixed(metric: Metric) -> str:
    less = "over best fixed" if metric.higher_is_better else "under best fixed"
    return f"{metric.label} {less}" + (f" ({metric.unit})" if metric.unit else "")


def _wrap(label: str) -> str:
    return label.replace(" (", "\n(", 1)


def _legend(figure: Figure, **how: Any) -> None:
    """Above the axes, where it hides nothing."""
    figure.legend(loc="outside upper center", ncols=4, columnspacing=1.2, handletextpad=0.5, **how)


def _plain_log(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
