"""Detectors behind one interface: torchvision's models, users' modules, and what is said of those that cannot lead."""

import os
import sys
import types
import zipfile
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.detection import MaskRCNN, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from workbench.tasks.detectors import (
    Detector,
    DetectorError,
    Prediction,
    Target,
    check_categories,
    check_loss,
    open_detector,
    torchvision_models,
)
from workbench.tasks.detectors.coco_classes import COCO_IDS, category_ids_of
from workbench.tasks.detectors.torchvision_models import TorchvisionDetector, detection_models, load_torchvision

ONE = Target(torch.tensor([[8.0, 8.0, 40.0, 48.0]]), torch.tensor([2]))
NONE = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Bright:
    """A user's detector: the brighter the image, the less its loss."""

    name = "bright"
    category_ids = (1, 2)
    masks = False

    def loss(self, images: torch.Tensor, targets: Sequence[Target]) -> torch.Tensor:
        return (1 - images).mean() * len(targets)

    def predict(self, images: torch.Tensor) -> list[Prediction]:
        return [Prediction(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long)) for _ in images]

    def to(self, device: torch.device | str) -> Self:
        return self


@pytest.fixture(scope="module")
def ssdlite_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    return {key: value.contiguous() for key, value in model.state_dict().items()}


def tiny_mask_rcnn() -> TorchvisionDetector:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
    backbone.out_channels = 8  # type: ignore[assignment]
    model = MaskRCNN(
        backbone,
        min_size=64,
        max_size=64,
        rpn_anchor_generator=AnchorGenerator(((16, 32),), ((1.0,),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 2),
        mask_roi_pool=MultiScaleRoIAlign(["0"], 4, 2),
        box_head=nn.Sequential(nn.Flatten(), nn.Linear(72, 16), nn.ReLU()),
        box_predictor=TwoHeads(),
        mask_head=nn.Conv2d(8, 8, 3, 1, 1),
        mask_predictor=nn.Conv2d(8, 4, 1),
        box_score_thresh=0.0,
    )
    return TorchvisionDetector(model, "tiny", (1, 2, 3), masks=True)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scores, self.boxes = nn.Linear(16, 4), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.scores(x), self.boxes(x)


def test_the_coco_categories_are_cocos() -> None:
    assert len(COCO_IDS) == 80
    assert (COCO_IDS[0], COCO_IDS[11], COCO_IDS[56], COCO_IDS[79]) == (1, 13, 62, 90)
    assert category_ids_of(3) == (1, 2, 3)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_torchvision_checkpoint_is_loaded_with_its_own_categories(
    tmp_path: Path, ssdlite_state: dict[str, torch.Tensor], suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    if suffix == ".pth":
        torch.save({"model": ssdlite_state, "epoch": 3}, path)
    else:
        save_file(ssdlite_state, path)
    detector = open_detector(f"torchvision:ssdlite320_mobilenet_v3_large?weights={path}")
    assert isinstance(detector, Detector)
    assert isinstance(detector, TorchvisionDetector)
    assert list(detector.category_ids) == [1, 2, 3]
    assert not detector.masks
    kept = {key: value.clone() for key, value in detector.module.state_dict().items()}
    check_loss(detector, IMAGES, [ONE, NONE])
    for found, image in zip(detector.predict(IMAGES), IMAGES, strict=True):
        assert found.boxes.shape == (len(found.scores), 4)
        assert found.boxes.max() <= image.shape[-1]
        assert set(found.category_ids.tolist()) <= {1, 2, 3}
        assert found.masks is None
    # Frozen: neither weights nor statistics move.
    assert all(torch.equal(value, kept[key]) for key, value in detector.module.state_dict().items())
    assert not any(p.requires_grad for p in detector.module.parameters())


def test_a_mask_rcnn_draws_masks_and_is_led_by_them() -> None:
    detector = tiny_mask_rcnn()
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[:, 8:48, 8:40] = True
    with_mask = Target(ONE.boxes, ONE.category_ids, masks)
    none = Target(NONE.boxes, NONE.category_ids, torch.zeros(0, 64, 64, dtype=torch.bool))
    kept = {key: value.clone() for key, value in detector.module.state_dict().items()}
    check_loss(detector, IMAGES, [with_mask, none])
    found = detector.predict(IMAGES)
    assert len(found) == 2
    assert found[0].masks is not None
    assert found[0].masks.dtype == torch.bool
    assert found[0].masks.shape == (len(found[0].scores), 64, 64)
    assert all(torch.equal(value, kept[key]) for key, value in detector.module.state_dict().items())
    with pytest.raises(DetectorError, match="a target has none"):
        detector.loss(IMAGES, [ONE, NONE])


def test_the_loss_of_torchvision_is_the_sum_of_its_parts() -> None:
    detector = tiny_mask_rcnn()
    masks = torch.ones(1, 64, 64, dtype=torch.bool)
    targets = [Target(ONE.boxes, ONE.category_ids, masks)]
    torch.manual_seed(1)
    found = detector.loss(IMAGES[:1], targets)
    model = detector.module.train()
    assert isinstance(model.backbone, nn.Sequential)
    model.backbone[1].eval()
    torch.manual_seed(1)
    wanted = {"boxes": ONE.boxes, "labels": ONE.category_ids, "masks": masks.to(torch.uint8)}
    parts = model([IMAGES[0]], [wanted])
    assert set(parts) == {
        *("loss_classifier", "loss_box_reg", "loss_mask"),
        *("loss_objectness", "loss_rpn_box_reg"),
    }
    assert float(found) == pytest.approx(float(sum(parts.values())), rel=1e-5)


@pytest.mark.parametrize("damage", ["missing", "extra", "shape", "text", "pickle", "none"])
def test_a_checkpoint_that_does_not_fit_is_one_clear_line(
    tmp_path: Path, ssdlite_state: dict[str, torch.Tensor], damage: str
) -> None:
    path = tmp_path / "model.pth"
    state = dict(ssdlite_state)
    if damage == "missing":
        del state["backbone.features.0.0.0.weight"]
    elif damage == "extra":
        state["more"] = torch.zeros(1)
    elif damage == "shape":
        state["backbone.features.0.0.0.weight"] = torch.zeros(16, 3, 5, 5)
    if damage == "text":
        path.write_text("no checkpoint")
    elif damage == "pickle":
        torch.save({"model": Path("anything but tensors")}, path)
    elif damage != "none":
        torch.save(state, path)
    messages = {
        "missing": "1 tensors missing, first backbone.features.0.0.0.weight",
        "extra": "1 tensors too many, first more",
        "shape": "size mismatch for backbone.features.0.0.0.weight",
        "text": "is not a checkpoint of tensors",
        "pickle": "is not a checkpoint of tensors",
        "none": "no such checkpoint",
    }
    with pytest.raises(DetectorError) as caught:
        load_torchvision("ssdlite320_mobilenet_v3_large", path)
    assert messages[damage] in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_downloaded_name_the_file_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urllib.error import URLError

    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(DetectorError) as caught:
        open_detector("torchvision:maskrcnn_resnet50_fpn")
    text = str(caught.value)
    assert "https://download.pytorch.org/models/maskrcnn_resnet50_fpn_coco-" in text
    assert "no route to host" in text
    assert "give it as torchvision:maskrcnn_resnet50_fpn?weights=FILE" in text
    assert "\n" not in text


def test_every_model_is_of_the_kinds_that_have_a_loss() -> None:
    names = detection_models()
    assert {"fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "fcos_resnet50_fpn"} <= set(
        names
    )
    assert {"fcos_resnet50_fpn", "ssd300_vgg16", "ssdlite320_mobilenet_v3_large"} <= set(names)


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("resnet", "no such kind; known are darknet:FILE.cfg"),
        ("yolo:x", "no such kind"),
        ("torchvision:resnet18", "no such detection model; known are fasterrcnn"),
        ("torchvision:", "nothing named behind the colon"),
        ("torchvision:ssd300_vgg16?size=3", "option 'size=3' is not one of weights"),
        ("darknet:x.cfg?weights=", "option 'weights=' is not one of weights"),
        ("no.such.module:factory", "ModuleNotFoundError: No module named 'no'"),
    ],
)
def test_a_specification_that_names_nothing_is_one_clear_line(specification: str, message: str) -> None:
    with pytest.raises(DetectorError) as caught:
        open_detector(specification)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = types.ModuleType("lab_with_dots.detectors")
    monkeypatch.setitem(sys.modules, "lab_with_dots", types.ModuleType("lab_with_dots"))
    monkeypatch.setitem(sys.modules, "lab_with_dots.detectors", module)
    return module


