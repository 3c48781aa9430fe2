"""Headerless Bayer dumps: pixels only, described by a sidecar TOML that is checked against the pixels, never guessed.

The sidecar of ``frame.raw`` is ``frame.raw.toml`` or ``frame.toml``::

    width = 1920
    height = 1080
    container = "u16"        # "u8", "u16", or packed as MIPI CSI-2 does: "raw10", "raw12", "raw14"
    endianness = "little"    # "little" or "big"; u16 only
    bits = 12                # significant bits, right-aligned
    cfa = "RGGB"             # or another tile, in reading order: see drivers.cfa
    black_level = 64         # one value, or four in reading order of the 2×2 block
    white_level = 4095
    # optional: offset (bytes before the pixels), iso, exposure_s, as_shot_wb = [red, green, blue],
    # orientation (Exif's 1 to 8: how the scene lies in the pixels; 1 is upright),
    # stride (bytes from one row to the next where rows are padded),
    # knees = [[0, 0], [1024, 1024], [4095, 1048575]] of a companded dump: stored value, linear value

A companded dump is linearised: straight lines between the knees, and both levels are linear values. The frame has 16
bits: where the last knee's value L is above 65535, values and levels are multiplied by 65535 / L and values rounded, so
that of 24 bits steps below 256 are lost in the dark. An ISP that expands by itself is given the dump without ``knees``.

An odd last row or column is left out, as of camera files: a frame has whole 2×2 blocks (4×4 where the CFA's tile is).

Refused for certain: a size that does not agree with the file, values above the bit depth, levels out of range. Refused
where the pixels clearly contradict the sidecar (correlations between neighbours, so noise and flat frames pass): byte
order, row length, and which diagonal of the 2×2 block holds the greens. Red and blue in each other's place cannot be
told from the pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drivers.cfa import KINDS, tile_side
from drivers.errors import FrameError
from drivers.foreign_text import shown
from drivers.frames import RawFrame
from drivers.packing import unpack
from drivers.raw.raw_notes import RawNote
from drivers.raw.sidecar import Sidecar, find_sidecar, passed_over, read_sidecar
from drivers.regular_files import read_regular

_SAMPLE_ROWS = 512
_CLEAR = 0.9  # correlation between neighbours above which a frame shows a picture rather than noise


def load_headerless(path: Path, notes: list[RawNote] | None = None) -> RawFrame:
    """The RAW frame of a headerless dump. An odd last row or column is left out, and noted.

    Raises:
        FrameError: no sidecar, a bad sidecar, or one that does not agree with the pixels.
    """
    path = Path(path)
    name = shown(path)
    sidecar_path = find_sidecar(path)
    sidecar = read_sidecar(sidecar_path)
    size = path.stat().st_size
    wanted = sidecar.size
    if size != wanted:
        told = [f"{sidecar.width}×{sidecar.height} {sidecar.container}"]
        told += [f"in rows of {sidecar.stride} bytes"] if sidecar.stride else []
        told += [f"after {sidecar.offset} bytes"] if sidecar.offset else []
        raise FrameError(
            f"{name}: {size} bytes, but {shown(sidecar_path.name)} says {' '.join(told)} = {wanted} bytes; "
            f"correct width, height, container{', stride' if sidecar.stride else ''} or offset"
        )
    try:
        data = read_regular(path, wanted)
    except OSError as error:
        raise FrameError(f"{name}: cannot read the RAW file: {error.strerror or error}") from error
    if len(data) != wanted:
        raise FrameError(f"{name}: had {size} bytes and then {len(data)}; wait until it is copied")
    stored = _stored(data, sidecar)
    if notes is not None and (other := passed_over(path)) is not None:
        text = f"{shown(sidecar_path.name)} describes it; {shown(other.name)} says otherwise and does not count"
        notes.append(RawNote("two_sidecars", text))
    side = tile_side(sidecar.cfa)
    height, width = sidecar.height // side * side, sidecar.width // side * side
    if notes is not None and stored.shape != (height, width):
        text = f"odd size {sidecar.width}×{sidecar.height}: cut to {width}×{height}, whole {side}×{side} blocks"
        notes.append(RawNote("odd_size", text))
    stored = np.array(stored[:height, :width], dtype=np.uint16, order="C")
    _check_values(stored, sidecar, name, shown(sidecar_path.name))
    mosaic = sidecar.linear(stored)
    _check_pixels(mosaic, stored, sidecar, name, shown(sidecar_path.name))
    if notes is not None and sidecar.scale > 1:
        text = f"linear values up to {sidecar.knees[-1][1]} in 16 bits: one step is {sidecar.scale:.4g} of them"  # type: ignore[index]
        notes.append(RawNote("companded", text))
    return RawFrame(
        mosaic=mosaic,
        cfa=sidecar.cfa,
        black_level=sidecar.black_levels,
        white_level=sidecar.white,
        iso=sidecar.iso,
        exposure_s=sidecar.exposure_s,
        as_shot_wb=sidecar.as_shot_wb,
        source=name,
        orientation=sidecar.orientation,
    )


def _stored(data: bytes, sidecar: Sidecar) -> np.ndarray:
    """The stored values, ``[H, W]`` of the sidecar's size."""
    pixels = np.frombuffer(data, np.uint8, offset=sidecar.offset)
    rows = pixels.reshape(sidecar.height, sidecar.stride or sidecar.row_bytes)[:, : sidecar.row_bytes]
    if sidecar.container == "u8":
        return rows
    if sidecar.container == "u16":
        return rows.view(">u2" if sidecar.endianness == "big" else "<u2")
    return unpack(rows, sidecar.packing, sidecar.width)


