"""``workbench fit-proxy``: fit the differentiable proxy to the captures of the data set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.commands.limits import MANY, SEED
from workbench.commands.processes import DevicesOption, MixedOption, NodesOption, RendezvousOption, on_processes
from workbench.learn.recipe_names import RecipeName

if TYPE_CHECKING:
    from rich.console import Console

    from workbench.learn.results import FidelityReport, ProxyFitResult


@on_processes
def fit_proxy(
    lab: Annotated[Path, typer.Option(help="Lab folder with the data set.")] = Path("lab"),
    device: Annotated[
        str | None, typer.Option(help="Device URL; measures on it how the proxy follows it (about 700 captures).")
    ] = None,
    identity: Annotated[str | None, typer.Option(help="Device identity, where the data set holds several.")] = None,
    recipe: Annotated[
        RecipeName, typer.Option(help="Ours, or the paper's plain UNet on the mean squared error.")
    ] = RecipeName.fast,
    steps: Annotated[
        int | None, typer.Option(min=0, max=MANY, help="Steps of the whole network. [default: 400, paper: 2000]")
    ] = None,
    base_steps: Annotated[
        int | None, typer.Option(min=0, max=MANY, help="Steps of its colour and tone base alone. [default: 1600]")
    ] = None,
    width: Annotated[int, typer.Option(min=4, max=256, help="Channels of the network's first level.")] = 24,
    loss_raws: Annotated[
        int, typer.Option(min=0, max=MANY, help="With --device: RAWs on which moves from the rule's sets are followed.")
    ] = 5,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Seed of weights and crops.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    devices: DevicesOption = 1,
    nodes: NodesOption = 1,
    rendezvous: RendezvousOption = None,
    mixed_precision: MixedOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Fit the proxy network to the captures (equation 3), with a fidelity report.

    With --device the report moves one parameter at a time over half the range, on 4 RAWs, ranks 24 parameter sets on 6
    RAWs, and follows the loss over moves from what the lab's rule (industry, or else the best fixed set) gives
    --loss-raws RAWs: about 300 captures, and 80 for each of those RAWs, for 20 parameters.
    """
    from proxy.training import ProxyRecipe, ProxyStep, paper_recipe
    from workbench.collect.faults import failure_lines
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.learn import learning
    from workbench.learn.held import why_held

    if recipe is RecipeName.paper and base_steps is not None:
        raise typer.BadParameter("--base-steps: the paper's network has no base; give --steps alone")
    chosen = paper_recipe() if recipe is RecipeName.paper else ProxyRecipe()
    chosen = replace(
        chosen,
        steps=chosen.steps if steps is None else steps,
        base_steps=chosen.base_steps if base_steps is None else base_steps,
        width=width,
        seed=seed,
        mixed=mixed_precision,
    )
    with (
        stoppable("no proxy was written; run the same command again"),
        Progress("fit-proxy", chosen.base_steps + chosen.steps, unit="step") as progress,
    ):

        def show(step: ProxyStep) -> None:
            progress.part("training", "step", step.step, step.steps, f"{step.phase}, about {-4.343 * step.loss:.1f} dB")

        run, result = learning.fit_proxy(
            lab,
            chosen,
            device=device,
            identity=identity,
            name=name,
            loss_raws=loss_raws,
            on_step=show,
        )
    held = why_held(result)
    if as_json:
        print(json.dumps({"run": run.name, "held": list(held), "held_because": held, **result.to_json()}))
        return
    print_results(run.name, result)
    for line in failure_lines(result.fidelity.to_json()) if result.fidelity else ():
        print(line)


def print_results(name: str, result: ProxyFitResult) -> None:
    """The fidelity report as tables, and what training will hold by it."""
    from rich.table import Table

    from workbench.console import terminal
    from workbench.learn.held import why_held

    console = terminal.console()
    console.print(f"proxy {name}: {result.captures} training captures")
    table = Table("held out", "captures", "PSNR", "median", "5 %")
    for row, title in (
        (result.new_sets_known_raws, "new sets, known RAWs"),
        (result.new_sets_new_raws, "new sets, new RAWs"),
    ):
        if row:
            figures = (f"{figure:.2f} dB" for figure in (row.psnr, row.psnr_median, row.psnr_p5))
            table.add_row(title, str(row.captures), *figures)
    console.print(table)
    fidelity = result.fidelity
    if not fidelity:
        console.print(
            "no fidelity report, so `train` will hold no parameter; --device URL measures in which of them the proxy "
            "follows the device"
        )
        return
    table = Table(
        "parameter",
        "device moves",
        "direction",
        "size",
        "PSNR",
        "SSIM",
        title="one parameter moved (RMS, 8-bit levels)",
    )
    for m in fidelity.parameters:
        table.add_row(
            m.parameter,
            _number(m.device_change),
            _number(m.cosine),
            _number(m.gain),
            _number(m.psnr, ".1f", " dB"),
            _number(m.ssim, ".3f"),
        )
    console.print(table)
    if fidelity.rank_correlation is not None:
        console.print(
            f"rank correlation of image quality over {fidelity.rank_sets} held-out parameter sets, "
            f"{fidelity.rank_raws} {fidelity.split} RAWs: {fidelity.rank_correlation:.3f}"
        )
    _print_losses(fidelity, console)
    held = why_held(result)
    if held:
        console.print(
            f"{len(held)} of {len(fidelity.parameters)} parameters will be held at their start values by `train`, "
            "since the proxy does not follow the device in them:",
            soft_wrap=True,
        )
        blocks = {m.parameter: m.block for m in fidelity.parameters}
        for name, reason in held.items():
            console.print(f"  {blocks[name]}: {name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print("the proxy follows the device in every parameter measured: `train` will hold none of them")


def _print_losses(fidelity: FidelityReport, console: Console) -> None:
    """How the loss follows each parameter; nothing where it was not measured."""
    from rich.table import Table

    from workbench.learn.results import LOSS_FOLLOWED, MATTERS_DB

    for note in fidelity.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    if not fidelity.loss_raws:
        return
    start = f"what {fidelity.around} gives" if fidelity.around else "the defaults"
    table = Table(
        "parameter",
        "device (dB)",
        "proxy (dB)",
        "rank",
        "device (SSIM)",
        "rank (SSIM)",
        title=f"one parameter moved from {start}: RMS change of PSNR and SSIM, and rank correlation of the proxy's",
    )
    for m in fidelity.parameters:
        if loss := m.loss:
            table.add_row(
                m.parameter,
                _number(loss.psnr_change),
                _number(loss.psnr_change_proxy),
                _number(loss.psnr_rank),
                _number(loss.ssim_change, ".4f"),
                _number(loss.ssim_rank),
            )
    console.print(table)
    console.print(
        f"{len(fidelity.that_matter)} of {len(fidelity.parameters)} parameters change the device's PSNR by more than "
        f"{MATTERS_DB:g} dB; the proxy ranks the moves of {len(fidelity.loss_followed)} of them at {LOSS_FOLLOWED:g} "
        f"or better ({fidelity.loss_raws} {fidelity.loss_split} RAWs, {fidelity.loss_captures} captures)",
        soft_wrap=True,
    )


def _number(value: float | None, form: str = ".2f", unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"
