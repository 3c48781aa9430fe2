"""Annotated photographs as RAWs: every photograph whole, scaled down, as one camera would take it, once or more often.

The simulation of a photograph is that of :mod:`sim.scenes.scene_set`: the lens' softness, a light of 2,500..7,500 K
that suits the picture's brightness, the camera's meter, exposure program (ISO 100..12,800) and white balance with their
errors, the sensor's noise. Its geometry is the caller's, who moves the annotations along.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from drivers.atomic_files import write_bytes
from drivers.cfa import CfaPattern
from drivers.foreign_text import shown
from drivers.orientation import UPRIGHT
from drivers.raw.raw_files import load_raw, save_npz
from drivers.splits import Split
from sim.camera.metering import Camera
from sim.camera.sensor import DEFAULT_SENSOR_SEED, Sensor
from sim.scenes.at_once import AtOnce, Scene, fitting
from sim.scenes.photographs import SceneError, open_photograph, photograph_pixels
from sim.scenes.scene_set import (
    PHOTOGRAPH_BYTES,
    SOFTNESS,
    Progress,
    claimed_folder,
    raw_bytes,
    through_lens,
    write_csv,
    write_png,
)

ANNOTATIONS = "annotations.json"
# Raise it when the same arguments would give other pixels.
_VERSION = 1
_SHORTEST_SIDE, _LONGEST_SIDE = 16, 8192


@dataclass(frozen=True)
class AnnotatedPhotograph:
    """One photograph and the RAW that it becomes. All sizes are width, height in pixels.

    Attributes:
        scene: name of the scene, and of its first RAW.
        split: of the scene.
        number: from 0; fixes light, errors and noise together with the seed and ``take``. The image's id.
        path: the file.
        source: the photograph's size as its annotations say.
        crop: its top-left part that is used.
        size: the RAW's size, even, to which that part is scaled.
        take: which RAW of the photograph it is, from 0: each has its own light, errors and noise.
    """

    scene: str
    split: Split
    number: int
    path: Path
    source: tuple[int, int]
    crop: tuple[int, int]
    size: tuple[int, int]
    take: int = 0

    @property
    def name(self) -> str:
        """Of the RAW."""
        return f"{self.scene}_{self.take}" if self.take else self.scene


def make_annotated_raws(
    folder: Path,
    photographs: Sequence[AnnotatedPhotograph],
    annotations: bytes,
    *,
    cfa: CfaPattern = "RGGB",
    seed: int = 0,
    sensor_seed: int = DEFAULT_SENSOR_SEED,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``NAME.npz`` with ``NAME.reference.png`` for every photograph, ``annotations.json`` and ``scenes.csv``.

    A RAW depends on its photograph, its number, its take, the seed, the camera and nothing else. Every file appears
    whole or not at all, ``scenes.csv`` last; after a stop the same call goes on, and when the folder is complete it
    does nothing.

    Args:
        folder: where to write; made if missing.
        photographs: what to simulate, names unique.
        annotations: what ``annotations.json`` is to hold, a JSON object; each of its ``images`` is given ``raw_hash``,
            the content hash of its RAW, so that the two find each other wherever they are moved.
        cfa: CFA order of the sensor.
        seed: from 0; another seed gives other lights, errors and noise.
        sensor_seed: from 0; another seed is another camera.
        progress: called with (RAWs done, RAWs in all).

    Returns:
        The RAW files in the order of the photographs.

    Raises:
        SceneError: a photograph cannot be read, is of another size than said or too small, or is in the test split and
            in another, or the folder holds something else.
    """
    folder = Path(folder)
    if min(seed, sensor_seed) < 0:
        raise SceneError(f"seeds start at 0, not {min(seed, sensor_seed)}")
    for photograph in photographs:
        if any(side % 2 or not _SHORTEST_SIDE <= side <= _LONGEST_SIDE for side in photograph.size):
            raise SceneError(
                f"{photograph.path}: a RAW of {photograph.size[0]}×{photograph.size[1]} cannot be made of it; "
                f"sides must be even and within {_SHORTEST_SIDE}..{_LONGEST_SIDE}"
            )
    _check_splits(photographs)
    camera = Camera(Sensor(sensor_seed, cfa))
    plan = [(p.name, p.split, p.number, p.source, p.crop, p.size) for p in photographs]  # the name tells the take
    arguments: dict[str, Any] = {
        "annotated_version": _VERSION,
        "annotations": hashlib.sha256(annotations).hexdigest()[:16],
        "plan": hashlib.sha256(json.dumps(plan).encode()).hexdigest()[:16],
        "softness": SOFTNESS,
        "seed": seed,
        "camera": json.loads(json.dumps(asdict(camera))),
    }
    each_bytes = max(
        (raw_bytes((p.size[1], p.size[0])) + PHOTOGRAPH_BYTES * p.source[0] * p.source[1] for p in photographs),
        default=0,
    )
    with claimed_folder(folder, arguments), AtOnce(fitting(each_bytes)) as pool:
        table = folder / "scenes.csv"

        def files(photograph: AnnotatedPhotograph) -> tuple[Path, Path]:
            raw, reference = (folder / f"{photograph.name}{end}" for end in (".npz", ".reference.png"))
            return raw, reference

        def take(photograph: AnnotatedPhotograph, picture: np.ndarray) -> str:
            raw_path, reference_path = files(photograph)
            rng = np.random.default_rng(
                [0xC0C0, seed, photograph.number, *([photograph.take] if photograph.take else [])]
            )
            shot = camera.shoot(picture, rng, name=raw_path.name)
            write_png(reference_path, picture)
            # The RAW comes second: where it is, its reference is.
            save_npz(raw_path, shot.raw)
            return shot.raw.hash

        lacking = [p for p in photographs if not all(path.exists() for path in files(p))]
        made = pool.results(
            Scene(partial(_picture, *picture), [partial(take, photograph) for photograph in takes])
            for picture, takes in groupby(lacking, lambda p: (p.path, p.source, p.crop, p.size))
        )
        complete = not lacking and table.exists() and (folder / ANNOTATIONS).exists()
        names = {p.name for p in lacking}
        rows: list[tuple[str, str, str, str]] = []
        hashes: dict[str, str] = {}
        for done, photograph in enumerate(photographs, 1):
            raw_path, reference_path = files(photograph)
            if photograph.name in names:
                hashes[raw_path.name] = next(made)
            elif not complete:  # made by a call that was stopped
                hashes[raw_path.name] = load_raw(raw_path).hash
            rows.append((raw_path.name, photograph.scene, photograph.split, reference_path.name))
            if progress:
                progress(done, len(photographs))
        if not complete:
            write_bytes(folder / ANNOTATIONS, _with_hashes(annotations, hashes))
            write_csv(table, sorted(rows))
        return [folder / row[0] for row in rows]


