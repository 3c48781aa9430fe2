"""Builds the report: reads a lab, draws, and writes one HTML file (and its table as CSV beside it)."""

from __future__ import annotations

import base64
import functools
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from drivers.atomic_files import write_text
from drivers.foreign_text import shown_page
from drivers.parameters import Parameter
from drivers.regular_files import read_regular
from workbench.console.interrupt import check
from workbench.draw.style import styled
from workbench.errors import RunError
from workbench.judge.methods import MethodKind
from workbench.judge.statistics import Comparison
from workbench.judge.strengths import TASKS, Task, parameters_for, strongest, why_none
from workbench.lab.runs import RunFolder, list_runs
from workbench.learn.held import held_in_words, remark
from workbench.report import ablation_section, figures
from workbench.report.ablation_section import ORDER_WORDS, Ablation, ablation_of
from workbench.report.checks import Mark, check_studies, check_validation, refused
from workbench.report.figures import Drawing
from workbench.report.material import DatasetSummary, Material, Source, open_dataset, read_material, summarise
from workbench.report.method_tables import headline, methods_csv, raws_csv
from workbench.report.pareto import Front, fronts_csv, fronts_of
from workbench.report.part_checks import check_parts
from workbench.report.parts import Parts, blocks_csv, iso_csv, parts_of
from workbench.report.pictures import Attention, CropRow, attention_of, crop_rows
from workbench.report.searches import curves_of, draw_searches, searches_csv
from workbench.report.words import VERDICTS, code, interval_text, number, with_unit

PAGE_SUFFIXES = (".html", ".htm")
FOLDER = Path(__file__).parent
DEVICE, PROXY = "device", "proxy"
LARGEST_PICTURE = 64 << 20


@dataclass
class Page:
    """All that the template shows."""

    found: Material
    source: Source
    made: str
    marks: list[Mark] = field(default_factory=list)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    gains: dict[str, Comparison] = field(default_factory=dict)
    headline: list[dict[str, str]] = field(default_factory=list)
    summary: DatasetSummary | None = None
    drawings: dict[str, Drawing] = field(default_factory=dict)
    crops: list[CropRow] = field(default_factory=list)
    attention: Attention | None = None
    parts: Parts = field(default_factory=Parts)
    fronts: list[Front] = field(default_factory=list)
    ablation: Ablation | None = None
    seen: Markup | None = None
    proxy_source: Source | None = None
    sources: list[Source] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def smaller(self) -> set[str]:
        """Keys of the methods that had a smaller budget than what they are compared with."""
        return {key for mark in self.marks if mark.smaller_budget for key in mark.methods}


def write_report(
    lab: Path, *, validation: str | None = None, ablation: str | None = None, out: Path | None = None
) -> Path:
    """Write the report of a lab.

    Args:
        lab: the lab folder.
        validation: name of the ``validate`` run; by default the newest.
        ablation: name of the ``ablate`` run; by default the newest of the validation's device.
        out: the HTML file, by default ``report.html`` in the lab; its tables go beside it as CSV.

    Returns:
        The HTML file's path.

    Raises:
        RunError: there is no validation, or the report cannot be written.
    """
    out = Path(lab) / "report.html" if out is None else Path(out)
    if not out.name:
        raise RunError(f"{out}: is a folder; give the report a name that ends in .html")
    if out.suffix.lower() not in PAGE_SUFFIXES:  # a mistyped name may be that of a run's record
        raise RunError(f"{out}: is no name of a page; give the report a name that ends in .html")
    found = read_material(lab, validation, ablation)
    page = make_page(found)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, render(page))
        for name, text in tables(page).items():
            write_text(out.with_name(f"{out.stem}{name}.csv"), text)
    except OSError as error:
        raise RunError(
            f"{out}: the report cannot be written ({error.strerror or error}); choose another --out"
        ) from error
    return out


def tables(page: Page) -> dict[str, str]:
    """The page's tables as CSV, by what their files' names end in."""
    found = page.found
    made = {"": methods_csv(found), "-raws": raws_csv(found)}
    if curves := curves_of(found):
        made["-searches"] = searches_csv(curves)
    if found.results.by_iso:
        made["-iso"] = iso_csv(found)
    if found.results.by_block:
        made["-blocks"] = blocks_csv(found)
    if page.fronts:
        made["-pareto"] = fronts_csv(page.fronts)
    if study := page.ablation:
        made["-ablation"] = ablation_section.table_csv(study)
        made["-ablation-order"] = ablation_section.order_csv(study)
        made["-ablation-raws"] = ablation_section.raws_csv(study)
    return made


def render(page: Page) -> str:
    """The page as HTML."""
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    return shown_page(
        templates()
        .get_template("page.html")
        .render(
            page=page,
            found=page.found,
            results=page.found.results,
            main=page.found.results.main,
            metric=page.found.metric,
            style=Markup(style),
            script=Markup((FOLDER / "viewer.js").read_text(encoding="utf-8")),
            verdicts=VERDICTS,
            order_words=ORDER_WORDS,
        )
    )


