"""The Darknet reader against layers computed by hand, against OpenCV's boxes, and against bad files."""

import contextlib
import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from workbench.errors import RunError
from workbench.tasks.detectors import Detector, DetectorError, Target, check_loss, open_detector
from workbench.tasks.detectors.darknet import DarknetDetector, load_darknet
from workbench.tasks.detectors.darknet_module import ACTIVATIONS, DarknetModule
from workbench.tasks.detectors.yolo_loss import YoloHead, decode, yolo_loss
from workbench.tasks.vision import open_task, recorded_task

NET = "[net]\nwidth=16\nheight=16\nchannels=3\n"
CONV = "[convolutional]\nfilters=3\nactivation=relu\n"
YOLO = "[convolutional]\nsize=1\nfilters=14\nactivation=linear\n[yolo]\nmask=0,1\nanchors=4,4, 8,6\nclasses=2\nnum=2\n"


def weights_file(path: Path, values: np.ndarray, version: tuple[int, int, int] = (0, 2, 5), seen: str = "<q") -> Path:
    path.write_bytes(struct.pack("<3i", *version) + struct.pack(seen, 1234) + values.astype("<f4").tobytes())
    return path


def model(tmp_path: Path, cfg: str, count: int, seed: int = 0) -> tuple[DarknetModule, np.ndarray]:
    path = tmp_path / "model.cfg"
    path.write_text(cfg)
    values = np.random.default_rng(seed).uniform(0.2, 1.0, count).astype(np.float32)
    module = DarknetModule(path)
    module.load(weights_file(path.with_suffix(".weights"), values))
    return module, values


