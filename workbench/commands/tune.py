"""``workbench tune``: search the best fixed parameters, or the industry's table over ISO, on the device."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.commands.task_options import AnnotationsOption, DetectorOption, TaskName, TaskOption, vision_task


class MethodName(StrEnum):
    """The searches that can be chosen."""

    cmaes = "cmaes"
    tpe = "tpe"
    gp = "gp"
    random = "random"
    nelder_mead = "nelder-mead"
    blockwise = "blockwise"
    nsga2 = "nsga2"
    worst_rank = "worst-rank"


class MetricName(StrEnum):
    """What is searched for."""

    psnr = "psnr"
    ssim = "ssim"
    map50 = "map50"
    map = "map"
    detector_loss = "detector-loss"


def tune(
    device: Annotated[
        list[str],
        typer.Option(
            help="Device URL, such as zmq://127.0.0.1:5555 or sim:sim20; several make a pool of equal boards."
        ),
    ],
    lab: Annotated[Path, typer.Option(help="Lab folder with the data set.")] = Path("lab"),
    method: Annotated[MethodName, typer.Option(help="How to search.")] = MethodName.cmaes,
    captures: Annotated[int, typer.Option(min=2, help="Budget; at least what collection used, to be fair.")] = 4000,
    raws_per_trial: Annotated[int, typer.Option(min=1, help="Training RAWs that each trial is judged on.")] = 16,
    industry: Annotated[
        bool, typer.Option("--industry", help="As-shot white balance sets the gains; tune a table over ISO.")
    ] = False,
    expert: Annotated[Path | None, typer.Option(help="TOML of a hand-set parameter set to try first.")] = None,
    task: TaskOption = TaskName.viewing,
    detector: DetectorOption = None,
    annotations: AnnotationsOption = None,
    metric: Annotated[
        MetricName | None,
        typer.Option(help="What to search for: psnr (viewing's default), ssim; map50 (a detector's default), map, …"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the RAWs chosen and of the search.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    pool_tolerance: Annotated[
        int, typer.Option(min=0, max=255, help="Levels of 255 by which outputs of pooled boards may differ.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Tune on the device, on the training RAWs only. The same command goes on after a stop."""
    from workbench.dataset import Dataset
    from workbench.devices import open_devices
    from workbench.interrupt import stoppable
    from workbench.progress import Progress
    from workbench.tuning.fixed import TuneSettings, tune_run

    judge = vision_task(task, detector, annotations)
    metric = metric or (MetricName.map50 if judge else MetricName.psnr)
    key = judge.key if judge else task.value
    settings = TuneSettings(method.value, captures, raws_per_trial, seed, metric.value, key)
    with (
        stoppable("every capture is kept; run the same command again to go on"),
        Dataset.open(lab) as dataset,
        open_devices(device, lab, tolerance=pool_tolerance) as opened,
    ):
        start = opened.info().space.load_toml(expert) if expert else None
        with Progress("tune", captures, unit="capture") as progress:

            def show(done: int, total: int, best: float) -> None:
                progress.update(min(done, total), note=f"best {_figure(best, metric)}")

            run = tune_run(
                lab, dataset, opened, settings, industry=industry, expert=start, task=judge, name=name, progress=show
            )
    if as_json:
        typer.echo(json.dumps({"run": run.name, **run.results}))
        return
    _print(run.name, run.results, industry, run.path / run.results["file"], metric)


def _print(name: str, results: dict[str, Any], industry: bool, file: Path, metric: MetricName) -> None:
    what = "industry's table" if industry else "best fixed parameters"
    score, default = (_figure(results[key], metric) for key in ("score", "default_on_trial_raws"))
    typer.echo(
        f"{what} ({name}): {score} on {results['ranked_on']} training RAWs, "
        f"default {default} on the trials' RAWs; {results['captures']} captures"
    )
    if industry:
        knots = ", ".join(f"{k:g}" for k in results["knots_iso"])
        single, table = (_figure(results[key], metric) for key in ("single_set_score", "table_score"))
        typer.echo(f"one set for all ISO {single}, table at ISO {knots} {table}: kept the {results['kept']}")
    typer.echo(str(file))


def _figure(value: float, metric: MetricName) -> str:
    return f"{value:.2f} dB" if metric is MetricName.psnr else f"{value:.3f}"
