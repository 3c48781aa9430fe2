"""torchvision's detection models as tasks: Faster and Mask R-CNN, RetinaNet, FCOS, SSD and SSDlite."""

from __future__ import annotations

import errno
import pickle
import stat
import warnings
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError

import torch
from torch import Tensor, nn

from drivers.foreign_text import shown
from workbench.tasks.detectors import DetectorError, Prediction, Target, split_options
from workbench.tasks.detectors.coco_classes import COCO_IDS, category_names_of

# Background and COCO's ids 1..90 with their gaps.
_COCO_LABELS = 91
# torchvision's own models of these names were trained without the epsilon of their batch normalisation.
_NO_EPSILON = {"fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn"}
_MASK_THRESHOLD = 0.5
_DOWNLOAD_DEADLINE_S = 30.0
_MOST_LABELS = 1 << 14
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Ten times torchvision's largest detection model.
_LARGEST_CHECKPOINT = 4 << 30


class TorchvisionDetector:
    """A torchvision detection model as a task (see :class:`~workbench.tasks.detectors.Detector`).

    Args:
        module: the model; it is frozen here. Its label is the category id.
        name: what tables call it.
        category_ids: the category ids among its labels.
        masks: whether it is a Mask R-CNN.
        names: what its categories are called, id → name; None where nothing says it.
    """

    def __init__(
        self,
        module: nn.Module,
        name: str,
        category_ids: Collection[int],
        *,
        masks: bool,
        names: Mapping[int, str] | None = None,
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.name, self.category_ids, self.masks, self.category_names = name, category_ids, masks, names

    def to(self, device: torch.device | str) -> Self:
        """Itself, with its weights on another device."""
        self.module.to(device)
        return self

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        """The sum of the model's training losses on ``float32 [B, 3, H, W]``; normalisation and dropout stay frozen.

        R-CNNs draw the proposals that they are trained on: seed torch to repeat a value.

        Raises:
            DetectorError: a target of a Mask R-CNN has no masks.
        """
        wanted = [self._target(target, images) for target in targets]
        self.module.train()
        for part in self.module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
                part.eval()
        try:
            losses: dict[str, Tensor] = self.module(list(images), wanted)
        finally:
            self.module.eval()
        return torch.stack([value.sum() for value in losses.values()]).sum()

    def _target(self, target: Target, images: Tensor) -> dict[str, Tensor]:
        if self.masks and target.masks is None:
            raise DetectorError(f"{self.name}: is trained on masks, and a target has none; give annotations with masks")
        boxes = target.boxes.to(images).reshape(-1, 4)
        # torchvision refuses boxes without area.
        real = (boxes[:, 2:] > boxes[:, :2]).all(1)
        found = {"boxes": boxes[real], "labels": target.category_ids.to(images.device, torch.long)[real]}
        if self.masks and target.masks is not None:
            found["masks"] = target.masks.to(images.device, torch.uint8)[real]
        return found

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[Prediction]:
        """Boxes, and masks of a Mask R-CNN, after the model's own non-maximum suppression."""
        self.module.eval()
        found = []
        for result in self.module(list(images)):
            masks = result["masks"][:, 0] > _MASK_THRESHOLD if self.masks else None
            found.append(Prediction(result["boxes"], result["scores"], result["labels"], masks))
        return found


def detection_models() -> list[str]:
    """The names of torchvision's detection models whose loss the bench can use."""
    from torchvision.models import detection as module
    from torchvision.models import list_models

    return sorted(name for name in list_models(module=module) if not name.startswith("keypoint"))


def load_torchvision(name: str, weights: Path | None = None, names: Path | None = None) -> TorchvisionDetector:
    """A torchvision detection model with its weights.

    Args:
        name: such as ``fasterrcnn_resnet50_fpn`` (see :func:`detection_models`).
        weights: a checkpoint, ``.safetensors`` or what ``torch.save(model.state_dict())`` writes; how many labels it
            has is seen from it. Left out: torchvision's own COCO weights, from its cache or from the internet.
        names: a file that names the labels from 1 on, one a line. Left out: COCO's names for 91 labels, else none.

    Returns:
        The detector. With 91 labels they are COCO's ids; otherwise label 1, 2, 3… is category 1, 2, 3…

    Raises:
        DetectorError: the name is unknown, the weights cannot be had or do not fit.
    """
    if name not in (known := detection_models()):
        raise DetectorError(f"detector torchvision:{name}: no such detection model; known are {', '.join(known)}")
    state = _own_weights(name) if weights is None else _read_checkpoint(weights)
    source = f"torchvision's weights of {name}" if weights is None else str(weights)
    module = _build(name, _COCO_LABELS)
    labels = _labels(module, state)
    if labels != _COCO_LABELS:
        module = _build(name, labels)
    _check_weights(module, state, shown(source))
    _fill(module, state, f"{source}: does not fit {name}")
    if labels == _COCO_LABELS and name in _NO_EPSILON:
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eps = 0.0
    ids = COCO_IDS if labels == _COCO_LABELS else tuple(range(1, labels))
    called = category_names_of(len(ids), names, source) if names or ids is COCO_IDS else None
    return TorchvisionDetector(module, name, ids, masks=name.startswith("maskrcnn"), names=called)


def open_torchvision(what: str) -> TorchvisionDetector:
    """The detector behind ``NAME[?weights=FILE&names=FILE]``; see :func:`load_torchvision`."""
    name, options = split_options(what, ("weights", "names"), "torchvision")
    weights, names = (Path(options[key]) if key in options else None for key in ("weights", "names"))
    return load_torchvision(name, weights, names)


def _build(name: str, labels: int) -> nn.Module:
    from torchvision.models import get_model

    network: nn.Module = get_model(name, weights=None, weights_backbone=None, num_classes=labels)
    return network


def _labels(module: nn.Module, state: dict[str, Tensor]) -> int:
    """How many labels a checkpoint has, seen from the first tensor whose rows are a multiple of the labels."""
    for key, value in module.state_dict().items():
        found = state.get(key)
        if found is None or found.ndim != value.ndim or found.shape == value.shape:
            continue
        per_label, rest = divmod(value.shape[0], _COCO_LABELS)
        # Only a tensor that is otherwise as it should be may say how large a network is built.
        if rest or found.shape[1:] != value.shape[1:] or found.shape[0] % per_label:
            continue
        if 1 < found.shape[0] // per_label <= _MOST_LABELS:
            return int(found.shape[0] // per_label)
    return _COCO_LABELS


def _check_weights(module: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """See that what becomes a weight is a finite number: torch would take the codes of 8-bit weights for weights.

    Raises:
        DetectorError: it is not.
    """
    for key, own in module.state_dict().items():
        value = state.get(key)
        if value is None or not own.is_floating_point():
            continue
        if value.dtype not in _FLOATS or value.layout != torch.strided or value.is_meta:
            kind = "a shape without values" if value.is_meta else f"{value.dtype}, {value.layout}".replace("torch.", "")
            raise DetectorError(
                f"{where}: holds {key} as {kind}; save model.state_dict() of the network in floating point "
                "(16 bits or more), its tensors dense"
            )
        if not value.isfinite().all():
            raise DetectorError(f"{where}: holds weights that are not finite, first {key}; it is damaged")


def _fill(module: nn.Module, state: dict[str, Tensor], problem: str) -> None:
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2]
        raise DetectorError(f"{problem}: {first[0].strip() if first else error}") from error
    # Frozen batch normalisation has no such counter.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        parts = [
            f"{len(keys)} tensors {what}, first {keys[0]}"
            for keys, what in ((missing, "missing"), (unexpected, "too many"))
            if keys
        ]
        raise DetectorError(f"{problem}: {'; '.join(parts)}")


def _check_size(path: Path) -> None:
    """That a checkpoint is a regular file, and neither it nor what it unpacks to is larger than any real one.

    Raises:
        OSError: it is not.
    """
    status = path.stat()
    size = status.st_size
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is no file", str(path))
    if path.suffix.lower() != ".safetensors" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = max(size, sum(entry.file_size for entry in archive.infolist()))
    if size > _LARGEST_CHECKPOINT:
        raise OSError(errno.EFBIG, f"holds {size:,} bytes, at most {_LARGEST_CHECKPOINT:,} are read", str(path))


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        _check_size(path)
    except FileNotFoundError as error:
        raise DetectorError(f"{shown(path)}: no such checkpoint") from error
    except OSError as error:
        raise DetectorError(f"{shown(path)}: is not a checkpoint of tensors ({error.strerror})") from error
    except zipfile.BadZipFile as error:
        raise DetectorError(
            f"{shown(path)}: is not a checkpoint of tensors ({error}); save model.state_dict()"
        ) from error
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            with warnings.catch_warnings(category=UserWarning, action="ignore"):  # torch has one for sparse tensors
                state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises is not documented
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        if isinstance(error, pickle.UnpicklingError):  # torch would tell how to load it without that check
            reason = "it is another file, or holds more than tensors"
        raise DetectorError(
            f"{shown(path)}: is not a checkpoint of tensors ({shown(reason)}); save model.state_dict()"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]  # as torchvision's training scripts save
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise DetectorError(f"{shown(path)}: is not a checkpoint of tensors by name; save model.state_dict()")
    return state


def _own_weights(name: str) -> dict[str, Tensor]:
    """torchvision's weights from its cache, downloaded into it first where they are not there."""
    import socket

    from torchvision.models import get_model_weights

    url: str = get_model_weights(name).DEFAULT.url
    file = url.rsplit("/", 1)[1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.exists():
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(_DOWNLOAD_DEADLINE_S)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The last part of the name is the start of the file's SHA-256.
            torch.hub.download_url_to_file(url, str(path), file.rsplit("-", 1)[1].split(".")[0])
        except (URLError, OSError, RuntimeError) as error:
            reason = getattr(error, "reason", None) or error
            raise DetectorError(
                f"detector torchvision:{name}: its weights cannot be downloaded from {url} ({reason}); fetch that file "
                f"elsewhere and give it as torchvision:{name}?weights=FILE"
            ) from error
        finally:
            socket.setdefaulttimeout(before)
    return _read_checkpoint(path)