def test_a_users_module_is_a_detector(user: Any) -> None:
    user.make = Bright
    detector = open_detector("lab_with_dots.detectors:make")
    assert detector.name == "bright"
    check_loss(detector, IMAGES, [ONE, NONE])


def test_what_a_users_factory_does_wrong_is_one_clear_line(user: Any) -> None:
    with pytest.raises(DetectorError, match="has no callable 'make'"):
        open_detector("lab_with_dots.detectors:make")
    user.make = lambda: 1 / 0
    with pytest.raises(DetectorError, match="ZeroDivisionError: division by zero"):
        open_detector("lab_with_dots.detectors:make")
    user.make = nn.Identity
    with pytest.raises(DetectorError, match="gave a Identity without name, category_ids, masks, loss, predict"):
        open_detector("lab_with_dots.detectors:make")
    user.make = type("Late", (Bright,), {"name": property(lambda self: self.weights.name)})
    with pytest.raises(DetectorError, match="without name; see"):
        open_detector("lab_with_dots.detectors:make")
    user.make = type("Failing", (Bright,), {"name": property(lambda self: 1 / 0)})
    with pytest.raises(DetectorError, match="ZeroDivisionError: division by zero"):
        open_detector("lab_with_dots.detectors:make")
    for notes in ("one text", [1, None]):
        user.make = type("Noted", (Bright,), {"notes": notes})
        with pytest.raises(DetectorError, match=r"its notes are .* not a sequence of texts"):
            open_detector("lab_with_dots.detectors:make")


