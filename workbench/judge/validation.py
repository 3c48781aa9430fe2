"""Validation on the device: every method's parameters pushed for each test RAW, captured, read back and judged.

The device decides: all figures are of its own output on RAWs never seen in training or tuning. Differences are paired
by RAW and their 95 % intervals are bootstrapped by scene (:mod:`workbench.judge.statistics`).

A ``validate`` run keeps a :class:`workbench.judge.results.ValidationResult` as ``results.json``; what a task sees in
the outputs goes beside it as ``pictures.svg``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from drivers.atomic_files import write_text
from drivers.device import Device, DeviceInfo
from drivers.parameters import ParameterSet
from drivers.splits import Split
from workbench.collect.bench import Bench
from workbench.collect.faults import faults_kept
from workbench.collect.taking import make_sure_taken
from workbench.console.progress import each
from workbench.errors import RunError
from workbench.judge import blocks
from workbench.judge.forecast import forecast
from workbench.judge.gathering import collection_captures, compared, gather
from workbench.judge.header import header
from workbench.judge.iso_ranges import by_iso
from workbench.judge.measuring import Measured, Progress, measure
from workbench.judge.methods import (
    BASELINES,
    Method,
    MethodKind,
    ValidationSettings,
    headline_method,
)
from workbench.judge.other_judges import other_judges
from workbench.judge.results import (
    Headline,
    MethodResult,
    OracleSearch,
    ProxyGap,
    RawResult,
    RawScores,
    ValidationResult,
)
from workbench.judge.statistics import Interval, mean_interval, ratio_interval
from workbench.judge.under_setting import other_settings, overlaid
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.runs import (
    RunFolder,
    find_run,
    new_run,
    recorded_run,
    removed_on_failure,
)
from workbench.lab.stratified import stratified
from workbench.learn.own_weights import open_proxy
from workbench.learn.predictors import check_space
from workbench.rules.balance import with_as_shot
from workbench.rules.resolving import resolve
from workbench.rules.setting import Setting
from workbench.tasks.registry import recorded
from workbench.tasks.task import Metric, PictureRow, Task, of_raws
from workbench.tasks.viewing import ViewingTask
from workbench.tasks.viewing_metrics import psnr
from workbench.tune.oracle import OracleResult, search_oracle
from workbench.tune.search import SearchBench

KIND = "validate"
PICTURES = 4
PROXY_PIXELS, PROXY_RAWS = 100_000_000, 5
"""The proxy renders RAWs of so many pixels together, but at least so many: twelve million take it a minute."""
DRAWN = (MethodKind.default, MethodKind.expert, MethodKind.fixed)


def validate(
    lab: Path,
    dataset: Dataset,
    device: Device,
    settings: ValidationSettings,
    task: Task | None = None,
    *,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> ValidationResult:
    """Compare all methods on the test RAWs on the device.

    Args:
        lab: the lab folder; ``dataset``: its data set; captures made are kept there.
        device: what decides.
        settings: what to compare.
        task: what the images are for; by default human viewing.
        progress: called with what is measured, how much of it is done, and how much there is.
        tell: called once with what is going to be asked of the device, one line; not where all is there.

    Raises:
        RunError: there is no test RAW that the task can judge, an oracle is asked for and no single image can be
            judged, or a run does not fit the device or the splits.
        DeviceError: the device failed; run again to go on (captures made are kept).
    """
    task = task or ViewingTask()
    if settings.oracle_captures and not task.metrics[0].per_raw:
        raise RunError(f"no oracle for task {task.name}: {task.metrics[0].label} judges no single image")
    info = device.info()
    raws = task.raws(dataset, Split.TEST)
    if 0 < settings.test_raws < len(raws):
        raws = stratified(raws, settings.test_raws, settings.seed)
    make_sure_taken(device, raws)
    task.facts(raws)
    under, of_setting = resolve(settings.setting, info.space, dataset)
    methods, notes = gather(lab, dataset, info, task, raws, settings, under, progress)
    methods = overlaid(methods, raws, under)
    notes = [*of_setting, *other_settings(lab, methods, under), *other_judges(lab, methods, task), *notes]
    blocks.check_asked(methods, settings)
    about = headline_method(methods)
    aim = _oracle_metric(task, settings)
    proxy = _proxy_run(lab, settings, info, about.run) if about is not None and about.run else None
    if line := forecast(dataset, info, task, raws, methods, settings):
        tell(line)
    # What a method may fail of is decided when all have been measured.
    bench = Bench(dataset, device, purpose=KIND, patience=len(raws))
    measured = measure(bench, task, raws, methods, seed=settings.seed, ceiling=True, progress=progress)
    kept = headline_method(measured.methods)
    if kept is not None and kept.run and about is not None and kept.key != about.key:
        proxy = _proxy_run(lab, settings, info, kept.run)
    oracle = (
        _search_oracle(dataset, device, settings, under, measured, aim, progress) if settings.oracle_captures else []
    )
    parts, more = blocks.gain_by_block(bench, measured, progress) if blocks.wanted(settings, task) else ([], [])
    measured.count_sets(progress)
    gap, of_proxy = _proxy_gap(proxy, measured, kept) if proxy is not None and kept is not None else (None, [])
    collected = collection_captures(dataset, info.identity)
    # On top of a rule a prediction has cost the rule's captures too.
    learnt = max([collected, *(m.captures or 0 for m in measured.methods if m.kind is MethodKind.predicted)])
    return ValidationResult(
        **header(measured, info),
        facts=task.facts(measured.raws),
        space=info.space.to_dict(),
        seed=settings.seed,
        setting=under,
        collection_captures=collected,
        methods=[_row(measured, m, learnt) for m in measured.methods],
        headline=Headline(method=kept.key, gap_closed=_gap_closed(measured, kept, aim)) if kept else None,
        oracle=_oracle_search(oracle, aim) if oracle else None,
        proxy=gap,
        by_iso=by_iso(measured),
        by_block=parts,
        per_raw=[_raw(measured, i) for i in range(len(measured.raws))],
        notes=[
            note for note in (settings.remark, *notes, *measured.pairing.notes, *more, *of_proxy, *task.notes) if note
        ],
        budgets=[
            f"{m.label} ({m.run}) had {m.captures} captures, {'collection' if learnt == collected else 'prediction'} "
            f"{learnt}: not the same budget"
            for m in measured.methods
            if m.smaller_budget(learnt)
        ],
    )


def _row(measured: Measured, m: Method, learnt: int) -> MethodResult:
    metrics = measured.task.metrics
    over = [b for b in BASELINES if b != m.kind and b in measured.judgements]
    return MethodResult(
        kind=m.kind,
        run=m.run,
        key=m.key,
        label=m.label,
        figures={metric.key: measured.interval(m.key, metric) for metric in metrics},
        over={b: {metric.key: measured.gain(m.key, b, metric) for metric in metrics} for b in over},
        captures=m.captures,
        fewer_captures_than_collection=m.smaller_budget(learnt),
        metadata=m.metadata,
        device_s=m.device_s,
        compute_s=m.compute_s,
        rule=m.rule,
        search=m.search,
        failed=measured.pairing.failed.get(m.key, 0),
    )


def _raw(measured: Measured, place: int) -> RawResult:
    raw = measured.raws[place]
    return RawResult(
        name=raw.name,
        hash=raw.hash,
        scene=raw.scene,
        iso=raw.iso,
        exposure_s=raw.exposure_s,
        as_shot_wb=raw.as_shot_wb,
        methods={
            m.key: RawScores(
                figures=dict(measured.judgements[m.key][place].figures),
                codes=m.sets[place].by_name,
                output_hash=measured.captures[m.key][place].output_hash,
            )
            for m in measured.methods
            if m.sets
        },
    )


def _oracle_metric(task: Task, settings: ValidationSettings) -> Metric:
    """What the oracle searches for: the first metric, or the one that was asked for.

    Raises:
        RunError: no such metric, or no search is for it.
    """
    asked = settings.oracle_metric
    if asked is None:
        return task.metrics[0]
    known = {m.key: m for m in task.metrics if m.per_raw and m.key in task.search_metrics}
    if asked not in known:
        raise RunError(f"no oracle for metric {asked!r} of task {task.name}: choose {', '.join(known) or 'none'}")
    return known[asked]


def _gap_closed(measured: Measured, about: Method, metric: Metric) -> Interval | None:
    if not {MethodKind.fixed, MethodKind.oracle} <= set(measured.judgements):
        return None
    fixed = measured.values(MethodKind.fixed, metric)
    gain, gap = (metric.sign * (measured.values(k, metric) - fixed) for k in (about.key, MethodKind.oracle))
    return ratio_interval(gain, gap, measured.scenes, seed=measured.seed)


def _search_oracle(
    dataset: Dataset,
    device: Device,
    settings: ValidationSettings,
    under: Setting | None,
    measured: Measured,
    aim: Metric,
    progress: Progress | None,
) -> list[OracleResult]:
    """Search the best set of each RAW, and add them to what was measured as a method."""
    bench = SearchBench(dataset, device, purpose="oracle", patience=len(measured.raws))
    begin = time.monotonic()

    def show(done: int, total: int, _: float) -> None:
        if progress:
            progress("oracle", done, total)

    task, raws = measured.task, measured.raws
    found = search_oracle(
        bench,
        task.scorer(aim.key, raws),
        _oracle_starts(measured, under, aim),
        free=under.left(device.info().space.names) if under else None,
        budget=settings.oracle_captures,
        seed=settings.seed,
        progress=show,
    )
    best = Method(
        MethodKind.oracle,
        "per-image oracle" if aim == task.metrics[0] else f"per-image oracle for {aim.label}",
        tuple(r.parameters for r in found),
        captures=sum(r.captures for r in found),
        device_s=_device_s(dataset, device.info(), raws, found),
        compute_s=time.monotonic() - begin - bench.waited_s,
    )
    # The search began at sets of which every frame is there, so its best ones are there too.
    measured.add(measure(bench, task, raws, [best], seed=settings.seed))
    return found


def _oracle_starts(
    measured: Measured, under: Setting | None, metric: Metric
) -> list[tuple[RawRecord, list[ParameterSet]]]:
    """For each RAW the predictor's answer, what every other method chose, and the same with the as-shot gains."""
    values = {m.key: metric.sign * measured.values(m.key, metric) for m in measured.methods if m.sets}
    starts = []
    for i, raw in enumerate(measured.raws):
        there = [m for m in measured.methods if m.sets]
        ranked = sorted(there, key=lambda m: (m.kind is not MethodKind.predicted, -values[m.key][i]))
        sets = [m.sets[i] for m in ranked]
        sets += [with_as_shot(s, raw) for s in sets]
        sets = [under.of(s, raw) for s in sets] if under else sets
        starts.append((raw, list({s.hash: s for s in sets}.values())))
    return starts


