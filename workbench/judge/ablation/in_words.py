"""A study as people read it: the table as rows of text, what came out as lines."""

from __future__ import annotations

from workbench.judge.ablation.results import AblationResult
from workbench.judge.in_words import title_of as compared_title

# What is said of a step of table 3's order.
ORDER_WORDS = {"better": "shown", "worse": "shown to be the other way round", "not shown": "not shown"}


def title_of(results: AblationResult) -> str:
    """What the table is of."""
    seeds = len(results.seeds)
    return f"{compared_title(results)}; {seeds} seed{'s' * (seeds > 1)}, {results.steps} steps each"


def study_table(results: AblationResult) -> tuple[list[str], list[list[str]]]:
    """The columns and rows: a row a variant."""
    main, *others = (m for m in results.metrics if not m.aside)
    unit = f" ({main.unit})" if main.unit else ""
    rows = []
    for row in results.table:
        by_seed, over = row.by_seed[main.key], row.over_reference.get(main.key)
        cells = [
            row.figures[main.key].text(main.form()),
            f"{min(by_seed):{main.form()}}..{max(by_seed):{main.form()}}",
            *(f"{row.figures[m.key].estimate:.4f}" for m in others),
            f"{over.text(main.form(signed=True))} {over.verdict}" if over else "",
        ]
        rows.append([row.key, *cells])
    return ["variant", main.title, "seeds", *(m.title for m in others), f"over {results.reference}{unit}"], rows


def study_lines(results: AblationResult) -> list[str]:
    """What the study says about table 3's order and figure 5b, and what a reader must know."""
    lines, main = [], results.main
    unit = f" {main.unit}" if main.unit else ""
    if results.order:
        lines.append("table 3 has it in this order; here, 95 % intervals by scene in brackets:")
        lines += [
            f"  {step.lower} < {step.higher}: {step.gain.text(main.form(signed=True))}{unit}: "
            f"{ORDER_WORDS[step.gain.verdict]}"
            for step in results.order
        ]
    if data := results.scatter:
        told = [
            f"{p.name} {'is held' if p.held else 'does not move' if r is None else f'{r:+.2f}'}"
            for p, r in zip(data.parameters, data.rank_correlation_with_iso, strict=True)
        ]
        lines.append(f"rank correlation with ISO ({data.key}): {', '.join(told)}")
    return [*lines, *(f"note: {note}" for note in results.notes)]
