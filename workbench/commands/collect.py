"""``workbench collect``: a campaign of captures over a folder of RAWs."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.commands.limits import MANY, SEED

if TYPE_CHECKING:
    from drivers.device import Device
    from drivers.parameters import ParameterSet
    from workbench.collect.campaign import Job
    from workbench.collect.failures import FailureTally
    from workbench.collect.faults import Counts
    from workbench.collect.raw_folder import Split
    from workbench.lab.dataset import Dataset

RETRY = "workbench dataset retry"


class DesignName(StrEnum):
    """How the parameter sets are chosen."""

    sobol = "sobol"
    lhs = "lhs"
    around = "around"


class SplitName(StrEnum):
    """Splits that are collected with."""

    train = "train"
    validation = "validation"


def collect(
    device: Annotated[
        list[str],
        typer.Option(
            help="Device URL, such as zmq://127.0.0.1:5555 or sim:sim20, with ?deadline=SECONDS where a frame takes "
            "more than 30 s; several make a pool of equal boards."
        ),
    ],
    captures: Annotated[int, typer.Option(min=1, max=MANY, help="Captures of the whole campaign.")],
    raws: Annotated[
        Path | None,
        typer.Option(help="Folder of RAW files (with scenes.csv where there is one); not for live devices."),
    ] = None,
    scene: Annotated[str, typer.Option(help="Live devices: the scene that is before the device.")] = "live",
    split: Annotated[SplitName, typer.Option(help="Live devices: the split of that scene.")] = SplitName.train,
    lab: Annotated[Path, typer.Option(help="Lab folder for the data set.")] = Path("lab"),
    design: Annotated[
        DesignName, typer.Option(help="sobol and around can be extended later; lhs: Latin hypercube.")
    ] = DesignName.sobol,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Seed of the design and of the order of the RAWs.")] = 0,
    around: Annotated[
        list[Path] | None, typer.Option(help="TOML of a point for --design around; may be given several times.")
    ] = None,
    spread: Annotated[
        float, typer.Option(min=0, max=1, help="Normalised distance from the points for --design around.")
    ] = 0.1,
    pool_tolerance: Annotated[
        int, typer.Option(min=0, max=255, help="Levels of 255 by which outputs of pooled boards may differ.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Collect captures: each pairs one RAW (train or validation) with its own parameter set.

    A live device photographs what is before it: each capture stores the RAW that came with it.

    The same command again goes on where it stopped; when complete it does nothing. A frame that the device refuses, or
    whose output is no picture of the RAW, is kept as a failure with its reason and not asked for again; it stops when
    the first 10 frames fail, or more than half of 20 or more.
    """
    from drivers.errors import DeviceError
    from drivers.foreign_text import shown
    from drivers.raw.raw_notes import RawNote, told_once
    from workbench.collect import campaign, live
    from workbench.collect.raw_folder import passed_over, read_raw_folder
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.lab.dataset import Dataset
    from workbench.lab.devices import open_devices

    if around and design is not DesignName.around:
        raise typer.BadParameter("--around needs --design around")
    with (
        stoppable(f"every reported capture is kept; go on with: {_command()}"),
        open_devices(device, lab, tolerance=pool_tolerance) as opened,
    ):
        space = opened.info().space
        points = [space.load_toml(path) for path in around or ()]
        plan: dict[str, Any] = {
            "design": design.value,
            "captures": captures,
            "seed": seed,
            "around": points,
            "spread": spread,
        }
        if opened.info().live:
            if raws is not None:
                raise DeviceError(f"{opened.url}: a live device takes no stored RAWs; leave out --raws")
            sets = live.plan(space, **plan)
            with Dataset.open(lab, create=True) as dataset:
                collected = _collect_live(opened, dataset, scene, split.value, sets)
        else:
            if raws is None:
                raise typer.BadParameter("needed, for this device is not live", param_hint="--raws")
            entries = read_raw_folder(raws)
            notes: list[tuple[str, RawNote]] = []
            with Dataset.open(lab, create=True) as dataset:
                with Progress("read RAWs", len(entries), unit="RAW") as progress:
                    records = campaign.import_raws(dataset, entries, progress.update, notes)
                if others := passed_over(raws, entries):
                    named = ", ".join(shown(name) for name in others[:5])
                    more = f" and {len(others) - 5} more" if len(others) > 5 else ""
                    print(
                        f"note: {shown(raws)}: passed over, not RAW files that can be read: {named}{more}",
                        file=sys.stderr,
                    )
                for line in told_once(notes):
                    print(f"note: {shown(line)}", file=sys.stderr)
                usable = [record for record in records if record.split != "test"]
                jobs = campaign.plan(space, usable, **plan)
                collected = _collect(opened, dataset, jobs, len(records))
    _say(lab, opened.url, collected, as_json)


