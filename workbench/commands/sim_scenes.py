"""``workbench sim scenes``: a folder of simulated RAWs with their references."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.limits import MANY, SEED


class Cfa(StrEnum):
    """CFA orders."""

    RGGB = "RGGB"
    BGGR = "BGGR"
    GRBG = "GRBG"
    GBRG = "GBRG"


class SceneCfa(StrEnum):
    """CFA orders, and Quad Bayer of RGGB."""

    RGGB = "RGGB"
    BGGR = "BGGR"
    GRBG = "GRBG"
    GBRG = "GBRG"
    QUAD = "quad"


def scenes(
    folder: Annotated[Path, typer.Argument(help="Where to write the RAWs, references and scenes.csv.")],
    photographs: Annotated[
        Path | None,
        typer.Option(help="Folder of photographs (JPEG, PNG); left out: the samples in the installed packages."),
    ] = None,
    raws_per_photograph: Annotated[
        int, typer.Option(min=0, max=MANY, help="RAWs of each photograph; 0: no photographs.")
    ] = 12,
    lab_scenes: Annotated[int, typer.Option(min=0, max=MANY, help="Number of procedural lab scenes.")] = 60,
    raws_per_scene: Annotated[int, typer.Option(min=1, max=MANY, help="RAWs of each lab scene.")] = 4,
    size: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", help="Size of the RAWs, even; multiples of 4 for quad.")
    ] = "128x128",
    cfa: Annotated[SceneCfa, typer.Option(help="CFA order of the sensor; quad: Quad Bayer.")] = SceneCfa.RGGB,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Other lab scenes, crops, lights and errors.")] = 0,
    sensor_seed: Annotated[int | None, typer.Option(min=0, max=SEED, help="Another camera.")] = None,
    frames: Annotated[
        int, typer.Option(min=1, max=64, help="Frames of each RAW: bursts, for devices that filter over time.")
    ] = 1,
    each_frame: Annotated[
        bool,
        typer.Option(help="With --frames: the burst up to each of its frames is a RAW, where each picture counts."),
    ] = False,
    reference_isp: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE",
            help="Device that renders each RAW's reference from the RAW, such as libraw: or command:rawtherapee; left "
            "out: the reference is the clean photograph.",
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            help="Parameters of the reference ISP: TOML of a set or of a table over ISO, or a tune run's table.json; "
            "left out: its defaults. The as-shot white balance sets the gains."
        ),
    ] = None,
    lab: Annotated[Path, typer.Option(help="Lab folder whose lab.toml names devices.")] = Path("lab"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Simulate RAWs of photographs and lab scenes, as one camera would take them under many lights.

    The same command again goes on where it stopped; when complete it does nothing.
    """
    import contextlib

    from drivers.cfa import QUAD_PATTERNS
    from drivers.splits import Split
    from sim.camera.sensor import DEFAULT_SENSOR_SEED
    from sim.scenes.scene_set import make_scene_set
    from workbench.collect.raw_folder import read_raw_folder
    from workbench.collect.reference_isp import ReferenceIsp, load_settings, one_set
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.lab.devices import open_devices

    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", size.strip().lower())
    if match is None:
        raise typer.BadParameter(f"{size!r} is not WIDTHxHEIGHT, such as 128x128", param_hint="--size")
    width, height = int(match[1]), int(match[2])
    if settings is not None and reference_isp is None:
        raise typer.BadParameter("is for a --reference-isp, which is not given", param_hint="--settings")
    if each_frame and frames == 1:
        raise typer.BadParameter("is for bursts; give --frames 2 or more", param_hint="--each-frame")
    references = None
    with stoppable("every file written is whole; the same command goes on"), contextlib.ExitStack() as stack:
        if reference_isp is not None:
            device = stack.enter_context(open_devices([reference_isp], lab))
            space = device.info().space
            table = one_set(space.defaults) if settings is None else load_settings(settings, space)
            references = ReferenceIsp(device, table)
        with Progress("scenes", 0, unit="RAW") as progress:
            make_scene_set(
                folder,
                photographs=photographs,
                lab_scenes=lab_scenes,
                raws_per_scene=raws_per_scene,
                raws_per_photograph=raws_per_photograph,
                size=(height, width),
                cfa=QUAD_PATTERNS[0] if cfa == SceneCfa.QUAD else cfa.value,
                seed=seed,
                sensor_seed=DEFAULT_SENSOR_SEED if sensor_seed is None else sensor_seed,
                frames=frames,
                each_frame=each_frame,
                references=references,
                progress=progress.count,
            )
        entries = read_raw_folder(folder)
    counts = {split: [e for e in entries if e.split == split] for split in Split}
    scene_counts = {split: len({e.scene for e in found}) for split, found in counts.items()}
    if as_json:
        splits = {split: {"raws": len(found), "scenes": scene_counts[split]} for split, found in counts.items()}
        made = {"folder": str(folder), "raws": len(entries), "splits": splits}
        print(json.dumps({**made, "reference": references.record if references else None}))
        return
    told = ", ".join(f"{split} {len(found)} RAWs of {scene_counts[split]} scenes" for split, found in counts.items())
    print(f"{folder}: {len(entries)} RAWs ({told})")
    if references is not None:
        record = references.record
        print(f"references by {record['device']} with the settings {record['settings']}")
