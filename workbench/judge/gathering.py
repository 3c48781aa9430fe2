"""The methods that validation compares: how each chooses a parameter set for every test RAW, and what it had cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drivers.device import DeviceInfo
from drivers.weights import WeightsError
from workbench.errors import RunError
from workbench.judge.budgets import rounding_of
from workbench.judge.measuring import Progress
from workbench.judge.methods import NONE, Method, MethodKind, ValidationSettings
from workbench.judge.other_judges import same_weights
from workbench.judge.predictions import predictions
from workbench.judge.results import MethodResult
from workbench.judge.under_setting import same_setting
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.leaks import refuse_leaks
from workbench.lab.runs import RunFolder, find_run, list_runs, recorded_run
from workbench.learn.base_rule import follow_in_words
from workbench.learn.held import held_by, held_in_words
from workbench.learn.predictors import RunPredictor, check_space, open_predictor
from workbench.learn.results import TrainResult
from workbench.rules.mean_of_sets import mean_of
from workbench.rules.setting import Setting
from workbench.rules.tuned import RULES, label_of, rule_of, sets_of
from workbench.tasks.registry import task_key
from workbench.tasks.task import Task
from workbench.tune.methods import is_strong


def _check_scenes(run: RunFolder, test: set[str]) -> None:
    refuse_leaks(run, test, next_step="train or tune again on this data set's splits")


def find_tuned(
    lab: Path, name: str | None, rule: str, info: DeviceInfo, task: Task, setting: Setting | None
) -> RunFolder | None:
    """The run of that name, or the newest of the rule on devices like this one.

    One that was tuned under the setting comes before all others, then one for the detector's own weights, then one for
    the table's metric (PSNR, of a detector mAP50) by CMA-ES or TPE: a weaker baseline must not take its place unasked.
    """
    if name == NONE:
        return None
    if name is not None:
        run = find_run(lab, "tune", name)
        if rule_of(run) != rule:
            what = {"fixed": "a fixed set", "industry": "a table over ISO"}.get(rule_of(run), f"of rule {rule_of(run)}")
            flag = {"industry": " --industry", "auto": " --rule auto"}.get(rule, "")
            raise RunError(
                f"run {run.name}: is {what}; give a run of `workbench tune{flag}`, or compare it with --tune {run.name}"
            )
        return run
    found = [
        run
        for run in list_runs(lab, "tune")
        if task_key(run) == task.key
        and rule_of(run) == rule
        and not run.aside
        and run.device.space_hash in info.space.hashes
    ]
    strong = [run for run in found if is_strong(run.config.get("method"))]
    asked = task.metrics[0].key
    ranked = [run for run in strong if run.config.get("metric", asked) == asked] + strong + found
    record = task.record() if ranked else None
    return min(ranked, key=lambda run: (not same_setting(run, setting), not same_weights(run, record)), default=None)


def trained_for(run: RunFolder, task: Task) -> list[str]:
    """A note where a predictor was trained for another task."""
    own = task_key(run)
    return [] if own == task.key else [f"predictor {run.name} was trained for {own}, not for {task.key}"]


def _option(task: Task) -> str:
    return f" --task {task.name} …" if task.detector_name else ""


def _tuned(
    dataset: Dataset,
    info: DeviceInfo,
    run: RunFolder,
    raws: Sequence[RawRecord],
    task: Task,
    kind: MethodKind,
    label: str,
) -> tuple[Method, list[str]]:
    """What a tune run chooses, as a method, and notes."""
    _check_scenes(run, {r.scene for r in raws})
    notes = _other_firmware(label, run, run.device.identity, info)
    asked = task.metrics[0].key
    if (tuned_for := task_key(run)) != task.key:
        notes.append(f"{label} {run.name} was tuned for {tuned_for}, not for {task.key}")
    elif (metric := run.config.get("metric", asked)) != asked:
        notes.append(f"{label} ({run.name}) was tuned for {metric}, not for {asked}")
    device_s = run.results.get("device_s")
    if device_s is None:
        # Runs of older versions: what their studies asked for first.
        purposes = {f"tune:{study}" for study in run.results.get("studies", ())}
        device_s = sum(c.device_s for c in dataset.captures(device_identity=info.identity) if c.purpose in purposes)
    method = Method(
        kind,
        label,
        sets_of(run, info.space, raws),
        run.name,
        run.results.get("captures"),
        None,
        device_s,
        run.results.get("compute_s", run.results.get("seconds")),
        rule_of(run),
        run.config.get("method"),
        rounding_of(run),
    )
    return method, notes


def _predictors(
    lab: Path,
    names: Sequence[str],
    info: DeviceInfo,
    test: set[str],
    notes: list[str],
    task: Task,
    setting: Setting | None,
) -> list[tuple[RunFolder, RunPredictor]]:
    found = []
    if names:
        for name in names:
            if name == NONE:
                continue
            run = find_run(lab, "train", name)
            if run.path.resolve().parent != (Path(lab) / "runs").resolve():
                raise RunError(f"{run.path}: is a run of another lab; copy its folder and its proxy's to {lab}/runs")
            loaded = open_predictor(run)
            check_space(run, loaded.space, info)
            found.append((run, loaded))
    else:
        record = task.record()
        by_fit = sorted(
            list_runs(lab, "train"), key=lambda run: (not same_setting(run, setting), not same_weights(run, record))
        )
        for run in by_fit:
            if {p.metadata for _, p in found} == {True, False}:
                break
            if task_key(run) != task.key or run.aside:
                continue
            try:
                loaded = open_predictor(run)
            except (WeightsError, RunError) as error:
                notes.append(f"left out: {error}")
                continue
            if loaded.space.hash == info.space.hash and loaded.metadata not in {p.metadata for _, p in found}:
                found.append((run, loaded))
    for run, _ in found:
        _check_scenes(run, test)
    return sorted(found, key=lambda f: not f[1].metadata) if not names else found


def _other_firmware(what: str, run: RunFolder, identity: str | None, info: DeviceInfo) -> list[str]:
    """A note where a run was made with another device than the one that validates, of the same parameters."""
    if identity is None or info.goes_by(identity):
        return []
    return [
        f"{what} {run.name} was made with {identity}, this is {info.identity}: make it again to compare like with like"
    ]


def collection_captures(dataset: Dataset, identity: str) -> int:
    """How many captures collection made on a device."""
    return sum(c.purpose.startswith("collect") for c in dataset.captures(device_identity=identity))


def _proxy_of(lab: Path, run: RunFolder) -> RunFolder | None:
    """The run of the proxy that a predictor was trained through; None where it is gone."""
    if (name := run.config.get("proxy")) is None:
        return None
    folder = recorded_run(lab, name)
    return RunFolder.open(folder) if (folder / "run.json").is_file() else None


def _proxy_captures(lab: Path, run: RunFolder, test: set[str], collected: int) -> int:
    """Captures collected when the predictor's proxy was fitted; the proxy must not have seen a test scene either."""
    proxy = _proxy_of(lab, run)
    if proxy is None:
        return 0 if TrainResult.of(run).refine else collected
    _check_scenes(proxy, test)
    return int(proxy.config.get("collected") or collected)


