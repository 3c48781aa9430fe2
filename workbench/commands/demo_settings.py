"""The demo's second table: the two settings that users have, at a part of the first table's cost.

``3A on``: exposure gain and white balance go by rule and the black level is held, as a camera's loops do; in the demo's
own lab, by its references. ``reference ISP``: LibRaw with an expert's settings renders what each RAW should become. A
data set has one reference a RAW, so that is a lab of its own: some of the same RAWs, byte for byte, with the other
references. What the device makes of a RAW does not depend on them, so the proxy is the demo's.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from drivers.atomic_files import write_text
from drivers.splits import Split
from workbench.commands.demo_announcing import Options, Steps, finished
from workbench.commands.demo_sizes import TRIAL, DemoSizes, trials
from workbench.judge.methods import NONE, MethodKind
from workbench.judge.results import ValidationResult, read_validation
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder

THREE_A, REFERENCE = "3A on", "reference ISP"
STUDY = "settings"
"""What marks the runs of ``3A on``: no command takes them unasked."""
SHOWN = ("psnr", "ssim", "aligned_psnr")
_NAMES = {
    MethodKind.expert: "expert",
    MethodKind.industry: "industry",
    MethodKind.predicted: "predicted on top of industry",
}
_ISP = "libraw:"
_SETTINGS = """# LibRaw as an expert sets it: gains by as-shot white balance, highlights without a tint (the shift
# clips them alike), no defect pixels, and the higher the ISO, the smoother the colours.

[[knot]]
iso = 100
exposure_shift = 1.5
fbdd = "full"
median_passes = 1

[[knot]]
iso = 800
exposure_shift = 1.5
fbdd = "full"
median_passes = 3

[[knot]]
iso = 3200
exposure_shift = 1.5
fbdd = "full"
median_passes = 5
"""
# They bring the RAWs and their references into the lab; the proxy has learnt from the demo's own.
_COLLECTED = 16


def under_settings(
    step: Steps, folder: Path, sizes: DemoSizes, *, url: str, photographs: Path | None, seed: int, trial: bool
) -> dict[str, RunFolder]:
    """Tune, train and validate under both settings.

    Args:
        step: announces and does.
        folder: of the demo, with ``lab/``; gets ``raws-reference/`` and ``lab-reference/``.
        sizes: of the demo, with those of the second table.
        url: of the device.
        photographs, seed, trial: of the demo.

    Returns:
        The ``validate`` runs by setting.
    """
    assert sizes.settings is not None
    lab, other = folder / "lab", folder / "lab-reference"
    every: Options = {"expert": folder / "expert.toml", "remark": TRIAL if trial else None, "seed": seed}
    found = {THREE_A: _compare(step, lab, sizes, url, "-3a", {"setting": "3a"}, every)}
    _render(step, folder, sizes, photographs, seed)
    from workbench.commands.collect import collect

    step(
        "collect: the RAWs with those references into a lab of their own",
        "collect",
        collect,
        {"device": [url], "captures": _COLLECTED, "raws": folder / "raws-reference", "lab": other, "seed": seed},
    )
    _share_proxy(step, lab, other)
    found[REFERENCE] = _compare(step, other, sizes, url, "", {}, every)
    return found


def _compare(
    step: Steps, lab: Path, sizes: DemoSizes, url: str, ending: str, setting: Options, every: Options
) -> RunFolder:
    """Industry's table and the prediction on top of it, on the device; runs with a name's ending are set aside."""
    from workbench.commands.train import train
    from workbench.commands.tune import tune
    from workbench.commands.validate import validate
    from workbench.rules.tuned import Rule

    assert sizes.settings is not None
    own, captures = sizes.settings, min(sizes.settings.captures, sizes.captures)
    industry, predictor, validation = (f"{name}{ending}" for name in ("industry", "predictor", "validate"))
    common: Options = {**setting, "lab": lab, "seed": every["seed"]}
    works: tuple[tuple[str, str, Callable[..., Any], Options], ...] = (
        (
            "industry's table",
            "tune",
            tune,
            {
                "device": [url],
                "rule": Rule.industry,
                "captures": captures,
                "raws_per_trial": trials(own.raws_per_trial, captures),
                "expert": every["expert"],
                "name": industry,
            },
        ),
        (
            "on top of industry's table, and how far to leave it",
            "train",
            train,
            {
                "proxy": "proxy",
                "on_top_of": industry,
                "steps": own.steps,
                "batch": sizes.batch,
                "name": predictor,
                **_choice(lab, url, own.follow_captures),
            },
        ),
        (
            "on the device, on test scenes",
            "validate",
            validate,
            {
                "device": [url],
                "fixed": NONE,
                "industry": industry,
                "predictor": [predictor],
                "expert": every["expert"],
                "test_raws": sizes.test_raws,
                "oracle_captures": 0,
                "by_block": False,
                "remark": every["remark"],
                "name": validation,
            },
        ),
    )
    under = THREE_A if setting else REFERENCE
    for told, command, work, options in works:
        step(f"{under}, {command}: {told}", command, work, {**options, **common})
        if setting:
            _set_aside(lab / "runs" / options["name"])
    return RunFolder.open(lab / "runs" / validation)


def _choice(lab: Path, url: str, captures: int) -> Options:
    """How far to leave the table is chosen on validation RAWs, which a few photographs have too few of."""
    with Dataset.open(lab) as dataset:
        scenes = {raw.scene for raw in dataset.raws(Split.VALIDATION)}
    return {"device": [url], "follow_captures": captures} if len(scenes) > 1 else {}


def _set_aside(path: Path) -> None:
    """The lab's next table, page or prediction is about the demo's own runs, not about the newest."""
    run = RunFolder.open(path)
    if not run.aside:
        run.update(config={**run.config, "study": STUDY})


def _render(step: Steps, folder: Path, sizes: DemoSizes, photographs: Path | None, seed: int) -> None:
    """Some of the demo's RAWs once more, with LibRaw's rendering as reference."""
    from workbench.commands.sim_scenes import scenes

    assert sizes.settings is not None
    settings = folder / "libraw.toml"
    write_text(settings, _SETTINGS)
    options = sizes.of_scenes(photographs)
    if photographs is None:
        options["raws_per_scene"] = min(options["raws_per_scene"], sizes.settings.raws_per_scene)
        options["raws_per_photograph"] = min(options["raws_per_photograph"], sizes.settings.raws_per_photograph)
    step(
        f"{REFERENCE}, scenes: what LibRaw makes of some of the same RAWs is what they should become",
        "sim scenes",
        scenes,
        {"folder": folder / "raws-reference", **options, "reference_isp": _ISP, "settings": settings, "seed": seed},
    )


def _share_proxy(step: Steps, lab: Path, other: Path) -> None:
    """The proxy of the demo's lab, for the other one: a copy that appears whole or not at all."""
    source, target = lab / "runs" / "proxy", other / "runs" / "proxy"
    step.tell(f"{REFERENCE}: the proxy, which does not depend on references, is the demo's")
    print(f"$ cp -r {source} {target}")
    if finished(target):
        print(f"already done: {target}")
        return
    partial = target.with_name(".proxy.partial")
    shutil.rmtree(partial, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, partial)
    partial.rename(target)


