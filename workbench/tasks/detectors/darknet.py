"""A Darknet model as a detector: YOLOv3's loss and decoding on the module of `darknet_module.py`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms

from drivers.foreign_text import shown
from workbench.tasks.detectors import DetectorError, Prediction, Target, split_options
from workbench.tasks.detectors.coco_classes import category_ids_of, category_names_of
from workbench.tasks.detectors.darknet_module import DarknetModule
from workbench.tasks.detectors.yolo_loss import decode, yolo_loss

# More than COCO scores (100 of each image).
_MOST_BOXES = 300


class DarknetDetector:
    """A YOLOv3-like Darknet model as a task (see :class:`~workbench.tasks.detectors.Detector`).

    Images of any size are resized to the network's input: stretched, as Darknet's training and OpenCV do, or with their
    proportions kept on grey where the ``.cfg`` says ``letter_box=1``.

    Args:
        module: the network with its weights.
        name: what tables call it.
        threshold: lowest score of a prediction.
        nms: IoU from which the lower of two boxes of one category is dropped.
        names: what its categories are called, id → name; None where nothing says it.

    Attributes:
        settings_sha256: of all that its answers depend on beside its weights.
    """

    masks = False

    def __init__(
        self,
        module: DarknetModule,
        name: str,
        *,
        threshold: float = 0.005,
        nms: float = 0.5,
        names: Mapping[int, str] | None = None,
    ) -> None:
        self.module, self.name, self.category_names, self.notes = module, name, names, module.notes
        self.threshold, self.nms = threshold, nms
        told = [module.settings, sorted((names or {}).items()), threshold, nms]
        self.settings_sha256 = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        self.category_ids = category_ids_of(module.heads[0].classes)

    def to(self, device: torch.device | str) -> Self:
        """Itself, with its weights on another device."""
        self.module.to(device)
        return self

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        """YOLOv3's training loss, the mean over images of ``float32 [B, 3, H, W]``; see :func:`yolo_loss`."""
        inputs, (scale_x, scale_y, left, top) = self._resize(images)
        size = torch.tensor([self.module.width, self.module.height] * 2, device=images.device)
        classes = {category: number for number, category in enumerate(self.category_ids)}
        truths = []
        for target in targets:
            boxes = target.boxes.to(images.device, torch.float32)
            boxes = boxes * boxes.new_tensor([scale_x, scale_y] * 2) + boxes.new_tensor([left, top] * 2)
            numbers = [classes.get(int(category), -1) for category in target.category_ids]
            if -1 in numbers:
                unknown = int(target.category_ids[numbers.index(-1)])
                raise DetectorError(f"{self.name}: category {unknown} is unknown to it; leave its annotations out")
            truths.append((boxes / size, torch.tensor(numbers, dtype=torch.long, device=images.device)))
        return yolo_loss(self.module(inputs), self.module.heads, truths, (self.module.width, self.module.height))

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[Prediction]:
        """Boxes of every category above the threshold, after non-maximum suppression, at most 300 an image."""
        inputs, (scale_x, scale_y, left, top) = self._resize(images)
        network = (self.module.width, self.module.height)
        decoded = [decode(raw, head, network) for raw, head in zip(self.module(inputs), self.module.heads, strict=True)]
        boxes = torch.cat([d[0].flatten(1, 3) for d in decoded], 1)
        scores = torch.cat([(d[1].sigmoid()[..., None] * d[2].sigmoid()).flatten(1, 3) for d in decoded], 1)
        network_size, offset = boxes.new_tensor(network * 2), boxes.new_tensor([left, top] * 2)
        boxes = (boxes * network_size - offset) / boxes.new_tensor([scale_x, scale_y] * 2)
        height, width = images.shape[2:]
        boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height] * 2))
        ids = torch.tensor(self.category_ids, device=images.device)
        found = []
        for box, score in zip(boxes, scores, strict=True):
            row, category = torch.nonzero(score > self.threshold, as_tuple=True)
            value = score[row, category]
            kept = batched_nms(box[row], value, category, self.nms)[:_MOST_BOXES]
            found.append(Prediction(box[row][kept], value[kept], ids[category[kept]]))
        return found

    def _resize(self, images: Tensor) -> tuple[Tensor, tuple[float, float, float, float]]:
        """The network's input, and how a pixel of the image gets there: scales (x, y) and offset (left, top)."""
        width, height = self.module.width, self.module.height
        h, w = images.shape[2:]
        if not self.module.letterbox:
            return _interpolate(images, height, width), (width / w, height / h, 0.0, 0.0)
        scale = min(width / w, height / h)
        inner_w, inner_h = max(round(w * scale), 1), max(round(h * scale), 1)
        left, top = (width - inner_w) // 2, (height - inner_h) // 2
        sides = (left, width - inner_w - left, top, height - inner_h - top)
        inputs = F.pad(_interpolate(images, inner_h, inner_w), sides, value=0.5)
        return inputs, (inner_w / w, inner_h / h, float(left), float(top))


def _interpolate(images: Tensor, height: int, width: int) -> Tensor:
    if images.shape[2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", align_corners=False)


def load_darknet(cfg: Path, weights: Path | None = None, names: Path | None = None) -> DarknetDetector:
    """The detector of a Darknet ``.cfg`` and ``.weights`` file.

    Args:
        cfg: the network. With 80 classes they are COCO's; otherwise class 0, 1, 2… is category 1, 2, 3…
        weights: its weights; left out, the file beside it with the suffix ``.weights``.
        names: what its classes are called, one a line; left out, the file beside it with the suffix ``.names`` where
            there is one, else COCO's names for 80 classes.

    Raises:
        DetectorError: a file cannot be read, a layer is unknown, or the weights or the names do not fit.
    """
    module = DarknetModule(cfg)
    beside = cfg.with_suffix(".names")
    classes = module.heads[0].classes
    called = category_names_of(classes, names or (beside if beside.exists() else None), shown(cfg))
    module.load(weights or cfg.with_suffix(".weights"))
    return DarknetDetector(module, cfg.stem, names=called)


def open_darknet(what: str) -> DarknetDetector:
    """The detector behind ``FILE.cfg[?weights=FILE&names=FILE]``; see :func:`load_darknet`."""
    name, options = split_options(what, ("weights", "names"), "darknet")
    weights, names = (Path(options[key]) if key in options else None for key in ("weights", "names"))
    return load_darknet(Path(name), weights, names)
