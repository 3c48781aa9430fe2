"""Validation on the device: every method's parameters pushed for each test RAW, captured, read back and scored.

The device decides: all figures are of its own output on RAWs never seen in training or tuning. Differences are paired
by RAW and their 95 % intervals are bootstrapped by scene (:mod:`workbench.statistics`).

A ``validate`` run writes ``results.json`` (``workbench validate --json`` prints the same object)::

    {"format": 1,
     "device": {"identity", "model", "firmware", "serial", "boot_id", "space", "space_hash"},
     "space": {…},                       # ParameterSpace.to_dict()
     "raws": 66, "scenes": 22, "seed": 0,
     "collection_captures": 4000,        # captures of purpose "collect…" of this device in the data set
     "methods": [METHOD, …],             # in the table's order
     "headline": {                       # null where there is no predictor
        "predictor": "predicted:RUN",    # the key of the method that it is about
        "gain_over_fixed": INTERVAL | null,          # dB, PSNR
        "gain_over_industry": INTERVAL | null,       # dB, PSNR
        "gain_over_expert": INTERVAL | null,
        "gap_closed": INTERVAL | null,               # (predicted − fixed) / (oracle − fixed), 1 = all
        "worse_than_fixed_share": 0.12 | null,       # of RAWs
        "fifth_percentile_gain": -0.4 | null},       # dB over fixed
     "oracle": {"captures_per_raw": 200, "last_quarter_gain": 0.1,       # dB that the last quarter of captures gained
                "found_from_first_start": 0.4,      # share of RAWs whose best set is from the predictor's
                "curve": [mean best PSNR after each capture]} | null,
     "proxy": {                          # null without a proxy or a predictor
        "run": "fit-proxy-…", "psnr_to_device": 29.1,    # proxy's image against the device's, at the predicted set
        "promised": 27.0, "given": 26.2,                 # PSNR to the reference: proxy's, device's
        "promised_minus_given": INTERVAL},
     "declining": [{                     # a predictor that has a limit, where there is a best fixed set
        "predictor": "predicted:RUN", "declined_share": 0.02,   # of RAWs, for which the best fixed set was used
        "worse_share": 0.12, "worse_share_declining": 0.10,     # of RAWs, worse than with the best fixed set
        "fifth_percentile_gain": -0.4, "fifth_percentile_gain_declining": -0.3}],   # dB over fixed
     "per_raw": [{"name", "hash", "scene", "iso", "exposure_s", "as_shot_wb",
                  "methods": {KEY: {"psnr", "ssim", "codes": {name: code}, "output_hash"}}}],
     "notes": ["…"]}                     # what a reader must know, one line each

    METHOD   = {"key": "fixed", "label": "best fixed", "run": "tune-…" | null,
                "psnr": 19.1, "ssim": 0.6, "psnr_interval": INTERVAL, "psnr_gain_over_fixed": INTERVAL | null,
                "captures": 4000 | null,  # device captures spent to get there (search, or collection for a predictor)
                "fewer_captures_than_collection": false,  # by more than 1 %
                "metadata": true | false | null,
                "device_s": 40.2 | null,  # seconds that the device spent on those captures
                "compute_s": 70.1 | null, # seconds of searching, or of fitting and training
                "rule": "fixed" | null, "search": "cmaes" | null}  # of tuned methods, see below
    INTERVAL = {"estimate": 1.5, "low": 1.0 | null, "high": 2.0 | null, "clusters": 22, "samples": 66,
                "verdict": "better" | "worse" | "not shown"}

Keys of methods: ``default``, ``expert``, ``fixed``, ``industry``, ``tune:RUN`` (further tune runs), ``mean:RUN`` (mean
of that predictor's predictions), ``predicted:RUN``, ``declining:RUN`` (the same, but the best fixed set for RAWs beyond
its limit, see :mod:`predictor.distance`; its captures are those of both) and ``oracle``. ``run.json`` of the run holds
the same object without ``per_raw``, ``space`` and the curve as its results.

A ``tune`` run's ``results`` (``best.toml``, ``table.json`` or ``regression.json`` beside ``run.json``)::

    {"score": 20.1,                      # mean metric on the RAWs that ranked the finalists, training split
     "captures": 4000,                   # distinct captures looked at, asked now or found in the data set
     "captures_asked_now": 3900,         # of them made by the device in this call
     "device_s": 40.2,                   # seconds that the device spent on those captures, from the data set
     "compute_s": 12.5,                  # seconds of this call in which no capture was waited for
     "studies": ["fixed tpe viewing …"], "raws": [names of the trials' RAWs], "ranked_on": 64, "trials": 230,
     "history": [[captures, best so far], …], "training_scenes": [...], "seconds": 30.1, "file": "best.toml",
     "default_on_trial_raws": 15.2,
     "metrics": [{"name": "psnr", "unit": "dB", "better": "higher" | "lower"}, …],
     # with several metrics: what the chosen set has on the RAWs that ranked it, and the Pareto front of the sets tried,
     # the best in the first metric first, with their values on the trials' RAWs; "score", "history" and the other
     # figures are of the first metric
     "values": {"psnr": 20.1, "bytes": 4031.0},
     "pareto": [{"values": {"psnr": 20.3, "bytes": 4400.0}, "parameters": {name: native}, "parameters_hash"}, …]
     # rules fixed and as-shot: "score_on_trial_raws", "expert_on_trial_raws", "finalists", "parameters" (native),
     # "parameters_hash"
     # method proxy-gradient: "proxy" (run), "held" (parameters it left alone), "ranking_captures"; its captures,
     # device_s and compute_s hold the collection and the fit of the proxy too
     # rules industry and industry-grey-world: "single_set_score", "table_score", "kept", "knots_iso"
     # rule regression: "single_set_score", "regression_score", "kept", "images" (names), "captures_an_image",
     # "optima_score" (mean of the optima on their own RAWs), "penalty"
    }

and its ``config``: ``{"rule": "fixed" | "as-shot" | "industry" | "industry-grey-world" | "regression",
"industry": rule == "industry", "device": URL, "expert": hash | null, "scenes": [training scenes], method, captures,
raws_per_trial, seed, metric, more_metrics, task}``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from drivers.device import Device, DeviceInfo
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.weights import WeightsError
from predictor.distance import apply_declining, load_distance
from predictor.files import LoadedPredictor, load_predictor
from proxy.files import load_proxy
from workbench.bench import Bench
from workbench.dataset import CaptureRecord, Dataset, RawRecord
from workbench.errors import RunError
from workbench.runs import RunFolder, describe_device, find_run, list_runs, new_run, write_json
from workbench.statistics import Interval, mean_interval, ratio_interval
from workbench.tasks import viewing
from workbench.tuning.balance import with_as_shot
from workbench.tuning.material import Scorer, referenced_raws, stratified
from workbench.tuning.oracle import OracleResult, search_oracle
from workbench.tuning.rules import RULES, label_of, rule_of, sets_of
from workbench.tuning.search import SearchBench, captured

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Method:
    """A way of choosing parameters: one set a test RAW.

    Attributes:
        key, label, run, captures, metadata, device_s, compute_s, rule, search: as METHOD in this module's docstring.
        sets: a parameter set for each test RAW.
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


