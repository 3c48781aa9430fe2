"""Darknet models: a ``.cfg`` and its ``.weights`` become a frozen PyTorch module with YOLOv3's loss and decoding.

Batch normalisation is folded into the convolutions as the weights are read, so the module holds convolutions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms

from workbench.tasks.detectors import DetectorError, Prediction, Target, split_options
from workbench.tasks.detectors.coco_classes import category_ids_of
from workbench.tasks.detectors.yolo_loss import YoloHead, decode, yolo_loss

# As in the first Darknet and in OpenCV; later Darknets take 1e-5.
_BATCH_NORM_EPS = 1e-6
# Far above any real network, far below what would fill the memory.
_MOST = {"filters": 1 << 16, "size": 1 << 10, "side": 1 << 14, "classes": 1 << 16}
# More than COCO scores (100 of each image).
_MOST_BOXES = 300
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
_ALIASES = {"conv": "convolutional", "max": "maxpool", "avg": "avgpool", "network": "net"}

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
class Section:
    """One section of a ``.cfg`` file.

    Attributes:
        kind: its name in lower case, aliases resolved.
        where: file and line, for messages.
        options: key → value as written.
    """

    kind: str
    where: str
    options: dict[str, str] = field(default_factory=dict)

    def _number(self, key: str, text: str, kind: type[int] | type[float]) -> float:
        try:
            value = kind(text)
            if np.isfinite(value):
                return value
        except (ValueError, OverflowError):
            pass
        what = "a whole number" if kind is int else "a number"
        raise DetectorError(f"{self.where}: [{self.kind}] {key}={text} is not {what}")

    def integer(self, key: str, default: int, lowest: int = 0, highest: int = 1 << 30) -> int:
        """The whole number of a key.

        Raises:
            DetectorError: it is none, or out of lowest..highest.
        """
        value = int(self._number(key, self.options.get(key, str(default)), int))
        if not lowest <= value <= highest:
            raise DetectorError(f"{self.where}: [{self.kind}] {key}={value} is not within {lowest}..{highest}")
        return value

    def real(self, key: str, default: float) -> float:
        """The number of a key."""
        return float(self._number(key, self.options.get(key, str(default)), float))

    def numbers(self, key: str, kind: type[int] | type[float]) -> list[float]:
        """The comma-separated numbers of a key; none where it is missing."""
        parts = (part.strip() for part in self.options.get(key, "").split(","))
        return [self._number(key, part, kind) for part in parts if part]


def read_cfg(path: Path) -> list[Section]:
    """The sections of a Darknet ``.cfg`` file in their order.

    Raises:
        DetectorError: it cannot be read, is no such file, or does not begin with ``[net]``.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DetectorError(f"{path}: cannot read the Darknet .cfg: {error.strerror}; give darknet:FILE.cfg") from error
    except UnicodeDecodeError as error:
        raise DetectorError(f"{path}: is not a Darknet .cfg, which is text") from error
    sections: list[Section] = []
    for number, line in enumerate(lines, 1):
        text = line.split("#")[0].split(";")[0].strip()
        if not text:
            continue
        where = f"{path}, line {number}"
        if text.startswith("[") and text.endswith("]"):
            kind = text[1:-1].strip().lower()
            sections.append(Section(_ALIASES.get(kind, kind), where))
            continue
        key, equals, value = text.partition("=")
        if not equals or not sections:
            raise DetectorError(f"{where}: {text[:60]!r} is neither [section] nor key=value within one")
        sections[-1].options[key.strip()] = value.strip()
    if not sections or sections[0].kind != "net":
        raise DetectorError(f"{path}: a Darknet .cfg begins with [net]; this one does not")
    return sections


