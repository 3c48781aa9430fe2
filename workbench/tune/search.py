"""One search on the device: propose, capture, score, record in the study, until the budget of captures is spent."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from sqlalchemy.exc import SQLAlchemyError

from drivers.device import Device
from drivers.foreign_text import shown
from drivers.parameters import ParameterSet
from workbench.collect.bench import Bench
from workbench.collect.failures import SEARCH_SHARE, FailureTally, reason_text
from workbench.collect.keeping import Outcome
from workbench.console import interrupt
from workbench.errors import RunError
from workbench.lab.dataset import Dataset, FailureRecord, RawRecord
from workbench.lab.dataset.storage import studies_of
from workbench.tasks.judging import is_figure
from workbench.tasks.task import SetScorer
from workbench.tune.methods import new_proposer
from workbench.tune.proposals import Values, failed_trial, finished_trial

Job = tuple[RawRecord, ParameterSet]
Progress = Callable[[int, int, float], None]
_IDLE_BATCHES = 50


@dataclass(frozen=True)
class FailedTrial:
    """Why a trial came to nothing: the reason of the first frame that failed, in one line."""

    reason: str


@dataclass
class SearchResult:
    """What a search found.

    Attributes:
        trials: value and set of every distinct set tried, in order; with several metrics the value in the first.
        values: the values in all metrics, a trial each.
        failed: sets of which a frame failed, with the reason; they are not among ``trials``, but have cost captures.
        captures: distinct captures that it looked at, whether the device made them now or the data set had them.
        history: captures spent and best value so far, after each trial.
        centre: where the search had its centre at the end, not tried itself; None where it has none.
        earlier_s: computing seconds of earlier calls that this one went on from.
    """

    trials: list[tuple[float, ParameterSet]] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)
    failed: list[tuple[ParameterSet, str]] = field(default_factory=list)
    captures: int = 0
    history: list[tuple[int, float]] = field(default_factory=list)
    centre: ParameterSet | None = None
    earlier_s: float = 0.0

    def best(self, count: int = 1) -> list[tuple[float, ParameterSet]]:
        """The best trials, best first."""
        return sorted(self.trials, key=lambda t: -t[0])[:count]


class SearchBench(Bench):
    """A bench that knows how long it was waited for.

    Attributes:
        waited_s: seconds in which captures were waited for; the rest of a search is its own computing.
    """

    waited_s = 0.0

    def __init__(self, dataset: Dataset, device: Device, *, purpose: str, patience: int = 1) -> None:
        """See :class:`workbench.collect.bench.Bench`; sets that fail rank last in a search, so that many may."""
        super().__init__(dataset, device, purpose=purpose)
        self.tally = FailureTally(patience, SEARCH_SHARE)

    def capture_many(self, jobs: Iterable[Job], *, in_order: bool = True) -> Iterator[Outcome]:
        """See :meth:`workbench.collect.bench.Bench.capture_many`."""
        stream = super().capture_many(jobs, in_order=in_order)
        while True:
            begin = time.monotonic()
            try:
                record = next(stream, None)
            finally:
                self.waited_s += time.monotonic() - begin
            if record is None:
                return
            yield record


def mean_scores(
    bench: Bench,
    scorer: SetScorer,
    sets: Sequence[ParameterSet],
    jobs_for: Callable[[ParameterSet], list[Job]],
    first: int = 0,
    on_frame: Callable[[int], None] = lambda done: None,
) -> Generator[Values | FailedTrial]:
    """Mean score in each metric of each set over its jobs, given as soon as its captures are there.

    A set of which one frame fails has no score. All sets are one stream of captures, so that the device is kept busy.
    Sets are numbered from ``first``, and those of odd number take their RAWs backwards: a device that holds the RAWs
    asked for last still has the first of them, and would have none where all are more than it has room for.
    ``on_frame`` is called with how many frames of a set are scored.
    """
    ways = [-1 if number % 2 else 1 for number in range(first, first + len(sets))]
    groups = [jobs_for(s)[::way] for s, way in zip(sets, ways, strict=True)]
    with closing(captured(bench, [job for group in groups for job in group])) as stream:
        for group, way in zip(groups, ways, strict=True):
            scores, reason = [], ""
            for done, (raw, outcome) in enumerate(itertools.islice(stream, len(group)), 1):
                if isinstance(outcome, FailureRecord):
                    reason = reason or f"RAW {shown(raw.name)}: {reason_text(outcome.code, outcome.reason)}"
                elif not reason:
                    scores.append(scorer(raw, outcome))
                on_frame(done)
            # In the RAWs' own order, so that a sum is the same to the bit.
            yield FailedTrial(reason) if reason else as_values(scorer.combine(scores[::way]))
        next(stream, None)  # to its end


def as_values(score: float | Values) -> Values:
    """What a scorer gives, of one metric or of several, as values.

    Raises:
        RunError: one is no finite number, which no search can rank.
    """
    values = score if isinstance(score, tuple) else (score,)
    if odd := [value for value in values if not is_figure(value)]:
        raise RunError(f"the task's scorer gives {odd[0]!r:.40} for a set; it must be a finite number to be ranked")
    return values


def captured(bench: Bench, jobs: Sequence[Job]) -> Generator[tuple[RawRecord, Outcome]]:
    """Each job's RAW with its capture or failure, in order; to be taken to the end, or closed: then the device is free.

    Each is a safe point for Ctrl-C.
    """
    for (raw, _), outcome in zip(jobs, bench.capture_many(jobs), strict=True):
        yield raw, outcome
        interrupt.check()


def open_study(lab: Path, name: str, attributes: dict[str, str], metrics: int = 1) -> optuna.Study:
    """The Optuna study of that name of a lab folder, made if need be; ``optuna-dashboard`` opens it.

    It is kept where :func:`~workbench.lab.dataset.storage.studies_of` says. All its values are to be made large: what
    costs is recorded with a minus.

    Raises:
        RunError: the file, or the server's schema, is no study storage of this Optuna version.
        DatasetError: the server cannot be reached.
    """
    lab.mkdir(parents=True, exist_ok=True)
    place = str(lab)
    try:
        with studies_of(lab) as (place, url, engine), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rdb = optuna.storages.RDBStorage(url, engine_kwargs=engine)
            study = optuna.create_study(
                storage=rdb, study_name=name, directions=["maximize"] * metrics, load_if_exists=True
            )
    except RuntimeError as error:
        raise RunError(f"{place}: cannot be used as Optuna's studies: {str(error).splitlines()[0]}") from error
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        if "not a database" in _reason(error):
            raise RunError(
                f"{place}: is no study file ({_reason(error)}); move it away and run the same command again: "
                "every capture is kept"
            ) from error
        raise RunError(
            f"{place}: cannot be opened: {_reason(error)}; check that its folder is writable, "
            "the disk not full and no other program writes to it"
        ) from error
    with _recording(study):
        for key, value in attributes.items():
            if study.user_attrs.get(key) != value:
                study.set_user_attr(key, value)
    return study


@contextlib.contextmanager
def _recording(study: optuna.Study) -> Iterator[None]:
    """Turn studies that cannot be read or written into one RunError; the captures are in the data set already."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        raise RunError(
            f"study {study.study_name!r}: cannot be read or written: {_reason(error)}; check that studies.sqlite is "
            "writable and the disk not full, or that PostgreSQL runs, and run the same command again: every capture is "
            "kept"
        ) from error


