"""``workbench run``: prediction in the loop, on a stream of frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.commands.limits import DAY_S, MANY

if TYPE_CHECKING:
    from workbench.loop.results import LoopResult


def run(
    device: Annotated[
        str,
        typer.Option(
            help="Device URL, such as zmq://127.0.0.1:5555 or sim:sim20, or a name of lab.toml, with "
            "?deadline=SECONDS where a frame takes more than 30 s."
        ),
    ],
    raws: Annotated[
        Path | None, typer.Option(help="Folder of RAW files, taken in order; not for live devices.")
    ] = None,
    predictor: Annotated[str | None, typer.Option(help="Name of the train run; the newest where left out.")] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MANY,
            help="Frames; by default the RAWs once each, live devices until Ctrl-C.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, max=1000 * DAY_S, help="End after so many seconds.", show_default=False)
    ] = None,
    settle: Annotated[
        int,
        typer.Option(
            min=0, max=MANY, help="Frames in which 90 % of a step of the parameters is followed; 0: no smoothing."
        ),
    ] = 10,
    save: Annotated[Path | None, typer.Option(help="Folder for the output pictures.")] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep RAWs and captures in the lab's data set, with the purpose run.")
    ] = False,
    scene: Annotated[
        str, typer.Option(help="Live devices, with --keep: the scene that is before the device.")
    ] = "live",
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Predict on this machine's GPU; the first frame takes long there.")
    ] = False,
    lab: Annotated[Path, typer.Option(help="Lab folder with the runs.")] = Path("lab"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Predict, push and capture frame after frame; the next frame is predicted while the device works.

    Parameters are smoothed over time, and a scene cut is followed at once. Each photograph of a live device is made
    with what was predicted from the one before the last. Ctrl-C ends it; what was measured is printed.
    """
    from workbench.collect.collector import RawsNeededError
    from workbench.console.interrupt import stoppable
    from workbench.errors import StoppedError
    from workbench.loop.running import run_loop

    try:
        with stoppable("what was measured until here is printed"):
            result = run_loop(
                lab,
                device,
                predictor=predictor,
                raws=raws,
                frames=frames,
                seconds=seconds,
                settle=settle,
                save=save,
                keep=keep,
                scene=scene,
                gpu=gpu,
            )
    except RawsNeededError as error:
        raise typer.BadParameter("needed, for this device is not live", param_hint="--raws") from error
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        _print(result, lab, save)
    # Without an end of its own a loop is ended by Ctrl-C: that is no stop before the time.
    endless = raws is None and frames is None and seconds is None
    if not (endless and isinstance(result.ended_by, StoppedError)):
        result.check()


def _print(result: LoopResult, lab: Path, save: Path | None) -> None:
    from workbench.collect.faults import told
    from workbench.console.terminal import print_table

    rows = [
        ("RAW in memory to parameters", result.predicted),
        ("parameters pushed to capture", result.pushed),
        ("of that inside the device", result.in_device),
        ("RAW in memory to capture", result.captured),
    ]
    table = [[name, _ms(times.median_s), _ms(times.p95_s)] for name, times in rows]
    print_table(f"{result.frames} frames of {result.device}", ("ms", "median", "95th percentile"), table)
    rate = "–" if result.rate is None else f"{result.rate:.3g} frames a second"
    print(f"{rate}; predicted by {result.run}")
    cuts = f"{result.cuts} scene cut{'' if result.cuts == 1 else 's'}"
    filtered = f"90 % of a step in {result.settle} frames" if result.settle else "no smoothing"
    if result.moved is not None and result.moved_predicted is not None:
        moved = f"{100 * result.moved:.2g} % of its range a frame, as predicted {100 * result.moved_predicted:.2g} %"
        print(f"{filtered}: a parameter moved by {moved}; {cuts}")
    else:
        print(f"{filtered}; {cuts}")
    if result.saved:
        print(f"{result.saved} pictures are in {save}")
    if result.kept:
        print(f"{result.kept} captures are in {lab}")
    if result.tally.failed:
        print(result.tally.told())
    for line in told(result.faults):
        print(line)


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1e3 * seconds:.3g}"
