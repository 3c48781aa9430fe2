"""YOLOv3's head: decoding of its maps and its training loss (Redmon and Farhadi 2018, sections 2.1 and 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

# Half the width of what exp() may be given: no real box is e^10 times its anchor, and float32 stays finite.
_MOST_LOG_SIZE = 10.0


@dataclass(frozen=True)
class YoloHead:
    """One ``[yolo]`` layer.

    Attributes:
        anchors: ``float32 [A, 2]``, width and height of all anchors of the network in pixels of its input.
        mask: which of them are this layer's.
        classes: number of classes.
        ignore_threshold: IoU with a truth above which a box that is not responsible for it is no background either.
        scale_x_y: factor by which the range of a box's centre within its cell is widened.
    """

    anchors: Tensor
    mask: Sequence[int]
    classes: int
    ignore_threshold: float = 0.5
    scale_x_y: float = 1.0


def _by_anchor(raw: Tensor, head: YoloHead) -> Tensor:
    """``[B, A · (5 + C), h, w]`` as ``[B, A, h, w, 5 + C]``."""
    batch, _, height, width = raw.shape
    return raw.view(batch, len(head.mask), 5 + head.classes, height, width).permute(0, 1, 3, 4, 2)


def decode(raw: Tensor, head: YoloHead, network: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes and logits of one map.

    Args:
        raw: ``float32 [B, A · (5 + C), h, w]``.
        head: its layer.
        network: width and height of the network's input, pixels.

    Returns:
        boxes ``[B, A, h, w, 4]`` (left, top, right, bottom; the input is 1 wide and high), objectness logits
        ``[B, A, h, w]``, class logits ``[B, A, h, w, C]``.
    """
    by_anchor = _by_anchor(raw, head)
    height, width = raw.shape[2:]
    cells = torch.stack(
        torch.meshgrid(torch.arange(width, device=raw.device), torch.arange(height, device=raw.device), indexing="xy"),
        -1,
    )
    centre = by_anchor[..., :2].sigmoid() * head.scale_x_y - (head.scale_x_y - 1) / 2
    centre = (centre + cells) / raw.new_tensor([width, height])
    anchors = head.anchors.to(raw)[list(head.mask)] / raw.new_tensor(network)
    size = by_anchor[..., 2:4].clamp(max=_MOST_LOG_SIZE).exp() * anchors[:, None, None]
    boxes = torch.cat([centre - size / 2, centre + size / 2], -1)
    return boxes, by_anchor[..., 4], by_anchor[..., 5:]


def yolo_loss(
    maps: Sequence[Tensor],
    heads: Sequence[YoloHead],
    truths: Sequence[tuple[Tensor, Tensor]],
    network: tuple[int, int],
) -> Tensor:
    """YOLOv3's training loss: classification, objectness and location, summed, then averaged over the images.

    The anchor whose shape fits a truth best, in the cell of the truth's centre, is responsible for it. Location is what
    Darknet's own gradient follows: binary cross-entropy for the centre within the cell and half the squared error for
    the logarithm of the size, weighted by 2 − area, so that small boxes count more. Every other box is background
    unless it overlaps some truth by more than the layer's ignore threshold.

    Args:
        maps: the raw maps ``float32 [B, A · (5 + C), h, w]``, one for each head.
        heads: the ``[yolo]`` layers.
        truths: boxes ``float32 [N, 4]`` (left, top, right, bottom; the input is 1 wide and high) and class numbers
            ``int64 [N]`` of each image.
        network: width and height of the network's input, pixels.
    """
    total = maps[0].new_zeros(())
    for raw, head in zip(maps, heads, strict=True):
        boxes, objectness, class_logits = decode(raw, head, network)
        by_anchor = _by_anchor(raw, head)
        for image, (truth, classes) in enumerate(truths):
            total = total + _image_loss(
                boxes[image].detach(),
                objectness[image],
                class_logits[image],
                by_anchor[image],
                head,
                truth,
                classes,
                network,
            )
    return total / len(truths)


def _image_loss(
    boxes: Tensor,
    objectness: Tensor,
    class_logits: Tensor,
    raw: Tensor,
    head: YoloHead,
    truth: Tensor,
    classes: Tensor,
    network: tuple[int, int],
) -> Tensor:
    wanted = torch.zeros_like(objectness)
    counts = torch.ones_like(objectness)
    if len(truth) == 0:
        return F.binary_cross_entropy_with_logits(objectness, wanted, reduction="sum")
    overlap = box_iou(boxes.reshape(-1, 4), truth).amax(1).view_as(objectness)
    counts[overlap > head.ignore_threshold] = 0
    size = truth[:, 2:] - truth[:, :2]
    anchors = head.anchors.to(truth) / truth.new_tensor(network)
    best = _shape_iou(size, anchors).argmax(1)
    ours = torch.isin(best, torch.tensor(list(head.mask), device=best.device))
    location = objectness.new_zeros(())
    kinds = objectness.new_zeros(())
    if ours.any():
        truth, size, classes, best = truth[ours], size[ours], classes[ours], best[ours]
        height, width = objectness.shape[1:]
        grid = truth.new_tensor([width, height])
        centre = (truth[:, :2] + truth[:, 2:]) / 2 * grid
        cell = centre.long().clamp(min=torch.zeros_like(centre).long(), max=(grid - 1).long())
        slot = torch.tensor([list(head.mask).index(int(i)) for i in best], device=best.device)
        places = slot, cell[:, 1], cell[:, 0]
        wanted[places] = 1
        counts[places] = 1
        found = raw[places]
        inside = (centre - cell + (head.scale_x_y - 1) / 2) / head.scale_x_y
        weight = (2 - size.prod(1)).clamp(1, 2)[:, None]
        centre_loss = F.binary_cross_entropy_with_logits(found[:, :2], inside.clamp(0, 1), reduction="none")
        size_loss = (found[:, 2:4] - (size.clamp(min=1e-6) / anchors[best]).log()).square() / 2
        location = (weight * (centre_loss + size_loss)).sum()
        # Two truths of one box: it is of both classes.
        labels = torch.zeros_like(class_logits)
        labels[(*places, classes)] = 1
        taken = wanted > 0
        kinds = F.binary_cross_entropy_with_logits(class_logits[taken], labels[taken], reduction="sum")
    background = F.binary_cross_entropy_with_logits(objectness, wanted, reduction="none")
    return location + kinds + (background * counts).sum()


def _shape_iou(sizes: Tensor, anchors: Tensor) -> Tensor:
    """IoU ``[N, A]`` of boxes and anchors laid on one centre."""
    common = torch.minimum(sizes[:, None], anchors[None]).prod(2)
    return common / (sizes.prod(1)[:, None] + anchors.prod(1)[None] - common)
