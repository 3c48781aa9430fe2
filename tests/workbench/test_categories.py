"""Categories of annotations and of a detector are one where their names are; numbers alone decide only with a note."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from workbench.tasks.categories import matched, name_key, names_of
from workbench.tasks.coco import AnnotatedImage, Annotation, CocoSet
from workbench.tasks.detectors import Detector, DetectorError
from workbench.tasks.detectors.coco_classes import COCO_IDS, COCO_NAMES, category_names_of
from workbench.tasks.detectors.small_mask_rcnn import CATEGORY_NAMES, FIRST_CATEGORY


class Named:
    """A detector with named categories."""

    name, masks = "named", False

    def __init__(self, names: Any, ids: Any = None) -> None:
        self.category_names = names
        self.category_ids = ids if ids is not None else tuple(names)


def named(names: Any, ids: Any = None) -> Detector:
    """What looks at names and ids only is given no more of a detector."""
    return cast("Detector", Named(names, ids))


def data(categories: dict[int, str], *used: int) -> CocoSet:
    boxes = tuple(Annotation(number, (1, 1, 5, 5), 25) for number in used or categories)
    image = AnnotatedImage(1, "a.npz", 20, 20, boxes)
    return CocoSet(Path("lab/set.json"), (image,), {n: {"id": n, "name": c} for n, c in categories.items()}, [])


def ids(found: CocoSet) -> list[int]:
    return [a.category_id for image in found.images for a in image.annotations]


COCO = named(dict(zip(COCO_IDS, COCO_NAMES, strict=True)))


def test_the_same_numbers_change_nothing() -> None:
    given = data({1: "person", 18: "dog", 3: "Car"})
    assert matched(given, COCO) == (given, [])
    assert matched(data({}), COCO)[1] == []


def test_other_numbers_are_mapped_by_name_and_said() -> None:
    found, (note,) = matched(data({1: "dog", 2: "person", 18: "car", 7: "unused"}, 1, 2, 18), COCO)
    assert ids(found) == [18, 1, 3]
    assert {number: entry["name"] for number, entry in found.categories.items()} == {18: "dog", 1: "person", 3: "car"}
    assert all(entry["id"] == number for number, entry in found.categories.items())
    assert note.endswith("they are matched by name: dog 1 is its 18, person 2 is its 1, car 18 is its 3")


def test_swapped_numbers_of_the_same_names_are_mapped() -> None:
    detector = named({101: "ball", 102: "orange", 103: "ring"})
    found, _ = matched(data({101: "orange", 102: "ring", 103: "ball"}), detector)
    assert ids(found) == [102, 103, 101]


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("Traffic_Light", "traffic light"),
        ("motorbike", "motorcycle"),
        ("aeroplane", "airplane"),
        ("sofa", "couch"),
        ("pottedplant", "potted plant"),
        ("diningtable", "dining table"),
        ("tvmonitor", "tv"),
        ("cell-phone", "cell phone"),
        ("Stra\u00dfe", "strasse"),
    ],
)
def test_spellings_and_synonyms_are_one_name(name: str, same: str) -> None:
    assert name_key(name) == name_key(same)


@pytest.mark.parametrize(("name", "other"), [("bus", "busses"), ("dog", "hot dog"), ("+", "-"), ("cat 1", "cat 2")])
def test_other_names_are_others(name: str, other: str) -> None:
    assert name_key(name) != name_key(other)


def test_a_name_without_partner_is_refused_by_name() -> None:
    with pytest.raises(DetectorError) as caught:
        matched(data({1: "person", 2: "llama", 3: "yak"}), COCO)
    assert str(caught.value).startswith(
        "lab/set.json: category llama (2), yak (3) is unknown to named, which knows person, bicycle, car"
    )
    with pytest.raises(DetectorError, match=r"category dog \(1\) is unknown to named, which knows ball; name it"):
        matched(data({1: "dog"}), named({1: "ball"}))


def test_what_may_be_two_is_refused() -> None:
    with pytest.raises(DetectorError, match=r"category 'ball' \(9\) may be any of 1, 2 of named"):
        matched(data({9: "ball"}), named({1: "ball", 2: "Ball"}))
    assert ids(matched(data({2: "ball"}), named({1: "ball", 2: "Ball"}))[0]) == [2]
    with pytest.raises(DetectorError, match=r"categories motorbike \(7\), motorcycle \(8\) are one to named"):
        matched(data({7: "motorbike", 8: "motorcycle"}), COCO)
    # One that no object is of does no harm.
    assert ids(matched(data({7: "motorbike", 8: "motorcycle"}, 8), COCO)[0]) == [4]


def test_without_names_numbers_are_compared_and_said() -> None:
    detector = named(None, (1, 2))
    given = data({1: "dog", 2: "cat"})
    found, (note,) = matched(given, detector)
    assert found is given
    assert note == (
        "detector named does not name its categories: those of set.json are taken by their numbers (1 dog, 2 cat)"
    )
    with pytest.raises(DetectorError, match="category 7 is unknown to named"):
        matched(data({7: "dog"}), detector)


def test_exactly_cocos_numbers_mean_cocos_names() -> None:
    assert names_of(named(None, COCO_IDS)) == dict(zip(COCO_IDS, COCO_NAMES, strict=True))
    assert names_of(named(None, COCO_IDS[:-1])) is None


@pytest.mark.parametrize("names", [["ball"], {1: 5}, {1: "ball"}, {1: "ball", 3: "ring"}, "ball"])
def test_odd_names_of_a_users_detector_are_refused(names: Any) -> None:
    with pytest.raises(DetectorError, match=r"^named: its category_names"):
        matched(data({1: "ball"}), named(names, (1, 2)))


def test_a_names_file_fits_its_detector(tmp_path: Path) -> None:
    path = tmp_path / "x.names"
    path.write_text("\ufeffball\nring \n\n", encoding="utf-8")
    assert category_names_of(2, path, "x.cfg") == {1: "ball", 2: "ring"}
    for text, told in (
        ("ball\n", "names 1 categories, x.cfg has 2"),
        ("a\nb\nc", "names 3 categories, x.cfg has 2"),
        ("ball\n \nring", "names 3 categories"),
        ("\nring", "line 1 is empty"),
    ):
        path.write_text(text)
        with pytest.raises(DetectorError, match=told):
            category_names_of(2, path, "x.cfg")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DetectorError, match="is no list of names"):
        category_names_of(2, path, "x.cfg")
    with pytest.raises(DetectorError, match="cannot read the names"):
        category_names_of(2, tmp_path, "x.cfg")


def test_the_projects_own_detector_is_named_as_its_scenes() -> None:
    from sim.scenes.composed_scenes import CATEGORIES

    assert dict(enumerate(CATEGORY_NAMES, FIRST_CATEGORY)) == CATEGORIES
