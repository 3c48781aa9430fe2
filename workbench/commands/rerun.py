"""``workbench rerun``: repeat a run from its record and say whether the figures agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

SHOWN = 20
# Sums in another order, or of the other precision, differ in their last digits, which no table shows.
ROUNDING = 1e-5


def rerun(
    run: Annotated[str, typer.Argument(help="A finished fit-proxy, train, tune or validate run.")],
    lab: Annotated[Path, typer.Option(help="Lab folder with the data set and the runs.")] = Path("lab"),
    device: Annotated[
        str | None,
        typer.Option(help="Device URL, asked for captures that the data set lacks; by default there must be none."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="By how much figures may differ and agree; by default the rounding of sums.")
    ] = ROUNDING,
    name: Annotated[str | None, typer.Option(help="Name of the new run; by default RUN-rerun.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Repeat a run from its record into a new run; exit code 1 where the figures do not agree."""
    from contextlib import nullcontext

    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.judge import rerun as reruns
    from workbench.lab.devices import open_devices

    with (
        stoppable("the run was not repeated; run the same command again"),
        open_devices([device], lab) if device else nullcontext() as opened,
        Progress(f"rerun {run}", 0) as progress,
    ):
        outcome = reruns.rerun(lab, run, device=opened, new_name=name, progress=progress.part)
    agrees = outcome.agrees(tolerance)
    if as_json:
        shown = [{"figure": d.figure, "before": d.before, "after": d.after} for d in outcome.differences]
        digests = [r.record.dataset_digest for r in (outcome.before, outcome.after)]
        print(
            json.dumps(
                {
                    "run": outcome.before.name,
                    "rerun": outcome.after.name,
                    "agrees": agrees,
                    "figures": outcome.figures,
                    "same_dataset_digest": digests[0] == digests[1],
                    "differences": shown,
                }
            )
        )
    else:
        _print(outcome, agrees, tolerance)
    if not agrees:
        raise typer.Exit(1)


def _print(outcome: object, agrees: bool, tolerance: float) -> None:
    from workbench.judge.rerun import Outcome

    assert isinstance(outcome, Outcome)
    before, after = outcome.before, outcome.after
    for key, what in (
        ("dataset_digest", "data set"),
        ("workbench_version", "workbench"),
        ("threads", "threads of torch"),
    ):
        then, now = getattr(before.record, key), getattr(after.record, key)
        if then != now:
            print(f"{what}: {str(then)[:12]} then, {str(now)[:12]} now")
    same = outcome.figures - len(outcome.differences)
    for d in outcome.differences[:SHOWN]:
        by = f", by {d.size:.3g}" if d.size < float("inf") else ""
        print(f"  {d.figure}: {d.before} then, {d.after} now{by}")
    if len(outcome.differences) > SHOWN:
        print(f"  and {len(outcome.differences) - SHOWN} more")
    if not outcome.differences:
        print(f"{after.name} agrees with {before.name}: all {outcome.figures} figures are exactly the same")
    elif agrees:
        print(
            f"{after.name} agrees with {before.name}: {same} of {outcome.figures} figures are exactly the same, "
            f"the others differ by at most {outcome.differences[0].size:.3g} (allowed: {tolerance:g})"
        )
    else:
        print(
            f"{after.name} does not agree with {before.name}: {len(outcome.differences)} of {outcome.figures} figures "
            "differ"
        )