def _with_hashes(annotations: bytes, hashes: dict[str, str]) -> bytes:
    data = json.loads(annotations)
    for image in data.get("images", []):
        image["raw_hash"] = hashes[image["file_name"]]
    return (json.dumps(data) + "\n").encode()


def _check_splits(photographs: Sequence[AnnotatedPhotograph]) -> None:
    """Refuse a photograph that is in the test split and in another: what was trained with it knows the test."""
    by_size: dict[int, list[AnnotatedPhotograph]] = {}
    for photograph in photographs:
        try:
            by_size.setdefault(photograph.path.stat().st_size, []).append(photograph)
        except OSError as error:
            raise SceneError(f"{photograph.path}: cannot read the photograph: {error.strerror}") from error
    for alike in by_size.values():
        if len({p.split == Split.TEST for p in alike}) < 2:
            continue
        seen: dict[str, AnnotatedPhotograph] = {}
        for photograph in alike:
            with photograph.path.open("rb") as file:
                other = seen.setdefault(hashlib.file_digest(file, "sha256").hexdigest(), photograph)
            if (other.split == Split.TEST) != (photograph.split is Split.TEST):
                raise SceneError(
                    f"{photograph.path}: is in split {photograph.split} and, as {other.path}, in split {other.split}; "
                    "give every photograph to one split"
                )


def _picture(path: Path, source: tuple[int, int], crop: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The used part of a photograph at the RAW's size, as the lens draws it: ``uint8 [H, W, 3]``, sRGB."""
    data, header = open_photograph(path)
    stored, upright = (header.width, header.height), header.upright_size
    where = shown(path)
    # Annotations are drawn on the photograph turned upright or on the pixels as stored: their size tells.
    if source not in (stored, upright):
        raise SceneError(
            f"{where}: is {upright[0]}×{upright[1]}, its annotations say {source[0]}×"
            f"{source[1]}; annotate the same file"
        )
    if stored == upright and header.orientation != UPRIGHT:
        raise SceneError(
            f"{where}: has the Exif orientation {header.orientation}, and annotations of {stored[0]}×{stored[1]} may "
            "be of the picture turned upright or as it is stored; save it upright, without the flag, and annotate that"
        )
    part = photograph_pixels(path, data, header, turn=source == upright)
    part = part[: crop[1], : crop[0]]
    if size == crop:
        return through_lens(np.ascontiguousarray(part))
    return through_lens(cv2.resize(part, size, interpolation=cv2.INTER_AREA))