@dataclass(frozen=True)
class ValidationSettings:
    """What to validate; runs by name or path, None for the newest of their kind.

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


def _check_space(run: RunFolder, space: ParameterSpace, info: DeviceInfo) -> None:
    if space.hash != info.space.hash:
        raise RunError(
            f"run {run.name}: its parameter space ({space.name}, {len(space)} parameters) is not that of the device "
            f"{info.identity} ({len(info.space)} parameters); choose a run made on this device"
        )


def _tune_run(lab: Path, name: str | None, rule: str, info: DeviceInfo, task: str) -> RunFolder | None:
    """The run of that name, or the newest of the rule on devices like this one; of fixed sets, the newest of one metric
    by CMA-ES or TPE, unless only other searches were made: a weaker baseline must not take its place unasked.
    """
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
        and (run.record.get("device") or {}).get("space_hash") == info.space.hash
    ]
    return next((run for run in found if run.config.get("method") in ("cmaes", "tpe")), found[0] if found else None)


def _tuned(
    dataset: Dataset, info: DeviceInfo, run: RunFolder, raws: Sequence[RawRecord], task: str, key: str, label: str
) -> tuple[Method, list[str]]:
    """What a tune run chooses, as a method, and notes."""
    _check_scenes(run, {r.scene for r in raws})
    notes = _other_firmware(label, run, (run.record.get("device") or {}).get("identity"), info)
    if (tuned_for := run.config.get("task", "viewing")) != task:
        notes.append(f"{label} {run.name} was tuned for {tuned_for}, not for {task}")
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
    )
    return method, notes


def _predictors(
    lab: Path, names: Sequence[str], info: DeviceInfo, test: set[str], notes: list[str], task: str
) -> list[tuple[RunFolder, LoadedPredictor]]:
    found = []
    if names:
        for name in names:
            run = find_run(lab, "train", name)
            loaded = load_predictor(run.path)
            _check_space(run, loaded.space, info)
            found.append((run, loaded))
    else:
        for run in list_runs(lab, "train"):
            if {p.metadata for _, p in found} == {True, False}:
                break
            if run.config.get("task", "viewing") != task or run.config.get("study"):
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


def _proxy_captures(lab: Path, run: RunFolder, test: set[str], collected: int) -> int:
    """Captures collected when the predictor's proxy was fitted; the proxy must not have seen a test scene either."""
    folder = lab / "runs" / str(run.config.get("proxy"))
    if not (folder / "run.json").is_file():
        return collected
    proxy = RunFolder.open(folder)
    _check_scenes(proxy, test)
    return int(proxy.config.get("collected") or collected)


