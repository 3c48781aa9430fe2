"""Improves on what a rule gives each RAW with captures of the device alone: there is no proxy that must follow it.

In rounds: sets around the answer so far are captured for training RAWs; what their figures gain over the set of what is
refined, a rule's or a predictor's, is regressed on move and RAW (:mod:`predictor.response`); the best move that this
response promises is the next answer, and the device says on validation RAWs whether it is better, and how far it may
go. When a round no longer is, the paper's network, or the predictor's own, is trained through the response of the last
one that was, and how far it is followed is chosen on the device as for any predictor on top of a rule.

Everything asked for follows from the settings, and captures are looked up before the device is asked: the same command
goes on where it was stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from predictor.raw_features import raw_features
from predictor.response import Around, Response
from workbench.collect.bench import Bench
from workbench.console import interrupt
from workbench.errors import RunError
from workbench.lab.dataset import CaptureRecord, FailureRecord, RawRecord
from workbench.lab.stratified import stratified
from workbench.learn.following import Yardstick
from workbench.learn.results import RefineRound
from workbench.tasks.judging import judgement_of
from workbench.tasks.task import Metric, Task

PURPOSE = "refine"
VALIDATION_RAWS = 60
SPREAD = 0.15
LEAST_RAWS = 16
REACHES = (1.0, 2 / 3, 1 / 3)
"""Shares of the spread that an answer may move by, tried on validation RAWs in every round."""
_LATER_REACH = 0.6


@dataclass(frozen=True)
class RefineSettings:
    """How to refine.

    Attributes:
        captures: at most as many distinct ones are looked at, those on validation RAWs included.
        rounds: at most; per_raw: captures of each RAW in a round, that of what is refined not counted.
        spread: largest move of a normalised parameter from what is refined.
        metrics: what is to gain, by key; each counts by its own spread. Empty: the first that single images have.
        rank_raws: validation RAWs on which :mod:`workbench.learn.response_ranks` moves each parameter alone; their
            captures are counted apart, for nothing is learnt from them. 0: none.
        seed: of the moves and the choice of RAWs. What is out of range raises a RunError.
    """

    captures: int = 6000
    rounds: int = 3
    per_raw: int = 7
    spread: float = SPREAD
    metrics: tuple[str, ...] = ()
    rank_raws: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("captures", 1), ("rounds", 1), ("per_raw", 1), ("rank_raws", 0), ("seed", 0)):
            if (value := getattr(self, name)) < least:
                raise RunError(f"refining with {name} {value}: give {least} or more")
        if not 0 < self.spread <= 1:
            raise RunError(f"refining with spread {self.spread:g}: give more than 0, at most 1")


@dataclass
class Known:
    """The RAWs and what is known of them without a capture.

    Attributes:
        raws: R of them; ``features``: ``float32 [R, F]``; ``of_rule``: what the rule gives, ``float64 [R, N]``.
        starts: the sets of what is refined, a rule or a predictor on top of one.
        answers: the sets that the next round is centred on.
    """

    raws: list[RawRecord]
    features: np.ndarray
    of_rule: np.ndarray
    starts: list[ParameterSet]
    answers: list[ParameterSet]

    @property
    def units(self) -> Tensor:
        """The sets of what is refined, ``float32 [R, N]`` in [0, 1]."""
        return torch.as_tensor(np.array([start.unit for start in self.starts]), dtype=torch.float32)


def known_of(
    raws: Sequence[RawRecord],
    rule: Callable[[RawFrame], ParameterSet],
    predictor: Callable[[RawFrame, ParameterSet], ParameterSet] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Known:
    """What is known of RAWs.

    Args:
        raws: which.
        rule: what it gives; ``predictor``: what one on top of it makes of that, where that is refined.
        progress: called with how many are done, and of how many.
    """
    features, of_rule, starts = [], [], []
    for done, raw in enumerate(raws, 1):
        frame = raw.load()
        features.append(raw_features(frame))
        start = rule(frame)
        of_rule.append(start.unit)
        starts.append(predictor(frame, start) if predictor else start)
        progress(done, len(raws))
        interrupt.check()
    return Known(list(raws), np.array(features), np.array(of_rule), starts, list(starts))


_Found = tuple[int, ParameterSet, np.ndarray | None]
"""A capture of a training RAW: the RAW's place, the set, and its figures ``float64 [K]``, None where it failed."""


@dataclass(frozen=True)
class _Tried:
    """Answers that move by up to ``reach``: what they gain as one figure, on how many RAWs, and in each metric."""

    reach: float
    gain: float
    raws: int
    each: list[float]


