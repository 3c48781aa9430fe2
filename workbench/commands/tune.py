"""``workbench tune``: search the best fixed parameters on the device, or the best of a rule that industry uses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.commands.device_options import DevicesOption, PoolToleranceOption
from workbench.commands.limits import MANY, SEED
from workbench.commands.setting_option import SettingOption
from workbench.commands.task_options import VIEWING, AnnotationsOption, DetectorOption, TaskOption, asked_task
from workbench.rules.tuned import Rule
from workbench.tune.methods import MethodName

if TYPE_CHECKING:
    from workbench.tasks.task import Metric
    from workbench.tune.results import TuneResult


# What one task has and another lacks is told by the search, which names the task.
_ANY_TASKS = ("psnr", "ssim", "map50", "map", "detector-loss")
# Costs that come after another metric, and how they are written.
COSTS = {"latency": (".4f", " s"), "bytes": (".0f", "")}


def tune(
    device: DevicesOption,
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
        Rule,
        typer.Option(
            help="fixed: one set for all. as-shot: one set, as-shot white balance sets the gains. industry: the same "
            "with a table over ISO. industry-grey-world: a table over ISO, grey-world white balance. regression: from "
            "metadata and simple statistics to the best sets of a few training RAWs. auto: as-shot white balance, the "
            "other numbers linear in log ISO and in the log mean and 95th percentile of the RAW."
        ),
    ] = Rule.fixed,
    industry: Annotated[bool, typer.Option("--industry", help="Short for --rule industry.")] = False,
    expert: Annotated[
        Path | None,
        typer.Option(
            help="TOML of a hand-set parameter set to try first; `device info DEVICE --toml FILE` writes one to edit."
        ),
    ] = None,
    task: TaskOption = VIEWING,
    detector: DetectorOption = None,
    annotations: AnnotationsOption = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="What to search for: psnr (viewing's default), ssim, aligned_psnr, delta_e, gradient_error, "
            "texture_lost; map50 (a detector's default), map, … Several for nsga2 and worst-rank (by default psnr and "
            "ssim); latency (device seconds) and bytes are costs."
        ),
    ] = None,
    proxy: Annotated[
        str | None, typer.Option(help="fit-proxy run of proxy-gradient; by default the newest of the device.")
    ] = None,
    setting: SettingOption = None,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Seed of the RAWs chosen and of the search.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    pool_tolerance: PoolToleranceOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Tune on the device, on the training RAWs only. The same command goes on after a stop."""
    from workbench.collect.faults import failure_lines
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.tune.tuning import default_metrics
    from workbench.tune.tuning import tune as tune_in

    judge = asked_task(task, detector, annotations)
    metrics = metric or default_metrics(method, judge)
    if unknown := [m for m in metrics if m not in (*_ANY_TASKS, *judge.search_metrics, *COSTS)]:
        raise typer.BadParameter(f"--metric {unknown[0]!r} is not one of {', '.join((*judge.search_metrics, *COSTS))}")
    first = metrics[0]
    figure = partial(_figure, {m.key: m for m in judge.metrics})
    if industry and rule not in (Rule.fixed, Rule.industry):
        raise typer.BadParameter(f"--industry is short for --rule industry; it does not go with --rule {rule.value}")
    chosen = Rule.industry if industry else rule
    with (
        stoppable("every capture is kept; run the same command again to go on"),
        Progress("tune", captures, unit="capture") as progress,
    ):

        def show(done: int, total: int, best: float) -> None:
            note = "" if math.isnan(best) else f"best {figure(best, first)}"
            progress.update(min(done, total), note=note)

        run, result = tune_in(
            lab,
            device,
            method=method,
            captures=captures,
            raws_per_trial=raws_per_trial,
            rule=chosen,
            expert=expert,
            task=judge,
            metrics=metrics,
            proxy=proxy,
            setting=setting,
            seed=seed,
            name=name,
            pool_tolerance=pool_tolerance,
            progress=show,
        )
    if as_json:
        print(json.dumps({"run": run.name, **result.to_json()}))
        return
    _print(run.name, result, chosen, run.path / result.file, first, figure)
    for line in [*(f"note: {note}" for note in result.notes), *failure_lines(result.to_json())]:
        print(line)


_TITLES = {
    Rule.fixed: "best fixed parameters",
    Rule.as_shot: "best fixed parameters with as-shot white balance",
    Rule.industry: "industry's table",
    Rule.industry_grey_world: "industry's table with grey-world white balance",
    Rule.regression: "regression to per-image optima",
    Rule.auto: "rule linear in ISO and light with as-shot white balance",
}


def _print(name: str, result: TuneResult, rule: Rule, file: Path, metric: str, figure: Callable[..., str]) -> None:
    from workbench.tune.results import AutoResult, FixedResult, RegressionResult, TableResult

    print(
        f"{_TITLES[rule]} ({name}): {figure(result.score, metric)} on {result.ranked_on} training RAWs, default "
        f"{figure(result.default_on_trial_raws, metric)} on the trials' RAWs; {result.captures} captures"
    )
    if isinstance(result, TableResult):
        knots = ", ".join(f"{k:g}" for k in result.knots_iso)
        single, table = figure(result.single_set_score, metric), figure(result.table_score, metric)
        print(f"one set for all ISO {single}, table at ISO {knots} {table}: kept the {result.kept}")
    if isinstance(result, RegressionResult):
        single, regression = figure(result.single_set_score, metric), figure(result.regression_score, metric)
        print(
            f"one set for all {single}, regression to the best sets of {len(result.images)} RAWs {regression}: "
            f"kept the {result.kept}"
        )
    if isinstance(result, AutoResult):
        single, linear = figure(result.single_set_score, metric), figure(result.rule_score, metric)
        print(
            f"one set for all {single}, {result.parameters} parameters linear in {', '.join(result.figures)} {linear}: "
            f"kept the {result.kept}"
        )
    if isinstance(result, FixedResult) and result.pareto is not None:
        print(f"Pareto front, {len(result.pareto)} sets on the trials' RAWs, the best in {metric} first:")
        for point in result.pareto:
            print("  " + ", ".join(f"{m} {figure(v, m, native=True)}" for m, v in point.values.items()))
    if history := result.history:
        places = sorted({round(i * (len(history) - 1) / 5) for i in range(6)})
        curve = ", ".join(f"{history[i][0]}: {figure(history[i][1], metric)}" for i in places)
        print(f"captures spent and best score so far: {curve}")
    if result.device_s is not None and result.compute_s is not None:
        print(f"{result.device_s:.1f} s of the device, {result.compute_s:.1f} s of computing")
    elif result.seconds is not None:
        print(f"{result.seconds:.1f} s")
    print(str(file))


def _figure(metrics: Mapping[str, Metric], value: float | None, metric: str, native: bool = False) -> str:
    """A value for people; of a score, which a search makes large, unless it is ``native``."""
    if value is None:
        return "failed"
    if metric == "detector-loss":
        # The loss is to be small: people see what `validate` calls log loss.
        return f"log loss {-value:.3f}"
    if known := metrics.get(metric):
        shown = value if native else known.sign * value
        return f"{shown:{known.form()}}" + (f" {known.unit}" if known.unit else "")
    form, unit = COSTS.get(metric, (".3f", ""))
    return f"{value:{form}}{unit}"