def print_settings(runs: dict[str, RunFolder], *, trial: bool) -> None:
    """The second table, for people; ``runs`` as :func:`under_settings` gives them."""
    from workbench.console.terminal import print_table

    results = {setting: read_validation(run) for setting, run in runs.items()}
    first = next(iter(results.values()))
    metrics = [m for m in first.metrics if m.key in SHOWN]
    rows = []
    for setting, found in results.items():
        kinds = list(_NAMES)[0 if setting == REFERENCE else 1 :]
        for m in (m for m in found.methods if m.kind in kinds):
            cells = [f"{setting}: {_NAMES[m.kind]}"]
            gains = m.over.get(MethodKind.industry, {})
            for metric in metrics:
                gain = gains.get(metric.key)
                told = "\n" + gain.text(metric.form(signed=True)).replace(" ", "\n", 1) if gain else ""
                cells.append(format(m.figures[metric.key].estimate or 0.0, metric.form()) + told)
            rows.append([*cells, str(m.captures)])
    print()
    title = f"settings that users have: outputs of the device{f', {TRIAL}' if trial else ''}"
    print_table(title, ["method", *(m.title for m in metrics), "captures"], rows, list(_lines(results)))


def _lines(results: dict[str, ValidationResult]) -> Iterator[str]:
    """What a reader must know of the second table."""
    yield "below each figure: what it gains over industry of the same setting, 95 % interval by scene in brackets"
    three_a, reference = results[THREE_A], results[REFERENCE]
    assert three_a.setting is not None
    yield (
        f"{THREE_A}: {_raws(three_a)}, references as in the first table; the same in every method: setting "
        f"{three_a.setting.told}"
    )
    yield (
        f"{REFERENCE}: {_raws(reference)}; {_ISP} with libraw.toml rendered the references, so these figures are not "
        "comparable with any above them"
    )
    predicted = reference.of_kind(MethodKind.predicted)
    if predicted and (gains := predicted.over.get(MethodKind.expert)):
        shown = [f"{m.label} {gains[m.key].text(m.form(signed=True))}" for m in reference.metrics if m.key in SHOWN]
        yield f"{REFERENCE}, predicted over the expert: {', '.join(shown)}"
    yield (
        "captures of a prediction: the demo's collection, the search for the table that it is on top of, and the "
        "choice of how far to leave it; industry had the search's alone"
    )


def _raws(results: ValidationResult) -> str:
    return f"{results.raws} test RAWs of {results.scenes} scenes"
