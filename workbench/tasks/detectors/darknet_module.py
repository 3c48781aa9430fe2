"""Darknet models: a ``.cfg`` and its ``.weights`` become a frozen PyTorch module with YOLOv3's loss and decoding.

Batch normalisation is folded into the convolutions as the weights are read, so the module holds convolutions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drivers.foreign_text import shown
from workbench.tasks.detectors import DetectorError
from workbench.tasks.detectors.darknet_cfg import Section, odd_keys, read_cfg
from workbench.tasks.detectors.darknet_weights import read_weights
from workbench.tasks.detectors.yolo_loss import YoloHead

# As in the first Darknet and in OpenCV; later Darknets take 1e-5.
_BATCH_NORM_EPS = 1e-6
# Far above any real network, far below what would fill the memory.
_MOST = {"filters": 1 << 16, "size": 1 << 10, "side": 1 << 14, "classes": 1 << 16, "layers": 1 << 11}
# Numbers that one layer gives for one image: a whole 4K picture through 32 filters.
_MOST_VALUES = 1 << 28
# Darknet options that change what a layer computes, with the values that mean "off".
_OFF = ("", "0", "none")
_UNSUPPORTED = {
    "convolutional": [
        *("antialiasing", "assisted_excitation", "binary", "deform", "flipped", "reverse", "rotate", "share_index"),
        *("stretch", "stretch_sway", "sway", "xnor"),
    ],
    "shortcut": ["weights_type"],
    "maxpool": ["antialiasing", "maxpool_depth"],
    "upsample": ["reverse"],
    "yolo": ["new_coords"],
    "route": [],
    "dropout": [],
    "avgpool": [],
}

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "relu": F.relu,
    "relu6": F.relu6,
    "swish": F.silu,
    "logistic": torch.sigmoid,
    "mish": F.mish,
}


@dataclass
class _Step:
    """One layer as planned: what it reads, what it gives (``width`` and ``height`` of the map, in its own pixels)."""

    section: Section
    channels: int
    width: int
    height: int
    sources: list[int] = field(default_factory=list)
    convolution: int = -1
    head: YoloHead | None = None


class DarknetModule(nn.Module):
    """The network of a ``.cfg`` file. It gives the raw maps of its ``[yolo]`` layers.

    Args:
        path: the ``.cfg`` file.

    Attributes:
        width: width of its input, pixels.
        height: height of its input, pixels.
        heads: one :class:`~workbench.tasks.detectors.yolo_loss.YoloHead` for each ``[yolo]`` layer, in order.
        notes: keys of the file that do not count, one line a kind.
        settings: kind and keys of each section, as written.

    Raises:
        DetectorError: a layer is unknown, an option is not supported, the layers do not fit each other, or one of them
            would give more than 2^28 numbers for an image.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        net, *sections = read_cfg(path)
        if len(sections) > _MOST["layers"]:
            raise DetectorError(f"{shown(path)}: has {len(sections)} layers, more than {_MOST['layers']}")
        self.notes = odd_keys(path, [net, *sections])
        self.settings = [(section.kind, dict(section.options)) for section in (net, *sections)]
        self.width = net.integer("width", 416, 1, _MOST["side"])
        self.height = net.integer("height", 416, 1, _MOST["side"])
        self.letterbox = bool(net.integer("letter_box", 0))
        if net.integer("channels", 3) != 3:
            raise DetectorError(f"{net.where}: channels={net.options['channels']}; only RGB (3) can be judged")
        self.convolutions = nn.ModuleList()
        self.normalised: list[bool] = []
        self._steps: list[_Step] = []
        for section in sections:
            self._steps.append(self._plan(section))
        self.heads = [step.head for step in self._steps if step.head]
        if not self.heads:
            raise DetectorError(f"{path}: has no [yolo] layer, so it detects nothing")
        if len({head.classes for head in self.heads}) > 1:
            raise DetectorError(f"{path}: its [yolo] layers differ in classes")
        self._kept = {source for step in self._steps for source in step.sources}

    def _plan(self, section: Section) -> _Step:
        if section.kind not in _UNSUPPORTED:
            raise DetectorError(f"{section.where}: unknown layer [{section.kind}]; known are {', '.join(_UNSUPPORTED)}")
        for key in _UNSUPPORTED[section.kind]:
            if section.options.get(key, "").lower() not in _OFF:
                raise DetectorError(f"{section.where}: [{section.kind}] {key}={section.options[key]} is not supported")
        last = self._steps[-1] if self._steps else None
        before = last.channels if last else 3
        step = _Step(section, before, last.width if last else self.width, last.height if last else self.height)
        if section.kind == "convolutional":
            self._plan_convolution(section, step)
        elif section.kind == "shortcut":
            step.sources = self._sources(section, "from")
            for key in ("alpha", "beta"):  # factors of its two sides, in the first Darknet alone
                if section.real(key, 1.0) != 1:
                    raise DetectorError(f"{section.where}: [shortcut] {key}={section.options[key]} is not supported")
            self._check_activation(section)
        elif section.kind == "route":
            step.sources = self._sources(section, "layers")
            groups = section.integer("groups", 1, 1)
            section.integer("group_id", 0, 0, groups - 1)
            channels = [self._steps[source].channels for source in step.sources]
            if any(c % groups for c in channels):
                raise DetectorError(f"{section.where}: [route] groups={groups} does not divide {channels} channels")
            step.channels = sum(c // groups for c in channels)
            step.width, step.height = self._steps[step.sources[0]].width, self._steps[step.sources[0]].height
        elif section.kind == "maxpool":
            size, padding, down, across = _pool_of(section)
            step.width = (step.width + padding - size) // across + 1
            step.height = (step.height + padding - size) // down + 1
        elif section.kind == "upsample":
            times = section.integer("stride", 2, 1, 64)
            step.width, step.height = step.width * times, step.height * times
        elif section.kind == "avgpool":
            step.width = step.height = 1
        elif section.kind == "yolo":
            step.head = self._plan_head(section, before)
        if min(step.width, step.height) < 1 or step.channels * step.width * step.height > _MOST_VALUES:
            raise DetectorError(
                f"{section.where}: [{section.kind}] would give {step.channels} maps of {step.width}×{step.height}, not "
                f"1 to {_MOST_VALUES:,} numbers; check filters, stride and the size in [net]"
            )
        return step

    def _plan_convolution(self, section: Section, step: _Step) -> None:
        filters = section.integer("filters", 1, 1, _MOST["filters"])
        size = section.integer("size", 1, 1, _MOST["size"])
        stride = section.integer("stride", 1, 1, _MOST["size"])
        down, across = (section.integer(key, stride, 1, _MOST["size"]) for key in ("stride_y", "stride_x"))
        dilation = section.integer("dilation", 1, 1, _MOST["size"])
        groups = section.integer("groups", 1, 1, _MOST["filters"])
        padding = section.integer("padding", 0, 0, _MOST["size"])
        if section.integer("pad", 0):
            padding = size // 2
        if step.channels % groups or filters % groups:
            raise DetectorError(
                f"{section.where}: groups={groups} does not divide {step.channels} input channels and {filters} filters"
            )
        self._check_activation(section, "logistic")
        # On the meta device nothing is allocated before the weights file is known to be as long as the network.
        with torch.device("meta"):
            convolution = nn.Conv2d(step.channels, filters, size, (down, across), padding * dilation, dilation, groups)
        reach = dilation * (size - 1) + 1
        step.width = (step.width + 2 * padding * dilation - reach) // across + 1
        step.height = (step.height + 2 * padding * dilation - reach) // down + 1
        step.channels, step.convolution = filters, len(self.convolutions)
        self.convolutions.append(convolution)
        self.normalised.append(bool(section.integer("batch_normalize", 0)))

    def _plan_head(self, section: Section, channels: int) -> YoloHead:
        flat = section.numbers("anchors", float)
        anchors = list(zip(flat[::2], flat[1::2], strict=False))
        mask = [int(i) for i in section.numbers("mask", int)] or list(range(len(anchors)))
        if not anchors or len(flat) % 2 or min(flat) <= 0 or any(not 0 <= i < len(anchors) for i in mask):
            raise DetectorError(f"{section.where}: [yolo] mask={mask} does not choose from {len(flat)} anchor sizes")
        classes = section.integer("classes", 20, 1, _MOST["classes"])
        if channels != len(mask) * (5 + classes):
            raise DetectorError(
                f"{section.where}: [yolo] of {len(mask)} anchors and {classes} classes needs "
                f"{len(mask) * (5 + classes)} channels; the layer before gives {channels}"
            )
        return YoloHead(
            anchors=torch.tensor(anchors, dtype=torch.float32),
            mask=mask,
            classes=classes,
            ignore_threshold=section.real("ignore_thresh", 0.5),
            scale_x_y=section.real("scale_x_y", 1.0),
        )

    def _sources(self, section: Section, key: str) -> list[int]:
        here = len(self._steps)
        named = [int(i) for i in section.numbers(key, int)]
        sources = [i + here if i < 0 else i for i in named]
        if not sources or any(not 0 <= i < here for i in sources):
            raise DetectorError(
                f"{section.where}: [{section.kind}] {key}={section.options.get(key, '')} names no earlier layer "
                f"(this is layer {here})"
            )
        return sources

    def _check_activation(self, section: Section, default: str = "linear") -> None:
        name = section.options.setdefault("activation", default)
        if name not in ACTIVATIONS:
            raise DetectorError(f"{section.where}: activation {name!r} is not one of {', '.join(ACTIVATIONS)}")

    def _planned(self) -> Iterator[tuple[nn.Conv2d, bool]]:
        """The convolutions in their order, and whether the weights file holds their batch normalisation."""
        for convolution, normalised in zip(self.convolutions, self.normalised, strict=True):
            assert isinstance(convolution, nn.Conv2d)
            yield convolution, normalised

    def load(self, path: Path) -> None:
        """Fill the network from a Darknet ``.weights`` file and freeze it.

        Raises:
            DetectorError: the file cannot be read, or holds less or more than the network needs.
        """
        needed = 0
        for convolution, normalised in self._planned():
            needed += convolution.weight.numel() + (4 if normalised else 1) * convolution.out_channels
        values = read_weights(path, needed)
        at = 0

        def take(count: int) -> np.ndarray:
            nonlocal at
            at += count
            return values[at - count : at]

        for convolution, normalised in self._planned():
            filters = convolution.out_channels
            bias = take(filters)
            scale, mean, variance = (take(filters) for _ in range(3)) if normalised else (1.0, 0.0, 0.0)
            weight = take(convolution.weight.numel()).reshape(convolution.weight.shape)
            if normalised:
                factor = scale / np.sqrt(np.maximum(variance, 0) + np.float32(_BATCH_NORM_EPS))
                weight, bias = weight * factor[:, None, None, None], bias - mean * factor
            for name, value in (("weight", weight), ("bias", bias)):
                tensor = torch.from_numpy(np.ascontiguousarray(value, np.float32).copy())
                setattr(convolution, name, nn.Parameter(tensor, requires_grad=False))
        self.eval()

    def forward(self, x: Tensor) -> list[Tensor]:
        """The raw map of each ``[yolo]`` layer.

        Args:
            x: ``float32 [B, 3, height, width]``, sRGB in [0, 1].

        Returns:
            ``float32 [B, anchors · (5 + classes), h, w]`` each, before any activation.

        Raises:
            DetectorError: two layers that are to be joined differ in size.
        """
        kept: dict[int, Tensor] = {}
        maps: list[Tensor] = []
        for number, step in enumerate(self._steps):
            x = self._run(step, x, kept)
            if step.head:
                maps.append(x)
            if number in self._kept:
                kept[number] = x
        return maps

    def _run(self, step: _Step, x: Tensor, kept: dict[int, Tensor]) -> Tensor:
        section = step.section
        if section.kind == "convolutional":
            x = self.convolutions[step.convolution](x)
            return ACTIVATIONS[section.options["activation"]](x)
        if section.kind == "shortcut":
            for source in step.sources:
                other = kept[source]
                if other.shape[2:] != x.shape[2:]:
                    raise _sizes_differ(section, [x, other])
                # Darknet adds the channels that both have.
                both = min(x.shape[1], other.shape[1])
                x = (
                    torch.cat([x[:, :both] + other[:, :both], x[:, both:]], 1)
                    if both < x.shape[1]
                    else x + other[:, :both]
                )
            return ACTIVATIONS[section.options["activation"]](x)
        if section.kind == "route":
            groups, chosen = section.integer("groups", 1), section.integer("group_id", 0)
            parts = [kept[source] for source in step.sources]
            if len({part.shape[2:] for part in parts}) > 1:
                raise _sizes_differ(section, parts)
            return torch.cat([part.chunk(groups, 1)[chosen] if groups > 1 else part for part in parts], 1)
        if section.kind == "maxpool":
            return _max_pool(section, x)
        if section.kind == "upsample":
            x = F.interpolate(x, scale_factor=section.integer("stride", 2), mode="nearest")
            return x * section.real("scale", 1.0)
        if section.kind == "avgpool":
            return x.mean((2, 3), keepdim=True)
        return x


def _sizes_differ(section: Section, parts: Sequence[Tensor]) -> DetectorError:
    sizes = ", ".join(f"{part.shape[3]}×{part.shape[2]}" for part in parts)
    return DetectorError(f"{section.where}: [{section.kind}] joins layers of different sizes ({sizes}); check [net]")


def _pool_of(section: Section) -> tuple[int, int, int, int]:
    """Size and padding of a ``[maxpool]``, and its strides down and across."""
    stride = section.integer("stride", 1, 1, _MOST["size"])
    down, across = (section.integer(key, stride, 1, _MOST["size"]) for key in ("stride_y", "stride_x"))
    size = section.integer("size", stride, 1, _MOST["size"])
    return size, section.integer("padding", size - 1, 0, _MOST["size"]), down, across


def _max_pool(section: Section, x: Tensor) -> Tensor:
    """Darknet pads size − 1 pixels in all (or ``padding``), the smaller half of them left and above."""
    size, padding, down, across = _pool_of(section)
    if padding:
        low = padding // 2
        x = F.pad(x, (low, padding - low, low, padding - low), value=-torch.inf)
    return F.max_pool2d(x, size, (down, across))
