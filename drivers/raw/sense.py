"""Looks at a RAW's values once: a file may have the right form and still hold half a picture, or levels of another.

Dark frames, flat fields and test patterns pass: what is refused contradicts the rest of the same frame.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.raw.colour_matrix import inverse_of
from drivers.raw.raw_notes import RawNote

_FEWEST_ROWS = 4
_SHARE_OF_ROWS = 50  # of a frame's rows one in so many
_FULL = 65535
_SUMS_ALIKE = 0.02


def look_at(raw: RawFrame, notes: list[RawNote]) -> None:
    """Refuse a frame that is not whole or whose levels are not its own; note what is only unusual.

    Of a burst each frame is looked at.

    Raises:
        FrameError: rows that follow each other all hold one value while the rest is a picture; nearly all pixels lie
            below black; many lie far above white; the colour matrix has no inverse.
    """
    for number, frame in enumerate(frames := raw.burst, 1):
        if number < len(frames):
            frame = replace(frame, source=f"{raw.source or 'RAW frame'}: frame {number} of {len(frames)}")
        _check_rows(frame)
        _check_levels(frame, notes)
    _check_metadata(raw, notes)
    if raw.colour_matrix is not None:
        inverse_of(raw.colour_matrix, raw.source)


def _check_rows(raw: RawFrame) -> None:
    """A copy that was broken off, or has a hole, leaves rows of one value, where a sensor has noise.

    Of lossless JPEG, which tells each pixel by its neighbour of the same colour, they have two values in turn.
    """
    flat = (raw.mosaic[:, 2:] == raw.mosaic[:, :-2]).all(axis=1)
    if flat.all() or not flat.any():
        return
    height, black = raw.height, min(raw.black_level)
    first_two = raw.mosaic[:, :2]
    share = max(_FEWEST_ROWS, height // _SHARE_OF_ROWS)
    for first, end in _runs_alike(first_two, flat):
        rows, values = end - first, first_two[first]
        below, at_edge = values.max() <= black - 1, first == 0 or end == height
        # Between other rows nothing is that dark; at an edge a camera may leave some that it does not read.
        if rows < (_FEWEST_ROWS if below and not at_edge else share) or _saturated(int(values.min()), raw):
            continue
        # A frame with flat rows elsewhere too (drawn, or black without noise) may well have these, a hole another hole.
        elsewhere = flat & (first_two != values).any(axis=1) if below else flat
        if np.mean(np.delete(elsewhere, slice(first, end))) < 0.1:
            where = f"{'first' if first == 0 else 'last'} {rows} of {height} rows"
            if not at_edge:
                where = f"rows {first} to {end - 1} of {height}"
            raise FrameError(
                f"{raw.source or 'RAW frame'}: its {where} hold nothing but "
                f"{' and '.join(map(str, dict.fromkeys(values.tolist())))} while the rest is a picture: the file is "
                "not whole; copy it again from the camera"
            )


def _runs_alike(first_two: np.ndarray, flat: np.ndarray) -> list[tuple[int, int]]:
    """First row and row after the last of each run of flat rows that begin with the same two values."""
    goes_on = flat[:-1] & flat[1:] & (first_two[1:] == first_two[:-1]).all(axis=1)
    starts = np.flatnonzero(flat & ~np.r_[False, goes_on])
    ends = np.flatnonzero(flat & ~np.r_[goes_on, False]) + 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _saturated(value: int, raw: RawFrame) -> bool:
    """Whether a value is white: a bright sky has rows of it."""
    return value >= 0.9 * raw.white_level and not (value == _FULL and raw.white_level < _FULL // 2)


def _check_levels(raw: RawFrame, notes: list[RawNote]) -> None:
    name = raw.source or "RAW frame"
    black, white = min(raw.black_level), raw.white_level
    below = float(np.mean(raw.mosaic < black))
    if below > 0.9:
        mean = float(raw.mosaic.mean())
        if mean < black - 0.02 * (white - black):
            raise FrameError(
                f"{name}: {100 * below:.0f} % of the pixels lie below its black level {black:g} (their mean is "
                f"{mean:.0f}); correct the black level"
            )
        notes.append(RawNote("below_black", f"{100 * below:.0f} % of the pixels lie below the black level {black:g}"))
    above = float(np.mean(raw.mosaic > white + 0.25 * (white - black)))
    if above > 0.1:
        raise FrameError(
            f"{name}: {100 * above:.0f} % of the pixels lie far above its white level {white} (the brightest at "
            f"{int(raw.mosaic.max())}); correct the white level"
        )
    if above > 0.001:
        text = f"{100 * above:.1f} % of the pixels lie far above the white level {white}"
        notes.append(RawNote("above_white", text))


def _check_metadata(raw: RawFrame, notes: list[RawNote]) -> None:
    gains = raw.as_shot_wb
    if gains is not None and not all(1 / 16 <= gain <= 16 for gain in gains):
        text = f"as-shot white balance {' '.join(f'{g:g}' for g in gains)} is beyond 1/16 to 16; is it right?"
        notes.append(RawNote("odd_white_balance", text))
    if gains is not None and abs(gains[1] - 1) > 0.001:
        text = f"as-shot white balance {' '.join(f'{g:g}' for g in gains)}: devices take green to be 1; divide by it"
        notes.append(RawNote("green_gain", text))
    if raw.exposure_s is not None and not 1e-6 <= raw.exposure_s <= 3600:
        notes.append(RawNote("odd_exposure", f"exposure time {raw.exposure_s:g} s is beyond 1 µs to 1 h; is it right?"))
    if raw.iso is not None and not 1 <= raw.iso <= 10_000_000:
        notes.append(RawNote("odd_iso", f"ISO {raw.iso:g} is beyond 1 to 10,000,000; is it right?"))
    if raw.colour_matrix is not None and np.abs(sums := np.sum(raw.colour_matrix, axis=1) - 1).max() > _SUMS_ALIKE:
        told = " ".join(f"{1 + v:.3g}" for v in sums)
        text = (
            f"the rows of its colour matrix sum to {told}, not to 1, so white does not stay white; is it that from "
            "white-balanced camera RGB to linear sRGB?"
        )
        notes.append(RawNote("odd_colour_matrix", text))
