"""Which image of the annotations is which RAW: by content, by path, by bare name at the very last, or refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.frames import RawFrame
from drivers.raw.raw_files import save_npz
from drivers.splits import Split
from workbench.collect.raw_folder import RawEntry
from workbench.collect.raw_import import import_raws
from workbench.errors import RunError
from workbench.lab.dataset import Dataset
from workbench.tasks.coco_file import read_coco
from workbench.tasks.partners import Partners, find_partners
from workbench.tasks.vision import VisionTask


def raw(number: int) -> RawFrame:
    return RawFrame(np.full((8, 12), 100 + number, np.uint16), "RGGB", (64,) * 4, 4095)


def place(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_npz(path, raw(number))
    return path


def collect(lab: Path, *paths: Path) -> Dataset:
    dataset = Dataset.open(lab, create=True)
    import_raws(dataset, [RawEntry(p, "scene", Split.TEST, None) for p in paths])
    return dataset


def annotate(path: Path, *files: str, objects: bool = True, **more: Any) -> Path:
    """Annotations with one object in each file; image ids are the places from 1."""
    images = [{"id": i, "file_name": f, "width": 12, "height": 8, **more} for i, f in enumerate(files, 1)]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 5, 5]} for i in range(1, len(files) + 1)]
    data = {"images": images, "categories": [{"id": 1, "name": "thing"}], "annotations": boxes if objects else []}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def found(annotations: Path, dataset: Dataset) -> tuple[dict[int, str], Partners]:
    """RAW number → file of its image."""
    partners = find_partners(read_coco(annotations), dataset)
    numbers = {raw(n).hash: n for n in range(9)}
    return {numbers[h]: image.file for h, image in partners.images.items()}, partners


def test_the_same_names_in_two_folders_are_told_apart_by_path(tmp_path: Path) -> None:
    days = [place(tmp_path / f"day{d}" / "IMG_1.npz", d) for d in (1, 2)]
    with collect(tmp_path / "lab", *days) as dataset:
        assert found(annotate(days[0].parent / "a.json", "IMG_1.npz"), dataset)[0] == {1: "IMG_1.npz"}
        assert found(annotate(days[1].parent / "a.json", "./IMG_1.npz"), dataset)[0] == {2: "./IMG_1.npz"}
        both = annotate(tmp_path / "a.json", "day2\\IMG_1.npz", "day1/IMG_1.npz")
        assert found(both, dataset)[0] == {2: "day2\\IMG_1.npz", 1: "day1/IMG_1.npz"}
        assert found(annotate(tmp_path / "b.json", "x/../day2/IMG_1.npz"), dataset)[0] == {2: "x/../day2/IMG_1.npz"}


def test_only_the_second_day_is_in_the_data_set(tmp_path: Path) -> None:
    days = [place(tmp_path / f"day{d}" / "IMG_1.npz", d) for d in (1, 2)]
    with collect(tmp_path / "lab", days[1]) as dataset:
        for annotations in (
            annotate(days[0].parent / "a.json", "IMG_1.npz"),
            annotate(tmp_path / "a.json", "day1/IMG_1.npz"),
            annotate(tmp_path / "b.json", "IMG_1.npz", raw_hash=raw(1).hash),
            annotate(tmp_path / "gone" / "a.json", "day1/IMG_1.npz"),
        ):
            matched, partners = found(annotations, dataset)
            assert matched == {}
            assert len(partners.alone) == 1


def test_a_name_that_may_be_two_raws_is_refused(tmp_path: Path) -> None:
    days = [place(tmp_path / f"day{d}" / "IMG_1.npz", d) for d in (1, 2)]
    with collect(tmp_path / "lab", *days) as dataset:
        annotations = annotate(tmp_path / "elsewhere" / "a.json", "IMG_1.npz")
        with pytest.raises(RunError, match=r"image 1 is IMG_1\.npz, which may be 2 RAWs .*day1/IMG_1.npz, .*day2/IMG"):
            find_partners(read_coco(annotations), dataset)
        # Its folder tells, wherever the annotations lie.
        assert found(annotate(tmp_path / "elsewhere" / "b.json", "day2/IMG_1.npz"), dataset)[0] == {2: "day2/IMG_1.npz"}
    with collect(tmp_path / "one", days[0]) as dataset:
        annotations = annotate(tmp_path / "elsewhere" / "c.json", "IMG_1.npz", "day3/IMG_1.npz")
        with pytest.raises(RunError, match="may be the RAW of another image too"):
            find_partners(read_coco(annotations), dataset)


def test_a_unique_bare_name_is_taken_and_said(tmp_path: Path) -> None:
    with collect(tmp_path / "lab", place(tmp_path / "raws" / "a.npz", 1)) as dataset:
        matched, partners = found(annotate(tmp_path / "a.json", "a.npz", "b.npz"), dataset)
        assert matched == {1: "a.npz"}
        assert (partners.by_name, partners.alone) == (["a.npz"], ["b.npz"])


def test_content_decides_where_the_folder_was_moved(tmp_path: Path) -> None:
    paths = [place(tmp_path / "raws" / name, n) for n, name in ((1, "a.npz"), (2, "b.npz"))]
    with collect(tmp_path / "lab", *paths) as dataset:
        shutil.move(tmp_path / "raws", tmp_path / "moved")
        place(tmp_path / "moved" / "b.npz", 3)
        matched, partners = found(annotate(tmp_path / "moved" / "a.json", "a.npz", "b.npz"), dataset)
        assert matched == {1: "a.npz"}
        assert (partners.by_name, partners.alone) == ([], ["b.npz"])


def test_a_file_that_was_replaced_is_known_by_what_it_holds(tmp_path: Path) -> None:
    path = place(tmp_path / "a.npz", 1)
    with collect(tmp_path / "lab", path) as dataset:
        os.utime(path, ns=(1, 1))  # touched, not changed
        assert found(annotate(tmp_path / "a.json", "a.npz"), dataset)[0] == {1: "a.npz"}
        place(path, 2)
        assert found(tmp_path / "a.json", dataset)[0] == {}
        path.unlink()
        assert found(tmp_path / "a.json", dataset)[0] == {1: "a.npz"}


def test_a_raws_hash_goes_before_every_name(tmp_path: Path) -> None:
    paths = [place(tmp_path / "raws" / name, n) for n, name in ((1, "a.npz"), (2, "b.npz"))]
    with collect(tmp_path / "lab", *paths) as dataset:
        annotations = annotate(tmp_path / "raws" / "a.json", "a.npz", raw_hash=raw(2).hash)
        assert found(annotations, dataset)[0] == {2: "a.npz"}


@pytest.mark.parametrize(
    ("on_disk", "said"),
    [("K\u00fc.npz", "Ku\u0308.npz"), ("Ku\u0308.npz", "K\u00fc.npz"), ("\u212b.npz", "\u00c5.npz")],
)
def test_unicode_forms_are_one_name(tmp_path: Path, on_disk: str, said: str) -> None:
    with collect(tmp_path / "lab", place(tmp_path / "raws" / on_disk, 1)) as dataset:
        assert found(annotate(tmp_path / "raws" / "a.json", said), dataset)[0] == {1: said}
        assert found(annotate(tmp_path / "a.json", said), dataset)[1].by_name == [said]


def test_two_images_of_one_raw_are_refused(tmp_path: Path) -> None:
    first = place(tmp_path / "a.npz", 1)
    (tmp_path / "link.npz").symlink_to(first)
    shutil.copy(first, tmp_path / "copy.npz")
    with collect(tmp_path / "lab", first, tmp_path / "link.npz") as dataset:
        cases: list[tuple[tuple[str, ...], dict[str, Any]]] = [
            (("a.npz", "link.npz"), {}),
            (("a.npz", "x.npz"), {"raw_hash": raw(1).hash}),
        ]
        for files, more in cases:
            annotations = annotate(tmp_path / "a.json", *files, **more)
            with pytest.raises(RunError, match=r"images 1 \(a\.npz\) and 2 \(.*\.npz\) are one RAW, .*one\s+image id"):
                find_partners(read_coco(annotations), dataset)
        assert found(annotate(tmp_path / "a.json", "a.npz", "link.npz", objects=False), dataset)[0] == {1: "a.npz"}


def test_raws_of_an_old_data_set_without_paths_are_known_by_name(tmp_path: Path) -> None:
    with Dataset.open(tmp_path / "lab", create=True) as dataset:
        dataset.add_raw(raw(1), scene="s", split=Split.TEST, name="a.npz")
        assert found(annotate(tmp_path / "a.json", "a.npz"), dataset)[0] == {1: "a.npz"}
        assert found(annotate(tmp_path / "a.json", "images/a.npz"), dataset)[0] == {1: "images/a.npz"}


@pytest.mark.parametrize("file", ["\ud800.npz", "a" * 5000, "http://x.org/a.npz", "C:\\raws\\a.npz"])
def test_odd_names_find_nobody(tmp_path: Path, file: str) -> None:
    with collect(tmp_path / "lab", place(tmp_path / "raws" / "a.npz", 1)) as dataset:
        assert found(annotate(tmp_path / "raws" / "x" / "a.json", file), dataset)[1].alone == [file]


class Sees:
    name, category_ids, masks = "sees", (1,), True


def test_who_found_no_partner_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [place(tmp_path / "raws" / f"{n}.npz", n) for n in range(6)]
    with collect(tmp_path / "lab", *paths) as dataset:
        annotations = annotate(tmp_path / "raws" / "a.json", "0.npz", *(f"gone{i}.npz" for i in range(5)))
        task = VisionTask("detection", "x:y", Sees(), read_coco(annotations))  # type: ignore[arg-type]
        assert [r.name for r in task.raws(dataset, Split.TEST)] == ["0.npz"]
        assert task.notes == [
            "a.json: 1 objects without a mask are passed over by the loss of sees: object 1 of image 1",
            "a.json: 5 of 6 test RAWs have no image there: raws/1.npz, raws/2.npz, raws/3.npz and 2 more",
            "a.json: 5 images are no RAW of the data set: gone0.npz, gone1.npz, gone2.npz and 2 more",
        ]
        task.raws(dataset, Split.TEST)
        assert capsys.readouterr().err.splitlines() == [f"note: {note}" for note in task.notes]
        masks = VisionTask("segmentation", "x:y", Sees(), read_coco(annotations))  # type: ignore[arg-type]
        with pytest.raises(RunError, match=r"1 objects have no mask, which segmentation is judged by, in 0\.npz"):
            masks.raws(dataset, Split.TEST)
