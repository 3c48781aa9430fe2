"""``workbench fit-proxy``: fit the differentiable proxy to the captures of the data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.commands.limits import MANY, SEED


def fit_proxy(
    lab: Annotated[Path, typer.Option(help="Lab folder with the data set.")] = Path("lab"),
    device: Annotated[
        str | None, typer.Option(help="Device URL; measures on it how the proxy follows it (about 300 captures).")
    ] = None,
    identity: Annotated[str | None, typer.Option(help="Device identity, where the data set holds several.")] = None,
    steps: Annotated[int, typer.Option(min=0, max=MANY, help="Steps of the whole network.")] = 400,
    base_steps: Annotated[int, typer.Option(min=0, max=MANY, help="Steps of its colour and tone base alone.")] = 1600,
    width: Annotated[int, typer.Option(min=4, max=256, help="Channels of the network's first level.")] = 24,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Seed of weights and crops.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Fit the proxy network to the captures (equation 3), with a fidelity report."""
    from proxy.training import ProxyRecipe, ProxyStep
    from workbench.collect.faults import failure_lines
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.lab.devices import open_devices
    from workbench.learn import proxy_fitting
    from workbench.learn.held import why_held
    from workbench.learn.results import ProxyFitResult

    recipe = ProxyRecipe(base_steps=base_steps, steps=steps, width=width, seed=seed)
    with stoppable("no proxy was written; run the same command again"):
        bench_device = open_devices([device], lab) if device else None
        try:
            with Progress("fit-proxy", base_steps + steps, unit="step") as progress:

                def show(step: ProxyStep) -> None:
                    progress.update(step.step, note=f"{step.phase}, about {-4.343 * step.loss:.1f} dB")

                run = proxy_fitting.fit_proxy(
                    lab, recipe, device=bench_device, identity=identity, name=name, on_step=show
                )
        finally:
            if bench_device:
                bench_device.close()
    held = why_held(ProxyFitResult.of(run))
    if as_json:
        print(json.dumps({"run": run.name, "held": list(held), "held_because": held, **run.results}))
        return
    print_results(run.name, run.results)
    for line in failure_lines(run.results.get("fidelity") or {}):
        print(line)


def print_results(name: str, results: dict[str, Any]) -> None:
    """The fidelity report as tables, and what training will hold by it."""
    from rich.table import Table

    from workbench.console import terminal
    from workbench.learn.held import why_held
    from workbench.learn.results import ProxyFitResult

    console = terminal.console()
    console.print(f"proxy {name}: {results['captures']} training captures")
    table = Table("held out", "captures", "PSNR", "median", "5 %")
    for label, title in (
        ("new_sets_known_raws", "new sets, known RAWs"),
        ("new_sets_new_raws", "new sets, new RAWs"),
    ):
        if row := results.get(label):
            table.add_row(
                title,
                str(row["captures"]),
                f"{row['psnr']:.2f} dB",
                f"{row['psnr_median']:.2f} dB",
                f"{row['psnr_p5']:.2f} dB",
            )
    console.print(table)
    fidelity = results.get("fidelity")
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
    for m in fidelity["parameters"]:
        table.add_row(
            m["parameter"],
            f"{m['device_change']:.2f}",
            _number(m["cosine"]),
            _number(m["gain"]),
            f"{m['psnr']:.1f} dB",
            f"{m['ssim']:.3f}",
        )
    console.print(table)
    if fidelity.get("rank_correlation") is not None:
        console.print(
            f"rank correlation of image quality over {fidelity['rank_sets']} held-out parameter sets, "
            f"{fidelity['rank_raws']} {fidelity['split']} RAWs: {fidelity['rank_correlation']:.3f}"
        )
    held = why_held(ProxyFitResult.from_json(results, name))
    if held:
        console.print(
            f"{len(held)} of {len(fidelity['parameters'])} parameters will be held at their start values by `train`, "
            "since the proxy does not follow the device in them:",
            soft_wrap=True,
        )
        blocks = {m["parameter"]: m["block"] for m in fidelity["parameters"] if "block" in m}
        for name, reason in held.items():
            console.print(f"  {blocks.get(name, '–')}: {name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print("the proxy follows the device in every parameter: `train` will hold none")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
