"""``workbench collect``: a campaign of captures over a folder of RAWs."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class DesignName(StrEnum):
    """How the parameter sets are chosen."""

    sobol = "sobol"
    lhs = "lhs"
    around = "around"


def collect(
    device: Annotated[
        list[str],
        typer.Option(
            help="Device URL, such as zmq://127.0.0.1:5555 or sim:sim20; several make a pool of equal boards."
        ),
    ],
    raws: Annotated[Path, typer.Option(help="Folder of RAW files (with scenes.csv where there is one).")],
    captures: Annotated[int, typer.Option(min=1, help="Captures of the whole campaign.")],
    lab: Annotated[Path, typer.Option(help="Lab folder for the data set.")] = Path("lab"),
    design: Annotated[
        DesignName, typer.Option(help="sobol and around can be extended later; lhs: Latin hypercube.")
    ] = DesignName.sobol,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the design and of the order of the RAWs.")] = 0,
    around: Annotated[
        list[Path] | None, typer.Option(help="TOML of a point for --design around; may be given several times.")
    ] = None,
    spread: Annotated[float, typer.Option(help="Normalised distance from the points for --design around.")] = 0.1,
    pool_tolerance: Annotated[
        int, typer.Option(min=0, max=255, help="Levels of 255 by which outputs of pooled boards may differ.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Collect captures: each pairs one RAW (train or validation) with its own parameter set.

    The same command again goes on where it stopped; when complete it does nothing.
    """
    from workbench import campaign
    from workbench.bench import Bench
    from workbench.dataset import Dataset
    from workbench.devices import open_devices
    from workbench.interrupt import stoppable
    from workbench.progress import Progress
    from workbench.raw_folder import read_raw_folder

    if around and design is not DesignName.around:
        raise typer.BadParameter("--around needs --design around")
    with (
        stoppable(f"every reported capture is kept; go on with: {_command()}"),
        open_devices(device, lab, tolerance=pool_tolerance) as opened,
    ):
        space = opened.info().space
        points = [space.load_toml(path) for path in around or ()]
        entries = read_raw_folder(raws)
        with Dataset.open(lab, create=True) as dataset:
            with Progress("read RAWs", len(entries), unit="RAW") as progress:
                records = campaign.import_raws(dataset, entries, progress.update)
            jobs = campaign.plan(
                space,
                [record for record in records if record.split != "test"],
                design=design.value,
                captures=captures,
                seed=seed,
                around=points,
                spread=spread,
            )
            bench = Bench(dataset, opened, purpose=campaign.PURPOSE)
            todo = campaign.remaining(dataset, bench.info.identity, jobs)
            before = len(jobs) - len(todo)
            if todo:
                with Progress("collect", len(jobs), unit="capture", done=before) as progress:
                    campaign.run(bench, todo, lambda done: progress.update(before + done))
            digest = dataset.digest()
    if as_json:
        result = {"captures": len(jobs), "new": len(todo), "device": bench.info.identity, "digest": digest}
        typer.echo(json.dumps({"lab": str(lab), "raws": len(records), **result}))
    elif todo:
        typer.echo(
            f"collected {len(todo)} captures with {bench.info.identity}; {len(jobs)} of {len(jobs)} are in {lab}"
        )
    else:
        typer.echo(f"complete: {len(jobs)} of {len(jobs)} captures, nothing to do")


def _command() -> str:
    import shlex
    import subprocess

    words = ["workbench", *sys.argv[1:]]
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
