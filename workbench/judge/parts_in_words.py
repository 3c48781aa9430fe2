"""What a validation's gain is made of, as tables of text: further metrics, ranges of ISO, blocks of the device."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.judge.blocks import ByBlock
from workbench.judge.methods import MethodKind
from workbench.judge.results import ValidationResult
from workbench.judge.statistics import Comparison
from workbench.tasks.task import Metric

Table = tuple[str, list[str], list[list[str]]]
"""Title, columns, rows."""

SHORT = {MethodKind.fixed: "best fixed", MethodKind.oracle: "oracle"}


def part_tables(results: ValidationResult) -> Iterator[Table]:
    """The tables below that of the methods, as far as the validation has them."""
    if metrics := [m for m in results.metrics if m.aside]:
        lower = ", ".join(m.label for m in metrics if not m.higher_is_better)
        rows = [[m.label, *(_value(m.figures[f.key].estimate, f) for f in metrics)] for m in results.methods]
        yield f"further metrics{f'; {lower}: lower is better' * bool(lower)}", ["method", *_titles(metrics)], rows
    if results.by_iso:
        yield _iso_table(results)
    for part in results.by_block:
        yield _block_table(results, part)


def short(results: ValidationResult, key: str) -> str:
    """A method's kind, as there is one of each in an exchange."""
    kind = results.by_key[key].kind
    return SHORT.get(kind, str(kind))


def _iso_table(results: ValidationResult) -> Table:
    metric, over = results.of_raws, results.by_iso[0].over
    columns = ["method", *(f"{part.title} ({part.raws} RAWs)" for part in results.by_iso)]
    rows = []
    for m in results.methods:
        cells = []
        for part in results.by_iso:
            own = part.methods[m.key]
            gain = own.gains.get(metric.key)
            told = f"\n{gain.text(metric.form(signed=True))}" if gain else ""
            cells.append(_value(own.figures[metric.key].estimate, metric) + told)
        rows.append([m.label, *cells])
    return f"{metric.title} by ISO{f', gain over {short(results, over)}' if over else ''}", columns, rows


def _block_table(results: ValidationResult, part: ByBlock) -> Table:
    lower, upper = short(results, part.lower), short(results, part.upper)
    metrics = [m for m in results.metrics if not m.aside][:2]
    columns = ["block"]
    for metric in metrics:
        columns += [f"{metric.label}: {lower} with {upper}'s", f"{metric.label}: {upper} with {lower}'s"]
    rows = []
    for block in part.blocks:
        cells = []
        for m in metrics:
            cells += [_gain(gain[m.key], m) for gain in (block.alone, block.without)]
        rows.append([block.block, *cells])
    whole = [_gain(part.gain[m.key], m) for m in metrics]
    rows.append(["all", *(cell for gain in whole for cell in (gain, ""))])
    units = ", ".join(sorted({m.unit for m in metrics if m.unit}))
    of = f"{lower} → {upper} on {part.raws} RAWs, {part.captures} captures more"
    return f"gain by block{f' ({units})' * bool(units)}: {of}", columns, rows


def _gain(gain: Comparison, metric: Metric) -> str:
    """The estimate, and its interval below."""
    return gain.text(metric.form(signed=True)).replace(" ", "\n", 1)


def _titles(metrics: list[Metric]) -> list[str]:
    return [m.title for m in metrics]


def _value(value: float | None, metric: Metric) -> str:
    return "not defined" if value is None else format(value, metric.form())
