"""DNG files of any tags, byte order and layout, made by hand for the tests."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL, FLOAT, DOUBLE = 1, 2, 3, 4, 5, 10, 11, 12
_LETTERS = {1: "B", 2: "B", 3: "H", 4: "I", 5: "I", 7: "B", 9: "i", 10: "i", 11: "f", 12: "d"}

Tags = Mapping[int, tuple[int, Sequence[float] | bytes | str] | None]

MATRIX = (0.6, -0.1, -0.1, -0.4, 1.2, 0.2, -0.1, 0.2, 0.6)
"""XYZ to camera RGB of the camera that no table knows."""

LIGHT = {"R": 400, "G": 800, "B": 200}
"""DN above black of :func:`flat`."""


def flat(black: object = 64, cfa: str = "RGGB", height: int = 48, width: int = 64) -> np.ndarray:
    """A flat field, ``float64 [H, W]``: red 400, green 800 and blue 200 DN above a black level that is tiled."""
    tile = np.atleast_2d(np.asarray(black, dtype=np.float64))
    light = np.array([LIGHT[c] for c in cfa]).reshape(2, 2)
    pixels: np.ndarray = _tiled(light, height, width) + _tiled(tile, height, width)
    return pixels


def _tiled(tile: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.tile(tile, (-(-height // tile.shape[0]), -(-width // tile.shape[1])))[:height, :width]


def made_dng(
    pixels: np.ndarray,
    tags: Tags | None = None,
    exif: Tags | None = None,
    *,
    order: str = "<",
    sub: bool = False,
    dtype: str = "u2",
    cfa: str = "RGGB",
    times: int = 1,
) -> bytes:
    """The bytes of a DNG.

    Args:
        pixels: ``[H, W]``; stored as ``dtype``.
        tags: tags of the first directory, over the usual ones; None leaves one out.
        exif: tags of the Exif directory.
        order: ``<`` or ``>``.
        sub: put what belongs to the pixels into a sub-directory, a small thumbnail before it.
        dtype: how a pixel is stored, NumPy's name without byte order.
        cfa: the pattern that the file states.
        times: how many sub-directories say that they are those pixels.
    """
    height, width = pixels.shape
    with np.errstate(over="ignore"):  # infinite is one of the values that are tried
        data = np.ascontiguousarray(pixels).astype(order + dtype).tobytes()
    wanted: dict[int, tuple[int, Sequence[float] | bytes | str] | None] = {
        254: (LONG, [0]),
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [8 * np.dtype(dtype).itemsize]),
        259: (SHORT, [1]),
        262: (SHORT, [32803]),
        271: (ASCII, "Acme"),
        272: (ASCII, "One"),
        273: (LONG, [8]),
        274: (SHORT, [1]),
        277: (SHORT, [1]),
        278: (LONG, [height]),
        279: (LONG, [len(data)]),
        33421: (SHORT, [2, 2]),
        33422: (BYTE, ["RGB".index(c) for c in cfa]),
        50706: (BYTE, [1, 4, 0, 0]),
        50708: (ASCII, "Acme One"),
        50713: (SHORT, [1, 1]),
        50714: (RATIONAL, [64]),
        50717: (LONG, [4095]),
        50721: (SRATIONAL, MATRIX),
        50728: (RATIONAL, [0.5, 1, float(Fraction(2, 3))]),
        50778: (SHORT, [21]),
        **(tags or {}),
    }
    body = data
    if exif:
        wanted[34665] = (LONG, [8 + len(body)])
        body += _directory(exif, 8 + len(body), order)
    if sub:
        of_pixels = {*range(256, 263), 273, 277, 278, 279, 322, 323, 324, 325, 339, *range(33421, 33423), 50829}
        of_pixels |= {*range(50712, 50718)}
        inner = {t: v for t, v in wanted.items() if t in of_pixels} | {254: (LONG, [0])}
        outer = {t: v for t, v in wanted.items() if t not in of_pixels}
        body += b"\0" * (len(body) % 2)
        inner_at = 8 + len(body)
        own = _directory(inner, inner_at, order)
        places = [inner_at]
        for _ in range(times - 1):
            body += own + b"\0" * (len(own) % 2)
            places.append(8 + len(body))
            own = _directory(inner, places[-1], order)
        body += own
        thumbnail_at = 8 + len(body)
        body += bytes(16 * 16 * 3)
        thumbnail = {254: (LONG, [1]), 256: (LONG, [16]), 257: (LONG, [16]), 258: (SHORT, [8, 8, 8]), 259: (SHORT, [1])}
        thumbnail |= {262: (SHORT, [2]), 273: (LONG, [thumbnail_at]), 277: (SHORT, [3]), 278: (LONG, [16])}
        wanted = {**outer, **thumbnail, 279: (LONG, [16 * 16 * 3]), 330: (LONG, places)}
    body += b"\0" * (len(body) % 2)
    at = 8 + len(body)
    return struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, at) + body + _directory(wanted, at, order)


def _directory(tags: Tags, at: int, order: str) -> bytes:
    present = [(tag, *entry) for tag, entry in sorted(tags.items()) if entry is not None]
    head, tail = struct.pack(order + "H", len(present)), b""
    after = at + 2 + 12 * len(present) + 4
    for tag, kind, values in present:
        data = _packed(kind, values, order)
        count = len(data) // (struct.calcsize(_LETTERS[kind]) * (2 if kind in (RATIONAL, SRATIONAL) else 1))
        field = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(order + "I", after + len(tail))
        if len(data) > 4:
            tail += data + b"\0" * (len(data) % 2)
        head += struct.pack(order + "HHI", tag, kind, count) + field
    return head + struct.pack(order + "I", 0) + tail


def _packed(kind: int, values: Sequence[float] | bytes | str, order: str) -> bytes:
    if isinstance(values, str):
        return values.encode() + b"\0"
    if isinstance(values, bytes):
        return values
    if kind in (RATIONAL, SRATIONAL):
        fractions = [Fraction(v).limit_denominator(1_000_000) for v in values]
        values = [n for f in fractions for n in (f.numerator, f.denominator)]
    return struct.pack(f"{order}{len(values)}{_LETTERS[kind]}", *values)
