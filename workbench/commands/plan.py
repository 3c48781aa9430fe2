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
    from workbench.judge.plan_in_words import plan_lines
    from workbench.judge.planning import make_plan, measure_frames
    from workbench.lab.dataset import Dataset
    from workbench.lab.devices import open_devices
    from workbench.learn.proxy_fitting import device_of

    with Dataset.open(lab, create=False) as dataset:
        if device is not None:
            with open_devices(device, lab, tolerance=pool_tolerance) as opened:
                frame_s, frames = measure_frames(dataset, opened)
                own = opened.info().identity
        else:
            frame_s, frames = float(frame_ms or 0) / 1000, 0
            own = device_of(dataset, identity)
        made = make_plan(lab, dataset, own, frame_s, frames)
    if as_json:
        print(json.dumps(made.to_json()))
    else:
        print("\n".join(plan_lines(made)))
