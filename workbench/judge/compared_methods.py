"""The methods that validation compares: how each chooses a parameter set for every test RAW, and what it had cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from drivers.device import DeviceInfo
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.weights import WeightsError
from predictor.distance import apply_declining, load_distance
from predictor.files import LoadedPredictor, load_predictor
from workbench.errors import RunError
from workbench.judge.budgets import less_than, rounding_of
from workbench.judge.pairing import Pairing
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.runs import RunFolder, find_run, list_runs, recorded_run
from workbench.learn.held import held_by, held_in_words
from workbench.tune.methods import is_strong
from workbench.tune.rules import RULES, label_of, rule_of, sets_of

NONE = "(none)"
"""In place of a run's name: leave it out. No run can have this name."""


@dataclass(frozen=True)
class Method:
    """A way of choosing parameters: one set a test RAW.

    Attributes:
        key, label, run, captures, metadata, device_s, compute_s, rule, search: as METHOD in
            :mod:`workbench.judge.validation`.
        sets: a parameter set for each test RAW.
        rounding: captures of the budget that a search left because no whole trial fits into them.
    """

    key: str
    label: str
    sets: tuple[ParameterSet, ...]
    run: str | None = None
    captures: int | None = None
    metadata: bool | None = None
    device_s: float | None = None
    compute_s: float | None = None
    rule: str | None = None
    search: str | None = None
    rounding: int = 0


@dataclass(frozen=True)
class ValidationSettings:
    """What to validate; runs by name or path, None for the newest of their kind, :data:`NONE` for none.

    Attributes:
        predictors: ``train`` runs; empty: the newest with metadata and the newest without.
        fixed, industry: ``tune`` runs; proxy: a ``fit-proxy`` run.
        expert: TOML of the expert's set.
        test_raws: how many test RAWs, spread over the scenes and the ISO range by seed; 0: all.
        oracle_captures: a RAW; 0 leaves the oracle out.
        seed: of the oracle and the bootstrap.
        task: runs that are not named are looked for among those of this task.
        tunes: further ``tune`` runs, each a method of its own.
    """

    predictors: tuple[str, ...] = ()
    fixed: str | None = None
    industry: str | None = None
    proxy: str | None = None
    expert: Path | None = None
    test_raws: int = 0
    oracle_captures: int = 200
    seed: int = 0
    task: str = "viewing"
    tunes: tuple[str, ...] = ()


def mean_of(sets: Sequence[ParameterSet]) -> ParameterSet:
    """The mean of predictions: of numbers in the normalised space, the most frequent of choices and bools."""
    space = sets[0].space
    mean = space.from_unit(np.mean([s.unit for s in sets], axis=0))
    codes = np.array([s.codes for s in sets])
    merged = [
        int(np.bincount(codes[:, i]).argmax()) if p.kind in ("choice", "bool") else mean.codes[i]
        for i, p in enumerate(space.parameters)
    ]
    return ParameterSet(space, tuple(merged))


def _check_scenes(run: RunFolder, test: set[str]) -> None:
    seen = {*(run.config.get("scenes") or ()), *(run.config.get("held_out_scenes") or ())}
    if leaked := sorted(test & seen):
        raise RunError(
            f"run {run.name}: was made with the test scene {leaked[0]!r}"
            f"{f' and {len(leaked) - 1} more' if leaked[1:] else ''}; train or tune again on this data set's splits"
        )


def check_space(run: RunFolder, space: ParameterSpace, info: DeviceInfo) -> None:
    """See that a run's parameters are the device's.

    Raises:
        RunError: they are not.
    """
    if space.hash != info.space.hash:
        raise RunError(
            f"run {run.name}: its parameter space ({space.name}, {len(space)} parameters) is not that of the device "
            f"{info.identity} ({len(info.space)} parameters); choose a run made on this device"
        )


def find_tuned(lab: Path, name: str | None, rule: str, info: DeviceInfo, task: str) -> RunFolder | None:
    """The run of that name, or the newest of the rule on devices like this one.

    One that was tuned for the table's metric (PSNR, of a detector mAP50) by CMA-ES or TPE comes before all others: a
    weaker baseline must not take its place unasked.
    """
    if name == NONE:
        return None
    if name is not None:
        run = find_run(lab, "tune", name)
        if rule_of(run) != rule:
            what = {"fixed": "a fixed set", "industry": "a table over ISO"}.get(rule_of(run), f"of rule {rule_of(run)}")
            flag = " --industry" if rule == "industry" else ""
            raise RunError(
                f"run {run.name}: is {what}; give a run of `workbench tune{flag}`, or compare it with --tune {run.name}"
            )
        return run
    found = [
        run
        for run in list_runs(lab, "tune")
        if run.config.get("task", "viewing") == task
        and rule_of(run) == rule
        and not run.aside
        and (run.record.get("device") or {}).get("space_hash") == info.space.hash
    ]
    strong = [run for run in found if is_strong(run.config.get("method"))]
    asked = headline_metric(task)
    ranked = [run for run in strong if run.config.get("metric", asked) == asked] + strong + found
    return ranked[0] if ranked else None


