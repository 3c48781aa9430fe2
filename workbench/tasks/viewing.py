"""Human viewing: how near an output is to its reference (section 5.4: judged by PSNR, SSIM and others)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from cachetools import LRUCache, cached
from torch import Tensor

from drivers.frames import RawFrame
from drivers.splits import Split
from predictor.training import TrainingData
from predictor.view import View
from workbench.console.progress import each
from workbench.errors import RunError
from workbench.lab.dataset import CaptureRecord, Dataset, RawRecord
from workbench.tasks import viewing_losses as losses
from workbench.tasks.loss_names import ViewingLoss
from workbench.tasks.task import Judgement, PictureRow, SetScorer, Starts, TaskKind, TaskOptions
from workbench.tasks.viewing_metrics import FUNCTIONS, METRICS, score

# What a set counts in a search of which a frame failed: below any value that the metric can have, in the search's sign.
WORST = {
    "psnr": -1.0,
    "ssim": -2.0,
    "aligned_psnr": -1.0,
    "delta_e": -1e3,
    "gradient_error": -1e3,
    "texture_lost": -2.0,
}
_CACHE_BYTES = 512 * 2**20


def referenced_raws(dataset: Dataset, split: Split) -> list[RawRecord]:
    """The RAWs of a split that have a reference.

    Raises:
        RunError: there is none.
    """
    raws = [r for r in dataset.raws(split) if r.has_reference]
    if not raws:
        have = len(dataset.raws(split))
        if not have:
            raise RunError(
                f"the data set has no RAW in the {split} split; run `workbench collect` on RAWs of more scenes, or "
                "name splits in the scenes.csv of a new lab's RAW folder"
            )
        raise RunError(
            f"the data set has {have} {split} RAWs and none has a reference image; add references (scenes.csv or "
            "NAME.reference.png) and run `workbench collect` again"
        )
    return raws


class Scorer:
    """Scores captures against the references of their RAWs, by one of the task's metrics; it computes that one alone.

    Raises:
        RunError: unknown metric.
    """

    def __init__(self, metric: str = "psnr") -> None:
        if metric not in WORST:
            raise RunError(
                f"metric {metric!r} is not one of {', '.join(WORST)}; a detector's needs --task detection or "
                "segmentation, and a cost (latency, bytes) comes after another metric, for nsga2 or worst-rank"
            )
        self._metric = FUNCTIONS[metric]
        self._sign = next(m.sign for m in METRICS if m.key == metric)
        self.worst = WORST[metric]
        self._references = References()

    def __call__(self, raw: RawRecord, capture: CaptureRecord) -> float:
        """The metric of a capture of that RAW, with a minus where lower is better: higher scores are better."""
        return self._sign * self._metric(capture.rgb().pixels, self._references(raw))

    def combine(self, values: Sequence[float]) -> float:
        """The score of one parameter set from those of its captures: their mean."""
        return sum(values) / len(values)


class References:
    """The references of RAWs, ``uint8 [H, W, 3]``, kept in memory up to 512 MiB."""

    def __init__(self) -> None:
        # A reference that is larger than the memory for all of them is kept alone.
        kept = LRUCache[str, np.ndarray](_CACHE_BYTES, getsizeof=lambda image: min(image.nbytes, _CACHE_BYTES))
        self._read = cached(kept, key=lambda raw: raw.hash)(_reference)

    def __call__(self, raw: RawRecord) -> np.ndarray:
        """The reference of a RAW.

        Raises:
            RunError: it has none.
        """
        return self._read(raw)


def _reference(raw: RawRecord) -> np.ndarray:
    image = raw.reference()
    if image is None:
        raise RunError(f"{raw.name}: has no reference image to score against")
    return image


class ViewingTask:
    """Human viewing as a task; see :class:`workbench.tasks.task.Task`. It is judged against each RAW's reference."""

    name = key = "viewing"
    detector_name = None
    metrics = METRICS
    search_metrics = tuple(WORST)
    ceiling = None

    def __init__(self, loss: str = ViewingLoss.l2) -> None:
        self._loss = ViewingLoss(loss)
        self.notes: list[str] = []
        self._references = References()

    def raws(self, dataset: Dataset, split: Split) -> list[RawRecord]:
        """The RAWs of a split that have a reference; see :func:`referenced_raws`."""
        return referenced_raws(dataset, split)

    def held_out(self, dataset: Dataset) -> list[RawRecord]:
        """The RAWs of the validation split, whether they have a reference or not."""
        return dataset.raws(Split.VALIDATION)

    def facts(self, raws: Sequence[RawRecord]) -> dict[str, int]:
        """Nothing to count."""
        return {}

    def judge(self, raw: RawRecord, pixels: np.ndarray) -> Judgement:
        """All of :mod:`workbench.tasks.viewing_metrics` to the reference."""
        return Judgement(score(pixels, self._references(raw)))

    def of_sets(
        self, raws: Sequence[RawRecord], judgements: Sequence[Judgement], counts: np.ndarray
    ) -> dict[str, np.ndarray]:
        """None: a single image has all metrics."""
        return {}

    def scorer(self, metric: str, raws: Sequence[RawRecord]) -> SetScorer:
        """See :class:`Scorer`."""
        return Scorer(metric)

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
        """Crops of RAWs with those of their references."""
        from workbench.tasks.viewing_data import ViewingData

        return ViewingData(
            with_references(training), with_references(held_out), vary=vary, seed=seed, starts=starts, view=view
        )

    @property
    def aims(self) -> tuple[str, ...]:
        """Keys of the metrics that the loss is to make better."""
        return ("psnr",) if self._loss is ViewingLoss.l2 else ("psnr", "ssim")

    @property
    def loss_name(self) -> str:
        """The loss for people."""
        return "L2" if self._loss is ViewingLoss.l2 else "L2 + structure"

    def loss(self, output: Tensor, target: Any) -> Tensor:
        """See :mod:`workbench.tasks.viewing_losses`."""
        return (losses.l2 if self._loss is ViewingLoss.l2 else losses.detail)(output, target)

    def log_loss(self, output: Tensor, target: Any) -> Tensor:
        """See :mod:`workbench.tasks.viewing_losses`."""
        return (losses.log_l2 if self._loss is ViewingLoss.l2 else losses.log_detail)(output, target)

    def record(self) -> dict[str, Any] | None:
        """The loss where it is not L2, which the name alone says."""
        return None if self._loss is ViewingLoss.l2 else {"loss": self._loss.value}

    def picture(self, rows: Sequence[PictureRow], titles: Sequence[str]) -> str | None:
        """None: the outputs themselves are what is looked at."""
        return None


def with_references(records: Sequence[RawRecord]) -> Iterator[tuple[RawFrame, np.ndarray]]:
    """RAW frame and reference of each record that has one, one at a time: large frames would not fit together.

    Raises:
        RunError: a reference is not of its RAW's size.
    """
    for record in each("read RAWs", records):
        raw, reference = record.load(), record.reference()
        if reference is None:
            continue
        if reference.shape[:2] != (raw.height, raw.width):
            raise RunError(
                f"{record.name}: its reference is {reference.shape[1]}×{reference.shape[0]}, the RAW "
                f"{raw.width}×{raw.height}; training needs references of the RAW's size"
            )
        yield raw, reference


def _open(options: TaskOptions) -> ViewingTask:
    return ViewingTask(options.loss or ViewingLoss.l2)


def _reopen(record: Mapping[str, Any]) -> ViewingTask:
    loss = record.get("loss", ViewingLoss.l2)
    if loss not in list(ViewingLoss):
        raise RunError(f"the record's loss {loss!r:.60} is not one of {', '.join(ViewingLoss)}; put the record back")
    return ViewingTask(loss)


VIEWING = TaskKind(_open, _reopen, options=False)
