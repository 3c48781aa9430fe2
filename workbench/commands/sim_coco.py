"""``workbench sim coco``: a COCO-format data set as simulated RAWs with their annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from drivers.splits import Split
from workbench.commands.limits import MANY, SEED
from workbench.commands.sim_scenes import Cfa


def coco(
    folder: Annotated[Path, typer.Argument(help="Where to write the RAWs, references, annotations and scenes.csv.")],
    train: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="JSON IMAGES", help="Annotations and folder of images for the split train."),
    ] = None,
    validation: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="JSON IMAGES", help="The same for the split validation.")
    ] = None,
    test: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="JSON IMAGES", help="The same for the split test.")
    ] = None,
    validation_share: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Part of the train images put into validation where that is not given."),
    ] = 0.1,
    longest: Annotated[int, typer.Option(min=16, max=8192, help="Longer side of the RAWs at most, pixels.")] = 320,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MANY, help="Only the first images of each split, by id.")
    ] = None,
    raws_per_photograph: Annotated[
        int, typer.Option(min=1, max=MANY, help="Each with a light, errors and noise of its own; one scene.")
    ] = 1,
    cfa: Annotated[Cfa, typer.Option(help="CFA order of the sensor.")] = Cfa.RGGB,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Other lights, errors and noise.")] = 0,
    sensor_seed: Annotated[int | None, typer.Option(min=0, max=SEED, help="Another camera.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Simulate RAWs of every image of COCO-format data sets, boxes and masks in the RAW's own pixels.

    The same command again goes on where it stopped; when complete it does nothing.
    """
    from dataclasses import replace

    from sim.camera.sensor import DEFAULT_SENSOR_SEED
    from sim.scenes.coco_scenes import AnnotatedPhotograph, make_annotated_raws
    from workbench.console.interrupt import stoppable
    from workbench.console.notes import say
    from workbench.console.progress import Progress
    from workbench.tasks.coco import AnnotatedImage, CocoError, coco_dict, fit, fitted
    from workbench.tasks.coco_file import read_coco

    given = {
        split: paths
        for split, paths in ((Split.TRAIN, train), (Split.VALIDATION, validation), (Split.TEST, test))
        if paths
    }
    if not given:
        raise typer.BadParameter("give --train, --validation or --test, each with JSON and IMAGES")
    photographs: list[AnnotatedPhotograph] = []
    images: list[AnnotatedImage] = []
    categories: dict[int, dict[str, Any]] = {}
    licenses: list[Any] = []
    for split, (path, source) in given.items():
        data = read_coco(path, source)
        say(data.notes)
        for number, category in data.categories.items():
            if categories.setdefault(number, category)["name"] != category["name"]:
                raise CocoError(
                    f"{path}: category {number} is {category['name']!r}, in the other file "
                    f"{categories[number]['name']!r}; give data sets with one list of categories"
                )
        licenses = licenses or data.licenses
        for image in data.images[:limit]:
            into = split
            if split is Split.TRAIN and validation is None and _share(image.id) < validation_share:
                into = Split.VALIDATION
            how = fit(image.width, image.height, longest)
            scene = f"{split}_{image.id:012d}"
            size = (image.width, image.height)
            moved = fitted(image, how)
            for take in range(raws_per_photograph):
                photograph = AnnotatedPhotograph(
                    scene, into, image.id, source / image.file, size, how.crop, how.size, take
                )
                photographs.append(photograph)
                # Data sets may use one id twice, so the RAWs are numbered anew.
                more = {**image.more, "source_id": image.id, "source_file": image.file}
                file = f"{photograph.name}.npz"
                images.append(replace(moved, id=len(images) + 1, file=file, more=more, raw_hash=None))
    written = (json.dumps(coco_dict(images, categories, licenses)) + "\n").encode()
    with (
        stoppable("every file written is whole; the same command goes on"),
        Progress("RAWs", len(photographs), unit="RAW") as progress,
    ):
        make_annotated_raws(
            folder,
            photographs,
            written,
            cfa=cfa.value,
            seed=seed,
            sensor_seed=DEFAULT_SENSOR_SEED if sensor_seed is None else sensor_seed,
            progress=lambda done, _: progress.update(done),
        )
    objects = sum(len(image.annotations) for image in images)
    splits = {s: sum(p.split == s for p in photographs) for s in Split}
    if as_json:
        told = {"folder": str(folder), "raws": len(photographs), "objects": objects, "splits": splits}
        print(json.dumps(told))
        return
    told_splits = ", ".join(f"{split} {count}" for split, count in splits.items())
    print(f"{folder}: {len(photographs)} RAWs ({told_splits}) with {objects} objects in annotations.json")


def _share(image_id: int) -> float:
    """Where an image lies within 0..1, for ever the same."""
    import hashlib

    return int.from_bytes(hashlib.sha256(str(image_id).encode()).digest()[:8], "big") / 2**64
