"""Categories of annotations and of a detector, brought together by their names: numbers mean something else elsewhere.

A detector says what it calls its categories by an attribute ``category_names``, id → name. One without it that knows
exactly COCO's 80 ids is taken to mean COCO's names by them. Of any other, numbers are all there is: they are compared,
and a note says so.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import replace

from drivers.foreign_text import shown
from workbench.console.notes import listed
from workbench.tasks.coco import CocoSet
from workbench.tasks.detectors import Detector, DetectorError, check_categories
from workbench.tasks.detectors.coco_classes import COCO_IDS, COCO_NAMES

# The names of Pascal VOC and of Darknet's list of COCO's categories, and what COCO says.
_SYNONYMS = {
    "aeroplane": "airplane",
    "doughnut": "donut",
    "hairdryer": "hairdrier",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "television": "tv",
    "tvmonitor": "tv",
}


def name_key(name: str) -> str:
    """What two spellings of a category's name have in common: case, spaces and signs do not count."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    key = "".join(c for c in folded if c.isalnum()) or folded.strip()
    return _SYNONYMS.get(key, key)


def names_of(detector: Detector) -> dict[int, str] | None:
    """What a detector calls its categories, id → name; None where it does not say.

    Raises:
        DetectorError: its ``category_names`` is no mapping from each of its ids to a text.
    """
    names = getattr(detector, "category_names", None)
    if names is None:
        return dict(zip(COCO_IDS, COCO_NAMES, strict=True)) if set(detector.category_ids) == set(COCO_IDS) else None
    if not isinstance(names, Mapping) or not all(isinstance(n, str) for n in names.values()):
        raise DetectorError(f"{detector.name}: its category_names is no mapping from category id to name")
    if set(names) != set(detector.category_ids):
        raise DetectorError(
            f"{detector.name}: its category_names names {len(names)} categories and its category_ids "
            f"{len(set(detector.category_ids))}, or others; give a name for each id"
        )
    return dict(names)


def matched(data: CocoSet, detector: Detector) -> tuple[CocoSet, list[str]]:
    """The data set with the detector's category ids, and notes.

    Raises:
        DetectorError: a category that objects are of has no partner of its name, or several, or shares it with another.
    """
    used = sorted({a.category_id for image in data.images for a in image.annotations})
    called = {number: str(data.categories[number]["name"]) for number in used}
    names = names_of(detector)
    if names is None:
        check_categories(detector, used, shown(data.path))
        told = [f"{number} {called[number]}" for number in used]
        note = (
            f"detector {shown(detector.name)} does not name its categories: those of {shown(data.path.name)} are "
            f"taken by their numbers ({listed(told)})"
        )
        return data, [note] if used else []
    by_key: dict[str, list[int]] = {}
    for number, name in names.items():
        by_key.setdefault(name_key(name), []).append(number)
    partners: dict[int, int] = {}
    strange: list[str] = []
    for number in used:
        found = by_key.get(name_key(called[number]), [])
        if len(found) == 1 or number in found:
            partners[number] = number if number in found else found[0]
        elif found:
            raise DetectorError(
                f"{shown(data.path)}: category {shown(called[number])!r} ({number}) may be any of "
                f"{listed(found)} of {shown(detector.name)}, which gives that name more than once"
            )
        else:
            strange.append(f"{called[number]} ({number})")
    if strange:
        raise DetectorError(
            f"{shown(data.path)}: category {listed(strange, 5)} is unknown to {shown(detector.name)}, which knows "
            f"{listed(list(names.values()), 8)}; name it as the detector does, leave these annotations out or take a "
            "detector that knows them"
        )
    if len(set(partners.values())) < len(partners):
        alike = [n for n in used if list(partners.values()).count(partners[n]) > 1]
        raise DetectorError(
            f"{shown(data.path)}: categories {listed([f'{called[n]} ({n})' for n in alike], 4)} are one to "
            f"{shown(detector.name)}; give their objects one category"
        )
    moved = [f"{called[n]} {n} is its {partners[n]}" for n in used if partners[n] != n]
    if not moved:
        return data, []
    images = tuple(
        replace(image, annotations=tuple(replace(a, category_id=partners[a.category_id]) for a in image.annotations))
        for image in data.images
    )
    categories = {partners[n]: {**data.categories[n], "id": partners[n]} for n in used}
    note = (
        f"{shown(data.path.name)} numbers categories otherwise than detector {shown(detector.name)}, they are matched "
        f"by name: {listed(moved)}"
    )
    return replace(data, images=images, categories=categories), [note]
