"""The figures of a study: the table, table 3's order, the depths of figure 5c, figure 5b's points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from drivers.parameters import Parameter, ParameterSet, ParameterSpace
from predictor.model import Predictor, gflop
from workbench.judge.ablation.results import (
    MIN_SEEDS,
    AblatedRaw,
    OrderStep,
    Scatter,
    ScatterParameter,
    ScatterPoint,
    SeedComparison,
    VariantResult,
)
from workbench.judge.ablation.variants import AblationSettings, Variant, about
from workbench.judge.measuring import Measured
from workbench.judge.methods import Method, MethodKind, method_key
from workbench.judge.statistics import (
    Comparison,
    Interval,
    compare,
    compare_draws,
    interval_of_draws,
    mean_interval,
)
from workbench.judge.strengths import TASKS, strongest
from workbench.lab.dataset import RawRecord
from workbench.lab.runs import RunFolder
from workbench.tasks.task import Metric

Sets = dict[tuple[str, int], list[ParameterSet]]
"""A set a test RAW, by variant's key and seed."""


def method_of(variant: Variant, seed: int, sets: Sequence[ParameterSet]) -> Method:
    """A variant of a seed as a method to measure."""
    return Method(MethodKind.predicted, f"{variant.label}, seed {seed}", tuple(sets), f"{variant.key} seed {seed}")


class Study:
    """What was measured of the variants, looked up by variant and seed.

    Attributes:
        measured: of a method a variant and seed; ``variants``: those of which every seed is there.
    """

    def __init__(self, settings: AblationSettings, measured: Measured) -> None:
        self.seeds, self.measured = settings.seeds, measured
        self.variants = [
            v for v in settings.variants if all(self._method(v.key, s) in measured.judgements for s in self.seeds)
        ]

    def _method(self, key: str, seed: int) -> str:
        return method_key(MethodKind.predicted, f"{key} seed {seed}")

    def values(self, key: str, metric: Metric) -> np.ndarray:
        """A metric that single RAWs have: ``float64 [S, R]``."""
        return np.stack([self.measured.values(self._method(key, s), metric) for s in self.seeds])

    def by_seed(self, key: str, metric: Metric) -> list[float]:
        """The mean of each seed."""
        return [self.measured.mean(self._method(key, s), metric) for s in self.seeds]

    def interval(self, key: str, metric: Metric) -> Interval:
        """Of the mean over the seeds."""
        if metric.per_raw:
            return mean_interval(self.values(key, metric).mean(axis=0), self.measured.scenes)
        estimates, draws = zip(
            *(self.measured.of_set(self._method(key, s))[metric.key] for s in self.seeds), strict=True
        )
        return interval_of_draws(float(np.mean(estimates)), np.mean(draws, axis=0), self.measured.scenes)

    def gain(self, key: str, over: str, metric: Metric) -> SeedComparison:
        """What a variant gains over another."""
        scenes = self.measured.scenes
        if metric.per_raw:
            return difference(metric.sign * self.values(key, metric), metric.sign * self.values(over, metric), scenes)
        of = [[self.measured.of_set(self._method(k, s))[metric.key] for s in self.seeds] for k in (key, over)]
        by_seed = np.array([metric.sign * (a - b) for (a, _), (b, _) in zip(*of, strict=True)])
        draws = np.mean([metric.sign * (a - b) for (_, a), (_, b) in zip(*of, strict=True)], axis=0)
        return _by_seeds(compare_draws(float(by_seed.mean()), draws, scenes), by_seed)


def difference(one: np.ndarray, other: np.ndarray, scenes: Sequence[str]) -> SeedComparison:
    """The paired difference of two variants; above 0 the first is better.

    Args:
        one: figures ``[S, R]`` of S seeds and R RAWs, higher is better; ``other``: what is taken from them.
        scenes: of the R RAWs.

    The interval is over scenes, of the mean over seeds. The verdict is ``not shown`` where the seeds are fewer than
    :data:`~workbench.judge.ablation.results.MIN_SEEDS` or differ in sign: scenes cannot tell how another training would
    have gone.
    """
    return _by_seeds(compare((one - other).mean(axis=0), scenes), (one - other).mean(axis=1))


def _by_seeds(told: Comparison, by_seed: np.ndarray) -> SeedComparison:
    shown = len(by_seed) >= MIN_SEEDS and (np.all(by_seed > 0) or np.all(by_seed < 0))
    return SeedComparison(
        **{**dict(told), "verdict": told.verdict if shown else "not shown"}, by_seed=[float(v) for v in by_seed]
    )


