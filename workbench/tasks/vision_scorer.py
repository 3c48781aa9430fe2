"""Scores parameter sets by what a detector finds in the device's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.errors import RunError
from workbench.lab.dataset import CaptureRecord, RawRecord
from workbench.tasks.coco import coco_scores
from workbench.tasks.vision import VISION_METRICS, VisionTask

# Below any value: mAP is in [0, 1], and a loss of e^30 no detector has.
WORST = {"map50": -1.0, "map": -1.0, "detector-loss": -30.0}


class VisionScorer:
    """COCO's mAP over the captures of one set (``map50``, ``map``), or minus the mean logarithm of the detector's loss.

    mAP belongs to a set of images, not to one: a capture's own score is what was found in it, and :meth:`combine`
    makes one figure of those.

    Raises:
        RunError: unknown metric.
    """

    def __init__(self, task: VisionTask, metric: str = "map50") -> None:
        if metric not in VISION_METRICS:
            raise RunError(f"metric {metric!r} is not one of {', '.join(VISION_METRICS)}, those of task {task.name}")
        self._task, self._metric = task, metric
        self.worst = WORST[metric]
        self._known: dict[tuple[str, str], Any] = {}

    def __call__(self, raw: RawRecord, capture: CaptureRecord) -> Any:
        """What :meth:`combine` needs of a capture: the detector's results, or its loss."""
        key = (raw.hash, capture.output_hash)
        if key not in self._known:
            pixels = capture.rgb().pixels
            if self._metric == "detector-loss":
                self._known[key] = self._task.log_loss_of(pixels, self._task.targets([raw])[raw.hash])
            else:
                self._known[key] = (raw, self._task.results(0, pixels))
        return self._known[key]

    def combine(self, values: Sequence[Any]) -> float:
        """The score of one parameter set; higher is better."""
        if self._metric == "detector-loss":
            return float(-sum(values) / len(values))
        results = [{**entry, "image_id": i} for i, (_, found) in enumerate(values, 1) for entry in found]
        return coco_scores(self._task.truth([raw for raw, _ in values]), results, self._task.kind)[self._metric]