@dataclass(frozen=True)
class _Collected:
    """What a campaign came to: ``new`` captures and ``new_failed`` now, the ``tally`` of the whole plan."""

    plan: int
    new: int
    new_failed: int
    identity: str
    raws: int
    digest: str
    tally: FailureTally
    faults: Counts


def _collect(device: Device, dataset: Dataset, jobs: list[Job], raws: int) -> _Collected:
    from workbench.collect import campaign
    from workbench.collect.bench import Bench
    from workbench.collect.faults import faults_kept
    from workbench.console.progress import Progress

    bench = Bench(dataset, device, purpose=campaign.PURPOSE)
    todo = campaign.remaining(dataset, bench.info.identity, jobs)
    before = len(jobs) - len(todo)
    new = 0
    with faults_kept(dataset, device, campaign.PURPOSE) as faults:
        if todo:
            with Progress("collect", len(jobs), unit="capture", done=before) as progress:
                new = campaign.run(bench, todo, lambda done: progress.update(before + done))
        mended = faults.counts()
    tally = campaign.tally_of(dataset, bench.info.identity, jobs)
    identity = bench.info.identity
    return _Collected(len(jobs), new, len(todo) - new, identity, raws, dataset.digest(), tally, mended)


def _collect_live(device: Device, dataset: Dataset, scene: str, split: Split, sets: list[ParameterSet]) -> _Collected:
    from workbench.collect import live
    from workbench.collect.faults import faults_kept
    from workbench.console.progress import Progress

    identity = device.info().identity
    todo = live.remaining(dataset, identity, scene, sets)
    before = len(sets) - len(todo)
    new = 0
    with faults_kept(dataset, device, live.PURPOSE) as faults:
        if todo:
            with Progress("collect", len(sets), unit="capture", done=before) as progress:
                new = live.run(
                    dataset,
                    device,
                    todo,
                    scene=scene,
                    split=split,
                    progress=lambda done: progress.update(before + done),
                )
        mended = faults.counts()
    tally = live.tally_of(dataset, identity, scene, sets)
    raws = sum(raw.scene == scene for raw in dataset.raws())
    return _Collected(len(sets), new, len(todo) - new, identity, raws, dataset.digest(), tally, mended)


def _say(lab: Path, url: str, collected: _Collected, as_json: bool) -> None:
    from workbench.collect.failures import SHARE, TooManyFailuresError
    from workbench.collect.faults import told

    c, tally = collected, collected.tally
    made = tally.asked - tally.failed
    again = f"`{RETRY} --lab {lab}` lets the same command try them again"
    if as_json:
        result = {"captures": made, "new": c.new, "device": c.identity, "digest": c.digest}
        failures = {**tally.to_dict(), "new_failed": c.new_failed}
        print(json.dumps({"lab": str(lab), "raws": c.raws, **result, **failures, "faults": c.faults}))
    else:
        if c.new or c.new_failed:
            print(f"collected {c.new} captures with {c.identity}; {made} of {c.plan} are in {lab}")
        else:
            print(f"complete: {made} of {c.plan} captures, nothing to do")
        for line in told(c.faults):
            print(line)
    if tally.failed > SHARE * tally.asked:
        raise TooManyFailuresError(f"{url}: {tally.told('captures')}; {again}")
    if tally.failed and not as_json:
        print(f"{tally.told('captures')}; {again}")


def _command() -> str:
    import shlex
    import subprocess

    words = ["workbench", *sys.argv[1:]]
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
