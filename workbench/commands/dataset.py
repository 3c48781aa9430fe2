"""``workbench dataset``: what is in a data set, whether it is whole, and a copy for other programs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from workbench.lab.dataset import Dataset

app = typer.Typer(help="Look into the data set, verify, copy, export it, set captures aside.", no_args_is_help=True)

Lab = Annotated[Path, typer.Option(help="Lab folder with the data set.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def info(lab: Lab = Path("lab"), as_json: Json = False) -> None:
    """Show the RAWs, devices and captures of the data set."""
    from dataclasses import asdict

    from drivers.foreign_text import shown
    from drivers.splits import Split
    from workbench.lab.dataset import Dataset
    from workbench.lab.dataset.schema import SCHEMA_VERSION

    with Dataset.open(lab) as dataset:
        content = dataset.content()
        raws, devices = dataset.raws(), dataset.devices(content)
        splits, captures = Counter(raw.split for raw in raws), content.captures
        digest, aside = content.digest, content.set_aside
        failures = dataset.failures_by_reason()
        mended = sum((Counter(_totals(use.counts)) for use in dataset.device_uses()), Counter[str]())
    by_purpose = {d.identity: {p: n for i, p, n in content.counts if i == d.identity} for d in devices}
    result = {
        "lab": str(lab),
        "schema": SCHEMA_VERSION,
        "raws": {split: splits.get(split, 0) for split in Split},
        "references": sum(raw.has_reference for raw in raws),
        "scenes": len({raw.scene for raw in raws}),
        "captures": captures,
        "set_aside": aside,
        "failures": failures,
        "mended": dict(mended),
        "devices": [{**asdict(d), "purposes": by_purpose[d.identity]} for d in devices],
        "digest": digest,
    }
    if as_json:
        print(json.dumps(result))
        return
    counts = ", ".join(f"{n} {split}" for split, n in result["raws"].items())  # type: ignore[attr-defined]
    print(f"{lab}: schema {SCHEMA_VERSION}, digest {digest[:12]}")
    print(f"{len(raws)} RAWs of {result['scenes']} scenes ({counts}), {result['references']} with a reference")
    print(f"{captures} captures")
    for device in devices:
        parts = ", ".join(f"{n} {purpose}" for purpose, n in by_purpose[device.identity].items())
        print(f"  {device.identity}: {device.captures} captures{f' ({parts})' if parts else ''}")
    if failures:
        print(f"{sum(failures.values())} frames failed and are not asked for again (`workbench dataset retry`)")
        for reason, count in list(failures.items())[:5]:
            print(f"  {count} {shown(reason)}")
    if aside:
        print(f"{sum(aside.values())} captures are set aside")
        for reason, count in aside.items():
            print(f"  {count} {shown(reason)}")
    if mended:
        print("mended on the way: " + ", ".join(f"{count} {shown(kind)}" for kind, count in mended.items()))


def _totals(counts: Any) -> dict[str, int]:
    """How often what was mended, over the units of a pool."""
    totals: Counter[str] = Counter()
    for kind, count in counts.items() if isinstance(counts, dict) else ():
        totals.update(count if isinstance(count, dict) else {kind: count})
    return dict(totals)


@app.command()
def verify(lab: Lab = Path("lab"), as_json: Json = False) -> None:
    """Read every file and check it against its hash, and every capture against its proof."""
    from dataclasses import asdict

    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.errors import DatasetError
    from workbench.lab.dataset import Dataset
    from workbench.lab.dataset.verify import verify as check

    with (
        stoppable("nothing was changed; run the same command again"),
        Dataset.open(lab) as dataset,
        Progress("verify", 0, unit="file") as progress,
    ):
        result = check(dataset, progress.count)
    if as_json:
        print(json.dumps(asdict(result)))
    else:
        for problem in result.problems:
            print(problem)
        print(f"checked {result.files} files, {result.raws} RAWs, {result.captures} captures")
        if result.unused_files or result.temporary_files:
            print(
                f"{result.unused_files} unused and {result.temporary_files} temporary files "
                "of interrupted writers (harmless)"
            )
    if result.problems:
        count = len(result.problems)
        raise DatasetError(
            f"{lab}: {count} problem{'s' if count > 1 else ''} found; restore the lab folder from a backup, or set the "
            "captures concerned aside (`workbench dataset set-aside`)"
        )


@app.command("set-aside")
def set_aside(
    captures: Annotated[
        list[int] | None, typer.Argument(metavar="[CAPTURE]…", help="Numbers of captures, as `export` lists them.")
    ] = None,
    undecodable: Annotated[
        bool, typer.Option("--undecodable", help="Every capture whose output is no picture of its RAW.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="Only captures of the device with this identity.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the captures.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be set aside, and leave it.")] = False,
    lab: Lab = Path("lab"),
    as_json: Json = False,
) -> None:
    """Set captures aside: they stay for the record, and nothing uses them any more; they can be captured again."""
    from workbench.console.interrupt import stoppable
    from workbench.lab.dataset import Dataset
    from workbench.lab.dataset.aside import chosen_captures

    if not captures and not undecodable:
        raise typer.BadParameter("name captures by their numbers, or give --undecodable")
    if captures and not reason:
        raise typer.BadParameter("say why, so that others know", param_hint="--reason")
    with stoppable("nothing was set aside; run the same command again"), Dataset.open(lab) as dataset:
        _make_sure_known(dataset, device)
        found = chosen_captures(dataset, captures or (), undecodable=undecodable, device_identity=device)
        if not dry_run:
            by_reason: dict[str, list[int]] = {}
            for number, why in found.items():
                by_reason.setdefault(reason or why, []).append(number)
            for why, numbers in by_reason.items():
                dataset.set_aside(numbers, why)
    if as_json:
        print(json.dumps({"captures": found, "set_aside": 0 if dry_run else len(found)}))
        return
    for number, why in list(found.items())[:20]:
        print(f"capture {number}: {why}")
    if found:
        more = f", {len(found) - 20} more than are shown" if len(found) > 20 else ""
        print(f"{len(found)} captures {'would be' if dry_run else 'are'} set aside{more}")
    else:
        print("no capture to set aside")


def _make_sure_known(dataset: Dataset, device: str | None) -> None:
    """See that an identity that was asked for is one of the data set's devices: of another nothing would be found."""
    from drivers.foreign_text import shown
    from workbench.errors import DatasetError

    known = [d.identity for d in dataset.devices()]
    if device is not None and dataset.known_as(device) not in known:
        raise DatasetError(f"{dataset.lab}: no device {shown(device)}; it has {', '.join(map(shown, known)) or 'none'}")