def _not_counted(lab: Path, run: RunFolder) -> list[str]:
    """A note on the captures that a proxy's fidelity report took, since what it says decides what training holds."""
    proxy = _proxy_of(lab, run)
    if proxy is None:
        return []
    spent = (proxy.results.get("fidelity") or {}).get("captures")
    return [f"the fidelity report of {proxy.name} took {spent} captures more, which no budget counts"] if spent else []


def _training_s(lab: Path, run: RunFolder) -> float | None:
    """Seconds from start to end of a train run and of the fit of its proxy; None where the proxy's run is gone."""
    proxy = _proxy_of(lab, run)
    if proxy is None:
        return None
    return sum(r.took_s() for r in (run, proxy))


@dataclass(frozen=True)
class _Below:
    """What stands below a prediction on top of a rule cost: the rule, refining, and choosing how far to follow."""

    captures: int = 0
    device_s: float = 0.0
    compute_s: float = 0.0


def _below(run: RunFolder, predictor: RunPredictor) -> _Below:
    base = predictor.base
    if base is None:
        return _Below()
    result = TrainResult.of(run)
    captures, device_s = result.asked
    return _Below((base.captures or 0) + captures, (base.device_s or 0.0) + device_s, base.compute_s or 0.0)


def gather(
    lab: Path,
    dataset: Dataset,
    info: DeviceInfo,
    task: Task,
    raws: Sequence[RawRecord],
    settings: ValidationSettings,
    setting: Setting | None,
    progress: Progress | None = None,
) -> tuple[list[Method], list[str]]:
    """The methods to compare under a setting, in the table's order, and notes for the reader.

    Raises:
        RunError: a run does not fit the device, or has seen a test scene.
    """
    n = len(raws)
    notes: list[str] = []
    by_hand = {MethodKind.default: info.space.defaults}
    if settings.expert is not None:
        by_hand[MethodKind.expert] = info.space.load_toml(settings.expert)
    methods = [
        Method(kind, kind.value, (p,) * n, captures=0, device_s=0.0, compute_s=0.0) for kind, p in by_hand.items()
    ]
    tuned, more = _tunings(lab, info, task, settings, setting)
    notes += more
    for kind, run, label in tuned:
        method, more = _tuned(dataset, info, run, raws, task, kind, label)
        methods.append(method)
        notes += more
    learnt, more = _learnt(lab, dataset, info, task, raws, settings.predictors, setting, progress)
    return methods + learnt, list(dict.fromkeys(notes + more))


