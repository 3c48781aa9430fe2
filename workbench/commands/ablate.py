"""``workbench ablate``: the paper's ablations, judged on the device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from workbench.judge.ablation.results import AblationResult

from workbench.commands.cluster_option import ClusterOption
from workbench.commands.device_options import DevicesOption, PoolToleranceOption
from workbench.commands.limits import MANY, SEED
from workbench.commands.setting_option import SettingOption
from workbench.commands.task_options import (
    VIEWING,
    AnnotationsOption,
    DetectorOption,
    OnTopOfOption,
    TaskOption,
    asked_task,
)


def ablate(
    device: DevicesOption,
    lab: Annotated[Path, typer.Option(help="Lab folder with the data set and a fitted proxy.")] = Path("lab"),
    proxy: Annotated[str | None, typer.Option(help="Name of the fit-proxy run; the newest where left out.")] = None,
    task: TaskOption = VIEWING,
    detector: DetectorOption = None,
    annotations: AnnotationsOption = None,
    seeds: Annotated[str, typer.Option(help="Seeds of the trainings, separated by commas or blanks.")] = "0,1,2",
    steps: Annotated[int, typer.Option(min=1, max=MANY, help="Optimiser steps of each training.")] = 600,
    batch: Annotated[int | None, typer.Option(min=1, max=MANY, help="RAWs a step instead of the recipe's.")] = None,
    width: Annotated[int | None, typer.Option(min=1, max=1024, help="Channels of the first encoder.")] = None,
    metadata: Annotated[
        bool, typer.Option("--metadata/--no-metadata", help="Inputs of all variants but the one that has the others.")
    ] = True,
    only: Annotated[
        list[str] | None,
        typer.Option(help="A variant to make, such as none-5, fixed-multi-5 or multi-3; may be repeated."),
    ] = None,
    scatter: Annotated[
        tuple[str, str] | None, typer.Option(help="Two parameters to draw against each other by ISO (figure 5b).")
    ] = None,
    raw: Annotated[str | None, typer.Option(help="Test RAW whose attention maps to draw (figure 6).")] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="TOML of the parameters to start from; parameters that the proxy does not follow stay there."
        ),
    ] = None,
    on_top_of: OnTopOfOption = None,
    setting: SettingOption = None,
    test_raws: Annotated[
        int, typer.Option(min=0, max=MANY, help="How many test RAWs, spread over the scenes; 0: all.")
    ] = 0,
    prefix: Annotated[str, typer.Option(help="Beginning of the names of the train runs.")] = "ablate",
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    pool_tolerance: PoolToleranceOption = 0,
    cluster: ClusterOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all results as JSON.")] = False,
) -> None:
    """Train variants of the predictor, a run a seed, and compare them on the device (table 3, figures 5 and 6)."""
    try:
        numbers = tuple(int(word) for word in seeds.replace(",", " ").split())
    except ValueError:
        raise typer.BadParameter(f"--seeds {seeds!r}: give whole numbers, as in --seeds 0,1,2") from None
    if not all(0 <= number <= SEED for number in numbers):
        raise typer.BadParameter(f"--seeds {seeds!r}: each from 0 to {SEED}")
    from dataclasses import replace

    from predictor.training import Recipe
    from workbench.collect.faults import failure_lines
    from workbench.collect.taking import make_sure_taken
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.judge.ablation.format1 import spoken
    from workbench.judge.ablation.study import ablate_run, check_device, study_raws
    from workbench.judge.ablation.training import train_variants
    from workbench.judge.ablation.variants import AblationSettings
    from workbench.lab.dataset import Dataset
    from workbench.lab.devices import open_devices

    judge = asked_task(task, detector, annotations)
    recipe = Recipe(steps=steps, metadata=metadata)
    recipe = replace(recipe, batch=batch or recipe.batch, width=width or recipe.width)
    settings = AblationSettings(recipe, numbers, tuple(only or ()), proxy, prefix, scatter, raw, test_raws)
    if on_top_of and start:
        raise typer.BadParameter("--start: on top of a rule training starts from the rule")
    settings = replace(settings, on_top_of=on_top_of, setting=setting)
    with stoppable("what is trained and captured is kept; run the same command again to go on"):
        with Dataset.open(lab, create=False) as dataset, open_devices(device, lab, tolerance=pool_tolerance) as opened:
            check_device(lab, opened.info(), settings)
            make_sure_taken(opened, study_raws(dataset, settings, judge)[0])
            if start:
                settings = replace(settings, start=opened.info().space.load_toml(start))

        def shown_by(progress: Progress, done: int, total: int, note: str) -> None:
            progress.total = total
            progress.update(done, note=note)

        with Progress("train", 0, unit="step") as progress:
            trained = train_variants(lab, settings, lambda *args: shown_by(progress, *args), judge, cluster)
        with (
            Dataset.open(lab) as dataset,
            open_devices(device, lab, tolerance=pool_tolerance) as opened,
            Progress("measure", 0) as measuring,
        ):
            run, results = ablate_run(
                lab,
                dataset,
                opened,
                settings,
                trained,
                judge,
                name=name,
                progress=lambda *args: shown_by(measuring, *args),
            )
    if as_json:
        print(json.dumps({"run": run.name, **spoken(results)}))
        return
    print_results(results)
    for line in failure_lines({"faults": results.faults}):
        print(line)
    for file in ("results.json", *results.figures):
        print(str(run.path / file))


def print_results(results: AblationResult) -> None:
    """The table and what it says about table 3's order, for people."""
    from workbench.console.terminal import print_table
    from workbench.judge.ablation.in_words import study_lines, study_table, title_of

    print_table(title_of(results), *study_table(results), study_lines(results))
