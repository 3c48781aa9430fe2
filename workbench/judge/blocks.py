"""Gain by block: which block of the device a gain comes from, measured on the device.

Of two methods, the upper one better than the lower, each block of which they set a parameter otherwise is exchanged:
the lower method with that block's parameters of the upper one says what the block gives *alone*, the upper method with
them of the lower one what is lost *without* it. The two differ, and do not sum up to the whole gain, where blocks work
together: sharpening is worth more behind a stronger noise reduction.

A validation exchanges between the rule that the prediction is on top of and the prediction (of one on top of none, or
whose rule is not in the table, between the baseline and it), and between the prediction and the per-image oracle where
there is one: there, what a block gives is what the prediction still leaves in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drivers.parameters import ParameterSet
from workbench.collect.bench import Bench
from workbench.errors import RunError
from workbench.judge.measuring import Measured, Progress, measure
from workbench.judge.methods import Method, MethodKind, ValidationSettings, baseline_of, headline_method
from workbench.judge.statistics import Comparison
from workbench.lab.results import Model
from workbench.tasks.task import Task


class BlockGain(Model):
    """What a block is worth between two methods; every gain is by metric and above 0 where it is better.

    Attributes:
        block: its name; ``parameters``: those of it that the methods set otherwise on some RAW.
        raws: on how many RAWs they do.
        alone: the lower method with this block of the upper one, over the lower one.
        without: the upper method with this block of the lower one, over the upper one: below 0 where the block gains.
    """

    block: str
    parameters: list[str]
    raws: int
    alone: dict[str, Comparison]
    without: dict[str, Comparison]


class ByBlock(Model):
    """The gain of a method over another, by block.

    Attributes:
        lower, upper: keys of the methods.
        raws, scenes: that it is of; fewer than the validation's where the device failed on an exchanged set.
        captures: frames that it took beside those of the table.
        gain: of the whole, the upper method over the lower one.
        blocks: in the device's order, without those that the methods set alike.
    """

    lower: str
    upper: str
    raws: int
    scenes: int
    captures: int
    gain: dict[str, Comparison]
    blocks: list[BlockGain]


@dataclass(frozen=True)
class _Exchange:
    """A block between two methods, and what to capture for it."""

    lower: Method
    upper: Method
    block: str
    names: tuple[str, ...]
    raws: int
    alone: Method
    without: Method


def check_asked(methods: Sequence[Method], settings: ValidationSettings) -> None:
    """See that the gain can be taken apart where that is asked for.

    Raises:
        RunError: there is no prediction, or nothing to compare it with.
    """
    if settings.by_block and (headline_method(methods) is None or baseline_of([m.kind for m in methods]) is None):
        raise RunError(
            "--by-block: needs a prediction and a best fixed set or industry's table to compare it with; run "
            "`workbench train` and `workbench tune`"
        )


def wanted(settings: ValidationSettings, task: Task) -> bool:
    """Whether to take the gain apart, see :class:`~workbench.judge.methods.ValidationSettings`."""
    return task.detector_name is None if settings.by_block is None else settings.by_block


def _below(about: Method, methods: Sequence[Method]) -> Method | None:
    """What a prediction's gain is taken apart over: its own rule where that is in the table, else the baseline."""
    rule = next((m for m in methods if m.kind.tuned and m.run == about.on_top_of), None)
    base = baseline_of([m.kind for m in methods])
    return rule or next((m for m in methods if m.key == base), None)