@dataclass
class _Step:
    """One layer as planned: what it reads, what it gives."""

    section: Section
    channels: int
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

    Raises:
        DetectorError: a layer or an option is unknown, or the layers do not fit each other.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        net, *sections = read_cfg(path)
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
        before = self._steps[-1].channels if self._steps else 3
        step = _Step(section, before)
        if section.kind == "convolutional":
            self._plan_convolution(section, step)
        elif section.kind == "shortcut":
            step.sources = self._sources(section, "from")
            self._check_activation(section)
        elif section.kind == "route":
            step.sources = self._sources(section, "layers")
            groups = section.integer("groups", 1, 1)
            section.integer("group_id", 0, 0, groups - 1)
            channels = [self._steps[source].channels for source in step.sources]
            if any(c % groups for c in channels):
                raise DetectorError(f"{section.where}: [route] groups={groups} does not divide {channels} channels")
            step.channels = sum(c // groups for c in channels)
        elif section.kind == "maxpool":
            section.integer("size", section.integer("stride", 1, 1, _MOST["size"]), 1, _MOST["size"])
        elif section.kind == "upsample":
            section.integer("stride", 2, 1, 64)
        elif section.kind == "yolo":
            step.head = self._plan_head(section, before)
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
        values = _read_weights(path, needed)
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


def _max_pool(section: Section, x: Tensor) -> Tensor:
    """Darknet pads size − 1 pixels in all (or ``padding``), the smaller half of them left and above."""
    stride = section.integer("stride", 1)
    size = section.integer("size", stride)
    padding = section.integer("padding", size - 1, 0, _MOST["size"])
    if padding:
        low = padding // 2
        x = F.pad(x, (low, padding - low, low, padding - low), value=-torch.inf)
    return F.max_pool2d(x, size, stride)


def _read_weights(path: Path, needed: int) -> np.ndarray:
    """The numbers of a ``.weights`` file, ``float32 [needed]``; its header is three or four words and a count."""
    try:
        with path.open("rb") as file:
            version = file.read(8)
            if len(version) < 8:
                raise DetectorError(f"{path}: too short to be Darknet weights ({len(version)} bytes)")
            major, minor = (int(v) for v in np.frombuffer(version, "<i4"))
            # Images seen: 64 bits from version 0.2 on.
            header = 20 if major * 10 + minor >= 2 and 0 <= major < 1000 and 0 <= minor < 1000 else 16
            found = path.stat().st_size - header
            if found != 4 * needed:
                kind = "short" if found < 4 * needed else "long"
                raise DetectorError(
                    f"{path}: too {kind}: {found / 4:.10g} weights, the .cfg needs {needed}; "
                    "give the .weights file that belongs to this .cfg"
                )
            file.seek(header)
            values = np.fromfile(file, "<f4", needed)
    except OSError as error:
        raise DetectorError(
            f"{path}: cannot read the Darknet weights: {error.strerror}; put them beside the .cfg"
        ) from error
    if not np.isfinite(values).all():
        raise DetectorError(f"{path}: holds weights that are not finite; the file is damaged")
    return values.astype(np.float32, copy=False)


class DarknetDetector:
    """A YOLOv3-like Darknet model as a task (see :class:`~workbench.tasks.detectors.Detector`).

    Images of any size are resized to the network's input: stretched, as Darknet's training and OpenCV do, or with their
    proportions kept on grey where the ``.cfg`` says ``letter_box=1``.

    Args:
        module: the network with its weights.
        name: what tables call it.
        threshold: lowest score of a prediction.
        nms: IoU from which the lower of two boxes of one category is dropped.
    """

    masks = False

    def __init__(self, module: DarknetModule, name: str, *, threshold: float = 0.005, nms: float = 0.5) -> None:
        self.module, self.name = module, name
        self.threshold, self.nms = threshold, nms
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


def load_darknet(cfg: Path, weights: Path | None = None) -> DarknetDetector:
    """The detector of a Darknet ``.cfg`` and ``.weights`` file.

    Args:
        cfg: the network. With 80 classes they are COCO's; otherwise class 0, 1, 2… is category 1, 2, 3…
        weights: its weights; left out, the file beside it with the suffix ``.weights``.

    Raises:
        DetectorError: a file cannot be read, a layer is unknown, or the weights do not fit.
    """
    module = DarknetModule(cfg)
    module.load(weights or cfg.with_suffix(".weights"))
    return DarknetDetector(module, cfg.stem)


def open_darknet(what: str) -> DarknetDetector:
    """The detector behind ``FILE.cfg[?weights=FILE]``; see :func:`load_darknet`."""
    name, options = split_options(what, ("weights",), "darknet")
    return load_darknet(Path(name), Path(options["weights"]) if "weights" in options else None)
