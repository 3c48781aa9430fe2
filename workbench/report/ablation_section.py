"""A finished ``ablate`` run in the report: table 3 and its order in words, figures 5b, 5c and 6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from drivers.errors import WorkbenchError
from drivers.splits import Split
from drivers.weights import WeightsError
from workbench.draw import images
from workbench.judge.ablation import figures as ablation_figures
from workbench.judge.ablation.results import MIN_SEEDS, AblationResult, SeedComparison
from workbench.lab.dataset import CaptureRecord, Dataset
from workbench.lab.runs import RunFolder, find_recorded
from workbench.learn.held import held_by
from workbench.learn.predictors import open_predictor
from workbench.report import figures
from workbench.report.ablation_checks import check_ablation
from workbench.report.checks import Mark
from workbench.report.figures import Drawing
from workbench.report.material import Material
from workbench.report.pictures import AttentionRow, attention_cells, preview_cell
from workbench.report.words import csv_text, number, with_unit
from workbench.tasks.task import Metric

# What is said of a step of table 3's order.
ORDER_WORDS = {"better": "shown", "worse": "the other way round", "not shown": "not shown"}
STEPS = 5


@dataclass(frozen=True)
class Step:
    """A step of table 3's order: two variants by label, the gain from the lower to the higher, and why its verdict."""

    lower: str
    higher: str
    gain: SeedComparison
    reason: str


@dataclass
class Ablation:
    """What the page shows of a study.

    Attributes:
        run: the ``ablate`` run; ``results``: of it.
        marks: what a reader must know; a refused one strikes the table out and leaves nothing to draw.
        steps: table 3's order, as far as the study has it; ``order``: what comes out, in a sentence.
        drawings: of the figures by name; ``maps``: a row a variant, ``maps_absent``: why there are none.
    """

    run: RunFolder
    results: AblationResult
    marks: list[Mark]
    steps: list[Step] = field(default_factory=list)
    order: str = ""
    drawings: dict[str, Drawing] = field(default_factory=dict)
    maps: list[AttentionRow] = field(default_factory=list)
    maps_absent: str = ""

    @property
    def refused(self) -> bool:
        """Whether its figures do not hold."""
        return any(mark.refused for mark in self.marks)


def ablation_of(found: Material, dataset: Dataset | None, captures: Sequence[CaptureRecord]) -> Ablation | None:
    """The study of the report; None (noted as missing where it should be there) without one.

    ``captures`` are those of the data set, none without it.
    """
    run = found.ablation
    if run is None:
        return None
    try:
        results = AblationResult.read(run.path / "results.json")
        shown = Ablation(run, results, check_ablation(found, run, results, dataset, captures))
        labels = {row.key: row.label for row in results.table}
        shown.steps = [
            Step(labels[step.lower], labels[step.higher], step.gain, reason_of(step.gain)) for step in results.order
        ]
        shown.order = order_in_words(shown.steps)
        if not shown.refused:
            shown.drawings = _drawings(found, shown)
            shown.maps, shown.maps_absent = _maps(found, shown, dataset)
    except (OSError, ValueError, KeyError, TypeError, IndexError, WorkbenchError) as error:
        found.missing.append(f"The ablation {run.name} cannot be read ({error}); run `workbench ablate` again.")
        return None
    return shown


def reason_of(gain: SeedComparison) -> str:
    """Why a step's verdict is what it is."""
    by_seed = np.array(gain.by_seed)
    if len(by_seed) < MIN_SEEDS:
        return f"{len(by_seed)} seed{'s' * (len(by_seed) > 1)}, {MIN_SEEDS} are the least"
    if gain.low is None or gain.high is None:
        return f"{gain.clusters} scenes are too few"
    if not (np.all(by_seed > 0) or np.all(by_seed < 0)):
        return f"the {len(by_seed)} seeds do not agree on its sign"
    if gain.low <= 0 <= gain.high:
        return "the 95 % interval holds 0"
    side = "above" if gain.low > 0 else "below"
    return f"the 95 % interval and all {len(by_seed)} seeds lie {side} 0"


def order_in_words(steps: Sequence[Step]) -> str:
    """What comes out of table 3's order, in a sentence."""
    if not steps:
        return "This study has no two neighbours of table 3's order."
    missing = f" {STEPS - len(steps)} of its {STEPS} steps are not in this study." if len(steps) < STEPS else ""
    words = [ORDER_WORDS[step.gain.verdict] for step in steps]
    if len(set(words)) == 1:
        return f"{f'All {len(steps)} steps' if len(steps) > 1 else 'The one step'} of this study: {words[0]}.{missing}"
    said = [f"{words.count(w)} {w}" for w in ORDER_WORDS.values() if w in words]
    return f"Of the {len(steps)} steps of this study: {', '.join(said)}.{missing}"