def _device_s(dataset: Dataset, info: DeviceInfo, raws: Sequence[RawRecord], oracle: Sequence[OracleResult]) -> float:
    """Seconds that the device spent on the captures of the oracle."""
    keys = [(raw.hash, tried) for raw, result in zip(raws, oracle, strict=True) for tried in result.tried]
    return sum(c.device_s for c in dataset.find(info.identity, keys).values())


def _oracle_search(results: Sequence[OracleResult], metric: Metric) -> OracleSearch:
    length = max(r.captures for r in results)
    curves = [r.curve + [r.curve[-1]] * (length - r.captures) for r in results]
    return OracleSearch(
        metric=metric.key,
        captures_per_raw=length,
        last_quarter_gain=float(np.mean([r.last_quarter_gain for r in results])),
        found_from_first_start=float(np.mean([r.start == 0 for r in results])),
        curve=[metric.sign * float(v) for v in np.mean(curves, axis=0)],
    )


def _proxy_run(lab: Path, settings: ValidationSettings, info: DeviceInfo, predictor: str) -> RunFolder | None:
    """The proxy that was asked for, or that the predictor was trained through, or else the newest; None without any."""
    trained_through = find_run(lab, "train", predictor).config.get("proxy")
    for name in [settings.proxy] if settings.proxy else [trained_through, None]:
        try:
            if name == trained_through is not None:
                recorded_run(lab, name)
            run = find_run(lab, "fit-proxy", name)
        except RunError:
            if settings.proxy:
                raise
            continue
        check_space(run, open_proxy(run).space, info)
        return run
    return None


