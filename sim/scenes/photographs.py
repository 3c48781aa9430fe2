"""Photographs as scenes: the sample photographs that installed packages ship, or any folder of JPEG and PNG files."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from drivers.errors import FrameError, WorkbenchError
from drivers.foreign_text import shown
from drivers.given_pictures import PictureHeader, decode_upright, read_header
from drivers.regular_files import read_regular
from drivers.splits import Split

SUFFIXES = (".jpg", ".jpeg", ".png")
SHORTEST_SIDE = 64
_MOST_PIXELS = 1 << 28
_LARGEST_FILE = 2 << 30

# name, package, files in the package's folder, split. Scenes from microscopes and telescopes are left out: no camera
# meters or balances those.
_SAMPLES: tuple[tuple[str, str, tuple[str, ...], Split], ...] = (
    ("astronaut", "skimage", ("data/astronaut.png",), Split.TRAIN),
    ("chelsea", "skimage", ("data/chelsea.png",), Split.TEST),
    ("china", "sklearn", ("datasets/images/china.jpg",), Split.TEST),
    ("coffee", "skimage", ("data/coffee.png",), Split.TRAIN),
    ("flower", "sklearn", ("datasets/images/flower.jpg",), Split.VALIDATION),
    ("hopper", "matplotlib", ("mpl-data/sample_data/grace_hopper.jpg",), Split.TRAIN),
    ("motorcycle", "skimage", ("data/motorcycle_left.png", "data/motorcycle_right.png"), Split.TRAIN),
    ("rocket", "skimage", ("data/rocket.jpg",), Split.TEST),
)


class SceneError(WorkbenchError):
    """A photograph, a folder of photographs or a scene set that cannot be used."""


@dataclass(frozen=True)
class Photograph:
    """One scene given by photographs.

    Attributes:
        scene: the scene's name.
        split: of the scene.
        paths: the files that show it; more than one where they show the same place.
    """

    scene: str
    split: Split
    paths: tuple[Path, ...]


def sample_photographs() -> list[Photograph]:
    """The colour photographs inside the installed packages scikit-image, scikit-learn and matplotlib.

    Files are read where the packages lie; nothing is downloaded. Every split holds at least one.

    Raises:
        SceneError: none of the packages is installed with its sample files.
    """
    found = []
    for name, package, files, split in _SAMPLES:
        spec = importlib.util.find_spec(package)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        paths = tuple(Path(folder) / file for folder in folders for file in files if (Path(folder) / file).is_file())
        if paths:
            found.append(Photograph(name, split, paths))
    if not found:
        raise SceneError("no sample photographs in the installed packages; name a folder of photographs instead")
    return found


def folder_photographs(folder: Path) -> list[Photograph]:
    """Every JPEG and PNG file under a folder, each a scene named by its path, sorted by name.

    Splits are dealt in the order of the names' hashes, about 70 % train, 10 % validation, 20 % test, and with three
    photographs or more every split holds one.

    Raises:
        SceneError: the folder is missing or holds no photograph.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SceneError(f"{folder}: no such folder of photographs")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise SceneError(f"{folder}: holds no photograph ({', '.join(SUFFIXES)})")
    names = _scene_names([p.relative_to(folder) for p in paths])
    splits = deal_splits(names)
    found = [Photograph(n, splits[n], (p,)) for n, p in zip(names, paths, strict=True)]
    return sorted(found, key=lambda p: p.scene)


def deal_splits(names: Sequence[str]) -> dict[str, Split]:
    """A split for each scene name: dealt in the order of the names' SHA-256, so that small sets are not left empty."""
    order = sorted(names, key=lambda n: hashlib.sha256(os.fsencode(n)).hexdigest())
    few = 1 if len(order) >= 3 else 0
    test, validation = (max(few, round(share * len(order))) for share in (0.2, 0.1))
    return {
        n: Split.TEST if i < test else Split.VALIDATION if i < test + validation else Split.TRAIN
        for i, n in enumerate(order)
    }


def _scene_names(relative: Sequence[Path]) -> list[str]:
    """Names fit for files: the path without its suffix, or with it where two would be alike."""

    def clean(text: str) -> str:
        return "".join(c if c.isalnum() or c in "-_" else "_" for c in text)

    short = [clean(p.with_suffix("").as_posix()) for p in relative]
    full = [clean(p.as_posix()) for p in relative]
    # Names that differ in case alone are alike on Windows.
    once = Counter(s.lower() for s in short)
    names = [s if once[s.lower()] == 1 else f for s, f in zip(short, full, strict=True)]
    once = Counter(n.lower() for n in names)
    tags = [hashlib.sha256(os.fsencode(p.as_posix())).hexdigest()[:8] for p in relative]
    return [n if once[n.lower()] == 1 else f"{n}_{tag}" for n, tag in zip(names, tags, strict=True)]


def read_photograph(path: Path) -> np.ndarray:
    """The pixels of a photograph: ``uint8 [H, W, 3]``, turned upright, taken as sRGB whatever its colour profile.

    Raises:
        SceneError: the file is missing, is no image, is transparent, or has a side under 64 or too many pixels.
    """
    data, header = open_photograph(path)
    if min(header.width, header.height) < SHORTEST_SIDE:
        width, height = header.upright_size
        raise SceneError(f"{shown(path)}: {width}×{height} is too small for a scene (sides from {SHORTEST_SIDE})")
    return photograph_pixels(path, data, header)


def open_photograph(path: Path) -> tuple[bytes, PictureHeader]:
    """The bytes of a photograph and its header; not yet its pixels.

    Raises:
        SceneError: the file is missing, is no image, or has too many pixels.
    """
    try:
        data = read_regular(path, _LARGEST_FILE)
    except OSError as error:
        raise SceneError(f"{shown(path)}: cannot read the photograph: {error.strerror}") from error
    try:
        header = read_header(data)
    except FrameError as error:
        raise SceneError(f"{shown(path)}: is not a photograph that can be read") from error
    if header.width * header.height > _MOST_PIXELS:
        raise SceneError(
            f"{shown(path)}: {header.width}×{header.height} is too large for a scene; at most {_MOST_PIXELS:,} pixels"
        )
    return data, header


def photograph_pixels(path: Path, data: bytes, header: PictureHeader, *, turn: bool = True) -> np.ndarray:
    """The pixels of a photograph that was opened: ``uint8 [H, W, 3]``, upright, or as stored.

    Raises:
        SceneError: it cannot be decoded, or is transparent in places.
    """
    try:
        return decode_upright(data, header, turn=turn)
    except FrameError as error:
        raise SceneError(f"{shown(path)}: the photograph {error}") from error


def crop(photograph: np.ndarray, size: tuple[int, int], rng: np.random.Generator, whole: bool = False) -> np.ndarray:
    """A random part of a photograph, resized.

    Args:
        photograph: ``uint8 [H, W, 3]``.
        size: height and width of the result.
        rng: draws place, size (35..100 % of the largest crop of this shape) and flip.
        whole: take the largest crop, in the middle, not flipped.

    Returns:
        ``uint8 [height, width, 3]``.
    """
    height, width = photograph.shape[:2]
    largest = min(height / size[0], width / size[1])
    scale = largest if whole else largest * np.sqrt(rng.uniform(0.35**2, 1))
    h, w = min(round(size[0] * scale), height), min(round(size[1] * scale), width)
    if whole:
        y, x = (height - h) // 2, (width - w) // 2
    else:
        y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    part = photograph[y : y + h, x : x + w]
    if not whole and rng.random() < 0.5:
        part = part[:, ::-1]
    shrinks = h >= size[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(part), (size[1], size[0]), interpolation=method)
