"""A method that validation compares, and what is compared when nothing else is said."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from drivers.parameters import ParameterSet
from workbench.judge.budgets import less_than
from workbench.judge.pairing import Pairing
from workbench.rules.setting import Setting

NONE = "(none)"
"""In place of a run's name: leave it out. No run can have this name."""


class MethodKind(StrEnum):
    """How a method chooses parameters."""

    default = "default"
    expert = "expert"
    fixed = "fixed"
    industry = "industry"
    auto = "auto"
    tune = "tune"
    mean = "mean"
    predicted = "predicted"
    oracle = "oracle"
    ceiling = "clean"

    @property
    def tuned(self) -> bool:
        """Whether it comes from a ``tune`` run."""
        return self in (MethodKind.fixed, MethodKind.industry, MethodKind.auto, MethodKind.tune)

    @property
    def learnt(self) -> bool:
        """Whether it comes from a ``train`` run."""
        return self in (MethodKind.mean, MethodKind.predicted)

    @property
    def bound(self) -> bool:
        """Whether it knows what is judged against: a bound, no competitor."""
        return self in (MethodKind.oracle, MethodKind.ceiling)


# What the others are compared with, where it is there.
BASELINES = (MethodKind.fixed, MethodKind.industry, MethodKind.auto, MethodKind.expert)


def method_key(kind: MethodKind, run: str | None) -> str:
    """What names a method in a table: its kind, and its run where there may be several."""
    several = kind.learnt or kind is MethodKind.tune
    return f"{kind}:{run}" if several else str(kind)


@dataclass(frozen=True)
class Method:
    """A way of choosing parameters: one set a test RAW.

    Attributes:
        kind, label, run, captures, metadata, device_s, compute_s, rule, search: as in
            :class:`workbench.judge.results.MethodResult`.
        sets: a parameter set for each test RAW; none of the ceiling.
        rounding: captures of the budget that a search left because no whole trial fits into them.
        on_top_of: the ``tune`` run whose rule a prediction is on top of; None: of none.
    """

    kind: MethodKind
    label: str
    sets: tuple[ParameterSet, ...]
    run: str | None = None
    captures: int | None = None
    metadata: bool | None = None
    device_s: float | None = None
    compute_s: float | None = None
    rule: str | None = None
    search: str | None = None
    rounding: int = 0
    on_top_of: str | None = None

    @property
    def key(self) -> str:
        """See :func:`method_key`."""
        return method_key(self.kind, self.run)

    def smaller_budget(self, learnt: int) -> bool:
        """Whether it was tuned with fewer captures than prediction cost: a comparison would flatter the predictor."""
        return self.kind.tuned and less_than(self.captures, learnt, self.rounding)


@dataclass(frozen=True)
class ValidationSettings:
    """What to validate; runs by name or path, None for the newest of their kind, :data:`NONE` for none.

    Attributes:
        predictors: ``train`` runs; empty: the newest with metadata and the newest without.
        fixed, industry, auto: ``tune`` runs; proxy: a ``fit-proxy`` run.
        expert: TOML of the expert's set.
        test_raws: how many test RAWs, spread over the scenes and the ISO range by seed; 0: all.
        oracle_captures: a RAW; 0 leaves the oracle out; oracle_metric: what it searches for, by key; None: the first.
        seed: of the oracle and the bootstrap.
        tunes: further ``tune`` runs, each a method of its own.
        remark: what a reader must know, one line, the first note of the results; empty: nothing.
        setting: who sets parameters, the same for all methods: ``3a``, a TOML file, or one as a run recorded it.
        by_block: whether the gain is taken apart by block of the device; None: where there is a prediction and a
            baseline, and no detector judges, for which so many more outputs would take long.
    """

    predictors: tuple[str, ...] = ()
    fixed: str | None = None
    industry: str | None = None
    proxy: str | None = None
    expert: Path | None = None
    test_raws: int = 0
    oracle_captures: int = 0
    seed: int = 0
    tunes: tuple[str, ...] = ()
    remark: str = ""
    setting: str | Path | Setting | None = None
    by_block: bool | None = None
    auto: str | None = None
    oracle_metric: str | None = None


ORACLE_CAPTURES = 200
"""Of the oracle for each RAW, where single images can be judged and nothing else is asked for."""


def headline_method(methods: Sequence[Method]) -> Method | None:
    """The prediction that a validation is about: the first with metadata, or else the first; None without any."""
    predicted = [m for m in methods if m.kind is MethodKind.predicted]
    return next((m for m in predicted if m.metadata), predicted[0] if predicted else None)


def baseline_of(kinds: Collection[MethodKind]) -> MethodKind | None:
    """What an engineer has without prediction, of a table's kinds: industry, or else the best fixed set."""
    return next((kind for kind in (MethodKind.industry, MethodKind.fixed) if kind in kinds), None)


def kept_methods(methods: Sequence[Method], pairing: Pairing) -> list[Method]:
    """The methods that are compared, with their sets for the RAWs that are."""
    return [replace(m, sets=tuple(m.sets[i] for i in pairing.places)) for m in methods if m.key in set(pairing.methods)]
