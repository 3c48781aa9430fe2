"""Two validations side by side: what is the same, what differs, and the paired difference of every method.

The gain is the second run's over the first, on the test RAWs that both have, in the first metric that single RAWs have;
a metric of a whole set of images, such as mAP, is given for each run with its own interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from drivers.atomic_files import write_text
from drivers.foreign_text import shown_page
from workbench.draw.style import styled
from workbench.errors import RunError
from workbench.judge.budgets import less_than, rounding_of
from workbench.judge.methods import MethodKind
from workbench.judge.statistics import Comparison, Interval, compare
from workbench.lab.runs import find_run
from workbench.report import figures
from workbench.report.build import FOLDER, PAGE_SUFFIXES, templates
from workbench.report.checks import Mark, check_validation, refused
from workbench.report.material import Material, open_dataset, read_material
from workbench.report.words import VERDICTS, csv_text
from workbench.tasks.task import Metric


@dataclass(frozen=True)
class Pair:
    """A method that both runs have: its key, values (``[R]``, on the RAWs in common) and captures in each.

    ``gain`` is what the second gains over the first on each RAW; ``paired`` compares them by it, and is None where the
    figures of one are refused. ``of_set`` is the first metric of each run, where single RAWs do not have it.
    """

    label: str
    keys: tuple[str, str]
    values: tuple[np.ndarray, np.ndarray]
    gain: np.ndarray
    captures: tuple[int | None, int | None]
    paired: Comparison | None
    of_set: tuple[Interval, Interval] | None = None


@dataclass(frozen=True)
class Fact:
    """Something that two runs may have in common: what it is, and its text in each."""

    what: str
    first: str
    second: str

    @property
    def same(self) -> bool:
        """Whether both runs have the same."""
        return self.first == self.second


def write_comparison(lab: Path, first: str, second: str, *, out: Path | None = None) -> Path:
    """Write the page that compares two ``validate`` runs of one task, with its tables as CSV beside it.

    Args:
        lab: the lab folder.
        first, second: names of runs in it, or paths of runs in any lab.
        out: the HTML file, by default ``report-compare.html`` in the lab.

    Raises:
        RunError: a run is missing or damaged, they are of different tasks or detectors or have no RAW in common, or the
            page cannot be written.
    """
    out = Path(lab) / "report-compare.html" if out is None else Path(out)
    if out.suffix.lower() not in PAGE_SUFFIXES:
        raise RunError(f"{out}: is no name of a page; give the page a name that ends in .html")
    runs = [find_run(lab, "validate", name) for name in (first, second)]
    found = [read_material(run.path.parent.parent, run.name) for run in runs]
    one, other = (f.results for f in found)
    for what, told in (("task", (one.task, other.task)), ("detector", (one.detector, other.detector))):
        if told[0] != told[1]:
            raise RunError(f"{first} and {second}: {what} {told[0]} and {told[1]}; their figures cannot be compared")
    metric = found[0].metric
    marks = [_marks(f) for f in found]
    places = common_raws(*found)
    if not places:
        raise RunError(f"{first} and {second}: have no test RAW in common, so there is nothing to compare")
    pairs = pairs_of(found[0], found[1], places)
    facts = facts_of(found[0], found[1], len(places))
    with styled():
        svgs = [
            (p.label, figures.to_svg(figures.differences(p.gain, metric), f"pair{i}", f"{p.label}, RAW by RAW"))
            for i, p in enumerate(pairs)
            if p.paired is not None and np.any(p.gain)
        ]
    page = (
        templates()
        .get_template("comparison.html")
        .render(
            found=found,
            sources=[f.source(f.validation) for f in found],
            marks=list(zip(("first", "second"), marks, strict=True)),
            remarks=remarks_of(facts, pairs, found, len(places)),
            facts=facts,
            pairs=pairs,
            svgs=svgs,
            raws=len(places),
            metric=metric,
            main=one.main,
            detector=one.detector,
            verdicts=VERDICTS,
            style=Markup((FOLDER / "style.css").read_text(encoding="utf-8")),
        )
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, shown_page(page))
        write_text(out.with_suffix(".csv"), methods_csv(pairs, metric))
        write_text(out.with_name(f"{out.stem}-raws.csv"), raws_csv(found[0], pairs, places, metric))
    except OSError as error:
        raise RunError(
            f"{out}: the page cannot be written ({error.strerror or error}); choose another --out"
        ) from error
    return out


def _marks(found: Material) -> list[Mark]:
    """What a reader must know of a run; its refused methods are noted in the material."""
    dataset = open_dataset(found)
    with dataset or nullcontext():
        marks = check_validation(found, dataset)
    found.refused = refused(marks, list(found.labels))
    return marks


def common_raws(first: Material, second: Material) -> list[tuple[int, int]]:
    """Places in the ``per_raw`` of both runs of the RAWs that both have, in the order of the first."""
    there = {row.hash: i for i, row in enumerate(second.results.per_raw)}
    return [(i, there[row.hash]) for i, row in enumerate(first.results.per_raw) if row.hash in there]


def _roles(found: Material) -> dict[str, str]:
    """Keys of the methods by what they are, whatever their runs are called."""
    # Runs have names of their own; the prediction of the headline is compared with that of the other's headline.
    roles = {}
    for m in found.results.methods:
        if m.key in found.chosen:
            several = m.kind.learnt or m.kind is MethodKind.tune
            roles["predicted" if m.key == found.predicted else m.label if several else m.key] = m.key
    return roles


def pairs_of(first: Material, second: Material, places: Sequence[tuple[int, int]]) -> list[Pair]:
    """The methods that both runs have, in the first's order."""
    here, there, metric = _roles(first), _roles(second), first.metric
    scenes = [first.results.per_raw[i].scene for i, _ in places]
    pairs = []
    for role, key in here.items():
        if role not in there:
            continue
        keys = key, there[role]
        methods = first.results.by_key[key], second.results.by_key[keys[1]]
        values = (
            first.results.values(key)[[i for i, _ in places]],
            second.results.values(keys[1])[[j for _, j in places]],
        )
        gain = metric.sign * (values[1] - values[0])
        held = key not in first.refused and keys[1] not in second.refused
        labels = [m.label for m in methods]
        label = labels[0] if labels[0] == labels[1] else f"{labels[0]} / {labels[1]}"
        main = first.results.main
        of_set = None if main.per_raw else (methods[0].figures[main.key], methods[1].figures[main.key])
        captures = methods[0].captures, methods[1].captures
        pairs.append(Pair(label, keys, values, gain, captures, compare(gain, scenes) if held else None, of_set))
    return pairs


