"""``offline:mask-rcnn``: a small Mask R-CNN for composed scenes, with its weights beside this file.

torchvision's Mask R-CNN with a small backbone; ``benchmarks/train_mask_rcnn.py`` made the weights. It knows the six
objects of ``workbench sim composed`` and nothing else: a stand-in where no detector can be downloaded.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from drivers.weights import load_weights
from workbench.tasks.detectors import Prediction, Target
from workbench.tasks.detectors.torchvision_models import TorchvisionDetector

NAME = "mask-rcnn"
KIND = "small Mask R-CNN"
FOLDER = Path(__file__).parent
# The categories of the composed scenes: label 1 is the first of them.
CATEGORY_NAMES = ("ball", "orange", "ring", "bolt", "leaf", "mug")
FIRST_CATEGORY, CATEGORIES = 101, len(CATEGORY_NAMES)
SIDE = 160
_WIDTHS, _PYRAMID, _HEAD = (16, 32, 64, 96), 48, 128


class _Block(nn.Module):
    """Two 3×3 convolutions with a short cut; the first halves the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.relu(x + self.second(x))


class _Backbone(nn.Module):
    """Feature pyramid at strides 4, 8 and 16."""

    out_channels = _PYRAMID

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_Block(a, b) for a, b in zip((3, *_WIDTHS[:-1]), _WIDTHS, strict=True))
        self.pyramid = FeaturePyramidNetwork(list(_WIDTHS[1:]), _PYRAMID)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        levels: OrderedDict[str, Tensor] = OrderedDict()
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number:
                levels[str(number - 1)] = x
        pyramid: OrderedDict[str, Tensor] = self.pyramid(levels)
        return pyramid


class _BoxPredictor(nn.Module):
    """Scores and box corrections of each proposal."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.scores, self.boxes = nn.Linear(_HEAD, labels), nn.Linear(_HEAD, 4 * labels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores(x), self.boxes(x)


def build() -> MaskRCNN:
    """The network without its weights; its labels are 1..6, 0 is the background."""
    labels, levels = CATEGORIES + 1, ["0", "1", "2"]
    flat = 7 * 7 * _PYRAMID
    return MaskRCNN(
        _Backbone(),
        min_size=SIDE,
        max_size=2 * SIDE,
        rpn_anchor_generator=AnchorGenerator(((20,), (32,), (52,)), ((0.6, 1.0, 1.7),) * 3),
        rpn_pre_nms_top_n_train=300,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_train=100,
        rpn_post_nms_top_n_test=60,
        rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(levels, 7, 2),
        box_head=nn.Sequential(nn.Flatten(), nn.Linear(flat, _HEAD), nn.ReLU(), nn.Linear(_HEAD, _HEAD), nn.ReLU()),
        box_predictor=_BoxPredictor(labels),
        box_batch_size_per_image=48,
        box_detections_per_img=50,
        mask_roi_pool=MultiScaleRoIAlign(levels, 14, 2),
        mask_head=MaskRCNNHeads(_PYRAMID, (_PYRAMID, _PYRAMID), 1),
        mask_predictor=MaskRCNNPredictor(_PYRAMID, _PYRAMID, labels),
    )


class SmallMaskRcnn(TorchvisionDetector):
    """The network as a detector of the composed scenes' categories."""

    def __init__(self, network: MaskRCNN) -> None:
        categories = range(FIRST_CATEGORY, FIRST_CATEGORY + CATEGORIES)
        names = dict(zip(categories, CATEGORY_NAMES, strict=True))
        super().__init__(network, NAME, categories, masks=True, names=names)

    def _target(self, target: Target, images: Tensor) -> dict[str, Tensor]:
        found = super()._target(target, images)
        found["labels"] = found["labels"] - (FIRST_CATEGORY - 1)
        return found

    def predict(self, images: Tensor) -> list[Prediction]:
        """Boxes and masks after the network's own non-maximum suppression."""
        return [replace(p, category_ids=p.category_ids + FIRST_CATEGORY - 1) for p in super().predict(images)]


def open_offline(folder: Path = FOLDER) -> SmallMaskRcnn:
    """The detector with the weights of a folder.

    Raises:
        WeightsError: they are missing or damaged.
    """
    tensors, _ = load_weights(folder, KIND)
    network = build()
    network.load_state_dict(
        {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    )
    return SmallMaskRcnn(network)