@app.command()
def retry(
    device: Annotated[str | None, typer.Option(help="Only failures of the device with this identity.")] = None,
    lab: Lab = Path("lab"),
    as_json: Json = False,
) -> None:
    """Forget the frames that failed, so that the next command that needs them asks for them again."""
    from workbench.lab.dataset import Dataset

    with Dataset.open(lab) as dataset:
        _make_sure_known(dataset, device)
        count = dataset.forget_failures(device)
    print(json.dumps({"forgotten": count}) if as_json else f"{count} failures forgotten; they are asked for again")


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="Folder to make.")], lab: Lab = Path("lab"), as_json: Json = False
) -> None:
    """Copy the data set to a folder of CSV tables (parameters in native units) and image files."""
    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.lab.dataset import Dataset
    from workbench.lab.dataset.export import export as write

    with (
        stoppable("nothing was exported; run the same command again"),
        Dataset.open(lab) as dataset,
        Progress("export", 0, unit="capture") as progress,
    ):
        count = write(dataset, out, progress.count)
    print(json.dumps({"folder": str(out), "captures": count}) if as_json else f"{out}: {count} captures")


@app.command()
def copy(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="Lab folder whose data set is copied.")],
    target: Annotated[Path, typer.Argument(metavar="TO", help="Lab folder; its lab.toml says where the copy is kept.")],
    as_json: Json = False,
) -> None:
    """Copy the data set to another lab: from files to PostgreSQL and a bucket, back, or between any of them.

    Where it was interrupted the same command goes on. Every file is read back and checked against its hash, every row
    compared. Runs and studies are not part of the data set: copy the lab's folder `runs`.
    """
    from dataclasses import asdict

    from workbench.console.interrupt import stoppable
    from workbench.console.progress import Progress
    from workbench.lab.dataset import Dataset
    from workbench.lab.dataset.copying import copy as run

    with (
        stoppable("what was copied stays; run the same command again"),
        Dataset.open(source) as dataset,
        Dataset.open(target, create=True) as copied,
        Progress("copy", 0, unit="file") as progress,
    ):
        result = run(dataset, copied, progress.part)
    if as_json:
        print(json.dumps({"from": str(source), "to": str(target), **asdict(result)}))
    else:
        print(f"{target}: {result.captures} captures, digest {result.digest[:12]}, as in {source}")
        print(f"{result.files} of {result.known} files copied now, the others were there")


@app.command()
def upgrade(lab: Lab = Path("lab")) -> None:
    """Bring a data set that an older workbench made to this workbench's schema; the old one stays beside it."""
    from workbench.lab.dataset.storage import upgrade as run

    before, after, copy = run(lab)
    if before == after:
        print(f"{lab}: has schema {after} already, nothing to do")
    else:
        print(f"{lab}: schema {before} upgraded to {after}{f'; the old one is {copy}' if copy else ''}")
