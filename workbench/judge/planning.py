"""What captures buy in an hour, a night and a week: from a device's frame time and what this lab has measured."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from drivers.device import Device
from drivers.errors import DeviceError
from drivers.splits import Split
from workbench.collect.bench import Bench
from workbench.collect.taking import make_sure_taken
from workbench.errors import RunError
from workbench.judge.budgets import less_than, rounding_of
from workbench.judge.gain_curve import between_runs, distinct_budgets, expected_gains
from workbench.judge.methods import MethodKind
from workbench.judge.plan_results import Plan, PlannedTime, StepCosts, ValidatedBudget
from workbench.judge.results import MethodResult, ValidationResult, read_validation
from workbench.lab.dataset import CaptureRecord, Dataset, FailureRecord
from workbench.lab.dataset.records import SUFFIXES
from workbench.lab.devices import open_devices
from workbench.lab.runs import RunFolder, list_runs
from workbench.learn.proxy_fitting import device_of
from workbench.learn.results import TrainResult
from workbench.tasks.task import Metric

PURPOSE = "plan"
TIMES = {"an hour": 3600.0, "a night (10 h)": 36_000.0, "a week": 604_800.0}
_MEASURE_S = 5.0
_FEWEST, _MOST = 4, 64
_RAWS = 8
_SIZED = 200


def plan(
    lab: Path,
    *,
    device: str | Sequence[str] | None = None,
    frame_s: float | None = None,
    identity: str | None = None,
    pool_tolerance: int = 0,
) -> Plan:
    """What an hour, a night and a week of captures buy.

    Args:
        lab: the lab folder, with its data set.
        device: URL, or name of the lab's ``lab.toml``, or several; its frame time is measured.
        frame_s: seconds a capture, above 0, where no device is given.
        identity: of the device that the plan is for then, where the data set holds several.
        pool_tolerance: levels of 255 by which outputs of pooled boards may differ.

    Raises:
        DatasetError: no data set, or a damaged one.
        RunError: neither or both of ``device`` and ``frame_s`` are given, the data set does not tell which device is
            meant, or has no RAW to capture.
        DeviceError: the device is live, failed, or refused every frame.
    """
    if (device is None) is (frame_s is None) or (frame_s is not None and not frame_s > 0):
        raise RunError(f"a plan needs a device or the seconds of a capture (frame_s {frame_s}); give one of both")
    with Dataset.open(lab, create=False) as dataset:
        if frame_s is not None:
            return make_plan(lab, dataset, device_of(dataset, identity), frame_s)
        named = [device] if isinstance(device, str) else device or ()
        with open_devices(named, lab, tolerance=pool_tolerance) as opened:
            frame_s, frames = measure_frames(dataset, opened)
            own = opened.info().identity
        return make_plan(lab, dataset, own, frame_s, frames)


def measure_frames(dataset: Dataset, device: Device) -> tuple[float, int]:
    """Seconds a capture as a collection makes them (RAW read, frame, output kept), over a few new captures.

    They are kept, with the purpose ``plan``.

    Returns:
        Seconds, and how many captures were timed.

    Raises:
        DeviceError: the device is live, failed, or refused every frame.
        RunError: the data set has no RAW to capture.
    """
    if device.info().live:
        raise DeviceError(f"{device.url}: a live device is not timed here; give its frame time with --frame-ms")
    raws = dataset.raws(Split.TRAIN)[:_RAWS]
    if not raws:
        raise RunError(f"{dataset.lab}: no training RAW to capture; run `workbench collect` first, or give --frame-ms")
    make_sure_taken(device, raws)
    space = device.info().space
    bench = Bench(dataset, device, purpose=PURPOSE, patience=_MOST)
    # Other sets each time: what is in the data set would be answered from there.
    random = np.random.default_rng(len(dataset.captures(device_identity=bench.info.identity)))
    jobs = ((raw, space.from_unit(random.random(len(space)))) for raw in itertools.cycle(raws))

    def timed(count: int) -> float:
        begun = time.monotonic()
        found = list(bench.capture_many(itertools.islice(jobs, count)))
        if all(isinstance(outcome, FailureRecord) for outcome in found):
            raise DeviceError(f"{device.url}: refused all of {count} frames; {bench.tally.told('captures')}")
        return (time.monotonic() - begun) / count

    timed(1)  # opens what is opened at the first frame
    count = min(max(int(_MEASURE_S / max(timed(1), 1e-3)), _FEWEST), _MOST)
    return timed(count), count


def make_plan(lab: Path, dataset: Dataset, identity: str, frame_s: float, frames: int = 0) -> Plan:
    """What an hour, a night and a week buy on a device of the data set.

    Args:
        lab: the lab folder; ``dataset``: its data set.
        identity: of the device; gains and costs are of runs on it.
        frame_s: seconds a capture; frames: over how many it was measured, 0: it was given.
    """
    notes, own = list[str](), dataset.known_as(identity)
    runs = [
        run
        for run in list_runs(lab)
        if not run.aside and dataset.known_as(run.device.identity or run.config.get("identity") or "") == own
    ]
    budgets, metric, refined = validated_budgets(runs, notes)
    costs = step_costs(runs, refined=refined)
    size = capture_bytes(dataset, identity)
    times = []
    for name, seconds in TIMES.items():
        captures = int(seconds / frame_s)
        times.append(
            PlannedTime(
                name=name,
                seconds=seconds,
                captures=captures,
                collected=collected_in(seconds, frame_s, costs),
                disk_bytes=None if size is None else round(captures * size),
            )
        )
    if (count := distinct_budgets(budgets)) < 2:
        notes.append(
            f"the lab has {('no', 'one')[count]} validated budget over industry on this device: no gain is foretold; "
            "two different ones are the least: validate predictors from collections of different size"
        )
    else:
        useful = [t for t in times if t.collected]
        gains = expected_gains(budgets, [t.collected for t in useful])
        by_name = dict(zip((t.name for t in useful), gains, strict=True))
        times = [t.model_copy(update={"expected": by_name.get(t.name)}) for t in times]
        smallest, largest = budgets[0].captures, budgets[-1].captures
        if any(not smallest <= t.collected <= largest for t in useful):
            notes.append(
                f"gains at less than {smallest:,} or more than {largest:,} captures, which were validated, are "
                "extrapolated, not measured"
            )
        if between_runs(budgets) is None:
            notes.append("no budget was validated with two runs, so what differs from run to run is not in the ranges")
    return Plan(
        identity=identity,
        frame_s=frame_s,
        frames=frames,
        capture_bytes=size,
        refined=refined,
        metric=metric.label if metric else "",
        unit=metric.unit if metric else "",
        costs=costs,
        budgets=budgets,
        times=times,
        notes=notes,
    )


class ValidatedCurve(NamedTuple):
    """Validated budgets, the fewest captures first, the metric of their gains, and whether they are of refining."""

    budgets: list[ValidatedBudget]
    metric: Metric | None
    refined: bool


def validated_budgets(runs: Sequence[RunFolder], notes: list[str]) -> ValidatedCurve:
    """The gains over industry of predictions, each from its newest validation.

    One curve is of one task, one setting and one kind of predictor (with or without metadata, on top of which rule,
    refined or trained through a proxy): those of the newest validation. What is left out for another reason is noted.

    Args:
        runs: of the lab, the newest first.
        notes: gets what is left out.
    """
    by_name = {run.name: run for run in runs}
    found: dict[str, ValidatedBudget] = {}
    of: tuple[object, _Kind] | None = None
    metric: Metric | None = None
    for run in runs:
        if run.kind != "validate":
            continue
        try:
            results = read_validation(run)
        except RunError as error:
            notes.append(f"left out: {error}")
            continue
        asked = results.task_key, results.setting.hash if results.setting else None
        about = results.about
        if about is None or (of is not None and of[0] != asked):
            continue
        of = of or (asked, _kind(by_name, about))
        metric = metric or results.main
        for method in results.methods:
            of_curve = method.kind is MethodKind.predicted and _kind(by_name, method) == of[1]
            if of_curve and method.run not in found:
                point = _point(by_name, run, results, method, notes)
                if point is not None:
                    found[point.run] = point
    budgets = sorted(found.values(), key=lambda p: p.captures)
    return ValidatedCurve(budgets, metric, of is not None and of[1].refined)


def _is_refined(run: RunFolder) -> bool:
    """Whether a train run was made by ``refine``: from captures around a rule, without a proxy and its collection."""
    return run.kind == "train" and run.config.get("refine") is not None


class _Kind(NamedTuple):
    """Whether a predictor sees metadata, on top of which rule it predicts, and whether that was refined."""

    metadata: bool | None
    rule: str | None
    refined: bool


def _kind(by_name: Mapping[str, RunFolder], method: MethodResult) -> _Kind:
    train = by_name.get(method.run or "")
    below = (train.config.get("on_top_of") or {}) if train else {}
    return _Kind(method.metadata, below.get("rule"), train is not None and _is_refined(train))


def _point(
    by_name: Mapping[str, RunFolder],
    run: RunFolder,
    results: ValidationResult,
    method: MethodResult,
    notes: list[str],
) -> ValidatedBudget | None:
    industry = results.of_kind(MethodKind.industry)
    gain = method.over.get(MethodKind.industry, {}).get(results.main.key)
    refined = _kind(by_name, method).refined
    captures = (method.captures or 0) if refined else _collected(by_name, results, method)
    if method.run is None or gain is None or not captures:
        return None
    if industry is not None and _smaller(by_name, industry, captures):
        beside = "prediction" if refined else "collection"
        notes.append(f"left out: {method.run} in {run.name}, where industry had fewer captures than the {beside}")
    elif gain.estimate is None or gain.low is None or gain.high is None:
        notes.append(f"left out: {method.run} in {run.name}, whose gain has no interval")
    else:
        return ValidatedBudget(
            run=method.run,
            validation=run.name,
            captures=captures,
            gain=gain.estimate,
            low=gain.low,
            high=gain.high,
        )
    return None


def _smaller(by_name: Mapping[str, RunFolder], industry: MethodResult, collected: int) -> bool:
    """Whether a table was searched with fewer captures than were collected, or than refining took in all."""
    run = by_name.get(industry.run or "")
    return less_than(industry.captures, collected, rounding_of(run) if run else 0)


def _collected(by_name: Mapping[str, RunFolder], results: ValidationResult, method: MethodResult) -> int:
    """Captures collected for a predictor: what there was when its proxy was fitted."""
    train = by_name.get(method.run or "")
    proxy = by_name.get(str(train.config.get("proxy"))) if train else None
    return int((proxy.config.get("collected") if proxy else None) or results.collection_captures)


def step_costs(runs: Sequence[RunFolder], *, refined: bool = False) -> StepCosts:
    """What the newest run of each step cost.

    Args:
        runs: of the lab, the newest first.
        refined: whether predictions are refined: nothing is fitted then, and of refining counts what it computed.
    """
    fit, train, tune, validate = (
        next((r for r in runs if r.kind == kind and _is_refined(r) == (refined and kind == "train")), None)
        for kind in ("fit-proxy", "train", "tune", "validate")
    )
    fit = None if refined else fit
    fidelity = (fit.results.get("fidelity") or {}).get("captures") if fit else None
    search = tune.results if tune else {}
    spent, computed = search.get("captures"), search.get("compute_s")
    took_s = train.took_s() if train else None
    if train is not None and took_s is not None and refined:
        took_s = max(took_s - TrainResult.of(train).asked[1], 0.0)
    return StepCosts(
        fit_s=fit.took_s() if fit else None,
        train_s=took_s,
        tune_s_a_capture=computed / spent if spent and computed is not None else None,
        fidelity_captures=fidelity,
        validation_captures=_captures_of(validate) if validate else None,
    )


def _captures_of(run: RunFolder) -> int | None:
    try:
        results = read_validation(run)
    except RunError:
        return None
    methods = sum(m.kind not in (MethodKind.ceiling, MethodKind.oracle) for m in results.methods)
    return results.raws * (methods + (results.oracle.captures_per_raw if results.oracle else 0))


def collected_in(seconds: float, frame_s: float, costs: StepCosts) -> int:
    """Captures of a prediction for which there is time beside all else that makes and judges it from them."""
    beside = (costs.fit_s or 0.0) + (costs.train_s or 0.0)
    beside += frame_s * ((costs.fidelity_captures or 0) + (costs.validation_captures or 0))
    # Each capture stands against one of the search for the table.
    return max(math.floor((seconds - beside) / (2 * frame_s + (costs.tune_s_a_capture or 0.0))), 0)


def capture_bytes(dataset: Dataset, identity: str) -> float | None:
    """Bytes that a capture takes: the newest outputs' mean, and a capture's share of the database."""
    captures, identity = dataset.captures(), dataset.known_as(identity)
    own = [c for c in captures if c.device_identity == identity][-_SIZED:]
    if not own:
        return None
    return float(np.mean([_output_bytes(dataset, c) for c in own])) + dataset.database.size() / len(captures)


def _output_bytes(dataset: Dataset, capture: CaptureRecord) -> int:
    return dataset.blobs.size(capture.output_hash, SUFFIXES[capture.media_type])
