"""The best fixed parameters of a device, tuned on it on training RAWs, and the run that keeps a tuning's result.

A search judges every set on the same K training RAWs, spread over ISO and scenes. Such a subset can be over-fitted, so
the best sets are judged again on a larger one (up to 64 RAWs) within the same budget, and that score decides.
"""

from __future__ import annotations

import hashlib
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
from workbench.learn.held import held_in_words
from workbench.rules.balance import WhiteBalance, without_gains
from workbench.rules.industry import TABLE, IndustryTable
from workbench.rules.resolving import resolve
from workbench.rules.setting import Setting
from workbench.rules.tuned import BEST, RULES, Rule, rule_of
from workbench.tasks.task import Task
from workbench.tune.auto_tuning import tune_auto
from workbench.tune.industry_tuning import tune_industry
from workbench.tune.methods import MethodName, method_of
from workbench.tune.proxy_gradient import find_proxy, tune_through_proxy
from workbench.tune.regression import tune_regression
from workbench.tune.results import FixedResult, ParetoPoint, ProxyGradientResult, Trial, TuneResult
from workbench.tune.search import Progress, SearchResult
from workbench.tune.spending import spent
from workbench.tune.tuner import FINALISTS, Tuner, TuneSettings


def _finalists(tuner: Tuner, found: SearchResult) -> list[ParameterSet]:
    """The best sets, the centre of the search among them: noise flatters it less than the best trial."""
    sets = [found.trials[i][1] for i in tuner.order(found.values)[:FINALISTS]]
    if found.centre is not None and found.centre.hash not in {p.hash for p in sets}:
        sets = [*sets[: FINALISTS - 1], found.centre]
    return sets


def _pareto(tuner: Tuner, found: SearchResult) -> tuple[ParetoPoint, ...]:
    """The sets that no other one tried beats in all metrics, the best in the first metric first."""
    values = np.array(found.values)
    beaten = np.array([((values >= v).all(1) & (values > v).any(1)).any() for v in values])
    order = [i for i in np.lexsort(-values.T[::-1]) if not beaten[i]]
    return tuple(
        ParetoPoint(
            values=tuner.native(found.values[i]),
            parameters=found.trials[i][1].values,
            parameters_hash=found.trials[i][1].hash,
        )
        for i in order
    )


def tune_fixed(tuner: Tuner, white_balance: WhiteBalance | None = None) -> tuple[ParameterSet, FixedResult]:
    """The best fixed set of a device and the run's results.

    With ``white_balance`` that sets the gains of each RAW, and the rest is fixed.
    """
    s, free = tuner.settings, tuner.searched(white_balance)
    ranked = tuner.rank_raws(tuner.raws, tuner.train, s.captures)
    trial = len(tuner.raws)
    budget = s.captures - FINALISTS * (len(ranked) - trial) - tuner.centre_captures
    budget = max(budget - budget % trial, 2 * trial)
    found = tuner.search(white_balance or "fixed", tuner.raws, tuner.starts, free, budget, white_balance=white_balance)
    tuner.history = list(found.history)
    finalists = _finalists(tuner, found)
    jobs = [[(raw, tuner.given(p, raw, white_balance)) for raw in ranked] for p in finalists]
    values = tuner.rank(tuner.studies[0], jobs)
    order = tuner.order(values)
    best, best_values = finalists[order[0]], values[order[0]]
    assert best_values is not None  # `rank` leaves RAWs out until one has a value
    firsts = tuner.first_values(values)
    value_of = {p.hash: v for v, p in found.trials}
    result = FixedResult(
        score=best_values[0],
        file=BEST if white_balance is None else TABLE,
        score_on_trial_raws=value_of.get(best.hash),
        default_on_trial_raws=value_of.get(tuner.starts[0].hash),
        expert_on_trial_raws=value_of.get(tuner.expert.hash) if tuner.expert else None,
        trials=len(found.trials),
        ranked_on=len(ranked),
        finalists=tuple(Trial(score=firsts[i], score_on_trial_raws=value_of.get(finalists[i].hash)) for i in order),
        parameters=best.values,
        parameters_hash=best.hash,
        training_scenes=tuple(sorted({r.scene for r in ranked})),
        **spent(tuner),
    )
    if not s.more_metrics:
        return best, result
    several = {
        "values": tuner.native(best_values),
        "pareto": _pareto(tuner, found),
        "tried": tuple(tuple(tuner.native(v).values()) for v in found.values),
    }
    return best, result.model_copy(update=several)


