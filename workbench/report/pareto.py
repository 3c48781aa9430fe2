"""Pareto fronts: what a tuning for several metrics found, held against the device's captures and the best fixed set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drivers.errors import WorkbenchError
from drivers.parameters import ParameterSet
from workbench.console.progress import each
from workbench.draw.style import COLOURS, GRID, INK, SERIES, WORSE
from workbench.judge.methods import MethodKind
from workbench.judge.results import MethodResult
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.runs import RunFolder
from workbench.report import figures
from workbench.report.checks import Mark
from workbench.report.figures import Drawing
from workbench.report.material import Material
from workbench.report.words import csv_text
from workbench.rules.balance import WhiteBalance, balanced
from workbench.rules.tuned import label_of, rule_of, sets_of
from workbench.tasks.viewing import Scorer
from workbench.tasks.viewing_metrics import METRICS as VIEWING
from workbench.tune.material import COSTS, CostScorer

# How metrics are written: name and form of the figure; what is not here keeps its own name.
NAMES = {
    **{m.key: (m.label, m.form()) for m in VIEWING},
    "ssim": ("SSIM", ".4f"),
    "map50": ("mAP50", ".3f"),
    "map": ("mAP50:95", ".3f"),
    "detector-loss": ("detector loss", ".3f"),
    "latency": ("device time", ".4f"),
    "bytes": ("output size", ".0f"),
}
# Rows of a front's table, and sets of a front whose values are computed anew from the captures.
ROWS, CHECKED = 12, 3
# Relative; captures are exact, the mean over them is not to the last bit.
TOLERANCE = 1e-6
_SHOWN = (MethodKind.default, MethodKind.expert, MethodKind.fixed, MethodKind.industry, MethodKind.oracle)
_MARKERS = {"chosen": ("*", SERIES[0]), "fixed": ("D", COLOURS["fixed"]), "industry": ("s", COLOURS["industry"])}


@dataclass(frozen=True)
class Metric:
    """One metric of a search: its name for people with its unit, the form of its figures, and what is better."""

    key: str
    label: str
    form: str
    lower: bool


@dataclass(frozen=True)
class Row:
    """A parameter set: what it is, its value in each metric, and how many sets of the front it beats in all of them."""

    label: str
    values: list[float]
    beats: int = 0
    key: str = ""
    parameters_hash: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class Front:
    """A Pareto front of the page.

    Attributes:
        run, title: the ``tune`` run, and what it is called.
        metrics: the first is the most important.
        sets: the front, the best in the first metric first; ``others``: sets to hold it against, on the same RAWs.
        tried: values of all sets tried ``[T, M]``; empty where the run's record does not hold them.
        marks: what a reader must know; a refused one strikes the table out and leaves nothing to draw.
        text: what the figure shows, in words.
        drawings: names of the page's drawings.
    """

    run: RunFolder
    title: str
    metrics: list[Metric]
    sets: list[Row]
    others: list[Row]
    tried: np.ndarray
    marks: list[Mark]
    text: str = ""
    drawings: list[str] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        """Whether its figures do not hold."""
        return any(mark.refused for mark in self.marks)

    @property
    def compared(self) -> list[Row]:
        """The sets to hold it against; the chosen one only where it does not lie on the front, which names it."""
        return [row for row in self.others if row.key != "chosen" or not any(r.key for r in self.sets)]

    @property
    def shown(self) -> list[Row]:
        """The sets of the front that the table has room for, evenly spread over it, both ends among them."""
        places = np.unique(np.linspace(0, len(self.sets) - 1, min(ROWS, len(self.sets))).round().astype(int))
        return [self.sets[i] for i in places]


def fronts_of(found: Material, dataset: Dataset | None) -> tuple[list[Front], dict[str, Drawing]]:
    """The Pareto fronts of a lab's tunings, and their drawings by name."""
    fronts, drawings = [], {}
    for place, run in enumerate(found.fronts):
        try:
            front = _front(found, run, dataset)
        except (KeyError, TypeError, ValueError, IndexError, WorkbenchError) as error:
            found.missing.append(f"The Pareto front of {run.name} cannot be read ({error}); tune again.")
            continue
        if not front.refused:
            for i, (title, text, figure) in enumerate(_figures(found, front)):
                name = f"pareto{place}-{i}"
                runs = [run] if not i else [found.validation]
                sources = [found.source(r) for r in runs]
                drawings[name] = Drawing(title, figures.to_svg(figure, name, title), text, "device", sources)
                front.drawings.append(name)
        fronts.append(front)
    return fronts, drawings


