"""The detector that comes with the project: it opens offline, leads a training, and sees scenes it never saw."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivers.weights import WeightsError
from sim.scenes.composed_scenes import CATEGORIES, ComposedScene, composed_scene, scene_annotations
from workbench.tasks.coco import coco_scores, decode_mask, results_of
from workbench.tasks.detectors import Target, check_loss, open_detector
from workbench.tasks.detectors.small_mask_rcnn import FOLDER, SmallMaskRcnn, open_offline
from workbench.tasks.vision import as_batch

# Neither the seeds of its training nor those of the demos.
SEED = 777


@pytest.fixture(scope="module")
def detector() -> SmallMaskRcnn:
    found = open_detector("offline:mask-rcnn")
    assert isinstance(found, SmallMaskRcnn)
    return found


def target_of(scene: ComposedScene) -> Target:
    entries = scene_annotations(scene)
    boxes = torch.tensor([e["bbox"] for e in entries], dtype=torch.float32)
    boxes[:, 2:] += boxes[:, :2]
    masks = np.stack([decode_mask(e["segmentation"], *scene.labels.shape) for e in entries])
    return Target(boxes, torch.tensor([e["category_id"] for e in entries]), torch.from_numpy(masks))


def test_it_knows_the_composed_scenes_and_its_weights_are_small(detector: SmallMaskRcnn) -> None:
    assert set(detector.category_ids) == set(CATEGORIES)
    assert (FOLDER / "weights.safetensors").stat().st_size < 4 * 2**20


def test_its_loss_leads_a_training(detector: SmallMaskRcnn) -> None:
    scene = composed_scene(SEED, 0)
    check_loss(detector, as_batch(scene.picture), [target_of(scene)])
    before = {k: v.clone() for k, v in detector.module.state_dict().items()}
    losses = []
    for image in (as_batch(scene.picture), as_batch(scene.picture) * 0.08):
        torch.manual_seed(0)
        losses.append(float(detector.loss(image, [target_of(scene)])))
    assert losses[0] < losses[1]  # in the dark there is less to see
    for name, tensor in detector.module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_it_sees_scenes_that_it_never_saw(detector: SmallMaskRcnn) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number in range(1, 25):
        scene = composed_scene(SEED, number)
        images.append({"id": number, "file_name": "", "width": 160, "height": 160})
        for entry in scene_annotations(scene):
            annotations.append({"id": len(annotations) + 1, "image_id": number, **entry})
        results += results_of(number, detector.predict(as_batch(scene.picture))[0])
    categories = [{"id": i, "name": name} for i, name in CATEGORIES.items()]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    assert coco_scores(truth, results, "bbox")["map50"] > 0.85
    assert coco_scores(truth, results, "segm")["map50"] > 0.8


def test_damaged_weights_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        open_offline(tmp_path)
    shutil.copy(FOLDER / "weights.safetensors", tmp_path)
    with (tmp_path / "weights.safetensors").open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(WeightsError, match="not a weights file"):
        open_offline(tmp_path)
