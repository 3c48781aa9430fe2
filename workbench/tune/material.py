"""Which RAWs a search looks at, and how an output is scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from cachetools import LRUCache, cached

from drivers.splits import Split
from workbench.errors import RunError
from workbench.lab.dataset import CaptureRecord, Dataset, RawRecord
from workbench.tasks import viewing

Metric = Literal["psnr", "ssim"]
METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"psnr": viewing.psnr, "ssim": viewing.ssim}
# What a capture costs, as its record says: seconds inside the device, bytes of the output.
COSTS: dict[str, Callable[[CaptureRecord], float]] = {
    "latency": lambda capture: capture.device_s,
    "bytes": lambda capture: float(len(capture.rgb().encoded)),
}
UNITS = {"psnr": "dB", "latency": "s", "bytes": "bytes"}
_CACHE_BYTES = 512 * 2**20
# What a set counts in a search of which a frame failed: below any value that the metric can have.
WORST = {"psnr": -1.0, "ssim": -2.0}
WORST_COST = -1e12


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


def stratified(raws: Sequence[RawRecord], count: int, seed: int, *, taken: Sequence[RawRecord] = ()) -> list[RawRecord]:
    """A fixed choice of ``count`` RAWs spread evenly over ISO and over scenes.

    The RAWs are put in order of ISO and cut into ``count`` equal runs; from each run one is drawn whose scene has been
    used least.

    Args:
        raws: what to choose from; all are returned where there are no more than ``count``.
        count: how many.
        seed: the same seed and RAWs give the same choice.
        taken: RAWs chosen already: they are not chosen again, and their scenes count as used.
    """
    used = Counter(r.scene for r in taken)
    out = {r.hash for r in taken}
    rest = [r for r in raws if r.hash not in out]
    if len(rest) <= count:
        return rest
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rest))
    ranked = sorted(order, key=lambda i: rest[i].iso or 0.0)
    chosen = []
    for run in np.array_split(np.array(ranked), count):
        raw = min((rest[i] for i in run), key=lambda r: used[r.scene])
        used[raw.scene] += 1
        chosen.append(raw)
    return chosen


def _reference(raw: RawRecord) -> np.ndarray:
    image = raw.reference()
    if image is None:
        raise RunError(f"{raw.name}: has no reference image to score against")
    return image


class Scorer:
    """Scores captures against the references of their RAWs; references are kept in memory up to 512 MiB."""

    def __init__(self, metric: str = "psnr") -> None:
        if metric not in METRICS:
            raise RunError(
                f"metric {metric!r} is not one of {', '.join(METRICS)}; a detector's needs --task detection or "
                f"segmentation, and a cost ({', '.join(COSTS)}) comes after another metric, for nsga2 or worst-rank"
            )
        self._metric = METRICS[metric]
        self.worst = WORST[metric]
        # A reference that is larger than the memory for all of them is kept alone.
        references = LRUCache[str, np.ndarray](_CACHE_BYTES, getsizeof=lambda image: min(image.nbytes, _CACHE_BYTES))
        self._reference = cached(references, key=lambda raw: raw.hash)(_reference)

    def reference(self, raw: RawRecord) -> np.ndarray:
        """The reference of a RAW, ``uint8 [H, W, 3]``.

        Raises:
            RunError: it has none.
        """
        return self._reference(raw)

    def __call__(self, raw: RawRecord, capture: CaptureRecord) -> float:
        """The metric of a capture of that RAW; higher is better."""
        return self._metric(capture.rgb().pixels, self.reference(raw))

    def combine(self, values: Sequence[float]) -> float:
        """The score of one parameter set from those of its captures: their mean."""
        return sum(values) / len(values)


class CostScorer:
    """What captures cost, with a minus, so that higher is better: one of :data:`COSTS`, the mean over a set's captures.

    Raises:
        RunError: unknown metric.
    """

    def __init__(self, metric: str) -> None:
        if metric not in COSTS:
            raise RunError(f"metric {metric!r} is not one of {', '.join((*METRICS, *COSTS))}")
        self._cost = COSTS[metric]
        self.worst = WORST_COST

    def __call__(self, raw: RawRecord, capture: CaptureRecord) -> float:
        """Minus the cost of a capture."""
        return -self._cost(capture)

    def combine(self, values: Sequence[float]) -> float:
        """Minus the mean cost."""
        return sum(values) / len(values)


class SetScorer(Protocol):
    """Scores captures, and of those of one parameter set makes its score, in one metric or in several.

    Attributes:
        worst: what a set counts in a search of which a frame failed, below any score.
    """

    @property
    def worst(self) -> float | tuple[float, ...]:
        """What a set counts that failed, in each metric."""

    def __call__(self, raw: RawRecord, capture: CaptureRecord) -> Any:
        """What :meth:`combine` needs of a capture of that RAW."""

    def combine(self, values: Sequence[Any]) -> float | tuple[float, ...]:
        """The score of a set; higher is better."""


class SeveralScorers:
    """Several metrics as one scorer; the first is the most important."""

    def __init__(self, scorers: Sequence[SetScorer]) -> None:
        self._scorers = tuple(scorers)
        self.worst = tuple(float(scorer.worst) for scorer in scorers)  # type: ignore[arg-type]

    def __call__(self, raw: RawRecord, capture: CaptureRecord) -> tuple[Any, ...]:
        """What each metric needs of a capture."""
        return tuple(scorer(raw, capture) for scorer in self._scorers)

    def combine(self, values: Sequence[tuple[Any, ...]]) -> tuple[float, ...]:
        """The score in each metric."""
        return tuple(
            float(scorer.combine(column))  # type: ignore[arg-type]
            for scorer, column in zip(self._scorers, zip(*values, strict=True), strict=True)
        )
