"""COCO's mAP of resampled images, for intervals: pycocotools matches once, each resample only counts again.

mAP is no mean over images, so its interval cannot come from per-image figures. An image drawn twice counts twice, with
its objects and its detections; categories without an object in a resample are left out of its mean, as COCO does.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.tasks.coco import Kind

# Resamples that are counted at once, so that memory stays bounded.
_AT_ONCE = 500
_RECALLS = np.linspace(0, 1, 101)
# Places of IoU 0.5 and 0.75 among 0.50, 0.55 … 0.95.
_AT = {"map50": 0, "map75": 5}


@dataclass(frozen=True)
class _Category:
    """Detections of one category by falling score, D of them, and its objects.

    Attributes:
        image: ``int [D]``, the place of each detection's image, or of its scene.
        hit, miss: ``bool [T, D]`` at each IoU; a detection of an ignored object is neither.
        objects: ``float64 [images]``, objects to find in each image, or scene.
    """

    image: np.ndarray
    hit: np.ndarray
    miss: np.ndarray
    objects: np.ndarray


class Matches:
    """The detections of a data set, matched to its objects.

    Args:
        truth: the data set in COCO format, image ids 1..n.
        results: entries of COCO's result format.
        kind: boxes or masks.
    """

    def __init__(self, truth: dict[str, Any], results: Sequence[dict[str, Any]], kind: Kind) -> None:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        self.images = len(truth["images"])
        self._categories: list[_Category] = []
        with contextlib.redirect_stdout(io.StringIO()):
            expected = COCO()
            expected.dataset = {**truth, "info": {}, "annotations": [dict(a) for a in truth["annotations"]]}
            expected.createIndex()
            found = expected.loadRes([dict(entry) for entry in results]) if results else COCO()
            evaluation = COCOeval(expected, found, kind)
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
            evaluation.params.imgIds = list(range(1, self.images + 1))
            evaluation.params.catIds = sorted(expected.getCatIds())
            evaluation.evaluate()
        by_category = np.array([*evaluation.evalImgs, None], dtype=object)[:-1].reshape(-1, self.images)
        self._categories = [c for row in by_category if (c := _category(row)) is not None]

    def scores(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """``map``, ``map50`` and ``map75`` of resamples.

        Args:
            counts: ``[R, images]``, how often each image is drawn; ones give pycocotools' own figures.

        Returns:
            name → ``float [R]``; NaN where a resample has no object.
        """
        # Images of one scene are always drawn together, so they count as one: a product over scenes, not over images.
        counts, scene = np.unique(counts, axis=1, return_inverse=True)
        categories = [_by_scene(category, scene.reshape(-1), counts.shape[1]) for category in self._categories]
        total, defined = np.zeros((len(counts), 10)), np.zeros(len(counts))
        for start in range(0, len(counts), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            for category in categories:
                objects = counts[part] @ category.objects
                total[part] += np.where(objects[:, None] > 0, _precision(category, counts[part], objects), 0)
                defined[part] += objects > 0
        with np.errstate(invalid="ignore"):
            each = total / defined[:, None]
        return {"map": each.mean(1), **{name: each[:, place] for name, place in _AT.items()}}


def _by_scene(category: _Category, scene: np.ndarray, scenes: int) -> _Category:
    """A category whose places are of scenes: ``scene`` is ``int [images]``."""
    objects = np.bincount(scene, category.objects, scenes)
    return _Category(scene[category.image], category.hit, category.miss, objects)


def _category(row: np.ndarray) -> _Category | None:
    """One category's matches from pycocotools' entries of each image; None where there is no object of it."""
    entries = [(i, e) for i, e in enumerate(row) if e is not None]
    objects = np.zeros(len(row))
    for i, e in entries:
        objects[i] = np.count_nonzero(np.asarray(e["gtIgnore"]) == 0)
    if not objects.any():
        return None
    scores = np.concatenate([np.asarray(e["dtScores"], dtype=float) for _, e in entries])
    # A stable sort, as pycocotools', so that equal scores keep their order.
    order = np.argsort(-scores, kind="mergesort")
    image = np.concatenate([np.full(len(e["dtScores"]), i) for i, e in entries])[order]
    matched = np.concatenate([np.asarray(e["dtMatches"]) for _, e in entries], axis=1)[:, order] > 0
    ignored = np.concatenate([np.asarray(e["dtIgnore"]) for _, e in entries], axis=1)[:, order].astype(bool)
    return _Category(image.astype(int), matched & ~ignored, ~matched & ~ignored, objects)


def _precision(category: _Category, counts: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Average precision ``[R, T]`` over 101 recalls.

    Recall rises, and the precision that COCO takes for a recall lies, at hits alone; so only the hits of each IoU are
    followed through the resamples: how many of the 101 recalls each hit reaches first, times the precision there.
    """
    out = np.zeros((len(counts), len(category.hit)))
    # float32 would do, but sums of small integers are exact and the figures are pycocotools' own.
    for t, (hit, miss) in enumerate(zip(category.hit, category.miss, strict=True)):
        at = np.flatnonzero(hit)
        if not len(at):
            continue
        # Detections before each hit that missed, by image: what a resample draws of them is one product.
        hits = np.cumsum(counts[:, category.image[at]], 1)
        misses = counts @ _before(category.image[miss], np.searchsorted(np.flatnonzero(miss), at), counts.shape[1])
        recall = hits / np.maximum(objects, 1)[:, None]
        precision = hits / np.maximum(hits + misses, np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        reached = np.searchsorted(_RECALLS, recall, side="right")
        reached[:, 1:] -= reached[:, :-1].copy()
        out[:, t] = (reached * precision).sum(1) / len(_RECALLS)
    return out


def _before(images: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Of the first ``places[k]`` of a list of images how many are each image: ``float64 [count, K]``."""
    step = np.zeros((count, len(places) + 1))
    np.add.at(step, (images, np.searchsorted(places, np.arange(len(images)), side="right")), 1)
    return np.cumsum(step, 1)[:, :-1]
