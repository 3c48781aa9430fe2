"""The tables of methods as CSV, and the headline figures of a page."""

from __future__ import annotations

from typing import Any

from workbench.judge.methods import MethodKind
from workbench.report.material import Material
from workbench.report.words import VERDICTS, csv_text, interval_text, number


def methods_csv(found: Material) -> str:
    """The table of methods as CSV."""
    results = found.results
    main, *others = results.metrics
    unit = f"_{main.unit.lower()}" if main.unit else ""
    columns = ["key", "label", "run", f"{main.key}{unit}", f"{main.key}_low", f"{main.key}_high"]
    columns += [m.key for m in others]
    columns += [f"gain_over_fixed{unit}", "gain_low", "gain_high", "verdict", "captures", "metadata"]
    columns += ["wilcoxon_p", "worse_share", f"fifth_percentile{unit}", "words", "device_s", "compute_s"]
    rows = []
    for m in results.methods:
        of_main, gain = m.figures[main.key], m.over.get(MethodKind.fixed, {}).get(main.key)
        paired = found.gain(MethodKind.fixed, m.key)
        verdict = "refused" if m.key in found.refused else paired.verdict if paired else None
        row: list[Any] = [m.key, m.label, m.run, of_main.estimate, of_main.low, of_main.high]
        row += [m.figures[o.key].estimate for o in others]
        row += [gain.estimate, gain.low, gain.high] if gain else [None] * 3
        row += [verdict, m.captures, m.metadata]
        row += [None] * 4
        if paired:
            row[-4:] = [paired.p_value, paired.worse_share, paired.fifth_percentile, paired.words(main.unit)]
        rows.append([*row, m.device_s, m.compute_s])
    return csv_text(columns, rows)


def raws_csv(found: Material) -> str:
    """Every method's figures of every test RAW as CSV, with the hash of the device's output."""
    metrics = [m for m in found.results.metrics if m.per_raw]
    titles = [f"{m.key}_{m.unit.lower()}" if m.unit else m.key for m in metrics]
    return csv_text(
        ("raw", "scene", "iso", "key", *titles, "output_hash"),
        (
            [row.name, row.scene, row.iso, key, *(scores.figures[m.key] for m in metrics), scores.output_hash]
            for row in found.results.per_raw
            for key, scores in row.methods.items()
        ),
    )


def headline(found: Material) -> list[dict[str, str]]:
    """The headline figures: value, unit, label, interval and verdict; empty without a predictor."""
    results, main = found.results, found.results.main
    if results.headline is None or found.predicted in found.refused:
        return []
    tiles = []
    for over, label in (
        (MethodKind.fixed, "predicted over best fixed"),
        (None, "of the gap from best fixed to the per-image oracle closed"),
        (MethodKind.industry, "predicted over industry (as-shot white balance, table over ISO)"),
        (MethodKind.auto, "predicted over auto (as-shot white balance, linear in ISO and light)"),
        (MethodKind.expert, "predicted over expert"),
    ):
        if over is None:
            gap = results.headline.gap_closed
            if results.oracle_metric != main:
                label += f", in {results.oracle_metric.label}"
            if gap and gap.estimate is not None and not {MethodKind.fixed, MethodKind.oracle} & found.refused:
                sure = f"95 % interval {interval_text(gap, '+.0f', 100)}"
                if gap.low is None:
                    sure = f"no interval: only {gap.clusters} scenes"
                value = number(100 * gap.estimate, ".0f")
                tiles.append({"value": value, "unit": "%", "label": label, "interval": sure, "verdict": "", "tone": ""})
            continue
        paired = found.gain(over)
        if paired is None:
            continue
        form = main.form(signed=True)
        ends = "" if paired.low is None else f"95 % interval {interval_text(paired, form)}; "
        tiles.append(
            {
                "value": number(paired.estimate, form),
                "unit": main.unit or main.label,
                "label": label,
                "interval": f"{ends}{paired.brief}",
                "verdict": VERDICTS[paired.verdict],
                "tone": paired.verdict.replace(" ", "-"),
            }
        )
    return tiles
