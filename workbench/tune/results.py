"""What ``tune`` runs record of their results, as ``results`` of their ``run.json``, and of their settings.

``config``: the fields of :class:`workbench.tune.tuner.TuneSettings` and ``{"rule": one of workbench.rules.tuned.Rule,
"industry": whether it is that rule, "device": URL, "identity", "expert": hash | null, "scenes": [training scenes],
"raws": [hashes]}``; through a proxy also ``proxy`` and ``held_out_scenes``, of a vision task ``vision``, under a
:class:`workbench.rules.setting.Setting` ``setting``.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypedDict

from pydantic import Field

from drivers.parameters import Native
from workbench.errors import RunError
from workbench.lab.results import Model
from workbench.lab.run_results import RunResult
from workbench.lab.runs import RunFolder
from workbench.rules.setting import Setting
from workbench.rules.tuned import RULES, Rule, rule_of


class MetricRecord(Model):
    """A metric that was searched for: its name, its unit (empty: none) and which values are better."""

    name: str
    unit: str = ""
    better: Literal["higher", "lower"] = "higher"


class Trial(Model):
    """One of the best sets: its score on the RAWs that ranked them, and on the trials' RAWs; None: a frame failed."""

    score: float | None
    score_on_trial_raws: float | None = None


class ParetoPoint(Model):
    """A set that no other one tried beats in all metrics.

    Attributes:
        values: on the trials' RAWs, by metric, in its own unit.
        parameters: native values by name; ``parameters_hash``: the set's.
    """

    values: dict[str, float | None]
    parameters: dict[str, Native]
    parameters_hash: str


class Spent(TypedDict):
    """What a tuning cost and was done with: fields of :class:`TuneResult`."""

    captures: int
    captures_asked_now: int
    device_s: float
    seconds: float
    compute_s: float
    failed: int
    failed_share: float
    failures_by_reason: dict[str, int]
    failed_trials: int
    raws_left_out: dict[str, str]
    studies: tuple[str, ...]
    raws: tuple[str, ...]
    history: tuple[tuple[int, float], ...]
    metrics: tuple[MetricRecord, ...]


class SpentOnRule(Spent):
    """The same of a rule that a search for one set begins."""

    default_on_trial_raws: float | None
    trials: int
    ranked_on: int
    training_scenes: tuple[str, ...]


class TuneResult(RunResult):
    """The results of a ``tune`` run; runs of earlier versions tell less, and what they do not tell is None or empty.

    Attributes:
        score: mean of the (first) metric on the RAWs that ranked the finalists, training split.
        captures: distinct captures looked at, asked now or found in the data set.
        captures_asked_now: of them made by the device in this call.
        device_s: seconds that the device spent on those captures, from the data set.
        compute_s: seconds of this call in which no capture was waited for, and of those that it went on from.
        seconds: of this call.
        studies: their names in ``studies.sqlite``; raws: names of the trials' RAWs.
        ranked_on: how many RAWs ranked the finalists; trials: how many sets were tried.
        history: captures and best score so far.
        training_scenes: scenes that the tuning saw.
        file: ``best.toml``, ``table.json`` or ``regression.json`` beside ``run.json``.
        file_sha256: hash of the latter two; None of a set, which has its own.
        default_on_trial_raws: score of the device's defaults; None where they failed.
        failed, failed_share, failures_by_reason: captures that failed, of those looked at.
        failed_trials: sets of which a frame failed: they rank last, and cost their captures.
        raws_left_out: RAWs that failed with every start, or on which sets could not be ranked, with the reason.
        notes: what of the rule comes to nothing, such as roles that are not there, one line each.
        faults: what the device did wrong in this call and was mended, by unit.
        metrics: what was searched for, the most important first.
        setting: who sets the parameters that were not searched; None: all were.
    """

    WHAT: ClassVar[str] = "results of a tune run"

    score: float | None
    file: str
    captures: int | None = None
    captures_asked_now: int | None = None
    device_s: float | None = None
    compute_s: float | None = None
    seconds: float | None = None
    studies: tuple[str, ...] = ()
    raws: tuple[str, ...] = ()
    ranked_on: int | None = None
    trials: int | None = None
    history: tuple[tuple[int, float | None], ...] = ()
    training_scenes: tuple[str, ...] = ()
    default_on_trial_raws: float | None = None
    failed: int = 0
    failed_share: float = 0.0
    failures_by_reason: dict[str, int] = Field(default_factory=dict)
    failed_trials: int | None = None
    raws_left_out: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    faults: dict[str, dict[str, int]] = Field(default_factory=dict)
    metrics: tuple[MetricRecord, ...] = ()
    setting: Setting | None = None
    file_sha256: str | None = None


