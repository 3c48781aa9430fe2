"""``workbench plan``: what captures in an hour, a night and a week buy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.device_options import PoolToleranceOption


def plan(
    lab: Annotated[Path, typer.Option(help="Lab folder with the data set and its runs.")] = Path("lab"),
    device: Annotated[
        list[str] | None,
        typer.Option(help="Device URL: a few captures, which are kept, measure its frame time; several make a pool."),
    ] = None,
    frame_ms: Annotated[
        float | None, typer.Option(min=0.001, max=86_400_000, help="Milliseconds a capture, instead of measuring.")
    ] = None,
    identity: Annotated[str | None, typer.Option(help="Device identity, where the data set holds several.")] = None,
    pool_tolerance: PoolToleranceOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """What an hour, a night and a week of captures buy: captures, disk, and the gain over industry to expect.

    The gain is a saturating curve through what this lab has validated: predictors from collections of at least two
    sizes. Beyond the largest it is an extrapolation, and marked as one.
    """
    if (device is None) is (frame_ms is None):
        raise typer.BadParameter("give one of --device and --frame-ms", param_hint="--device")
    if device is not None and identity is not None:
        raise typer.BadParameter("goes with --frame-ms; --device says itself which it is", param_hint="--identity")
    from workbench.judge import planning
    from workbench.judge.plan_in_words import plan_lines

    frame_s = None if frame_ms is None else frame_ms / 1000
    made = planning.plan(lab, device=device, frame_s=frame_s, identity=identity, pool_tolerance=pool_tolerance)
    if as_json:
        print(json.dumps(made.to_json()))
    else:
        print("\n".join(plan_lines(made)))
