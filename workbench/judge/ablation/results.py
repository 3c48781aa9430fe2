"""What ``ablate`` records (``results.json``): variants of the predictor, trained alike, judged on the device's output.

Figures are of each RAW's mean over the seeds, intervals over scenes. A verdict speaks of the seeds too: a difference
whose sign is not the same for every seed, or that fewer than :data:`MIN_SEEDS` seeds stand for, is not shown.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from predictor.model import Attention
from workbench.judge.results import Compared
from workbench.judge.statistics import Comparison, Interval
from workbench.lab.results import Model

MIN_SEEDS = 3


class SeedComparison(Comparison):
    """A difference of two variants; ``by_seed`` are the means of each seed's."""

    by_seed: list[float]


class VariantResult(Model):
    """A variant.

    Attributes:
        key, label: its names; ``about``: the studies that it is part of (``table 3``, ``figure 5c``, ``inputs``).
        attention, encoders, metadata, fixed: what it is, see :class:`workbench.judge.ablation.variants.Variant`.
        runs: its train runs, a seed each.
        figures: each metric; ``by_seed``: its mean of each seed.
        over_reference: what it gains over the reference, by metric; empty of the reference itself.
        held_out_loss: of each training; ``weights``: of the network; ``gflop_2048x1536``: of a pass.
    """

    key: str
    label: str
    about: list[str]
    attention: Attention
    encoders: int
    metadata: bool
    fixed: bool
    runs: list[str]
    figures: dict[str, Interval]
    by_seed: dict[str, list[float]]
    over_reference: dict[str, SeedComparison] = Field(default_factory=dict)
    held_out_loss: list[float | None]
    weights: int
    gflop_2048x1536: float


class OrderStep(Model):
    """A step of table 3's order: what ``higher`` gains over ``lower`` in the first metric."""

    lower: str
    higher: str
    gain: SeedComparison


class ScatterParameter(Model):
    """A parameter of figure 5b; ``held``: whether training held it; None where an old record does not tell."""

    name: str
    block: str
    unit: str
    held: bool | None = None


class ScatterPoint(Model):
    """A RAW of figure 5b with its values in native units, one a parameter."""

    raw: str
    iso: float | None
    values: list[float | int | str | bool]


class Scatter(Model):
    """Figure 5b: what a variant (``key``) of a seed predicts in two parameters."""

    key: str
    seed: int
    parameters: list[ScatterParameter]
    rank_correlation_with_iso: list[float | None]
    points: list[ScatterPoint] = Field(default_factory=list)


class AttentionDrawn(Model):
    """Figure 6: whose attention was drawn for which parameters of which RAW."""

    raw: str
    seed: int
    parameters: list[str]
    variants: list[str]


class AblatedRaw(Model):
    """A RAW with every variant's figures: variant → metric → a value a seed."""

    name: str
    hash: str
    scene: str
    iso: float | None
    variants: dict[str, dict[str, list[float]]]


class AblationResult(Compared):
    """What ``ablate`` records.

    Attributes:
        seeds, steps: of the trainings; ``proxy``: the run that they went through.
        held: parameters that the trainings held at their start values.
        reference: key of what the others are compared with.
        table: the variants; ``order``: table 3's order, step by step.
        scatter, attention: None where there was nothing to draw; ``figures``: names of the files drawn.
        per_raw: empty in the run's record.
    """

    WHAT: ClassVar[str] = "a study of ablations"

    seeds: list[int]
    steps: int
    proxy: str | None
    held: list[str] = Field(default_factory=list)
    reference: str
    table: list[VariantResult]
    order: list[OrderStep] = Field(default_factory=list)
    scatter: Scatter | None = None
    attention: AttentionDrawn | None = None
    figures: list[str] = Field(default_factory=list)
    per_raw: list[AblatedRaw] = Field(default_factory=list)

    @classmethod
    def upgraded(cls, data: Any) -> Any:
        """See :mod:`workbench.judge.ablation.format1`."""
        from workbench.judge.ablation.format1 import upgraded

        return upgraded(data) if data["format"] == 1 else data

    @property
    def depths(self) -> list[VariantResult]:
        """Figure 5c: the variants of it, the fewest encoders first."""
        return sorted((row for row in self.table if "figure 5c" in row.about), key=lambda row: row.encoders)

    def stacked(self, key: str, metric: str) -> np.ndarray:
        """A metric of a variant that single RAWs have: ``float64 [S, R]`` of S seeds and R RAWs."""
        return np.array([raw.variants[key][metric] for raw in self.per_raw], dtype=float).T

    def brief(self) -> dict[str, Any]:
        """What the run's record holds: all but what is long."""
        return self.model_copy(update={"per_raw": [], "scatter": None}).to_json()