def _tunings(
    lab: Path, info: DeviceInfo, task: Task, settings: ValidationSettings, setting: Setting | None
) -> tuple[list[tuple[MethodKind, RunFolder, str]], list[str]]:
    """The tune runs to compare with what they are and are called, and notes where one is not there."""
    notes = []
    chosen: list[tuple[MethodKind, RunFolder, str]] = []
    for kind, name, label in (
        (MethodKind.fixed, settings.fixed, "best fixed"),
        (MethodKind.industry, settings.industry, RULES["industry"]),
        (MethodKind.auto, settings.auto, RULES["auto"]),
    ):
        run = find_tuned(lab, name, kind.value, info, task, setting)
        if run is None and kind is MethodKind.auto:
            continue
        if run is None:
            flag = " --industry" if kind is MethodKind.industry else ""
            notes.append(f"no {label} to compare with: run `workbench tune{flag}{_option(task)}` on this device")
        else:
            chosen.append((kind, run, label))
    further = [find_run(lab, "tune", name) for name in dict.fromkeys(settings.tunes)]
    labels = Counter(label_of(run) for run in further)
    for run in further:
        label = label_of(run)
        chosen.append((MethodKind.tune, run, f"{label} ({run.name})" if labels[label] > 1 else label))
    return chosen, notes


def _learnt(
    lab: Path,
    dataset: Dataset,
    info: DeviceInfo,
    task: Task,
    raws: Sequence[RawRecord],
    names: Sequence[str],
    setting: Setting | None,
    progress: Progress | None,
) -> tuple[list[Method], list[str]]:
    """What predictors choose: the mean for all, and each RAW's own."""
    test, n = {r.scene for r in raws}, len(raws)
    notes: list[str] = []
    methods = []
    predictors = _predictors(lab, names, info, test, notes, task, setting)
    if not predictors:
        notes.append(f"no predictor for this device: run `workbench train{_option(task)}`")
    chosen = predictions([predictor for _, predictor in predictors], raws, info.space, progress)
    collection = [c for c in dataset.captures(device_identity=info.identity) if c.purpose.startswith("collect")]
    collection_s = sum(c.device_s for c in collection)
    for (run, predictor), sets in zip(predictors, chosen, strict=True):
        below = _below(run, predictor)
        spent = _proxy_captures(lab, run, test, len(collection)) + below.captures
        training_s = _training_s(lab, run)
        notes += trained_for(run, task)
        notes += _not_counted(lab, run)
        if held := held_by(run):
            notes.append(f"{run.name}: {held_in_words(info.space, held)}")
        if predictor.base is not None:
            notes.append(
                f"{run.name}: on top of {RULES[predictor.base.kind]} ({predictor.base.run}), whose captures and those "
                f"that chose how far to follow count; {follow_in_words(predictor.follow)}"
            )
        notes += _other_firmware("predictor", run, predictor.device_identity, info)
        inputs = "image + metadata" if predictor.metadata else "image only"
        name = f", {run.name}" if len(predictors) > 2 else ""
        predicted = Method(
            MethodKind.predicted,
            f"predicted ({inputs}{name})",
            sets,
            run.name,
            spent,
            predictor.metadata,
            collection_s + below.device_s,
            None if training_s is None else training_s + below.compute_s,
            on_top_of=predictor.base.run if predictor.base else None,
        )
        mean = replace(
            predicted, kind=MethodKind.mean, label=f"mean of predictions ({inputs}{name})", sets=(mean_of(sets),) * n
        )
        methods += [mean, predicted]
    return methods, notes


def compared(methods: Sequence[MethodResult]) -> dict[str, Any]:
    """The runs that stood in a validation's table, as its record names them."""

    def of(kind: MethodKind) -> list[str | None]:
        return [m.run for m in methods if m.kind is kind]

    return {
        "predictors": of(MethodKind.predicted),
        "fixed": next(iter(of(MethodKind.fixed)), None),
        "industry": next(iter(of(MethodKind.industry)), None),
        "auto": next(iter(of(MethodKind.auto)), None),
        "tunes": of(MethodKind.tune),
    }
