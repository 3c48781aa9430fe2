"""What an image is for: the interface that human viewing, the detectors' tasks and a user's own task share.

A task says which RAWs it can judge, what it makes of an image of one, and the loss that trains for it (equation 4).
Everything that compares (``judge``), searches (``tune``) or trains (``learn``) asks it and knows no task by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from drivers.splits import Split
from predictor.training import TrainingData
from predictor.view import View
from workbench.lab.dataset import CaptureRecord, Dataset, RawRecord

Starts = Mapping[str, Tensor]
"""What a rule gives for each RAW, by the RAW's hash: ``float32 [N]`` in [0, 1]."""


@dataclass(frozen=True)
class Metric:
    """A figure that a task judges by.

    Attributes:
        key: names it in results, ``psnr``; ``label``: for people, ``PSNR``; ``unit``: ``dB``, or empty.
        higher_is_better: its direction.
        decimals: how many people are shown.
        per_raw: whether one image has it; of mAP only a set of images does.
        aside: whether tables of text show it in a second one, for want of room.
    """

    key: str
    label: str
    unit: str = ""
    higher_is_better: bool = True
    decimals: int = 3
    per_raw: bool = True
    aside: bool = False

    @property
    def title(self) -> str:
        """Label and unit, ``PSNR (dB)``."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1: a difference times it is a gain."""
        return 1 if self.higher_is_better else -1

    def form(self, signed: bool = False) -> str:
        """How to format a value of it, ``.2f`` or ``+.2f``."""
        return f"{'+' if signed else ''}.{self.decimals}f"