def _training_s(lab: Path, run: RunFolder) -> float | None:
    """Seconds from start to end of a train run and of the fit of its proxy; None where the proxy's run is gone."""
    folder = lab / "runs" / str(run.config.get("proxy"))
    if not (folder / "run.json").is_file():
        return None
    return sum(
        (datetime.fromisoformat(r.record["finished"]) - datetime.fromisoformat(r.record["started"])).total_seconds()
        for r in (run, RunFolder.open(folder))
    )


def smaller_budget(method: Method, collected: int) -> bool:
    """Whether a tuned method had fewer captures than collection, so that a comparison would flatter the predictor.

    One in a hundred may be missing: budgets are seldom a whole number of trials.
    """
    tuned = method.key in ("fixed", "industry") or method.key.startswith("tune:")
    return tuned and (method.captures or 0) < 0.99 * collected


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
        run = _tune_run(lab, name, key, info, settings.task)
        if run is None:
            flag = " --industry" if key == "industry" else ""
            notes.append(f"no {label} to compare with: run `workbench tune{flag}` on this device")
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
        notes.append("no predictor for this device: run `workbench train`")
    frames = [r.load() for r in raws] if predictors else []
    collection = [c for c in dataset.captures(device_identity=info.identity) if c.purpose.startswith("collect")]
    collection_s = sum(c.device_s for c in collection)
    for run, predictor in predictors:
        spent = _proxy_captures(lab, run, test, len(collection))
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
        fixed, distance = _by_key(methods).get("fixed"), load_distance(run.path)
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
    return methods, notes


def _interval(values: Sequence[float] | np.ndarray, scenes: Sequence[str], seed: int) -> Interval:
    return mean_interval(values, scenes, seed=seed)


def _by_key(methods: Sequence[Method]) -> dict[str, Method]:
    return {m.key: m for m in methods}