def _check_values(mosaic: np.ndarray, sidecar: Sidecar, path: str, name: str) -> None:
    """No value beyond the bit depth."""
    largest = int(mosaic.max())
    if largest > sidecar.largest:
        shift = 16 - sidecar.bits
        if sidecar.container == "u16" and int(mosaic.byteswap().max()) <= sidecar.largest:
            other = "little" if sidecar.endianness == "big" else "big"
            hint = f'endianness = "{other}" would fit'
        elif not np.any(mosaic & ((1 << shift) - 1)):
            hint = f"the pixels look left-aligned: say bits = 16 and multiply both levels by {1 << shift}"
        else:
            hint = f"correct bits (at least {largest.bit_length()}) or endianness"
        raise FrameError(
            f"{path}: holds the value {largest}, above {sidecar.largest} that bits = {sidecar.bits} in {name} allows; "
            f"{hint}"
        )


def _check_pixels(mosaic: np.ndarray, stored: np.ndarray, sidecar: Sidecar, path: str, name: str) -> None:
    below = np.mean(mosaic < min(sidecar.black_levels))
    if below > 0.9:
        raise FrameError(
            f"{path}: {100 * below:.0f} % of the pixels lie below black_level = {min(sidecar.black_levels):g} "
            f"of {name} (their mean is {mosaic.mean():.0f}); correct black_level or endianness"
        )
    sample = _middle(stored)
    if sidecar.container in ("u8", "u16"):
        _check_container(sample, sidecar, path, name)
    if KINDS[sidecar.cfa] != "bayer":  # elsewhere neighbours of one colour lie otherwise
        return
    _check_row_length(sample, sidecar, path, name)
    _check_green_diagonal(_middle(mosaic), sidecar, path, name)


def _check_container(sample: np.ndarray, sidecar: Sidecar, path: str, name: str) -> None:
    """Byte order, and 8 bits taken for 16 or 16 for 8."""
    across = _across(sample)
    if sidecar.container == "u16":
        swapped = sample.byteswap()
        closer = _clearly_closer(_across(swapped), across)
        shallow = int(sample.max()) > 4095 >= int(swapped.max()) > 255  # up to 12 bits, spread over both ends of 16
        if closer and (across < 0.8 or shallow):
            other = "little" if sidecar.endianness == "big" else "big"
            raise FrameError(
                f'{path}: neighbours do not match as endianness = "{sidecar.endianness}" of {name} reads them; '
                f'"{other}" fits'
            )
        low, high = sample & 255, sample >> 8
        many = len(np.unique(high)) > 64  # with fewer, two shades can look alike in both bytes
        if many and _across(low) > _CLEAR and _correlation(low, high) > _CLEAR:
            raise FrameError(
                f'{path}: both bytes of a pixel show the picture; container = "u8" fits, not "u16" of {name}'
            )
        return
    halves = [sample[:, 0::2], sample[:, 1::2]]
    for low, high in (halves, halves[::-1]):
        pixels = (high.astype(np.uint16) << 8) | low
        if low.std() > 50 and _across(low) < 0.8 and _clearly_closer(_across(pixels), _across(low), times=10):
            raise FrameError(f'{path}: every other byte is no picture; container = "u16" fits, not "u8" of {name}')


def _check_row_length(sample: np.ndarray, sidecar: Sidecar, path: str, name: str) -> None:
    """Rows cut at the wrong length do not match their neighbours, and some other length does."""
    # Where an odd column was cut off, the rows no longer follow each other as they are stored.
    if sidecar.width % 2 or sample.shape[0] < 4 or not _across(sample) > _CLEAR:
        return
    row = _row_length(sample, sidecar.width * sidecar.height)
    if row is not None and row != sidecar.width:
        raise FrameError(
            f"{path}: rows do not match their neighbours as width = {sidecar.width} of {name} cuts them; "
            f"they look {row} pixels long: correct width and height"
        )


