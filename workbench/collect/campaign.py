"""A campaign: a planned list of captures that can stop anywhere and go on.

The plan is a function of the parameter space, the RAWs, the design, the count and the seed alone. What is done is
read from the data set, so nothing about a campaign has to be remembered elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from drivers.errors import DeviceError, FrameError, WorkbenchError
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.raw.raw_files import companions, load_raw
from drivers.raw.raw_notes import RawNote
from workbench.collect.bench import Bench
from workbench.collect.failures import FailureTally, TooManyFailuresError, described
from workbench.collect.raw_folder import RawEntry
from workbench.collect.references import read_reference
from workbench.errors import RawFolderError
from workbench.lab.dataset import Dataset, FailureRecord, NewRaw, RawRecord

Design = Literal["sobol", "lhs", "around"]
Job = tuple[RawRecord, ParameterSet]
PURPOSE = "collect"
# RAWs are kept in batches: one transaction costs the disk as much for sixty as for one.
IMPORT_FILES = 64
IMPORT_BYTES = 256 * 2**20


class CampaignError(WorkbenchError):
    """A campaign that cannot be planned."""


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
        DatasetError: a scene is in another split there, or nothing could be written.
    """
    records: list[RawRecord | None] = []
    waiting: list[tuple[int, NewRaw]] = []

    def flush() -> None:
        added = dataset.add_raws([new for _, new in waiting])
        for (place, _), record in zip(waiting, added, strict=True):
            records[place] = record
        waiting.clear()

    notes = [] if notes is None else notes
    scenes = _scene_folders(dataset)
    for place, entry in enumerate(entries):
        records.append(_known(dataset, entry))
        if records[place] is None:
            new = _read(dataset, entry, notes)
            notes += [(entry.path.name, note) for note in _shared_scene(entry, new, scenes)]
            waiting.append((place, new))
            if len(waiting) >= IMPORT_FILES or sum(new.raw.mosaic.nbytes for _, new in waiting) >= IMPORT_BYTES:
                flush()
        progress(place + 1)
    flush()
    return [record for record in records if record is not None]


def plan(
    space: ParameterSpace,
    raws: Sequence[RawRecord],
    *,
    design: Design,
    captures: int,
    seed: int,
    around: Sequence[ParameterSet] = (),
    spread: float = 0.1,
) -> list[Job]:
    """The captures of a campaign: each pairs one RAW with its own parameter set, every RAW equally often.

    With the designs ``sobol`` and ``around`` a longer campaign begins with the shorter one, so it extends it.

    Args:
        space: the device's parameters.
        raws: the RAWs; their order does not matter.
        design: ``sobol`` (scrambled), ``lhs`` (Latin hypercube), or ``around`` (uniform within ``spread`` of points).
        captures: how many.
        seed: of the design and of the order of the RAWs.
        around: the points of ``around``; the defaults where empty.
        spread: half the width of the box around a point, in normalised units, within (0, 1].

    Raises:
        CampaignError: no RAWs, or the space has too few different parameter sets.
    """
    if not raws:
        raise CampaignError("no RAWs to collect with: the training and validation splits are empty")
    ordered = sorted({raw.hash: raw for raw in raws}.values(), key=lambda raw: raw.hash)
    jobs: list[Job] = []
    seen: set[tuple[str, str]] = set()
    turns = _turns(ordered, seed)
    raw = next(turns)
    for unit in points(space, design, captures, seed, around, spread):
        if len(jobs) == captures:
            break
        parameters = space.from_unit(unit)
        key = raw.hash, parameters.hash
        if key in seen:
            continue
        seen.add(key)
        jobs.append((raw, parameters))
        raw = next(turns)
    if len(jobs) < captures:
        raise CampaignError(
            f"{space.name} with {len(ordered)} RAWs gives only {len(jobs)} different captures in this design, "
            f"not {captures}; ask for fewer or widen --spread"
        )
    return jobs


def remaining(dataset: Dataset, identity: str, jobs: Sequence[Job]) -> list[Job]:
    """The captures of a plan that the data set does not have yet and that did not fail either."""
    keys = [(raw.hash, parameters.hash) for raw, parameters in jobs]
    done = {*dataset.find(identity, keys), *dataset.find_failures(identity, keys)}
    return [job for job, key in zip(jobs, keys, strict=True) if key not in done]


def tally_of(dataset: Dataset, identity: str, jobs: Sequence[Job]) -> FailureTally:
    """What became of a plan so far, in this run and in earlier ones."""
    keys = {(raw.hash, parameters.hash): (raw, parameters) for raw, parameters in jobs}
    found, tally = dataset.find(identity, keys), FailureTally()
    for _ in found:
        tally.made()
    for key, failure in dataset.find_failures(identity, keys).items():
        if key not in found:
            raw, parameters = keys[key]
            tally.add(failure.code, failure.reason, described(raw.name, parameters))
    return tally


