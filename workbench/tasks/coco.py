"""COCO-format data sets: moving annotations into a RAW's frame, targets of a loss, and the COCO scores.

:mod:`workbench.tasks.coco_file` reads them.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from drivers.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.tasks.detectors import Prediction, Target

ANNOTATIONS = "annotations.json"
Kind = Literal["bbox", "segm"]
# The first three of COCO's twelve figures, by the paper's names.
SCORES = {"map": 0, "map50": 1, "map75": 2}
LEAST_SIDE = 1e-3
"""Pixels; a box with a shorter side has no area: what is written would round it away, and nothing could find it."""


class CocoError(WorkbenchError):
    """A COCO-format file that cannot be read or contradicts itself."""


@dataclass(frozen=True)
class Annotation:
    """One object in one image.

    Attributes:
        category_id: what it is.
        box: left, top, width, height in pixels.
        area: of its mask, pixels; decides whether it counts as small, medium or large.
        crowd: a region of many such objects, which COCO neither trains on nor counts.
        segmentation: polygons ``[[x, y, x, y, …], …]``, or run-length encoding ``{"size": [H, W], "counts": …}``; None
            where only the box is known.
    """

    category_id: int
    box: tuple[float, float, float, float]
    area: float
    crowd: bool = False
    segmentation: list[list[float]] | dict[str, Any] | None = None


@dataclass(frozen=True)
class AnnotatedImage:
    """One image of a data set.

    Attributes:
        id: unique in its data set.
        file: path of the file below the folder of images.
        width: pixels.
        height: pixels.
        annotations: its objects.
        more: the other keys of its entry, such as ``license``.
        raw_hash: the content hash of the RAW that the image is, where the entry says it.
    """

    id: int
    file: str
    width: int
    height: int
    annotations: tuple[Annotation, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)
    raw_hash: str | None = None


@dataclass(frozen=True)
class CocoSet:
    """A data set: images sorted by id, ``categories`` as id → entry, and its licences.

    Attributes:
        path: the annotation file.
        images: sorted by id.
        categories: id → its entry with at least ``id`` and ``name``.
        licenses: as in the file.
        notes: what is odd in the file, one line a kind.
    """

    path: Path
    images: tuple[AnnotatedImage, ...]
    categories: dict[int, dict[str, Any]]
    licenses: list[Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fit:
    """How an image becomes a frame: its top-left part ``crop``, scaled to ``size``; both width, height in pixels."""

    crop: tuple[int, int]
    size: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Frame pixels an image pixel, across and down."""
        return self.size[0] / self.crop[0], self.size[1] / self.crop[1]


