"""One tuning on the device: its settings, the training RAWs that it judges by, its searches and what they cost."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drivers.device import Device
from drivers.parameter import GAINS
from drivers.parameters import ParameterSet
from drivers.splits import Split
from workbench.collect.failures import reason_text
from workbench.collect.taking import make_sure_taken
from workbench.console.progress import Progress as Part
from workbench.console.progress import each
from workbench.errors import RunError
from workbench.lab.dataset import Dataset, FailureRecord, RawRecord
from workbench.lab.stratified import stratified
from workbench.rules.balance import WhiteBalance, balanced
from workbench.rules.setting import Setting
from workbench.tasks.task import SetScorer, Task
from workbench.tasks.viewing import ViewingTask
from workbench.tune.material import (
    COSTS,
    UNITS,
    CostScorer,
    SeveralScorers,
)
from workbench.tune.methods import REFINING, SEVERAL_METRICS, MethodName, method_of
from workbench.tune.proposals import Values
from workbench.tune.results import MetricRecord
from workbench.tune.search import Job, Progress, SearchBench, SearchResult, as_values, captured, open_study, search
from workbench.tune.worst_rank import worst_ranks

FINALISTS = 5
RANK_RAWS = 64
_RANK_SHARE = 0.2


@dataclass(frozen=True)
class TuneSettings:
    """What shapes a tuning.

    Attributes:
        method: one of :class:`workbench.tune.methods.MethodName`.
        captures: budget.
        raws_per_trial: K.
        seed: of the RAWs chosen and of the search.
        metric: one of the task's ``search_metrics``.
        task: for the study's name, the task's key.
        more_metrics: further metrics of a search for several: those of the task, ``latency`` or ``bytes``.
    """

    method: str = MethodName.tpe
    captures: int = 4000
    raws_per_trial: int = 16
    seed: int = 0
    metric: str = "psnr"
    task: str = "viewing"
    more_metrics: tuple[str, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics, the most important first."""
        return (self.metric, *self.more_metrics)


