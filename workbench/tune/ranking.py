"""The RAWs that rank what a tuning found: as many as its budget of captures still allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drivers.parameters import ParameterSet
from workbench.console.progress import each
from workbench.lab.dataset import RawRecord
from workbench.lab.stratified import stratified
from workbench.tune.tuner import Tuner


def filled(
    tuner: Tuner, rules: Sequence[Callable[[RawRecord], ParameterSet]], ranked: Sequence[RawRecord]
) -> tuple[list[RawRecord], int]:
    """The RAWs to rank rules on, and the captures left of the budget after that.

    They are ``ranked`` and as many more as the budget allows.
    """
    chosen, have = list(ranked), {r.hash for r in ranked}
    keys = set(tuner.keys)
    others = stratified(tuner.train, len(tuner.train), tuner.settings.seed)
    for raw in each("RAWs to rank on", [*ranked, *others]):
        wider = keys | {(raw.hash, tuner.given(rule(raw), raw).hash) for rule in rules}
        if raw.hash not in have:
            if len(wider) > tuner.settings.captures:
                break
            have.add(raw.hash)
            chosen.append(raw)
        keys = wider
    return chosen, tuner.settings.captures - len(keys)
