"""``workbench tune``: search the best fixed parameters on the device, or the best of a rule that industry uses."""

from __future__ import annotations

import json
import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.commands.limits import MANY, SEED
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
    proxy_gradient = "proxy-gradient"


class RuleName(StrEnum):
    """What is tuned: how the parameters of a RAW follow from the result."""

    fixed = "fixed"
    as_shot = "as-shot"
    industry = "industry"
    industry_grey_world = "industry-grey-world"
    regression = "regression"


class MetricName(StrEnum):
    """What is searched for."""

    psnr = "psnr"
    ssim = "ssim"
    map50 = "map50"
    map = "map"
    detector_loss = "detector-loss"
    latency = "latency"
    bytes = "bytes"


def tune(
    device: Annotated[
        list[str],
        typer.Option(
            help="Device URL, such as zmq://127.0.0.1:5555 or sim:sim20, with ?deadline=SECONDS where a frame takes "
            "more than 30 s; several make a pool of equal boards."
        ),
    ],
    lab: Annotated[Path, typer.Option(help="Lab folder with the data set.")] = Path("lab"),
    method: Annotated[
        MethodName,
        typer.Option(
            help="How to search. nsga2 and worst-rank take several metrics; proxy-gradient descends through the proxy "
            "and lets the device rank what it finds."
        ),
    ] = MethodName.cmaes,
    captures: Annotated[
        int, typer.Option(min=2, max=MANY, help="Budget; at least what collection used, to be fair.")
    ] = 4000,
    raws_per_trial: Annotated[
        int, typer.Option(min=1, max=MANY, help="Training RAWs that each trial is judged on.")
    ] = 16,
    rule: Annotated[
        RuleName,
        typer.Option(
            help="fixed: one set for all. as-shot: one set, as-shot white balance sets the gains. industry: the same "
            "with a table over ISO. industry-grey-world: a table over ISO, grey-world white balance. regression: from "
            "metadata and simple statistics to the best sets of a few training RAWs."
        ),
    ] = RuleName.fixed,
    industry: Annotated[bool, typer.Option("--industry", help="Short for --rule industry.")] = False,
    expert: Annotated[
        Path | None,
        typer.Option(
            help="TOML of a hand-set parameter set to try first; `device info DEVICE --toml FILE` writes one to edit."
        ),
    ] = None,
    task: TaskOption = TaskName.viewing,
    detector: DetectorOption = None,
    annotations: AnnotationsOption = None,
    metric: Annotated[
        list[MetricName] | None,
        typer.Option(
            help="What to search for: psnr (viewing's default), ssim; map50 (a detector's default), map, … Several "
            "for nsga2 and worst-rank (by default psnr and ssim); latency (device seconds) and bytes are costs."
        ),
    ] = None,
    proxy: Annotated[
        str | None, typer.Option(help="fit-proxy run of proxy-gradient; by default the newest of the device.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Seed of the RAWs chosen and of the search.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    pool_tolerance: Annotated[
        int, typer.Option(min=0, max=255, help="Levels of 255 by which outputs of pooled boards may differ.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Tune on the device, on the training RAWs only. The same command goes on after a stop."""
    from workbench.collect.faults import failure_lines
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.lab.dataset import Dataset
    from workbench.lab.devices import open_devices
    from workbench.tune.fixed import TuneSettings, tune_run

    judge = vision_task(task, detector, annotations)
    if not metric and judge is None and method in (MethodName.nsga2, MethodName.worst_rank):
        metric = [MetricName.psnr, MetricName.ssim]
    first, *more = metric or [MetricName.map50 if judge else MetricName.psnr]
    key = judge.key if judge else task.value
    settings = TuneSettings(
        method.value, captures, raws_per_trial, seed, first.value, key, tuple(m.value for m in more)
    )
    if industry and rule not in (RuleName.fixed, RuleName.industry):
        raise typer.BadParameter(f"--industry is short for --rule industry; it does not go with --rule {rule.value}")
    chosen = RuleName.industry if industry else rule
    with (
        stoppable("every capture is kept; run the same command again to go on"),
        Dataset.open(lab) as dataset,
        open_devices(device, lab, tolerance=pool_tolerance) as opened,
    ):
        start = opened.info().space.load_toml(expert) if expert else None
        with Progress("tune", captures, unit="capture") as progress:

            def show(done: int, total: int, best: float) -> None:
                note = "descending through the proxy" if math.isnan(best) else f"best {_figure(best, first)}"
                progress.update(min(done, total), note=note)

            run = tune_run(
                lab,
                dataset,
                opened,
                settings,
                rule=chosen.value,
                expert=start,
                task=judge,
                proxy=proxy,
                name=name,
                progress=show,
            )
    if as_json:
        print(json.dumps({"run": run.name, **run.results}))
        return
    _print(run.name, run.results, chosen, run.path / run.results["file"], first)
    for line in [*(f"note: {note}" for note in run.results.get("notes", ())), *failure_lines(run.results)]:
        print(line)


_TITLES = {
    RuleName.fixed: "best fixed parameters",
    RuleName.as_shot: "best fixed parameters with as-shot white balance",
    RuleName.industry: "industry's table",
    RuleName.industry_grey_world: "industry's table with grey-world white balance",
    RuleName.regression: "regression to per-image optima",
}


def _print(name: str, results: dict[str, Any], rule: RuleName, file: Path, metric: MetricName) -> None:
    score, default = (_figure(results[key], metric) for key in ("score", "default_on_trial_raws"))
    print(
        f"{_TITLES[rule]} ({name}): {score} on {results['ranked_on']} training RAWs, "
        f"default {default} on the trials' RAWs; {results['captures']} captures"
    )
    if "knots_iso" in results:
        knots = ", ".join(f"{k:g}" for k in results["knots_iso"])
        single, table = (_figure(results[key], metric) for key in ("single_set_score", "table_score"))
        print(f"one set for all ISO {single}, table at ISO {knots} {table}: kept the {results['kept']}")
    if "regression_score" in results:
        single, regression = (_figure(results[key], metric) for key in ("single_set_score", "regression_score"))
        print(
            f"one set for all {single}, regression to the best sets of {len(results['images'])} RAWs {regression}: "
            f"kept the {results['kept']}"
        )
    if "pareto" in results:
        print(f"Pareto front, {len(results['pareto'])} sets on the trials' RAWs, the best in {metric.value} first:")
        for point in results["pareto"]:
            print("  " + ", ".join(f"{m} {_figure(v, MetricName(m))}" for m, v in point["values"].items()))
    if held := results.get("held"):
        print(f"held at their start values, since the proxy does not follow the device in them: {', '.join(held)}")
    if history := results["history"]:
        places = sorted({round(i * (len(history) - 1) / 5) for i in range(6)})
        curve = ", ".join(f"{history[i][0]}: {_figure(history[i][1], metric)}" for i in places)
        print(f"captures spent and best score so far: {curve}")
    print(
        f"{results['device_s']:.1f} s of the device, {results['compute_s']:.1f} s of computing"
        if "device_s" in results
        else f"{results['seconds']:.1f} s"
    )
    print(str(file))


def _figure(value: float | None, metric: MetricName) -> str:
    if value is None:
        return "failed"
    if metric is MetricName.detector_loss:
        # The search makes scores large, the loss is to be small: people see what `validate` calls log loss.
        return f"log loss {-value:.3f}"
    forms = {MetricName.psnr: ".2f", MetricName.latency: ".4f", MetricName.bytes: ".0f"}
    units = {MetricName.psnr: " dB", MetricName.latency: " s"}
    return f"{value:{forms.get(metric, '.3f')}}{units.get(metric, '')}"