class Reader:
    """Takes a weights file apart as Darknet's documentation says: bias, scale, mean, variance, weights."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = torch.from_numpy(values)
        self.at = 0

    def take(self, *shape: int) -> torch.Tensor:
        self.at += math.prod(shape)
        return self.values[self.at - math.prod(shape) : self.at].reshape(shape)

    def normalised(self, x: torch.Tensor, filters: int, size: int, **how: Any) -> torch.Tensor:
        bias, scale, mean, variance = (self.take(filters) for _ in range(4))
        weight = self.take(filters, x.shape[1] // how.get("groups", 1), size, size)
        return F.batch_norm(F.conv2d(x, weight, **how), mean, variance, scale, bias, eps=1e-6)

    def plain(self, x: torch.Tensor, filters: int, size: int) -> torch.Tensor:
        bias = self.take(filters)
        return F.conv2d(x, self.take(filters, x.shape[1], size, size), bias)


def test_the_layers_are_those_of_an_independent_computation(tmp_path: Path) -> None:
    cfg = (
        NET
        + "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
        + "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\ngroups=4\nactivation=mish\n"
        + "[shortcut]\nfrom=-2\nactivation=linear\n"
        + "[maxpool]\nsize=2\nstride=2\n"
        + "[maxpool]\nsize=5\nstride=1\n"
        + "[upsample]\nstride=2\n"
        + "[dropout]\nprobability=.5\n"
        + "[route]\nlayers=-1,0\n"
        + "[route]\nlayers=-1,2\ngroups=2\ngroup_id=1\n"
        + YOLO
    )
    count = (4 * 8 + 8 * 3 * 9) + (4 * 8 + 8 * 2 * 9) + (14 + 14 * 12)
    module, values = model(tmp_path, cfg, count)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    reader = Reader(values)
    first = F.leaky_relu(reader.normalised(x, 8, 3, stride=2, padding=1), 0.1)
    second = reader.normalised(first, 8, 3, padding=1, groups=4)
    added = second * torch.tanh(torch.log1p(torch.exp(second))) + first
    # A pool of 2 with stride 1's neighbour: the same size again for 5 with stride 1, whose border is left out.
    pooled = F.max_pool2d(added, 2, 2)
    pooled = F.max_pool2d(pooled, 5, 1, padding=2)
    doubled = pooled.repeat_interleave(2, 2).repeat_interleave(2, 3)
    both = torch.cat([doubled, first], 1)
    halves = torch.cat([both[:, 8:], added[:, 4:]], 1)
    expected = reader.plain(halves, 14, 1)
    (found,) = module(x)
    assert reader.at == count
    assert found.shape == (2, 14, 8, 8)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "stride", "side"), [(2, 1, 8), (2, 2, 4), (3, 2, 4), (3, 1, 8)])
def test_max_pooling_pads_to_the_right_and_below_first(tmp_path: Path, size: int, stride: int, side: int) -> None:
    cfg = NET.replace("16", "8") + f"[maxpool]\nsize={size}\nstride={stride}\n" + YOLO
    module, values = model(tmp_path, cfg, 14 + 42)
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    (found,) = module(x)
    low = (size - 1) // 2
    pooled = torch.empty(1, 3, side, side)
    for i in range(side):
        for j in range(side):
            top, left = i * stride - low, j * stride - low
            window = x[:, :, max(top, 0) : top + size, max(left, 0) : left + size]
            pooled[:, :, i, j] = window.amax((2, 3))
    torch.testing.assert_close(found, Reader(values).plain(pooled, 14, 1))


def test_max_pooling_has_a_stride_for_each_side(tmp_path: Path) -> None:
    cfg = NET.replace("16", "8") + "[maxpool]\nsize=2\nstride=2\nstride_x=1\n" + YOLO
    module, values = model(tmp_path, cfg, 14 + 42)
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    (found,) = module(x)
    wider = torch.cat([x, x[..., -1:]], 3)
    pooled = torch.maximum(wider[..., :8], wider[..., 1:])
    pooled = torch.maximum(pooled[:, :, 0::2], pooled[:, :, 1::2])
    torch.testing.assert_close(found, Reader(values).plain(pooled, 14, 1))


def test_the_activations_are_darknets() -> None:
    x = torch.tensor([-8.0, -1.0, 0.0, 0.5, 7.0])
    e = x.double().exp()
    expected = {
        "linear": x,
        "leaky": torch.where(x > 0, x, 0.1 * x),
        "relu": x.clamp(min=0),
        "relu6": x.clamp(0, 6),
        "logistic": (e / (1 + e)).float(),
        "swish": (x * e / (1 + e)).float(),
        "mish": (x * torch.tanh(torch.log(1 + e))).float(),
    }
    assert set(ACTIVATIONS) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(ACTIVATIONS[name](x), value)


@pytest.mark.parametrize(("version", "seen"), [((0, 1, 0), "<i"), ((0, 2, 0), "<q"), ((0, 2, 5), "<q")])
def test_both_headers_are_read(tmp_path: Path, version: tuple[int, int, int], seen: str) -> None:
    path = tmp_path / "m.cfg"
    path.write_text(NET + YOLO)
    values = np.arange(56, dtype=np.float32)
    module = DarknetModule(path)
    module.load(weights_file(tmp_path / "m.weights", values, version, seen))
    (convolution,) = module.convolutions
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None
    assert convolution.bias.tolist() == list(range(14))
    assert convolution.weight.flatten().tolist() == list(range(14, 56))
    assert not any(p.requires_grad for p in module.parameters())


def test_boxes_are_decoded_as_the_paper_says() -> None:
    head = YoloHead(torch.tensor([[10.0, 20.0], [30.0, 40.0]]), [1], 1, scale_x_y=1.2)
    raw = torch.zeros(1, 6, 2, 4)
    raw[0, :4, 1, 2] = torch.tensor([0.3, -0.4, 0.5, -0.6])
    boxes, _, _ = decode(raw, head, (64, 32))
    sx, sy = (1 / (1 + math.exp(-v)) * 1.2 - 0.1 for v in (0.3, -0.4))
    x, y, w, h = (2 + sx) / 4, (1 + sy) / 2, 30 / 64 * math.exp(0.5), 40 / 32 * math.exp(-0.6)
    expected = torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    torch.testing.assert_close(boxes[0, 0, 1, 2], expected)


def head_of_one(classes: int = 3) -> YoloHead:
    return YoloHead(torch.tensor([[8.0, 8.0], [24.0, 16.0], [2.0, 2.0]]), [0, 1], classes)


def test_the_loss_of_one_object_is_that_computed_by_hand() -> None:
    head = head_of_one()
    raw = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(3)) - 1
    # 20 × 15 pixels about (13, 9) of 32 × 32: the second anchor's, in column 1, row 1.
    truth = torch.tensor([[3.0, 1.5, 23.0, 16.5]]) / 32
    found = yolo_loss([raw], [head], [(truth, torch.tensor([2]))], (32, 32))

    def sigmoid(v: float) -> float:
        return 1 / (1 + math.exp(-v))

    def entropy(v: float, t: float) -> float:
        return -t * math.log(sigmoid(v)) - (1 - t) * math.log(1 - sigmoid(v))

    expected = 0.0
    for a, (aw, ah) in enumerate([(8, 8), (24, 16)]):
        for i in range(4):
            for j in range(4):
                tx, ty, tw, th, to, *tc = raw[0, 8 * a : 8 * a + 8, i, j].tolist()
                if (a, i, j) == (1, 1, 1):
                    weight = 2 - 20 * 15 / 32**2
                    expected += weight * (entropy(tx, 13 / 8 - 1) + entropy(ty, 9 / 8 - 1))
                    expected += weight * ((tw - math.log(20 / 24)) ** 2 + (th - math.log(15 / 16)) ** 2) / 2
                    expected += entropy(to, 1) + sum(entropy(v, float(c == 2)) for c, v in enumerate(tc))
                    continue
                x, y = (j + sigmoid(tx)) * 8, (i + sigmoid(ty)) * 8
                w, h = aw * math.exp(tw), ah * math.exp(th)
                across = min(x + w / 2, 23) - max(x - w / 2, 3)
                down = min(y + h / 2, 16.5) - max(y - h / 2, 1.5)
                common = max(across, 0) * max(down, 0)
                if common / (w * h + 300 - common) <= 0.5:
                    expected += entropy(to, 0)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_the_loss_leads_to_the_truth() -> None:
    head = head_of_one()
    truths = [
        (torch.tensor([[3.0, 1.5, 23.0, 16.5], [20.0, 20.0, 29.0, 30.0]]) / 32, torch.tensor([2, 0])),
        (torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)),
    ]
    raw = torch.zeros(2, 16, 4, 4, requires_grad=True)
    optimiser = torch.optim.Adam([raw], 0.1)
    for _ in range(300):
        optimiser.zero_grad()
        yolo_loss([raw], [head], truths, (32, 32)).backward()
        optimiser.step()
    boxes, objectness, classes = decode(raw.detach(), head, (32, 32))
    best = objectness[0].flatten().topk(2).indices
    found = boxes[0].reshape(-1, 4)[best]
    order = found[:, 0].argsort()
    torch.testing.assert_close(found[order], truths[0][0], atol=5e-3, rtol=0)
    assert classes[0].reshape(-1, 3)[best][order].argmax(1).tolist() == [2, 0]
    assert int((objectness > 0).sum()) == 2


def tiny_detector(tmp_path: Path, net: str = NET) -> Detector:
    cfg = net + "[convolutional]\nfilters=4\nsize=3\nstride=4\npad=1\nactivation=leaky\n" + YOLO
    (tmp_path / "tiny.cfg").write_text(cfg)
    values = np.random.default_rng(4).normal(0, 0.5, 4 + 108 + 14 + 56)
    weights_file(tmp_path / "tiny.weights", values)
    return open_detector(f"darknet:{tmp_path / 'tiny.cfg'}")


@pytest.mark.parametrize("changed", ["cfg", "names"])
def test_a_record_tells_another_cfg_and_other_names_of_the_same_weights(tmp_path: Path, changed: str) -> None:
    tiny_detector(tmp_path)
    (tmp_path / "tiny.names").write_text("car\nbus\n")
    data = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "car"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(data))
    specification = f"darknet:{tmp_path / 'tiny.cfg'}"
    record = open_task("detection", specification, tmp_path / "annotations.json").record()
    assert recorded_task(record).record() == record
    assert recorded_task({k: v for k, v in record.items() if k != "settings_sha256"}).record() == record  # an older one
    if changed == "cfg":
        tiny_detector(tmp_path, NET + "letter_box=1\n")
    else:
        (tmp_path / "tiny.names").write_text("bus\ncar\n")
    other = open_task("detection", specification, tmp_path / "annotations.json").record()
    assert {key for key in record if record[key] != other[key]} == {"settings_sha256"}
    with pytest.raises(RunError, match=r"tiny\.cfg: its \.cfg or names are not those of the record; put them back"):
        recorded_task(record)


@pytest.mark.parametrize("letter_box", [0, 1])
def test_boxes_come_back_in_the_pixels_of_the_image(tmp_path: Path, letter_box: int) -> None:
    detector = tiny_detector(tmp_path, NET + f"letter_box={letter_box}\n")
    image = torch.rand(1, 3, 24, 48, generator=torch.Generator().manual_seed(5))
    (small,) = detector.predict(image)
    # Four times as large an image holds the same, four times as large.
    (large,) = detector.predict(image.repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert len(small.boxes) > 0
    assert small.boxes[:, 2].max() <= 48
    assert small.boxes[:, 3].max() <= 24
    assert small.scores.tolist() == sorted(small.scores.tolist(), reverse=True)
    top_small, top_large = small.boxes[0], large.boxes[0]
    assert (top_large / 4 - top_small).abs().max() < 4
    assert set(small.category_ids.tolist()) <= {1, 2}


@pytest.mark.parametrize("letter_box", [0, 1])
def test_the_loss_is_differentiable_and_the_mean_over_the_images(tmp_path: Path, letter_box: int) -> None:
    detector = tiny_detector(tmp_path, NET + f"letter_box={letter_box}\n")
    image = torch.rand(1, 3, 24, 48, generator=torch.Generator().manual_seed(5))
    check_loss(detector, image, [Target(torch.tensor([[4.0, 4.0, 20.0, 16.0]]), torch.tensor([1]))])
    one = Target(torch.tensor([[4.0, 4.0, 20.0, 16.0]]), torch.tensor([1]))
    none = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    apart = [float(detector.loss(image, [t])) for t in (one, none)]
    together = float(detector.loss(image.repeat(2, 1, 1, 1), [one, none]))
    assert together == pytest.approx(sum(apart) / 2, rel=1e-5)
    with pytest.raises(DetectorError, match="category 7 is unknown"):
        detector.loss(image, [Target(one.boxes, torch.tensor([7]))])


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ("[convolutional]\n", r"begins with \[net\]"),
        ("filters=3\n", "neither"),
        (NET + "[lstm]\n" + YOLO, r"line 5: unknown layer \[lstm\]; known are convolutional"),
        (NET + YOLO.replace("linear", "gelu"), "activation 'gelu' is not one of"),
        (NET + YOLO.replace("filters=14", "filters=15"), "needs 14 channels; the layer before gives 15"),
        (NET + YOLO.replace("filters=14", "filters=x"), "filters=x is not a whole number"),
        (NET + YOLO.replace("filters=14", "filters=99999999"), "filters=99999999 is not within"),
        (NET + YOLO.replace("mask=0,1", "mask=0,2"), "does not choose"),
        (NET + YOLO + "new_coords=1\n", "new_coords=1 is not supported"),
        (NET + CONV + "[shortcut]\nfrom=-1\nalpha=.5\n" + YOLO, r"\[shortcut\] alpha=.5 is not supported"),
        (NET + CONV + "[shortcut]\nfrom=-1\nalpha=1\nbeta=0\n" + YOLO, r"\[shortcut\] beta=0 is not supported"),
        (NET + "[route]\nlayers=-1\n" + YOLO, "names no earlier layer"),
        (NET + "[shortcut]\nfrom=3\n" + YOLO, "names no earlier layer"),
        (NET + "[convolutional]\nfilters=4\ngroups=2\nactivation=relu\n" + YOLO, "groups=2 does not divide"),
        (NET.replace("channels=3", "channels=1") + YOLO, "channels=1"),
        (NET + "[convolutional]\n", "has no .yolo. layer"),
    ],
)
def test_a_bad_cfg_is_one_clear_line(tmp_path: Path, cfg: str, message: str) -> None:
    path = tmp_path / "bad.cfg"
    path.write_text(cfg)
    with pytest.raises(DetectorError, match=message) as caught:
        DarknetModule(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("count", "message"),
    [(55, "too short: 55 weights, the .cfg needs 56"), (57, "too long: 57 weights"), (0, "too short")],
)
def test_weights_of_another_length_are_refused(tmp_path: Path, count: int, message: str) -> None:
    (tmp_path / "m.cfg").write_text(NET + YOLO)
    weights_file(tmp_path / "m.weights", np.zeros(count))
    with pytest.raises(DetectorError, match=message):
        load_darknet(tmp_path / "m.cfg")


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.cfg").write_text(NET + YOLO)
    with pytest.raises(DetectorError, match="cannot read the Darknet weights"):
        load_darknet(tmp_path / "m.cfg")
    (tmp_path / "m.weights").write_bytes(b"\0" * 5)
    with pytest.raises(DetectorError, match="too short to be Darknet weights"):
        load_darknet(tmp_path / "m.cfg")
    weights_file(tmp_path / "m.weights", np.full(56, np.nan))
    with pytest.raises(DetectorError, match="not finite"):
        load_darknet(tmp_path / "m.cfg")
    with pytest.raises(DetectorError, match=r"cannot read the Darknet \.cfg"):
        open_detector(f"darknet:{tmp_path / 'none.cfg'}")


def test_layers_of_different_size_are_not_joined(tmp_path: Path) -> None:
    cfg = (
        NET
        + "[maxpool]\nsize=2\nstride=2\n[route]\nlayers=-1\n[maxpool]\nsize=2\nstride=2\n[shortcut]\nfrom=0\n"
        + YOLO
    )
    module, _ = model(tmp_path, cfg, 56)
    with pytest.raises(DetectorError, match=r"\[shortcut\] joins layers of different sizes \(4×4, 8×8\)"):
        module(torch.zeros(1, 3, 16, 16))


LINES = st.sampled_from(
    [
        *(NET + YOLO).split("\n"),
        "[route]",
        "layers=-1,0",
        "layers=9",
        "stride=0",
        "groups=3",
        "[maxpool]",
        "size=-2",
        "=",
        "a",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.lists(LINES).map("\n".join).map(str.encode), st.binary(max_size=60)))
def test_any_file_is_a_network_or_a_foreseen_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "any.cfg"
    path.write_bytes(content)
    with contextlib.suppress(DetectorError):
        DarknetModule(path)


@pytest.mark.needs_data
def test_a_real_model_sees_what_opencv_saw(data_dir: Path) -> None:
    detector = load_darknet(data_dir / "weights/darknet/yolo-fastest-1.1-xl.cfg")
    pixels = cv2.imread(str(data_dir / "coco/val2017/000000000139.jpg"))
    assert pixels is not None
    blob = cv2.cvtColor(cv2.resize(pixels, (320, 320)), cv2.COLOR_BGR2RGB)
    inputs = torch.from_numpy(blob).permute(2, 0, 1)[None].float() / 255
    (found,) = detector.predict(inputs)
    # OpenCV 4.12's reader on the same pixels: centre, size (the image is 1 wide and high), score.
    opencv = [
        (72, (0.121747, 0.513649, 0.212986, 0.230960), 0.969925),
        (62, (0.628921, 0.624589, 0.097304, 0.241304), 0.787846),
        (62, (0.455338, 0.635889, 0.132655, 0.247035), 0.752746),
    ]
    assert found.category_ids[:3].tolist() == [category for category, _, _ in opencv]
    for box, score, (_, (x, y, w, h), expected) in zip(found.boxes, found.scores, opencv, strict=False):
        assert float(score) == pytest.approx(expected, abs=1e-4)
        wanted = torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2]).clamp(0, 1) * 320
        torch.testing.assert_close(box, wanted, atol=0.02, rtol=0)


# What a strange .cfg, .weights or .names file must not do unsaid, or at all.


def loaded(tmp_path: Path, cfg: str, count: int = 56) -> DarknetDetector:
    (tmp_path / "m.cfg").write_text(cfg)
    weights_file(tmp_path / "m.weights", np.full(count, 0.1))
    return load_darknet(tmp_path / "m.cfg")


@pytest.mark.parametrize(
    ("cfg", "note"),
    [
        (
            NET + "# training\nwidth=64\n" + YOLO,
            "1 keys stand twice in their section, of which the first counts as in Darknet: "
            "line 6 [net] width=64 after width=16",
        ),
        (NET + YOLO.replace("size=1\n", "size=1\nsize=3\n"), "line 7 [convolutional] size=3 after size=1"),
        (NET + YOLO + "classes=80\n", "[yolo] classes=80 after classes=2"),
        (NET + YOLO.replace("activation", "activatoin"), "[convolutional] activatoin (is activation meant?)"),
        (NET + "witdh=4\n" + YOLO, "[net] witdh (is width meant?)"),
        (NET + YOLO + "qqqq=1\n", "1 keys are unknown to Darknet and do not count: [yolo] qqqq"),
    ],
)
def test_keys_that_do_not_count_are_noted(tmp_path: Path, cfg: str, note: str) -> None:
    detector = loaded(tmp_path, cfg)
    assert any(note in line for line in detector.notes)
    assert detector.module.width == 16
    assert detector.category_ids == (1, 2)


def test_keys_of_training_and_equal_keys_are_no_note(tmp_path: Path) -> None:
    more = "batch=1\nsubdivisions=1\nmomentum=0.9\nburn_in=1000\npolicy=steps\nwidth=16\n"
    assert loaded(tmp_path, NET + more + YOLO + "jitter=.3\nrandom=1\ntruth_thresh=1\n").notes == []


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        (NET.replace("16", "10000000") + YOLO, "width=10000000 is not within"),
        (
            NET.replace("16", "16384") + "[convolutional]\nfilters=64\nsize=3\npad=1\n" + YOLO,
            "64 maps of 16384×16384",
        ),
        (NET + "[upsample]\nstride=64\n" * 4 + YOLO, "maps of 65536×65536"),
        (NET + "[convolutional]\nfilters=9999999\n" + YOLO, "filters=9999999 is not within"),
        (NET + "[maxpool]\nsize=2\nstride=2\npadding=0\n" * 6 + YOLO, "would give 3 maps of 0×0"),
        (NET + "[dropout]\n" * 3000 + YOLO, "has 3002 layers, more than 2048"),
        (NET + "[convolutional]\nfilters=65536\n[convolutional]\nfilters=65536\nsize=9\npad=1\n", "has no [yolo]"),
    ],
)
def test_what_would_fill_the_memory_is_refused_before_it_takes_any(tmp_path: Path, cfg: str, told: str) -> None:
    (tmp_path / "m.cfg").write_text(cfg)
    with pytest.raises(DetectorError) as caught:
        load_darknet(tmp_path / "m.cfg")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_no_memory_holds_are_not_asked_for(tmp_path: Path) -> None:
    wide = "[convolutional]\nfilters=65536\n[convolutional]\nfilters=16384\nsize=9\npad=1\n"
    (tmp_path / "m.cfg").write_text(NET + wide + YOLO)
    (tmp_path / "m.weights").write_bytes(bytes(40))
    with pytest.raises(DetectorError, match=r"needs 8\d,\d{3},\d{3},\d{3} weights; at most 536,870,912 are read"):
        load_darknet(tmp_path / "m.cfg")


def test_lengths_are_told_in_bytes_too(tmp_path: Path) -> None:
    (tmp_path / "m.cfg").write_text(NET + YOLO)
    weights_file(tmp_path / "m.weights", np.zeros(57))
    with pytest.raises(DetectorError, match=r"57 weights, the \.cfg needs 56 \(248 bytes instead of 244\)"):
        load_darknet(tmp_path / "m.cfg")


@pytest.mark.parametrize("suffix", [".cfg", ".weights", ".names"])
def test_a_pipe_or_a_folder_in_a_files_place_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    loaded(tmp_path, NET + YOLO)
    path = tmp_path / f"m{suffix}"
    path.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(DetectorError, match=r"a folder|Is a directory|Permission"):
        load_darknet(tmp_path / "m.cfg")
    if hasattr(os, "mkfifo"):
        path.rmdir()
        os.mkfifo(path)
        with pytest.raises(DetectorError, match="is a named pipe"):
            load_darknet(tmp_path / "m.cfg")


def test_names_beside_the_cfg_or_by_option_name_the_categories(tmp_path: Path) -> None:
    assert loaded(tmp_path, NET + YOLO).category_names is None
    (tmp_path / "m.names").write_text("ball\nring\n")
    assert load_darknet(tmp_path / "m.cfg").category_names == {1: "ball", 2: "ring"}
    (tmp_path / "other.txt").write_text("cat\ndog\n")
    found = open_detector(f"darknet:{tmp_path / 'm.cfg'}?names={tmp_path / 'other.txt'}")
    assert isinstance(found, DarknetDetector)
    assert found.category_names == {1: "cat", 2: "dog"}
    (tmp_path / "other.txt").write_text("cat\ndog\ncow\n")
    with pytest.raises(DetectorError, match=r"other\.txt: names 3 categories, .*m\.cfg has 2; give the names of this"):
        open_detector(f"darknet:{tmp_path / 'm.cfg'}?names={tmp_path / 'other.txt'}")


@pytest.mark.parametrize("size", [(16, 16), (48, 32), (31, 17)])
def test_the_planned_sizes_are_those_of_the_maps(tmp_path: Path, size: tuple[int, int]) -> None:
    net = NET.replace("width=16", f"width={size[0]}").replace("height=16", f"height={size[1]}")
    cfg = (
        net
        + "[convolutional]\nfilters=4\nsize=3\nstride=2\npad=1\n[maxpool]\nsize=2\nstride=1\n"
        + "[convolutional]\nfilters=4\nsize=3\ndilation=2\npadding=1\n"
        + "[upsample]\nstride=2\n[maxpool]\nsize=3\nstride=3\n"
        + YOLO
    )
    module, _ = model(tmp_path, cfg, 4 + 108 + 4 + 144 + 14 + 56)
    (raw,) = module(torch.zeros(1, 3, size[1], size[0]))
    assert raw.shape[1:] == (module._steps[-1].channels, module._steps[-1].height, module._steps[-1].width)
