"""What ``validate`` and ``choose`` record (``results.json``).

Differences are gains: above 0 is better, whatever the metric's direction. Intervals are of 95 %, bootstrapped by scene.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from drivers.parameters import ParameterSpace
from workbench.errors import RunError
from workbench.judge.blocks import ByBlock
from workbench.judge.iso_ranges import IsoRange
from workbench.judge.methods import MethodKind
from workbench.judge.pairing import LeftOut
from workbench.judge.statistics import RESAMPLES, Comparison, Interval
from workbench.lab.results import Model, Result
from workbench.lab.runs import RunFolder
from workbench.rules.setting import Setting
from workbench.tasks.registry import task_key
from workbench.tasks.task import Metric, of_raws


class DeviceUsed(Model):
    """The device that a run was made on; ``space_hash`` is of its parameter space."""

    identity: str
    model: str
    firmware: str
    serial: str = ""
    boot_id: str = ""
    space: str = ""
    space_hash: str


class MethodResult(Model):
    """A method of the table.

    Attributes:
        kind: how it chooses; ``run``: of which run; ``key``: names it in this table; ``label``: for people.
        figures: each metric over the RAWs.
        over: what it gains over the ``fixed``, ``industry`` and ``expert`` method of the table, by metric.
        captures: device captures spent to get there (search, or collection for what was learnt).
        fewer_captures_than_collection: than prediction cost (by collection, and where it is on top of a rule by the
            rule's tuning too), by more than 1 % and the search's rounding.
        metadata: whether a predictor sees ISO, exposure and white balance.
        device_s: seconds that the device spent on those captures; ``compute_s``: of searching, or from start to end of
            fitting and training.
        rule, search: of tuned methods, see :mod:`workbench.rules.tuned`.
        failed: frames of the RAWs that the device failed with it.
    """

    kind: MethodKind
    run: str | None = None
    key: str
    label: str
    figures: dict[str, Interval]
    over: dict[MethodKind, dict[str, Comparison]] = Field(default_factory=dict)
    captures: int | None = None
    fewer_captures_than_collection: bool = False
    metadata: bool | None = None
    device_s: float | None = None
    compute_s: float | None = None
    rule: str | None = None
    search: str | None = None
    failed: int = 0


class RawScores(Model):
    """What a method chose for a RAW, and how its output was judged: the metrics that single RAWs have."""

    figures: dict[str, float]
    codes: dict[str, int]
    output_hash: str


class RawResult(Model):
    """A RAW that is compared on; ``methods`` by key."""

    name: str
    hash: str
    scene: str
    iso: float | None = None
    exposure_s: float | None = None
    as_shot_wb: tuple[float, float, float] | None = None
    methods: dict[str, RawScores]


class Headline(Model):
    """What the validation is about: the prediction ``method`` (key).

    ``gap_closed`` is (predicted − fixed) / (oracle − fixed) in the oracle's metric, 1 = all; None without an oracle.
    """

    method: str
    gap_closed: Interval | None = None


class OracleSearch(Model):
    """How the per-image oracle was found.

    Attributes:
        metric: what it searched for, by key; empty: the first.
        captures_per_raw: at most.
        last_quarter_gain: what the last quarter of the captures gained, in the metric's unit.
        found_from_first_start: share of RAWs whose best set is from the predictor's own.
        curve: mean best value after each capture; empty in the run's record.
    """

    metric: str = ""
    captures_per_raw: int
    last_quarter_gain: float
    found_from_first_start: float | None = None
    curve: list[float] = Field(default_factory=list)


class ProxyGap(Model):
    """How the proxy stands to the device at the predicted sets.

    Attributes:
        run: of the proxy; ``predictor``: key of the method.
        psnr_to_device: of the proxy's image to the device's, in dB.
        promised: what the proxy's image is judged at, in the first metric that single RAWs have; ``given``: the
            device's.
        promised_minus_given: their difference.
    """

    run: str
    predictor: str | None = None
    psnr_to_device: float
    promised: float
    given: float
    promised_minus_given: Interval


class Compared(Result):
    """What every comparison on a device records.

    Attributes:
        task: name of the task; ``task_key``: with its judge; ``detector``: how that was asked for.
        metrics: of the task; the first is what methods are compared by.
        resamples: draws of scenes behind each interval.
        raws, scenes: how many are compared on; ``facts``: what there was to judge in them, such as ``objects``.
        raws_left_out: how many are not, since a method of the table failed on them; ``left_out``: which and why.
        faults: what each device did wrong and was mended, counted.
        notes: what a reader must know, one line each.
    """

    FORMAT: ClassVar[int] = 2

    format: int = 2
    task: str
    task_key: str
    detector: str | None = None
    metrics: list[Metric]
    resamples: int = RESAMPLES
    device: DeviceUsed
    raws: int
    scenes: int
    facts: dict[str, int] = Field(default_factory=dict)
    raws_left_out: int = 0
    left_out: list[LeftOut] = Field(default_factory=list)
    faults: dict[str, dict[str, int]] = Field(default_factory=dict)
    setting: Setting | None = None
    notes: list[str] = Field(default_factory=list)

    @property
    def main(self) -> Metric:
        """What methods are compared by."""
        return self.metrics[0]

    @property
    def of_raws(self) -> Metric:
        """What they are compared by RAW by RAW."""
        return of_raws(self.metrics)


class ValidationResult(Compared):
    """What ``validate`` records.

    Attributes:
        space: of the device, :meth:`drivers.parameters.ParameterSpace.to_dict`; empty in the run's record.
        seed: of the bootstrap and the oracle.
        collection_captures: captures of purpose "collect…" of this device in the data set.
        methods: in the table's order; ``headline``: None where there is no predictor.
        budgets: tuned methods that had fewer captures than collection, one line each.
        oracle, proxy: None where there was none.
        by_iso: over ranges of ISO; ``by_block``: where gains come from; both are empty in the run's record.
        per_raw: empty in the run's record.
    """

    WHAT: ClassVar[str] = "a validation"

    space: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0, lt=2**32)
    collection_captures: int = 0
    methods: list[MethodResult]
    headline: Headline | None = None
    budgets: list[str] = Field(default_factory=list)
    oracle: OracleSearch | None = None
    proxy: ProxyGap | None = None
    by_iso: list[IsoRange] = Field(default_factory=list)
    by_block: list[ByBlock] = Field(default_factory=list)
    per_raw: list[RawResult] = Field(default_factory=list)

    def table(self) -> str:
        """The table of methods as text, to print."""
        from workbench.judge.in_words import text_table, title_of, validation_table

        return text_table(title_of(self), *validation_table(self))

    @classmethod
    def upgraded(cls, data: Any) -> Any:
        """See :mod:`workbench.judge.format1`."""
        from workbench.judge.format1 import upgraded, without_declining

        return without_declining(upgraded(data) if data["format"] == 1 else data)

    def brief(self) -> dict[str, Any]:
        """What the run's record holds: all but what is long."""
        brief = self.model_copy(update={"per_raw": [], "space": {}, "by_iso": [], "by_block": []})
        if self.oracle is not None:
            brief = brief.model_copy(update={"oracle": self.oracle.model_copy(update={"curve": []})})
        return brief.to_json()

    @cached_property
    def parameter_space(self) -> ParameterSpace:
        """The device's."""
        return ParameterSpace.from_dict(self.space)

    @cached_property
    def by_key(self) -> dict[str, MethodResult]:
        """The methods by key, in the table's order."""
        return {m.key: m for m in self.methods}

    def of_kind(self, kind: MethodKind) -> MethodResult | None:
        """The first method of a kind."""
        return next((m for m in self.methods if m.kind is kind), None)

    @property
    def oracle_metric(self) -> Metric:
        """What the per-image oracle searched for, and the gap closed is of."""
        asked = self.oracle.metric if self.oracle else ""
        return next((m for m in self.metrics if m.key == asked), self.main)

    @property
    def scenes_of_raws(self) -> list[str]:
        """The scene of each RAW of ``per_raw``."""
        return [row.scene for row in self.per_raw]

    @property
    def about(self) -> MethodResult | None:
        """The prediction that the headline is about."""
        return self.by_key[self.headline.method] if self.headline else None

    def values(self, key: str, metric: str | None = None) -> np.ndarray:
        """A metric of a method on every RAW, in the order of ``per_raw``: ``float64 [R]``; by default the first."""
        return np.array([row.methods[key].figures[metric or self.of_raws.key] for row in self.per_raw])

    def gains(self, key: str, over: str) -> np.ndarray:
        """What a method gains over another on every RAW, in the first metric that single RAWs have: ``float64 [R]``."""
        return np.asarray(self.of_raws.sign * (self.values(key) - self.values(over)))

    def units(self, key: str) -> np.ndarray:
        """Normalised parameters that a method chose for every RAW: ``float64 [R, N]``."""
        space = self.parameter_space
        return np.array([space.from_codes(row.methods[key].codes).unit for row in self.per_raw])


class ChosenRow(Model):
    """A run that ``choose`` compared; ``rule`` is None of a predictor.

    ``scores`` are the task's metrics over the RAWs; ``gain``: over the first row, in the metric of the comparison.
    """

    run: str
    rule: str | None
    scores: dict[str, float]
    gain: Comparison | None


class ChosenRaw(Model):
    """A RAW with each run's value of the metric."""

    name: str
    scene: str
    iso: float | None
    scores: dict[str, float]


class ChooseResult(Compared):
    """What ``choose`` records: predictors compared on a split by the first metric that single RAWs have.

    That metric tells predictors apart long before mAP does. ``best`` is the run to take.
    """

    WHAT: ClassVar[str] = "a choice"

    split: str
    metric: str
    rows: list[ChosenRow]
    best: str
    per_raw: list[ChosenRaw] = Field(default_factory=list)


def read_validation(run: RunFolder) -> ValidationResult:
    """The results of a ``validate`` run, of this format or an older one.

    Raises:
        RunError: they cannot be read, or do not hold together.
    """
    file = Path(run.path / "results.json")
    try:
        found = ValidationResult.read(file)
        _check(found)
        if (key := task_key(run)).partition(":")[0] == found.task:  # format 1 did not have it
            found = found.model_copy(update={"task_key": key})
    except RunError as error:
        raise RunError(f"{error}; run `workbench validate` again") from error
    except (ValueError, KeyError) as error:
        raise RunError(f"{file}: cannot be read as a validation ({error}); run `workbench validate` again") from error
    return found


def _check(found: ValidationResult) -> None:
    """See that the parts name each other; what each part is, its model says."""
    if not found.per_raw or not found.methods:
        raise ValueError("it holds no methods or no RAWs")
    for method in found.methods:
        if missing := {m.key for m in found.metrics} - set(method.figures):
            raise ValueError(f"{method.key} has no {min(missing)}")
        if method.kind is not MethodKind.ceiling:
            found.units(method.key)
            for metric in found.metrics:
                if metric.per_raw:
                    found.values(method.key, metric.key)
    named = {key for part in found.by_block for key in (part.lower, part.upper)}
    named |= {key for part in found.by_iso for key in part.methods}
    if strangers := named - set(found.by_key):
        raise ValueError(f"it names {min(strangers)}, of which it has no row")
    if found.headline and found.headline.method not in found.by_key:
        raise ValueError(f"its headline is about {found.headline.method}, of which it has no row")