def variant_result(
    variant: Variant, settings: AblationSettings, study: Study, runs: Sequence[RunFolder], network: Predictor
) -> VariantResult:
    """A row of the table."""
    metrics, reference = study.measured.task.metrics, settings.reference
    compared = variant != reference and reference in study.variants
    return VariantResult(
        key=variant.key,
        label=variant.label,
        about=about(variant, settings),
        attention=variant.attention,
        encoders=variant.encoders,
        metadata=variant.metadata,
        fixed=variant.fixed,
        runs=[run.name for run in runs],
        figures={m.key: study.interval(variant.key, m) for m in metrics},
        by_seed={m.key: study.by_seed(variant.key, m) for m in metrics},
        over_reference={m.key: study.gain(variant.key, reference.key, m) for m in metrics} if compared else {},
        held_out_loss=[run.results.get("held_out_loss") for run in runs],
        weights=sum(w.numel() for w in network.parameters()),
        gflop_2048x1536=gflop(network.config, 1536, 2048),
    )


def order_of(settings: AblationSettings, study: Study) -> list[OrderStep]:
    """Table 3's order: fixed < without attention < single and self < multi, as far as the study has it."""
    full, metric = settings.reference, study.measured.task.metrics[0]
    none, single, by_self = (replace(full, attention=a) for a in ("none", "single", "self"))
    pairs = [(replace(full, fixed=True), none), (none, single), (none, by_self), (single, full), (by_self, full)]
    return [
        OrderStep(lower=lower.key, higher=higher.key, gain=study.gain(higher.key, lower.key, metric))
        for lower, higher in pairs
        if lower in study.variants and higher in study.variants
    ]


def raws_of(study: Study) -> list[AblatedRaw]:
    """Every variant's figures of every RAW."""
    metrics = [m for m in study.measured.task.metrics if m.per_raw]
    values = {v.key: {m.key: study.values(v.key, m) for m in metrics} for v in study.variants}
    return [
        AblatedRaw(
            name=raw.name,
            hash=raw.hash,
            scene=raw.scene,
            iso=raw.iso,
            variants={key: {m: own[m][:, i].tolist() for m in own} for key, own in values.items()},
        )
        for i, raw in enumerate(study.measured.raws)
    ]


def scatter_of(
    space: ParameterSpace,
    settings: AblationSettings,
    raws: Sequence[RawRecord],
    sets: Sets,
    held: Sequence[str] = (),
) -> Scatter | None:
    """Figure 5b's data: what the paper's network (or else the first made) predicts for each RAW in two parameters.

    ``held`` are the parameters that training held.
    """
    moving = [v for v in settings.variants if not v.fixed]
    if not moving:
        return None
    variant = settings.reference if settings.reference in moving else moving[0]
    predicted = sets[variant.key, settings.seeds[0]]
    if settings.scatter:
        chosen: list[Parameter] = [space[name] for name in settings.scatter]
    else:
        spreads = np.std([p.unit for p in predicted], axis=0)
        found = [strongest(space, spreads, task, held) for task in TASKS]
        chosen = [p for p in found if p is not None]
        if len(chosen) < 2:
            return None
    places = [space.names.index(p.name) for p in chosen]
    iso = np.array([raw.iso or np.nan for raw in raws])
    codes = np.array([p.codes for p in predicted])[:, places]
    return Scatter(
        key=variant.key,
        seed=settings.seeds[0],
        parameters=[ScatterParameter(name=p.name, block=p.block, unit=p.unit, held=p.name in held) for p in chosen],
        rank_correlation_with_iso=[_rank_correlation(iso, column) for column in codes.T],
        points=[
            ScatterPoint(
                raw=raw.name, iso=raw.iso, values=[p.from_code(int(c)) for p, c in zip(chosen, row, strict=True)]
            )
            for raw, row in zip(raws, codes, strict=True)
        ],
    )


def _rank_correlation(iso: np.ndarray, values: np.ndarray) -> float | None:
    """Spearman's, None where one of both does not move."""
    from scipy.stats import spearmanr

    known = np.isfinite(iso)
    if len(set(iso[known])) < 2 or len(set(values[known])) < 2:
        return None
    return float(spearmanr(iso[known], values[known])[0])
