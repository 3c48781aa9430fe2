"""``workbench dataset``: what is in a data set, whether it is whole, and a copy for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look into the data set, verify it, export it.", no_args_is_help=True)

Lab = Annotated[Path, typer.Option(help="Lab folder with the data set.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def info(lab: Lab = Path("lab"), as_json: Json = False) -> None:
    """Show the RAWs, devices and captures of the data set."""
    from collections import Counter

    from workbench.dataset import Dataset
    from workbench.dataset.schema import SCHEMA_VERSION

    with Dataset.open(lab) as dataset:
        raws, devices, captures = dataset.raws(), dataset.devices(), dataset.captures()
        splits = Counter(raw.split for raw in raws)
        purposes = Counter((capture.device_identity, capture.purpose) for capture in captures)
        digest = dataset.digest()
    for device in devices:
        device["purposes"] = {p: n for (identity, p), n in sorted(purposes.items()) if identity == device["identity"]}
    result = {
        "lab": str(lab),
        "schema": SCHEMA_VERSION,
        "raws": {split: splits.get(split, 0) for split in ("train", "validation", "test")},
        "references": sum(raw.has_reference for raw in raws),
        "scenes": len({raw.scene for raw in raws}),
        "captures": len(captures),
        "devices": devices,
        "digest": digest,
    }
    if as_json:
        typer.echo(json.dumps(result))
        return
    counts = ", ".join(f"{n} {split}" for split, n in result["raws"].items())  # type: ignore[attr-defined]
    typer.echo(f"{lab}: schema {SCHEMA_VERSION}, digest {digest[:12]}")
    typer.echo(f"{len(raws)} RAWs of {result['scenes']} scenes ({counts}), {result['references']} with a reference")
    typer.echo(f"{len(captures)} captures")
    for device in devices:
        parts = ", ".join(f"{n} {purpose}" for purpose, n in device["purposes"].items())
        typer.echo(f"  {device['identity']}: {device['captures']} captures{f' ({parts})' if parts else ''}")


@app.command()
def verify(lab: Lab = Path("lab"), as_json: Json = False) -> None:
    """Read every file and check it against its hash, and every capture against its proof."""
    from dataclasses import asdict

    from workbench.dataset import Dataset
    from workbench.dataset.verify import verify as check
    from workbench.errors import DatasetError
    from workbench.interrupt import stoppable
    from workbench.progress import Progress

    with (
        stoppable("nothing was changed; run the same command again"),
        Dataset.open(lab) as dataset,
        Progress("verify", 0, unit="file") as progress,
    ):

        def show(done: int, total: int) -> None:
            progress.total = total
            progress.update(done)

        result = check(dataset, show)
    if as_json:
        typer.echo(json.dumps(asdict(result)))
    else:
        for problem in result.problems:
            typer.echo(problem)
        typer.echo(f"checked {result.files} files, {result.raws} RAWs, {result.captures} captures")
        if result.unused_files or result.temporary_files:
            typer.echo(
                f"{result.unused_files} unused and {result.temporary_files} temporary files "
                "of interrupted writers (harmless)"
            )
    if result.problems:
        count = len(result.problems)
        raise DatasetError(f"{lab}: {count} problem{'s' if count > 1 else ''} found; restore the files from a backup")


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="Folder to make.")], lab: Lab = Path("lab"), as_json: Json = False
) -> None:
    """Copy the data set to a folder of CSV tables (parameters in native units) and image files."""
    from workbench.dataset import Dataset
    from workbench.dataset.export import export as write
    from workbench.interrupt import stoppable
    from workbench.progress import Progress

    with (
        stoppable("nothing was exported; run the same command again"),
        Dataset.open(lab) as dataset,
        Progress("export", 0, unit="capture") as progress,
    ):

        def show(done: int, total: int) -> None:
            progress.total = total
            progress.update(done)

        count = write(dataset, out, show)
    typer.echo(json.dumps({"folder": str(out), "captures": count}) if as_json else f"{out}: {count} captures")


@app.command()
def upgrade(lab: Lab = Path("lab")) -> None:
    """Bring a data set that an older workbench made to this workbench's schema; the old one stays beside it."""
    from workbench.dataset.database import upgrade as run

    before, after = run(lab)
    if before == after:
        typer.echo(f"{lab}: has schema {after} already, nothing to do")
    else:
        typer.echo(f"{lab}: schema {before} upgraded to {after}; the old one is dataset-{before}.sqlite")