def _front(found: Material, run: RunFolder, dataset: Dataset | None) -> Front:
    results = run.results
    metrics = []
    for m in results["metrics"]:
        name, form = NAMES.get(m["name"], (m["name"], ".3f"))
        metrics.append(Metric(m["name"], f"{name} ({m['unit']})" if m["unit"] else name, form, m["better"] == "lower"))
    sets = []
    for i, point in enumerate(results["pareto"]):
        chosen = point["parameters_hash"] == results["parameters_hash"]
        sets.append(
            Row(
                f"front {i + 1}{', chosen' * chosen}",
                [float(point["values"][m.key]) for m in metrics],
                key="chosen" * chosen,
                parameters_hash=point["parameters_hash"],
                parameters=point["parameters"],
            )
        )
    tried = np.array(results.get("tried", ()), dtype=float).reshape(-1, len(metrics))
    front = Front(run, label_of(run), metrics, sets, [], tried, [])
    raws = _raws(run, dataset)
    front.marks = _marks(found, front, raws, dataset)
    if not front.refused:
        front.others = _others(found, front, raws, dataset)
        front.text = _words(found, front)
    return front


def _raws(run: RunFolder, dataset: Dataset | None) -> list[RawRecord]:
    """The RAWs of the trials; empty where one is not in the data set."""
    known = {r.hash: r for r in dataset.raws()} if dataset else {}
    wanted = run.config["raws"]
    return [known[h] for h in wanted] if all(h in known for h in wanted) else []


def _beats(values: np.ndarray, other: np.ndarray, metrics: Sequence[Metric]) -> np.ndarray:
    """Whether sets ``[..., M]`` are at least as good as others in all metrics and better in one."""
    sign = np.array([-1.0 if m.lower else 1.0 for m in metrics])
    difference = (np.asarray(values) - np.asarray(other)) * sign
    return np.asarray((difference >= 0).all(axis=-1) & (difference > 0).any(axis=-1))


def _marks(found: Material, front: Front, raws: Sequence[RawRecord], dataset: Dataset | None) -> list[Mark]:
    """What does not hold: sets in the front that others beat, values that are not those of the device's captures."""
    name, values = front.run.name, np.array([row.values for row in front.sets])
    against = np.concatenate([front.tried, values])
    beaten = sum(bool(_beats(against, v, front.metrics).any()) for v in values)
    if beaten:
        return [Mark(f"{name}: {beaten} of the {len(values)} sets of its front are beaten by another.", (), True)]
    if dataset is None or any(m.key not in (*(v.key for v in VIEWING), *COSTS) for m in front.metrics):
        return [Mark(f"{name}: the values of its front were not verified against the device's captures.")]
    if not raws:
        return [Mark(f"{name}: the RAWs of its trials are not in the data set.", (), True)]
    for i in np.unique(np.linspace(0, len(values) - 1, CHECKED).round().astype(int)):
        row = front.sets[i]
        chosen = found.space.parse(row.parameters)
        balance: WhiteBalance | None = "as-shot" if rule_of(front.run) == "as-shot" else None
        own = _on_device(found, dataset, raws, [balanced(chosen, raw, balance) for raw in raws], front.metrics)
        if own is None:
            return [Mark(f"{name}: captures of its front are not in the data set.", (), True)]
        if not np.allclose(own, row.values, rtol=TOLERANCE, atol=0):
            return [Mark(f"{name}: its front's values are not those of the device's captures.", (), True)]
    return []


def _on_device(
    found: Material,
    dataset: Dataset,
    raws: Sequence[RawRecord],
    sets: Sequence[ParameterSet],
    metrics: Sequence[Metric],
) -> list[float] | None:
    """Mean of each metric over the device's captures of ``raws`` with one set each; None where one was not made."""
    keys = [(raw.hash, p.hash) for raw, p in zip(raws, sets, strict=True)]
    captures = dataset.find(found.results.device.identity, keys)
    if not all(key in captures for key in keys):
        return None
    scorers = [CostScorer(m.key) if m.key in COSTS else Scorer(m.key) for m in metrics]
    values = [
        [abs(scorer(raw, captures[key])) for scorer in scorers]
        for raw, key in zip(each("check a front", raws), keys, strict=True)
    ]
    return [float(v) for v in np.mean(values, axis=0)]