class _Scores:
    """PSNR and SSIM ``[methods][raws]`` with the captures that they are of."""

    def __init__(self) -> None:
        self.psnr: dict[str, list[float]] = {}
        self.ssim: dict[str, list[float]] = {}
        self.captures: dict[str, list[CaptureRecord]] = {}

    def add(self, key: str, captures: Sequence[CaptureRecord], scores: Sequence[dict[str, float]]) -> None:
        self.captures[key] = list(captures)
        self.psnr[key] = [s["psnr"] for s in scores]
        self.ssim[key] = [s["ssim"] for s in scores]


def _measure(
    bench: Bench, scorer: Scorer, raws: Sequence[RawRecord], methods: Sequence[Method], progress: Any
) -> _Scores:
    scores = _Scores()
    jobs = [(raw, p) for m in methods for raw, p in zip(raws, m.sets, strict=True)]
    got: list[CaptureRecord] = []
    values: list[dict[str, float]] = []
    known: dict[tuple[str, str], dict[str, float]] = {}
    for raw, capture in captured(bench, jobs):
        key = (raw.hash, capture.output_hash)
        if key not in known:
            known[key] = viewing.score(capture.rgb().pixels, scorer.reference(raw))
        got.append(capture)
        values.append(known[key])
        if progress:
            progress("captures", len(got), len(jobs))
    for i, method in enumerate(methods):
        part = slice(i * len(raws), (i + 1) * len(raws))
        scores.add(method.key, got[part], values[part])
    return scores


def _oracle_starts(
    raws: Sequence[RawRecord], methods: Sequence[Method], psnr: dict[str, list[float]]
) -> list[tuple[RawRecord, list[ParameterSet]]]:
    """For each RAW the predictor's answer, what every other method chose, and the same with the as-shot gains."""
    starts = []
    for i, raw in enumerate(raws):
        ranked = sorted(methods, key=lambda m: (not m.key.startswith("predicted:"), -psnr[m.key][i]))
        sets = [m.sets[i] for m in ranked]
        sets += [with_as_shot(s, raw) for s in sets]
        starts.append((raw, list({s.hash: s for s in sets}.values())))
    return starts


def _headline(scores: _Scores, methods: Sequence[Method], scenes: Sequence[str], seed: int) -> dict[str, Any] | None:
    predicted = [m for m in methods if m.key.startswith("predicted:")]
    if not predicted:
        return None
    about = next((m for m in predicted if m.metadata), predicted[0])
    psnr = {k: np.array(v) for k, v in scores.psnr.items()}

    def gain(over: str) -> dict[str, Any] | None:
        return _interval(psnr[about.key] - psnr[over], scenes, seed).to_dict() if over in psnr else None

    head: dict[str, Any] = {
        "predictor": about.key,
        "gain_over_fixed": gain("fixed"),
        "gain_over_industry": gain("industry"),
        "gain_over_expert": gain("expert"),
        "gap_closed": None,
        "worse_than_fixed_share": None,
        "fifth_percentile_gain": None,
    }
    if "fixed" in psnr:
        difference = psnr[about.key] - psnr["fixed"]
        head["worse_than_fixed_share"] = float(np.mean(difference < 0))
        head["fifth_percentile_gain"] = float(np.percentile(difference, 5))
        if "oracle" in psnr:
            gap = psnr["oracle"] - psnr["fixed"]
            head["gap_closed"] = ratio_interval(difference, gap, scenes, seed=seed).to_dict()
    return head


def _declining(scores: _Scores, methods: Sequence[Method]) -> list[dict[str, Any]]:
    """What declining is worth, for each predictor that declines."""
    by_key, rows = _by_key(methods), []
    for method in methods:
        if not method.key.startswith("declining:"):
            continue
        predicted = by_key[f"predicted:{method.run}"]
        plain, careful = (np.array(scores.psnr[m.key]) - scores.psnr["fixed"] for m in (predicted, method))
        rows.append(
            {
                "predictor": predicted.key,
                "declined_share": float(np.mean([a != b for a, b in zip(predicted.sets, method.sets, strict=True)])),
                "worse_share": float(np.mean(plain < 0)),
                "worse_share_declining": float(np.mean(careful < 0)),
                "fifth_percentile_gain": float(np.percentile(plain, 5)),
                "fifth_percentile_gain_declining": float(np.percentile(careful, 5)),
            }
        )
    return rows


