"""What a tuning cost and was judged on, as its run records it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from workbench.collect.failures import FailureTally
from workbench.lab.dataset import FailureRecord
from workbench.tune.results import Spent, SpentOnRule
from workbench.tune.search import SearchResult
from workbench.tune.tuner import Tuner


def spent(tuner: Tuner) -> Spent:
    """What a run records of how the tuning was done."""
    seconds, keys, identity = time.monotonic() - tuner.begin, sorted(tuner.keys), tuner.info.identity
    tally, device_s = FailureTally(), 0.0
    for outcome in tuner.dataset.outcomes(identity, keys).values():
        if isinstance(outcome, FailureRecord):
            tally.add(outcome.code, outcome.reason)
        else:
            tally.made()
            device_s += outcome.device_s
    return Spent(
        captures=tuner.captures,
        captures_asked_now=tuner.asked,
        device_s=device_s,
        seconds=seconds,
        compute_s=max(seconds - tuner.waited_s, 0.0) + tuner.earlier_s,
        failed=tally.failed,
        failed_share=tally.share,
        failures_by_reason=tally.by_reason,
        failed_trials=tuner.failed_trials,
        raws_left_out=tuner.left_out,
        studies=tuple(dict.fromkeys(tuner.studies)),
        raws=tuple(r.name for r in tuner.raws),
        history=tuple(tuner.history),
        metrics=tuner.metric_records(),
    )


def spent_on_rule(tuner: Tuner, first: SearchResult, ranked: Sequence[Any]) -> SpentOnRule:
    """The same of a rule whose first search was for one set, and which was ranked against it on those RAWs."""
    return SpentOnRule(
        **spent(tuner),
        default_on_trial_raws=next((v for v, p in first.trials if p.hash == tuner.starts[0].hash), None),
        trials=len(first.trials),
        ranked_on=len(ranked),
        training_scenes=tuple(sorted({raw.scene for raw in tuner.train})),
    )
