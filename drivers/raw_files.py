"""RAW files: camera files through LibRaw, the bench's own ``.npz``, and headerless Bayer dumps with a sidecar."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.orientation import UPRIGHT
from drivers.raw_notes import RawNote

CAMERA_SUFFIXES = frozenset(
    f".{kind}"
    for kind in (
        *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "iiq", "k25", "kdc", "mef", "mos", "mrw", "nef"),
        *("nrw", "orf", "pef", "raf", "rw2", "sr2", "srf", "srw"),
    )
)
HEADERLESS_SUFFIXES = frozenset({".raw", ".bin"})
NPZ_SUFFIX = ".npz"
RAW_SUFFIXES = CAMERA_SUFFIXES | HEADERLESS_SUFFIXES | {NPZ_SUFFIX}

_REQUIRED = {"mosaic", "cfa", "black_level", "white_level"}
_KNOWN_OR_NOT = {"iso", "exposure_s", "as_shot_wb", "colour_matrix"}
_OPTIONAL = _KNOWN_OR_NOT | {"orientation"}


def load_raw(path: Path, notes: list[RawNote] | None = None) -> RawFrame:
    """The RAW frame in a file; the suffix (upper or lower case) says which kind.

    Args:
        path: a camera file (``CAMERA_SUFFIXES``), an ``.npz`` of :func:`save_npz`, or a headerless dump (``.raw``,
            ``.bin``) with its sidecar ``FILE.toml`` beside it (see :mod:`drivers.headerless`).
        notes: gets what is worth telling of the file: where its own tags and LibRaw disagree, values that look odd.

    Raises:
        FrameError: missing, empty, damaged, not a Bayer file, or not what its sidecar says.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in RAW_SUFFIXES:
        known = " ".join(sorted(RAW_SUFFIXES))
        raise FrameError(f"{path}: {suffix or 'a file without suffix'} is not a RAW kind; readable are {known}")
    _check_file(path)
    if suffix == NPZ_SUFFIX:
        return _load_npz(path)
    if suffix in HEADERLESS_SUFFIXES:
        from drivers.headerless import load_headerless

        return load_headerless(path)
    from drivers.camera_files import load_camera_file

    return load_camera_file(path, notes=notes)


def companions(path: Path) -> list[Path]:
    """The other files that :func:`load_raw` reads for a RAW file: the sidecar of a headerless dump, else none.

    Raises:
        FrameError: a headerless dump has no sidecar.
    """
    if path.suffix.lower() not in HEADERLESS_SUFFIXES:
        return []
    from drivers.headerless import find_sidecar

    return [find_sidecar(path)]


def save_npz(path: Path, raw: RawFrame) -> None:
    """Write a RAW frame as ``.npz``: whole or not at all, the same bytes for the same frame.

    Keys: ``mosaic`` (uint16 [H, W]), ``cfa``, ``black_level`` (4), ``white_level``, and where known ``iso``,
    ``exposure_s``, ``as_shot_wb`` (3), ``colour_matrix`` (3×3), and ``orientation`` where it is not 1; as in
    :class:`~drivers.frames.RawFrame`.

    Raises:
        FrameError: the name does not end in ``.npz``.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != NPZ_SUFFIX:
        raise FrameError(f"{path}: a RAW frame is saved as {NPZ_SUFFIX}, not {path.suffix or 'without suffix'}")
    arrays: dict[str, Any] = {"mosaic": np.ascontiguousarray(raw.mosaic)}
    for key in ("cfa", "black_level", "white_level", *sorted(_KNOWN_OR_NOT)):
        if raw.metadata[key] is not None:
            arrays[key] = np.array(raw.metadata[key])
    if raw.orientation != UPRIGHT:
        arrays["orientation"] = np.array(raw.orientation)
    handle, partial = tempfile.mkstemp(prefix=path.name + ".", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(partial).unlink()
        raise


def _load_npz(path: Path) -> RawFrame:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise FrameError(f"{path}: not an .npz archive; save it with numpy.savez")
        with loaded as file:
            keys = set(file.files)
            if missing := _REQUIRED - keys:
                raise FrameError(f"{path}: no {', '.join(sorted(missing))} in it; a RAW frame needs {_key_list()}")
            if odd := keys - _REQUIRED - _OPTIONAL:
                raise FrameError(f"{path}: unknown key {', '.join(sorted(odd))}; a RAW frame has {_key_list()}")
            arrays = {key: file[key] for key in keys}
    except (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise FrameError(f"{path}: damaged or not an .npz of a RAW frame ({_reason(error)}); save it again") from error
    except (NotImplementedError, RuntimeError) as error:  # zipfile: another compression, encryption
        raise FrameError(f"{path}: damaged or not an .npz of a RAW frame ({_reason(error)}); save it again") from error
    metadata = {key: array.tolist() for key, array in arrays.items() if key != "mosaic"}
    if not isinstance(metadata["black_level"], list):
        metadata["black_level"] = [metadata["black_level"]] * 4
    orientation = metadata.pop("orientation", UPRIGHT)
    frame = RawFrame.from_metadata(arrays["mosaic"], metadata, source=str(path))
    return dataclasses.replace(frame, orientation=orientation)


def _key_list() -> str:
    return f"{', '.join(sorted(_REQUIRED))} and, where known, {', '.join(sorted(_OPTIONAL))}"


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise FrameError(f"{path}: is a folder; name a RAW file in it")
        if path.stat().st_size == 0:
            raise FrameError(f"{path}: the file is empty (0 bytes); copy it again")
        with path.open("rb"):
            pass
    except OSError as error:
        raise FrameError(f"{path}: cannot read the RAW file: {error.strerror or error}") from error


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