def _others(found: Material, front: Front, raws: Sequence[RawRecord], dataset: Dataset | None) -> list[Row]:
    """The sets to hold the front against, as far as the device was asked for them on the RAWs of the trials."""
    if dataset is None or not raws or any(m.key not in (*(v.key for v in VIEWING), *COSTS) for m in front.metrics):
        return []
    space = found.space
    asked: list[tuple[str, str, Sequence[ParameterSet]]] = []
    labels = {"chosen": f"chosen by {front.run.name}", "fixed": "best fixed", "industry": "industry"}
    for key, run in (("chosen", front.run), *((k, found.tunings[k]) for k in labels if k in found.tunings)):
        if key not in found.refused:
            asked.append((key, labels[key], sets_of(run, space, raws)))
    if "expert" in found.labels:
        codes = found.results.per_raw[0].methods["expert"].codes
        asked.append(("expert", "expert", [space.from_codes(codes)] * len(raws)))
    asked.append(("default", "default", [space.defaults] * len(raws)))
    rows = []
    for key, label, sets in asked:
        values = _on_device(found, dataset, raws, sets, front.metrics)
        if values is not None:
            beats = int(_beats(np.array(values), np.array([row.values for row in front.sets]), front.metrics).sum())
            rows.append(Row(label, values, beats, key))
    return rows


def _words(found: Material, front: Front) -> str:
    raws, sets, tried = len(front.run.config["raws"]), len(front.sets), len(front.tried)
    by = "both metrics" if len(front.metrics) == 2 else "all metrics"
    text = f"{sets} of {tried} sets tried are" if tried else f"{sets} set{'s are' if sets > 1 else ' is'}"
    text += f" beaten by no other in {by}. Means over the {raws} training RAWs of the trials, which the search chose "
    text += f"by: new RAWs will give less. {front.run.results['captures']} captures. "
    fixed = next((row for row in front.others if row.key == "fixed"), None)
    if fixed is None:
        run = found.tunings.get("fixed")
        if run is None:
            return text.strip()
        seed, trial = (run.config.get(key, "–") for key in ("seed", "raws_per_trial"))
        text += f"The best fixed set ({run.name}) was not captured on these RAWs: a tuning with its --seed {seed} and "
        return text + f"--raws-per-trial {trial} can be held against it."
    run = found.tunings["fixed"]
    beaten = _beats(np.array([row.values for row in front.sets]), np.array(fixed.values), front.metrics).any()
    spent = f"The best fixed set ({run.name}, {run.results.get('captures', '–')} captures)"
    if fixed.beats:
        return text + f"{spent} beats {fixed.beats} of the {sets} in {by}."
    return text + f"{spent} {'is beaten by the front' if beaten else 'lies on it, none beats the other'}."


# Figures


def _figures(found: Material, front: Front) -> list[tuple[str, str, Figure]]:
    """Title, text and figure: the front, and the same metrics of the methods on the test RAWs where they are known."""
    *first, last = (m.label.partition(" (")[0] for m in front.metrics)
    names = f"{', '.join(first)} and {last}"
    drawn = [(f"Pareto front of {names}: {front.title}", front.text, _draw_front(front))]
    shown = [
        m
        for m in found.results.methods
        if m.key not in found.refused
        and (m.kind in _SHOWN or m.key == found.predicted or (m.kind is MethodKind.tune and m.run == front.run.name))
    ]
    shown.sort(key=lambda m: (m.kind is MethodKind.tune, m.kind is MethodKind.oracle))
    if {m.key for m in front.metrics} <= {m.key for m in found.results.metrics} and shown:
        text = "What the front cannot show, since nothing was predicted for its RAWs: the methods on the test RAWs."
        drawn.append((f"{names} of the methods, test RAWs", text, _draw_methods(front, shown)))
    return drawn


