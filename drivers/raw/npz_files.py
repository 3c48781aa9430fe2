"""The bench's own RAW file, ``.npz``: what it claims to hold is read and bounded before memory is taken."""

from __future__ import annotations

import dataclasses
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from drivers.errors import FrameError
from drivers.foreign_text import shown
from drivers.frames import MAX_BURST, MAX_SIDE, RawFrame
from drivers.orientation import UPRIGHT

REQUIRED = {"mosaic", "cfa", "black_level", "white_level"}
KNOWN_OR_NOT = {"iso", "exposure_s", "as_shot_wb", "colour_matrix"}
_OPTIONAL = KNOWN_OR_NOT | {"orientation", "earlier"}
_MOST_OF_A_VALUE = 64 << 10
_UNPACKED = 64 << 20
_MOST_RATIO = 100  # of a mosaic's size to its compressed size, above _UNPACKED; camera noise leaves 2 to 10


def read_npz(path: Path) -> RawFrame:
    """The RAW frame of an ``.npz`` file of :func:`~drivers.raw.raw_files.save_npz`, its values not looked at.

    Raises:
        FrameError: damaged, another content, or larger than a RAW frame can be.
    """
    name = shown(path)
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = _members(archive, name)
            arrays = {key: _array(archive, member, key, name) for key, member in members.items()}
    except (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise FrameError(f"{name}: damaged or not an .npz of a RAW frame ({_reason(error)}); save it again") from error
    except (NotImplementedError, RuntimeError) as error:  # zipfile: another compression, encryption
        raise FrameError(f"{name}: damaged or not an .npz of a RAW frame ({_reason(error)}); save it again") from error
    earlier = arrays.pop("earlier", None)
    metadata: dict[str, Any] = {key: array.tolist() for key, array in arrays.items() if key != "mosaic"}
    if not isinstance(metadata["black_level"], list):
        metadata["black_level"] = [metadata["black_level"]] * 4
    for key in KNOWN_OR_NOT | {"white_level", "black_level"}:
        if not _is_numbers(metadata.get(key)):
            raise FrameError(f"{name}: {key} is {_short(metadata[key])}, not a number; save it again")
    white = metadata["white_level"]
    if isinstance(white, float) and not white.is_integer():
        raise FrameError(f"{name}: white_level is {white:g}, not a whole number of DN; save it again")
    if not isinstance(metadata["cfa"], str) or len(metadata["cfa"]) > 16:
        raise FrameError(f"{name}: cfa is {_short(metadata['cfa'])}, not a text such as 'RGGB'; save it again")
    orientation = metadata.pop("orientation", UPRIGHT)
    frame = RawFrame.from_metadata(arrays["mosaic"], metadata, source=name)
    return dataclasses.replace(frame, orientation=orientation, earlier=earlier)


def _members(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if len(members) < len(archive.infolist()):
        names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
        twice = next(key for key in names if names.count(key) > 1)
        raise FrameError(f"{name}: {_short(twice)} stands in it twice, one would be passed over; save it again")
    if missing := REQUIRED - members.keys():
        raise FrameError(f"{name}: no {', '.join(sorted(missing))} in it; a RAW frame needs {_key_list()}")
    if odd := sorted(members.keys() - REQUIRED - _OPTIONAL):
        raise FrameError(f"{name}: unknown key {_short(odd[0])} in it; a RAW frame has {_key_list()}")
    return members


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, key: str, name: str) -> np.ndarray:
    """One array, whose header must agree with the size that the archive states."""
    with archive.open(member) as file:
        shape, dtype = _header(file)  # type: ignore[arg-type]
        wanted = math.prod(shape) * dtype.itemsize
        if dtype.hasobject:
            raise FrameError(f"{name}: {key} holds Python objects, which are not read; save plain numbers")
        if key in ("mosaic", "earlier"):
            if dtype != np.uint16 or len(shape) != (2 if key == "mosaic" else 3):
                form = "[H, W]" if key == "mosaic" else "[N, H, W]"
                raise FrameError(f"{name}: {key} must be uint16 {form}, not {dtype} {list(shape)}")
            if max(shape) > MAX_SIDE or (len(shape) == 3 and shape[0] >= MAX_BURST):
                told = f"{key} of {shape[-1]}×{shape[-2]} pixels"
                raise FrameError(f"{name}: {told}, a side has at most {MAX_SIDE}, a burst {MAX_BURST} frames")
        elif wanted > _MOST_OF_A_VALUE:
            raise FrameError(f"{name}: {key} has {wanted:,} bytes, which is no such value; save it again")
        if not 0 <= member.file_size - wanted <= _MOST_OF_A_VALUE:
            raise FrameError(
                f"{name}: damaged: {key} claims {'×'.join(map(str, shape)) or 'one'} {shown(dtype)}, the archive holds "
                f"{member.file_size:,} bytes of it; save it again"
            )
        if wanted > max(_UNPACKED, _MOST_RATIO * member.compress_size):
            raise FrameError(
                f"{name}: {key} of {shape[-1]}×{shape[-2]} pixels in {member.compress_size:,} bytes, which no camera's "
                "noise allows; it is not unpacked"
            )
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):
            raise ValueError(f"bytes left over after {key}")
    return array


def _header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"array format {version}")
    if any(side < 0 for side in shape):
        raise ValueError(f"shape {shape}")
    return shape, dtype


def _is_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_numbers, value))
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _key_list() -> str:
    return f"{', '.join(sorted(REQUIRED))} and, where known, {', '.join(sorted(_OPTIONAL))}"


def _short(value: object) -> str:
    text = shown(value if isinstance(value, str) else repr(value))
    return text if len(text) <= 60 else text[:57] + "…"


def _reason(error: BaseException) -> str:
    return shown((str(error).splitlines() or [type(error).__name__])[0])[:200]