def test_an_entry_point_is_a_kind(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def make(specification: str) -> Bright:
        opened.append(specification)
        return Bright()

    user.make = make
    entry = EntryPoint("bright", "lab_with_dots.detectors:make", "isp_workbench.detectors")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [entry] if group == entry.group else [])
    assert open_detector("bright:very").name == "bright"
    assert opened == ["bright:very"]
    with pytest.raises(DetectorError, match="factory, bright"):
        open_detector("dark")


class Detached(Bright):
    def loss(self, images: torch.Tensor, targets: Sequence[Target]) -> torch.Tensor:
        return (1 - images.detach()).mean()


class OnlyWeights(Bright):
    weight = nn.Parameter(torch.ones(1))

    def loss(self, images: torch.Tensor, targets: Sequence[Target]) -> torch.Tensor:
        return self.weight * 2


class Rounded(Bright):
    def loss(self, images: torch.Tensor, targets: Sequence[Target]) -> torch.Tensor:
        return (images * 255).round().mean()


class PerImage(Bright):
    def loss(self, images: torch.Tensor, targets: Sequence[Target]) -> torch.Tensor:
        return images.mean((1, 2, 3))


class Number(Bright):
    def loss(self, images: torch.Tensor, targets: Sequence[Target]) -> float:  # type: ignore[override]
        return float(images.detach().mean())


class Infinite(Bright):
    def loss(self, images: torch.Tensor, targets: Sequence[Target]) -> torch.Tensor:
        return images.mean() / 0


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Detached, "is not differentiable with respect to the image"),
        (OnlyWeights, "is not differentiable with respect to the image"),
        (Rounded, "the gradient of its loss on the image is zero everywhere"),
        (PerImage, r"loss gives a tensor \[2\]; it must give one number"),
        (Number, "loss gives a float"),
        (Infinite, r"loss gives inf on images in \[0, 1\]; it must be finite .*; check its weights"),
    ],
)
def test_a_loss_that_cannot_lead_is_refused(kind: type[Bright], message: str) -> None:
    with pytest.raises(DetectorError, match=message):
        check_loss(kind(), IMAGES, [ONE, NONE])


def test_a_category_unknown_to_the_detector_is_named() -> None:
    with pytest.raises(DetectorError, match=r"instances\.json: category 7, 9 is unknown to bright, which knows 2"):
        check_categories(Bright(), [1, 9, 7, 7], "instances.json")
    with pytest.raises(DetectorError, match="the targets: category 3"):
        check_loss(Bright(), IMAGES, [Target(ONE.boxes, torch.tensor([3])), NONE])
    check_categories(Bright(), [1, 2, 2], "instances.json")