def _check_green_diagonal(sample: np.ndarray, sidecar: Sidecar, path: str, name: str) -> None:
    """The two greens see the same light, so they match each other better than red matches blue."""
    if not _across(sample) > _CLEAR:
        return
    quads = [sample[y::2, x::2].astype(np.float64) - sidecar.black_levels[2 * y + x] for y in (0, 1) for x in (0, 1)]
    pairs = {"GRBG or GBRG": (quads[0], quads[3]), "RGGB or BGGR": (quads[1], quads[2])}
    declared = "GRBG or GBRG" if sidecar.cfa in ("GRBG", "GBRG") else "RGGB or BGGR"
    other = next(k for k in pairs if k != declared)
    difference = {k: np.abs(a - b).sum() / max(np.abs(a).sum() + np.abs(b).sum(), 1.0) for k, (a, b) in pairs.items()}
    closer = _clearly_closer(_correlation(*pairs[other]), _correlation(*pairs[declared]), times=2)
    if closer and difference[declared] > 1.5 * difference[other]:
        raise FrameError(
            f"{path}: the two green positions of cfa = {sidecar.cfa!r} in {name} differ more "
            f"({200 * difference[declared]:.0f} %) than the other two do ({200 * difference[other]:.0f} %); "
            f"the pixels look like {other}"
        )


def _middle(mosaic: np.ndarray) -> np.ndarray:
    start = max(0, (mosaic.shape[0] - _SAMPLE_ROWS) // 4 * 2)
    return np.ascontiguousarray(mosaic[start : start + _SAMPLE_ROWS])


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation; 0 where one of the two is flat."""
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    x -= x.mean()
    y -= y.mean()
    scale = float(np.sqrt(np.dot(x, x) * np.dot(y, y)))
    return float(np.dot(x, y)) / scale if scale > 0 else 0.0


def _clearly_closer(one: float, other: float, times: float = 4) -> bool:
    """Whether ``one`` shows a picture and ``other`` misses a perfect match by ``times`` as much."""
    return one > _CLEAR and 1 - other > times * max(1 - one, 1e-3)


def _across(a: np.ndarray) -> float:
    return _correlation(a[:, 2:], a[:, :-2])


def _row_length(sample: np.ndarray, count: int) -> int | None:
    """Length of a row as the pixels show it, or None where they show none more clearly than the declared one.

    Two pixels summed hold a green and one other, so the sums of one row match those of the next; flattened, they match
    themselves best at a lag of one row. A lag is believed only where it divides the file's ``count`` of pixels, misses
    a perfect match by half of what the declared row misses, and no picture that repeats itself explains it.
    """
    width = sample.shape[1]
    sums = sample.astype(np.float64).reshape(-1, 2).sum(axis=1)
    if _two_rows_side_by_side(sums.reshape(sample.shape[0], width // 2), sample):
        result: int | None = width // 2
        return result
    sums -= sums.mean()
    match = np.fft.irfft(np.abs(np.fft.rfft(sums, 2 * len(sums))) ** 2)[: len(sums) // 2]
    match = match / np.arange(len(sums), len(sums) - len(match), -1)
    if not match[0] > 0 or not width // 2 < len(match):
        return None
    match = match / match[0]
    start = int(np.argmax(match < 0.5))  # past the peak at no lag
    if not start:
        return None
    lag = start + int(np.argmax(match[start:]))
    if not match[lag] > 0.8 or not 1 - match[width // 2] > 2 * (1 - match[lag]):
        return None
    half = lag // 2 - 1 + int(np.argmax(match[lag // 2 - 1 : lag // 2 + 2]))
    if half > start and abs(2 * half - lag) <= 1 and match[half] > 0.8 * match[lag] and 2 * half != width:
        lag = half  # the best match was that of the row after next, whose colours are the same
    if lag % (width // 2) == 0:
        return None  # whole rows further down match as well: the same colours, or a pattern that repeats
    first = start + int(np.argmax(match[start:] > 0.8 * match[lag]))
    repeats = first < 0.9 * lag
    return None if repeats or count % (2 * lag) else 2 * lag


def _two_rows_side_by_side(sums: np.ndarray, sample: np.ndarray) -> bool:
    """Whether a row's two halves show the same line, with a step between them, and lines further down another."""
    middle = sums.shape[1] // 2
    left, right = sums[:, :middle], sums[:, middle : 2 * middle]
    alike = _correlation(left, right)
    step = sample[:, 2 * middle - 2 : 2 * middle], sample[:, 2 * middle : 2 * middle + 2]
    return (
        sums.shape[0] > 16
        and alike > _CLEAR
        and abs(left.mean() - right.mean()) < 0.3 * left.std()
        and _correlation(*step) < 0.5
        and _clearly_closer(alike, _correlation(left[8:], left[:-8]), times=2)
    )
