"""``workbench collect``: a campaign of captures over a folder of RAWs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from drivers.splits import Split
from workbench.collect.designs import Design
from workbench.commands.device_options import DevicesOption, PoolToleranceOption
from workbench.commands.limits import MANY, SEED


def collect(
    device: DevicesOption,
    captures: Annotated[
        int | None,
        typer.Option(
            min=1, max=MANY, help="Captures of the whole campaign; around-rule: by default those of all RAWs."
        ),
    ] = None,
    raws: Annotated[
        Path | None,
        typer.Option(help="Folder of RAW files (with scenes.csv where there is one); not for live devices."),
    ] = None,
    scene: Annotated[str, typer.Option(help="Live devices: the scene that is before the device.")] = "live",
    split: Annotated[
        Literal[Split.TRAIN, Split.VALIDATION], typer.Option(help="Live devices: the split of that scene.")
    ] = Split.TRAIN,
    lab: Annotated[Path, typer.Option(help="Lab folder for the data set.")] = Path("lab"),
    design: Annotated[
        Design, typer.Option(help="All but lhs (Latin hypercube) can be extended later; around-rule needs --rule.")
    ] = Design.SOBOL,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Seed of the design and of the order of the RAWs.")] = 0,
    around: Annotated[
        list[Path] | None, typer.Option(help="TOML of a point for --design around; may be given several times.")
    ] = None,
    spread: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Normalised distance from the points: around 0.1, around-rule 0.25."),
    ] = None,
    rule: Annotated[
        str | None, typer.Option(help="Tune run for --design around-rule: captures around what it gives each RAW.")
    ] = None,
    per_raw: Annotated[
        int | None,
        typer.Option(
            min=2, max=MANY, help="around-rule: captures of each RAW, the rule's own set among them; by default 8."
        ),
    ] = None,
    block_share: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="around-rule: share of the moves that are of one block's parameters; by default 0.5."
        ),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="around-rule: parameter or block that stays as the rule has it.")
    ] = None,
    pool_tolerance: PoolToleranceOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Collect captures: each pairs one RAW (train or validation) with its own parameter set.

    A live device photographs what is before it: each capture stores the RAW that came with it.

    --design around-rule captures each RAW with the set that a tuned rule gives it and with moves from there, half of
    them of one block at a time: the pictures that a predictor works on, not the blown out ones of the whole range.

    The same command again goes on where it stopped; when complete it does nothing. A frame that the device refuses, or
    whose output is no picture of the RAW, is kept as a failure with its reason and not asked for again; it stops when
    the first 10 frames fail, or more than half of 20 or more.
    """
    from workbench.collect import collector
    from workbench.collect.faults import told
    from workbench.console.interrupt import stoppable

    if around and design is not Design.AROUND:
        raise typer.BadParameter("--around needs --design around")
    if (rule is None) is (design is Design.AROUND_RULE):
        raise typer.BadParameter("--design around-rule and --rule RUN need each other", param_hint="--rule")
    if spread is not None and design not in (Design.AROUND, Design.AROUND_RULE):
        raise typer.BadParameter(f"is for --design around and around-rule, not {design}", param_hint="--spread")
    of_rule: dict[str, Any] = {"per_raw": per_raw, "block_share": block_share, "keep": tuple(keep) if keep else None}
    given = {name: value for name, value in of_rule.items() if value is not None}
    if given and rule is None:
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise typer.BadParameter(f"is for --design around-rule, not {design}", param_hint=option)
    if captures is None and rule is None:
        raise typer.BadParameter(f"needed by --design {design}", param_hint="--captures")
    around_rule = None
    if rule is not None:
        from dataclasses import replace

        from workbench.collect.around_rule import AroundRule
        from workbench.rules.centres import find_centres

        around_rule = replace(AroundRule(find_centres(lab, rule)), **given)
    with stoppable(f"every reported capture is kept; go on with: {_command()}"):
        try:
            result = collector.collect(
                lab,
                device,
                captures,
                raws=raws,
                scene=scene,
                split=split,
                design=design,
                seed=seed,
                around=around or (),
                spread=spread,
                around_rule=around_rule,
                pool_tolerance=pool_tolerance,
            )
        except collector.RawsNeededError as error:
            raise typer.BadParameter("needed, for this device is not live", param_hint="--raws") from error
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        if result.new or result.new_failed:
            made = f"collected {result.new} captures with {result.device}"
            print(f"{made}; {result.captured} of {result.planned} are in {lab}")
        else:
            print(f"complete: {result.captured} of {result.planned} captures, nothing to do")
        for line in told(result.faults):
            print(line)
    result.check()
    if result.failed and not as_json:
        print(result.failures_told())


def _command() -> str:
    import shlex
    import subprocess

    words = ["workbench", *sys.argv[1:]]
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