def facts_of(first: Material, second: Material, common: int) -> list[Fact]:
    """What two runs may have in common."""

    def texts(found: Material) -> dict[str, Any]:
        results, record = found.results, found.validation.record
        return {
            "device": results.device.model,
            "unit": results.device.serial,
            "firmware": results.device.firmware,
            "parameter space": f"{found.space.name} {found.space.hash[:12]}",
            "data set": str(record.dataset_digest or "–")[:12],
            "annotations (SHA-256)": str((found.validation.config.get("vision") or {}).get("annotations_sha256", "–"))[
                :12
            ],
            "test RAWs": f"{results.raws} of {results.scenes} scenes",
            "RAWs that the other lacks": len(results.per_raw) - common,
            "captures collected": results.collection_captures,
            "oracle's captures a RAW": results.oracle.captures_per_raw if results.oracle else "–",
            "seed": results.seed,
            "workbench": record.workbench_version,
        }

    there = texts(second)
    return [Fact(what, str(value), str(there[what])) for what, value in texts(first).items()]


def remarks_of(facts: Sequence[Fact], pairs: Sequence[Pair], found: Sequence[Material], common: int) -> list[str]:
    """What the differences between the runs mean for the comparison, one sentence each."""
    other = {f.what for f in facts if not f.same}
    remarks = []
    if other & {"device", "firmware", "parameter space"}:
        remarks.append("The devices are not the same: differences are of devices and methods together.")
    if "data set" in other:
        remarks.append("The data sets are not the same: captures were made or changed between the two runs.")
    if any(len(f.results.per_raw) != common for f in found):
        remarks.append(f"The test RAWs are not the same: only the {common} that both have are compared.")
    for pair in pairs:
        if _budgets_differ(pair, found):
            spent = " and ".join("–" if c is None else str(c) for c in pair.captures)
            remarks.append(f"{pair.label}: {spent} captures, not the same budget.")
    for one, rest in ((found[0], found[1]), (found[1], found[0])):
        alone = [one.labels[key] for role, key in _roles(one).items() if role not in _roles(rest)]
        if alone:
            remarks.append(f"Only {one.validation.name} has: {', '.join(alone)}.")
    return remarks


def _budgets_differ(pair: Pair, found: Sequence[Material]) -> bool:
    first, second = pair.captures
    if first is None or second is None:
        return first != second
    left = [rounding_of(run) if (run := one.tunings.get(key)) else 0 for one, key in zip(found, pair.keys, strict=True)]
    return less_than(first, second, left[0]) or less_than(second, first, left[1])


def methods_csv(pairs: Sequence[Pair], metric: Metric) -> str:
    """The table of methods as CSV."""
    unit = f"_{metric.unit.lower()}" if metric.unit else ""
    columns = ["method", "key_first", "key_second", f"{metric.key}_first{unit}", f"{metric.key}_second{unit}"]
    columns += [f"gain{unit}", "low", "high", "wilcoxon_p", "worse_share", f"fifth_percentile{unit}", "verdict"]
    rows = []
    for p in pairs:
        row: list[Any] = [p.label, *p.keys, *(float(v.mean()) for v in p.values)]
        c = p.paired
        if c is None:
            row += [None] * 6 + ["refused", None]
        else:
            row += [c.estimate, c.low, c.high, c.p_value, c.worse_share]
            row += [c.fifth_percentile, c.verdict, c.words(metric.unit)]
        rows.append([*row, *p.captures])
    return csv_text([*columns, "words", "captures_first", "captures_second"], rows)


def raws_csv(first: Material, pairs: Sequence[Pair], places: Sequence[tuple[int, int]], metric: Metric) -> str:
    """Every method's value of every RAW in both runs as CSV."""
    unit = f"_{metric.unit.lower()}" if metric.unit else ""
    rows = []
    for place, (i, _) in enumerate(places):
        row = first.results.per_raw[i]
        for p in pairs:
            a, b = float(p.values[0][place]), float(p.values[1][place])
            rows.append([row.name, row.scene, row.iso, p.label, a, b, float(p.gain[place])])
    columns = (
        "raw",
        "scene",
        "iso",
        "method",
        f"{metric.key}_first{unit}",
        f"{metric.key}_second{unit}",
        f"gain{unit}",
    )
    return csv_text(columns, rows)
