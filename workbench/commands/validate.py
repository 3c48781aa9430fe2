"""``workbench validate``: the device has the last word on whether prediction beats a fixed setting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from workbench.judge.results import ValidationResult

from workbench.commands.device_options import DevicesOption, PoolToleranceOption
from workbench.commands.limits import MANY, SEED
from workbench.commands.setting_option import SettingOption
from workbench.commands.task_options import VIEWING, AnnotationsOption, DetectorOption, TaskOption, asked_task


def validate(
    device: DevicesOption,
    lab: Annotated[Path, typer.Option(help="Lab folder with the data set and the runs.")] = Path("lab"),
    predictor: Annotated[
        list[str] | None,
        typer.Option(help="A train run, may be repeated; by default the newest with and without metadata."),
    ] = None,
    fixed: Annotated[
        str | None, typer.Option(help="Tune run of the best fixed set; by default the newest by CMA-ES or TPE.")
    ] = None,
    industry: Annotated[
        str | None, typer.Option(help="Tune run of the industry's table; by default the newest.")
    ] = None,
    auto: Annotated[str | None, typer.Option(help="Tune run of the rule auto; by default the newest, if any.")] = None,
    tune: Annotated[
        list[str] | None, typer.Option(help="A further tune run of any rule and method to compare, may be repeated.")
    ] = None,
    proxy: Annotated[str | None, typer.Option(help="fit-proxy run; by default the predictor's own.")] = None,
    expert: Annotated[
        Path | None,
        typer.Option(help="TOML of a hand-set parameter set; `device info DEVICE --toml FILE` writes one to edit."),
    ] = None,
    test_raws: Annotated[
        int, typer.Option(min=0, max=MANY, help="How many test RAWs, spread over the scenes; 0: all.")
    ] = 0,
    oracle_captures: Annotated[
        int | None,
        typer.Option(
            min=0, max=MANY, help="Captures of the per-image oracle for each RAW, 200 by default; 0 leaves it out."
        ),
    ] = None,
    oracle_metric: Annotated[
        str | None,
        typer.Option(help="What the oracle searches for, such as ssim; by default the first metric of the task."),
    ] = None,
    task: TaskOption = VIEWING,
    detector: DetectorOption = None,
    annotations: AnnotationsOption = None,
    setting: SettingOption = None,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Seed of the oracle and of the bootstrap.")] = 0,
    remark: Annotated[
        str, typer.Option(help="What a reader must know of this validation, kept with its results and shown with them.")
    ] = "",
    by_block: Annotated[
        bool | None,
        typer.Option(
            help="Take the prediction's gain apart by block of the device, and what is left to the oracle: two "
            "captures for each RAW, block that differs and pair of methods. By default done where there is a "
            "prediction, industry's table or a best fixed set to compare it with, and no detector.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    pool_tolerance: PoolToleranceOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print all results as JSON.")] = False,
) -> None:
    """Push every method's parameters for each test RAW, capture, score, and compare.

    Rows of the table: "mean of predictions" is one set for all RAWs, the mean of what that predictor predicts for them:
    what the prediction gains over it comes from looking at each RAW. docs/words.md has the others.
    """
    from workbench.collect.faults import failure_lines
    from workbench.console.interrupt import stoppable
    from workbench.console.notes import say
    from workbench.console.progress import Progress
    from workbench.judge.format1 import spoken
    from workbench.judge.methods import ORACLE_CAPTURES, ValidationSettings
    from workbench.judge.validation import validate_run
    from workbench.lab.dataset import Dataset
    from workbench.lab.devices import open_devices

    judge = asked_task(task, detector, annotations)
    if not judge.metrics[0].per_raw:
        if oracle_captures or oracle_metric:
            asked = "--oracle-captures" if oracle_captures else "--oracle-metric"
            raise typer.BadParameter(f"{asked}: {judge.metrics[0].label} judges no single image")
        oracle_captures = 0
    if oracle_metric and oracle_captures == 0:
        raise typer.BadParameter("--oracle-metric: there is no oracle with --oracle-captures 0; leave one of them out")
    settings = ValidationSettings(
        tuple(predictor or ()),
        fixed,
        industry,
        proxy,
        expert,
        test_raws,
        ORACLE_CAPTURES if oracle_captures is None else oracle_captures,
        seed,
        tuple(tune or ()),
        remark,
        setting,
        by_block,
        auto,
        oracle_metric,
    )
    with (
        stoppable("every capture is kept; run the same command again to go on"),
        Dataset.open(lab) as dataset,
        open_devices(device, lab, tolerance=pool_tolerance) as opened,
        Progress("validate", 0, unit="capture") as progress,
    ):

        def tell(line: str) -> None:
            say([line])

        def show(phase: str, done: int, total: int, unit: str = "capture") -> None:
            progress.part(phase, unit, done, total, phase)

        run, results = validate_run(lab, dataset, opened, settings, judge, name=name, progress=show, tell=tell)
    if as_json:
        print(json.dumps({"run": run.name, **spoken(results)}))
        return
    print_results(results)
    for line in failure_lines({"faults": results.faults}):
        print(line)
    print(str(run.path / "results.json"))


def print_results(results: ValidationResult) -> None:
    """The tables and what came out, for people."""
    from workbench.console.terminal import print_table
    from workbench.judge.in_words import title_of, validation_lines, validation_table
    from workbench.judge.parts_in_words import part_tables

    print_table(title_of(results), *validation_table(results))
    for title, columns, rows in part_tables(results):
        print_table(title, columns, rows)
    for line in validation_lines(results):
        print(line)