@dataclass
class Refining:
    """The rounds of captures.

    Attributes:
        bench: makes the captures; ``task``: judges; ``settings``: what is asked for.
        training, validation: the RAWs; ``held``: parameters that do not move.
        earlier: captures of the refinements that led to what is refined; those within the spread are rehearsed with
            the new ones.
        progress: called with the captures looked at, how many may be, and what is being done.
        rounds: done so far; ``best``: place of the one that gained most.
        reach: how far answers of that one may move a normalised parameter, by what the device said.
    """

    bench: Bench
    task: Task
    settings: RefineSettings
    training: Known
    validation: Known
    held: Sequence[str] = ()
    earlier: Sequence[CaptureRecord] = ()
    progress: Callable[[int, int, str], None] = lambda done, total, what: None
    rounds: list[RefineRound] = field(default_factory=list)
    best: int = 0
    reach: float = math.nan
    _seen: dict[tuple[str, str], np.ndarray | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.metrics = metrics_of(self.task, self.settings.metrics)
        self._scorers = {
            m.key: self.task.scorer(m.key, self.training.raws)
            for m in self.metrics
            if m.key in self.task.search_metrics
        }
        self._scale: np.ndarray | None = None

    @property
    def captures(self) -> int:
        """Distinct captures looked at."""
        return len(self._seen)

    @property
    def yardstick(self) -> Yardstick:
        """The metrics that are to gain, each by its spread over the captures; a single one as it is."""
        assert self._scale is not None
        spreads = tuple(float(scale) for scale in self._scale) if len(self.metrics) > 1 else (1.0,)
        return Yardstick(tuple(self.metrics), spreads)

    def device_s(self) -> float:
        """Seconds that the device spent on them, as the data set has them."""
        found = self.bench.dataset.find(self.bench.info.identity, sorted(self._seen))
        return float(sum(capture.device_s for capture in found.values()))

    def run(self) -> Response | None:
        """Refine; the response that promised the best answer, or None where no round gained over what is refined.

        Raises:
            RunError: the captures or the RAWs are too few, or none of the frames came.
            DeviceError: the device failed; captures made are kept.
        """
        settings, names = self.settings, self.bench.info.space.names
        shown = stratified(self.validation.raws, VALIDATION_RAWS, settings.seed)
        places = {raw.hash: i for i, raw in enumerate(self.validation.raws)}
        checked = [places[raw.hash] for raw in shown]
        a_round = raws_a_round(settings, len(self.training.raws), len(checked))
        free = torch.tensor([name not in self.held for name in names])
        response = Response(self.bench.info.space, self.training.features)
        codes = response.code(self.training.features)
        before = self._on_validation(checked, "what is refined")
        around = self._gains_of([])
        earlier = self._rehearsed()
        best: Response | None = None
        best_gain = 0.0
        for number in range(settings.rounds):
            around = around.with_more(self._capture(number, a_round, free.numpy(), earlier))
            if not len(around.raw):
                raise RunError(f"the device took none of the sets around those of what is refined{self._why()}")
            if self._scale is None:
                self._scale = np.maximum(around.gain.std(0), 1e-9)
            response = Response(self.bench.info.space, self.training.features)
            response.fit(codes, self.training.units, Around(around.raw, around.unit, self.as_one(around.gain)))
            found = self._best_reach(response, checked, before, free, number)
            told = dict(zip((m.key for m in self.metrics), found.each, strict=True)) if found.raws else {}
            self.rounds.append(
                RefineRound(captures=self.captures, explained=response.explained, raws=found.raws, gains=told)
            )
            if found.gain > best_gain:
                best, best_gain, self.best, self.reach = response, found.gain, number, found.reach
                self._answer(response, self.training, found.reach, free)
            elif best is not None:
                break  # before any has gained, more captures may yet show how
        return best

    def _best_reach(
        self,
        response: Response,
        places: Sequence[int],
        before: Sequence[np.ndarray | None],
        free: Tensor,
        number: int,
    ) -> _Tried:
        """How far the response's answers may move, by what the device says of them on validation RAWs."""
        found: list[_Tried] = []
        for share in REACHES:
            reach = share * self.settings.spread
            self._answer(response, self.validation, reach, free)
            what = f"round {number + 1} on validation RAWs, answers within {reach:.2g}"
            gain, each = self._gain(self._on_validation(places, what), before)
            found.append(_Tried(reach, gain, len(each), [float(g) for g in each.mean(0)] if len(each) else []))
        return max(found, key=lambda tried: tried.gain)

    def _why(self) -> str:
        """Why frames failed that are asked now; those that failed before are in the data set with their reasons."""
        tally = self.bench.tally
        failed = f": {tally.told()}; mend the device, then" if tally.failed else ";"
        return f"{failed} `workbench dataset retry` lets them be asked for again"

    def _on_validation(self, places: Sequence[int], what: str) -> list[np.ndarray | None]:
        return self.figures([(self.validation.raws[i], self.validation.answers[i]) for i in places], what)

    def _gain(
        self, answers: Sequence[np.ndarray | None], before: Sequence[np.ndarray | None]
    ) -> tuple[float, np.ndarray]:
        """The mean gain over what is refined as one figure, and ``[R, K]`` of each RAW in each metric."""
        each = np.array([a - b for a, b in zip(answers, before, strict=True) if a is not None and b is not None])
        return (float(self.as_one(each).mean()) if len(each) else -math.inf), each

    def _rehearsed(self) -> dict[int, list[_Found]]:
        """What earlier refinements captured of the training RAWs, by place, judged anew; the device is not asked.

        Only what lies within the spread: further out a round captures nothing either.
        """
        places = {raw.hash: i for i, raw in enumerate(self.training.raws)}
        numbers = [p.kind not in ("choice", "bool") for p in self.bench.info.space.parameters]
        space = self.bench.info.space
        found: dict[int, list[_Found]] = {}
        for done, capture in enumerate(self.earlier, 1):
            place = places.get(capture.raw_hash)
            if place is not None:
                near = space.from_codes(capture.codes)
                away = np.abs(near.unit - self.training.starts[place].unit)[numbers]
                if (away <= self.settings.spread).all():
                    figures = self._judged(self.training.raws[place], capture)
                    found.setdefault(place, []).append((place, near, figures))
            self.progress(done, len(self.earlier), "earlier captures")
            interrupt.check()
        return found

    def _gains_of(self, found: Sequence[_Found]) -> Around:
        """The captures of training RAWs as gains over the set of what is refined where that is among them."""
        starts = self.training.starts
        before = {place: figure for place, parameters, figure in found if parameters == starts[place]}
        rows = [
            (place, parameters.unit, figure - base)
            for place, parameters, figure in found
            if figure is not None and (base := before.get(place)) is not None and parameters != starts[place]
        ]
        if not rows:
            names, metrics = len(self.bench.info.space), len(self.metrics)
            return Around(np.zeros(0, dtype=np.int64), np.zeros((0, names)), np.zeros((0, metrics)))
        return Around(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), np.array([r[2] for r in rows]))

    def as_one(self, gains: np.ndarray) -> np.ndarray:
        """One figure of the gains in each metric, ``[M, K]`` → ``[M]``: what the response is fitted to.

        Each metric counts by its spread over the first round's captures; a ruined image counts as a bad one.
        """
        assert self._scale is not None
        figure: np.ndarray = (gains / self._scale).mean(1)
        return 2 * np.tanh(figure / 2)

    def _answer(self, response: Response, known: Known, reach: float, free: Tensor) -> None:
        moves = response.best_moves(response.code(known.features), known.units, reach, free)
        units = (known.units + moves).double().numpy()
        known.answers = [
            _moved(start, unit, move) for start, unit, move in zip(known.starts, units, moves.numpy(), strict=True)
        ]

    def _capture(self, number: int, count: int, free: np.ndarray, earlier: dict[int, list[_Found]]) -> Around:
        """The captures of a round, of training RAWs, and what is there of these RAWs from before."""
        known, settings = self.training, self.settings
        places = {raw.hash: i for i, raw in enumerate(known.raws)}
        chosen = [places[raw.hash] for raw in stratified(known.raws, count, settings.seed + 1 + number)]
        jobs: list[tuple[RawRecord, ParameterSet]] = []
        owners: list[int] = []
        for place in chosen:
            random = np.random.default_rng([settings.seed, number, place])
            start, answer = known.starts[place], known.answers[place]
            sets = [start, *([answer] if answer != start else [])]
            while len(sets) < settings.per_raw + 1:
                sets.append(_near(start, answer, settings.spread, free, random))
            jobs += [(known.raws[place], one) for one in sets]
            owners += [place] * len(sets)
        figures = self.figures(jobs, f"round {number + 1} of at most {settings.rounds}")
        found: list[_Found] = [(o, p, f) for o, (_, p), f in zip(owners, jobs, figures, strict=True)]
        for place in chosen:
            found += earlier.pop(place, [])
        return self._gains_of(found)

    def _judged(self, raw: RawRecord, capture: CaptureRecord) -> np.ndarray:
        # A scorer computes no more than its metric.
        scored = {key: scorer.combine([scorer(raw, capture)]) for key, scorer in self._scorers.items()}
        if any(m.key not in scored for m in self.metrics):
            judged = judgement_of(self.task, raw, capture.rgb().pixels).figures
            scored |= {m.key: m.sign * judged[m.key] for m in self.metrics}
        return np.array([scored[m.key] for m in self.metrics], dtype=np.float64)

    def figures(
        self, jobs: Sequence[tuple[RawRecord, ParameterSet]], what: str, *, apart: bool = False
    ) -> list[np.ndarray | None]:
        """Each job's figures, ``float64 [K]``, larger is better; None where the frame failed.

        Args:
            jobs: RAWs and sets, looked up or captured.
            what: is being done, for the progress; apart: whether it is counted by itself, not as part of the rounds.
        """
        asked = {(raw.hash, p.hash): (raw, p) for raw, p in jobs}
        new = [job for key, job in asked.items() if key not in self._seen]
        for done, ((raw, parameters), outcome) in enumerate(zip(new, self.bench.capture_many(new), strict=True), 1):
            figures = None
            if not isinstance(outcome, FailureRecord):
                figures = self._judged(raw, outcome)
            self._seen[raw.hash, parameters.hash] = figures
            self.progress(*((done, len(new)) if apart else (len(self._seen), self.settings.captures)), what)
            interrupt.check()
        return [self._seen[raw.hash, p.hash] for raw, p in jobs]