@dataclass(frozen=True)
class Judgement:
    """What a task makes of one image.

    Attributes:
        figures: by metric, of those that one image has.
        found: what the other metrics need of it, in the task's own form.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    found: Any = None


class SetScorer(Protocol):
    """Scores captures in a search, and of those of one parameter set makes its score, in one metric or in several.

    Attributes:
        worst: what a set counts of which a frame failed, below any score.
    """

    @property
    def worst(self) -> float | tuple[float, ...]:
        """What a set counts that failed, in each metric."""

    def __call__(self, raw: RawRecord, capture: CaptureRecord) -> Any:
        """What :meth:`combine` needs of a capture of that RAW."""

    def combine(self, values: Sequence[Any]) -> float | tuple[float, ...]:
        """The score of a set; higher is better."""


class Task(Protocol):
    """A task."""

    @property
    def name(self) -> str:
        """As it is asked for, ``viewing``."""

    @property
    def key(self) -> str:
        """What its runs are known by: the name, and where there is one the judge (``detection:yolov3``)."""

    @property
    def detector_name(self) -> str | None:
        """What judges, as it was asked for; None where that is the reference."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What it judges by; the first is what methods are compared by, and one at least is of single images."""

    @property
    def search_metrics(self) -> tuple[str, ...]:
        """What a search may be for."""

    @property
    def ceiling(self) -> str | None:
        """Label of what the references themselves are judged at, a bound; None where that says nothing."""

    @property
    def loss_name(self) -> str:
        """The loss for people, ``L2``."""

    @property
    def notes(self) -> list[str]:
        """What must not go unsaid; grows."""

    def raws(self, dataset: Dataset, split: Split) -> list[RawRecord]:
        """The RAWs of a split that it can judge.

        Raises:
            RunError: there is none, or one cannot be judged as it is.
        """

    def facts(self, raws: Sequence[RawRecord]) -> dict[str, int]:
        """What there is to judge in RAWs of :meth:`raws`, counted (``objects``); empty where there is nothing to count.

        Raises:
            RunError: there is nothing to judge in any of them.
        """

    def judge(self, raw: RawRecord, pixels: np.ndarray) -> Judgement:
        """What it makes of an image ``uint8 [H, W, 3]`` of a RAW of :meth:`raws`; of the same image always the same."""

    def of_sets(
        self, raws: Sequence[RawRecord], judgements: Sequence[Judgement], counts: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The metrics that only a set of images has.

        Args:
            raws: the R RAWs; ``judgements``: of an image of each.
            counts: ``float64 [N, R]``, how often each counts in each of N sets.

        Returns:
            metric → ``float64 [N]``; NaN where a set has none.
        """

    def scorer(self, metric: str, raws: Sequence[RawRecord]) -> SetScorer:
        """Scores captures of RAWs of :meth:`raws` in a search for a metric of :attr:`search_metrics`.

        Raises:
            RunError: unknown metric.
        """

    def training_data(
        self,
        training: Sequence[RawRecord],
        held_out: Sequence[RawRecord],
        *,
        vary: bool,
        seed: int,
        starts: Starts | None = None,
        view: View = View(),  # noqa: B008 (frozen)
    ) -> TrainingData:
        """Examples to train a predictor on, of RAWs of :meth:`raws`.

        Args:
            training: of the training split; ``held_out``: of the validation split.
            vary: whether to vary the training examples as a camera would.
            seed: of fixed choices.
            starts: on top of a rule, which is when it is given: what each example's ``start`` is. Light is not varied
                then, since the start would not follow.
            view: what the predictor sees, and is told, of each RAW. Told statistics follow the metadata, and the data
                then has them of the training RAWs as ``statistics``, ``float32 [R, S]``.

        Raises:
            RunError: they cannot be learnt from.
        """

    def held_out(self, dataset: Dataset) -> list[RawRecord]:
        """The RAWs of the validation split that training looks at; empty where there is none."""

    def loss(self, output: Tensor, target: Any) -> Tensor:
        """Equation 4's loss of images ``float32 [B, 3, H, W]`` in [0, 1], averaged; differentiable."""

    def log_loss(self, output: Tensor, target: Any) -> Tensor:
        """The mean logarithm of each image's loss, by which recipe ``fast`` trains."""

    def record(self) -> dict[str, Any] | None:
        """What :attr:`TaskKind.reopen` opens the same task from; None where its name says all."""

    def picture(self, rows: Sequence[PictureRow], titles: Sequence[str]) -> str | None:
        """What it sees, as SVG: a row a RAW, a column a method; None where the images speak for themselves."""


@dataclass(frozen=True)
class PictureRow:
    """A RAW to draw, with the captures of the methods that are drawn."""

    raw: RawRecord
    captures: tuple[CaptureRecord, ...]


@dataclass(frozen=True)
class TaskOptions:
    """What a task may be opened with.

    Attributes:
        detector: what judges, see :func:`workbench.tasks.detectors.open_detector`.
        annotations: the objects in the RAWs, COCO format.
        viewing_weight: weight of the L2 loss to the reference beside the detector's loss.
        loss: of human viewing, one of :class:`workbench.tasks.loss_names.ViewingLoss`.
    """

    detector: str | None = None
    annotations: Path | None = None
    viewing_weight: float = 0.0
    loss: str | None = None

    def given(self) -> list[str]:
        """The command line's names of those that are given and of a detector."""
        options = {
            "--detector": self.detector,
            "--annotations": self.annotations,
            "--viewing-weight": self.viewing_weight,
        }
        return [name for name, value in options.items() if value]


@dataclass(frozen=True)
class TaskKind:
    """A task that can be asked for by name: an entry point of the group ``isp_workbench.tasks`` names one.

    Attributes:
        open: the task with options.
        reopen: the task of what :meth:`Task.record` gave.
        options: whether it takes any.
    """

    open: Callable[[TaskOptions], Task]
    reopen: Callable[[Mapping[str, Any]], Task]
    options: bool = True


def of_raws(metrics: Collection[Metric]) -> Metric:
    """The first metric that a single RAW has: what methods are compared by RAW by RAW."""
    return next(m for m in metrics if m.per_raw)
