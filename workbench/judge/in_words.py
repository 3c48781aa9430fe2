"""Comparisons as people read them: tables as rows of text, what came out as lines."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.judge.methods import MethodKind
from workbench.judge.results import ChooseResult, Compared, ValidationResult
from workbench.judge.statistics import Comparison
from workbench.tasks.task import Metric

OVER = {
    MethodKind.fixed: "the best fixed set",
    MethodKind.industry: "industry",
    MethodKind.auto: "auto",
    MethodKind.expert: "the expert",
}


def title_of(results: Compared, split: str = "test") -> str:
    """What a table is of."""
    facts = "".join(f" with {count} {what}" for what, count in results.facts.items())
    judge = f", {results.detector}" if results.detector else ""
    under = f", setting {results.setting.name}" if results.setting else ""
    return (
        f"{results.raws} {split} RAWs of {results.scenes} scenes{facts} on {results.device.model}, "
        f"outputs of the device{judge}{under}"
    )


def validation_table(results: ValidationResult) -> tuple[list[str], list[list[str]]]:
    """The columns and rows of a validation: a row a method, ``*`` where its budget was smaller."""
    main, metrics = results.main, [m for m in results.metrics if not m.aside]
    columns = ["method", *(m.title for m in metrics), f"over best fixed{_in(main)}", "captures"]
    rows = []
    for m in results.methods:
        gain = m.over.get(MethodKind.fixed, {}).get(main.key)
        captures = "" if m.captures is None else f"{m.captures}{'*' if m.fewer_captures_than_collection else ''}"
        cells = [_value(m.figures[metric.key].estimate, metric) for metric in metrics]
        rows.append([m.label, *cells, gain.text(main.form(signed=True)) if gain else "", captures])
    return columns, rows


def choice_table(results: ChooseResult) -> tuple[list[str], list[list[str]]]:
    """The columns and rows of a choice: a row a run."""
    metric, first = results.of_raws, results.rows[0]
    over = "over best fixed" if first.rule else f"over {first.run}"
    gained = f"{over}{_in(metric)}" if metric.higher_is_better else f"{metric.label} under{over.removeprefix('over')}"
    shown = [m for m in results.metrics if m.key != "map75" and not m.aside]
    rows = []
    for row in results.rows:
        cells = [_value(row.scores[m.key], m) for m in shown]
        gain = row.gain.text(metric.form(signed=True)) if row.gain else ""
        rows.append([f"best fixed ({row.run})" if row.rule else row.run, *cells, gain])
    return ["run", *(m.title for m in shown), gained], rows


def text_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text, as wide as it needs to be."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [columns, *rows]
    ]
    return "\n".join([title, *(line.rstrip() for line in lines)])


def validation_lines(results: ValidationResult) -> list[str]:
    """What came out, one line each, and what a reader must know."""
    lines = _headline(results)
    metric = results.of_raws
    if oracle := results.oracle:
        lines.append(
            f"oracle: {oracle.captures_per_raw} captures a RAW, the last quarter of them gained "
            f"{_with_unit(oracle.last_quarter_gain, results.oracle_metric)}"
        )
    if proxy := results.proxy:
        lines.append(
            f"proxy (run {proxy.run}): {proxy.psnr_to_device:.2f} dB to the device's output at the predicted "
            f"parameters; promised {_of(proxy.promised, metric)}, the device gave {_of(proxy.given, metric)}"
        )
    if setting := results.setting:
        lines.append(f"the same in every method: setting {setting.told}")
    return [*lines, *(f"note: {note}" for note in results.notes), *(f"* {line}" for line in results.budgets)]


def _headline(results: ValidationResult) -> list[str]:
    about = results.about
    if about is None:
        return []
    lines = []
    asked = [results.main] if results.main.per_raw else [results.main, results.of_raws]
    for kind, label in OVER.items():
        if gains := about.over.get(kind):
            told = "; ".join(_gain(gains[m.key], m, named=asked[1:] != []) for m in asked if m.key in gains)
            lines.append(f"  over {label}: {told}")
    if results.headline and (gap := results.headline.gap_closed):
        of = "" if results.oracle_metric == results.main else f" in {results.oracle_metric.label}"
        lines.append(f"  gap to the per-image oracle closed{of}: {gap.text('+.0f', 100)} %")
    if (fixed := about.over.get(MethodKind.fixed, {}).get(results.of_raws.key)) and fixed.worse_share is not None:
        by = "" if results.of_raws == results.main else f" by {results.of_raws.label}"
        lines.append(
            f"  {fixed.worse_share:.0%} of RAWs worse than with the best fixed set{by}; "
            f"5th percentile {_with_unit(fixed.fifth_percentile or 0.0, results.of_raws, signed=True)}"
        )
    return [f"{about.run}, 95 % intervals by scene in brackets:", *lines] if lines else []


def _gain(gain: Comparison, metric: Metric, named: bool) -> str:
    name, unit = f"{metric.label} " if named else "", f" {metric.unit}" if metric.unit else ""
    return f"{name}{gain.text(metric.form(signed=True))}{unit}: {gain.verdict}"


def _in(metric: Metric) -> str:
    return f" ({metric.unit})" if metric.unit else ""


def _value(value: float | None, metric: Metric, signed: bool = False) -> str:
    return "not defined" if value is None else format(value, metric.form(signed))


def _with_unit(value: float, metric: Metric, signed: bool = False) -> str:
    return _value(value, metric, signed) + (f" {metric.unit}" if metric.unit else "")


def _of(value: float, metric: Metric) -> str:
    return _with_unit(value, metric) if metric.unit else f"{metric.label} {_value(value, metric)}"
