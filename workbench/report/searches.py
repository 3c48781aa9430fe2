"""Result against captures spent: the curve of every tuning that the report knows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from workbench.draw.style import INK
from workbench.judge.methods import MethodKind
from workbench.lab.runs import RunFolder
from workbench.report import figures
from workbench.report.figures import Drawing
from workbench.report.material import Material
from workbench.report.words import csv_text, number
from workbench.rules.tuned import label_of
from workbench.tasks.viewing_metrics import METRICS as VIEWING

# A search makes its scores large: what is to be low is drawn with a minus.
_NAMES = {m.key: m.title if m.higher_is_better else f"−{m.title}" for m in VIEWING}
_COLOURS = (
    "#0b63b0",
    "#2a8a4a",
    "#b8322a",
    "#7a6a9e",
    "#0e8f9c",
    "#a0537c",
    "#8a6d1d",
    "#5b8cc9",
    "#6fae57",
    "#d98a7a",
)


@dataclass(frozen=True)
class Curve:
    """A tuning's best score so far.

    Attributes:
        key: of the validation's method; empty where the validation does not have it.
        label: for people.
        run: the ``tune`` run.
        points: captures spent and best score so far, ``[P, 2]``.
        same_raws: whether its trials were judged on the RAWs that the best fixed set's were.
    """

    key: str
    label: str
    run: RunFolder
    points: np.ndarray
    same_raws: bool


def metric_of(run: RunFolder) -> str:
    """What a tuning's curve is of: its first metric."""
    return str(run.config.get("metric", "psnr"))


def curves_of(found: Material) -> list[Curve]:
    """The curves of the validation's tunings and then of the lab's others, all of the metric of the best fixed set."""
    runs = [*found.tunings.items(), *(("", run) for run in found.more_tunings)]
    runs = [(key, run) for key, run in runs if run.results.get("history") and key not in found.refused]
    if not runs:
        return []
    first = found.tunings.get("fixed", runs[0][1])
    names = {"fixed": "best fixed", "industry": "industry", "auto": "auto"}
    curves = []
    for key, run in runs:
        if metric_of(run) == metric_of(first):
            label = f"{names[key]} ({run.config.get('method')})" if key in names else label_of(run)
            same = run.results.get("raws") == first.results.get("raws")
            curves.append(Curve(key, label, run, np.array(run.results["history"], dtype=float), same))
    seen: dict[str, int] = {}
    for curve in curves:
        seen[curve.label] = seen.get(curve.label, 0) + 1
    return [
        Curve(c.key, f"{c.label}, {c.run.name}", c.run, c.points, c.same_raws) if seen[c.label] > 1 else c
        for c in curves
    ]


def draw_searches(found: Material) -> Drawing | None:
    """The drawing of all curves; None where no tuning has one."""
    curves = curves_of(found)
    if not curves:
        return None
    metric = metric_of(curves[0].run)
    collected = found.results.collection_captures
    title = "Result against captures spent"
    figure, cut = _figure(curves, _NAMES.get(metric, metric), collected)
    text = "Best mean score so far on the training RAWs of the trials, on the device: what a search promises, not what "
    text += "its set gives on new RAWs, which is in the table. "
    if any(c.key == "fixed" for c in curves):
        text += "Star: the best fixed set's search. "
    if not all(c.same_raws for c in curves):
        text += "Dashed: judged on other RAWs than the best fixed set's, so not to be compared by height. "
    text += f"What was predicted cost {collected} captures (dotted). " if collected else ""
    text += "Of rules that take several searches the first one is drawn. "
    text += f"What lies below {number(cut)} is cut off." if cut is not None else ""
    other = [r.name for r in (*found.tunings.values(), *found.more_tunings) if metric_of(r) != metric]
    text += f" Not drawn, of another metric: {', '.join(other)}." if other else ""
    sources = [found.source(c.run) for c in curves]
    return Drawing(title, figures.to_svg(figure, "searches", title), text.strip(), "device", sources)


def _figure(curves: Sequence[Curve], metric: str, collected: int) -> tuple[Figure, float | None]:
    """The figure, and the value below which it is cut off, or None."""
    figure = Figure(figsize=(figures.WIDTH, 3.0 + 0.2 * len(curves)), layout="constrained")
    axes = figure.add_subplot()
    colours = itertools.cycle(_COLOURS)
    # Best first, as the ends of the curves lie above each other.
    for curve in sorted(curves, key=lambda c: -c.points[-1, 1]):
        best = curve.key == "fixed"
        known = curve.key in (MethodKind.fixed, MethodKind.industry, MethodKind.auto)
        colour = figures.colour_of(MethodKind(curve.key)) if known else next(colours)
        axes.step(
            curve.points[:, 0],
            curve.points[:, 1],
            where="post",
            color=colour,
            linewidth=2.4 if best else 1.3,
            linestyle="-" if curve.same_raws else "--",
            marker="*" if best else ".",
            markersize=11 if best else 5,
            markevery=[-1],
            zorder=3 if best else 2,
            label=f"{curve.label}: {curve.points[-1, 1]:.2f}",
        )
    lowest = min(float(c.points[:, 1].min()) for c in curves)
    highest = max(float(c.points[:, 1].max()) for c in curves)
    # The first sets are far below what a search finds: the second half of every curve is what must be seen.
    low = min(float(c.points[len(c.points) // 2, 1]) for c in curves)
    cut = low - 0.1 * (highest - low) if highest > low else None
    if cut is None or cut <= lowest:
        cut = None
    else:
        axes.set_ylim(cut, highest + 0.06 * (highest - cut))
    if collected:
        axes.axvline(collected, color=INK, linestyle=":", linewidth=1)
    axes.set_xlim(left=0)
    axes.set_xlabel("device captures spent")
    axes.set_ylabel(f"best so far, {metric}")
    figure.legend(loc="outside upper left", ncols=1, handletextpad=0.6, labelspacing=0.25)
    return figure, cut


def searches_csv(curves: Sequence[Curve]) -> str:
    """All curves as CSV."""
    return csv_text(
        ("run", "key", "label", "metric", "same_raws_as_best_fixed", "captures", "best_so_far"),
        (
            [c.run.name, c.key, c.label, metric_of(c.run), c.same_raws, int(captures), score]
            for c in curves
            for captures, score in c.points.tolist()
        ),
    )
