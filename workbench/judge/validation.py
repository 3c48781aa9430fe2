"""Validation on the device: every method's parameters pushed for each test RAW, captured, read back and scored.

The device decides: all figures are of its own output on RAWs never seen in training or tuning. Differences are paired
by RAW and their 95 % intervals are bootstrapped by scene (:mod:`workbench.judge.statistics`).

A ``validate`` run writes ``results.json`` (``workbench validate --json`` prints the same object)::

    {"format": 1,
     "device": {"identity", "model", "firmware", "serial", "boot_id", "space", "space_hash"},
     "space": {…},                       # ParameterSpace.to_dict()
     "raws": 66, "scenes": 22, "seed": 0,
     "raws_left_out": 0,                 # RAWs on which a method that stands in the table failed
     "left_out": [{"method": KEY | null, "raws": [name], "reason"}],     # see workbench.judge.pairing
     "faults": {device: {what: count}},  # what the device did wrong now and was mended
     "collection_captures": 4000,        # captures of purpose "collect…" of this device in the data set
     "methods": [METHOD, …],             # in the table's order
     "headline": {                       # null where there is no predictor
        "predictor": "predicted:RUN",    # the key of the method that it is about
        "gain_over_fixed": COMPARISON | null,        # dB, PSNR
        "gain_over_industry": COMPARISON | null,     # dB, PSNR
        "gain_over_expert": COMPARISON | null,
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
                "psnr": 19.1, "ssim": 0.6, "psnr_interval": INTERVAL, "psnr_gain_over_fixed": COMPARISON | null,
                "captures": 4000 | null,  # device captures spent to get there (search, or collection for a predictor)
                "fewer_captures_than_collection": false,  # by more than 1 % and the search's rounding
                "metadata": true | false | null,
                "device_s": 40.2 | null,  # seconds that the device spent on those captures
                "compute_s": 70.1 | null, # seconds of searching, or from start to end of fitting and training
                "failed": 0,              # frames of the test RAWs that the device failed with it
                "rule": "fixed" | null, "search": "cmaes" | null}  # of tuned methods, see workbench.tune.fixed
    INTERVAL = {"estimate": 1.5, "low": 1.0 | null, "high": 2.0 | null, "clusters": 22, "samples": 66}
    COMPARISON = INTERVAL and {"verdict": "better" | "worse" | "not shown", "p_value": 0.01 | null, "worse_share": 0.1,
                "fifth_percentile": -0.4, "reason"}; the verdict speaks only where Wilcoxon's test over the scenes
                agrees (workbench.judge.statistics)

Keys of methods: ``default``, ``expert``, ``fixed``, ``industry``, ``tune:RUN`` (further tune runs), ``mean:RUN`` (mean
of that predictor's predictions), ``predicted:RUN``, ``declining:RUN`` (the same, but the best fixed set for RAWs beyond
its limit, see :mod:`predictor.distance`; its captures are those of both) and ``oracle``. ``run.json`` of the run holds
the same object without ``per_raw``, ``space`` and the curve as its results.

"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drivers.device import Device, DeviceInfo
from drivers.parameters import ParameterSet
from drivers.splits import Split
from proxy.files import load_proxy
from workbench.collect.bench import Bench
from workbench.collect.faults import faults_kept
from workbench.errors import RunError
from workbench.judge.compared_methods import (
    Method,
    ValidationSettings,
    check_space,
    collection_captures,
    compared,
    gather,
    headline_method,
    kept_methods,
    smaller_budget,
)
from workbench.judge.pairing import Pairing, pair
from workbench.judge.statistics import Interval, compare, mean_interval, ratio_interval
from workbench.lab.dataset import CaptureRecord, Dataset, FailureRecord, RawRecord
from workbench.lab.runs import (
    RunFolder,
    describe_device,
    find_run,
    new_run,
    recorded_run,
    removed_on_failure,
    write_json,
)
from workbench.tasks import viewing
from workbench.tune.balance import with_as_shot
from workbench.tune.material import Scorer, referenced_raws, stratified
from workbench.tune.oracle import OracleResult, search_oracle
from workbench.tune.search import SearchBench, captured

Progress = Callable[[str, int, int], None]


def _interval(values: Sequence[float] | np.ndarray, scenes: Sequence[str], seed: int) -> Interval:
    return mean_interval(values, scenes, seed=seed)


@dataclass(frozen=True)
class _Scores:
    """PSNR and SSIM ``[methods][raws]`` with the captures that they are of."""

    psnr: dict[str, list[float]]
    ssim: dict[str, list[float]]
    captures: dict[str, list[CaptureRecord]]

    def __or__(self, other: _Scores) -> _Scores:
        return _Scores(self.psnr | other.psnr, self.ssim | other.ssim, self.captures | other.captures)


def _measure(
    bench: Bench, scorer: Scorer, raws: Sequence[RawRecord], methods: Sequence[Method], progress: Any
) -> tuple[_Scores, Pairing]:
    """The scores of the methods and RAWs that are compared, and which those are."""
    jobs = [(raw, p) for m in methods for raw, p in zip(raws, m.sets, strict=True)]
    got: dict[tuple[str, int], tuple[CaptureRecord, dict[str, float]]] = {}
    failures: dict[str, dict[int, FailureRecord]] = {}
    known: dict[tuple[str, str], dict[str, float]] = {}
    for number, (raw, outcome) in enumerate(captured(bench, jobs)):
        method, place = methods[number // len(raws)].key, number % len(raws)
        if isinstance(outcome, FailureRecord):
            failures.setdefault(method, {})[place] = outcome
        else:
            key = (raw.hash, outcome.output_hash)
            if key not in known:
                known[key] = viewing.score(outcome.rgb().pixels, scorer.reference(raw))
            got[method, place] = outcome, known[key]
        if progress:
            progress("captures", number + 1, len(jobs))
    pairing = pair(raws, {m.key: m.label for m in methods}, failures)
    of_each = {key: [got[key, i] for i in pairing.places] for key in pairing.methods}
    scores = _Scores(
        {key: [s["psnr"] for _, s in own] for key, own in of_each.items()},
        {key: [s["ssim"] for _, s in own] for key, own in of_each.items()},
        {key: [c for c, _ in own] for key, own in of_each.items()},
    )
    return scores, pairing


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
    about = headline_method(methods)
    if about is None:
        return None
    psnr = {k: np.array(v) for k, v in scores.psnr.items()}

    def gain(over: str) -> dict[str, Any] | None:
        return compare(psnr[about.key] - psnr[over], scenes, seed=seed).to_dict() if over in psnr else None

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
    by_key, rows = {m.key: m for m in methods}, []
    for method in methods:
        if not method.key.startswith("declining:"):
            continue
        predicted = by_key.get(f"predicted:{method.run}")
        if predicted is None or "fixed" not in by_key:  # left out, for the device failed with it
            continue
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
        check_space(run, load_proxy(run.path).space, info)
        return run
    return None


def _proxy_gap(
    run: RunFolder | None,
    settings: ValidationSettings,
    raws: Sequence[RawRecord],
    method: Method,
    scores: _Scores,
    scorer: Scorer,
) -> dict[str, Any] | None:
    if run is None:
        return None
    proxy = load_proxy(run.path)
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
    raws = referenced_raws(dataset, Split.TEST)
    if 0 < settings.test_raws < len(raws):
        raws = stratified(raws, settings.test_raws, settings.seed)
    scenes = [r.scene for r in raws]
    methods, notes = gather(lab, dataset, info, raws, settings)
    about = headline_method(methods)
    proxy = _proxy_run(lab, settings, info, about.run) if about is not None and about.run else None
    collected = collection_captures(dataset, info.identity)
    scorer = Scorer("psnr")
    # What a method may fail of is decided when all have been measured.
    bench = Bench(dataset, device, purpose="validate", patience=len(raws))
    asked_raws = len(raws)
    scores, pairing = _measure(bench, scorer, raws, methods, progress)
    notes += pairing.notes
    raws = [raws[i] for i in pairing.places]
    scenes = [r.scene for r in raws]
    methods = kept_methods(methods, pairing)
    if (kept := headline_method(methods)) is not None and kept.run and about is not None and kept.key != about.key:
        proxy = _proxy_run(lab, settings, info, kept.run)
    oracle: list[OracleResult] = []
    if settings.oracle_captures:
        search_bench = SearchBench(dataset, device, purpose="oracle", patience=len(raws))
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
        # The search began at sets of which every frame is there, so its best ones are there too.
        measured, _ = _measure(search_bench, scorer, raws, [best], None)
        scores |= measured
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
                "psnr_gain_over_fixed": compare(
                    psnr - np.array(scores.psnr["fixed"]), scenes, seed=settings.seed
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
                "failed": pairing.failed.get(m.key, 0),
            }
        )
    by_key = {m.key: m for m in methods}
    return {
        "format": 1,
        "device": describe_device(info),
        "space": info.space.to_dict(),
        "raws": len(raws),
        "raws_left_out": asked_raws - len(raws),
        "left_out": pairing.left_out,
        "scenes": len(set(scenes)),
        "seed": settings.seed,
        "collection_captures": collected,
        "methods": rows,
        "headline": head,
        "oracle": {
            "captures_per_raw": max(r.captures for r in oracle),
            "last_quarter_gain": float(np.mean([r.last_quarter_gain for r in oracle])),
            "found_from_first_start": float(np.mean([r.start == 0 for r in oracle])),
            "curve": _mean_curve(oracle),
        }
        if oracle
        else None,
        "proxy": _proxy_gap(proxy, settings, raws, by_key[head["predictor"]], scores, scorer) if head else None,
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
    with removed_on_failure(run):
        run.update(seed=settings.seed, dataset_digest=dataset.digest(), device=device.info())
        with faults_kept(dataset, device, "validate") as faults:
            results = validate(lab, dataset, device, settings, progress=progress)
            results["faults"] = faults.counts()
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