def _proxy_gap(
    lab: Path,
    settings: ValidationSettings,
    info: DeviceInfo,
    raws: Sequence[RawRecord],
    method: Method,
    scores: _Scores,
    scorer: Scorer,
) -> dict[str, Any] | None:
    trained_through = find_run(lab, "train", method.run).config.get("proxy") if method.run else None
    names = [settings.proxy] if settings.proxy else [trained_through, None]
    run = None
    for name in names:
        try:
            run = find_run(lab, "fit-proxy", name)
            break
        except RunError:
            if settings.proxy:
                raise
    if run is None:
        return None
    proxy = load_proxy(run.path)
    _check_space(run, proxy.space, info)
    to_device, promised = [], []
    for raw, parameters, capture in zip(raws, method.sets, scores.captures[method.key], strict=True):
        image = proxy.render(raw.load(), parameters)
        to_device.append(viewing.psnr(image, capture.rgb().pixels))
        promised.append(viewing.psnr(image, scorer.reference(raw)))
    given = np.array(scores.psnr[method.key])
    return {
        "run": run.name,
        "predictor": method.key,
        "psnr_to_device": float(np.mean(to_device)),
        "promised": float(np.mean(promised)),
        "given": float(given.mean()),
        "promised_minus_given": _interval(np.array(promised) - given, [r.scene for r in raws], settings.seed).to_dict(),
    }


