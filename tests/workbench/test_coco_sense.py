"""COCO-format files whose form is right and whose values cannot be meant, or are odd."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.tasks.coco import CocoError, CocoSet, coco_dict, fit, fitted
from workbench.tasks.coco_file import normalised_name, read_coco


def document() -> dict[str, Any]:
    """One image of 100×80 with one object that has a mask."""
    return {
        "images": [{"id": 5, "file_name": "a.npz", "width": 100, "height": 80}],
        "categories": [{"id": 3, "name": "car"}, {"id": 4, "name": "bus"}],
        "annotations": [
            {
                "id": 9,
                "image_id": 5,
                "category_id": 3,
                "bbox": [20, 10, 40, 20],
                "area": 800,
                "iscrowd": 0,
                "segmentation": [[20, 10, 60, 10, 60, 30, 20, 30]],
            }
        ],
    }


def read(tmp_path: Path, data: Any) -> CocoSet:
    path = tmp_path / "set.json"
    path.write_text(json.dumps(data))
    return read_coco(path)


def refusal(tmp_path: Path, data: Any) -> str:
    with pytest.raises(CocoError) as caught:
        read(tmp_path, data)
    text = str(caught.value)
    assert text.startswith(str(tmp_path / "set.json"))
    assert text.isprintable()
    return text


def test_right_values_are_read_without_a_note(tmp_path: Path) -> None:
    found = read(tmp_path, document())
    assert found.notes == ()
    (image,) = found.images
    assert image.annotations[0].box == (20, 10, 40, 20)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("image_id", "5", "annotation 9: image_id is '5', a text, not a whole number from 0"),
        ("category_id", "3", "annotation 9: category_id is '3', a text, not a whole number"),
        ("image_id", True, "image_id is True, not a whole number"),
        ("image_id", 5.5, "image_id is 5.5, not a whole number"),
        ("image_id", None, "image_id is None"),
        ("image_id", [5], "image_id is [5]"),
        ("image_id", -5, "image_id is -5"),
        ("image_id", 10**400, "image_id is a number of more than 20 digits"),
        ("bbox", [20, 10, "40", 20], "one is '40', a text, not a finite number"),
        ("bbox", [20, 10, 40], "bbox [20, 10, 40] is not left, top, width, height"),
        ("bbox", [20, 10, float("nan"), 20], "is not left, top, width, height: one is nan, not a finite number"),
        ("bbox", [20, 10, float("inf"), 20], "one is inf"),
        ("bbox", [20, 10, 10**400, 20], "more than 20 digits, not a finite number"),
        ("bbox", {"x": 1}, "is not left, top, width, height"),
        ("bbox", [200, 10, 40, 20], "lies outside the image of 100×80"),
        ("bbox", [-60, 10, 40, 20], "lies outside the image of 100×80"),
        ("bbox", [60, 50, 90, 70], "lies outside the image of 100×80 with more than half its area"),
        ("bbox", [300, 10, 0, 20], "lies outside the image of 100×80"),
        ("area", -1, "area -1 is no area"),
        ("area", "800", "area is '800', a text"),
        ("area", float("nan"), "area is nan"),
        ("area", 1e11, "area 1e+11 is no area"),
        ("iscrowd", "0", "iscrowd is '0', neither 0 nor 1"),
        ("iscrowd", 2, "iscrowd is 2"),
        ("iscrowd", None, "iscrowd is None"),
        ("segmentation", [[20, 10, 60, 10, 60, "30"]], "a polygon's number is '30', a text"),
        ("segmentation", [[20, 10, 60, 10, 60, float("nan")]], "a polygon's number is nan"),
        ("segmentation", [[200, 10, 260, 10, 260, 30]], "a polygon lies outside the image of 100×80"),
        ("segmentation", [[20, 10, 10**9, 10, 60, 30]], "a polygon lies outside the image of 100×80"),
        ("segmentation", [[-(10**9), 10, 30, 10, 60, 30]], "a polygon lies outside the image of 100×80"),
        ("segmentation", [20, 10, 60, 10, 60, 30], "neither a list of polygons nor run lengths"),
        ("segmentation", "polygon", "neither a list of polygons nor run lengths"),
        ("segmentation", {"size": 5, "counts": "0"}, "its mask's size is 5, not height, width"),
        ("segmentation", {"size": [80, 100], "counts": 5}, "its mask's run lengths are 5, neither numbers nor text"),
        ("segmentation", {"size": [80, 100], "counts": [7999, "1"]}, "a run length of its mask is '1', a text"),
        ("segmentation", {"size": [100, 80], "counts": [8000]}, "its mask is 80×100, the image 100×80"),
    ],
)
def test_a_value_of_an_annotation_that_cannot_be_meant_is_one_line(
    tmp_path: Path, key: str, value: Any, told: str
) -> None:
    data = document()
    data["annotations"][0][key] = value
    text = refusal(tmp_path, data)
    assert told in text
    assert "which is not in the file;" not in text


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("id", "5", "image id is '5', a text"),
        ("width", 0, "width of image 5 is 0, not a whole number from 1 to 32768"),
        ("height", "80", "height of image 5 is '80', a text"),
        ("width", 10**9, "width of image 5 is 1000000000"),
        ("file_name", None, "file_name of image 5 is None, not the name of a file"),
        ("file_name", 7, "file_name of image 5 is 7"),
        ("file_name", "", "file_name of image 5 is ''"),
        ("file_name", "a\0.npz", r"file_name of image 5 is 'a\x00.npz'"),
        ("raw_hash", 7, "raw_hash of image 5 is 7, no hash"),
    ],
)
def test_a_value_of_an_image_that_cannot_be_meant_is_one_line(tmp_path: Path, key: str, value: Any, told: str) -> None:
    data = document()
    data["images"][0][key] = value
    assert told in refusal(tmp_path, data)


def test_an_image_of_too_many_pixels_is_refused_before_its_masks_are_drawn(tmp_path: Path) -> None:
    data = document()
    data["images"][0].update(width=32768, height=32768)
    assert "image 5 is 32768×32768, more than 268,435,456 pixels" in refusal(tmp_path, data)


@pytest.mark.parametrize(
    ("categories", "told"),
    [
        ([{"id": 3, "name": "car"}, {"id": 3, "name": "bus"}], "category id 3 stands twice, as 'car' and 'bus'"),
        ([{"id": "3", "name": "car"}], "category id is '3', a text"),
        ([{"id": 3, "name": None}], "category 3 has the name None, not a text"),
        ([{"id": 3}], "is not in COCO format: no 'name'"),
        ([7], "is not in COCO format"),
    ],
)
def test_odd_categories_are_one_line(tmp_path: Path, categories: list[Any], told: str) -> None:
    assert told in refusal(tmp_path, {**document(), "categories": categories})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"bbox": [95, 10, 9, 20]}, "1 boxes reach out of their image: annotation 9 of image 5"),
        ({"bbox": [20, 10, 0, 20]}, "1 boxes have no area and are not counted: annotation 9 of image 5"),
        ({"area": 5000}, "1 areas are larger than their box: annotation 9"),
        ({"segmentation": [[60, 50, 90, 50, 90, 70]]}, "1 masks lie elsewhere than their box: annotation 9"),
        ({"segmentation": [[20, 10, 105, 10, 60, 30, 20, 30]]}, "1 polygons reach out of their image: annotation 9"),
    ],
)
def test_what_occurs_in_right_files_is_noted(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    data = document()
    data["annotations"][0].update(change)
    if "bbox" in change:
        del data["annotations"][0]["segmentation"]
    assert any(told in note for note in read(tmp_path, data).notes)


@pytest.mark.parametrize("box", [[-0.6, 10, 40, 20], [60.5, 59.7, 40.3, 20.9], [0, 0, 101, 81]])
def test_boxes_over_the_border_by_rounding_are_no_note(tmp_path: Path, box: list[float]) -> None:
    data = document()
    data["annotations"][0].update(bbox=box, segmentation=None, area=100)
    assert read(tmp_path, data).notes == ()


def test_annotation_ids_that_stand_twice_are_noted(tmp_path: Path) -> None:
    data = document()
    data["annotations"] = [*data["annotations"] * 5]
    found = read(tmp_path, data)
    assert len(found.images[0].annotations) == 5
    assert found.notes[0] == "set.json: 1 annotation ids stand more than once, each entry counts: 9"


def test_an_object_that_stands_twice_is_told(tmp_path: Path) -> None:
    """As where a file is merged with itself: a detector that finds each object once would miss half of them."""
    data = document()
    twice = {**data["annotations"][0], "id": 10}
    data["annotations"] += [twice, {**twice, "id": 11, "category_id": 4}, {**twice, "id": 12, "iscrowd": 1}]
    (note,) = read(tmp_path, data).notes
    told = "1 objects stand more than once (same category and box), each is to be found"
    assert note == f"set.json: {told}: category 3 at 20, 10 of image 5"


def test_boxes_as_fractions_of_the_image_are_refused(tmp_path: Path) -> None:
    data = document()
    data["annotations"][0].update(bbox=[0.2, 0.1, 0.4, 0.25], segmentation=None)
    told = "all boxes lie within 0..1, as fractions of their images"
    assert told in refusal(tmp_path, data)
    for other in ([0.7, 0.1, 0.3000001, 0.25], [0, 0, 1, 1]):  # beyond 1 by rounding; one that fills its image
        more = {**data["annotations"][0], "id": 10, "bbox": other}
        assert told in refusal(tmp_path, {**data, "annotations": [*data["annotations"], more]})


@pytest.mark.parametrize("side", [1e-310, 1e-30, 0.0004])
def test_a_box_that_would_be_rounded_away_has_no_area(tmp_path: Path, side: float) -> None:
    data = document()
    data["annotations"].append({**data["annotations"][0], "id": 10, "bbox": [30, 10, side, 20], "segmentation": []})
    found = read(tmp_path, data)
    assert any("1 boxes have no area and are not counted: annotation 10" in note for note in found.notes)
    moved = fitted(found.images[0], fit(100, 80, 64))
    assert [a["bbox"][2] for a in coco_dict([moved], found.categories)["annotations"]] == [25.6]


def test_whole_numbers_written_with_a_point_are_whole_numbers(tmp_path: Path) -> None:
    data = document()
    data["annotations"][0].update(image_id=5.0, category_id=3.0, iscrowd=False)
    data["images"][0].update(id=5.0, width=100.0)
    (image,) = read(tmp_path, data).images
    assert (image.id, image.width, image.annotations[0].category_id) == (5, 100, 3)
    assert all(type(v) is int for v in (image.id, image.width, image.annotations[0].category_id))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], "is a list of a detector's results"),
        ({"images": [], "annotations": [{"image_id": 1, "caption": "a dog"}]}, "this is a captions file"),
        (
            {"images": [], "categories": [], "annotations": [{"image_id": 1, "segments_info": []}]},
            "holds panoptic annotations",
        ),
        ({"images": [], "categories": []}, "has no list of annotations; give the instances file"),
        ("text", "needs the lists images, annotations and categories"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, data: Any, told: str) -> None:
    assert told in refusal(tmp_path, data)


@pytest.mark.parametrize("text", ['{"a":' * 100_000, "[" * 100_000, '{"images": 1e', "\ufeff{", '{"images": NaN}'])
def test_no_json_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(CocoError) as caught:
        read_coco(tmp_path / "set.json")
    assert str(caught.value).isprintable()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_in_the_files_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "set.json")
    with pytest.raises(CocoError, match="is a named pipe, not a file"):
        read_coco(tmp_path / "set.json")


@pytest.mark.parametrize("names", [("a.npz", "a.npz"), ("./a.npz", "a.npz"), ("d\\a.npz", "d/x/../a.npz")])
def test_a_file_at_two_image_ids_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    data = document()
    data["images"] = [
        {"id": 5, "file_name": names[0], "width": 100, "height": 80},
        {"id": 6, "file_name": names[1], "width": 100, "height": 80},
    ]
    assert "is listed as images 5, 6; give all its objects to one image id" in refusal(tmp_path, data)


def test_a_file_at_two_image_ids_in_two_unicode_forms_is_refused(tmp_path: Path) -> None:
    data = document()
    data["images"] = [
        {"id": i, "file_name": name, "width": 100, "height": 80} for i, name in ((5, "\u00e9.npz"), (6, "e\u0301.npz"))
    ]
    assert "is listed as images 5, 6" in refusal(tmp_path, data)


@pytest.mark.parametrize(
    ("file", "same"),
    [
        ("a/b.npz", "a\\b.npz"),
        ("./a/./b.npz", "a/b.npz"),
        ("c/../a/b.npz", "a//b.npz"),
        ("../b.npz", "..//b.npz"),
        ("/a/b.npz", "/a/./b.npz"),
        ("e\u0301.npz", "\u00e9.npz"),
    ],
)
def test_spellings_of_one_path(file: str, same: str) -> None:
    assert normalised_name(file) == normalised_name(same)


def test_an_absolute_path_is_no_relative_one() -> None:
    assert normalised_name("/a.npz") != normalised_name("a.npz")
    assert normalised_name("A.npz") != normalised_name("a.npz")


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@given(
    part=st.sampled_from(["images", "annotations", "categories"]),
    key=st.sampled_from(
        ["id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "file_name", "width", "name"]
    ),
    value=ODD,
    whole=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_any_value_is_read_or_one_line(tmp_path_factory, part, key, value, whole) -> None:  # type: ignore[no-untyped-def]
    data = document()
    if whole:
        data[part] = value
    else:
        data[part][0][key] = value
    path = tmp_path_factory.mktemp("odd") / "set.json"
    path.write_text(json.dumps(data))
    with contextlib.suppress(CocoError):
        found = read_coco(path)
        assert all(note.isprintable() for note in found.notes)
        assert all(min(image.width, image.height) >= 1 for image in found.images)


@pytest.mark.needs_data
def test_cocos_own_files_pass_without_a_note(data_dir: Path) -> None:
    for split in ("train2017", "val2017"):
        assert read_coco(data_dir / f"coco/annotations/instances_{split}.json").notes == ()


def runs_of(mask: np.ndarray) -> list[int]:
    """Run lengths of a flat mask, the first of zeros."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask, [0]])))
    return [int(n) for n in np.diff([0, *edges, len(mask)])]


@pytest.mark.parametrize("rows", [(10, 30), (0, 80), (0, 79), (1, 80)])
def test_run_lengths_written_row_by_row_are_noted(tmp_path: Path, rows: tuple[int, int]) -> None:
    """COCO's go down the columns: the other way round a mask has as many pixels and is another one."""
    mask = np.zeros((80, 100), np.int8)
    mask[slice(*rows), 20:28] = 1
    data = document()
    entry = data["annotations"][0]
    entry |= {"bbox": [20, rows[0], 8, rows[1] - rows[0]], "area": int(mask.sum())}
    entry["segmentation"] = {"size": [80, 100], "counts": runs_of(mask.T.ravel())}
    assert read(tmp_path, data).notes == ()
    entry["segmentation"] = {"size": [80, 100], "counts": runs_of(mask.ravel())}
    (note,) = read(tmp_path, data).notes
    assert "1 masks lie elsewhere than their box: annotation 9 of image 5" in note
    entry["segmentation"] = {"size": [80, 100], "counts": [8000]}
    assert read(tmp_path, data).notes == ()
