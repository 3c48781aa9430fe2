"""Colour filter arrays: which patterns there are, and any of them as the Bayer mosaic that networks and rules see.

A pattern is the letters of the tile that repeats, in reading order: ``M`` (mono), four letters of a 2×2 tile, or
sixteen of a 4×4 tile. R, G, B: red, green, blue; C: clear; I: infrared.

====================  ============================================  =================================================
kind                  patterns                                      as a Bayer mosaic of the same size
====================  ============================================  =================================================
``bayer``             RGGB, BGGR, GRBG, GBRG                        as it is
``mono``              M                                             as it is, for RGGB: red, green and blue are alike
``quad`` (Bayer)      a Bayer pattern, each filter on 2×2 pixels    the four of each filter put where Bayer has it
``rgb-ir``, 2×2       Bayer, infrared in one green's place          the other green in the infrared's place
``rgb-ir``, 4×4       BGRG GIGI RGBG GIGI, wherever it begins       blue in the infrared's place, red in that of blue
``rccb``              Bayer, clear in green's place                 clear in green's place
====================  ============================================  =================================================

A 4×4 RGB-IR tile has red and blue in one of two blocks of 2×2 each: a block without takes that of the block beside it.
Infrared is not seen.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

CfaPattern = Literal["RGGB", "BGGR", "GRBG", "GBRG"]
CFA_PATTERNS: tuple[CfaPattern, ...] = ("RGGB", "BGGR", "GRBG", "GBRG")
CfaKind = Literal["bayer", "mono", "quad", "rgb-ir", "rccb"]
Levels = tuple[float, float, float, float]

_RGB_IR = "BGRGGIGIRGBGGIGI"


def _wide(bayer: str) -> str:
    """Each letter on 2×2 pixels."""
    top, bottom = ("".join(2 * c for c in half) for half in (bayer[:2], bayer[2:]))
    return 2 * top + 2 * bottom


def _begun_at(tile: str, y: int, x: int) -> str:
    rows = [tile[4 * i : 4 * i + 4] for i in range(4)]
    return "".join(row[x:] + row[:x] for row in rows[y:] + rows[:y])


_PATTERNS: dict[CfaKind, tuple[str, ...]] = {
    "bayer": CFA_PATTERNS,
    "mono": ("M",),
    "quad": tuple(map(_wide, CFA_PATTERNS)),
    "rgb-ir": (
        *(bayer[:i] + "I" + bayer[i + 1 :] for bayer in CFA_PATTERNS for i in range(4) if bayer[i] == "G"),
        *(_begun_at(_RGB_IR, y, x) for y in range(2) for x in range(4)),
    ),
    "rccb": tuple(bayer.replace("G", "C") for bayer in CFA_PATTERNS),
}
KINDS: dict[str, CfaKind] = {pattern: kind for kind, patterns in _PATTERNS.items() for pattern in patterns}
"""The kind of every pattern."""
QUAD_PATTERNS = _PATTERNS["quad"]
"""Those of Quad Bayer, in the order of :data:`CFA_PATTERNS`."""
IN_WORDS = f"{', '.join(CFA_PATTERNS)}, M, or a tile of Quad Bayer, RGB-IR or RCCB"


def tile_side(pattern: str) -> int:
    """Pixels after which a pattern repeats, both ways, at least 2: sides of a frame are multiples of it."""
    return 4 if len(pattern) == 16 else 2


def as_bayer(pattern: str, mosaic: np.ndarray, black: Levels) -> tuple[CfaPattern, np.ndarray, Levels]:
    """A mosaic as one of a Bayer sensor, of the same size, as the table says.

    Args:
        pattern: one of :data:`KINDS`.
        mosaic: ``[H, W]``, sides that are multiples of :func:`tile_side`.
        black: levels at the four positions of the 2×2 block in reading order; of ``quad`` those of the 4×4 tile's four
            filters.

    Returns:
        The pattern, the mosaic (the same array where no pixel moves), and the levels at the four positions.
    """
    match KINDS[pattern]:
        case "bayer":
            return _bayer(pattern), mosaic, black
        case "mono":
            return "RGGB", mosaic, black
        case "rccb":
            return _bayer(pattern.replace("C", "G")), mosaic, black
        case "quad":
            height, width = mosaic.shape
            # A filter's 2×2 pixels [.., filter, pixel] are spread over the tile: [.., pixel, filter].
            tiles = mosaic.reshape(height // 4, 2, 2, width // 4, 2, 2).transpose(0, 2, 1, 3, 5, 4)
            return _bayer(pattern[::2][:2] + pattern[8::2][:2]), tiles.reshape(height, width), black
    return _without_infrared(pattern, mosaic, black)


def _without_infrared(pattern: str, mosaic: np.ndarray, black: Levels) -> tuple[CfaPattern, np.ndarray, Levels]:
    quarters = [mosaic[place // 2 :: 2, place % 2 :: 2] for place in range(4)]
    levels = list(black)
    if len(pattern) == 4:
        infrared = pattern.index("I")
        green = pattern.index("G")
        quarters[infrared], levels[infrared] = quarters[green], black[green]
        letters = pattern.replace("I", "G")
    else:
        block = [pattern[0], pattern[1], pattern[4], pattern[5]]
        infrared = block.index("I")
        coloured = 3 - infrared
        both = quarters[coloured]
        # Of the blocks of a tile, red and blue take turns, in both directions.
        red_first = pattern[4 * (coloured // 2) + coloured % 2] == "R"
        pairs = both.reshape(both.shape[0] // 2, 2, both.shape[1] // 2, 2)
        first = np.stack([pairs[:, 0, :, 0], pairs[:, 1, :, 1]], axis=1)
        second = np.stack([pairs[:, 0, :, 1], pairs[:, 1, :, 0]], axis=1)
        red, blue = (first, second) if red_first else (second, first)
        quarters[coloured], quarters[infrared] = (
            one.reshape(both.shape[0], -1).repeat(2, axis=1) for one in (red, blue)
        )
        levels[infrared] = black[coloured]
        letters = "".join({coloured: "R", infrared: "B"}.get(place, "G") for place in range(4))
    moved = np.empty_like(mosaic)
    for place in range(4):
        moved[place // 2 :: 2, place % 2 :: 2] = quarters[place]
    return _bayer(letters), moved, (levels[0], levels[1], levels[2], levels[3])


def _bayer(letters: str) -> CfaPattern:
    return next(pattern for pattern in CFA_PATTERNS if pattern == letters)
