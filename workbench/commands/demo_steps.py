"""The steps of the demo: every step of the bench over ZeroMQ, announced with the command that does the same."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drivers.regular_files import read_json
from workbench.commands.demo_device import PROFILE, emulated_device
from workbench.commands.demo_sizes import TRIAL, DemoSizes
from workbench.commands.task_options import VIEWING
from workbench.console import terminal
from workbench.errors import RunError
from workbench.lab.runs import RunFolder, write_json

DETECTOR = "offline:mask-rcnn"

Options = Mapping[str, Any]


def run_demo(
    folder: Path,
    task: str = VIEWING,
    sizes: DemoSizes | None = None,
    *,
    photographs: Path | None = None,
    seed: int = 0,
    trial: bool = False,
) -> Path:
    """Run every step; fits and searches already done in ``folder`` with the same settings are not done again.

    Args:
        folder: gets ``raws/``, ``lab/`` and ``report.html``, for detectors also ``scenes/``.
        task: viewing, or detection or segmentation, judged by the offline detector on composed scenes: the test scenes
            are composed with a seed that neither training nor the detector ever used.
        sizes: of the steps; by default those of the whole demo.
        photographs: for viewing, a folder of photographs, or None for the sample photographs and the lab scenes.
        seed: of everything.
        trial: whether it shows the path only, so that its figures are marked as no result.

    Returns:
        The report.

    Raises:
        RunError: ``folder`` holds a demo with other settings.
    """
    from workbench.commands import demo_sizes
    from workbench.commands.collect import collect
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
    step = _Steps(lab, begin)
    judge: Options = {}
    if viewing:
        _photograph(step, raws, sizes, photographs, seed)
    else:
        judge = {"task": task, "detector": DETECTOR, "annotations": raws / "annotations.json"}
        _compose(step, folder, raws, sizes, seed)
    common: Options = {"lab": lab, "seed": seed}
    print(f"\n$ workbench sim serve --profile {PROFILE} --zmq 127.0.0.1:0")
    with emulated_device() as url:
        print(f"the emulated device answers at {url}")
        step(
            "collect: parameter sets over the whole range, each with its own RAW",
            "collect",
            collect,
            {"device": [url], "captures": sizes.captures, "raws": raws, **common},
        )
        # The industry's table takes eight trials and the ranking of its sets at least.
        trials = sizes.raws_per_trial and max(min(sizes.raws_per_trial, sizes.captures // 12), 1)
        for rule, told in (
            (Rule.fixed, "the best fixed parameters on the device, with as many captures"),
            (Rule.industry, "as-shot white balance sets the gains, a table over ISO the rest"),
        ):
            options = {
                "device": [url],
                "rule": rule,
                "captures": sizes.captures,
                "raws_per_trial": trials,
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
    step("report", "report", report, {"lab": lab, "out": page})
    marked = f", {TRIAL}" if trial else ""
    print(f"\ndone in {time.monotonic() - begin:.0f} s{marked}; the report: {page.resolve()}")
    return page


def _photograph(step: _Steps, raws: Path, sizes: DemoSizes, photographs: Path | None, seed: int) -> None:
    """RAWs of photographs and lab scenes; of a user's photographs alone where there are some."""
    from workbench.commands.sim_scenes import scenes

    options: dict[str, Any] = {
        "lab_scenes": sizes.lab_scenes,
        "raws_per_scene": sizes.raws_per_scene,
        "raws_per_photograph": sizes.raws_per_photograph,
    }
    if photographs is not None:
        options = {"lab_scenes": 0, "raws_per_photograph": 4, "photographs": photographs}
    step(
        "scenes: photographs and lab scenes, seen by a simulated sensor",
        "sim scenes",
        scenes,
        {"folder": raws, **options, "seed": seed},
    )


def _compose(step: _Steps, folder: Path, raws: Path, sizes: DemoSizes, seed: int) -> None:
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


class _Steps:
    """Announces each step of a demo with the command that does the same, and does it unless its run is finished.

    Args:
        lab: the lab folder.
        begin: :func:`time.monotonic` at the start of the demo.
    """

    def __init__(self, lab: Path, begin: float) -> None:
        self._lab, self._begin = lab, begin

    def __call__(self, what: str, command: str, work: Callable[..., Any], options: Options) -> None:
        """One step: what it does, the command and its function with the same options; those that are None are left out.

        ``name`` is that of the run that it leaves, ``folder`` the command's argument.
        """
        given = {key: value for key, value in options.items() if value is not None}
        terminal.console().print(f"\n[{time.monotonic() - self._begin:4.0f} s] {what}", style="bold", soft_wrap=True)
        print(f"$ workbench {shlex.join([*command.split(), *_words(given)])}")
        name = given.get("name")
        if name and self._finished(name):
            print(f"already done: {self._lab / 'runs' / name}")
        else:
            work(**given)

    def _finished(self, name: str) -> bool:
        path = self._lab / "runs" / name
        return (path / "run.json").is_file() and RunFolder.open(path).finished


def _words(options: Options) -> list[str]:
    """Options as they are typed."""
    words = [str(options["folder"])] if "folder" in options else []
    for key, value in options.items():
        flag = f"--{key.replace('_', '-')}"
        if key == "folder":
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list):
            words += [word for one in value for word in (flag, str(one))]
        else:
            words += [flag, *map(str, value if isinstance(value, tuple) else (value,))]
    return words
