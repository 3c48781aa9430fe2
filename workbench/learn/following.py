"""How far a predictor is followed away from its rule: a factor for each block, chosen on the device.

``p = start + factor · δ`` for the parameters of a block. The candidates are tried on RAWs of the validation split, from
nothing followed and from everything followed, block by block (coordinate descent), and judged by the task's first
metric that single images have, or by those that the training's loss aims at or a refinement was to gain in, each
counted by its spread. A choice on few RAWs is noisy, so the rule has the benefit of the doubt: a larger factor takes
the place of a smaller one only where the mean gain, over scenes, is above one standard error; and so has the whole
choice to gain over the rule, or nothing is followed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drivers.parameters import ParameterSet, ParameterSpace
from predictor.moves import moved
from workbench.collect.bench import Bench
from workbench.console import interrupt
from workbench.errors import RunError
from workbench.lab.dataset import FailureRecord, RawRecord
from workbench.lab.stratified import stratified
from workbench.learn.results import FollowedBlock, FollowResult
from workbench.tasks.judging import judgement_of
from workbench.tasks.task import Metric, Task, of_raws

CANDIDATES = (0.0, 0.5, 1.0)
PURPOSE = "train:follow"
_LEAST_RAWS = 2
_SWEEPS = 3

Factors = tuple[float, ...]
"""One a block."""


@dataclass(frozen=True)
class Start:
    """A RAW with what the rule gives for it, and how far the network moves it, ``float64 [N]``."""

    raw: RawRecord
    rule: ParameterSet
    move: np.ndarray


@dataclass(frozen=True)
class Yardstick:
    """What a choice is judged by.

    Attributes:
        metrics: that single images have; ``spreads``: one each, by which their figures are divided before the mean;
            empty where they are yet to be measured, as the standard deviation over what the rule gives.
    """

    metrics: tuple[Metric, ...]
    spreads: tuple[float, ...] = ()

    @classmethod
    def of(cls, task: Task) -> Yardstick:
        """What the task's training loss aims at, or its first metric that single images have."""
        aims: tuple[str, ...] = getattr(task, "aims", ())
        metrics = tuple(m for m in task.metrics if m.key in aims) or (of_raws(task.metrics),)
        return cls(metrics, (1.0,) if len(metrics) == 1 else ())

    def measured(self, figures: Sequence[Mapping[str, float]]) -> Yardstick:
        """This one; where it has no spreads, with those of these figures. What does not vary counts as it is."""
        if self.spreads:
            return self
        spreads = (float(np.std([f[m.key] for f in figures])) for m in self.metrics)
        return Yardstick(self.metrics, tuple(spread if 0 < spread < math.inf else 1.0 for spread in spreads))

    def __call__(self, figures: Mapping[str, float]) -> float:
        """One figure of an output's metrics, larger is better."""
        each = (m.sign * figures[m.key] / spread for m, spread in zip(self.metrics, self.spreads, strict=True))
        return sum(each) / len(self.metrics)

    @property
    def name(self) -> str:
        """The metrics' keys."""
        return " and ".join(m.key for m in self.metrics)

    @property
    def unit(self) -> str:
        """The metric's, or ``spreads`` of several."""
        return self.metrics[0].unit if len(self.metrics) == 1 else "spreads"

    @property
    def sign(self) -> int:
        """What turns :meth:`__call__` into the metric's own direction."""
        return self.metrics[0].sign if len(self.metrics) == 1 else 1


