"""The 80 categories of COCO 2014/2017 in their order; their ids have gaps."""

from __future__ import annotations

from pathlib import Path

from drivers.foreign_text import shown
from drivers.regular_files import TEXT_BYTES, read_regular
from workbench.tasks.detectors import DetectorError

_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS: tuple[int, ...] = tuple(i for i in range(1, 91) if i not in _GAPS)
# fmt: off
COCO_NAMES: tuple[str, ...] = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
# fmt: on


def category_ids_of(classes: int) -> tuple[int, ...]:
    """The category id of each class of a detector: COCO's own for 80 classes, else 1, 2, 3…"""
    return COCO_IDS if classes == len(COCO_IDS) else tuple(range(1, classes + 1))


def category_names_of(classes: int, path: Path | None, where: str) -> dict[int, str] | None:
    """What a detector's categories are called, id → name; None where nothing says it.

    Args:
        classes: how many it knows.
        path: a file with one name a line, in the order of the classes; None: COCO's names for 80 classes.
        where: the model, for messages.

    Raises:
        DetectorError: the file cannot be read, or is that of another detector.
    """
    if path is None:
        return dict(zip(COCO_IDS, COCO_NAMES, strict=True)) if classes == len(COCO_IDS) else None
    try:
        lines = read_regular(path, TEXT_BYTES).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DetectorError(f"{shown(path)}: cannot read the names of the categories: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DetectorError(f"{shown(path)}: is no list of names, one a line in UTF-8") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) != classes:
        raise DetectorError(
            f"{shown(path)}: names {len(lines)} categories, {where} has {classes}; give the names of this detector"
        )
    names = [line.strip() for line in lines]
    if "" in names:
        raise DetectorError(f"{shown(path)}: line {names.index('') + 1} is empty; name every category")
    return dict(zip(category_ids_of(classes), names, strict=True))