def _reason(error: Exception) -> str:
    """What the database said; Optuna's own words are no guide."""
    return str(error.__cause__ or error).splitlines()[0]


def search(
    bench: SearchBench,
    scorer: SetScorer,
    *,
    study: optuna.Study,
    method: str,
    seed: int,
    starts: Sequence[ParameterSet],
    free: Sequence[str],
    jobs_for: Callable[[ParameterSet], list[Job]],
    budget: int,
    sigma: float = 0.1,
    explore: bool = False,
    progress: Progress | None = None,
) -> SearchResult:
    """Search for the set with the highest mean score until ``budget`` captures are spent.

    The captures of one set are counted once, however often it comes up, and count also where the data set had them
    already: the budget is what the search knew of the device. Trials that the study holds are not evaluated again.

    A set of which a frame fails is a failed trial (Optuna's state FAIL, with the reason): it costs its captures, and
    the method is told the scorer's ``worst`` value, below any that a metric can have, so that it ranks last.

    Args:
        bench: makes the captures (its purpose should name the study).
        scorer: the metric, or several.
        study: where finished trials are recorded, in native values of the parameters.
        method: see :func:`workbench.tune.methods.new_proposer`; as are ``seed``, ``free``, ``sigma``, ``explore``.
        starts: sets to try first.
        jobs_for: the captures that a set is judged on.
        budget: captures; the last trial may go a little over it. Only a space that runs out of sets ends under it.
        progress: called with captures spent, budget and best value, NaN before there is one.

    Raises:
        RunError: there is nothing to search, the method is unknown, or every set tried failed.
        DeviceError: the device failed, or too many frames did; run again to go on.
    """
    complete, failed = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL
    with _recording(study):
        trials = study.get_trials(deepcopy=False, states=[complete, failed])
    ours = [t for t in trials if "parameters_hash" in t.user_attrs]
    known = {t.user_attrs["parameters_hash"]: tuple(t.values) for t in ours if t.state == complete}
    # A failed trial is made again from the data set, which may have its frames by now; else it is not recorded twice.
    failed_before = {t.user_attrs["parameters_hash"] for t in ours if t.state == failed}
    worst = as_values(scorer.worst)
    cost = max(len(jobs_for(starts[0])), 1)
    begin = time.monotonic() - bench.waited_s
    proposer = new_proposer(
        method,
        starts[0],
        free,
        seed,
        sigma=sigma,
        trials=max(budget // cost, 1),
        explore=explore,
        metrics=len(study.directions),
    )
    result = SearchResult(earlier_s=sum(t.user_attrs.get("compute_s", 0.0) for t in trials))
    seen: dict[str, Values] = {}
    batch, idle, last = list(starts), 0, False

    def on_frame(done: int) -> None:
        if progress and done < cost:  # the last one's trial is told below, with its score
            progress(result.captures + done, budget, result.history[-1][1] if result.history else math.nan)

    while True:
        new = list({p.hash: p for p in batch if p.hash not in seen}.values())
        asked = [p for p in new if p.hash not in known]
        with closing(mean_scores(bench, scorer, asked, jobs_for, len(seen), on_frame)) as stream:
            for p in new:
                found: Values | FailedTrial
                if p.hash in known:
                    found = known[p.hash]
                else:
                    found = next(stream)
                    now = time.monotonic() - bench.waited_s
                    attributes = {"parameters_hash": p.hash, "captures": cost, "captured": time.time()}
                    attributes["compute_s"], begin = now - begin, now
                    with _recording(study):
                        if not isinstance(found, FailedTrial):
                            study.add_trial(finished_trial(p, free, found, attributes))
                        elif p.hash not in failed_before:
                            study.add_trial(failed_trial(p, free, found.reason, attributes))
                result.captures += cost
                if isinstance(found, FailedTrial):
                    seen[p.hash] = worst
                    result.failed.append((p, found.reason))
                else:
                    seen[p.hash], value = found, found[0]
                    result.trials.append((value, p))
                    result.values.append(found)
                    best = max(value, result.history[-1][1] if result.history else value)
                    result.history.append((result.captures, best))
                if progress and result.history:
                    progress(result.captures, budget, result.history[-1][1])
            next(stream, None)  # to its end
        idle = 0 if new else idle + 1
        if last or result.captures >= budget or idle > _IDLE_BATCHES:
            if not result.trials:
                p, reason = result.failed[-1]
                raise RunError(f"all {len(result.failed)} parameter sets tried failed: {reason}")
            result.centre = proposer.centre
            return result
        proposer.tell(batch, [seen[p.hash] for p in batch])
        batch = proposer.ask()
        room = -(-(budget - result.captures) // cost)
        unseen = [p for p in batch if p.hash not in seen]
        if len(unseen) > room:
            batch, last = unseen[:room], True
