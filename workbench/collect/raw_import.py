"""Bringing the RAWs of a folder into the data set, each decoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from drivers.errors import FrameError
from drivers.next_ahead import Ahead
from drivers.raw.raw_files import companions, load_raw
from drivers.raw.raw_notes import RawNote
from workbench.collect.raw_folder import RawEntry
from workbench.collect.references import read_reference
from workbench.errors import RawFolderError
from workbench.lab.dataset import Dataset, NewRaw, RawRecord
from workbench.lab.dataset.source_files import KnownFiles, seen

# RAWs are kept in batches: one transaction costs the disk as much for sixty as for one. A batch is held several times
# over, decoded and encoded, so large RAWs, whose decoding takes far longer than a transaction, are kept one by one.
IMPORT_FILES = 64
IMPORT_BYTES = 32 * 2**20


def import_raws(
    dataset: Dataset,
    entries: Sequence[RawEntry],
    progress: Callable[[int], None] = lambda done: None,
    notes: list[tuple[str, RawNote]] | None = None,
) -> list[RawRecord]:
    """Bring the RAWs of a folder into the data set, in their order; a file that was read before is not decoded again.

    ``notes`` gets what is worth telling of the files that are decoded, with each file's name.

    Raises:
        RawFolderError: a RAW or a reference cannot be read, or a RAW file that was read before now decodes differently.
        DatasetError: a scene is in another split there, a file was changed while it was read, or nothing could be
            written.
    """
    waiting: list[tuple[int, NewRaw]] = []
    size = 0

    def flush() -> None:
        nonlocal size
        added = dataset.add_raws([new for _, new in waiting])
        for (place, _), record in zip(waiting, added, strict=True):
            records[place] = record
        waiting.clear()
        size = 0

    notes = [] if notes is None else notes
    files = dataset.known_files()
    records = [_known(files, entry) for entry in entries]
    places = [place for place, record in enumerate(records) if record is None]
    scenes = _scene_folders(dataset) if places else {}
    known = len(entries) - len(places)
    progress(known)
    # A large RAW takes as long to read as it takes to keep.
    with closing(Ahead(_read(files, entries[place]) for place in places)) as read:
        for done, place in enumerate(places, known + 1):
            entry, (new, told) = entries[place], next(read)
            notes += [(entry.path.name, note) for note in [*told, *_shared_scene(entry, new, scenes)]]
            waiting.append((place, new))
            size += new.raw.mosaic.nbytes + (0 if new.reference is None else new.reference.nbytes)
            del new  # while the next one is taken
            if len(waiting) >= IMPORT_FILES or size >= IMPORT_BYTES:
                flush()
            progress(done)
    flush()
    return [record for record in records if record is not None]


def _files(entry: RawEntry) -> tuple[Path, ...]:
    """Every file that the RAW and its reference are read from, the RAW file first."""
    try:
        files = [entry.path, *companions(entry.path)]
    except FrameError as error:
        raise RawFolderError(str(error)) from error
    return tuple(files if entry.reference is None else [*files, entry.reference])


def _known(known: KnownFiles, entry: RawEntry) -> RawRecord | None:
    _, *others = _files(entry)
    for record in known.raws_of(entry.path):
        if (record.scene, record.split) != (entry.scene, entry.split):
            continue
        referenced = entry.reference is None or record.has_reference
        if referenced and all(record in known.raws_of(path) for path in others):
            return record
    return None


def _read(known: KnownFiles, entry: RawEntry) -> tuple[NewRaw, list[RawNote]]:
    """A RAW with its reference, and what is worth telling of both."""
    told: list[RawNote] = []
    files = tuple(map(seen, _files(entry)))
    try:
        raw = load_raw(entry.path, told)
    except FrameError as error:
        raise RawFolderError(str(error)) from error
    # The captures of the RAW as it was decoded before would stay beside those of the new one.
    if any(record.hash != raw.hash for record in known.raws_of(entry.path)):
        raise RawFolderError(
            f"{entry.path}: the RAW file's decoding changed since it was read into this data set (its sidecar?); "
            "use a new --lab folder"
        )
    reference = None
    if entry.reference is not None:
        reference, of_reference = read_reference(entry.reference, raw)
        told = [*told, *of_reference]
    return NewRaw(raw, entry.scene, entry.split, entry.path.name, reference, files), told


def _scene_folders(dataset: Dataset) -> dict[str, set[tuple[str, Path]]]:
    """Hash and folder of the RAWs of each scene of the data set, where the folder is known."""
    scenes = {raw.hash: raw.scene for raw in dataset.raws()}
    found: dict[str, set[tuple[str, Path]]] = {}
    for digest, path, *_ in dataset.source_files():
        if digest in scenes:
            found.setdefault(scenes[digest], set()).add((digest, Path(path).parent))
    return found


def _shared_scene(entry: RawEntry, new: NewRaw, scenes: dict[str, set[tuple[str, Path]]]) -> list[RawNote]:
    """A note where a scene that is named by its file alone is that of other RAWs, in another folder."""
    here = entry.path.absolute().parent
    known = scenes.get(entry.scene, set())
    others = {folder for digest, folder in known if digest != new.raw.hash and folder != here}
    if entry.scene != entry.path.stem or not others or any(digest == new.raw.hash for digest, _ in known):
        return []
    text = f"its scene {entry.scene} is that of other RAWs, in {min(others)}: they are taken for one scene"
    return [RawNote("scene of two folders", f"{text}; if it is another, name it in scenes.csv and use a new --lab")]
