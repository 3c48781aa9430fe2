"""Lab scenes of our own: procedural pictures, each from a seed, varied and photograph-like enough to train on.

Every scene is composed in linear light (reflectance times shading) and rendered as a camera would render it, so its
statistics are those of photographs: natural colours, 1/f texture, shadows, bright and dark pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from drivers import stopping
from sim.camera.sensor import GAMMA, render

# Averaged sRGB values of the classic 24-patch colour chart.
CHART_SRGB = np.array(
    [
        [115, 82, 68], [194, 150, 130], [98, 122, 157], [87, 108, 67], [133, 128, 177], [103, 189, 170],
        [214, 126, 44], [80, 91, 166], [193, 90, 99], [94, 60, 108], [157, 188, 64], [224, 163, 46],
        [56, 61, 150], [70, 148, 73], [175, 54, 60], [231, 199, 31], [187, 86, 149], [8, 133, 161],
        [243, 243, 242], [200, 200, 200], [160, 160, 160], [122, 122, 121], [85, 85, 85], [52, 52, 52],
    ],
    np.float32,
)  # fmt: skip

# Hue (degrees), its spread, and how often it occurs in pictures.
_HUES = (
    (28, 12, 0.32),
    (45, 10, 0.12),
    (90, 20, 0.18),
    (135, 15, 0.05),
    (212, 14, 0.18),
    (355, 10, 0.10),
    (290, 25, 0.05),
)
_TEXT = """the of and a to in is light sensor lens colour grey noise edge frame pixel gain black white table register
exposure night window street paper letter number morning river station garden 12 300 1847 0.25 page figure result"""
_WORDS = tuple(_TEXT.split())
_STRIP = 64
"""Rows of a picture that are drawn at a time."""
_REACH = 4
"""Rows around that a cubic interpolation may look at."""


def _colour(rng: np.random.Generator, count: int, saturation: float = 0.45) -> np.ndarray:
    """Natural reflectances: ``float32 [count, 3]``, linear sRGB."""
    weights = np.array([h[2] for h in _HUES])
    pick = rng.choice(len(_HUES), count, p=weights / weights.sum())
    hue = (
        np.array([h[0] for h in _HUES])[pick] + rng.normal(0, 1, count) * np.array([h[1] for h in _HUES])[pick]
    ) % 360
    strength = np.clip(rng.beta(1.3, 2.4, count) * 2 * saturation, 0, 0.8)
    strength[rng.random(count) < 0.2] *= 0.15
    # Pigments are bright or strong, seldom both; greens and violets never.
    strength[(hue > 70) & (hue < 190)] *= 0.65
    strength[(hue > 240) & (hue < 330)] *= 0.65
    value = np.clip(rng.beta(1.6, 1.8, count), 0.05, 0.97) * (1 - 0.35 * strength)
    hsv = np.stack([hue, strength, value], axis=1).astype(np.float32)[None]
    result: np.ndarray = np.maximum(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0], 0) ** np.float32(GAMMA)
    return result


def _fractal(rng: np.random.Generator, side: int, slope: float = 1.0, stretch: float = 1.0) -> np.ndarray:
    """1/f noise of mean 0 and standard deviation 1: ``float32 [side, side]``; ``stretch`` above 1 draws it sideways."""
    total = np.zeros((side, side), np.float32)
    cells = 2
    while cells <= side:
        stopping.check()
        grid = rng.standard_normal((cells + 1, max(2, round((cells + 1) / stretch))), dtype=np.float32)
        total += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC) * np.float32(cells**-slope)
        cells *= 2
    total -= total.mean()
    return total / max(float(total.std()), 1e-6)


def _ramp(rng: np.random.Generator, side: int, depth: float) -> np.ndarray:
    """Smooth lighting that varies over the picture by up to ±depth: ``float32 [side, side, 1]`` around 1."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    plane = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    soft = cv2.resize(rng.standard_normal((4, 4), dtype=np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    result: np.ndarray = np.exp(depth * (0.6 * plane + 0.3 * soft))[..., None]
    return result


