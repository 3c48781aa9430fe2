"""The one loop that measures: every method's parameters on the device for each RAW, judged by the task.

Methods are compared on the same RAWs: what failed is left out for all, or with its method
(:mod:`workbench.judge.pairing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from workbench.collect.bench import Bench
from workbench.judge.methods import Method, MethodKind, kept_methods
from workbench.judge.pairing import Pairing, pair
from workbench.judge.statistics import (
    Comparison,
    Interval,
    compare,
    compare_draws,
    interval_of_draws,
    mean_interval,
    scene_draws,
)
from workbench.lab.dataset import CaptureRecord, FailureRecord, RawRecord
from workbench.tasks.judging import judgement_of
from workbench.tasks.task import Judgement, Metric, Task
from workbench.tune.search import captured


class Progress(Protocol):
    """Told what is measured, how much of it is done, how much there is, and what is counted."""

    def __call__(self, phase: str, done: int, total: int, unit: str = "capture", /) -> None:
        """Called now and then."""


@dataclass
class Measured:
    """What was measured.

    Attributes:
        task: what judged.
        raws: the RAWs that are compared; ``methods``: the methods that are, with their sets for these RAWs.
        judgements: of each method's outputs, by key, in the RAWs' order; ``captures``: those outputs.
        pairing: what was left out.
        seed: of the bootstrap.
    """

    task: Task
    raws: list[RawRecord]
    methods: list[Method]
    judgements: dict[str, list[Judgement]]
    captures: dict[str, list[CaptureRecord]]
    pairing: Pairing
    seed: int = 0
    _sets: dict[str, dict[str, tuple[float, np.ndarray]]] = field(default_factory=dict, repr=False)

    @property
    def scenes(self) -> list[str]:
        """Of the RAWs."""
        return [raw.scene for raw in self.raws]

    def values(self, key: str, metric: Metric) -> np.ndarray:
        """A metric that single RAWs have, of a method: ``float64 [R]``."""
        return np.array([j.figures[metric.key] for j in self.judgements[key]])

    def mean(self, key: str, metric: Metric) -> float:
        """A metric of a method over all RAWs."""
        return float(self.values(key, metric).mean()) if metric.per_raw else self.of_set(key)[metric.key][0]

    def interval(self, key: str, metric: Metric) -> Interval:
        """A metric of a method with its interval, bootstrapped by scene."""
        if metric.per_raw:
            return mean_interval(self.values(key, metric), self.scenes, seed=self.seed)
        return interval_of_draws(*self.of_set(key)[metric.key], self.scenes)

    def gain(self, key: str, over: str, metric: Metric) -> Comparison:
        """What a method gains over another in a metric; above 0 is better."""
        if metric.per_raw:
            gains = metric.sign * (self.values(key, metric) - self.values(over, metric))
            return compare(gains, self.scenes, seed=self.seed)
        (at, draws), (at_over, draws_over) = (self.of_set(k)[metric.key] for k in (key, over))
        return compare_draws(metric.sign * (at - at_over), metric.sign * (draws - draws_over), self.scenes)

    def of_set(self, key: str) -> dict[str, tuple[float, np.ndarray]]:
        """Of the metrics of sets: the figure of the RAWs as they are, and of each draw of scenes."""
        if key not in self._sets:
            draws = scene_draws(self.scenes, seed=self.seed)
            counts = np.concatenate([np.ones((1, len(self.raws))), draws])
            found = self.task.of_sets(self.raws, self.judgements[key], counts)
            self._sets[key] = {name: (float(v[0]), v[1:]) for name, v in found.items()}
        return self._sets[key]

    def count_sets(self, progress: Progress | None = None) -> None:
        """Count what only sets of RAWs have, as mAP, for every method: of thousands of RAWs it takes its time."""
        if all(metric.per_raw for metric in self.task.metrics):
            return
        for done, key in enumerate(self.judgements, 1):
            self.of_set(key)
            if progress:
                progress("intervals", done, len(self.judgements), "method")

    def of_places(self, places: Sequence[int]) -> Measured:
        """The same of some of the RAWs."""
        return Measured(
            self.task,
            [self.raws[i] for i in places],
            [replace(m, sets=tuple(m.sets[i] for i in places)) if m.sets else m for m in self.methods],
            {key: [found[i] for i in places] for key, found in self.judgements.items()},
            {key: [made[i] for i in places] for key, made in self.captures.items()},
            self.pairing,
            self.seed,
        )

    def judged(self) -> dict[tuple[str, str], Judgement]:
        """The judgement of each output, by the hashes of its RAW and of itself."""
        return {
            (raw.hash, capture.output_hash): judgement
            for key, captures in self.captures.items()
            for raw, capture, judgement in zip(self.raws, captures, self.judgements[key], strict=True)
        }

    def add(self, other: Measured) -> None:
        """Take up what was measured of the same RAWs later."""
        self.methods += other.methods
        self.judgements |= other.judgements
        self.captures |= other.captures


def measure(
    bench: Bench,
    task: Task,
    raws: Sequence[RawRecord],
    methods: Sequence[Method],
    *,
    seed: int = 0,
    ceiling: bool = False,
    known: Mapping[tuple[str, str], Judgement] | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Capture and judge.

    Args:
        bench: makes the captures.
        task: judges; the RAWs are its own.
        raws: what to capture.
        methods: with a set for each RAW.
        seed: of the bootstrap.
        ceiling: whether the references are judged too, where the task has a ceiling and every RAW a reference.
        known: what was judged already, see :meth:`Measured.judged`.
        progress: see :class:`Progress`.

    Raises:
        RunError: nothing is left to compare.
        DeviceError: the device failed; what was captured is kept.
    """
    bounded = task.ceiling if ceiling and all(r.has_reference for r in raws) else None
    done, total = 0, len(raws) * (len(methods) + bool(bounded))
    made: dict[tuple[str, int], tuple[Judgement, CaptureRecord]] = {}
    failures: dict[str, dict[int, FailureRecord]] = {}
    # Methods may agree on a set; an output is judged once.
    judged = dict(known or {})
    # RAW by RAW, so that a device that holds RAWs is sent the pixels of each once.
    order = [(place, method) for place in range(len(raws)) for method in methods]
    jobs = [(raws[place], method.sets[place]) for place, method in order]
    for (place, method), (raw, outcome) in zip(order, captured(bench, jobs), strict=True):
        if isinstance(outcome, FailureRecord):
            failures.setdefault(method.key, {})[place] = outcome
        else:
            output = (raw.hash, outcome.output_hash)
            if output not in judged:
                judged[output] = judgement_of(task, raw, outcome.rgb().pixels)
            made[method.key, place] = judged[output], outcome
        done += 1
        if progress:
            progress("methods", done, total)
    pairing = pair(raws, {m.key: m.label for m in methods}, failures)
    measured = Measured(
        task,
        [raws[i] for i in pairing.places],
        kept_methods(methods, pairing),
        {key: [made[key, i][0] for i in pairing.places] for key in pairing.methods},
        {key: [made[key, i][1] for i in pairing.places] for key in pairing.methods},
        pairing,
        seed,
    )
    if bounded is not None:
        top = Method(MethodKind.ceiling, bounded, ())
        measured.methods.append(top)
        measured.judgements[top.key] = []
        for raw in measured.raws:
            reference = raw.reference()
            assert reference is not None
            measured.judgements[top.key].append(judgement_of(task, raw, reference))
            done += 1
            if progress:
                progress(bounded, done, total)
    return measured
