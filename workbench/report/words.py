"""Numbers, intervals and verdicts as a report says them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from workbench.judge.statistics import Interval
from workbench.tasks.task import Metric

# With these every verdict can be read aloud.
VERDICTS = {
    "better": "shown to be better",
    "worse": "shown to be worse",
    "not shown": "no difference shown",
    "refused": "refused",
}


def number(value: float | None, form: str = ".2f") -> str:
    """A number for people, ``–`` where there is none."""
    return "–" if value is None or not np.isfinite(value) else format(value, form).replace("-", "−")


def code(text: str) -> Markup:
    """A text with its commands, which stand in backticks, as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def with_unit(value: float | None, metric: Metric, signed: bool = False) -> str:
    """A value of a metric with its unit, or else with its name: ``25.10 dB``, ``log loss 0.312``."""
    text = number(value, metric.form(signed))
    return f"{text} {metric.unit}" if metric.unit else f"{metric.label} {text}"


def interval_text(interval: Interval | None, form: str = ".2f", scale: float = 1.0) -> str:
    """The ends of an interval: ``1.00 … 2.00``, or that there is none."""
    if interval is None:
        return ""
    if interval.low is None or interval.high is None:
        return "too few scenes"
    return f"{number(interval.low * scale, form)} … {number(interval.high * scale, form)}"


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()