def raws_a_round(settings: RefineSettings, training: int, checked: int) -> int:
    """Training RAWs that a round captures around.

    Args:
        settings: what is asked for.
        training: RAWs that there are; ``checked``: validation RAWs that answers are tried on.

    Raises:
        RunError: the captures or the RAWs are too few.
    """
    # Those of what is refined; a round's answers are tried within each reach.
    own, tried = checked, len(REACHES) * checked
    a_raw = settings.per_raw + 1
    raws = ((settings.captures - own) // settings.rounds - tried) // a_raw
    if raws < LEAST_RAWS or training < LEAST_RAWS:
        need = settings.rounds * (LEAST_RAWS * a_raw + tried) + own
        raise RunError(
            f"{settings.captures} captures of {training} training RAWs are too few to refine in {settings.rounds} "
            f"rounds; give at least {LEAST_RAWS} RAWs and --captures {need}"
        )
    return raws


def metrics_of(task: Task, keys: Sequence[str]) -> list[Metric]:
    """The metrics of those keys, or the first that single images have.

    Raises:
        RunError: no such metric, or single images do not have it.
    """
    there = {m.key: m for m in task.metrics if m.per_raw}
    for key in keys:
        if key not in there:
            raise RunError(f"metric {key!r} is none that single images of task {task.name} have: {', '.join(there)}")
    return [there[key] for key in dict.fromkeys(keys)] or [next(iter(there.values()))]


def _near(
    start: ParameterSet, answer: ParameterSet, spread: float, free: np.ndarray, random: np.random.Generator
) -> ParameterSet:
    """A set around the answer: of one block, of some parameters, or part of the way there."""
    space = start.space
    names = np.array([p.block for p in space.parameters])
    there = start.unit + random.choice([0.5, 1.0, 1.25]) * (answer.unit - start.unit)
    if random.random() < 0.35:
        moving = names == random.choice(list(space.blocks))
        there = answer.unit.copy()
    else:
        moving = random.random(len(names)) < random.choice([0.3, 0.6, 1.0])
    reach = spread * (1.0 if answer == start else _LATER_REACH) * random.choice([0.5, 1.0, 1.5])
    unit = np.where(moving, there + random.uniform(-reach, reach, len(names)), there)
    if answer != start and random.random() < 0.4:
        unit = np.where(names == random.choice(list(space.blocks)), start.unit, unit)
    for place, parameter in enumerate(space.parameters):
        if parameter.kind in ("choice", "bool"):
            taken = random.integers(parameter.levels) if moving[place] and random.random() < 0.5 else None
            unit[place] = answer.unit[place] if taken is None else (taken + 0.5) / parameter.levels
    return _moved(start, unit, free & (unit != start.unit))


def _moved(start: ParameterSet, unit: np.ndarray, move: np.ndarray) -> ParameterSet:
    """The set at ``unit``; where ``move`` is 0 the start's own code."""
    there = start.space.from_unit(np.clip(unit, 0, 1))
    codes = (
        code if by and p.searched else own
        for code, own, by, p in zip(there.codes, start.codes, move, start.space.parameters, strict=True)
    )
    return ParameterSet(start.space, tuple(codes))
