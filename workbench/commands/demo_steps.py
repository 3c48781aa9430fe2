"""The steps of the demo: every step of the bench over ZeroMQ, announced with the command that does the same."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from drivers.regular_files import read_json
from workbench.commands.demo_announcing import Options, Steps
from workbench.commands.demo_device import PROFILE, emulated_device
from workbench.commands.demo_sizes import TRIAL, DemoSizes
from workbench.commands.task_options import VIEWING
from workbench.errors import RunError
from workbench.judge.format1 import spoken
from workbench.judge.results import read_validation
from workbench.lab.runs import RunFolder, find_run, write_json

DETECTOR = "offline:mask-rcnn"


class Demo(NamedTuple):
    """What a demo leaves: the report, the ``validate`` run of its table, and those of the second table by setting."""

    page: Path
    validation: RunFolder
    settings: dict[str, RunFolder]

    def to_dict(self) -> dict[str, Any]:
        """Where the report is, and all results of both tables."""

        def told(run: RunFolder) -> dict[str, Any]:
            return {"run": str(run.path), **spoken(read_validation(run))}

        return {
            "report": str(self.page),
            "validation": told(self.validation),
            "settings": {setting: told(run) for setting, run in self.settings.items()},
        }


def run_demo(
    folder: Path,
    task: str = VIEWING,
    sizes: DemoSizes | None = None,
    *,
    photographs: Path | None = None,
    seed: int = 0,
    trial: bool = False,
) -> Demo:
    """Run every step; fits and searches already done in ``folder`` with the same settings are not done again.

    Args:
        folder: gets ``raws/``, ``lab/`` and ``report.html``, for detectors also ``scenes/``, for viewing what
            :mod:`workbench.commands.demo_settings` adds.
        task: viewing, or detection or segmentation, judged by the offline detector on composed scenes: the test scenes
            are composed with a seed that neither training nor the detector ever used.
        sizes: of the steps; by default those of the whole demo.
        photographs: for viewing, a folder of photographs, or None for the sample photographs and the lab scenes.
        seed: of everything.
        trial: whether it shows the path only, so that its figures are marked as no result.

    Raises:
        RunError: ``folder`` holds a demo with other settings.
    """
    from workbench.commands import demo_sizes
    from workbench.commands.collect import collect
    from workbench.commands.demo_settings import print_settings, under_settings
    from workbench.commands.fit_proxy import fit_proxy
    from workbench.commands.report import report
    from workbench.commands.sim import expert as write_expert
    from workbench.commands.train import train
    from workbench.commands.tune import tune
    from workbench.commands.validate import validate
    from workbench.rules.tuned import Rule

    viewing = task == VIEWING
    sizes = sizes or (demo_sizes.VIEWING if viewing else demo_sizes.DETECTOR)
    begin = time.monotonic()
    settings = {"photographs": str(photographs)} if viewing else {"task": task}
    _claim(folder, {**settings, "captures": sizes.captures, "seed": seed, **({"trial": True} if trial else {})})
    if trial:
        print(f"this is {TRIAL}")
    raws, lab, page, expert = folder / "raws", folder / "lab", folder / "report.html", folder / "expert.toml"
    write_expert(PROFILE, expert)
    step = Steps(begin)
    judge: Options = {}
    if viewing:
        _photograph(step, raws, sizes, photographs, seed)
    else:
        judge = {"task": task, "detector": DETECTOR, "annotations": raws / "annotations.json"}
        _compose(step, folder, raws, sizes, seed)
    common: Options = {"lab": lab, "seed": seed}
    print(f"\n$ workbench sim serve --profile {PROFILE} --zmq 127.0.0.1:0")
    under: dict[str, RunFolder] = {}
    with emulated_device() as url:
        print(f"the emulated device answers at {url}")
        step(
            "collect: parameter sets over the whole range, each with its own RAW",
            "collect",
            collect,
            {"device": [url], "captures": sizes.captures, "raws": raws, **common},
        )
        for rule, told in (
            (Rule.fixed, "the best fixed parameters on the device, with as many captures"),
            (Rule.industry, "as-shot white balance sets the gains, a table over ISO the rest"),
        ):
            options = {
                "device": [url],
                "rule": rule,
                "captures": sizes.captures,
                "raws_per_trial": demo_sizes.trials(sizes.raws_per_trial, sizes.captures),
                "expert": expert,
            }
            step(f"tune: {told}", "tune", tune, {**judge, **options, "name": rule.value, **common})
        step(
            "fit-proxy: a differentiable network learns to imitate the device",
            "fit-proxy",
            fit_proxy,
            {
                "device": url,
                "base_steps": sizes.base_steps,
                "steps": sizes.proxy_steps,
                "width": sizes.proxy_width,
                "loss_raws": sizes.loss_raws,
                "name": "proxy",
                **common,
            },
        )
        learnt = {"start": expert, "steps": sizes.steps, "batch": sizes.batch}
        predictors = {"with-metadata": True, "image-only": False} if sizes.image_only else {"predictor": True}
        for name, metadata in predictors.items():
            inputs = {"metadata": metadata} if sizes.image_only else {}
            step(
                f"train: the predictor, {'with metadata' if metadata else 'image only'}, through the frozen proxy",
                "train",
                train,
                {**judge, **inputs, **learnt, "name": name, **common},
            )
        step(
            "validate: every method's parameters on the device, on test scenes",
            "validate",
            validate,
            {
                **judge,
                "device": [url],
                "expert": expert,
                "test_raws": sizes.test_raws,
                "oracle_captures": sizes.oracle_captures,
                "remark": TRIAL if trial else None,
                **common,
            },
        )
        validation = find_run(lab, "validate")
        if sizes.settings is not None:
            under = under_settings(step, folder, sizes, url=url, photographs=photographs, seed=seed, trial=trial)
    step("report", "report", report, {"lab": lab, "out": page})
    if under:
        print_settings(under, trial=trial)
    marked = f", {TRIAL}" if trial else ""
    print(f"\ndone in {time.monotonic() - begin:.0f} s{marked}; the report: {page.resolve()}")
    return Demo(page, validation, under)


def _photograph(step: Steps, raws: Path, sizes: DemoSizes, photographs: Path | None, seed: int) -> None:
    """RAWs of photographs and lab scenes; of a user's photographs alone where there are some."""
    from workbench.commands.sim_scenes import scenes

    step(
        "scenes: photographs and lab scenes, seen by a simulated sensor",
        "sim scenes",
        scenes,
        {"folder": raws, **sizes.of_scenes(photographs), "seed": seed},
    )


