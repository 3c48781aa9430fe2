"""Which annotated image is which RAW: by content where it is known, else by path, and by bare name at the very last.

An image whose entry has ``raw_hash`` is the RAW with that content hash and no other. Else it is the RAW that was read
from its file: ``file_name`` below the folder of the annotations. Where nothing was read from there (the folder was
moved since), the file is read and its content decides; where there is no file, the RAW whose own path ends with
``file_name`` is taken, if it is the only one. What may be two is refused, for either could be judged by the other's
objects.
"""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from drivers.errors import FrameError
from drivers.foreign_text import shown
from drivers.raw.raw_files import RAW_SUFFIXES, load_raw
from workbench.console.notes import listed
from workbench.errors import RunError
from workbench.lab.dataset import Dataset, RawRecord
from workbench.tasks.coco import AnnotatedImage, CocoSet
from workbench.tasks.coco_file import normalised_name


@dataclass
class Partners:
    """What belongs together.

    Attributes:
        images: the annotated image of each RAW that has one, by the RAW's hash.
        alone: files of the images that are no RAW of the data set, in their order.
        by_name: files of the images whose RAW was found by its name alone.
        labels: what people call a RAW, its folder with it where that is known, by hash.
    """

    images: dict[str, AnnotatedImage] = field(default_factory=dict)
    alone: list[str] = field(default_factory=list)
    by_name: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)


def find_partners(data: CocoSet, dataset: Dataset) -> Partners:
    """The RAW of each annotated image.

    Raises:
        RunError: an image may be several RAWs, or two images are one RAW.
    """
    return _Search(data, dataset).run()


@dataclass(frozen=True)
class _Source:
    """A RAW file as it was when it was read."""

    raw: str
    path: str
    size: int
    modified_ns: int


class _Search:
    def __init__(self, data: CocoSet, dataset: Dataset) -> None:
        self.data = data
        self.folder = Path(data.path).absolute().parent
        self.raws: dict[str, RawRecord] = {raw.hash: raw for raw in dataset.raws()}
        self.found = Partners(labels={raw.hash: raw.name for raw in self.raws.values()})
        self.sources: dict[str, list[_Source]] = {}
        self.by_path: dict[str, list[_Source]] = {}
        self.names: dict[str, set[str]] = {}
        for source in (_Source(*row) for row in dataset.source_files()):
            if source.raw not in self.raws or Path(source.path).suffix.lower() not in RAW_SUFFIXES:
                continue
            self.sources.setdefault(source.raw, []).append(source)
            self.by_path.setdefault(_key(source.path), []).append(source)
            self.names.setdefault(_bare(source.path), set()).add(source.raw)
            self.found.labels[source.raw] = "/".join(Path(source.path).parts[-2:])
        for raw in self.raws.values():
            self.names.setdefault(_bare(raw.name), set()).add(raw.hash)
        self.images_named: dict[str, int] = {}
        for image in data.images:
            bare = _bare(image.file)
            self.images_named[bare] = self.images_named.get(bare, 0) + 1

    def run(self) -> Partners:
        for image in self.data.images:
            raw = self._raw_of(image)
            if raw is None:
                self.found.alone.append(image.file)
                continue
            first = self.found.images.setdefault(raw, image)
            if first is not image and (first.annotations or image.annotations):
                raise RunError(
                    f"{shown(self.data.path)}: images {first.id} ({shown(first.file)}) and {image.id} "
                    f"({shown(image.file)}) are one RAW, {shown(self.found.labels[raw])}; give all its objects to one "
                    "image id"
                )
        return self.found

    def _raw_of(self, image: AnnotatedImage) -> str | None:
        if image.raw_hash is not None:
            return image.raw_hash if image.raw_hash in self.raws else None
        path = self.folder / normalised_name(image.file)
        if sources := self.by_path.get(_key(str(path))):
            if len({source.raw for source in sources}) == 1 and any(_unchanged(path, source) for source in sources):
                return sources[0].raw
            # Another file lies there now than was read, or several did in turn: what it holds tells.
            digest = _content(path)
            return digest if digest in self.raws else None
        if not (same := self.names.get(_bare(image.file))):
            return None
        if _is_file(path) and (digest := _content(path)) is not None:
            return digest if digest in self.raws else None
        return self._by_name(image, same)

    def _by_name(self, image: AnnotatedImage, same: set[str]) -> str | None:
        file = normalised_name(image.file)
        bare = "/" not in file
        ending = "/" + "/".join(part for part in file.split("/") if part not in ("", ".."))
        # A RAW whose path is not known may be any; one in a folder of another name is another.
        fits = sorted(
            raw
            for raw in same
            if bare
            or raw not in self.sources
            or any(normalised_name(source.path).endswith(ending) for source in self.sources[raw])
        )
        if not fits:
            return None
        if len(fits) > 1 or (self.images_named[_bare(image.file)] > 1 and (bare or fits[0] not in self.sources)):
            places = [source.path for raw in fits for source in self.sources.get(raw, [])]
            which = f"{len(fits)} RAWs" if len(fits) > 1 else "the RAW of another image too"
            raise RunError(
                f"{shown(self.data.path)}: image {image.id} is {shown(image.file)}, which may be {which} of the data "
                f"set ({listed(sorted(places) or [self.raws[raw].name for raw in fits])}); keep the annotations beside "
                "their RAWs, with the path from there as file_name"
            )
        self.found.by_name.append(image.file)
        return fits[0]


def _key(path: str) -> str:
    """One text for all spellings of a path, links followed."""
    try:
        real = os.path.realpath(path)
    except (OSError, ValueError):
        real = path  # a name that no file can have
    return unicodedata.normalize("NFC", real).replace("\\", "/")


def _bare(file: str) -> str:
    return PurePosixPath(normalised_name(file)).name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _unchanged(path: Path, source: _Source) -> bool:
    """Whether a file is as it was when it was read; one that is gone cannot have become another."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return True
    return (status.st_size, status.st_mtime_ns) == (source.size, source.modified_ns)


def _content(path: Path) -> str | None:
    """The content hash of a RAW file, or None where it cannot be read as one."""
    try:
        return load_raw(path).hash
    except FrameError:
        return None