class FixedResult(TuneResult):
    """Of the rules ``fixed`` and ``as-shot``.

    Attributes:
        score_on_trial_raws: of the chosen set; None where it was not among the trials.
        expert_on_trial_raws: score of the expert's set; None where there is none, or it failed.
        finalists: the best sets, best first.
        parameters: the chosen set's native values by name; ``parameters_hash``: its hash.
        values: with several metrics what the chosen set has on the RAWs that ranked it, by metric.
        pareto: with several metrics the sets that no other one beats, the best in the first metric first.
        tried: with several metrics the values of all sets tried, a list each in the order of ``metrics``.
    """

    score_on_trial_raws: float | None = None
    expert_on_trial_raws: float | None = None
    finalists: tuple[Trial, ...] = ()
    parameters: dict[str, Native] = Field(default_factory=dict)
    parameters_hash: str | None = None
    values: dict[str, float | None] | None = None
    pareto: tuple[ParetoPoint, ...] | None = None
    tried: tuple[tuple[float | None, ...], ...] | None = None


class ProxyGradientResult(FixedResult):
    """Of a descent through a proxy; ``captures``, ``device_s`` and ``compute_s`` hold the collection and the fit too.

    Attributes:
        proxy: the ``fit-proxy`` run.
        held: parameters that the descent left alone.
        ranking_captures: captures that ranked what the descents found.
    """

    proxy: str
    held: tuple[str, ...] = ()
    ranking_captures: int | None = None


class TableResult(TuneResult):
    """Of the rules ``industry`` and ``industry-grey-world``.

    Attributes:
        single_set_score, table_score: of one set at all knots and of the refined table; None: a frame failed.
        kept: the better of both.
        knots_iso: the table's knots.
    """

    single_set_score: float | None = None
    table_score: float | None = None
    kept: str = ""
    knots_iso: tuple[float, ...] = ()


class RegressionResult(TuneResult):
    """Of the rule ``regression``.

    Attributes:
        single_set_score, regression_score: of one set for all RAWs and of the regression; None: a frame failed.
        kept: the better of both.
        images: names of the RAWs that were searched on their own; captures_an_image: with how many captures.
        optima_score: mean of the optima on their own RAWs.
        penalty: of the ridge.
    """

    single_set_score: float | None = None
    regression_score: float | None = None
    kept: str = ""
    images: tuple[str, ...] = ()
    captures_an_image: int | None = None
    optima_score: float | None = None
    penalty: float | None = None


class AutoResult(TuneResult):
    """Of the rule ``auto``.

    Attributes:
        single_set_score, rule_score: of one set for all RAWs and of the rule; None: a frame failed.
        kept: the better of both.
        figures: of a RAW that the rule follows; parameters: how many follow them.
        generations: of the search of offsets and slopes.
    """

    single_set_score: float | None = None
    rule_score: float | None = None
    kept: str = ""
    figures: tuple[str, ...] = ()
    parameters: int | None = None
    generations: int | None = None


_OF_RULE: dict[Rule, type[TuneResult]] = {
    Rule.fixed: FixedResult,
    Rule.as_shot: FixedResult,
    Rule.industry: TableResult,
    Rule.industry_grey_world: TableResult,
    Rule.regression: RegressionResult,
    Rule.auto: AutoResult,
}


def tune_result(run: RunFolder) -> TuneResult:
    """The results of a ``tune`` run of this version or an earlier one, of the class that its rule has.

    Raises:
        RunError: the rule is unknown, or they are no such results.
    """
    rule = rule_of(run)
    if rule not in RULES:
        raise RunError(f"{run.path / 'run.json'}: rule {rule!r} is not one of {', '.join(RULES)}")
    return (ProxyGradientResult if "proxy" in run.results else _OF_RULE[Rule(rule)]).of(run)