def trained_for(run: RunFolder, task: str) -> list[str]:
    """A note where a predictor was trained for another task."""
    own = run.config.get("task", "viewing")
    return [] if own == task else [f"predictor {run.name} was trained for {own}, not for {task}"]


def _option(task: str) -> str:
    return "" if task == "viewing" else f" --task {task.partition(':')[0]} …"


def headline_metric(task: str) -> str:
    """What methods are compared by, and tunings search for unless told otherwise."""
    return "psnr" if task == "viewing" else "map50"


def _tuned(
    dataset: Dataset, info: DeviceInfo, run: RunFolder, raws: Sequence[RawRecord], task: str, key: str, label: str
) -> tuple[Method, list[str]]:
    """What a tune run chooses, as a method, and notes."""
    _check_scenes(run, {r.scene for r in raws})
    notes = _other_firmware(label, run, (run.record.get("device") or {}).get("identity"), info)
    if (tuned_for := run.config.get("task", "viewing")) != task:
        notes.append(f"{label} {run.name} was tuned for {tuned_for}, not for {task}")
    elif (metric := run.config.get("metric", headline_metric(task))) != headline_metric(task):
        notes.append(f"{label} ({run.name}) was tuned for {metric}, not for {headline_metric(task)}")
    device_s = run.results.get("device_s")
    if device_s is None:
        # Runs of older versions: what their studies asked for first.
        purposes = {f"tune:{study}" for study in run.results.get("studies", ())}
        device_s = sum(c.device_s for c in dataset.captures(device_identity=info.identity) if c.purpose in purposes)
    method = Method(
        key,
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
    lab: Path, names: Sequence[str], info: DeviceInfo, test: set[str], notes: list[str], task: str
) -> list[tuple[RunFolder, LoadedPredictor]]:
    found = []
    if names:
        for name in names:
            if name == NONE:
                continue
            run = find_run(lab, "train", name)
            if run.path.resolve().parent != (Path(lab) / "runs").resolve():
                raise RunError(f"{run.path}: is a run of another lab; copy its folder and its proxy's to {lab}/runs")
            loaded = load_predictor(run.path)
            check_space(run, loaded.space, info)
            found.append((run, loaded))
    else:
        for run in list_runs(lab, "train"):
            if {p.metadata for _, p in found} == {True, False}:
                break
            if run.config.get("task", "viewing") != task or run.aside:
                continue
            try:
                loaded = load_predictor(run.path)
            except WeightsError as error:
                notes.append(f"left out: {error}")
                continue
            if loaded.space.hash == info.space.hash and loaded.metadata not in {p.metadata for _, p in found}:
                found.append((run, loaded))
    for run, _ in found:
        _check_scenes(run, test)
    return sorted(found, key=lambda f: not f[1].metadata) if not names else found


def _other_firmware(what: str, run: RunFolder, identity: str | None, info: DeviceInfo) -> list[str]:
    """A note where a run was made with another device than the one that validates, of the same parameters."""
    if identity is None or identity == info.identity:
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
        return collected
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
    return sum(
        (datetime.fromisoformat(r.record["finished"]) - datetime.fromisoformat(r.record["started"])).total_seconds()
        for r in (run, proxy)
    )


def smaller_budget(method: Method, collected: int) -> bool:
    """Whether a tuned method had fewer captures than collection, so that a comparison would flatter the predictor."""
    tuned = method.key in ("fixed", "industry") or method.key.startswith("tune:")
    return tuned and less_than(method.captures, collected, method.rounding)


