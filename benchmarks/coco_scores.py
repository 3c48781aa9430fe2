"""mAP of the bench against faster-coco-eval's and torchmetrics' on the same predictions, boxes and masks.

    .venv/bin/python benchmarks/coco_scores.py ANNOTATIONS.json IMAGES DETECTOR

DETECTOR is a specification such as ``darknet:MODEL.cfg``. Its predictions on the images are scored for boxes; for masks
the objects' own masks are, moved by a few pixels, some left out, with random scores. Neither library is a dependency:
install them beside the project first.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from workbench.tasks.coco import CocoSet, coco_dict, coco_scores, decode_mask, encode_mask, results_of
from workbench.tasks.coco_file import read_coco
from workbench.tasks.detectors import open_detector
from workbench.tasks.vision import as_batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("detector")
    arguments = parser.parse_args()
    data = read_coco(arguments.annotations, arguments.images)
    truth = coco_dict(data.images, data.categories)
    detector = open_detector(arguments.detector)
    found: list[dict[str, Any]] = []
    for image in data.images:
        pixels = np.asarray(Image.open(arguments.images / image.file).convert("RGB"))
        found += results_of(image.id, detector.predict(as_batch(pixels))[0])
    print("| predictions | library | mAP50 | mAP75 | mAP50:95 |\n|---|---|---|---|---|")
    for what, kind, results in (("boxes", "bbox", found), ("masks", "segm", moved_masks(data))):
        figures = {"workbench (pycocotools)": coco_scores(truth, results, kind)}  # type: ignore[arg-type]
        figures["faster-coco-eval"] = by_faster_coco_eval(truth, results, kind)
        figures["torchmetrics"] = by_torchmetrics(truth, results, kind)
        for library, score in figures.items():
            print(f"| {what} | {library} | {score['map50']:.8f} | {score['map75']:.8f} | {score['map']:.8f} |")


def moved_masks(data: CocoSet) -> list[dict[str, Any]]:
    """Masks as a detector of middling skill would draw them."""
    rng = np.random.default_rng(0)
    results = []
    for image in data.images:
        for annotation in image.annotations:
            if annotation.segmentation is None or rng.random() < 0.2:
                continue
            mask = decode_mask(annotation.segmentation, image.height, image.width)
            mask = np.roll(mask, tuple(rng.integers(-6, 7, 2)), (0, 1))
            results.append(
                {
                    "image_id": image.id,
                    "category_id": annotation.category_id,
                    "segmentation": encode_mask(mask),
                    "score": float(rng.random()),
                }
            )
    return results


def by_faster_coco_eval(truth: dict[str, Any], results: list[dict[str, Any]], kind: str) -> dict[str, float]:
    from faster_coco_eval import COCO, COCOeval_faster

    expected = COCO({**truth, "info": {}})
    evaluation = COCOeval_faster(expected, expected.loadRes([dict(r) for r in results]), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {"map": evaluation.stats[0], "map50": evaluation.stats[1], "map75": evaluation.stats[2]}


def by_torchmetrics(truth: dict[str, Any], results: list[dict[str, Any]], kind: str) -> dict[str, float]:
    from torchmetrics.detection import MeanAveragePrecision

    # Its own recall thresholds are float32: a recall of exactly 0.7, say, then falls on the other side of one.
    recalls = np.linspace(0, 1, 101).tolist()
    metric = MeanAveragePrecision(iou_type=kind, box_format="xywh", backend="pycocotools", rec_thresholds=recalls)
    size = {i["id"]: (i["height"], i["width"]) for i in truth["images"]}
    for image, (height, width) in size.items():
        mine = [r for r in results if r["image_id"] == image]
        objects = [a for a in truth["annotations"] if a["image_id"] == image]

        def tensors(entries: list[dict[str, Any]], shape: tuple[int, int] = (height, width)) -> dict[str, Any]:
            fields: dict[str, Any] = {"labels": torch.tensor([e["category_id"] for e in entries], dtype=torch.int64)}
            if kind == "bbox":
                fields["boxes"] = torch.tensor([e["bbox"] for e in entries], dtype=torch.float32).reshape(-1, 4)
            else:
                masks = [decode_mask(e["segmentation"], *shape) for e in entries]
                fields["masks"] = torch.from_numpy(np.array(masks).reshape(-1, *shape))
            return fields

        crowd = torch.tensor([a["iscrowd"] for a in objects], dtype=torch.int64)
        area = torch.tensor([a["area"] for a in objects])
        scores = torch.tensor([r["score"] for r in mine])
        metric.update([{**tensors(mine), "scores": scores}], [{**tensors(objects), "iscrowd": crowd, "area": area}])
    got = metric.compute()
    return {"map": float(got["map"]), "map50": float(got["map_50"]), "map75": float(got["map_75"])}


if __name__ == "__main__":
    main()
