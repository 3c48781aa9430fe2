"""RAW files: camera files through LibRaw, the bench's own ``.npz``, and headerless Bayer dumps with a sidecar."""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from drivers.atomic_files import written
from drivers.errors import FrameError
from drivers.foreign_text import shown
from drivers.frames import RawFrame
from drivers.orientation import UPRIGHT
from drivers.raw.npz_files import KNOWN_OR_NOT, read_npz
from drivers.raw.raw_notes import RawNote
from drivers.raw.sense import look_at

CAMERA_SUFFIXES = frozenset(
    f".{kind}"
    for kind in (
        # What LibRaw opens; a file of another sensor (X3F, three layers) is refused with its reason.
        *("3fr", "ari", "arw", "bay", "bmq", "cap", "cine", "cr2", "cr3", "crw", "cs1", "dc2", "dcr", "dcs", "dng"),
        *("drf", "dsc", "eip", "erf", "fff", "gpr", "iiq", "k25", "kc2", "kdc", "mdc", "mef", "mos", "mrw", "nef"),
        *("nrw", "obm", "orf", "pef", "ptx", "pxn", "qtk", "raf", "rdc", "rw1", "rw2", "rwl", "rwz", "sr2", "srf"),
        *("srw", "sti", "x3f"),
    )
)
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
HEADERLESS_SUFFIXES = frozenset({".raw", ".bin"})
NPZ_SUFFIX = ".npz"
_CAMERA_STARTS = (b"II*\0", b"MM\0*", b"IIU\0")
RAW_SUFFIXES = CAMERA_SUFFIXES | TIFF_SUFFIXES | HEADERLESS_SUFFIXES | {NPZ_SUFFIX}


def load_raw(path: Path, notes: list[RawNote] | None = None) -> RawFrame:
    """The RAW frame in a file; the suffix (upper or lower case) says which kind.

    Args:
        path: a camera file (``CAMERA_SUFFIXES``), an ``.npz`` of :func:`save_npz`, or a headerless dump (``.raw``,
            ``.bin``) with its sidecar ``FILE.toml`` beside it (see :mod:`drivers.raw.headerless`).
        notes: gets what is worth telling of the file: where its own tags and LibRaw disagree, values that look odd.

    Raises:
        FrameError: missing, empty, damaged, not whole, changed meanwhile, not a Bayer file, or not what its sidecar
            says.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in RAW_SUFFIXES:
        known = " ".join(sorted(RAW_SUFFIXES))
        kind = shown(suffix) or "a file without suffix"
        raise FrameError(f"{shown(path)}: {kind} is not a RAW kind; readable are {known}")
    before = _check_file(path)
    told: list[RawNote] = []
    if suffix == NPZ_SUFFIX:
        frame = read_npz(path)
    elif _is_headerless(path):
        from drivers.raw.headerless import load_headerless

        frame = load_headerless(path, told)
    else:
        from drivers.raw.camera_files import load_camera_file

        frame = load_camera_file(path, notes=told)
    if _check_file(path) != before:  # its tags may be those of one file, its pixels another's
        raise FrameError(f"{shown(path)}: was changed while it was read; wait until it is whole, then read it again")
    look_at(frame, told)
    if notes is not None:
        notes += told
    return frame


def is_raw_file(path: Path) -> bool:
    """Whether a file of a folder is to be taken as a RAW: by its suffix, a TIFF only if it holds a mosaic."""
    suffix = path.suffix.lower()
    if suffix not in TIFF_SUFFIXES:
        return suffix in RAW_SUFFIXES
    from drivers.raw.tiff_tags import read_tags

    try:
        _check_file(path)
        with path.open("rb") as file:
            tags = read_tags(file)
    except (OSError, FrameError):
        return False
    return tags is not None and bool(tags.mosaics)


def companions(path: Path) -> list[Path]:
    """The other files that :func:`load_raw` reads for a RAW file: the sidecar of a headerless dump, else none.

    Raises:
        FrameError: a headerless dump has no sidecar.
    """
    if not _is_headerless(path):
        return []
    from drivers.raw.sidecar import find_sidecar

    return [find_sidecar(path)]


def save_npz(path: Path, raw: RawFrame) -> None:
    """Write a RAW frame as ``.npz``: whole or not at all, the same bytes for the same frame.

    Keys: ``mosaic`` (uint16 [H, W]), ``cfa``, ``black_level`` (4), ``white_level``, and where known ``iso``,
    ``exposure_s``, ``as_shot_wb`` (3), ``colour_matrix`` (3×3), ``orientation`` where it is not 1, and ``earlier``
    (uint16 [N, H, W]) of a burst; as in :class:`~drivers.frames.RawFrame`.

    Raises:
        FrameError: the name does not end in ``.npz``.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != NPZ_SUFFIX:
        raise FrameError(f"{path}: a RAW frame is saved as {NPZ_SUFFIX}, not {path.suffix or 'without suffix'}")
    with written(path) as file:
        _save(file, raw)


def npz_bytes(raw: RawFrame) -> bytes:
    """What :func:`save_npz` writes."""
    file = io.BytesIO()
    _save(file, raw)
    return file.getvalue()


def _save(file: BinaryIO, raw: RawFrame) -> None:
    arrays: dict[str, Any] = {"mosaic": np.ascontiguousarray(raw.mosaic)}
    for key in ("cfa", "black_level", "white_level", *sorted(KNOWN_OR_NOT)):
        if raw.metadata[key] is not None:
            arrays[key] = np.array(raw.metadata[key])
    if raw.orientation != UPRIGHT:
        arrays["orientation"] = np.array(raw.orientation)
    if raw.earlier is not None:
        arrays["earlier"] = np.ascontiguousarray(raw.earlier)
    np.savez(file, allow_pickle=False, **arrays)


def _is_headerless(path: Path) -> bool:
    """Whether a file is a dump of pixels: some cameras write files of their own under ``.raw`` (as a TIFF)."""
    if path.suffix.lower() not in HEADERLESS_SUFFIXES:
        return False
    from drivers.raw.sidecar import has_sidecar

    if has_sidecar(path):
        return True
    try:
        _check_file(path)
        with path.open("rb") as file:
            return file.read(4) not in _CAMERA_STARTS
    except (OSError, FrameError):
        return True


def _check_file(path: Path) -> tuple[int, int, int]:
    """What tells the file at that path from another one: inode, size, time of change in ns."""
    name = shown(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise FrameError(f"{name}: is a folder; name a RAW file in it")
        if not stat.S_ISREG(status.st_mode):
            raise FrameError(f"{name}: is no regular file (a pipe or a device); save the RAW as a file")
        if status.st_size == 0:
            raise FrameError(f"{name}: the file is empty (0 bytes); copy it again")
        with path.open("rb"):
            return status.st_ino, status.st_size, status.st_mtime_ns
    except OSError as error:
        raise FrameError(f"{name}: cannot read the RAW file: {error.strerror or error}") from error
    except ValueError as error:  # a zero byte in the name
        raise FrameError(f"{name}: cannot read the RAW file: no file can have that name") from error