def _draw_front(front: Front) -> Figure:
    """For each further metric: all sets tried, and below it the front from near."""
    pairs = len(front.metrics) - 1
    figure = Figure(figsize=(figures.WIDTH, 0.5 + 4.6 * pairs), layout="constrained")
    grid = figure.subplots(2 * pairs, 1, squeeze=False, height_ratios=[2, 3] * pairs)[:, 0]
    values = np.array([row.values for row in front.sets])
    for i in range(pairs):
        whole, near = grid[2 * i], grid[2 * i + 1]
        for axes in (whole, near):
            _plane(axes, front, values, i + 1, small=axes is whole)
        points = np.concatenate([values, *(np.array([row.values]) for row in front.others if row.key in _MARKERS)])
        for across, place in ((True, i + 1), (False, 0)):
            low, high = points[:, place].min(), points[:, place].max()
            margin = 0.12 * (high - low) or 0.01 * abs(high) or 1.0
            (near.set_xlim if across else near.set_ylim)(low - margin, high + margin)
        whole.set_title("all sets tried", loc="left")
        near.set_title("the front from near", loc="left")
        near.set_xlabel(_axis(front.metrics[i + 1]))
    handles, labels = grid[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, columnspacing=1.2, handletextpad=0.4)
    return figure


def _plane(axes: Axes, front: Front, values: np.ndarray, place: int, *, small: bool) -> None:
    if len(front.tried):
        axes.plot(front.tried[:, place], front.tried[:, 0], "o", color=INK, alpha=0.22, markersize=3, label="tried")
    if len(front.metrics) == 2:
        order = np.argsort(values[:, 1])
        where: Literal["pre", "post"] = "post" if front.metrics[1].lower else "pre"
        axes.step(values[order, 1], values[order, 0], where=where, color=WORSE, linewidth=1.2, alpha=0.7)
    axes.plot(values[:, place], values[:, 0], "o", color=WORSE, markersize=3 if small else 5, label="Pareto front")
    for row in front.others:
        marker, colour = _MARKERS.get(row.key, ("X", COLOURS.get(row.key, GRID)))
        size = (6 if small else 9) * (1.4 if marker == "*" else 0.8)
        label = "chosen" if row.key == "chosen" else row.label
        axes.plot(
            row.values[place], row.values[0], marker, color=colour, markersize=size, label=label,
            markeredgecolor="white", markeredgewidth=0.6, linestyle="none",
        )  # fmt: skip
    axes.set_ylabel(_axis(front.metrics[0]))


def _axis(metric: Metric) -> str:
    return f"{metric.label}, lower is better" if metric.lower else metric.label


def _draw_methods(front: Front, methods: Sequence[MethodResult]) -> Figure:
    figure = Figure(figsize=(figures.WIDTH, 3.6), layout="constrained")
    axes = figure.add_subplot()
    own = {MethodKind.fixed: "best fixed", MethodKind.tune: f"chosen by {front.run.name}"}
    for method in methods:
        kind = method.kind
        colour = SERIES[0] if kind is MethodKind.tune else figures.colour_of(kind)
        marker, _ = _MARKERS.get("chosen" if kind is MethodKind.tune else kind, ("o", ""))
        label = own.get(kind, kind.value)
        y, x = (method.figures[m.key].estimate or 0.0 for m in front.metrics[:2])
        axes.plot(
            x, y, marker, color=colour, markersize=8, label=label, linestyle="none",
            markeredgecolor="white", markeredgewidth=0.6,
        )  # fmt: skip
    axes.set_xlabel(_axis(front.metrics[1]))
    axes.set_ylabel(_axis(front.metrics[0]))
    figure.legend(loc="outside upper center", ncols=3, columnspacing=1.2, handletextpad=0.4)
    return figure


def fronts_csv(fronts: Sequence[Front]) -> str:
    """All sets of the fronts with their parameters, the sets held against them, and the values of all sets tried."""
    metrics = list(dict.fromkeys(m.key for front in fronts for m in front.metrics))
    parameters = list(dict.fromkeys(n for front in fronts for row in front.sets for n in row.parameters))
    rows: list[list[Any]] = []
    for front in fronts:
        tried = [Row("tried", [float(v) for v in values]) for values in front.tried]
        for row in (*front.sets, *front.others, *tried):
            of = dict(zip((m.key for m in front.metrics), row.values, strict=True))
            held = "refused" if front.refused else ""
            rows.append(
                [front.run.name, row.label, held, *(of.get(m) for m in metrics), row.parameters_hash]
                + [row.parameters.get(n) for n in parameters]
            )
    return csv_text(["run", "set", "refused", *metrics, "parameters_hash", *parameters], rows)
