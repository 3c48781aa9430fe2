"""COCO mAP of Darknet models on clean photographs, under Darknet's rules and OpenCV's; optionally the same boxes.

    .venv/bin/python benchmarks/darknet_map.py ANNOTATIONS.json IMAGES MODEL.cfg... [--opencv4 PYTHON]

Darknet's rules are those of the detector as the bench uses it: every class of a box whose score is above 0.005.
OpenCV's reader sets scores of 0.2 and less to zero whatever its caller's threshold, and its usual post-processing keeps
only the best class of a box. With ``--opencv4``, a Python that has OpenCV 4 (version 5 reads no Darknet files) reads
the models too, and the raw rows of both are compared.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from workbench.tasks.coco import CocoSet, coco_dict, coco_scores, results_of
from workbench.tasks.coco_file import read_coco
from workbench.tasks.detectors import Prediction
from workbench.tasks.detectors.darknet import DarknetDetector, load_darknet
from workbench.tasks.detectors.yolo_loss import decode

OPENCV_CUT = 0.2

# Run by the Python that has OpenCV 4: rows of centre, size, objectness and class scores of every image.
OPENCV_SCRIPT = """
import sys, cv2, numpy as np
cfg, weights, out, width, height, *files = sys.argv[1:]
net = cv2.dnn.readNetFromDarknet(cfg, weights)
rows = {}
for i, file in enumerate(files):
    blob = cv2.dnn.blobFromImage(cv2.imread(file), 1 / 255, (int(width), int(height)), swapRB=True)
    net.setInput(blob)
    rows[str(i)] = np.concatenate(net.forward(net.getUnconnectedOutLayersNames()))
np.savez(out, version=cv2.__version__, **rows)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--opencv4", help="a Python with OpenCV 4, to compare with")
    arguments = parser.parse_args()
    data = read_coco(arguments.annotations, arguments.images)
    truth = coco_dict(data.images, data.categories)
    print("| model | rules | mAP50 | mAP75 | mAP50:95 |\n|---|---|---|---|---|")
    notes = []
    for cfg in arguments.models:
        detector = load_darknet(cfg)
        found: dict[str, list[dict]] = {"Darknet": [], "OpenCV": []}
        rows = []
        for image in data.images:
            inputs = network_input(arguments.images / image.file, detector)
            scale = torch.tensor([image.width, image.height] * 2) / torch.tensor([*inputs.shape[:1:-1]] * 2)
            (whole,) = detector.predict(inputs)
            found["Darknet"] += results_of(image.id, Prediction(whole.boxes * scale, whole.scores, whole.category_ids))
            rows.append(raw_rows(detector, inputs))
            best = opencv_rules(detector, torch.cat(rows[-1]))
            size = torch.tensor([image.width, image.height] * 2)
            found["OpenCV"] += results_of(image.id, Prediction(best.boxes * size, best.scores, best.category_ids))
        for rules, results in found.items():
            score = coco_scores(truth, results)
            print(
                f"| {cfg.stem} | {rules} | {score['map50']:.4f} | {score['map75']:.4f} | {score['map']:.4f} |",
                flush=True,
            )
        if arguments.opencv4:
            notes.append(f"{cfg.stem}: {compare(arguments.opencv4, cfg, detector, data, arguments.images, rows)}")
    print(*notes, sep="\n")


def network_input(path: Path, detector: DarknetDetector) -> Tensor:
    """``float32 [1, 3, h, w]``: the photograph stretched to the network's size by OpenCV."""
    pixels = cv2.imread(str(path))
    if pixels is None:
        sys.exit(f"{path}: cannot be read")
    resized = cv2.cvtColor(cv2.resize(pixels, (detector.module.width, detector.module.height)), cv2.COLOR_BGR2RGB)
    return torch.from_numpy(resized).permute(2, 0, 1)[None].float() / 255


@torch.no_grad()
def raw_rows(detector: DarknetDetector, inputs: Tensor) -> list[Tensor]:
    """``float32 [N, 5 + C]`` of each head: centre, size, objectness, class scores of every box, in Darknet's order."""
    module = detector.module
    parts = []
    for raw, head in zip(module(inputs), module.heads, strict=True):
        boxes, objectness, classes = decode(raw, head, (module.width, module.height))
        low, high = boxes[..., :2], boxes[..., 2:]
        seen = objectness.sigmoid()[..., None]
        row = torch.cat([(low + high) / 2, high - low, seen, seen * classes.sigmoid()], -1)
        parts.append(row[0].permute(1, 2, 0, 3).flatten(0, 2))
    return parts


def opencv_rules(detector: DarknetDetector, rows: Tensor) -> Prediction:
    """What OpenCV's reader and an argmax over the classes leave; boxes as parts of the image."""
    score, category = rows[:, 5:].max(1)
    kept = score > OPENCV_CUT
    rows, score, category = rows[kept], score[kept], category[kept]
    boxes = torch.cat([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], 1)
    last = batched_nms(boxes, score, category, detector.nms)
    return Prediction(boxes[last], score[last], torch.tensor(detector.category_ids)[category[last]])


def compare(
    python: str, cfg: Path, detector: DarknetDetector, data: CocoSet, images: Path, rows: list[list[Tensor]]
) -> str:
    """The largest differences from OpenCV's rows over all images."""
    size = [str(detector.module.width), str(detector.module.height)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.npz"
        files = [str(images / image.file) for image in data.images]
        weights = str(cfg.with_suffix(".weights"))
        subprocess.run(
            [python, "-c", OPENCV_SCRIPT, str(cfg), weights, str(out), *size, *files], check=True, timeout=900
        )
        theirs = np.load(out)
        version = str(theirs["version"])
        worst = np.zeros(3)
        for i, heads in enumerate(rows):
            other = theirs[str(i)]
            # OpenCV may give the heads in another order.
            orders = (torch.cat(order).numpy() for order in itertools.permutations(heads))
            mine = min(orders, key=lambda ours: float(np.abs(ours[:, :5] - other[:, :5]).max()))
            scores = np.where(mine[:, 5:] > OPENCV_CUT, mine[:, 5:], 0)
            gaps = np.abs(scores - other[:, 5:])
            # A score within rounding of the cut may fall on either side.
            gaps[np.abs(mine[:, 5:] - OPENCV_CUT) < 1e-4] = 0
            boxes = np.abs(mine[:, :5] - other[:, :5])
            worst = np.maximum(worst, [boxes[:, :4].max(), boxes[:, 4].max(), gaps.max()])
    return (
        f"OpenCV {version}, {len(rows)} images of {len(other)} boxes: largest difference {worst[0]:.1e} in centre and "
        f"size (parts of the image), {worst[1]:.1e} in objectness, {worst[2]:.1e} in class scores"
    )


if __name__ == "__main__":
    main()
