"""``workbench train``: train the attention-aware predictor through the frozen proxy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.commands.device_options import PoolToleranceOption
from workbench.commands.limits import MANY, SEED
from workbench.commands.processes import DevicesOption, MixedOption, NodesOption, RendezvousOption, on_processes
from workbench.commands.setting_option import SettingOption
from workbench.commands.task_options import (
    VIEWING,
    AnnotationsOption,
    DetectorOption,
    OnTopOfOption,
    TaskOption,
    asked_task,
)
from workbench.learn.recipe_names import FOLLOW_CAPTURES, RecipeName
from workbench.tasks.loss_names import ViewingLoss

if TYPE_CHECKING:
    from workbench.learn.results import FollowResult


@on_processes
def train(
    lab: Annotated[Path, typer.Option(help="Lab folder with the data set.")] = Path("lab"),
    proxy: Annotated[str | None, typer.Option(help="Name of the fit-proxy run; the newest where left out.")] = None,
    task: TaskOption = VIEWING,
    detector: DetectorOption = None,
    annotations: AnnotationsOption = None,
    viewing_weight: Annotated[
        float, typer.Option(min=0, max=1e6, help="Weight of the L2 loss to the reference beside the detector's loss.")
    ] = 0.0,
    loss: Annotated[
        ViewingLoss | None,
        typer.Option(help="Of viewing. l2: the paper's, the default; detail: L2 and structure at three scales."),
    ] = None,
    recipe: Annotated[
        RecipeName,
        typer.Option(
            help="fast: 600 steps of 32 RAWs, AdamW 0.0015, 16 channels, metadata (minutes on a CPU); paper: section "
            "5.1, 400 epochs of 8 RAWs a step, RMSprop 0.0001, 32 channels, image only."
        ),
    ] = RecipeName.fast,
    batch: Annotated[int | None, typer.Option(min=1, max=MANY, help="RAWs a step instead of the recipe's.")] = None,
    metadata: Annotated[
        bool | None,
        typer.Option("--metadata/--no-metadata", help="ISO, exposure and white balance as inputs (fast: on)."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, max=MANY, help="Optimiser steps instead of the recipe's.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="TOML of the parameters to start from; parameters that the proxy does not follow stay there."
        ),
    ] = None,
    on_top_of: OnTopOfOption = None,
    setting: SettingOption = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="Device URL: with --on-top-of, how far to leave the rule is chosen on it, block by block, on "
            "validation RAWs; several make a pool of equal boards."
        ),
    ] = None,
    follow_captures: Annotated[
        int, typer.Option(min=1, max=MANY, help="Captures that the choice on --device may look at.")
    ] = FOLLOW_CAPTURES,
    pool_tolerance: PoolToleranceOption = 0,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Seed of weights and batches.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    devices: DevicesOption = 1,
    nodes: NodesOption = 1,
    rendezvous: RendezvousOption = None,
    mixed_precision: MixedOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Train the predictor through the frozen proxy with the task's loss (equation 4)."""
    if on_top_of and start:
        raise typer.BadParameter("--start: on top of a rule training starts from the rule")
    if (on_top_of or setting) and recipe is RecipeName.paper:
        given = "--on-top-of" if on_top_of else "--setting"
        raise typer.BadParameter(f"{given}: the paper's recipe starts from one set; give --recipe fast")
    if device and not (on_top_of or setting):
        raise typer.BadParameter("--device: chooses how far to leave a rule; give the rule with --on-top-of")
    from predictor.metadata import LENGTH
    from predictor.model import PredictorConfig, gflop
    from predictor.training import TrainingStep
    from workbench.collect.faults import failure_lines
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.lab.runs import find_run
    from workbench.learn import learning
    from workbench.learn.held import held_by, held_in_words, not_followed
    from workbench.learn.own_weights import open_proxy
    from workbench.learn.results import ProxyFitResult

    chosen = learning.recipe_of(recipe, seed=seed, metadata=metadata, steps=steps, batch=batch)
    chosen = replace(chosen, mixed=mixed_precision)
    judge = asked_task(task, detector, annotations, viewing_weight, loss)
    measure = judge.loss_name
    log = "log " if chosen.name == "fast" else ""
    measure = f"{log}{measure}" + (f" + {viewing_weight:g} × L2" if viewing_weight else "")
    source = find_run(lab, "fit-proxy", proxy)
    space = open_proxy(source).space
    config = PredictorConfig(len(space), chosen.width, LENGTH if chosen.metadata else 0)
    cost = gflop(config, 1536, 2048)
    if not as_json:
        seen = gflop(config, chosen.longest * 3 // 4, chosen.longest)
        print(
            f"predictor: {len(space)} parameters, first encoder {chosen.width} channels, "
            f"{'with' if chosen.metadata else 'without'} metadata; {seen:.2f} GFLOP for a pass over planes of "
            f"{chosen.longest}×{chosen.longest * 3 // 4}, to which larger RAWs are averaged"
        )
        if held := list(dict.fromkeys([*not_followed(source), *space.not_searched])):
            print(held_in_words(space, held))
        elif ProxyFitResult.of(source).fidelity:
            print("no parameter is held: the proxy follows the device in every one that was measured")
        else:
            print(f"no parameter is held: {source.name} has no fidelity report (fit-proxy --device measures one)")
    with (
        stoppable("training keeps its state; run the same command again to go on"),
        Progress("train", 0, unit="step") as progress,
    ):

        def count(done: int, total: int) -> None:
            progress.part("choosing", "capture", done, total, "choosing how far to leave the rule")

        def show(step: TrainingStep) -> None:
            progress.part("training", "step", step.step, step.steps, f"{measure} {step.loss:.4f}")

        run, result = learning.train(
            lab,
            chosen,
            proxy=proxy,
            task=judge,
            start=start,
            on_top_of=on_top_of,
            setting=setting,
            device=device,
            follow_captures=follow_captures,
            pool_tolerance=pool_tolerance,
            name=name,
            on_step=show,
            on_capture=count,
        )
    below = run.config.get("on_top_of")
    if as_json:
        told = {"run": run.name, "gflop_2048x1536": cost, "held": held_by(run), "on_top_of": below}
        print(json.dumps({**told, **result.to_json()}))
        return
    held_out, of_rule = result.held_out_loss, result.rule_held_out_loss
    text = "no held-out RAWs to measure on" if held_out is None else f"held-out {measure} {held_out:.5f}"
    if held_out is not None and of_rule is not None:
        text += f", the rule {below['run']} has {of_rule:.5f}" if below else ""
    print(f"predictor {run.name}: {text} (through the proxy)")
    if result.setting:
        print(f"not predicted: setting {result.setting.told}")
    if result.follow:
        print_follow(result.follow)
    for line in [*(f"note: {note}" for note in result.notes), *failure_lines(result.to_json())]:
        print(line)


def print_follow(follow: FollowResult) -> None:
    """How far the rule is left, block by block, for people."""
    from workbench.console.terminal import print_table

    unit = f" {follow.unit}" if follow.unit else ""

    def figure(value: float | None, form: str = ".3f") -> str:
        return "–" if value is None else f"{value:{form}}{unit}"

    rows = [
        [row.block, f"{row.factor:g}", figure(row.gain, "+.3f"), figure(row.standard_error)] for row in follow.blocks
    ]
    summary = (
        f"{follow.metric}: rule {figure(follow.rule)}, all followed {figure(follow.everything)}, as chosen "
        f"{figure(follow.chosen)}; over the rule {figure(follow.gain, '+.3f')}, standard error "
        f"{figure(follow.standard_error)}; {follow.captures} captures of at most {follow.budget}"
    )
    chosen = f"chosen on {follow.raws} {follow.split} RAWs of {follow.scenes} scenes, by their outputs of the device"
    print_table("how far the rule is left", ["block", "factor", "gains", "standard error"], rows, [chosen, summary])