def tune_run(
    lab: Path,
    dataset: Dataset,
    device: Device,
    settings: TuneSettings,
    *,
    rule: str = "fixed",
    industry: bool = False,
    expert: ParameterSet | None = None,
    task: Task | None = None,
    proxy: str | None = None,
    setting: str | Path | Setting | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> RunFolder:
    """Tune and keep the result as a ``tune`` run; a finished run of the very same settings is given back as it is.

    ``rule`` is one of :data:`workbench.rules.tuned.RULES`; ``industry`` is short for ``rule="industry"``. ``proxy`` is
    the fit-proxy run that the method ``proxy-gradient`` descends through, by default the newest of the device.
    ``setting`` says what is not searched, see :func:`workbench.rules.resolving.resolve`.

    Raises:
        RunError: no training RAW with a reference, settings that cannot be used, or the name is taken.
        DeviceError: the device failed; run again to go on.
    """
    kind = _checked(Rule.industry if industry else rule, settings)
    if setting is not None and method_of(settings.method).needs_proxy:
        raise RunError(f"method {settings.method} descends with one set for all RAWs; with --setting choose another")
    under, of_setting = resolve(setting, device.info().space, dataset)
    tuner = Tuner(lab, dataset, device, settings, expert=expert, task=task, setting=under, progress=progress)
    through = find_proxy(tuner, proxy) if tuner.method.needs_proxy else None
    one_set = kind.one_set and through is None
    scenes = {
        r.scene for r in (tuner.rank_raws(tuner.raws, tuner.train, settings.captures) if one_set else tuner.train)
    }
    config = plain(
        {
            **asdict(settings),
            "rule": kind,
            "industry": kind is Rule.industry,
            "device": device.url,
            "identity": tuner.info.identity,
            "expert": expert.hash if expert else None,
            "scenes": scenes,
            "raws": [r.hash for r in tuner.raws],
        }
    )
    if expert is not None:
        # Where a rule sets gains, no capture has the expert's set as it is.
        config |= {"expert_codes": expert.by_name}
    if under is not None:
        config |= {"setting": under.to_json()}
    if (record := tuner.task.record()) is not None:
        config |= {"vision": record}
    if through is not None:
        config |= {"proxy": through.name, "held_out_scenes": through.config.get("held_out_scenes") or []}
    for old in list_runs(lab, "tune"):
        # Runs of older versions say less; what they do not say was so.
        said = {"more_metrics": [], "rule": rule_of(old), **old.config}
        if expert is not None:
            said.setdefault("expert_codes", expert.by_name)
        same = said == config and name in (None, old.name)
        if same and (old.path / str(old.results.get("file"))).is_file():
            return old
    run = new_run(lab, "tune", name)
    with removed_on_failure(run):
        run.update(config=config, seed=settings.seed, dataset_digest=dataset.digest(), device=tuner.info)
        with faults_kept(dataset, device, "tune") as faults:
            notes = (*tuner.task.notes, *of_setting, *_notes(kind, tuner))
            result = _tuned(run, kind, tuner, through)
        if isinstance(result, ProxyGradientResult) and result.held:
            notes += (held_in_words(tuner.info.space, result.held),)
        if result.file != BEST:  # a set has its own hash, and its file names the run
            written = hashlib.sha256((run.path / result.file).read_bytes()).hexdigest()
            result = result.model_copy(update={"file_sha256": written})
        more: dict[str, Any] = {"setting": under} if under is not None else {}
        more |= {"notes": notes, "faults": faults.counts()}
        run.finish(result.model_copy(update=more).to_json())
    return run


def _checked(rule: str, settings: TuneSettings) -> Rule:
    """The rule, seen to go with the settings."""
    if rule not in RULES:
        raise RunError(f"rule {rule!r} is not one of {', '.join(RULES)}")
    kind = Rule(rule)
    if kind is not Rule.fixed and method_of(settings.method).needs_proxy:
        raise RunError(f"method {settings.method} gives one fixed set; for rule {kind} choose another method")
    if kind is Rule.auto and settings.method != MethodName.cmaes:
        raise RunError(f"rule auto has a search of its own (CMA-ES): leave --method {settings.method} out")
    if settings.more_metrics and not kind.one_set:
        raise RunError(f"rule {kind} is tuned for one metric; leave {', '.join(settings.more_metrics)} out")
    return kind


def _notes(rule: Rule, tuner: Tuner) -> list[str]:
    """What of the rule comes to nothing with this device and these RAWs, one line each."""
    if rule.white_balance is None:
        return []
    notes = [text] if (text := without_gains(tuner.info.space)) else []
    raws = tuner.train
    if rule.white_balance == "as-shot" and not notes and (unknown := sum(r.as_shot_wb is None for r in raws)):
        notes.append(f"{unknown} of {len(raws)} training RAWs tell no as-shot white balance: they keep the set's gains")
    without_iso = {Rule.auto: "count as of the mean ISO"}.get(rule, "take the middle of the table")
    if (rule.over_iso or rule is Rule.auto) and (unknown := sum(not r.iso for r in raws)):
        notes.append(f"{unknown} of {len(raws)} training RAWs tell no ISO: they {without_iso}")
    return notes


def _tuned(run: RunFolder, rule: Rule, tuner: Tuner, proxy: RunFolder | None) -> TuneResult:
    """Tune, write the file of the rule and give the results."""
    space, identity = tuner.info.space, tuner.info.identity
    result: TuneResult
    if rule.over_iso:
        assert rule.white_balance is not None  # a table over ISO always has one
        table, result = tune_industry(tuner, rule.white_balance)
        table.save(run.path / result.file)
    elif rule is Rule.regression:
        regression, result = tune_regression(tuner)
        regression.save(run.path / result.file)
    elif rule is Rule.auto:
        regression, result = tune_auto(tuner)
        regression.save(run.path / result.file)
    elif rule is Rule.as_shot:
        best, result = tune_fixed(tuner, rule.white_balance)
        IndustryTable(space, (100.0,), (best,)).save(run.path / result.file)
    else:
        best, result = tune_fixed(tuner) if proxy is None else tune_through_proxy(tuner, proxy)
        title = f"Best fixed parameters of {identity}, {result.score:.2f} on training RAWs ({run.name})"
        write_text(run.path / result.file, space.to_toml(best, title))
    return result
