"""Reading COCO-format files: their form, and whether their values can be meant.

What no annotator can mean (a text for a number, a box outside its image, a mask of another size) is refused. What
occurs in files that are right otherwise (a box that reaches over the border, one without area) is noted.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drivers.foreign_text import shown
from drivers.frames import MAX_SIDE
from drivers.regular_files import read_json
from workbench.console.notes import Notes, listed
from workbench.tasks.coco import LEAST_SIDE, AnnotatedImage, Annotation, CocoError, CocoSet

LARGEST_FILE = 4 << 30
"""Bytes of a file at most: ten times COCO's own training annotations."""
_MOST_PIXELS = 1 << 28
# COCO's own boxes reach over the border by fractions of a pixel, other tools' by the pixel that they count from.
_ROUNDING = 2.0
# The upper end of the range of areas that COCO's evaluation looks at; a larger object would not count.
_LARGEST_AREA = 1e10
_IMAGE_KEYS = ("id", "file_name", "width", "height", "raw_hash")


def read_coco(path: Path, images: Path | None = None) -> CocoSet:
    """A COCO ``instances_*.json`` file.

    Args:
        path: the file.
        images: the folder of its images, to see that each is there; None to leave that out.

    Returns:
        The data set; its ``notes`` say what is odd in it.

    Raises:
        CocoError: it cannot be read, is no such file, an annotation is of no image or of no category, holds what cannot
            be meant, a file is listed as two images, or an image's file is missing.
    """
    path = Path(path)
    where = shown(path)
    try:
        data = read_json(path, LARGEST_FILE)
    except OSError as error:
        raise CocoError(f"{where}: cannot read the annotations: {error.strerror}") from error
    except ValueError as error:
        reason = (str(error).splitlines() or ["damaged"])[0]
        raise CocoError(f"{where}: is not JSON ({reason}); fetch the annotations again") from error
    _check_kind(data, where)
    try:
        return _Reader(path, where).read(data, images)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else (str(error).splitlines() or ["odd values"])[0]
        raise CocoError(f"{where}: is not in COCO format: {shown(reason)}") from error


def normalised_name(file: str) -> str:
    """A file's path below the annotations' folder, so that two spellings of one path are equal.

    Unicode is composed (NFC), backslashes are slashes, ``.`` and ``folder/..`` are gone.
    """
    parts: list[str] = []
    text = unicodedata.normalize("NFC", file).replace("\\", "/")
    for part in text.split("/"):
        if part == ".." and parts and parts[-1] not in ("..", ""):
            parts.pop()
        elif part not in (".", "") or (part == "" and not parts and text.startswith("/")):
            parts.append(part)
    return "/".join(parts)


def _check_kind(data: Any, where: str) -> None:
    """Refuse what is JSON, but of another kind, by its name."""
    if isinstance(data, list) and data and isinstance(data[0], dict) and "score" in data[0]:
        raise CocoError(f"{where}: is a list of a detector's results; give the annotations that it is judged by")
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in ("images", "categories")):
        more = " (this is a captions file)" if _first_has(data, "caption") else ""
        raise CocoError(f"{where}: is not in COCO format: needs the lists images, annotations and categories{more}")
    if not isinstance(data.get("annotations"), list):
        raise CocoError(f"{where}: has no list of annotations; give the instances file, not image_info")
    for key, kind in (("caption", "captions"), ("segments_info", "panoptic annotations")):
        if _first_has(data, key):
            raise CocoError(f"{where}: holds {kind}; give the instances file of the data set")


def _first_has(data: Any, key: str) -> bool:
    entries = data.get("annotations") if isinstance(data, dict) else None
    return isinstance(entries, list) and bool(entries) and isinstance(entries[0], dict) and key in entries[0]