def test_a_checkpoint_may_not_ask_for_a_huge_network(tmp_path: Path, ssdlite_state: dict[str, torch.Tensor]) -> None:
    state = dict(ssdlite_state)
    key = next(k for k in state if k.startswith("head.classification_head") and state[k].ndim == 4)
    for shape in ((91 * 10**7, 0, 1, 1), (6 * 10**6, *state[key].shape[1:])):
        state[key] = torch.zeros(1).expand(shape) if 0 not in shape else torch.zeros(shape)
        save = tmp_path / "model.pth"
        torch.save(state, save)
        with pytest.raises(DetectorError, match="does not fit ssdlite320_mobilenet_v3_large"):
            load_torchvision("ssdlite320_mobilenet_v3_large", save)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_checkpoint_is_a_regular_file_of_a_bounded_size(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.mkdir()
    with pytest.raises(DetectorError, match="is no file"):
        load_torchvision("ssdlite320_mobilenet_v3_large", path)
    path.rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        with pytest.raises(DetectorError, match="is no file"):
            load_torchvision("ssdlite320_mobilenet_v3_large", path)
        path.unlink()
    with path.open("wb") as file:
        file.truncate(5 << 30)  # sparse: it takes no room
    with pytest.raises(DetectorError, match=r"holds 5,368,709,120 bytes, at most 4,294,967,296 are read"):
        load_torchvision("ssdlite320_mobilenet_v3_large", path)


def test_a_checkpoint_that_unpacks_to_too_much_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_models, "_LARGEST_CHECKPOINT", 1 << 20)
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data/0", bytes(2 << 20))
    assert path.stat().st_size < 1 << 16
    with pytest.raises(DetectorError, match=r"holds 2,097,152 bytes, at most"):
        load_torchvision("ssdlite320_mobilenet_v3_large", path)


def test_a_checkpoint_of_no_finite_weights_is_refused(tmp_path: Path, ssdlite_state: dict[str, torch.Tensor]) -> None:
    key = "backbone.features.0.0.0.weight"
    path = tmp_path / "model.safetensors"
    save_file({**ssdlite_state, key: torch.full_like(ssdlite_state[key], float("nan"))}, path)
    with pytest.raises(DetectorError, match=f"weights that are not finite, first {key}"):
        load_torchvision("ssdlite320_mobilenet_v3_large", path)


@pytest.mark.parametrize("kind", ["int8", "float8", "complex", "sparse", "meta", "numbered"])
def test_a_checkpoint_whose_weights_are_no_plain_numbers_is_refused(
    tmp_path: Path, ssdlite_state: dict[str, torch.Tensor], kind: str
) -> None:
    key = "backbone.features.0.0.0.weight"
    weight = ssdlite_state[key]
    odd: dict[str, dict[Any, torch.Tensor]] = {
        "int8": {key: (weight * 100).to(torch.int8)},
        "float8": {key: weight.to(torch.float8_e4m3fn)},
        "complex": {key: weight.to(torch.complex64)},
        "sparse": {key: weight.to_sparse()},
        "meta": {key: weight.to("meta")},
        "numbered": {7: weight},
    }
    path = tmp_path / "model.pth"
    torch.save(ssdlite_state | odd[kind], path)
    message = "by name; save model.state_dict" if kind == "numbered" else f"holds {key} as .*; save model.state_dict"
    with pytest.raises(DetectorError, match=message):
        load_torchvision("ssdlite320_mobilenet_v3_large", path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_read(
    tmp_path: Path, ssdlite_state: dict[str, torch.Tensor], dtype: torch.dtype
) -> None:
    # Counters too: that is what a loop over a state dict writes.
    torch.save({key: value.to(dtype) for key, value in ssdlite_state.items()}, tmp_path / "model.pth")
    found = load_torchvision("ssdlite320_mobilenet_v3_large", tmp_path / "model.pth")
    key = "backbone.features.0.0.0.weight"
    assert torch.equal(found.module.state_dict()[key], ssdlite_state[key].to(dtype).float())


def test_a_names_file_names_the_labels_of_a_checkpoint(tmp_path: Path, ssdlite_state: dict[str, torch.Tensor]) -> None:
    save_file(ssdlite_state, tmp_path / "model.safetensors")
    (tmp_path / "my.names").write_text("ball\nring\nleaf\n")
    specification = f"torchvision:ssdlite320_mobilenet_v3_large?weights={tmp_path / 'model.safetensors'}"
    unnamed = open_detector(specification)
    found = open_detector(f"{specification}&names={tmp_path / 'my.names'}")
    assert isinstance(unnamed, TorchvisionDetector)
    assert isinstance(found, TorchvisionDetector)
    assert unnamed.category_names is None
    assert found.category_names == {1: "ball", 2: "ring", 3: "leaf"}
    (tmp_path / "my.names").write_text("ball\nring\n")
    with pytest.raises(DetectorError, match="names 2 categories"):
        open_detector(f"{specification}&names={tmp_path / 'my.names'}")
