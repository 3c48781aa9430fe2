"""``workbench choose``: compare predictors on the validation RAWs, on the device, before the test."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from workbench.judge.results import ChooseResult

from workbench.commands.device_options import DevicesOption, PoolToleranceOption
from workbench.commands.limits import SEED
from workbench.commands.setting_option import SettingOption
from workbench.commands.task_options import VIEWING, AnnotationsOption, DetectorOption, TaskOption, asked_task


def choose(
    device: DevicesOption,
    lab: Annotated[Path, typer.Option(help="Lab folder with the data set and the runs.")] = Path("lab"),
    predictor: Annotated[
        list[str] | None, typer.Option(help="A train run, may be repeated; by default all of the task.")
    ] = None,
    fixed: Annotated[
        str | None, typer.Option(help="Tune run of the best fixed set; by default the newest by CMA-ES or TPE.")
    ] = None,
    task: TaskOption = VIEWING,
    detector: DetectorOption = None,
    annotations: AnnotationsOption = None,
    setting: SettingOption = None,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Seed of the bootstrap.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    pool_tolerance: PoolToleranceOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print all results as JSON.")] = False,
) -> None:
    """Compare predictors on the validation RAWs, so that the test RAWs are seen by one of them alone."""
    from workbench.collect.faults import failure_lines
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.judge.choosing import choose_run
    from workbench.lab.dataset import Dataset
    from workbench.lab.devices import open_devices

    judge = asked_task(task, detector, annotations)
    with (
        stoppable("every capture is kept; run the same command again to go on"),
        Dataset.open(lab) as dataset,
        open_devices(device, lab, tolerance=pool_tolerance) as opened,
        Progress("choose", 0, unit="capture") as progress,
    ):

        def show(phase: str, done: int, total: int, unit: str = "capture") -> None:
            progress.part(unit, unit, done, total, phase)

        _, results = choose_run(
            lab,
            dataset,
            opened,
            name=name,
            predictors=predictor or (),
            fixed=fixed,
            task=judge,
            seed=seed,
            setting=setting,
            progress=show,
        )
    if as_json:
        print(json.dumps(results.to_json()))
        return
    again = ["workbench", "validate", *(word for url in device for word in ("--device", url))]
    options = {
        "--lab": None if lab == Path("lab") else lab,
        "--task": None if task == VIEWING else task,
        "--detector": detector,
        "--annotations": annotations,
        "--setting": setting,
        "--fixed": fixed,
    }
    again += [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    for line in failure_lines({"faults": results.faults}):
        print(line)
    print_results(results, shlex.join([*again, "--predictor", results.best]))


def print_results(results: ChooseResult, test: str) -> None:
    """The table, which predictor to take and the command that tests it, for people."""
    from workbench.console.terminal import print_table
    from workbench.judge.in_words import choice_table, title_of

    print_table(title_of(results, "validation"), *choice_table(results))
    print(f"the best by {results.of_raws.title}: {results.best}")
    for note in results.notes:
        print(f"note: {note}")
    print(f"test it once: {test}")