def gather(
    lab: Path, dataset: Dataset, info: DeviceInfo, raws: Sequence[RawRecord], settings: ValidationSettings
) -> tuple[list[Method], list[str]]:
    """The methods to compare, in the table's order, and notes for the reader.

    Raises:
        RunError: a run does not fit the device, or has seen a test scene.
    """
    test, n = {r.scene for r in raws}, len(raws)
    notes: list[str] = []
    methods = [Method("default", "default", (info.space.defaults,) * n, captures=0, device_s=0.0, compute_s=0.0)]
    if settings.expert is not None:
        by_hand = (info.space.load_toml(settings.expert),) * n
        methods.append(Method("expert", "expert", by_hand, captures=0, device_s=0.0, compute_s=0.0))
    chosen: list[tuple[str, RunFolder, str]] = []
    for key, name, label in (
        ("fixed", settings.fixed, "best fixed"),
        ("industry", settings.industry, RULES["industry"]),
    ):
        run = find_tuned(lab, name, key, info, settings.task)
        if run is None:
            flag = " --industry" if key == "industry" else ""
            notes.append(
                f"no {label} to compare with: run `workbench tune{flag}{_option(settings.task)}` on this device"
            )
        else:
            chosen.append((key, run, label))
    further = [find_run(lab, "tune", name) for name in dict.fromkeys(settings.tunes)]
    labels = Counter(label_of(run) for run in further)
    for run in further:
        label = label_of(run)
        chosen.append((f"tune:{run.name}", run, f"{label} ({run.name})" if labels[label] > 1 else label))
    for key, run, label in chosen:
        method, more = _tuned(dataset, info, run, raws, settings.task, key, label)
        methods.append(method)
        notes += more
    predictors = _predictors(lab, settings.predictors, info, test, notes, settings.task)
    if not predictors:
        notes.append(f"no predictor for this device: run `workbench train{_option(settings.task)}`")
    frames = [r.load() for r in raws] if predictors else []
    collection = [c for c in dataset.captures(device_identity=info.identity) if c.purpose.startswith("collect")]
    collection_s = sum(c.device_s for c in collection)
    for run, predictor in predictors:
        spent = _proxy_captures(lab, run, test, len(collection))
        notes += trained_for(run, settings.task)
        notes += _not_counted(lab, run)
        if held := held_by(run):
            notes.append(f"{run.name}: {held_in_words(info.space, held)}")
        notes += _other_firmware("predictor", run, predictor.device_identity, info)
        inputs = "image + metadata" if predictor.metadata else "image only"
        name = f", {run.name}" if len(predictors) > 2 else ""
        sets = tuple(ParameterSet(info.space, p.codes) for p in predictor.predict(frames))
        for key, label, of_each in (
            ("mean", "mean of predictions", (mean_of(sets),) * n),
            ("predicted", "predicted", sets),
        ):
            label = f"{label} ({inputs}{name})"
            methods.append(
                Method(
                    f"{key}:{run.name}",
                    label,
                    of_each,
                    run.name,
                    spent,
                    predictor.metadata,
                    collection_s,
                    _training_s(lab, run),
                )
            )
        fixed, distance = next((m for m in methods if m.key == "fixed"), None), load_distance(run.path)
        if fixed is not None and distance is not None:
            distances = [distance.of(predictor, frame) for frame in frames]
            methods.append(
                replace(
                    methods[-1],
                    key=f"declining:{run.name}",
                    label=f"predicted, declining ({inputs}{name})",
                    sets=apply_declining(sets, distances, distance.limit, fixed.sets[0]),
                    captures=spent + (fixed.captures or 0),
                    device_s=collection_s + (fixed.device_s or 0),
                )
            )
    return methods, list(dict.fromkeys(notes))


def headline_method(methods: Sequence[Method]) -> Method | None:
    """The prediction that a validation is about: the first with metadata, or else the first; None without any."""
    predicted = [m for m in methods if m.key.startswith("predicted:")]
    return next((m for m in predicted if m.metadata), predicted[0] if predicted else None)


def compared(methods: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The runs that stood in a validation's table, as its record names them."""

    def one(key: str) -> str | None:
        return next((m["run"] for m in methods if m["key"] == key), None)

    def all_of(kind: str) -> list[str]:
        return [m["run"] for m in methods if m["key"].startswith(kind)]

    return {
        "predictors": all_of("predicted:"),
        "fixed": one("fixed"),
        "industry": one("industry"),
        "tunes": all_of("tune:"),
    }


def kept_methods(methods: Sequence[Method], pairing: Pairing) -> list[Method]:
    """The methods that are compared, with their sets for the RAWs that are."""
    return [replace(m, sets=tuple(m.sets[i] for i in pairing.places)) for m in methods if m.key in set(pairing.methods)]
