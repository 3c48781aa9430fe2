from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from workbench.tasks.coco import coco_scores
from workbench.tasks.coco_bootstrap import Matches

IMAGES, CATEGORIES = 8, 3


def box(rng: np.random.Generator) -> list[float]:
    return [*rng.uniform(0, 60, 2), *rng.uniform(8, 40, 2)]


def data_set(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects (some of them crowds), and detections of them: moved, missed, made up, of the wrong category."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, IMAGES + 1):
        for _ in range(rng.integers(0, 5)):
            real = box(rng)
            category = int(rng.integers(1, CATEGORIES + 1))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": real,
                    "area": real[2] * real[3],
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
            if rng.random() < 0.8:
                moved = [float(v) for v in np.array(real) + rng.normal(0, 3, 4)]
                found = category if rng.random() < 0.9 else int(rng.integers(1, CATEGORIES + 1))
                # Few different scores: ties must be counted as pycocotools counts them.
                results.append(
                    {"image_id": image, "category_id": found, "bbox": moved, "score": float(rng.integers(1, 9)) / 8}
                )
        if rng.random() < 0.5:
            results.append({"image_id": image, "category_id": 1, "bbox": box(rng), "score": float(rng.random())})
    images = [{"id": i, "width": 100, "height": 100, "file_name": f"{i}.png"} for i in range(1, IMAGES + 1)]
    categories = [{"id": i, "name": str(i)} for i in range(1, CATEGORIES + 1)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def drawn(
    truth: dict[str, Any], results: list[dict[str, Any]], counts: np.ndarray
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The data set with its images repeated, in the order of the images."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image, count in enumerate(counts.astype(int), 1):
        for _ in range(count):
            number = len(images) + 1
            images.append({**truth["images"][image - 1], "id": number})
            for a in truth["annotations"]:
                if a["image_id"] == image:
                    annotations.append({**a, "id": len(annotations) + 1, "image_id": number})
            found += [{**r, "image_id": number} for r in results if r["image_id"] == image]
    return {**truth, "images": images, "annotations": annotations}, found


@pytest.mark.parametrize("seed", range(6))
def test_each_image_once_gives_the_figures_of_pycocotools(seed: int) -> None:
    truth, results = data_set(seed)
    got = Matches(truth, results, "bbox").scores(np.ones((1, IMAGES)))
    for name, value in coco_scores(truth, results).items():
        assert got[name][0] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("seed", range(6))
def test_a_resample_is_scored_as_the_repeated_images_are(seed: int) -> None:
    truth, results = data_set(seed)
    counts = np.random.default_rng(seed).multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), 5)
    got = Matches(truth, results, "bbox").scores(counts.astype(float))
    for i, row in enumerate(counts):
        for name, value in coco_scores(*drawn(truth, results, row)).items():
            assert got[name][i] == pytest.approx(value, abs=1e-12), name


def test_nothing_found_is_zero_and_no_object_is_no_number() -> None:
    truth, _ = data_set(0)
    empty = int(np.argmin([sum(a["image_id"] == i for a in truth["annotations"]) for i in range(1, IMAGES + 1)]))
    without = {**truth, "annotations": [a for a in truth["annotations"] if a["image_id"] != empty + 1]}
    counts = np.zeros((2, IMAGES))
    counts[0], counts[1, empty] = 1, 5
    got = Matches(without, [], "bbox").scores(counts)["map50"]
    assert got[0] == 0
    assert np.isnan(got[1])
