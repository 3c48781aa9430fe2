"""The best fixed parameters of a device, tuned on it on training RAWs, and the run that keeps a tuning's result.

A search judges every set on the same K training RAWs, spread over ISO and scenes. Such a subset can be over-fitted, so
the best sets are judged again on a larger one (up to 64 RAWs) within the same budget, and that score decides.

A ``tune`` run's ``results`` (``best.toml``, ``table.json`` or ``regression.json`` beside ``run.json``)::

    {"score": 20.1,                      # mean metric on the RAWs that ranked the finalists, training split
     "captures": 4000,                   # distinct captures looked at, asked now or found in the data set
     "captures_asked_now": 3900,         # of them made by the device in this call
     "device_s": 40.2,                   # seconds that the device spent on those captures, from the data set
     "compute_s": 12.5,                  # seconds of this call in which no capture was waited for
     "studies": ["fixed tpe viewing …"], "raws": [names of the trials' RAWs], "ranked_on": 64, "trials": 230,
     "history": [[captures, best so far], …], "training_scenes": [...], "seconds": 30.1, "file": "best.toml",
     "default_on_trial_raws": 15.2 | null,    # null where the defaults failed
     "failed": 12, "failed_share": 0.003, "failures_by_reason": {reason: count},    # of the captures looked at
     "failed_trials": 2,                  # sets of which a frame failed: they rank last, and cost their captures
     "raws_left_out": {name: reason},     # RAWs that failed with every start, or on which sets could not be ranked
     "notes": ["…"],                      # what of the rule comes to nothing, such as roles that are not there
     "faults": {device: {what: count}},   # what the device did wrong in this call and was mended
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

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from drivers.atomic_files import write_text
from drivers.device import Device
from drivers.parameters import ParameterSet
from workbench.collect.faults import faults_kept
from workbench.errors import RunError
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, list_runs, new_run, plain, removed_on_failure
from workbench.tasks.vision import VisionTask
from workbench.tune.balance import WhiteBalance, balanced, without_gains
from workbench.tune.industry import IndustryTable
from workbench.tune.industry_tuning import tune_industry
from workbench.tune.proxy_gradient import find_proxy, tune_through_proxy
from workbench.tune.regression import tune_regression
from workbench.tune.rules import RULES, rule_of
from workbench.tune.search import Progress, SearchResult
from workbench.tune.tuner import FINALISTS, PROXY_GRADIENT, Tuner, TuneSettings


def _finalists(tuner: Tuner, found: SearchResult) -> list[ParameterSet]:
    """The best sets, the centre of the search among them: noise flatters it less than the best trial."""
    sets = [found.trials[i][1] for i in tuner.order(found.values)[:FINALISTS]]
    if found.centre is not None and found.centre.hash not in {p.hash for p in sets}:
        sets = [*sets[: FINALISTS - 1], found.centre]
    return sets


def _pareto(tuner: Tuner, found: SearchResult) -> list[dict[str, Any]]:
    """The sets that no other one tried beats in all metrics, the best in the first metric first."""
    values = np.array(found.values)
    beaten = np.array([((values >= v).all(1) & (values > v).any(1)).any() for v in values])
    order = [i for i in np.lexsort(-values.T[::-1]) if not beaten[i]]
    return [
        {
            "values": tuner.native(found.values[i]),
            "parameters": found.trials[i][1].values,
            "parameters_hash": found.trials[i][1].hash,
        }
        for i in order
    ]


def tune_fixed(tuner: Tuner, white_balance: WhiteBalance | None = None) -> tuple[ParameterSet, dict[str, Any]]:
    """The best fixed set of a device and the run's results (their shape: this module's docstring).

    With ``white_balance`` that sets the gains of each RAW, and the rest is fixed.
    """
    s, space = tuner.settings, tuner.info.space
    free = [p.name for p in space.parameters if white_balance is None or p.role is None]
    ranked = tuner.rank_raws(tuner.raws, tuner.train, s.captures)
    trial = len(tuner.raws)
    budget = s.captures - FINALISTS * (len(ranked) - trial) - tuner.centre_captures
    budget = max(budget - budget % trial, 2 * trial)
    found = tuner.search(white_balance or "fixed", tuner.raws, tuner.starts, free, budget, white_balance=white_balance)
    tuner.history = list(found.history)
    finalists = _finalists(tuner, found)
    jobs = [[(raw, balanced(p, raw, white_balance)) for raw in ranked] for p in finalists]
    values = tuner.rank(tuner.studies[0], jobs)
    order = tuner.order(values)
    best, best_values = finalists[order[0]], values[order[0]]
    assert best_values is not None  # `rank` leaves RAWs out until one has a value
    firsts = tuner.first_values(values)
    value_of = {p.hash: v for v, p in found.trials}
    results = {
        "score": best_values[0],
        "score_on_trial_raws": value_of.get(best.hash),
        "default_on_trial_raws": value_of.get(tuner.starts[0].hash),
        "expert_on_trial_raws": value_of.get(tuner.expert.hash) if tuner.expert else None,
        "trials": len(found.trials),
        "ranked_on": len(ranked),
        "finalists": [{"score": firsts[i], "score_on_trial_raws": value_of.get(finalists[i].hash)} for i in order],
        "parameters": best.values,
        "parameters_hash": best.hash,
        "training_scenes": sorted({r.scene for r in ranked}),
        **tuner.summary(),
    }
    if s.more_metrics:
        results |= {
            "values": tuner.native(best_values),
            "pareto": _pareto(tuner, found),
            "tried": [list(tuner.native(v).values()) for v in found.values],
        }
    return best, results


def tune_run(
    lab: Path,
    dataset: Dataset,
    device: Device,
    settings: TuneSettings,
    *,
    rule: str = "fixed",
    industry: bool = False,
    expert: ParameterSet | None = None,
    task: VisionTask | None = None,
    proxy: str | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> RunFolder:
    """Tune and keep the result as a ``tune`` run; a finished run of the very same settings is given back as it is.

    ``rule`` is one of :data:`workbench.tune.rules.RULES`; ``industry`` is short for ``rule="industry"``. ``proxy`` is
    the fit-proxy run that the method ``proxy-gradient`` descends through, by default the newest of the device.

    Raises:
        RunError: no training RAW with a reference, settings that cannot be used, or the name is taken.
        DeviceError: the device failed; run again to go on.
    """
    rule = "industry" if industry else rule
    _check(rule, settings)
    tuner = Tuner(lab, dataset, device, settings, expert=expert, task=task, progress=progress)
    through = find_proxy(tuner, proxy) if settings.method == PROXY_GRADIENT else None
    one_set = rule in ("fixed", "as-shot") and through is None
    scenes = {
        r.scene for r in (tuner.rank_raws(tuner.raws, tuner.train, settings.captures) if one_set else tuner.train)
    }
    config = plain(
        {
            **asdict(settings),
            "rule": rule,
            "industry": rule == "industry",
            "device": device.url,
            "identity": tuner.info.identity,
            "expert": expert.hash if expert else None,
            "scenes": scenes,
            "raws": [r.hash for r in tuner.raws],
        }
    )
    if task is not None:
        config |= {"vision": task.to_record()}
    if through is not None:
        config |= {"proxy": through.name, "held_out_scenes": through.config.get("held_out_scenes") or []}
    for old in list_runs(lab, "tune"):
        # Runs of older versions say less; what they do not say was so.
        same = {"more_metrics": [], "rule": rule_of(old), **old.config} == config and name in (None, old.name)
        if same and (old.path / str(old.results.get("file"))).is_file():
            return old
    run = new_run(lab, "tune", name)
    with removed_on_failure(run):
        run.update(config=config, seed=settings.seed, dataset_digest=dataset.digest(), device=tuner.info)
        with faults_kept(dataset, device, "tune") as faults:
            notes = [*(task.notes if task else ()), *_notes(rule, tuner)]
            results = {**_tuned(run, rule, tuner, through), "notes": notes}
            results["faults"] = faults.counts()
        run.finish(results)
    return run


def _check(rule: str, settings: TuneSettings) -> None:
    if rule not in RULES:
        raise RunError(f"rule {rule!r} is not one of {', '.join(RULES)}")
    if settings.method == PROXY_GRADIENT and rule != "fixed":
        raise RunError(f"method {PROXY_GRADIENT} gives one fixed set; for rule {rule} choose another method")
    if settings.more_metrics and rule not in ("fixed", "as-shot"):
        raise RunError(f"rule {rule} is tuned for one metric; leave {', '.join(settings.more_metrics)} out")


def _notes(rule: str, tuner: Tuner) -> list[str]:
    """What of the rule comes to nothing with this device and these RAWs, one line each."""
    if rule not in ("as-shot", "industry", "industry-grey-world"):
        return []
    notes = [text] if (text := without_gains(tuner.info.space)) else []
    raws = tuner.train
    if rule != "industry-grey-world" and not notes and (unknown := sum(r.as_shot_wb is None for r in raws)):
        notes.append(f"{unknown} of {len(raws)} training RAWs tell no as-shot white balance: they keep the set's gains")
    if rule != "as-shot" and (unknown := sum(not r.iso for r in raws)):
        notes.append(f"{unknown} of {len(raws)} training RAWs tell no ISO: they take the middle of the table")
    return notes


def _tuned(run: RunFolder, rule: str, tuner: Tuner, proxy: RunFolder | None) -> dict[str, Any]:
    """Tune, write the file of the rule and give the results."""
    space, identity = tuner.info.space, tuner.info.identity
    if rule == "fixed":
        best, results = tune_fixed(tuner) if proxy is None else tune_through_proxy(tuner, proxy)
        title = f"Best fixed parameters of {identity}, {results['score']:.2f} on training RAWs ({run.name})"
        write_text(run.path / "best.toml", space.to_toml(best, title))
        return {**results, "file": "best.toml"}
    if rule == "regression":
        regression, results = tune_regression(tuner)
        regression.save(run.path / "regression.json")
        return {**results, "file": "regression.json"}
    if rule == "as-shot":
        best, results = tune_fixed(tuner, "as-shot")
        table = IndustryTable(space, (100.0,), (best,))
    else:
        table, results = tune_industry(tuner, "as-shot" if rule == "industry" else "grey-world")
    table.save(run.path / "table.json")
    return {**results, "file": "table.json"}