def _outline(rng: np.random.Generator, x: float, y: float, radius: float) -> np.ndarray:
    """The corner points of a leaf: ellipse, rectangle, polygon or blob."""
    kind = rng.random()
    turn = rng.uniform(0, 2 * np.pi)
    if kind < 0.45:
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        reach = np.ones(24) * radius
    elif kind < 0.7:
        angle = np.array([0.25, 0.75, 1.25, 1.75]) * np.pi
        reach = np.full(4, radius * 1.2)
    elif kind < 0.85:
        angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
        reach = np.full(len(angle), radius * 1.2)
    else:
        angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        reach = radius * (1 + 0.25 * np.sin(rng.integers(2, 6) * angle + turn) + 0.1 * rng.standard_normal(32))
    flat = rng.uniform(0.35, 1.0)
    px, py = reach * np.cos(angle), reach * np.sin(angle) * flat
    c, s = np.cos(turn), np.sin(turn)
    return np.stack([x + c * px - s * py, y + s * px + c * py], axis=1)


def _leaves(rng: np.random.Generator, side: int, largest: float = 0.35, count: int = 500) -> np.ndarray:
    """Dead leaves: occluding shapes whose sizes follow a power law (density ∝ r⁻²), shaded and textured."""
    fine = 2 * side
    low, high = 0.012 * fine, largest * fine
    u = rng.random(count)
    radius = 1 / (u / low + (1 - u) / high)
    # Large ones lie mostly at the back, or they would hide all the rest.
    radius = radius[np.argsort(-radius * np.exp(rng.normal(0, 0.5, count)))]
    centre = rng.uniform(-0.05, 1.05, (count, 2)) * fine
    labels = np.zeros((fine, fine), np.uint16)
    for i in range(count):
        points = np.rint(_outline(rng, centre[i, 0], centre[i, 1], radius[i])).astype(np.int32)
        cv2.fillPoly(labels, [points], i + 1)
    table = _colour(rng, count + 1, rng.uniform(0.25, 0.6))
    slope = (rng.normal(0, 0.35, (count + 1, 2)) / np.concatenate([[fine], radius])[:, None]).astype(np.float32)
    middle = np.concatenate([[[fine / 2, fine / 2]], centre]).astype(np.float32)
    offset = 1 - (slope * middle).sum(axis=1)
    position = np.arange(fine, dtype=np.float32)
    rough = np.abs(rng.normal(0, 0.10, count + 1)).astype(np.float32)
    coarse = _fractal(rng, side, rng.uniform(0.4, 0.9))
    result = np.empty((side, side, 3), np.float32)
    # A few rows at a time: all of a large picture, twice as fine and in colour, would take gigabytes.
    for top in range(0, side, _STRIP):
        stopping.check()
        rows = slice(top, min(top + _STRIP, side))
        own = slice(2 * rows.start, 2 * rows.stop)
        index = labels[own].astype(np.int32)
        shade = offset[index] + slope[:, 0][index] * position + slope[:, 1][index] * position[own, None]
        shade = np.clip(shade, 0.25, 1.8) * np.clip(1 + rough[index] * _finer(coarse, rows), 0.3, 2)
        result[rows] = cv2.resize(
            table[index] * shade[..., None], (side, rows.stop - rows.start), interpolation=cv2.INTER_AREA
        )
    return result


def _finer(plane: np.ndarray, rows: slice) -> np.ndarray:
    """Rows of a plane, twice as fine: those of the whole plane resized."""
    around = slice(max(rows.start - _REACH, 0), rows.stop + _REACH)
    part = plane[around]
    finer = cv2.resize(part, (2 * plane.shape[1], 2 * len(part)), interpolation=cv2.INTER_CUBIC)
    first = 2 * (rows.start - around.start)
    return finer[first : first + 2 * (rows.stop - rows.start)]


def _surface(rng: np.random.Generator, side: int) -> np.ndarray:
    """A wall or a table top: one colour with some grain."""
    colour = _colour(rng, 1, 0.35)[0] * 0.8 + 0.04
    grain = _fractal(rng, side, rng.uniform(0.5, 1.2), float(rng.choice([1.0, 1.0, 6.0])))
    result: np.ndarray = colour * np.exp(rng.uniform(0.02, 0.2) * grain)[..., None]
    return result