def gain_by_block(
    bench: Bench, measured: Measured, progress: Progress | None = None
) -> tuple[list[ByBlock], list[str]]:
    """Take apart the gain of a validation's headline over what is below it, and the oracle's over the headline.

    Args:
        bench: makes the captures.
        measured: the validation's methods.
        progress: see :data:`~workbench.judge.measuring.Progress`.

    Returns:
        A result for each pair of methods that are there and differ, and notes for the reader.

    Raises:
        DeviceError: the device failed; what was captured is kept.
    """
    about = headline_method(measured.methods)
    if about is None:
        return [], []
    methods = {m.key: m for m in measured.methods}
    chain = [_below(about, measured.methods), about, methods.get(MethodKind.oracle)]
    pairs = [(low, high) for low, high in itertools.pairwise(chain) if low is not None and high is not None]
    exchanges = [e for low, high in pairs for e in _exchanges(low, high)]
    if not exchanges:
        return [], []

    def show(_label: str, done: int, total: int, unit: str = "capture") -> None:
        if progress:
            progress("blocks", done, total, unit)

    mixed = [m for e in exchanges for m in (e.alone, e.without)]
    try:
        found = measure(
            bench,
            measured.task,
            measured.raws,
            mixed,
            seed=measured.seed,
            known=measured.judged(),
            progress=show,
        )
    except RunError as error:
        return [], [f"no gain by block: {error}"]
    whole = measured.of_places(found.pairing.places)
    whole.add(found)
    whole.count_sets(show)
    results = [_result(measured, whole, low, high, exchanges) for low, high in pairs]
    return [r for r in results if r.blocks], [f"gain by block: {note}" for note in found.pairing.notes]


def mixed_set(own: ParameterSet, other: ParameterSet, names: Sequence[str]) -> ParameterSet:
    """A set with some parameters of another one."""
    return own.with_codes({name: other.by_name[name] for name in names})


def _exchanges(lower: Method, upper: Method) -> Iterator[_Exchange]:
    space = lower.sets[0].space
    pairs = [(low, high, low.by_name, high.by_name) for low, high in zip(lower.sets, upper.sets, strict=True)]
    for block, members in space.blocks.items():
        names = tuple(n for n in members if any(low[n] != high[n] for _, _, low, high in pairs))
        if not names:
            continue

        def method(sort: str, sets: Sequence[ParameterSet], block: str = block) -> Method:
            # Not a method of the table: only its key, which must be its own, and its sets count.
            name = f"{lower.key}>{upper.key} {block} {sort}"
            return Method(MethodKind.tune, f"{block} {sort} ({upper.label} for {lower.label})", tuple(sets), name)

        yield _Exchange(
            lower,
            upper,
            block,
            names,
            sum(any(low[n] != high[n] for n in names) for _, _, low, high in pairs),
            method("alone", [mixed_set(low, high, names) for low, high, _, _ in pairs]),
            method("without", [mixed_set(high, low, names) for low, high, _, _ in pairs]),
        )


def _result(
    measured: Measured, whole: Measured, lower: Method, upper: Method, exchanges: Sequence[_Exchange]
) -> ByBlock:
    metrics = measured.task.metrics
    # A method of which the device failed on most RAWs is not there.
    own = [
        e
        for e in exchanges
        if (e.lower.key, e.upper.key) == (lower.key, upper.key)
        and {e.alone.key, e.without.key} <= set(whole.judgements)
    ]
    table = {(raw.hash, p.hash) for m in measured.methods for raw, p in zip(measured.raws, m.sets, strict=False)}
    mixed = {
        (raw.hash, p.hash)
        for e in own
        for m in (e.alone, e.without)
        for raw, p in zip(measured.raws, m.sets, strict=True)
    }
    return ByBlock(
        lower=lower.key,
        upper=upper.key,
        raws=len(whole.raws),
        scenes=len(set(whole.scenes)),
        captures=len(mixed - table),
        gain={m.key: whole.gain(upper.key, lower.key, m) for m in metrics},
        blocks=[
            BlockGain(
                block=e.block,
                parameters=list(e.names),
                raws=e.raws,
                alone={m.key: whole.gain(e.alone.key, lower.key, m) for m in metrics},
                without={m.key: whole.gain(e.without.key, upper.key, m) for m in metrics},
            )
            for e in own
        ],
    )