def _proxy_gap(run: RunFolder, measured: Measured, method: Method) -> tuple[ProxyGap, list[str]]:
    """How far the proxy's promise is off, and a note where that was looked at on some of the RAWs."""
    places = _rendered(measured.raws)
    notes = []
    if len(places) < len(measured.raws):
        notes.append(
            f"the proxy's promise is that of {len(places)} of {len(measured.raws)} RAWs: it takes long to render more"
        )
        measured = measured.of_places(places)
        method = next(m for m in measured.methods if m.key == method.key)
    proxy, metric = open_proxy(run), of_raws(measured.task.metrics)
    to_device, promised = [], []
    chosen = list(zip(measured.raws, method.sets, measured.captures[method.key], strict=True))
    for raw, parameters, capture in each("the proxy's promise", chosen):
        image = proxy.render(raw.load(), parameters)
        to_device.append(psnr(image, capture.rgb().pixels))
        promised.append(measured.task.judge(raw, image).figures[metric.key])
    given = measured.values(method.key, metric)
    gap = ProxyGap(
        run=run.name,
        predictor=method.key,
        psnr_to_device=float(np.mean(to_device)),
        promised=float(np.mean(promised)),
        given=float(given.mean()),
        promised_minus_given=mean_interval(np.array(promised) - given, measured.scenes, seed=measured.seed),
    )
    return gap, notes


