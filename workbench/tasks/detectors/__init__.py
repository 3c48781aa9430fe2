"""Detectors as tasks: a frozen network that judges an RGB image by the objects it should show.

A detector is opened by a specification such as ``darknet:yolov3.cfg`` or ``torchvision:maskrcnn_resnet50_fpn`` (see
:func:`open_detector`). Its loss leads a predictor's training (equation 4); its predictions are scored by
:mod:`workbench.tasks.coco`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from drivers.errors import WorkbenchError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GROUP = "isp_workbench.detectors"


class DetectorError(WorkbenchError):
    """A detector that cannot be opened, or a target that it cannot be trained or scored on."""


@dataclass(frozen=True)
class Target:
    """The objects that one image shows.

    Attributes:
        boxes: ``float32 [N, 4]``: left, top, right, bottom in pixels of the image, right > left and bottom > top.
        category_ids: ``int64 [N]``, COCO category ids.
        masks: ``bool [N, H, W]``, or None where not known.
    """

    boxes: Tensor
    category_ids: Tensor
    masks: Tensor | None = None


@dataclass(frozen=True)
class Prediction:
    """What a detector sees in one image, best first.

    Attributes:
        boxes: ``float32 [N, 4]``: left, top, right, bottom in pixels of the image.
        scores: ``float32 [N]`` in [0, 1].
        category_ids: ``int64 [N]``, COCO category ids.
        masks: ``bool [N, H, W]``, or None of a detector that draws none.
    """

    boxes: Tensor
    scores: Tensor
    category_ids: Tensor
    masks: Tensor | None = None


@runtime_checkable
class Detector(Protocol):
    """What the bench needs of a detector. It is frozen: no call changes what it computes.

    It may also have ``category_names``, a mapping id → name for each of its ids: annotations are then matched to it by
    name (see :mod:`workbench.tasks.categories`). Without it, exactly COCO's 80 ids mean COCO's names, and any other ids
    are compared as numbers, with a note. A sequence ``notes`` of one-line texts is said to people when it is opened.
    """

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def category_ids(self) -> Collection[int]:
        """The COCO category ids that it knows."""
        ...

    @property
    def masks(self) -> bool:
        """Whether it predicts masks, and needs them in targets."""
        ...

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        """Its training loss, a scalar of 0 or more that is differentiable with respect to the images.

        Args:
            images: ``float32 [B, 3, H, W]``, sRGB in [0, 1].
            targets: one for each image; may be without objects.
        """
        ...

    def predict(self, images: Tensor) -> list[Prediction]:
        """What it sees in each of ``float32 [B, 3, H, W]`` images, sRGB in [0, 1]; no gradient."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """Itself, with its weights on another device."""
        ...


def open_detector(specification: str) -> Detector:
    """The detector behind a specification ``KIND:WHAT[?option=value&…]``.

    * ``darknet:MODEL.cfg[?weights=FILE&names=FILE]`` (see :func:`workbench.tasks.detectors.darknet.open_darknet`),
    * ``torchvision:NAME[?weights=FILE&names=FILE]`` (see
      :func:`workbench.tasks.detectors.torchvision_models.open_torchvision`),
    * ``offline:mask-rcnn``, the project's own for composed scenes,
    * ``package.module:factory``: the factory is called without arguments,
    * ``NAME[:WHAT]`` of another package's entry point of the group ``isp_workbench.detectors``, called with the whole
      specification.

    Raises:
        DetectorError: nothing of that kind is known, or it cannot be opened.
    """
    from importlib.metadata import entry_points

    from workbench.tasks.detectors import darknet, torchvision_models, user_module

    kind, _, what = specification.partition(":")
    if kind == "darknet":
        return darknet.open_darknet(what)
    if kind == "torchvision":
        return torchvision_models.open_torchvision(what)
    if specification == "offline:mask-rcnn":
        from workbench.tasks.detectors.small_mask_rcnn import open_offline

        return open_offline()
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    if kind in known:
        return user_module.checked(lambda: known[kind].load()(specification), specification)
    if is_factory(specification):
        return user_module.open_factory(specification)
    names = ", ".join(
        ["darknet:FILE.cfg", "torchvision:NAME", "offline:mask-rcnn", "package.module:factory", *sorted(known)]
    )
    raise DetectorError(f"detector {specification!r}: no such kind; known are {names}")


def is_factory(specification: str) -> bool:
    """Whether opening the specification imports a module that its writer chose."""
    kind, colon, _ = specification.partition(":")
    return bool(colon) and "." in kind


def check_categories(detector: Detector, category_ids: Iterable[int], where: str) -> None:
    """That a detector knows every category of a data set.

    Args:
        detector: the detector.
        category_ids: COCO category ids that annotations use.
        where: what uses them, for the message.

    Raises:
        DetectorError: a category is unknown to it.
    """
    if unknown := sorted(set(category_ids) - set(detector.category_ids)):
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise DetectorError(
            f"{where}: category {', '.join(map(str, unknown[:5]))}{more} is unknown to {detector.name}, which knows "
            f"{len(set(detector.category_ids))}; leave these annotations out or take a detector that knows them"
        )


def check_loss(detector: Detector, images: Tensor, targets: Sequence[Target]) -> None:
    """That a detector's loss can lead a training: one finite number whose gradient reaches the image.

    Costs one forward and one backward pass; a job calls it once, with its first batch.

    Args:
        detector: the detector.
        images: ``float32 [B, 3, H, W]``, sRGB in [0, 1].
        targets: one for each image, at least one with an object.

    Raises:
        DetectorError: a category is unknown, or the loss is not a number of 0 or more, or not differentiable.
    """
    import torch

    from workbench.tasks.detectors.answers import loss_of

    check_categories(detector, (int(i) for t in targets for i in t.category_ids), "the targets")
    images = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        loss = loss_of(detector, images, targets)
        gradient = None
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss, images, allow_unused=True)
    if gradient is None:
        raise DetectorError(
            f"{detector.name}: its loss is not differentiable with respect to the image; let no detach(), no_grad(), "
            "rounding or NumPy step stand between them"
        )
    if not torch.isfinite(gradient).all() or not gradient.any():
        kind = "zero everywhere" if torch.isfinite(gradient).all() else "not finite"
        raise DetectorError(
            f"{detector.name}: the gradient of its loss on the image is {kind}; it cannot lead a training"
        )


def split_options(what: str, known: Collection[str], where: str) -> tuple[str, dict[str, str]]:
    """``WHAT?option=value&…`` taken apart.

    Args:
        what: the specification behind its kind.
        known: the options that this kind has.
        where: the kind, for the message.

    Raises:
        DetectorError: nothing is named, or an option is unknown or has no value.
    """
    name, _, query = what.partition("?")
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key not in known or not value:
            raise DetectorError(
                f"detector {where}:{what}: option {part!r} is not one of {', '.join(known)} with =VALUE"
            )
        options[key] = value
    if not name:
        raise DetectorError(f"detector {where}: nothing named behind the colon")
    return name, options
