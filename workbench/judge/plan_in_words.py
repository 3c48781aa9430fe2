"""A plan as text."""

from __future__ import annotations

from workbench.judge.in_words import text_table
from workbench.judge.plan_results import Expected, Plan

_UNITS = ("B", "kB", "MB", "GB", "TB")


def plan_lines(plan: Plan) -> list[str]:
    """The table of a plan and what a reader must know, line by line."""
    how = f"measured over {plan.frames} captures" if plan.frames else "as given"
    title = f"{plan.identity}: {1000 * plan.frame_s:.3g} ms a capture, {how}"
    over = "over industry" + (f" ({plan.unit})" if plan.unit else "")
    share = "for prediction" if plan.refined else "collected"
    columns = ["time", "captures", share, "on disk", over]
    rows = [
        [t.name, f"{t.captures:,}", f"{t.collected:,}", _bytes(t.disk_bytes), _expected(t.expected)] for t in plan.times
    ]
    lines = text_table(title, columns, rows).split("\n")
    left_for = "rule, refinement and choosing how far to follow it" if plan.refined else "the collection"
    lines.append(
        f"{share}: what is left for {left_for} beside an industry table tuned with as many captures" + _costs(plan)
    )
    if plan.budgets:
        lines.append(f"measured in this lab, {plan.metric} over industry with its 95 % interval by scene:")
        lines += [
            f"  {b.captures:,} captures: {b.gain:+.2f} [{b.low:+.2f}, {b.high:+.2f}] ({b.run})" for b in plan.budgets
        ]
    return [*lines, *(f"note: {note}" for note in plan.notes)]


def _costs(plan: Plan) -> str:
    costs = plan.costs
    told = [
        f"{name} {amount:,.0f} {unit}"
        for name, amount, unit in (
            ("fidelity report", costs.fidelity_captures, "captures"),
            ("fit", costs.fit_s, "s"),
            ("refining, without the device's time" if plan.refined else "training", costs.train_s, "s"),
            ("validation", costs.validation_captures, "captures"),
        )
        if amount is not None
    ]
    return f", {', '.join(told)}" if told else " (the lab has no record of what the other steps cost)"


def _expected(expected: Expected | None) -> str:
    if expected is None:
        return "–"
    far = f", {expected.beyond:,.2g}× beyond" if expected.beyond > 1 else ""
    return f"{expected.gain:+.2f} [{expected.low:+.2f}, {expected.high:+.2f}]{far}"


def _bytes(count: float | None) -> str:
    if count is None:
        return "–"
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} {_UNITS[-1]}"