def fit(width: int, height: int, longest: int) -> Fit:
    """The largest frame with even sides whose longer side is at most ``longest`` pixels; nothing is enlarged.

    An image that is small enough loses an odd last row or column. A larger one is scaled whole, each side to the
    nearest even number, so the two scales may differ by a pixel's worth.
    """
    if max(width, height) <= longest:
        size = (max(width // 2 * 2, 2), max(height // 2 * 2, 2))
        return Fit(size, size)
    scale = longest // 2 / max(width, height)
    return Fit((width, height), (max(round(width * scale), 1) * 2, max(round(height * scale), 1) * 2))


def fitted(image: AnnotatedImage, how: Fit) -> AnnotatedImage:
    """An image's annotations in the pixels of its frame; what the crop leaves nothing of is gone."""
    width, height = how.size
    across, down = how.scale
    moved = []
    for annotation in image.annotations:
        x, y, w, h = annotation.box
        left, top = (min(max(v, 0.0), side) for v, side in ((x * across, width), (y * down, height)))
        right, bottom = (min(max(v, 0.0), side) for v, side in (((x + w) * across, width), ((y + h) * down, height)))
        if min(right - left, bottom - top) < LEAST_SIDE:
            continue
        # What clipping took from the box, it took from the mask, near enough: at most a row and a column.
        kept = (right - left) * (bottom - top) / (w * across * h * down)
        moved.append(
            replace(
                annotation,
                box=(left, top, right - left, bottom - top),
                area=annotation.area * across * down * kept,
                segmentation=_moved_mask(annotation.segmentation, how),
            )
        )
    return replace(image, width=width, height=height, annotations=tuple(moved))


def _moved_mask(segmentation: Any, how: Fit) -> Any:
    if segmentation is None:
        return None
    across, down = how.scale
    if isinstance(segmentation, list):
        return [[float(v) * (down if i % 2 else across) for i, v in enumerate(polygon)] for polygon in segmentation]
    import cv2

    mask = decode_mask(segmentation, *segmentation["size"])[: how.crop[1], : how.crop[0]]
    if how.size != how.crop:
        mask = cv2.resize(mask.astype(np.float32), how.size, interpolation=cv2.INTER_AREA) >= 0.5
    return encode_mask(mask)


def decode_mask(segmentation: list[list[float]] | dict[str, Any], height: int, width: int) -> np.ndarray:
    """The pixels of a segmentation as ``bool [height, width]``; pycocotools' own rasterisation."""
    from pycocotools import mask as rle

    return np.asarray(rle.decode(_runs(segmentation, height, width)), bool)


def mask_area(segmentation: list[list[float]] | dict[str, Any], height: int, width: int) -> int:
    """How many pixels :func:`decode_mask` gives."""
    from pycocotools import mask as rle

    return int(rle.area(_runs(segmentation, height, width)))


def _runs(segmentation: list[list[float]] | dict[str, Any], height: int, width: int) -> Any:
    from pycocotools import mask as rle

    if isinstance(segmentation, list):
        return rle.merge(rle.frPyObjects(segmentation, height, width))
    return rle.frPyObjects(segmentation, height, width) if isinstance(segmentation["counts"], list) else segmentation


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A mask ``bool [H, W]`` as COCO's compressed run-length encoding, fit for JSON."""
    from pycocotools import mask as rle

    encoded = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def coco_dict(
    images: Iterable[AnnotatedImage], categories: dict[int, dict[str, Any]], licenses: Sequence[Any] = ()
) -> dict[str, Any]:
    """The data set in COCO format, annotations numbered from 1 (pycocotools takes id 0 for none)."""
    data: dict[str, Any] = {
        "licenses": list(licenses),
        "categories": [categories[number] for number in sorted(categories)],
        "images": [],
        "annotations": [],
    }
    for image in images:
        known = {} if image.raw_hash is None else {"raw_hash": image.raw_hash}
        size = {"width": image.width, "height": image.height}
        data["images"].append({"id": image.id, "file_name": image.file, **size, **image.more, **known})
        for annotation in image.annotations:
            entry: dict[str, Any] = {
                "id": len(data["annotations"]) + 1,
                "image_id": image.id,
                "category_id": annotation.category_id,
                "bbox": [round(v, 4) for v in annotation.box],
                "area": round(annotation.area, 4),
                "iscrowd": int(annotation.crowd),
            }
            if annotation.segmentation is not None:
                rounded = annotation.segmentation
                if isinstance(rounded, list):
                    rounded = [[round(v, 4) for v in polygon] for polygon in rounded]
                entry["segmentation"] = rounded
            data["annotations"].append(entry)
    return data


def target_of(image: AnnotatedImage, *, masks: bool = False) -> Target:
    """What a detector's loss is to find in an image: its objects, less crowds and boxes without area.

    Args:
        image: with its annotations.
        masks: also the masks; an object without one is then left out.
    """
    import torch

    from workbench.tasks.detectors import Target

    wanted = [a for a in image.annotations if not a.crowd and min(a.box[2:]) > 0]
    if masks:
        wanted = [a for a in wanted if a.segmentation is not None]
    boxes = torch.tensor([a.box for a in wanted], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    drawn = None
    if masks:
        pixels = [decode_mask(a.segmentation or [], image.height, image.width) for a in wanted]
        drawn = torch.from_numpy(np.stack(pixels)) if pixels else torch.zeros(0, image.height, image.width).bool()
    return Target(boxes, torch.tensor([a.category_id for a in wanted], dtype=torch.int64), drawn)


def results_of(image_id: int, prediction: Prediction) -> list[dict[str, Any]]:
    """A prediction as entries of COCO's result format."""
    found = []
    boxes, scores, categories = (v.tolist() for v in (prediction.boxes, prediction.scores, prediction.category_ids))
    for i, ((left, top, right, bottom), score, category) in enumerate(zip(boxes, scores, categories, strict=True)):
        entry = {
            "image_id": image_id,
            "category_id": category,
            "bbox": [left, top, right - left, bottom - top],
            "score": score,
        }
        if prediction.masks is not None:
            entry["segmentation"] = encode_mask(prediction.masks[i].cpu().numpy())
        found.append(entry)
    return found


def coco_scores(truth: dict[str, Any], results: Sequence[dict[str, Any]], kind: Kind = "bbox") -> dict[str, float]:
    """COCO's mAP by pycocotools: ``map`` (0.50:0.95), ``map50`` and ``map75``, each 0..1.

    Args:
        truth: the data set in COCO format (see :func:`coco_dict`).
        results: entries of :func:`results_of`; of images of the data set only.
        kind: ``bbox``, or ``segm`` to compare masks.

    Raises:
        CocoError: a result is of an image that is not in the data set, or the data set has no object to find.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    known = {image["id"] for image in truth["images"]}
    if strange := {entry["image_id"] for entry in results} - known:
        raise CocoError(f"results: image {min(strange)} is not in the data set that they are scored on")
    if not any(not entry.get("iscrowd", 0) for entry in truth["annotations"]):
        raise CocoError("the data set has no annotated object; there is nothing to score")
    if not results:
        return dict.fromkeys(SCORES, 0.0)
    # pycocotools prints as it goes and writes into what it is given.
    with contextlib.redirect_stdout(io.StringIO()):
        expected = COCO()
        expected.dataset = {**truth, "info": {}, "annotations": [dict(a) for a in truth["annotations"]]}
        expected.createIndex()
        evaluation = COCOeval(expected, expected.loadRes([dict(entry) for entry in results]), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(evaluation.stats[i]) for name, i in SCORES.items()}