def run(bench: Bench, jobs: Sequence[Job], progress: Callable[[int], None] = lambda done: None) -> int:
    """Make captures; gives how many were made. ``progress`` is told after each job how many are done.

    A frame that fails is kept as a failure, and the rest goes on.

    Raises:
        TooManyFailuresError: too many frames failed, see :mod:`workbench.collect.failures`.
        DeviceError: the device failed; the message says how many captures of this run are kept.
        DatasetError: the captures could not be stored.
    """
    done = failed = 0
    try:
        for done, outcome in enumerate(bench.capture_many(jobs), 1):
            failed += isinstance(outcome, FailureRecord)
            progress(done)
    except DeviceError as error:
        raise type(error)(
            f"{error}; {done - failed} of the {len(jobs)} captures to make are kept, the same command goes on"
            f"{_stopped_at(error, jobs, done)}"
        ) from error
    return done - failed


def _stopped_at(error: DeviceError, jobs: Sequence[Job], done: int) -> str:
    if isinstance(error, TooManyFailuresError) or done >= len(jobs):
        return ""
    raw, parameters = jobs[done]
    return f" (it stopped at {described(raw.name, parameters)})"


def points(
    space: ParameterSpace, design: Design, captures: int, seed: int, around: Sequence[ParameterSet], spread: float
) -> np.ndarray:
    """The design's points, ``float64 [≥ captures, N]`` in [0, 1]; see :func:`plan`.

    Raises:
        CampaignError: ``spread`` is outside (0, 1].
    """
    if not 0 < spread <= 1:
        raise CampaignError(f"spread {spread:g} is outside (0, 1]")
    centres = [c.unit for c in around] or [space.defaults.unit]
    dimensions = len(space)
    # Points that quantise to a pair that was there are passed over, so a few more are drawn than are needed.
    # (Not so for lhs: part of a Latin hypercube is none.)
    count = captures if design == "lhs" else captures + captures // 4 + 64
    if design == "around":
        random = np.random.default_rng([seed, 1])
        middle = np.array([centres[i % len(centres)] for i in range(count)])
        low, high = np.maximum(middle - spread, 0), np.minimum(middle + spread, 1)
        return low + random.random((count, dimensions)) * (high - low)
    from scipy.stats import qmc

    if design == "lhs":
        return qmc.LatinHypercube(dimensions, seed=seed).random(count)
    # Whole powers of two keep the sequence balanced; the first points do not depend on how many follow.
    return qmc.Sobol(dimensions, scramble=True, seed=seed).random_base2((count - 1).bit_length())


def _turns(raws: list[RawRecord], seed: int) -> Iterator[RawRecord]:
    """The RAWs for ever, in another random order each round."""
    random = np.random.default_rng([seed, 0])
    while True:
        for i in random.permutation(len(raws)):
            yield raws[i]


def _files(entry: RawEntry) -> tuple[Path, ...]:
    """Every file that the RAW and its reference are read from, the RAW file first."""
    try:
        files = [entry.path, *companions(entry.path)]
    except FrameError as error:
        raise RawFolderError(str(error)) from error
    return tuple(files if entry.reference is None else [*files, entry.reference])


def _known(dataset: Dataset, entry: RawEntry) -> RawRecord | None:
    _, *others = _files(entry)
    for record in dataset.raws_of_file(entry.path):
        if (record.scene, record.split) != (entry.scene, entry.split):
            continue
        referenced = entry.reference is None or record.has_reference
        if referenced and all(record in dataset.raws_of_file(path) for path in others):
            return record
    return None


def _read(dataset: Dataset, entry: RawEntry, notes: list[tuple[str, RawNote]]) -> NewRaw:
    told: list[RawNote] = []
    try:
        raw = load_raw(entry.path, told)
    except FrameError as error:
        raise RawFolderError(str(error)) from error
    notes += [(entry.path.name, note) for note in told]
    # The captures of the RAW as it was decoded before would stay beside those of the new one.
    if any(record.hash != raw.hash for record in dataset.raws_of_file(entry.path)):
        raise RawFolderError(
            f"{entry.path}: the RAW file's decoding changed since it was read into this data set (its sidecar?); "
            "use a new --lab folder"
        )
    reference = None
    if entry.reference is not None:
        reference, told = read_reference(entry.reference, raw)
        notes += [(entry.path.name, note) for note in told]
    return NewRaw(raw, entry.scene, entry.split, entry.path.name, reference, _files(entry))


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
