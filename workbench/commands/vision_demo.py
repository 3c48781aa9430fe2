"""The demo of a vision task: composed scenes, the offline Mask R-CNN, and every step of the bench over ZeroMQ."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from workbench.commands.viewing_demo import PROFILE, Steps, claim, emulated_device

DETECTOR = "offline:mask-rcnn"
TRAIN_IMAGES, TEST_IMAGES = 300, 100
STEPS, BATCH = 200, 16
TRIAL_RAWS = 40


def run_vision_demo(folder: Path, task: str, *, captures: int = 2000, seed: int = 0) -> Path:
    """Run every step for detection or segmentation; what ``folder`` has already is not done again.

    The scenes are composed with seeds that the detector's training never used, the test scenes with another one.

    Args:
        folder: gets ``scenes/``, ``raws/`` and ``lab/``.
        task: detection or segmentation.
        captures: captures of the collection and of the search on the device.
        seed: of everything.

    Returns:
        The page with the results.

    Raises:
        RunError: ``folder`` holds a demo with other settings.
    """
    from workbench.commands.collect import collect
    from workbench.commands.fit_proxy import fit_proxy
    from workbench.commands.report import report
    from workbench.commands.sim import expert as write_expert
    from workbench.commands.sim_coco import coco
    from workbench.commands.sim_composed import composed
    from workbench.commands.train import train
    from workbench.commands.tune import Rule, tune
    from workbench.commands.validate import validate

    begin = time.monotonic()
    claim(folder, {"task": task, "captures": captures, "seed": seed})
    raws, lab, expert = folder / "raws", folder / "lab", folder / "expert.toml"
    write_expert(PROFILE, expert)
    step = Steps(lab, begin)
    sets: dict[str, tuple[Path, Path]] = {}
    for split, images, number in (("train", TRAIN_IMAGES, 2 * seed), ("test", TEST_IMAGES, 2 * seed + 1)):
        made = folder / "scenes" / split
        sets[split] = (made / "instances.json", made / "images")
        step(
            f"scenes: {images} composed images to {split}, with boxes and masks",
            f"sim composed {made} --images {images} --seed {number}",
            lambda made=made, images=images, number=number: composed(  # type: ignore[misc]
                made, images=images, seed=number
            ),
        )
    shown = " ".join(f"--{split} {annotations} {images}" for split, (annotations, images) in sets.items())
    step(
        "RAWs: the images as a simulated sensor sees them",
        f"sim coco {raws} {shown} --seed {seed}",
        lambda: coco(raws, train=sets["train"], test=sets["test"], seed=seed),
    )
    judged = f"--task {task} --detector {DETECTOR} --annotations {raws / 'annotations.json'}"
    judge: dict[str, Any] = {"task": task, "detector": DETECTOR, "annotations": raws / "annotations.json"}
    common = f"--lab {lab} --seed {seed}"
    print(f"\n$ workbench sim serve --profile {PROFILE} --zmq 127.0.0.1:0")
    with emulated_device() as url:
        print(f"the emulated device answers at {url}")
        step(
            "collect: parameter sets over the whole range, each with its own RAW",
            f"collect --device {url} --raws {raws} --captures {captures} {common}",
            lambda: collect([url], captures, raws, lab=lab, seed=seed),
        )
        # The industry's table takes eight trials and the ranking of its sets at least.
        trial = max(min(TRIAL_RAWS, captures // 12), 1)
        for rule, told in (
            (Rule.fixed, "the best fixed parameters by mAP50 on the device, with as many captures"),
            (Rule.industry, "as-shot white balance sets the gains, a table over ISO the rest"),
        ):
            step(
                f"tune: {told}",
                f"tune {judged} --device {url} --rule {rule.value} --captures {captures} --raws-per-trial {trial} "
                f"--expert {expert} --name {rule.value} {common}",
                lambda rule=rule: tune(  # type: ignore[misc]
                    [url],
                    lab=lab,
                    rule=rule,
                    captures=captures,
                    raws_per_trial=trial,
                    expert=expert,
                    name=rule.value,
                    seed=seed,
                    **judge,
                ),
                run=rule.value,
            )
        step(
            "fit-proxy: a differentiable network learns to imitate the device",
            f"fit-proxy --device {url} --name proxy {common}",
            lambda: fit_proxy(lab=lab, device=url, name="proxy", seed=seed),
            run="proxy",
        )
        step(
            "train: the predictor, through the frozen proxy and the frozen detector",
            f"train {judged} --start {expert} --steps {STEPS} --batch {BATCH} --name predictor {common}",
            lambda: train(lab=lab, start=expert, steps=STEPS, batch=BATCH, name="predictor", seed=seed, **judge),
            run="predictor",
        )
        step(
            "validate: every method's parameters on the device, judged by the detector, on test scenes",
            f"validate {judged} --device {url} --expert {expert} {common}",
            lambda: validate([url], lab=lab, expert=expert, seed=seed, **judge),
        )
    page = folder / "report.html"
    step("report", f"report --lab {lab} --out {page}", lambda: report(lab=lab, out=page))
    print(f"\ndone in {time.monotonic() - begin:.0f} s; the page: {page.resolve()}")
    return page