def _landscape(rng: np.random.Generator, side: int) -> np.ndarray:
    """Sky with clouds, hills, ground, and what stands on it."""
    y = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    blue = np.array([0.16, 0.32, 0.68], np.float32) * rng.uniform(0.5, 1.2)
    haze = np.array([0.70, 0.78, 0.85], np.float32) * rng.uniform(0.7, 1.1)
    if rng.random() < 0.25:
        haze = np.array([0.9, 0.55, 0.3], np.float32) * rng.uniform(0.5, 1.0)
    horizon = rng.uniform(0.25, 0.7)
    blend = np.clip(y / horizon, 0, 1) ** rng.uniform(0.7, 2)
    picture = np.repeat(blue * (1 - blend) + haze * blend, side, axis=1)
    cloud = np.clip(0.5 * _fractal(rng, side, 0.9, 0.5) + rng.uniform(-0.8, 0.6), 0, 1)[..., None]
    picture *= 1 - cloud
    picture += np.float32(rng.uniform(0.5, 1.0)) * cloud
    del cloud
    rows = np.arange(side)[:, None]
    for depth in range(int(rng.integers(1, 4))):
        line = (horizon + 0.06 * depth) * side - 0.05 * side * _fractal(rng, side, 1.2)[depth]
        green = _colour(rng, 1, 0.4)[0] * np.array([0.6, 0.8, 0.45], np.float32) + 0.01
        near = (depth + 1) / 3
        hill = (green * near + haze * 0.5 * (1 - near)) * np.exp(0.25 * near * _fractal(rng, side, 0.6, 2.0))[..., None]
        np.copyto(picture, hill, where=(rows > line)[..., None])
        del hill
    grown = _leaves(rng, side, 0.12, 220)
    grown *= 0.6
    stands = rows > (horizon + 0.05) * side - 0.12 * side * np.abs(_fractal(rng, side, 0.8)[0])
    patchy = _fractal(rng, side, 0.9) > rng.uniform(-0.6, 1.0)
    np.copyto(picture, grown, where=(stands & patchy)[..., None])
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(1, 5))):
            _house(rng, picture, int(horizon * side))
    return picture