@functools.cache
def templates() -> Environment:
    """The pages' templates, with the filters that they use, compiled once a process."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(FOLDER),
    )
    environment.filters |= {"number": number, "interval": interval_text, "with_unit": with_unit, "code": code}
    return environment


def make_page(found: Material) -> Page:
    """Gather and draw everything; a section whose material is missing gets one line instead (``absent``)."""
    page = Page(found, found.source(found.validation), datetime.now(UTC).strftime("%Y-%m-%d %H:%M"))
    dataset = open_dataset(found)
    with dataset or nullcontext():
        captures = dataset.captures() if dataset else []
        page.marks = check_validation(found, dataset)
        page.marks += check_parts(found, dataset)
        page.marks += check_studies(found, captures) if dataset else []
        found.refused = refused(page.marks, list(found.labels))
        page.comparisons = {key: c for key in found.labels if (c := found.comparison(MethodKind.fixed, key))}
        page.gains = {key: c for key in found.labels if (c := found.gain(MethodKind.fixed, key))}
        page.headline = headline(found)
        with styled():
            _draw_results(page)
            check()
            _draw_proxy(page)
            _draw_training(page)
            _draw_parameters(page)
            page.parts, of_parts = parts_of(found)
            page.fronts, drawings = fronts_of(found, dataset)
            page.ablation = ablation_of(found, dataset, captures)
            page.drawings |= of_parts | drawings | (page.ablation.drawings if page.ablation else {})
        check()
        page.seen = _seen(found)
        if dataset is None:
            page.absent["crops"] = page.absent["attention"] = "The data set cannot be opened."
        else:
            page.summary = summarise(dataset)
            page.crops = crop_rows(found, dataset)
            if not page.crops:
                page.absent["crops"] = "None of the RAWs to show is in the data set."
            looked = attention_of(found, dataset)
            if isinstance(looked, str):
                page.absent["attention"] = looked
            else:
                page.attention = looked
    runs = [found.validation, *found.predictors, *found.tunings.values(), *([found.proxy] if found.proxy else [])]
    page.sources = [found.source(r) for r in runs + list_runs(found.lab, "collect")]
    return page


def _seen(found: Material) -> Markup | None:
    """What the task saw in a few outputs, as the validation drew it; None where it draws nothing."""
    file = found.validation.path / "pictures.svg"
    try:
        drawn = read_regular(file, LARGEST_PICTURE)
    except OSError:
        return None
    return Markup("data:image/svg+xml;base64,") + base64.b64encode(drawn).decode()


def _draw(page: Page, name: str, figure: Figure, title: str, text: str, kind: str, *runs: RunFolder) -> None:
    page.drawings[name] = Drawing(
        title, figures.to_svg(figure, name, title), text, kind, [page.found.source(r) for r in runs]
    )


def _draw_results(page: Page) -> None:
    found = page.found
    results, run, main, metric = found.results, found.validation, found.results.main, found.metric
    held = [m for m in results.methods if m.key not in found.refused]
    if not held:
        page.absent["gains"] = "No figure of this validation holds, so none is drawn."
        return
    _draw(
        page,
        "methods",
        figures.methods(held, main),
        f"{'Mean ' if main.per_raw else ''}{main.label} of every method",
        "Bars: 95 % intervals, bootstrapped by scene. They say how well each mean is known; whether two methods differ "
        "is in the paired column of the table.",
        DEVICE,
        run,
    )
    gain = found.gains()
    if gain is None:
        refusal = {found.predicted, MethodKind.fixed} & found.refused
        page.absent["gains"] = (
            "The gains are refused, see the marks above." if refusal else "Gains need a predictor and a best fixed set."
        )
    else:
        worse = int((gain < 0).sum())
        oracle = MethodKind.oracle
        best = results.gains(oracle, MethodKind.fixed) if oracle in {m.key for m in held} else None
        by = f" by {metric.label}" if metric != main else ""
        signed = partial(with_unit, metric=metric, signed=True)
        _draw(
            page,
            "gains",
            figures.gains(gain, best, metric),
            "Gain over best fixed, RAW by RAW",
            f"{worse} of {len(gain)} RAWs ({100 * worse / len(gain):.0f} %) got worse{by} than with the best fixed "
            f"set, the worst by {with_unit(max(0.0, -float(gain.min())), metric)}; "
            f"the median gain is {signed(float(np.median(gain)))}.",
            DEVICE,
            run,
        )
        _draw(
            page,
            "histogram",
            figures.histogram(gain, metric),
            "How the gains are distributed",
            f"5th percentile {signed(float(np.percentile(gain, 5)))}, "
            f"95th percentile {signed(float(np.percentile(gain, 95)))}.",
            DEVICE,
            run,
        )
    search = results.oracle
    if search and search.curve and MethodKind.oracle not in found.refused:
        lines = (MethodKind.fixed, MethodKind.industry, MethodKind.auto)
        aim = results.oracle_metric
        means = {
            m.kind: m.figures[aim.key].estimate or 0.0 for m in held if m.kind in lines or m.key == found.predicted
        }
        _draw(
            page,
            "oracle",
            figures.oracle(search.curve, means, aim),
            "The per-image oracle's search",
            f"{search.captures_per_raw} captures for each RAW, knowing its reference; the last quarter of them "
            f"gained {with_unit(search.last_quarter_gain, aim)}. The true optimum lies at or above this.",
            DEVICE,
            run,
        )
    elif main.per_raw:
        page.absent["oracle"] = "No per-image oracle in this validation, so no gap closed can be given."
    searched = draw_searches(found)
    if searched is None:
        page.absent["searches"] = "No history of a tuning run."
    else:
        page.drawings["searches"] = searched


def _draw_proxy(page: Page) -> None:
    run = page.found.proxy
    if run is None:
        page.absent["proxy"] = "No fit-proxy run in this lab."
        return
    page.proxy_source = page.found.source(run)
    curve = run.results.get("curve")
    if curve:
        text = f"Learned from {run.results.get('captures', '–')} captures. Lower is better."
        _draw(page, "proxy_loss", figures.proxy_loss(curve), "Training of the proxy", text, PROXY, run)
    if not run.results.get("fidelity"):
        page.absent["fidelity"] = (
            "No fidelity report: `workbench fit-proxy --device URL` makes one by moving one parameter at a time."
        )


def _draw_training(page: Page) -> None:
    found = page.found
    curves = {
        _inputs(r): r.results["curve"] for r in found.predictors if r.results.get("curve") and r.results["curve"][0]
    }
    if not curves:
        page.absent["training"] = "No training curve of a predictor."
        return
    _draw(
        page,
        "training",
        figures.predictor_loss(curves),
        "Training of the predictors",
        "L2 loss (recipe fast: its logarithm; −4.34 times it is dB) through the frozen proxy, a promise and not a "
        "result. Held out: the validation split.",
        PROXY,
        *found.predictors,
    )


def _inputs(run: RunFolder) -> str:
    metadata = run.config.get("metadata")
    return run.name if metadata is None else "image + metadata" if metadata else "image only"


def _draw_parameters(page: Page) -> None:
    found, key = page.found, page.found.predicted
    if key is None:
        page.absent["parameters"] = page.absent["iso"] = "No predictor in this validation."
        return
    units = found.results.units(key)
    fixed = found.results.units(MethodKind.fixed)[0] if MethodKind.fixed in found.labels else None
    spreads = np.percentile(units, 95, axis=0) - np.percentile(units, 5, axis=0)
    held = found.held
    still = [n for n, s in zip(found.space.names, spreads, strict=True) if s < 0.02 and n not in held]
    text = "0 and 1 are the ends of each parameter's range; a choice sits in the middle of its bin. "
    if len(still) + len(held) == len(found.space):
        text += "No parameter moved over more than 2 % of it."
    else:
        every = f"Every {'other ' if held else ''}parameter moved."
        text += f"Hardly moved over the test RAWs: {', '.join(still)}." if still else every
    if held:
        text += f" {held_in_words(found.space, held)}."
    drawing = figures.spread(found.space, units, fixed)
    _draw(page, "spread", drawing, "What was predicted over the test RAWs", text, DEVICE, found.validation)
    iso = np.array([row.iso or np.nan for row in found.results.per_raw], dtype=float)
    if np.isfinite(iso).sum() < 2 or len(set(iso[np.isfinite(iso)])) < 2:
        page.absent["iso"] = "The test RAWs do not tell different ISO speeds."
        return
    for name, task in zip(("iso_noise", "iso_sharpening"), TASKS, strict=True):
        chosen = strongest(found.space, spreads, task, held)
        if chosen is None:
            page.absent[name] = why_none(found.space, task)
            continue
        _draw(page, name, *_iso_figure(found, chosen, iso, task), DEVICE, found.validation)


def _iso_figure(found: Material, parameter: Parameter, iso: np.ndarray, task: Task) -> tuple[Figure, str, str]:
    def native(key: str) -> np.ndarray:
        codes = [row.methods[key].codes[parameter.name] for row in found.results.per_raw]
        return np.array([float(parameter.from_code(c)) for c in codes])

    asked = {MethodKind.fixed: "best fixed", MethodKind.industry: "industry", MethodKind.oracle: "oracle"}
    series = {kind: (label, native(kind)) for kind, label in asked.items() if kind in found.labels}
    values = native(str(found.predicted))
    series[MethodKind.predicted] = ("predicted", values)
    known = np.isfinite(iso)
    name = parameter.name.replace("_", " ")
    text = f"{parameter.description}. " if parameter.description else ""
    if parameter.name in found.held:
        own = [p.name for p in parameters_for(found.space, task) if p.name in found.held]
        text += f"The prediction is {remark(found.space, parameter.name)}."
        text += f" Held of the parameters for {task}: {', '.join(own)}." if own[1:] else ""
    elif len(set(values[known])) > 1:
        rank = float(spearmanr(iso[known], values[known])[0])
        text += "Of its kind the parameter that the predictions move most; "
        text += f"rank correlation with ISO {number(rank, '+.2f')}."
    else:
        text += "The prediction does not move."
    return figures.against_iso(parameter, iso, series), f"{name} against ISO", text
