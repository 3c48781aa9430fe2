"""``workbench choose``: compare predictors on the validation RAWs, on the device, before the test."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.commands.limits import SEED
from workbench.commands.task_options import AnnotationsOption, DetectorOption, TaskName, TaskOption, vision_task


def choose(
    device: Annotated[
        list[str],
        typer.Option(
            help="Device URL, such as zmq://127.0.0.1:5555 or sim:sim20, with ?deadline=SECONDS where a frame takes "
            "more than 30 s; several make a pool of equal boards."
        ),
    ],
    lab: Annotated[Path, typer.Option(help="Lab folder with the data set and the runs.")] = Path("lab"),
    predictor: Annotated[
        list[str] | None, typer.Option(help="A train run, may be repeated; by default all of the task.")
    ] = None,
    fixed: Annotated[
        str | None, typer.Option(help="Tune run of the best fixed set; by default the newest by CMA-ES or TPE.")
    ] = None,
    task: TaskOption = TaskName.viewing,
    detector: DetectorOption = None,
    annotations: AnnotationsOption = None,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Seed of the bootstrap.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    pool_tolerance: Annotated[
        int, typer.Option(min=0, max=255, help="Levels of 255 by which outputs of pooled boards may differ.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print all results as JSON.")] = False,
) -> None:
    """Compare predictors on the validation RAWs, so that the test RAWs are seen by one of them alone."""
    from workbench.collect.faults import failure_lines
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.judge.choosing import choose_run
    from workbench.lab.dataset import Dataset
    from workbench.lab.devices import open_devices

    judge = vision_task(task, detector, annotations)
    with (
        stoppable("every capture is kept; run the same command again to go on"),
        Dataset.open(lab) as dataset,
        open_devices(device, lab, tolerance=pool_tolerance) as opened,
        Progress("choose", 0, unit="capture") as progress,
    ):

        def show(run: str, done: int, total: int) -> None:
            progress.total = total
            progress.update(done, note=run)

        _, results = choose_run(
            lab,
            dataset,
            opened,
            name=name,
            predictors=predictor or (),
            fixed=fixed,
            task=judge,
            seed=seed,
            progress=show,
        )
    if as_json:
        print(json.dumps(results))
        return
    again = ["workbench", "validate", *(word for url in device for word in ("--device", url))]
    options = {
        "--lab": None if lab == Path("lab") else lab,
        "--task": None if judge is None else task.value,
        "--detector": detector,
        "--annotations": annotations,
        "--fixed": fixed,
    }
    again += [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    for line in failure_lines(results):
        print(line)
    print_results(results, shlex.join([*again, "--predictor", results["best"]]))


def print_results(results: dict[str, Any], test: str) -> None:
    """The table, which predictor to take and the command that tests it, for people."""
    from rich.table import Table

    from workbench.commands.validate import interval_text
    from workbench.console import terminal

    viewing = results["metric"] == "psnr"
    columns = {"psnr": "PSNR (dB)", "ssim": "SSIM", "loss": "log loss", "map50": "mAP50", "map": "mAP50:95"}
    shown = [key for key in columns if key in results["rows"][0]["scores"]]
    form = "+.2f" if viewing else "+.3f"
    table = Table(
        title=f"{results['raws']} validation RAWs of {results['scenes']} scenes on {results['device']['model']}, "
        "outputs of the device"
    )
    table.add_column("run")
    first = results["rows"][0]
    over = "over best fixed" if first["rule"] else f"over {first['run']}"
    titles = [columns[key] for key in shown]
    for title in (*titles, f"{over} (dB)" if viewing else f"log loss under{over.removeprefix('over')}"):
        table.add_column(title, justify="right", no_wrap=title in titles)
    for row in results["rows"]:
        label = f"best fixed ({row['run']})" if row["rule"] else row["run"]
        cells = [f"{row['scores'][key]:{'.2f' if key == 'psnr' else '.3f'}}" for key in shown]
        table.add_row(label, *cells, (interval_text(row["gain"], form=form) if row["gain"] else ""))
    terminal.console().print(table)
    print(f"the best by {columns[results['metric']]}: {results['best']}")
    for note in results["notes"]:
        print(f"note: {note}")
    print(f"test it once: {test}")
