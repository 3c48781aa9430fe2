"""The per-image oracle: the best parameters found for each test RAW by a search on the device that sees its reference.

It bounds what any predictor can reach, so a weak search would flatter the predictor: all that other methods chose for
that RAW is tried, several of these are searched from, and what the last quarter of the budget still gained is told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from drivers.parameters import ParameterSet
from workbench.collect.bench import Bench
from workbench.lab.dataset import FailureRecord, RawRecord
from workbench.tasks.task import SetScorer
from workbench.tune.proposals import CmaEsProposer
from workbench.tune.search import as_values, captured

SIGMA = 0.04
# Searches of one RAW side by side: from the first start and from the best of the others.
STARTS = 3


@dataclass
class OracleResult:
    """What the search found for one RAW.

    Attributes:
        parameters, value: the best set and its score.
        curve: best score after each capture of the search.
        tried: hash of each set tried, in order.
        failed: no set of its search gave a picture; ``value`` says nothing then.
        start: which search found the best set: 0 that from the first start, 1 that from the best of the others, …
    """

    parameters: ParameterSet
    value: float
    curve: list[float] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    start: int = 0
    failed: bool = False

    @property
    def captures(self) -> int:
        """Distinct sets tried."""
        return len(self.curve)

    @property
    def last_quarter_gain(self) -> float:
        """What the last quarter of the budget gained, in the metric's unit."""
        if not self.curve:
            return 0.0
        return self.curve[-1] - self.curve[max(len(self.curve) * 3 // 4 - 1, 0)]


class _Search:
    """One RAW: CMA-ES from several starts in turn, after half of the budget only where the best set was found."""

    def __init__(
        self,
        raw: RawRecord,
        starts: Sequence[ParameterSet],
        free: Sequence[str] | None,
        budget: int,
        seed: int,
        sigma: float,
    ) -> None:
        digest = hashlib.sha256(f"{seed} {raw.hash}".encode()).digest()
        self.raw, self.budget, self._free = raw, budget, free
        self._seed, self._sigma = int.from_bytes(digest[:4], "big") >> 1, sigma
        self._own = starts[0]
        self._proposers: list[CmaEsProposer] = []
        self._turn = 0
        self.batch: list[ParameterSet] = list(starts)
        self.seen: dict[str, float] = {}
        self.result = OracleResult(starts[0], -np.inf)
        self.idle, self.done = 0, False

    def new(self) -> list[ParameterSet]:
        room = max(self.budget - len(self.seen), 0)
        new = list({p.hash: p for p in self.batch if p.hash not in self.seen}.values())
        self.done = len(new) >= room
        return new[:room] if self.seen else new

    def tell(self, new: Sequence[ParameterSet], values: Sequence[float], worst: float) -> None:
        """The values of the new sets; ``worst`` is that of a set that failed."""
        for p, value in zip(new, values, strict=True):
            self.seen[p.hash] = value
            if value > self.result.value:
                self.result.parameters, self.result.value = p, value
                self.result.start = self._turn
            self.result.curve.append(self.result.value)
            self.result.tried.append(p.hash)
        self.result.failed = self.result.value <= worst
        self.idle = 0 if new else self.idle + 1
        self.done = self.done or self.idle > 20
        if self.done:
            return
        if not self._proposers:
            self._begin()
        else:
            self._proposers[self._turn].tell(self.batch, [(self.seen[p.hash],) for p in self.batch])
            late = 2 * len(self.seen) >= self.budget
            self._turn = self.result.start if late else (self._turn + 1) % len(self._proposers)
        self.batch = self._proposers[self._turn].ask()

    def _begin(self) -> None:
        ranked = sorted(self.batch, key=lambda p: -self.seen[p.hash])
        others = [p for p in ranked if p.hash != self._own.hash]
        starts = [self._own, *others[: STARTS - 1]]
        best = max(range(len(starts)), key=lambda i: self.seen[starts[i].hash])
        self._turn = self.result.start = best
        for i, start in enumerate(starts):
            proposer = CmaEsProposer(start, self._free or start.space.names, self._seed + i, self._sigma)
            proposer.tell([start], [(self.seen[start.hash],)])
            self._proposers.append(proposer)


def search_oracle(
    bench: Bench,
    scorer: SetScorer,
    starts: Sequence[tuple[RawRecord, Sequence[ParameterSet]]],
    *,
    free: Sequence[str] | None = None,
    budget: int = 200,
    seed: int = 0,
    sigma: float = SIGMA,
    progress: Callable[[int, int, float], None] | None = None,
) -> list[OracleResult]:
    """Search the best set for each RAW with CMA-ES from its first start and from the best of the others.

    The searches of a RAW take turns; after half of the budget only the one that found the best set goes on.

    The populations of all RAWs are one stream of captures, so that the device is kept busy. Deterministic by seed;
    after a stop the same call reads what it had from the data set and goes on. A set whose frame fails ranks last.

    Args:
        bench: makes the captures.
        scorer: the metric (it sees the references).
        starts: for each RAW the sets to try first, at least one; the first one (the predictor's own answer) is
            searched from even where others are better.
        free: names of the parameters to search; None: all.
        budget: captures a RAW, the starts included; all starts are tried even where they are more.
        seed: of all searches.
        sigma: CMA-ES's first step in normalised units.
        progress: called with captures done, captures in all, and the mean best score of the last round.

    Returns:
        One result a RAW, in order.
    """
    worst = float(as_values(scorer.worst)[0])
    searches = [_Search(raw, sets, free, budget, seed, sigma) for raw, sets in starts]
    total = sum(max(budget, len(s.batch)) for s in searches)
    done, best = 0, float("nan")
    while active := [s for s in searches if not s.done]:
        batches = [(s, s.new()) for s in active]
        values = []
        for raw, outcome in captured(bench, [(s.raw, p) for s, new in batches for p in new]):
            values.append(worst if isinstance(outcome, FailureRecord) else float(scorer(raw, outcome)))
            done += 1
            if progress:
                progress(done, total, best)
        scores = iter(values)
        for s, new in batches:
            s.tell(new, [next(scores) for _ in new], worst)
        best = float(np.mean([s.result.value for s in searches if not s.result.failed] or [np.nan]))
    return [s.result for s in searches]
