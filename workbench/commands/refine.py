"""``workbench refine``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.commands.device_options import DevicesOption, PoolToleranceOption
from workbench.commands.limits import MANY, SEED
from workbench.commands.setting_option import SettingOption
from workbench.commands.task_options import VIEWING, AnnotationsOption, DetectorOption, TaskOption, asked_task
from workbench.learn.recipe_names import FOLLOW_CAPTURES

if TYPE_CHECKING:
    from workbench.learn.results import RefineResult, ResponseRanks
    from workbench.tasks.task import Metric

# The parts that the run tells beside its rounds, and what they count.
_UNITS = {
    "reading RAWs": "RAW",
    "earlier captures": "capture",
    "moving each parameter alone": "capture",
    "choosing how far to leave the rule": "capture",
}


def refine(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="What to improve: a train run that is on top of a rule, a tune run, or industry, fixed, … for the "
            "newest of that rule.",
        ),
    ],
    device: DevicesOption,
    lab: Annotated[Path, typer.Option(help="The lab folder.")] = Path("lab"),
    captures: Annotated[int, typer.Option(min=1, max=MANY, help="Captures that the rounds may look at.")] = 6000,
    rounds: Annotated[
        int,
        typer.Option(
            min=1, max=100, help="Rounds at most; once one has gained, the first that gains no more is the last."
        ),
    ] = 3,
    spread: Annotated[
        float, typer.Option(min=0.01, max=1, help="Largest move of a normalised parameter from what is refined.")
    ] = 0.15,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="What is to gain, such as psnr or ssim; several count by their own spread each."),
    ] = None,
    task: TaskOption = VIEWING,
    detector: DetectorOption = None,
    annotations: AnnotationsOption = None,
    setting: SettingOption = None,
    steps: Annotated[int, typer.Option(min=1, max=MANY, help="Steps of training the network.")] = 300,
    metadata: Annotated[
        bool, typer.Option("--metadata/--image-only", help="Whether ISO, exposure and white balance are inputs.")
    ] = True,
    follow_captures: Annotated[
        int, typer.Option(min=1, max=MANY, help="Captures that choosing how far to leave the rule may look at.")
    ] = FOLLOW_CAPTURES,
    rank_raws: Annotated[
        int,
        typer.Option(
            min=0,
            max=MANY,
            help="Validation RAWs on which each parameter alone is moved, to tell how what is learnt ranks the "
            "device's gains; these captures are counted apart.",
        ),
    ] = 0,
    pool_tolerance: PoolToleranceOption = 0,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Seed of the captures, weights and batches.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Improve a rule, or a predictor on top of one, with captures of the device around its answers."""
    from predictor.training import TrainingStep
    from workbench.collect.faults import failure_lines
    from workbench.commands.train import print_follow
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.learn import learning
    from workbench.learn.refining import RefineSettings

    judge = asked_task(task, detector, annotations)
    settings = RefineSettings(
        captures, rounds, spread=spread, metrics=tuple(metric or ()), rank_raws=rank_raws, seed=seed
    )
    with (
        stoppable("every capture is kept; run the same command again to go on"),
        Progress("refine", 0, unit="capture") as progress,
    ):

        def show(done: int, total: int, what: str) -> None:
            # The rounds' captures are counted as one, whatever is looked at; the rest each for itself.
            name, unit = (what, _UNITS[what]) if what in _UNITS else ("rounds", "capture")
            progress.part(name, unit, done, total, what)

        def learn(step: TrainingStep) -> None:
            note = f"training, promised gain {-step.loss:.3f}"
            progress.part("training", "step", step.step, step.steps, note)

        run, result = learning.refine(
            lab,
            source,
            device,
            settings,
            task=judge,
            setting=setting,
            steps=steps,
            metadata=metadata,
            follow_captures=follow_captures,
            pool_tolerance=pool_tolerance,
            name=name,
            progress=show,
            on_step=learn,
        )
    below = run.config["on_top_of"]
    if as_json:
        print(json.dumps({"run": run.name, "on_top_of": below, **result.to_json()}))
        return
    assert result.refine is not None
    assert result.follow is not None
    print_rounds(result.refine)
    if result.refine.ranks:
        print_ranks(result.refine.ranks, [m for m in judge.metrics if m.key in result.refine.metrics])
    print_follow(result.follow)
    print(f"predictor {run.name}, on top of {below['run']}; `workbench validate --predictor {run.name}` compares it")
    if result.setting:
        print(f"not predicted: setting {result.setting.told}")
    for line in [*(f"note: {note}" for note in result.notes), *failure_lines(result.to_json())]:
        print(line)


def print_rounds(refined: RefineResult) -> None:
    """What each round gained, for people."""
    from workbench.console.terminal import print_table

    rows = [
        [
            f"{number}{' *' if number - 1 == refined.best else ''}",
            f"{r.captures}",
            f"{100 * r.explained:.0f} %",
            *(f"{r.gains.get(key, float('nan')):+.3f}" for key in refined.metrics),
        ]
        for number, r in enumerate(refined.rounds, 1)
    ]
    print_table(
        f"gain over what is refined on {refined.rounds[0].raws} validation RAWs on the device; * what is learnt from",
        ["round", "captures", "explained", *refined.metrics],
        rows,
        [
            f"{refined.captures} captures of at most {refined.budget}, {refined.device_s:.1f} s of the device",
            *([f"a parameter moves by at most {refined.reach:.2g} of its range"] if refined.reach else []),
        ],
    )


def print_ranks(ranks: ResponseRanks, metrics: Sequence[Metric]) -> None:
    """How what was learnt ranks the moves of each parameter, for people."""
    from workbench.console.terminal import print_table
    from workbench.learn.results import LOSS_FOLLOWED, MATTERS_DB

    def told(value: float | None, decimals: int) -> str:
        return "-" if value is None else f"{value:.{decimals}f}"

    rows = [
        [p.parameter, *(told(p.changes[m.key], m.decimals) for m in metrics), told(p.rank, 2)] for p in ranks.parameters
    ]
    lines = [f"{ranks.captures} captures, beside those of the rounds"]
    for metric in metrics:
        if metric.unit == "dB":
            lines.append(
                f"{len(ranks.that_matter(metric.key))} of {len(rows)} parameters change {metric.label} by more than "
                f"{MATTERS_DB:g} dB; what is learnt ranks the moves of {len(ranks.followed(metric.key))} of them at "
                f"{LOSS_FOLLOWED:g} or better"
            )
    print_table(
        f"one parameter moved by up to {ranks.largest:g} of its range on {ranks.raws} validation RAWs: RMS change on "
        "the device, rank correlation with what is learnt",
        ["parameter", *(m.title for m in metrics), "rank"],
        rows,
        lines,
    )
