"""What a validation's gain is made of, for the page: over ranges of ISO, and by block of the device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from workbench.draw.style import COLOURS, INK, WORSE
from workbench.judge.blocks import ByBlock
from workbench.judge.iso_ranges import IsoRange
from workbench.judge.parts_in_words import short
from workbench.judge.statistics import Comparison
from workbench.report import figures
from workbench.report.figures import Drawing
from workbench.report.material import Material
from workbench.report.words import csv_text, number
from workbench.tasks.task import Metric

ISO, BLOCKS = "by-iso", "by-block"
"""Among the refused of a page: the figures over ISO, those by block."""


@dataclass(frozen=True)
class Exchange:
    """A gain by block: its methods as people call them, and the names of its drawings."""

    part: ByBlock
    lower: str
    upper: str
    drawings: list[str]


@dataclass
class Parts:
    """What the page shows.

    Attributes:
        ranges: of ISO; ``over``: what gains in them are over.
        exchanges: gains by block.
        absent: why one of them is not there, by ``ISO`` or ``BLOCKS``.
    """

    ranges: list[IsoRange] = field(default_factory=list)
    over: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


def parts_of(found: Material) -> tuple[Parts, dict[str, Drawing]]:
    """What a validation's gain is made of, without what is refused, and the drawings by name."""
    results, made, drawings = found.results, Parts(), {}
    if ISO in found.refused:
        made.absent[ISO] = "The figures over ISO are refused, see the marks above."
    elif not results.by_iso:
        made.absent[ISO] = "Nothing over ISO: the RAWs tell one range or none, or the validation is an old one."
    else:
        over = results.by_iso[0].over
        made.ranges, made.over = results.by_iso, "" if over is None or over in found.refused else short(results, over)
    held = [p for p in results.by_block if not {BLOCKS, p.lower, p.upper} & found.refused]
    if results.by_block and not held:
        made.absent[BLOCKS] = "The gain by block is refused, see the marks above."
    elif not held:
        made.absent[BLOCKS] = (
            "No gain by block: it needs a prediction and a baseline whose parameters differ (`workbench validate "
            "--by-block`)."
        )
    for place, part in enumerate(held):
        exchange = Exchange(part, short(results, part.lower), short(results, part.upper), [])
        for metric in [m for m in results.metrics if not m.aside][:2]:
            name = f"blocks{place}-{metric.key}"
            title = f"Gain by block in {metric.label}, {exchange.lower} → {exchange.upper}"
            figure = block_gains(part, metric, exchange.lower, exchange.upper)
            drawings[name] = Drawing(
                title,
                figures.to_svg(figure, name, title),
                _text(part, metric),
                "device",
                [found.source(found.validation)],
            )
            exchange.drawings.append(name)
        made.exchanges.append(exchange)
    return made, drawings


def _text(part: ByBlock, metric: Metric) -> str:
    whole = number(part.gain[metric.key].estimate, metric.form(signed=True))
    unit = f" {metric.unit}" if metric.unit else ""
    return (
        f"Lines: 95 % intervals by scene, of {part.raws} RAWs. All blocks at once: {whole}{unit}. Blocks act together, "
        "so their gains need not sum up to that."
    )


def block_gains(part: ByBlock, metric: Metric, lower: str, upper: str) -> Figure:
    """What each block gives alone, and what is lost without it, in a metric, with 95 % intervals."""
    figure = Figure(figsize=(figures.WIDTH, 1.1 + 0.42 * len(part.blocks)), layout="constrained")
    axes = figure.add_subplot()
    for shift, colour, label, sign in (
        (-0.15, COLOURS["predicted"], f"gained by {lower} with this block of {upper}", 1),
        (0.15, WORSE, f"lost by {upper} with this block of {lower}", -1),
    ):
        for y, block in enumerate(part.blocks):
            gain = (block.alone if sign > 0 else block.without)[metric.key]
            if gain.low is not None and gain.high is not None:
                ends = [sign * gain.low, sign * gain.high]
                axes.plot(ends, [y + shift] * 2, color=colour, linewidth=2.2, alpha=0.55)
            value = float("nan") if gain.estimate is None else sign * gain.estimate
            axes.plot(value, y + shift, "o", color=colour, markersize=5, label="" if y else label)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(part.blocks)), [b.block.replace("_", " ") for b in part.blocks], fontsize=8)
    axes.set_ylim(len(part.blocks) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{metric.label}{f' ({metric.unit})' * bool(metric.unit)}")
    figure.legend(loc="outside upper left", ncols=1, handletextpad=0.5, labelspacing=0.25)
    return figure


def iso_csv(found: Material) -> str:
    """The figures over ISO as CSV, a row a range, method and metric."""
    rows = []
    for part in found.results.by_iso:
        for key, own in part.methods.items():
            refused = "refused" if {ISO, key} & found.refused else ""
            for metric, interval in own.figures.items():
                figure = [interval.estimate, interval.low, interval.high]
                gain = own.gains.get(metric)
                where = [part.low, part.high, part.raws, part.scenes, refused]
                rows.append([*where, key, metric, *figure, part.over if gain else None, *_cells(gain)])
    columns = ["iso_from", "iso_below", "raws", "scenes", "refused", "key", "metric", "value", "low", "high"]
    return csv_text([*columns, "over", "gain", "gain_low", "gain_high", "verdict"], rows)


def blocks_csv(found: Material) -> str:
    """The gain by block as CSV, a row a block and metric."""
    rows = []
    for part in found.results.by_block:
        refused = "refused" if {BLOCKS, part.lower, part.upper} & found.refused else ""
        for block in part.blocks:
            for metric, alone in block.alone.items():
                what = [part.lower, part.upper, refused, block.block, " ".join(block.parameters), block.raws, metric]
                rows.append([*what, *_cells(alone), *_cells(block.without[metric])])
    columns = ["lower", "upper", "refused", "block", "parameters", "raws_that_differ", "metric"]
    columns += [f"{sort}{end}" for sort in ("alone", "without") for end in ("", "_low", "_high", "_verdict")]
    return csv_text(columns, rows)


def _cells(gain: Comparison | None) -> list[Any]:
    return [gain.estimate, gain.low, gain.high, gain.verdict] if gain else [None] * 4