def _rendered(raws: Sequence[RawRecord]) -> list[int]:
    """Places of the RAWs that the proxy renders: all of small ones, of large ones as many as its time allows."""
    largest = max(raw.width * raw.height for raw in raws)
    count = int(np.clip(PROXY_PIXELS // largest, min(PROXY_RAWS, len(raws)), len(raws)))
    return [int(place) for place in np.linspace(0, len(raws) - 1, count).round()]


def validate_run(
    lab: Path,
    dataset: Dataset,
    device: Device,
    settings: ValidationSettings,
    task: Task | None = None,
    *,
    name: str | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[RunFolder, ValidationResult]:
    """:func:`validate`, kept as a ``validate`` run.

    Raises:
        RunError: the name is taken; and what :func:`validate` raises.
    """
    task = task or ViewingTask()
    run = new_run(lab, KIND, name)
    with removed_on_failure(run):
        run.update(seed=settings.seed, dataset_digest=dataset.digest(), device=device.info())
        with faults_kept(dataset, device, KIND) as faults:
            results = validate(lab, dataset, device, settings, task, progress=progress, tell=tell)
            results = results.model_copy(update={"faults": faults.counts()})
    run.update(
        config={
            **recorded(task),
            **compared(results.methods),
            "proxy": results.proxy.run if results.proxy else None,
            "expert": settings.expert,
            "oracle_captures": settings.oracle_captures,
            "oracle_metric": settings.oracle_metric,
            "remark": settings.remark,
            **({"setting": results.setting.to_json()} if results.setting else {}),
            "by_block": bool(results.by_block),
        }
    )
    results.write(run.path / "results.json")
    run.finish(results.brief())
    if (picture := draw_picture(dataset, results, task)) is not None:
        write_text(run.path / "pictures.svg", picture)
    return run, results


def draw_picture(dataset: Dataset, results: ValidationResult, task: Task) -> str | None:
    """What the task sees in the outputs of a few RAWs, chosen by rule, as SVG; None where it draws nothing."""
    by_hash = {row.hash: row for row in results.per_raw}
    raws = [r for r in dataset.raws(Split.TEST) if r.hash in by_hash]
    raws = stratified(raws, min(PICTURES, len(raws)), results.seed)
    methods = [m for m in results.methods if m.kind in DRAWN or (results.headline and m.key == results.headline.method)]
    outputs = {(c.raw_hash, c.output_hash): c for c in dataset.captures(device_identity=results.device.identity)}
    rows = [
        PictureRow(raw, tuple(outputs[raw.hash, by_hash[raw.hash].methods[m.key].output_hash] for m in methods))
        for raw in raws
    ]
    return task.picture(rows, [m.label for m in methods])