class Tuner:
    """One tuning: the RAWs, the studies and the captures that it used."""

    def __init__(
        self,
        lab: Path,
        dataset: Dataset,
        device: Device,
        settings: TuneSettings,
        *,
        expert: ParameterSet | None = None,
        task: Task | None = None,
        setting: Setting | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.setting = setting
        self.method = method_of(settings.method)
        if settings.raws_per_trial < 1 or settings.captures < 2 * settings.raws_per_trial:
            raise RunError(
                f"{settings.captures} captures are too few for trials of {settings.raws_per_trial} RAWs; "
                f"give at least {2 * max(settings.raws_per_trial, 1)}"
            )
        if settings.more_metrics and not self.method.several_metrics:
            raise RunError(
                f"method {settings.method} searches for one metric, not for {', '.join(settings.metrics)}; "
                f"for several use {' or '.join(SEVERAL_METRICS)}"
            )
        if len(set(settings.metrics)) < len(settings.metrics):
            raise RunError(f"metrics {', '.join(settings.metrics)}: one is given twice")
        self.lab, self.dataset, self.device, self.settings = lab, dataset, device, settings
        self.info = device.info()
        self.progress = progress
        self.task: Task = task or ViewingTask()
        self.train = self.task.raws(dataset, Split.TRAIN)
        # A study's values are those of its detector's weights and annotations, wherever it is opened from.
        record = {key: value for key, value in (self.task.record() or {}).items() if key != "folder"}
        told = json.dumps(record, sort_keys=True, default=str).encode()
        self.judge = hashlib.sha256(told).hexdigest()[:8] if record else ""
        scorers = [
            CostScorer(m) if i and m in COSTS else self.task.scorer(m, self.train)
            for i, m in enumerate(settings.metrics)
        ]
        self.scorer: SetScorer = SeveralScorers(scorers) if len(scorers) > 1 else scorers[0]
        own = [m for m in self.task.metrics if m.key in settings.metrics]
        self._lower = {*COSTS, *(m.key for m in own if not m.higher_is_better)}
        self._units = {**UNITS, **{m.key: m.unit for m in own}}
        self.raws = stratified(self.train, settings.raws_per_trial, settings.seed)
        make_sure_taken(device, self.train)
        defaults = self.info.space.defaults
        self.starts = [defaults, *([expert] if expert is not None and expert.hash != defaults.hash else [])]
        self.expert = expert
        self.studies: list[str] = []
        self.keys: set[tuple[str, str]] = set()
        self.asked = 0
        self.waited_s = 0.0
        self.earlier_s = 0.0
        self.history: list[tuple[int, float]] = []
        self.failed_trials = 0
        self.left_out: dict[str, str] = {}
        self.begin = time.monotonic()

    @property
    def captures(self) -> int:
        """Distinct captures looked at so far."""
        return len(self.keys)

    @property
    def centre_captures(self) -> int:
        """What the centre of a search costs, which is judged only at the end, on the RAWs of the trials too."""
        return len(self.raws) if self.method.has_centre else 0

    def study_name(self, what: str, raws: Sequence[RawRecord]) -> str:
        """Name of a study: what is tuned, method, task, device, seed, and digests of its RAWs and of what judges."""
        digest = hashlib.sha256("".join(r.hash for r in raws).encode()).hexdigest()[:8]
        s = self.settings
        metrics = "+".join(s.metrics)
        digest += f" under {self.setting.hash[:8]}" if self.setting else ""
        digest += f" judged by {self.judge}" if self.judge else ""
        return f"{what} {s.method} {s.task} {metrics} {self.info.identity} seed {s.seed} on {len(raws)} RAWs {digest}"

    def given(
        self, parameters: ParameterSet, raw: RawRecord, white_balance: WhiteBalance | None = None
    ) -> ParameterSet:
        """The set as a RAW is captured with it: with the gains of the white balance, and what the setting sets."""
        parameters = balanced(parameters, raw, white_balance)
        return self.setting.of(parameters, raw) if self.setting else parameters

    def searched(self, white_balance: WhiteBalance | None = None) -> list[str]:
        """The parameters that are searched: neither the white balance nor the setting sets them."""
        told = (p for p in self.info.space.parameters if p.searched)
        names = [p.name for p in told if white_balance is None or p.role not in GAINS]
        return self.setting.left(names) if self.setting else names

    def rank_raws(self, raws: Sequence[RawRecord], pool: Sequence[RawRecord], budget: int) -> list[RawRecord]:
        """``raws`` and more of the pool, as many as a fifth of the budget allows for the finalists.

        They may be fewer, down to half of that, where the rest of the budget is then a whole number of trials.
        """
        most = max(min(RANK_RAWS - len(raws), int(_RANK_SHARE * budget) // FINALISTS, len(pool) - len(raws)), 0)
        rest = budget - self.centre_captures
        fitting = (m for m in range(most, most // 2 - 1, -1) if (rest - FINALISTS * m) % len(raws) == 0)
        more = next(fitting, most)
        return [*raws, *(stratified(pool, more, self.settings.seed + 1, taken=raws) if more else ())]

    def count(self, jobs: Sequence[Job]) -> None:
        """Count the captures of these jobs as looked at."""
        self.keys.update((raw.hash, p.hash) for raw, p in jobs)

    def bench(self, what: str) -> SearchBench:
        """A bench whose captures are marked as this tuning's; give it to :meth:`done_with` at the end."""
        # The frames of one set come together and fail together.
        return SearchBench(
            self.dataset, self.device, purpose=f"tune:{what}", patience=max(self.settings.raws_per_trial, 1)
        )

    def done_with(self, bench: SearchBench) -> None:
        """Add up what a bench was asked and waited for."""
        self.asked += bench.asked
        self.waited_s += bench.waited_s

    def usable(
        self,
        bench: SearchBench,
        raws: Sequence[RawRecord],
        starts: Sequence[ParameterSet],
        balance: WhiteBalance | None,
    ) -> list[RawRecord]:
        """The RAWs without those that fail with every start although others do not: no set can be judged on them.

        Their frames are counted, and they are named in :attr:`left_out` with the reason.
        """
        # RAW by RAW, so that a device that holds RAWs is sent the pixels of each once; below too.
        jobs = [(raw, self.given(p, raw, balance)) for raw in raws for p in starts]
        good: set[str] = set()
        reasons: dict[str, str] = {}
        for _, (raw, outcome) in zip(each("first sets", jobs, "capture"), captured(bench, jobs), strict=True):
            if isinstance(outcome, FailureRecord):
                reasons.setdefault(raw.hash, reason_text(outcome.code, outcome.reason))
            else:
                good.add(raw.hash)
        if not good:
            return list(raws)
        for raw in raws:
            if raw.hash not in good:
                self.left_out[raw.name] = reasons[raw.hash]
        self.count([(raw, p) for raw, p in jobs if raw.hash not in good])
        return [raw for raw in raws if raw.hash in good]

    def search(
        self,
        what: str,
        raws: Sequence[RawRecord],
        starts: Sequence[ParameterSet],
        free: Sequence[str],
        budget: int,
        *,
        white_balance: WhiteBalance | None,
        refine: bool = False,
        offset: int = 0,
    ) -> SearchResult:
        """One study over the given RAWs; ``white_balance`` says what sets the gains of each RAW, None: the search.

        ``refine`` searches near the starts, with CMA-ES (but at random where that is the method).
        """
        bench = self.bench(self.study_name(what, raws))
        try:
            chosen = self.usable(bench, raws, starts, white_balance)
            name = self.study_name(what, chosen)
            bench.purpose = f"tune:{name}"
            if left := len(raws) - len(chosen):
                # The starts' frames on them are spent; the rest is whole trials.
                budget -= left * len(starts)
                budget = max(budget - budget % len(chosen), len(chosen) * len(starts))
            self.studies.append(name)
            return self._searched(bench, name, chosen, starts, free, budget, white_balance, refine, offset)
        finally:
            self.done_with(bench)

    def _searched(
        self,
        bench: SearchBench,
        name: str,
        raws: Sequence[RawRecord],
        starts: Sequence[ParameterSet],
        free: Sequence[str],
        budget: int,
        white_balance: WhiteBalance | None,
        refine: bool,
        offset: int,
    ) -> SearchResult:
        study = open_study(
            self.lab,
            name,
            {
                "task": self.settings.task,
                "metric": ", ".join(f"-{m}" if m in self._lower else m for m in self.settings.metrics),
                "device": self.info.identity,
            },
            len(self.settings.metrics),
        )

        def jobs_for(p: ParameterSet) -> list[Job]:
            return [(raw, self.given(p, raw, white_balance)) for raw in raws]

        def progress(done: int, _: int, best: float) -> None:
            if self.progress:
                self.progress(offset + done, self.settings.captures, best)

        result = search(
            bench,
            self.scorer,
            study=study,
            method=self.settings.method if not refine or self.method.refines else REFINING,
            seed=self.settings.seed,
            starts=starts,
            free=free,
            jobs_for=jobs_for,
            budget=budget,
            sigma=0.05 if refine else 0.1,
            # Without an expert's set the search begins far from anything good.
            explore=not refine and self.expert is None,
            progress=progress,
        )
        self.earlier_s += result.earlier_s
        for p in [*(p for _, p in result.trials), *(p for p, _ in result.failed)]:
            self.count(jobs_for(p))
        self.failed_trials += len(result.failed)
        return result

    def judged(
        self, what: str, candidates: Sequence[Sequence[Job]], on_frame: Callable[[int], None] = lambda done: None
    ) -> tuple[list[list[Any]], dict[str, str]]:
        """What the scorer says of every frame of each candidate, None where it failed; of RAWs that failed, a reason.

        All candidates are of the same RAWs, in one order. ``on_frame`` is called with how many frames are judged.
        """
        bench = self.bench(what)
        reasons: dict[str, str] = {}
        scores: list[list[Any]] = [[] for _ in candidates]
        try:
            jobs = [job for of_raw in zip(*candidates, strict=True) for job in of_raw]
            with closing(captured(bench, jobs)) as stream:
                for done, (own, (raw, outcome)) in enumerate(zip(itertools.cycle(scores), stream, strict=False), 1):
                    if isinstance(outcome, FailureRecord):
                        reasons.setdefault(raw.name, reason_text(outcome.code, outcome.reason))
                        own.append(None)
                    else:
                        own.append(self.scorer(raw, outcome))
                    on_frame(done)
        finally:
            self.done_with(bench)
        return scores, reasons

    def rank(self, what: str, candidates: Sequence[Sequence[Job]]) -> list[Values | None]:
        """Score of each candidate, given as its jobs on the same RAWs, in each metric.

        A RAW on which every candidate fails is left out. A candidate of which another frame fails has no score and
        ranks last; where that is so of all, they are compared on the RAWs on which none fails.

        Raises:
            RunError: on every RAW a candidate fails.
        """
        jobs = sum(len(candidate) for candidate in candidates)
        self.count([job for candidate in candidates for job in candidate])
        with Part("rank the best", jobs, unit="capture", late=True) as progress:
            scores, reasons = self.judged(what, candidates, progress.update)
        places = range(len(candidates[0]))
        used = [i for i in places if any(own[i] is not None for own in scores)]
        if not any(all(own[i] is not None for i in used) for own in scores):
            used = [i for i in used if all(own[i] is not None for own in scores)]
        if not used:
            reason = next(iter(reasons.values()))
            raise RunError(f"no RAW is left to compare the best sets on: on each one of them failed: {reason}")
        for i in set(places) - set(used):
            raw = candidates[0][i][0]
            self.left_out[raw.name] = reasons[raw.name]
        return [
            as_values(self.scorer.combine([own[i] for i in used])) if all(own[i] is not None for i in used) else None
            for own in scores
        ]

    def first_values(self, values: Sequence[Values | None]) -> list[float | None]:
        """The values in the first metric; None where there is none."""
        return [v[0] if v is not None else None for v in values]

    def best_of(self, values: Sequence[Values | None]) -> int:
        """Place of the best value in the first metric, the first of equal ones."""
        return max(range(len(values)), key=lambda i: -math.inf if (v := values[i]) is None else v[0])

    def order(self, values: Sequence[Values | None]) -> list[int]:
        """Places of the values, best first: by the first metric, or by the worst rank over all where that is searched.

        Those without a value come last.

        NSGA-II's best set is the best in the first metric; the others are in the Pareto front.
        """
        several = self.method.by_worst_rank and len(self.settings.metrics) > 1
        worst = as_values(self.scorer.worst)
        there = [worst if v is None else v for v in values]
        by = worst_ranks(np.array(there)) if several else np.array([-v[0] for v in there])
        return [int(i) for i in np.argsort(by, kind="stable")]

    def native(self, values: Values) -> dict[str, float | None]:
        """Values in the metrics' own units, by metric; what is to be low without its minus."""
        return {m: -v if m in self._lower else v for m, v in zip(self.settings.metrics, values, strict=True)}

    def metric_records(self) -> tuple[MetricRecord, ...]:
        """What is searched for, the most important first."""
        return tuple(
            MetricRecord(name=m, unit=self._units.get(m, ""), better="lower" if m in self._lower else "higher")
            for m in self.settings.metrics
        )