def _whole(value: Any, what: str, lowest: int = 0, highest: int = 1 << 62) -> int:
    """A whole number; one written as 1.0 is one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        kind = ", a text" if isinstance(value, str) else ""
        upper = f" to {highest}" if highest < 1 << 62 else ""
        raise CocoError(f"{what} is {_brief(value)}{kind}, not a whole number from {lowest}{upper}")
    return value


def _number(value: Any, what: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    kind = ", a text" if isinstance(value, str) else ""
    raise CocoError(f"{what} is {_brief(value)}{kind}, not a finite number")


def _brief(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a number of more than 20 digits"
    return shown(text if len(text) <= 40 else f"{text[:40]}…")


class _Reader:
    """Reads one file; gathers notes as it goes."""

    def __init__(self, path: Path, where: str) -> None:
        self.path, self.where = path, where
        self.notes = Notes()
        self.fractions = self.within_one = self.boxes = 0

    def read(self, data: dict[str, Any], folder: Path | None) -> CocoSet:
        categories = self._categories(data["categories"])
        entries: dict[int, dict[str, Any]] = {}
        for entry in data["images"]:
            number = _whole(entry["id"], f"{self.where}: image id")
            if number in entries:
                raise CocoError(f"{self.where}: image id {number} stands twice")
            sides = [
                _whole(entry[key], f"{self.where}: {key} of image {number}", 1, MAX_SIDE) for key in ("width", "height")
            ]
            if sides[0] * sides[1] > _MOST_PIXELS:
                raise CocoError(
                    f"{self.where}: image {number} is {sides[0]}×{sides[1]}, more than {_MOST_PIXELS:,} pixels"
                )
            entries[number] = {**entry, "width": sides[0], "height": sides[1]}
        objects = self._objects(data["annotations"], entries, categories)
        found = [self._image(number, entries[number], objects[number], folder) for number in sorted(entries)]
        self._check_unlike(found)
        licenses = data.get("licenses")
        return CocoSet(
            self.path,
            tuple(found),
            categories,
            licenses if isinstance(licenses, list) else [],
            tuple(self.notes.lines(self.path.name)),
        )

    def _categories(self, entries: list[Any]) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for entry in entries:
            number = _whole(entry["id"], f"{self.where}: category id")
            if not isinstance(entry["name"], str | int) or isinstance(entry["name"], bool):
                raise CocoError(f"{self.where}: category {number} has the name {_brief(entry['name'])}, not a text")
            if number in found:
                raise CocoError(
                    f"{self.where}: category id {number} stands twice, as {_brief(found[number]['name'])} and "
                    f"{_brief(entry['name'])}; give every category an id of its own"
                )
            found[number] = {**entry, "id": number, "name": str(entry["name"])}
        return found

    def _objects(
        self, annotations: list[Any], images: dict[int, dict[str, Any]], categories: dict[int, Any]
    ) -> dict[int, list[Annotation]]:
        objects: dict[int, list[Annotation]] = {number: [] for number in images}
        seen: Counter[Any] = Counter()
        for entry in annotations:
            number = entry.get("id")
            what = f"{self.where}: annotation {'?' if number is None else _brief(number)}"
            of = _whole(entry["image_id"], f"{what}: image_id")
            category = _whole(entry["category_id"], f"{what}: category_id")
            if of not in images:
                raise CocoError(f"{what} is of image {of}, which is not in the file; remove it or add the image")
            if category not in categories:
                raise CocoError(f"{what} is of category {category}, which is not in the file's categories")
            if isinstance(number, int | str):  # it is used for nothing but naming the entry
                seen[number] += 1
            objects[of].append(self._annotation(entry, category, images[of], f"{what} of image {of}"))
        for number, times in seen.items():
            if times > 1:
                self.notes.add("annotation ids stand more than once, each entry counts", number)
        if self.fractions and self.within_one == self.boxes:
            raise CocoError(
                f"{self.where}: all boxes lie within 0..1, as fractions of their images; COCO's boxes are in pixels"
            )
        return objects

    def _annotation(self, entry: dict[str, Any], category: int, image: dict[str, Any], where: str) -> Annotation:
        name = where[len(self.where) + 2 :]
        width, height = image["width"], image["height"]
        box = self._box(entry, width, height, where, name)
        segmentation = entry.get("segmentation") or None
        if isinstance(segmentation, dict):
            extent = _extent(_check_runs(segmentation, width, height, where), height)
            if extent is not None and _lies_elsewhere(box, *extent):
                self.notes.add("masks lie elsewhere than their box", name)
        elif segmentation is not None:
            segmentation = self._polygons(segmentation, box, width, height, where, name)
        area = _number(entry["area"], f"{where}: area") if "area" in entry else box[2] * box[3]
        if not 0 <= area <= _LARGEST_AREA:
            raise CocoError(f"{where}: area {area:g} is no area in pixels (0 to {_LARGEST_AREA:g})")
        if area > 1.05 * (box[2] + 1) * (box[3] + 1):
            self.notes.add("areas are larger than their box", name)
        crowd = entry.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise CocoError(f"{where}: iscrowd is {_brief(crowd)}, neither 0 nor 1")
        return Annotation(category, box, area, bool(crowd), segmentation)

    def _box(
        self, entry: dict[str, Any], width: int, height: int, where: str, name: str
    ) -> tuple[float, float, float, float]:
        given = entry["bbox"]
        if not isinstance(given, list) or len(given) != 4:
            raise CocoError(f"{where}: bbox {_brief(given)} is not left, top, width, height")
        x, y, w, h = (_number(v, f"{where}: bbox {_brief(given)} is not left, top, width, height: one") for v in given)
        if min(w, h) < 0:
            raise CocoError(f"{where}: bbox {_brief(given)} is not left, top, width, height")
        self.boxes += 1
        # Sums of fractions end a little beyond 1 by rounding, and an object may fill its image.
        self.within_one += (within_one := max(x + w, y + h) <= 1.001)
        self.fractions += within_one and not all(float(v).is_integer() for v in given)
        w, h = (0.0 if side < LEAST_SIDE else side for side in (w, h))
        if min(w, h) == 0:
            self.notes.add("boxes have no area and are not counted", name)
            if not (-_ROUNDING <= x <= width + _ROUNDING and -_ROUNDING <= y <= height + _ROUNDING):
                raise CocoError(f"{where}: bbox {_brief(given)} lies outside the image of {width}×{height}")
            return x, y, w, h
        inside = max(min(x + w, width) - max(x, 0), 0) * max(min(y + h, height) - max(y, 0), 0)
        if inside < 0.5 * w * h and max(-x, -y, x + w - width, y + h - height) > _ROUNDING:
            raise CocoError(
                f"{where}: bbox {_brief(given)} lies outside the image of {width}×{height} with more than half its "
                "area; a box is left, top, width, height in the image's pixels"
            )
        if max(-x, -y, x + w - width, y + h - height) > _ROUNDING:
            self.notes.add("boxes reach out of their image", name)
        return x, y, w, h

    def _polygons(
        self, polygons: Any, box: tuple[float, float, float, float], width: int, height: int, where: str, name: str
    ) -> list[list[float]]:
        if not isinstance(polygons, list) or not all(isinstance(polygon, list) for polygon in polygons):
            raise CocoError(f"{where}: its segmentation is neither a list of polygons nor run lengths")
        left, top, right, bottom = math.inf, math.inf, -math.inf, -math.inf
        for polygon in polygons:
            if len(polygon) < 6 or len(polygon) % 2:
                raise CocoError(f"{where}: a polygon of {len(polygon)} numbers is no polygon (three points or more)")
            for value in polygon:
                _number(value, f"{where}: a polygon's number")
            left, right = min(left, *polygon[::2]), max(right, *polygon[::2])
            top, bottom = min(top, *polygon[1::2]), max(bottom, *polygon[1::2])
        # The rasteriser walks along every edge, so what lies far outside would also cost memory.
        if left > width or top > height or right < 0 or bottom < 0 or left < -width or top < -height:
            raise CocoError(f"{where}: a polygon lies outside the image of {width}×{height}; draw it on this image")
        if right > 2 * width or bottom > 2 * height:
            raise CocoError(f"{where}: a polygon lies outside the image of {width}×{height}; draw it on this image")
        if max(-left, -top, right - width, bottom - height) > _ROUNDING:
            self.notes.add("polygons reach out of their image", name)
        if _lies_elsewhere(box, left, top, right, bottom):
            self.notes.add("masks lie elsewhere than their box", name)
        return polygons

    def _image(
        self, number: int, entry: dict[str, Any], objects: Sequence[Annotation], folder: Path | None
    ) -> AnnotatedImage:
        file = entry["file_name"]
        if not isinstance(file, str) or not file or "\0" in file:
            raise CocoError(f"{self.where}: file_name of image {number} is {_brief(file)}, not the name of a file")
        if folder is not None and not _is_file(folder / file):
            raise CocoError(
                f"{self.where}: image {number} is {shown(file)}, not in {shown(folder)}; name the folder of its images"
            )
        digest = entry.get("raw_hash")
        if digest is not None and not (isinstance(digest, str) and len(digest) == 64):
            raise CocoError(f"{self.where}: raw_hash of image {number} is {_brief(digest)}, no hash; leave it out")
        alike = Counter((a.category_id, a.box) for a in objects if not a.crowd)
        for (category, box), times in alike.items():
            if times > 1:  # files merged, or appended to twice
                self.notes.add(
                    "objects stand more than once (same category and box), each is to be found",
                    f"category {category} at {box[0]:g}, {box[1]:g} of image {number}",
                )
        more = {key: value for key, value in entry.items() if key not in _IMAGE_KEYS}
        return AnnotatedImage(number, file, entry["width"], entry["height"], tuple(objects), more, digest)

    def _check_unlike(self, images: Sequence[AnnotatedImage]) -> None:
        """Refuse a file at two image ids: each would be judged by a part of its objects."""
        listed_as: dict[str, list[AnnotatedImage]] = {}
        for image in images:
            listed_as.setdefault(normalised_name(image.file), []).append(image)
        for same in listed_as.values():
            if len(same) > 1 and any(image.annotations for image in same):
                raise CocoError(
                    f"{self.where}: {shown(same[0].file)} is listed as images {listed([i.id for i in same])}; "
                    "give all its objects to one image id"
                )


def _lies_elsewhere(
    box: tuple[float, float, float, float], left: float, top: float, right: float, bottom: float
) -> bool:
    """Whether what a mask extends over has less than half in common with its box."""
    across = min(right, box[0] + box[2]) - max(left, box[0])
    down = min(bottom, box[1] + box[3]) - max(top, box[1])
    common = max(across, 0.0) * max(down, 0.0)
    return common < 0.5 * max((right - left) * (bottom - top), box[2] * box[3], 16.0) - 16


def _extent(runs: Sequence[int], height: int) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of a mask, whose runs go down the columns; None of an empty one."""
    ends = np.cumsum(runs)
    first, last = ends[: len(ends) - 1 : 2], ends[1::2] - 1
    there = last >= first
    first, last = first[there], last[there]
    if not len(first):
        return None
    within = first // height == last // height
    if not within.all():  # a run that goes on in the next column touches both borders
        return int(first[0] // height), 0, int(last[-1] // height) + 1, height
    return (
        int(first[0] // height),
        int((first % height).min()),
        int(last[-1] // height) + 1,
        int((last % height).max() + 1),
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False  # a name that no file can have


def _check_runs(segmentation: dict[str, Any], width: int, height: int, where: str) -> list[int]:
    """The run lengths; pycocotools trusts them and writes past its memory where they are wrong."""
    size = segmentation["size"]
    if not isinstance(size, list) or len(size) != 2:
        raise CocoError(f"{where}: its mask's size is {_brief(size)}, not height, width")
    if size != [height, width]:
        raise CocoError(
            f"{where}: its mask is {_brief(size[1])}×{_brief(size[0])}, the image {width}×{height}; "
            "draw it on this image"
        )
    runs = _runs(segmentation["counts"], where)
    if (covered := sum(runs)) != height * width:
        raise CocoError(f"{where}: its mask has {covered} pixels, the image {height * width}")
    return runs


def _runs(counts: Any, where: str) -> list[int]:
    """The run lengths of a mask."""
    if isinstance(counts, list):
        runs = [_whole(v, f"{where}: a run length of its mask", -(1 << 62)) for v in counts]
    elif isinstance(counts, str):
        runs, value, shift = [], 0, 0
        for byte in counts.encode("ascii"):
            bits = byte - 48
            if not 0 <= bits < 64 or shift > 60:
                raise CocoError(f"{where}: its mask's run lengths are damaged")
            value |= (bits & 31) << shift
            shift += 5
            if not bits & 32:
                if bits & 16:
                    value -= 1 << shift
                runs.append(value + (runs[-2] if len(runs) > 2 else 0))
                value, shift = 0, 0
    else:
        raise CocoError(f"{where}: its mask's run lengths are {_brief(counts)}, neither numbers nor text")
    if any(v < 0 for v in runs):
        raise CocoError(f"{where}: its mask's run lengths are damaged")
    return runs
