"""Measures on the device how faithful a proxy is to it: the captures behind the fidelity report of ``fit-proxy``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np

from drivers.parameters import ParameterSet
from drivers.splits import Split
from proxy.files import TILE, LoadedProxy, centre
from workbench.collect.bench import Bench
from workbench.collect.failures import FailureTally, described
from workbench.lab.dataset import Dataset, FailureRecord, RawRecord
from workbench.lab.stratified import stratified
from workbench.learn.fidelity import Probe, movements, probe_sets, rank_correlation
from workbench.learn.loss_moves import RAWS, Move, Quality, centres_of_raws, losses, moves_from
from workbench.learn.results import FidelityReport, Following, LossFollowing, Movement
from workbench.rules.centres import Centres
from workbench.tasks import viewing_metrics

PROBE_RAWS = 4
# Around the middle of the ranges the other parameters leave room to see one move.
BASE_RANGE = (0.25, 0.75)
RANK_RAWS, RANK_SETS = 6, 24
_SEED = 20


def fidelity(
    proxy: LoadedProxy,
    dataset: Dataset,
    bench: Bench,
    *,
    centres: Centres | None = None,
    loss_raws: int = RAWS,
    on_capture: Callable[[int], None] = lambda done: None,
) -> FidelityReport:
    """Does the proxy move as the device moves, and does it rank parameter sets as the device does?

    On held-out RAWs (validation split, or training where it is empty) one parameter at a time is moved around random
    parameter sets; image quality is ranked over held-out parameter sets, and over moves of one parameter from what a
    rule gives (:mod:`workbench.learn.loss_moves`). Frames that fail are left out and counted.
    Large frames are compared in their middle (:func:`proxy.files.centre`).

    Args:
        proxy: the proxy; ``dataset``: the lab's; ``bench``: of the device.
        centres: the rule; None: the device's defaults.
        loss_raws: RAWs of the moves from the rule; 0: none are made.
        on_capture: progress, so many captures looked at.

    Raises:
        RunError: the rule is not of this device.
    """
    return _Measuring(proxy, dataset, bench, on_capture).report(centres, loss_raws)


class _Measuring:
    """The parts of one report."""

    def __init__(self, proxy: LoadedProxy, dataset: Dataset, bench: Bench, on_capture: Callable[[int], None]) -> None:
        self.proxy, self.bench, self.on_capture = proxy, bench, on_capture
        self.space = proxy.space
        self.raws = dataset.raws(Split.VALIDATION) or dataset.raws(Split.TRAIN)
        self.referenced = [raw for raw in self.raws if raw.has_reference]
        self.random = np.random.default_rng(_SEED)
        self.tally = FailureTally()
        self.done = 0
        still = self.space.not_searched
        self.notes = [f"not searched, so not measured: {', '.join(still)}"] if still else []
        if any(max(raw.height, raw.width) > TILE for raw in self.raws):
            self.notes.append(f"frames of more than {TILE} pixels are compared in their middle, {TILE}×{TILE} at most")

    def report(self, centres: Centres | None, loss_raws: int) -> FidelityReport:
        table = self.movements()
        ranking = self.ranking()
        followed, facts = self.losses(centres, loss_raws) if loss_raws else ({}, {})
        by_name = {m.parameter: m for m in table} | {
            p.name: Movement(parameter=p.name, block=p.block)
            for p in self.space.parameters
            if p.name in followed and all(m.parameter != p.name for m in table)
        }
        rows = [
            by_name[name].model_copy(update={"loss": followed[name]} if name in followed else {})
            for name in self.space.names
            if name in by_name
        ]
        blocks = {
            block: Following(
                **{
                    figure: float(np.nanmean([getattr(m, figure) for m in table if m.block == block]))
                    for figure in Following.model_fields
                }
            )
            for block in self.space.blocks
            if any(m.block == block for m in table)
        }
        return FidelityReport.model_validate(
            {
                "parameters": tuple(rows),
                "blocks": blocks,
                **ranking,
                **facts,
                **self.tally.to_dict(),
                "captures": self.bench.asked + self.bench.reused,
                "notes": tuple(self.notes),
            }
        )

    def movements(self) -> list[Movement]:
        """One parameter at a time from low to high, around random sets."""
        chosen = [self.raws[i] for i in self.random.permutation(len(self.raws))[:PROBE_RAWS]]
        plan: list[tuple[str, RawRecord, ParameterSet, ParameterSet]] = []
        for raw in chosen:
            base = self.space.from_unit(self.random.uniform(*BASE_RANGE, len(self.space)))
            plan += [(name, raw, before, after) for name, before, after in probe_sets(self.space, base)]
        return movements(self.space, self.probes(plan))

    def probes(self, plan: Sequence[tuple[str, RawRecord, ParameterSet, ParameterSet]]) -> Iterator[Probe]:
        """One after the other: those of large frames would not fit into memory together."""
        outputs = self.pixels([(raw, p) for _, raw, before, after in plan for p in (before, after)])
        for raw, own in groupby(plan, key=lambda probe: probe[1]):
            frame = raw.load()
            for (name, _, *moved), before, after in zip(own, outputs, outputs, strict=False):
                if before is not None and after is not None:
                    rendered = [self.proxy.render_centre(frame, p) for p in moved]
                    yield Probe(name, before, after, rendered[0], rendered[1])

    def ranking(self) -> dict[str, float | int | str]:
        """Image quality over parameter sets of the whole range."""
        ranked = self.referenced[:RANK_RAWS]
        if not ranked:
            return {}
        sets = [self.space.from_unit(u) for u in self.random.random((RANK_SETS, len(self.space)))]
        shots = self.pixels([(raw, p) for raw in ranked for p in sets])
        real, imitated = np.zeros((len(ranked), len(sets))), np.zeros((len(ranked), len(sets)))
        for i, raw in enumerate(ranked):
            frame, reference = raw.load(), raw.reference()
            assert reference is not None
            reference = reference[centre(frame.height, frame.width)]
            for j, p in enumerate(sets):
                shot = next(shots)
                real[i, j] = np.nan if shot is None else viewing_metrics.psnr(shot, reference)
                imitated[i, j] = viewing_metrics.psnr(self.proxy.render_centre(frame, p), reference)
        # RAWs that fail with every set are left out, then sets that fail on one of the others.
        on = ~np.isnan(real).all(axis=1)
        whole = ~np.isnan(real[on]).any(axis=0)
        found: dict[str, float | int | str] = {}
        if on.any() and whole.sum() > 1:
            found["rank_correlation"] = rank_correlation(real[on][:, whole], imitated[on][:, whole])
        return found | {"split": self.raws[0].split, "rank_raws": int(on.sum()), "rank_sets": int(whole.sum())}

    def losses(self, centres: Centres | None, count: int) -> tuple[dict[str, LossFollowing], dict[str, object]]:
        """The task's loss over moves of one parameter from what a rule gives: by parameter, and what is told of it."""
        chosen = stratified(self.referenced, count, _SEED)
        if not chosen:
            note = "no RAW of this split has a reference, so how the loss follows a parameter is not measured"
            self.notes.append(note)
            return {}, {}
        moves: list[Move] = []
        captures = 0
        for raw, start in zip(chosen, centres_of_raws(centres, self.space, chosen), strict=True):
            frame, reference = raw.load(), raw.reference()
            assert reference is not None
            reference = reference[centre(frame.height, frame.width)]
            moved = moves_from(self.space, start)
            before, *after = self.pixels([(raw, p) for p in (start, *(p for _, p in moved))])
            captures += 1 + len(after)
            if before is None:
                continue
            first = _quality(before, reference), _quality(self.proxy.render_centre(frame, start), reference)
            for (name, parameters), pixels in zip(moved, after, strict=True):
                if pixels is not None:
                    imitated = _quality(self.proxy.render_centre(frame, parameters), reference)
                    moves.append(Move(name, (first[0], _quality(pixels, reference)), (first[1], imitated)))
        return losses(moves), {
            "around": None if centres is None else centres.rule,
            "loss_raws": len(chosen),
            "loss_split": chosen[0].split,
            "loss_captures": captures,
        }

    def pixels(self, jobs: Sequence[tuple[RawRecord, ParameterSet]]) -> Iterator[np.ndarray | None]:
        """The middle of the device's images, ``uint8 [h, w, 3]``; None where the frame failed, which is counted."""
        for (raw, parameters), outcome in zip(jobs, self.bench.capture_many(jobs), strict=True):
            self.done += 1
            self.on_capture(self.done)
            if isinstance(outcome, FailureRecord):
                self.tally.add(outcome.code, outcome.reason, described(raw.name, parameters))
                yield None
            else:
                self.tally.made()
                # A copy: the whole picture is let go.
                yield outcome.rgb().pixels[centre(raw.height, raw.width)].copy()


def _quality(pixels: np.ndarray, reference: np.ndarray) -> Quality:
    large = min(reference.shape[:2]) >= viewing_metrics.SSIM_WINDOW
    return Quality(
        viewing_metrics.psnr(pixels, reference), viewing_metrics.ssim(pixels, reference) if large else math.nan
    )
