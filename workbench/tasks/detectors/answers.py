"""What a detector answers, held to the interface: its code may be anybody's, and a wrong answer becomes a score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from drivers.errors import WorkbenchError
from drivers.foreign_text import shown, shown_failure
from workbench.tasks.detectors import Detector, DetectorError, Prediction, Target

_SEE = "see workbench.tasks.detectors.Prediction"
# Scores and losses that rounding alone brings out of their range.
_ROUNDING = 1e-4
# Boxes that all lie within the first pixel: from so many on in one image they are meant as fractions of it.
_FRACTIONS_FROM = 3


def predicted(detector: Detector, images: Tensor) -> list[Prediction]:
    """What a detector sees in each of ``float32 [B, 3, H, W]`` images.

    Raises:
        DetectorError: it fails, or what it gives is not as :class:`~workbench.tasks.detectors.Prediction` says.
    """
    found = asked(detector, "predict", lambda: detector.predict(images))
    where = f"{shown(detector.name)}: predict gives"
    if not isinstance(found, list | tuple) or len(found) != len(images):
        what = f"{len(found)} of them" if isinstance(found, list | tuple) else f"a {type(found).__name__}"
        raise DetectorError(f"{where} {what} for {len(images)} images; give a list with one Prediction for each image")
    for one in found:
        _check(detector, one, (int(images.shape[2]), int(images.shape[3])), where)
    return list(found)


def loss_of(detector: Detector, images: Tensor, targets: Sequence[Target]) -> Tensor:
    """A detector's loss on ``float32 [B, 3, H, W]`` images, one number.

    Raises:
        DetectorError: it fails, or what it gives is no number of 0 or more, whose logarithm is compared.
    """
    given = asked(detector, "loss", lambda: detector.loss(images, targets))
    where = f"{shown(detector.name)}: loss gives"
    if not isinstance(given, Tensor) or given.numel() != 1:
        what = f"a tensor {list(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
        raise DetectorError(f"{where} {what}; it must give one number as a tensor")
    value = float(given.detach())
    # Of a picture that is none the training tells.
    if not -_ROUNDING <= value < float("inf") and images.isfinite().all():
        raise DetectorError(
            f"{where} {value:g} on images in [0, 1]; it must be finite and not negative, for its logarithm is "
            "compared; check its weights"
        )
    return given.reshape(())


def asked(detector: Detector, part: str, ask: Callable[[], Any]) -> Any:
    """What a part of a detector gives.

    Raises:
        DetectorError: it fails.
    """
    try:
        return ask()
    except WorkbenchError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise DetectorError(f"{shown(detector.name)}: its {part} fails with {shown_failure(error)}") from error


def _check(detector: Detector, one: Prediction, size: tuple[int, int], where: str) -> None:
    """Refuse a prediction of an image of that height and width which cannot be what is meant."""
    parts = {name: getattr(one, name, None) for name in ("boxes", "scores", "category_ids")}
    if strange := [name for name, value in parts.items() if not isinstance(value, Tensor)]:
        kind = type(parts[strange[0]]).__name__ if isinstance(one, Prediction) else f"of a {type(one).__name__}"
        raise DetectorError(f"{where} {strange[0]} {kind}, not as a tensor of a Prediction; {_SEE}")
    boxes, scores, ids = (value.detach() for value in (one.boxes, one.scores, one.category_ids))
    count = len(boxes) if boxes.ndim else -1
    if boxes.shape != (count, 4) or scores.shape != (count,) or ids.shape != (count,):
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in parts.items() if value is not None)
        raise DetectorError(f"{where} {shapes}; these are to be [N, 4], [N] and [N]")
    if not (boxes.isfinite().all() and scores.isfinite().all()):
        raise DetectorError(f"{where} boxes or scores that are not finite; check its weights")
    if count and not (float(scores.min()) >= -_ROUNDING and float(scores.max()) <= 1 + _ROUNDING):
        raise DetectorError(f"{where} scores of {float(scores.min()):g} to {float(scores.max()):g}; they are in 0..1")
    if bool((boxes[:, 2:] < boxes[:, :2]).any()):
        odd = boxes[(boxes[:, 2:] < boxes[:, :2]).any(1)][0].tolist()
        raise DetectorError(
            f"{where} the box {', '.join(f'{v:g}' for v in odd)}, whose right or bottom lies before its left or top; "
            "boxes are left, top, right, bottom"
        )
    _check_in_pixels(boxes, size, where)
    known = torch.tensor(sorted(detector.category_ids), device=ids.device)
    if count and not (right := torch.isin(ids, known)).all():
        raise DetectorError(
            f"{where} category {ids[~right][0].item():g}, which is not one of its category_ids; give COCO's category "
            "ids, not places in a list"
        )
    if detector.masks:
        _check_masks(one.masks, (count, *size), where)


def _check_in_pixels(boxes: Tensor, size: tuple[int, int], where: str) -> None:
    real = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
    if len(real) == len(boxes) >= _FRACTIONS_FROM and float(boxes.max()) <= 1 and min(size) > 1:
        raise DetectorError(f"{where} {len(boxes)} boxes within 0..1, as fractions of the image; give pixels of it")


def _check_masks(masks: object, shape: tuple[int, int, int], where: str) -> None:
    if isinstance(masks, Tensor) and masks.shape == shape and masks.dtype == torch.bool:
        return
    told = f"masks {masks.dtype} {list(masks.shape)}" if isinstance(masks, Tensor) else f"masks {masks!r:.30}"
    raise DetectorError(f"{where} {told.replace('torch.', '')}; a detector with masks is to give bool {list(shape)}")
