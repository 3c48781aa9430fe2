"""The figures of an ``ablate`` run as SVG files: figures 5b, 5c and 6 of the paper, on this device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from drivers.frames import RawFrame
from drivers.parameters import ParameterSpace
from workbench.draw.images import raw_preview
from workbench.draw.style import INK, SERIES, styled
from workbench.judge.ablation.results import AblationResult, Scatter, VariantResult
from workbench.tasks.task import Metric

_NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def draw(
    folder: Path,
    space: ParameterSpace,
    results: AblationResult,
    frame: RawFrame | None,
    maps: dict[str, np.ndarray],
) -> list[str]:
    """Draw what there is data for.

    Args:
        folder: where to.
        space: of the device.
        results: of the study.
        frame: the RAW of figure 6.
        maps: attention ``float [N, h, w]`` of each variant on it, each map summing to 1.

    Returns:
        The files' names.
    """
    made: dict[str, Figure] = {}
    with styled():
        if results.scatter:
            made["scatter.svg"] = scatter(results.scatter)
        if len(results.depths) > 1:
            made["encoders.svg"] = encoders(results.depths, results.main)
        if frame is not None and results.attention:
            labels = {row.key: row.label for row in results.table}
            places = {name: space.names.index(name) for name in results.attention.parameters}
            made["attention.svg"] = attention(frame, {labels[k]: m for k, m in maps.items()}, places)
        for name, figure in made.items():
            figure.savefig(folder / name, format="svg", metadata=_NOTHING)
    return list(made)


def scatter(data: Scatter) -> Figure:
    """Figure 5b: two predicted parameters of each RAW against each other, coloured by ISO."""
    figure = Figure(figsize=(4.8, 3.6), layout="constrained")
    axes = figure.add_subplot()
    values = np.array([p.values for p in data.points], dtype=float)
    iso = np.array([p.iso or np.nan for p in data.points], dtype=float)
    known = np.isfinite(iso)
    axes.scatter(values[~known, 0], values[~known, 1], s=16, color=INK, alpha=0.4, linewidths=0)
    if known.any():
        norm = LogNorm(iso[known].min(), max(iso[known].max(), iso[known].min() * 2))
        drawn = axes.scatter(
            values[known, 0], values[known, 1], c=iso[known], s=18, alpha=0.85, linewidths=0, norm=norm, cmap="viridis"
        )
        figure.colorbar(drawn, ax=axes, label="ISO", format="%g")
    across, up = (p.name.replace("_", " ") + (f" ({p.unit})" if p.unit else "") for p in data.parameters)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    return figure


def encoders(rows: Sequence[VariantResult], metric: Metric) -> Figure:
    """Figure 5c: a metric on the device against the number of encoders; small dots are seeds."""
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    axes = figure.add_subplot()
    x = [row.encoders for row in rows]
    axes.plot(
        x,
        [row.figures[metric.key].estimate or np.nan for row in rows],
        "o-",
        color=SERIES[0],
        linewidth=1.5,
        label="mean over seeds",
    )
    for row in rows:
        seeds = row.by_seed[metric.key]
        axes.plot([row.encoders] * len(seeds), seeds, "o", color=SERIES[1], markersize=2.5, alpha=0.8)
        interval = row.figures[metric.key]
        if interval.low is not None and interval.high is not None:
            ends = [interval.low, interval.high]
            axes.plot([row.encoders] * 2, ends, color=SERIES[0], alpha=0.45, linewidth=2)
    axes.set_xticks(x)
    axes.set_xlabel("encoders (bars: 95 % over scenes; small dots: seeds)")
    axes.set_ylabel(f"mean {metric.title}")
    return figure


def attention(frame: RawFrame, maps: dict[str, np.ndarray], places: dict[str, int]) -> Figure:
    """Figure 6: a row a variant, a column a parameter; 1 is what an even map has everywhere."""
    image = raw_preview(frame) / 255
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    height, width = grey.shape[:2]
    columns = len(places) + 1
    figure = Figure(figsize=(2.2 * columns, (2.2 * height / width + 0.35) * len(maps) + 0.3), layout="constrained")
    grid = figure.subplots(len(maps), columns, squeeze=False)
    high = max(2.0, *(float(m[i].max() * m[i].size) for m in maps.values() for i in places.values()))
    drawn: Any = None
    for row, (label, of_all) in zip(grid, maps.items(), strict=True):
        row[0].imshow(image)
        row[0].set_title(label.replace(", ", ",\n"), fontsize=7)
        for axes, (name, i) in zip(row[1:], places.items(), strict=True):
            axes.imshow(grey)
            drawn = axes.imshow(
                of_all[i] * of_all[i].size,
                cmap="inferno",
                alpha=0.6,
                vmin=0,
                vmax=high,
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                interpolation="nearest",
            )
            axes.set_title(name.replace("_", " "), fontsize=8)
    for axes in grid.ravel():
        axes.axis("off")
    figure.colorbar(drawn, ax=grid, shrink=0.6, label="times an even map")
    return figure