def _drawings(found: Material, shown: Ablation) -> dict[str, Drawing]:
    results, sources = shown.results, [found.source(shown.run)]
    main = results.main
    drawn: dict[str, Drawing] = {}
    if len(results.depths) > 1:
        title = "Result against the number of encoders (figure 5c)"
        best = max(results.depths, key=lambda row: main.sign * (row.figures[main.key].estimate or 0.0))
        value = with_unit(best.figures[main.key].estimate, main)
        text = f"{best.encoders} encoders gave the best, {value}. Whether two depths differ is in the table: the bars "
        text += "say how well each mean is known."
        svg = figures.to_svg(ablation_figures.encoders(results.depths, main), "ablation_encoders", title)
        drawn["ablation_encoders"] = Drawing(title, svg, text, "device", sources)
    scatter = results.scatter
    if scatter and scatter.points:
        names = [p.name.replace("_", " ") for p in scatter.parameters]
        title = f"{names[0]} against {names[1]} (figure 5b)"
        text = f"What {scatter.key}, seed {scatter.seed}, predicted for the {len(scatter.points)} test RAWs. "
        text += "Rank correlation with ISO: "
        ranks = zip(names, scatter.parameters, scatter.rank_correlation_with_iso, strict=True)
        text += ", ".join(
            f"{name} {'is held' if p.held else 'does not move' if r is None else number(r, '+.2f')}"
            for name, p, r in ranks
        )
        text += "."
        svg = figures.to_svg(ablation_figures.scatter(scatter), "ablation_scatter", title)
        drawn["ablation_scatter"] = Drawing(title, svg, text, "device", sources)
    return drawn


def _maps(found: Material, shown: Ablation, dataset: Dataset | None) -> tuple[list[AttentionRow], str]:
    """Figure 6 from the study's networks: a row a variant on one scale; or why it cannot be drawn."""
    asked = shown.results.attention
    if not asked:
        return [], "The study drew no attention maps."
    raws = [r for r in (dataset.raws(Split.TEST) if dataset else ()) if r.name == asked.raw]
    if not raws:
        return [], f"The RAW {asked.raw} of figure 6 is not in the data set."
    rows = {row.key: row for row in shown.results.table}
    place = shown.results.seeds.index(asked.seed)
    try:
        frame = raws[0].load()
        maps, names, held = {}, list[str](), set[str]()
        for key in asked.variants:
            run = find_recorded(found.lab, "train", rows[key].runs[place])
            network = open_predictor(run)
            held |= set(held_by(run))
            maps[key], names = network.attention(frame), network.space.names
        places = {name: names.index(name) for name in asked.parameters if name not in held}
    except (WeightsError, WorkbenchError, ValueError) as error:
        return [], f"Figure 6 cannot be drawn again, see attention.svg in the folder of {shown.run.name}: {error}"
    if not places:
        return [], "The parameters of figure 6 are held at their start values, so no map is drawn of them."
    bright = max(float(m[i].max() * m[i].size) for m in maps.values() for i in places.values())
    preview = images.raw_preview(frame)
    size = {key: f"{m.shape[2]}×{m.shape[1]} cells" for key, m in maps.items()}
    return [
        AttentionRow(
            f"{rows[key].label}: {size[key]}",
            asked.raw,
            [preview_cell(preview), *attention_cells(preview, m, places, bright)],
        )
        for key, m in maps.items()
    ], ""


def _column(metric: Metric) -> str:
    return f"{metric.key}_{metric.unit.lower()}" if metric.unit else metric.key


def table_csv(shown: Ablation) -> str:
    """The variants as CSV."""
    results, seeds = shown.results, shown.results.seeds
    columns = ["run", "refused", "key", "label", "about", "attention", "encoders", "metadata", "fixed"]
    for name in map(_column, results.metrics):
        columns += [name, f"{name}_low", f"{name}_high", *(f"{name}_seed_{seed}" for seed in seeds)]
        columns += [f"{name}_over_reference{end}" for end in ("", "_low", "_high", "_verdict")]
    rows = []
    for row in results.table:
        cells: list[Any] = [shown.run.name, "refused" if shown.refused else "", row.key, row.label]
        cells += ["; ".join(row.about), row.attention, row.encoders, row.metadata, row.fixed]
        for metric in results.metrics:
            interval, over = row.figures[metric.key], row.over_reference.get(metric.key)
            cells += [interval.estimate, interval.low, interval.high, *row.by_seed[metric.key]]
            cells += [over.estimate, over.low, over.high, over.verdict] if over else [None] * 4
        rows.append([*cells, row.weights, row.gflop_2048x1536, " ".join(row.runs)])
    return csv_text([*columns, "weights", "gflop_2048x1536", "train_runs"], rows)


def order_csv(shown: Ablation) -> str:
    """Table 3's order as CSV."""
    main = shown.results.main
    gained = f"gain_{main.unit.lower()}" if main.unit else "gain"
    rows = []
    for pair, step in zip(shown.results.order, shown.steps, strict=True):
        gain = pair.gain
        cells: list[Any] = [shown.run.name, "refused" if shown.refused else "", pair.lower, pair.higher]
        cells += [gain.estimate, gain.low, gain.high, " ".join(map(str, gain.by_seed))]
        rows.append([*cells, ORDER_WORDS[gain.verdict], step.reason])
    columns = ("run", "refused", "lower", "higher", gained, "low", "high", "by_seed", "words", "reason")
    return csv_text(columns, rows)


def raws_csv(shown: Ablation) -> str:
    """Every variant's figures of every test RAW and seed as CSV, with figure 5b's two parameters where it has them."""
    results, scatter = shown.results, shown.results.scatter
    names = [p.name for p in scatter.parameters] if scatter else []
    points = {p.raw: p.values for p in scatter.points} if scatter else {}
    drawn = (scatter.key, scatter.seed) if scatter else None
    metrics = [m for m in results.metrics if m.per_raw]
    rows = []
    for raw in results.per_raw:
        for key, scores in raw.variants.items():
            for place, seed in enumerate(results.seeds):
                values = points.get(raw.name, []) if (key, seed) == drawn else []
                figures_of = [scores[m.key][place] for m in metrics]
                rows.append([raw.name, raw.scene, raw.iso, key, seed, *figures_of, *values])
    return csv_text(["raw", "scene", "iso", "key", "seed", *map(_column, metrics), *names], rows)