def _compose(step: Steps, folder: Path, raws: Path, sizes: DemoSizes, seed: int) -> None:
    """RAWs of composed scenes, with boxes and masks."""
    from workbench.commands.sim_coco import coco
    from workbench.commands.sim_composed import composed

    sets: dict[str, tuple[Path, Path]] = {}
    for split, images, number in (("train", sizes.train_images, 2 * seed), ("test", sizes.test_images, 2 * seed + 1)):
        made = folder / "scenes" / split
        sets[split] = (made / "instances.json", made / "images")
        step(
            f"scenes: {images} composed images to {split}, with boxes and masks",
            "sim composed",
            composed,
            {"folder": made, "images": images, "seed": number},
        )
    step(
        "RAWs: the images as a simulated sensor sees them",
        "sim coco",
        coco,
        {"folder": raws, **sets, "seed": seed},
    )


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Let a folder belong to a demo of these settings, recorded in ``demo.json``.

    Raises:
        RunError: it holds a demo with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "demo.json"
    try:
        known = read_json(kept) if kept.exists() else settings
    except (OSError, ValueError) as error:
        raise RunError(f"{kept}: cannot be read ({error}); give another --folder") from error
    if known != settings:
        raise RunError(f"{folder}: holds a demo with other settings ({kept}); give another --folder")
    write_json(kept, settings)
