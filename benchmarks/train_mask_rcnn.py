"""Trains the offline Mask R-CNN on composed scenes, varied as cameras vary them, and scores it on scenes never seen.

    .venv/bin/python benchmarks/train_mask_rcnn.py OUT [--images 3000] [--steps 2500] [--seed 0]

OUT gets ``weights.safetensors`` (half precision) and ``scores.json``. The weights in the project are those of the
defaults, copied to ``workbench/tasks/detectors/small_mask_rcnn/``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from drivers.weights import save_weights
from sim.scenes.composed_scenes import CATEGORIES, ComposedScene, composed_scene, scene_annotations
from workbench.tasks.coco import coco_scores, results_of
from workbench.tasks.detectors.small_mask_rcnn import FIRST_CATEGORY, KIND, SmallMaskRcnn, build, open_offline
from workbench.tasks.vision import as_batch

# Far from the seeds that people will take for their own scenes.
TRAINING_SEED, TEST_SEED = 90_000, 90_001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--test-images", type=int, default=200)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    scenes = [composed_scene(TRAINING_SEED, i) for i in range(arguments.images)]
    print(f"{len(scenes)} scenes composed in {time.monotonic() - begin:.0f} s", flush=True)
    network = train(scenes, arguments.steps, arguments.batch, arguments.seed)
    half = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    save_weights(arguments.out, KIND, half, {"steps": arguments.steps, "images": arguments.images})
    detector = open_offline(arguments.out)
    test = [composed_scene(TEST_SEED, i) for i in range(arguments.test_images)]
    scores = {"seed": arguments.seed, "steps": arguments.steps, "images": arguments.images, **score(detector, test)}
    (arguments.out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    print(json.dumps(scores), f"{time.monotonic() - begin:.0f} s")


def train(scenes: list[ComposedScene], steps: int, batch: int, seed: int) -> torch.nn.Module:
    """The network after so many steps of AdamW on a one-cycle schedule."""
    torch.manual_seed(seed)
    network = build().train()
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    smooth, begin = 0.0, time.monotonic()
    for step in range(1, steps + 1):
        chosen = [scenes[i] for i in torch.randint(len(scenes), (batch,), generator=generator).tolist()]
        images, targets = [], []
        for scene in chosen:
            image, target = example(scene, generator)
            images.append(image)
            targets.append(target)
        loss = torch.stack(list(network(images, targets).values())).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        smooth = float(loss.detach()) if step == 1 else 0.98 * smooth + 0.02 * float(loss.detach())
        if step % 50 == 0:
            left = (time.monotonic() - begin) / step * (steps - step)
            print(f"step {step} of {steps}, loss {smooth:.3f}, {left:.0f} s left", flush=True)
    return network.eval()


def example(scene: ComposedScene, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """A scene as some camera might show it, and its objects."""
    image = varied(as_batch(scene.picture)[0], generator)
    labels = torch.from_numpy(scene.labels)
    masks = torch.stack([labels == i for i in range(1, len(scene.category_ids) + 1)])
    if torch.rand(1, generator=generator) < 0.5:
        image, masks = image.flip(2), masks.flip(2)
    boxes = torch.stack([box_of(mask) for mask in masks])
    kinds = torch.tensor(scene.category_ids) - (FIRST_CATEGORY - 1)
    return image, {"boxes": boxes, "labels": kinds, "masks": masks.to(torch.uint8)}


def varied(image: Tensor, generator: torch.Generator) -> Tensor:
    """Exposure, colour cast, contrast, softness and noise of an ISP that is not tuned well, in moderation."""
    normal = torch.randn(8, generator=generator)
    uniform = torch.rand(4, generator=generator)
    linear = image.clamp_min(1e-4) ** 2.2 * torch.exp2(0.35 * normal[0] + 0.2 * normal[1:4])[:, None, None]
    image = linear.clamp(0, 1) ** (1 / (2.2 * torch.exp2(0.2 * normal[4])))
    if uniform[0] < 0.3:
        image = gaussian_blur(image, [5, 5], [0.3 + 0.7 * float(uniform[1])] * 2)
    noise = torch.randn(image.shape, generator=generator)
    if uniform[2] < 0.5:  # noise in blotches, as noise reduction leaves it
        noise = 1.5 * gaussian_blur(noise, [3, 3], [0.8, 0.8])
    return (image + 0.07 * uniform[3] ** 2 * noise).clamp(0, 1)


def box_of(mask: Tensor) -> Tensor:
    rows, columns = torch.nonzero(mask.any(1)), torch.nonzero(mask.any(0))
    edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    return torch.cat(edges).float()


def score(detector: SmallMaskRcnn, scenes: list[ComposedScene]) -> dict[str, float]:
    """mAP of boxes and masks on clean scenes."""
    images, annotations, results = [], [], []
    for number, scene in enumerate(scenes, 1):
        side = scene.labels.shape[0]
        images.append({"id": number, "file_name": "", "width": side, "height": side})
        annotations += [
            {"id": len(annotations) + 1 + i, "image_id": number, **a} for i, a in enumerate(scene_annotations(scene))
        ]
        results += results_of(number, detector.predict(as_batch(np.asarray(scene.picture)))[0])
    categories = [{"id": i, "name": name} for i, name in CATEGORIES.items()]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    boxes, masks = coco_scores(truth, results, "bbox"), coco_scores(truth, results, "segm")
    return {f"bbox_{k}": v for k, v in boxes.items()} | {f"segm_{k}": v for k, v in masks.items()}


if __name__ == "__main__":
    main()