def raws_to_choose_on(
    raws: Sequence[RawRecord], space: ParameterSpace, held: Collection[str], captures: int
) -> list[RawRecord]:
    """As many RAWs, spread over scenes and ISO, as a descent from both ends takes with that many captures.

    Args:
        raws: of the validation split.
        space: the device's parameters; ``held``: those that training holds.
        captures: that may be looked at.

    Raises:
        RunError: the captures or the RAWs are too few.
    """
    blocks = sum(any(name not in held for name in names) for names in space.blocks.values())
    sets = 2 + 2 * (len(CANDIDATES) - 1) * blocks
    if captures < _LEAST_RAWS * sets:
        raise RunError(
            f"{captures} captures are too few to choose how far to follow in {blocks} blocks; give "
            f"--follow-captures {_LEAST_RAWS * sets} or more"
        )
    chosen = stratified(raws, captures // sets, 0)
    if len({raw.scene for raw in chosen}) < _LEAST_RAWS:
        raise RunError(
            "the validation split has RAWs of one scene, too few to choose on how far to follow; name more validation "
            "scenes, or train without --device"
        )
    return chosen


def choose_factors(
    bench: Bench,
    task: Task,
    starts: Sequence[Start],
    captures: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    yardstick: Yardstick | None = None,
) -> tuple[dict[str, float], FollowResult]:
    """Choose the factors by block.

    Args:
        bench: makes the captures.
        task: judges.
        starts: RAWs of :func:`raws_to_choose_on`.
        captures: at most as many distinct captures are looked at.
        progress: called with the captures looked at, and how many may be.
        yardstick: by what is chosen; by default :meth:`Yardstick.of` the task.

    Raises:
        RunError: on every RAW the rule's own frame fails.
        DeviceError: the device failed; captures made are kept.
    """
    space = starts[0].rule.space
    search = _Search(bench, task, starts, captures, progress, yardstick or Yardstick.of(task))
    nothing, everything = (tuple(f for _ in search.blocks) for f in (0.0, 1.0))
    of_rule = search.scores(nothing)
    if of_rule is None or np.isnan(of_rule).all():
        raise RunError("the device took what the rule gives for none of the RAWs; nothing can be chosen on them")
    ends = [nothing, everything]
    for _ in range(_SWEEPS):
        swept = [search.sweep(end) for end in ends]
        if swept == ends:
            break
        ends = swept
    # Of equally good ones the one from nothing.
    best = max(ends, key=lambda end: search.gain(end, nothing)[0])
    if not search.shown(best, nothing):
        best = nothing
    gain, error = search.gain(best, nothing)
    follow = dict.fromkeys(space.blocks, 0.0) | dict(zip(search.blocks, best, strict=True))
    return follow, FollowResult(
        metric=search.yardstick.name,
        unit=search.yardstick.unit,
        split="validation",
        raws=int((~np.isnan(of_rule)).sum()),
        scenes=len(set(search.scenes)),
        captures=len(search.keys),
        budget=captures,
        device_s=search.device_s(),
        rule=search.mean(nothing),
        everything=search.mean(everything),
        chosen=search.mean(best),
        gain=gain,
        standard_error=error,
        blocks=tuple(search.told(block, best) for block in space.blocks),
    )


class _Search:
    """What was scored so far.

    Attributes:
        blocks: those that the network moves in any RAW; the others have nothing to follow.
        keys: of the captures looked at; scenes: of the RAWs.
        yardstick: by what is chosen.
    """

    def __init__(
        self,
        bench: Bench,
        task: Task,
        starts: Sequence[Start],
        budget: int,
        progress: Callable[[int, int], None],
        yardstick: Yardstick,
    ) -> None:
        self._bench, self._task, self._starts, self._budget, self._progress = bench, task, starts, budget, progress
        self.yardstick = yardstick
        self.scenes = [start.raw.scene for start in starts]
        self.keys: set[tuple[str, str]] = set()
        self._known: dict[Factors, np.ndarray] = {}
        self._judged: dict[tuple[str, str], Mapping[str, float] | None] = {}
        parameters = starts[0].rule.space.parameters
        fully = [moved(start.rule, start.move) for start in starts]
        self.blocks = [
            block
            for block in starts[0].rule.space.blocks
            if any(
                a != b
                for start, there in zip(starts, fully, strict=True)
                for p, a, b in zip(parameters, start.rule.codes, there.codes, strict=True)
                if p.block == block
            )
        ]
        places = {block: i for i, block in enumerate(self.blocks)}
        self._places = [places.get(p.block) for p in parameters]

    def scores(self, factors: Factors) -> np.ndarray | None:
        """The metric of each RAW, larger is better, NaN where its frame failed; None where the budget is spent."""
        if factors in self._known:
            return self._known[factors]
        each = np.array([0.0 if place is None else factors[place] for place in self._places])
        jobs = [(start.raw, moved(start.rule, each * start.move)) for start in self._starts]
        new = {(raw.hash, p.hash) for raw, p in jobs} - self.keys
        if len(self.keys) + len(new) > self._budget:
            return None
        self.keys |= new
        for (raw, p), outcome in zip(jobs, self._bench.capture_many(jobs), strict=True):
            key = (raw.hash, p.hash)
            if isinstance(outcome, FailureRecord):
                self._judged[key] = None
            elif key not in self._judged:
                self._judged[key] = judgement_of(self._task, raw, outcome.rgb().pixels).figures
            self._progress(len(self._judged), self._budget)
            interrupt.check()
        judged = [self._judged[raw.hash, p.hash] for raw, p in jobs]
        if made := [figures for figures in judged if figures is not None]:
            self.yardstick = self.yardstick.measured(made)
        found = np.array([math.nan if figures is None else self.yardstick(figures) for figures in judged])
        self._known[factors] = found
        return found

    def sweep(self, factors: Factors) -> Factors:
        """Each block's factor anew, one block after another; as it was where the budget is spent."""
        for i in range(len(factors)):
            tried = [(*factors[:i], candidate, *factors[i + 1 :]) for candidate in CANDIDATES]
            if any(self.scores(one) is None for one in tried):
                return factors
            factors = tried[0]
            for larger in tried[1:]:
                if self.shown(larger, factors):
                    factors = larger
        return factors

    def shown(self, factors: Factors, over: Factors) -> bool:
        """Whether the mean gain is above one standard error."""
        gain, error = self.gain(factors, over)
        return gain > error

    def gain(self, factors: Factors, over: Factors) -> tuple[float, float]:
        """Mean gain over scenes and its standard error; minus infinity where a frame failed that did not with ``over``.

        RAWs whose frame the device does not take with the rule's own set are left out.
        """
        nothing = self._known[(0.0,) * len(factors)]
        ours, others = self.scores(factors), self.scores(over)
        if ours is None or others is None:
            return -math.inf, 0.0
        gains: dict[str, list[float]] = {}
        for scene, one, other, rule in zip(self.scenes, ours, others, nothing, strict=True):
            if not math.isnan(rule):
                gains.setdefault(scene, []).append(one - other)
        means = np.array([np.mean(own) for own in gains.values()])
        if np.isnan(means).any():
            return -math.inf, 0.0
        error = float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.inf
        return float(means.mean()), error

    def mean(self, factors: Factors) -> float | None:
        """The metric, in its own direction, over the RAWs; None where a frame failed or nothing was measured."""
        found, nothing = self._known.get(factors), self._known[(0.0,) * len(factors)]
        if found is None or np.isnan(used := found[~np.isnan(nothing)]).any():
            return None
        return float(self.yardstick.sign * used.mean())

    def told(self, block: str, best: Factors) -> FollowedBlock:
        """What came of a block: with the others as chosen, what its factor gains over 0."""
        if block not in self.blocks:
            return FollowedBlock(block=block, factor=0.0)
        i = self.blocks.index(block)
        without = (*best[:i], 0.0, *best[i + 1 :])
        if best[i] == 0 or without not in self._known:
            return FollowedBlock(block=block, factor=best[i])
        gain, error = self.gain(best, without)
        return FollowedBlock(block=block, factor=best[i], gain=gain, standard_error=error)

    def device_s(self) -> float:
        """Seconds that the device spent on the captures looked at, as the data set has them."""
        found = self._bench.dataset.find(self._bench.info.identity, sorted(self.keys))
        return float(sum(capture.device_s for capture in found.values()))