def validate(
    lab: Path,
    dataset: Dataset,
    device: Device,
    settings: ValidationSettings,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare all methods on the test RAWs on the device; the result's shape is in this module's docstring.

    Raises:
        RunError: no test RAW has a reference, or a run does not fit the device or the splits.
        DeviceError: the device failed; run again to go on (captures made are kept).
    """
    info = device.info()
    raws = referenced_raws(dataset, "test")
    if 0 < settings.test_raws < len(raws):
        raws = stratified(raws, settings.test_raws, settings.seed)
    scenes = [r.scene for r in raws]
    methods, notes = gather(lab, dataset, info, raws, settings)
    collected = collection_captures(dataset, info.identity)
    scorer = Scorer("psnr")
    bench = Bench(dataset, device, purpose="validate")
    scores = _measure(bench, scorer, raws, methods, progress)
    oracle: list[OracleResult] = []
    if settings.oracle_captures:
        search_bench = SearchBench(dataset, device, purpose="oracle")
        begin = time.monotonic()

        def show(done: int, total: int, _: float) -> None:
            if progress:
                progress("oracle", done, total)

        oracle = search_oracle(
            search_bench,
            scorer,
            _oracle_starts(raws, methods, scores.psnr),
            budget=settings.oracle_captures,
            seed=settings.seed,
            progress=show,
        )
        best = Method(
            "oracle",
            "per-image oracle",
            tuple(r.parameters for r in oracle),
            captures=sum(r.captures for r in oracle),
            device_s=_device_s(dataset, info, raws, oracle),
            compute_s=time.monotonic() - begin - search_bench.waited_s,
        )
        methods.append(best)
        measured = _measure(search_bench, scorer, raws, [best], None)
        scores.psnr |= measured.psnr
        scores.ssim |= measured.ssim
        scores.captures |= measured.captures
    head = _headline(scores, methods, scenes, settings.seed)
    rows = []
    for m in methods:
        psnr = np.array(scores.psnr[m.key])
        over = m.key != "fixed" and "fixed" in scores.psnr
        fewer = smaller_budget(m, collected)
        if fewer:
            notes.append(f"{m.label} ({m.run}) had {m.captures} captures, collection {collected}: not the same budget")
        rows.append(
            {
                "key": m.key,
                "label": m.label,
                "run": m.run,
                "psnr": float(psnr.mean()),
                "ssim": float(np.mean(scores.ssim[m.key])),
                "psnr_interval": _interval(psnr, scenes, settings.seed).to_dict(),
                "psnr_gain_over_fixed": _interval(
                    psnr - np.array(scores.psnr["fixed"]), scenes, settings.seed
                ).to_dict()
                if over
                else None,
                "captures": m.captures,
                "fewer_captures_than_collection": fewer,
                "metadata": m.metadata,
                "device_s": m.device_s,
                "compute_s": m.compute_s,
                "rule": m.rule,
                "search": m.search,
            }
        )
    by_key = _by_key(methods)
    return {
        "format": 1,
        "device": describe_device(info),
        "space": info.space.to_dict(),
        "raws": len(raws),
        "scenes": len(set(scenes)),
        "seed": settings.seed,
        "collection_captures": collected,
        "methods": rows,
        "headline": head,
        "oracle": {
            "captures_per_raw": settings.oracle_captures,
            "last_quarter_gain": float(np.mean([r.last_quarter_gain for r in oracle])),
            "found_from_first_start": float(np.mean([r.start == 0 for r in oracle])),
            "curve": _mean_curve(oracle),
        }
        if oracle
        else None,
        "proxy": _proxy_gap(lab, settings, info, raws, by_key[head["predictor"]], scores, scorer) if head else None,
        "declining": _declining(scores, methods),
        "per_raw": [
            {
                "name": raw.name,
                "hash": raw.hash,
                "scene": raw.scene,
                "iso": raw.iso,
                "exposure_s": raw.exposure_s,
                "as_shot_wb": raw.as_shot_wb,
                "methods": {
                    m.key: {
                        "psnr": scores.psnr[m.key][i],
                        "ssim": scores.ssim[m.key][i],
                        "codes": dict(zip(info.space.names, m.sets[i].codes, strict=True)),
                        "output_hash": scores.captures[m.key][i].output_hash,
                    }
                    for m in methods
                },
            }
            for i, raw in enumerate(raws)
        ],
        "notes": notes,
    }


def _device_s(dataset: Dataset, info: DeviceInfo, raws: Sequence[RawRecord], oracle: Sequence[OracleResult]) -> float:
    """Seconds that the device spent on the captures of the oracle."""
    keys = [(raw.hash, tried) for raw, result in zip(raws, oracle, strict=True) for tried in result.tried]
    return sum(c.device_s for c in dataset.find(info.identity, keys).values())


def _mean_curve(results: Sequence[OracleResult]) -> list[float]:
    length = max(r.captures for r in results)
    curves = [r.curve + [r.curve[-1]] * (length - r.captures) for r in results]
    return [float(v) for v in np.mean(curves, axis=0)]


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


def validate_run(
    lab: Path,
    dataset: Dataset,
    device: Device,
    settings: ValidationSettings,
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> tuple[RunFolder, dict[str, Any]]:
    """:func:`validate`, kept as a ``validate`` run with ``results.json``.

    Raises:
        RunError: the name is taken; and what :func:`validate` raises.
    """
    run = new_run(lab, "validate", name)
    run.update(seed=settings.seed, dataset_digest=dataset.digest(), device=device.info())
    results = validate(lab, dataset, device, settings, progress=progress)
    run.update(
        config={
            **compared(results["methods"]),
            "proxy": (results["proxy"] or {}).get("run"),
            "expert": settings.expert,
            "oracle_captures": settings.oracle_captures,
        }
    )
    write_json(run.path / "results.json", results)
    brief = {k: v for k, v in results.items() if k not in ("per_raw", "space")}
    if brief["oracle"]:
        brief["oracle"] = {k: v for k, v in brief["oracle"].items() if k != "curve"}
    run.finish(brief)
    return run, results