def _house(rng: np.random.Generator, picture: np.ndarray, ground: int) -> None:
    side = picture.shape[0]
    width, height = (int(v) for v in rng.uniform(0.1, 0.35, 2) * side)
    left, foot = int(rng.uniform(-0.1, 0.9) * side), min(ground + int(0.1 * side), side)
    wall = _colour(rng, 1, 0.3)[0] * 0.8 + 0.05
    cv2.rectangle(picture, (left, foot - height), (left + width, foot), wall.tolist(), -1)
    pane = (wall * rng.uniform(0.1, 0.4)).tolist()
    step = max(6, int(0.05 * side))
    for x in range(left + step // 2, left + width - step // 2, step):
        for y in range(foot - height + step // 2, foot - step // 2, step + step // 2):
            cv2.rectangle(picture, (x, y), (x + step // 2, y + int(0.8 * step)), pane, -1)


def _still_life(rng: np.random.Generator, side: int) -> np.ndarray:
    """Balls, boxes and cylinders on a table before a wall, lit from one side, with soft shadows."""
    edge = int(rng.uniform(0.35, 0.65) * side)
    picture = _surface(rng, side)
    picture[edge:] = _surface(rng, side)[edge:]
    angle = rng.uniform(-1.0, 1.0)
    lamp = np.array([np.sin(angle), -0.7, 0.8])
    lamp /= np.linalg.norm(lamp)
    bodies = [_Body.drawn(rng, side, edge) for _ in range(int(rng.integers(3, 9)))]
    for top in range(0, side, _STRIP):
        stopping.check()
        part = picture[top : top + _STRIP]
        y, x = np.mgrid[top : top + len(part), 0:side].astype(np.float32)
        for body in bodies:
            part = body.before(part, (x - body.x) / body.radius, (y - body.y) / body.radius, lamp)
        picture[top : top + _STRIP] = part
    return picture


@dataclass(frozen=True)
class _Body:
    """A ball, cylinder or box of a still life.

    Attributes:
        radius, x, y: its size and middle, pixels; ``kind``: 0..1, what it is; ``corner``: where a box's sides meet.
        colour: of it, linear sRGB; ``stripes``: their number, lean and colour, where it has some.
        shine: strength of its highlight.
    """

    radius: float
    x: float
    y: float
    kind: float
    corner: float
    colour: np.ndarray
    stripes: tuple[float, float, np.ndarray] | None
    shine: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, side: int, edge: int) -> _Body:
        """Any one, standing on the table whose edge is at that row."""
        radius = rng.uniform(0.06, 0.2) * side
        x, y = rng.uniform(0.05, 0.95) * side, edge + rng.uniform(-0.1, 0.9) * (side - edge)
        kind = rng.random()
        corner = rng.uniform(-0.4, 0.4) if kind >= 0.8 else 0.0
        colour = _colour(rng, 1, 0.6)[0]
        stripes = None
        if rng.random() < 0.4:
            stripes = rng.uniform(4, 14), rng.uniform(-1, 1), _colour(rng, 1, 0.6)[0]
        return cls(radius, x, y, kind, corner, colour, stripes, rng.uniform(0, 0.5))

    def before(self, picture: np.ndarray, dx: np.ndarray, dy: np.ndarray, lamp: np.ndarray) -> np.ndarray:
        """The picture with its shadow and itself, at places ``dx``, ``dy`` radii from its middle."""
        drop = np.exp(-(((dx + 0.8 * lamp[0]) / 1.2) ** 2 + ((dy - 0.9) / 0.35) ** 2))
        picture *= (1 - 0.6 * drop)[..., None]
        if self.kind < 0.5:
            inside = dx**2 + dy**2 < 1
            nz = np.sqrt(np.clip(1 - dx**2 - dy**2, 0, 1))
            lit = np.clip(dx * lamp[0] + dy * lamp[1] + nz * lamp[2], 0, 1)
        elif self.kind < 0.8:
            inside = (np.abs(dx) < 0.6) & (np.abs(dy) < 1)
            nz = np.sqrt(np.clip(1 - (dx / 0.6) ** 2, 0, 1))
            lit = np.clip(dx / 0.6 * lamp[0] + nz * lamp[2], 0, 1)
        else:
            inside = (np.abs(dx) < 0.8) & (np.abs(dy) < 0.8)
            lit = np.where(dx < self.corner, 0.4 + 0.3 * lamp[0], 0.6 - 0.2 * lamp[0])
        colour = self.colour
        if self.stripes is not None:
            number, lean, other = self.stripes
            colour = np.where((np.sin(number * (dy + lean * dx)) > 0)[..., None], colour, other)
        body = colour * (0.12 + lit)[..., None] + (self.shine * lit**24)[..., None]
        result: np.ndarray = np.where(inside[..., None], body, picture)
        return result


def _laid(rng: np.random.Generator, sheet: np.ndarray, ground: np.ndarray, share: float) -> np.ndarray:
    """The ground, with a flat sheet laid on it in slight perspective, covering about ``share`` of its width."""
    side = ground.shape[0]
    h, w = sheet.shape[:2]
    size = share * side * np.array([1.0, h / w]) / 2
    turn = rng.normal(0, 0.15)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    target = corners @ spin.T + side * rng.uniform(0.42, 0.58, 2) + rng.normal(0, 0.015 * side, (4, 2))
    source = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    matrix = cv2.getPerspectiveTransform(source, target.astype(np.float32))
    warped: np.ndarray = cv2.warpPerspective(sheet, matrix, (side, side), flags=cv2.INTER_AREA)
    mask = cv2.warpPerspective(np.ones((h, w), np.float32), matrix, (side, side), flags=cv2.INTER_LINEAR)[..., None]
    ground *= 1 - mask
    warped *= mask
    ground += warped
    return ground


def _chart(rng: np.random.Generator, side: int) -> np.ndarray:
    """A colour chart of 24 patches, at times with a grey ramp, lying on something."""
    patch, gap = 40, 8
    sheet = np.full((4 * (patch + gap) + gap, 6 * (patch + gap) + gap, 3), 0.03, np.float32)
    for i, colour in enumerate((CHART_SRGB / 255) ** GAMMA * 0.92):
        y, x = gap + (i // 6) * (patch + gap), gap + (i % 6) * (patch + gap)
        sheet[y : y + patch, x : x + patch] = colour
    if rng.random() < 0.5:
        ramp = np.linspace(0.02, 0.9, 16, dtype=np.float32).repeat(sheet.shape[1] // 16 + 1)[: sheet.shape[1]]
        sheet = np.concatenate([sheet, np.repeat(ramp[None, :, None], 40, 0).repeat(3, 2)])
    ground = _surface(rng, side) if rng.random() < 0.6 else _leaves(rng, side, 0.3, 250)
    return _laid(rng, sheet, ground, rng.uniform(0.55, 1.05))


def _edges(rng: np.random.Generator, side: int) -> np.ndarray:
    """Slanted edges, line pairs and a star of several contrasts."""
    fine = 2 * side
    dark, bright = sorted(rng.uniform(0.03, 0.85, 2))
    ground = np.float32(0.18) * np.float32(rng.uniform(0.6, 1.6))
    cells = int(rng.integers(2, 5))
    step = fine // cells
    tint = 0.75 + 0.25 * _colour(rng, 1, 0.4)[0]
    drawn = []
    for row in range(cells):
        for column in range(cells):
            s = step - step // 5
            kind = rng.random()
            cell = np.full((s, s), dark, np.float32)
            if kind < 0.5:
                box = cv2.boxPoints(((s / 2, s / 2), (0.6 * s, 0.6 * s), float(rng.uniform(3, 12))))
                cv2.fillPoly(cell, [np.rint(box).astype(np.int32)], float(bright))
            elif kind < 0.75:
                u = np.arange(s) / s
                cell[:] = np.where(np.sin(2 * np.pi * (6 * u + 14 * u * u)) > 0, bright, dark)
                cell = cell.T if rng.random() < 0.5 else cell
            else:
                v, u = np.mgrid[-1 : 1 : s * 1j, -1 : 1 : s * 1j]
                star = np.where(np.sin(18 * np.arctan2(v, u)) > 0, bright, dark)
                cell = np.where(np.hypot(u, v) < 0.95, star, (dark + bright) / 2).astype(np.float32)
            drawn.append((row * step + step // 10, column * step + step // 10, cell))
    result = np.empty((side, side, 3), np.float32)
    for top in range(0, side, _STRIP):
        stopping.check()
        first, last = 2 * top, min(2 * (top + _STRIP), fine)
        sheet = np.full((last - first, fine, 3), ground, np.float32)
        for y, x, cell in drawn:
            begin, end = max(y, first), min(y + len(cell), last)
            if begin < end:
                part = cell[begin - y : end - y]
                sheet[begin - first : end - first, x : x + len(cell)] = part[..., None] * tint
        result[top : top + _STRIP] = cv2.resize(sheet, (side, (last - first) // 2), interpolation=cv2.INTER_AREA)
    return result


def _page(rng: np.random.Generator, side: int) -> np.ndarray:
    """A page of text on a table: paper, ink, lines of several sizes, at times a headline or a picture in colour."""
    w, h = 420, int(420 * rng.uniform(0.8, 1.3))
    sheet = np.ones((h, w, 3), np.float32) * (0.62 + 0.2 * _colour(rng, 1, 0.1)[0]).astype(np.float32)
    fonts = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)
    ink = (_colour(rng, 1, 0.5)[0] * 0.15).tolist() if rng.random() < 0.4 else [0.02, 0.02, 0.025]
    y = 30
    base = rng.uniform(0.3, 0.8)
    while y < h - 12:
        head = rng.random() < 0.12
        scale = base * (2.0 if head else 1.0)
        y += int(30 * scale) + 4
        text = " ".join(rng.choice(_WORDS, 14))
        mask = np.zeros((h, w), np.uint8)
        font = int(fonts[int(rng.integers(len(fonts)))])
        cv2.putText(mask, text, (24, y), font, scale, 255, 2 if head else 1, cv2.LINE_AA)
        mask[:, -24:] = 0
        alpha = (mask.astype(np.float32) / 255)[..., None]
        colour = np.array(_colour(rng, 1, 0.8)[0] * 0.4 if head else ink, np.float32)
        sheet = sheet * (1 - alpha) + colour * alpha
    if rng.random() < 0.4:
        s = int(rng.uniform(0.25, 0.45) * w)
        top, left = int(rng.integers(0, h - s)), int(rng.integers(0, w - s))
        sheet[top : top + s, left : left + s] = _leaves(rng, s, 0.4, 120)
    return _laid(rng, sheet, _surface(rng, side), rng.uniform(0.8, 1.5))


def _mixture(rng: np.random.Generator, side: int) -> np.ndarray:
    """Two other scenes, the second seen in a part of the first, as through a window or on a screen."""
    first, second = rng.choice(len(_PARTS), 2)
    picture: np.ndarray = _PARTS[first](rng, side)
    other = _PARTS[second](rng, side)
    mask = np.zeros((side, side), np.uint8)
    outline = _outline(rng, rng.uniform(0.3, 0.7) * side, rng.uniform(0.3, 0.7) * side, rng.uniform(0.25, 0.5) * side)
    cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 255, cv2.LINE_AA)
    alpha = (mask.astype(np.float32) / 255)[..., None]
    picture *= 1 - alpha
    other *= np.float32(rng.uniform(0.4, 1.6))
    other *= alpha
    picture += other
    return picture


_PARTS: tuple[Callable[[np.random.Generator, int], np.ndarray], ...] = (_leaves, _landscape, _still_life)
_KINDS: dict[str, tuple[float, Callable[[np.random.Generator, int], np.ndarray]]] = {
    "leaves": (0.24, _leaves),
    "landscape": (0.24, _landscape),
    "still_life": (0.20, _still_life),
    "mixture": (0.14, _mixture),
    "page": (0.07, _page),
    "chart": (0.06, _chart),
    "edges": (0.05, _edges),
}
LAB_SCENE_KINDS = tuple(_KINDS)


def lab_scene(seed: int, side: int = 256, kind: str | None = None) -> np.ndarray:
    """The lab scene of a seed, rendered as a photograph.

    Args:
        seed: from 0; the same seed and side give the same picture.
        side: height and width, pixels.
        kind: one of :data:`LAB_SCENE_KINDS`, or None for a random one.

    Returns:
        ``uint8 [side, side, 3]``, sRGB.
    """
    rng = np.random.default_rng([0x1AB, seed])
    names = list(_KINDS)
    drawn = names[int(rng.choice(len(names), p=np.array([share for share, _ in _KINDS.values()])))]
    picture = _KINDS[kind or drawn][1](rng, side)
    picture *= _ramp(rng, side, rng.uniform(0.05, 0.8))
    if rng.random() < 0.25:
        edge = cv2.resize(_fractal(rng, 64, 1.5), (side, side), interpolation=cv2.INTER_CUBIC)
        picture *= (1 - rng.uniform(0.4, 0.75) * np.clip(4 * edge + rng.uniform(-1, 1), 0, 1))[..., None]
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), side / 320 * rng.uniform(0.4, 1.5))
    # The photographer's choice: how bright the picture is meant to be.
    key = np.clip(rng.normal(-1.35, 0.5), -3.2, -0.6)
    mean = max(float(picture.mean()), 1e-4)
    picture = picture * np.exp(key)
    picture /= mean
    bright = float(np.percentile(picture, 99))
    result = np.empty(picture.shape, np.uint8)
    for top in range(0, side, _STRIP):
        stopping.check()
        part = picture[top : top + _STRIP]
        if bright > 1.2:
            part = part * (1.2 / bright) ** 0.7
        # A camera's shoulder: lights roll off instead of clipping hard.
        result[top : top + _STRIP] = render(np.where(part > 0.8, 0.8 + 0.2 * np.tanh((part - 0.8) / 0.2), part))
    return result
