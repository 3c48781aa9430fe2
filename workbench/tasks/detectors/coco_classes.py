"""The 80 categories of COCO 2014/2017 in their order; their ids have gaps."""

from __future__ import annotations

_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS: tuple[int, ...] = tuple(i for i in range(1, 91) if i not in _GAPS)


def category_ids_of(classes: int) -> tuple[int, ...]:
    """The category id of each class of a detector: COCO's own for 80 classes, else 1, 2, 3…"""
    return COCO_IDS if classes == len(COCO_IDS) else tuple(range(1, classes + 1))
