"""Annotated scenes of our own: a few kinds of objects composed on a ground, with the box and mask of each, by seed.

They are made to need a well-tuned ISP. Objects differ little in brightness from what lies behind them, and what tells
them apart is fine or is colour: a ball is an orange but for its pores and hue, a bolt has a thread, a leaf has veins.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from drivers.atomic_files import write_bytes
from drivers.colour import LUMINANCE
from sim.camera.sensor import GAMMA, linearise, render
from sim.scenes.at_once import AtOnce, Scene, fitting
from sim.scenes.lab_scenes import lab_scene
from sim.scenes.photographs import SceneError
from sim.scenes.scene_set import Progress, claimed_folder, write_png

ANNOTATIONS = "instances.json"
IMAGES = "images"
# Raise it when the same arguments would give other pixels.
_VERSION = 1
_IMAGES_PER_SEED = 100_000
_SMALLEST_SIDE, _LARGEST_SIDE = 64, 2048
# Objects are drawn this much finer than the picture, each way.
_FINE = 2
# Of memory for each pixel of a scene while it is drawn.
_BYTES = 200
_LEAST_VISIBLE, _LEAST_PIXELS = 0.5, 40


@dataclass(frozen=True)
class ComposedScene:
    """A scene and what it shows.

    Attributes:
        picture: ``uint8 [side, side, 3]``, sRGB.
        labels: ``uint8 [side, side]``: 0 is the ground, i + 1 where object i is seen.
        category_ids: of each object, see :data:`CATEGORIES`.
    """

    picture: np.ndarray
    labels: np.ndarray
    category_ids: tuple[int, ...]


@dataclass(frozen=True)
class _Sheet:
    """Where an object is drawn: coordinates in its own frame (its radius is 1) and the lamp's direction there."""

    rng: np.random.Generator
    u: np.ndarray
    v: np.ndarray
    lamp: tuple[float, float, float]

    def grain(self, sigma: float) -> np.ndarray:
        """Texture of mean 0 and standard deviation 1 whose grains are ``sigma`` fine pixels wide."""
        noise = cv2.GaussianBlur(self.rng.standard_normal(self.u.shape, dtype=np.float32), (0, 0), sigma)
        return noise / max(float(noise.std()), 1e-6)

    def sphere(self) -> tuple[np.ndarray, np.ndarray]:
        """The height of a ball over the picture's plane and how it is lit."""
        height = np.sqrt(np.clip(1 - self.u**2 - self.v**2, 0, 1))
        x, y, z = self.lamp
        return height, 0.35 + 0.65 * np.clip(self.u * x + self.v * y + height * z, 0, 1)


def _hue(rng: np.random.Generator, low: float, high: float, strong: tuple[float, float]) -> np.ndarray:
    """A linear colour of about middle brightness, hue within low..high degrees."""
    hsv = np.array([[[rng.uniform(low, high) % 360, rng.uniform(*strong), 0.8]]], np.float32)
    result: np.ndarray = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0] ** np.float32(GAMMA)
    return result


# Each drawer returns where the object is, bool, and its colour, linear, of any brightness: float32 [..., 3].
_Drawn = tuple[np.ndarray, np.ndarray]


def _ball(sheet: _Sheet) -> _Drawn:
    rng = sheet.rng
    height, lit = sheet.sphere()
    tilt = rng.uniform(0.3, 1.2)
    latitude = sheet.v * np.cos(tilt) + height * np.sin(tilt)
    band = np.sin(rng.uniform(6, 11) * latitude + rng.uniform(0, 6)) > rng.uniform(-0.3, 0.3)
    main = _hue(rng, 0, 360, (0.15, 0.65))
    other = main * np.exp(rng.normal(0, 0.3, 3)).astype(np.float32)
    colour = np.where(band[..., None], main, other) * (lit + 0.25 * lit**30)[..., None]
    return sheet.u**2 + sheet.v**2 < 1, colour


def _orange(sheet: _Sheet) -> _Drawn:
    rng = sheet.rng
    height, lit = sheet.sphere()
    pores = rng.uniform(0.07, 0.16) * sheet.grain(1.6) * height
    stem = np.exp(-(((sheet.u - 0.3) ** 2 + (sheet.v - 0.2) ** 2) / 0.02))
    shade = lit * (1 + pores) * (1 - 0.4 * stem)
    return sheet.u**2 + sheet.v**2 < 1, _hue(rng, 10, 50, (0.3, 0.75)) * shade[..., None]


def _ring(sheet: _Sheet) -> _Drawn:
    rng = sheet.rng
    flat = rng.uniform(0.65, 1.0)
    distance = np.hypot(sheet.u, sheet.v / flat)
    hole = rng.uniform(0.5, 0.68)
    middle, half = (1 + hole) / 2, (1 - hole) / 2
    slope = np.clip((distance - middle) / half, -1, 1)
    x, y, z = sheet.lamp
    out = (sheet.u * x + sheet.v * y) / np.maximum(distance, 1e-3)
    lit = 0.35 + 0.65 * np.clip(slope * out + np.sqrt(1 - slope**2) * z, 0, 1)
    brushed = 1 + 0.05 * sheet.grain(1.2)
    colour = _hue(rng, 0, 360, (0.05, 0.6)) * (lit * brushed + 0.4 * lit**20)[..., None]
    return (distance < 1) & (distance > hole), colour


def _bolt(sheet: _Sheet) -> _Drawn:
    rng = sheet.rng
    u, v = sheet.u, sheet.v
    thick = rng.uniform(0.17, 0.24)
    head = (np.abs(u + 0.8) < 0.2) & (np.abs(v) < 0.45)
    shaft = (u > -0.62) & (u < 1 - 0.5 * np.abs(v)) & (np.abs(v) < thick)
    thread = 1 + rng.uniform(0.2, 0.4) * np.sin(rng.uniform(32, 44) * (u + 0.15 * v))
    across = np.clip(v / np.where(head, 0.45, thick), -1, 1)
    _, y, z = sheet.lamp
    round_lit = 0.3 + 0.7 * np.clip(across * y + np.sqrt(1 - across**2) * z, 0, 1)
    facet = np.select([across < -0.4, across < 0.4], [0.55 - 0.3 * y, 0.9], 0.55 + 0.3 * y)
    shade = np.where(head, facet, round_lit * np.where(u > -0.3, thread, 1))
    return head | shaft, _hue(rng, 20, 240, (0.0, 0.15)) * shade[..., None]


def _leaf(sheet: _Sheet) -> _Drawn:
    rng = sheet.rng
    u, v = sheet.u, sheet.v + rng.uniform(-0.15, 0.15) * (sheet.u**2 - 0.5)
    width = rng.uniform(0.35, 0.5)
    edge = width * np.clip(1 - u**2, 0, 1) ** 0.8 * (1 - 0.25 * u)
    vein = np.sin(rng.uniform(16, 24) * (u - 0.8 * np.abs(v)))
    shade = 1 + rng.uniform(0.08, 0.2) * vein - 0.35 * np.exp(-((v / 0.035) ** 2)) + 0.05 * sheet.grain(2.0)
    side = np.where(v > 0, 1.0, rng.uniform(0.75, 1.0))
    stalk = (u > 0.9) & (u < 1.15) & (np.abs(v) < 0.04)
    colour = _hue(rng, 30, 130, (0.3, 0.7)) * (shade * side)[..., None]
    return (np.abs(v) < edge) | stalk, colour


def _mug(sheet: _Sheet) -> _Drawn:
    rng = sheet.rng
    u, v = sheet.u + 0.2, sheet.v
    half, rim = rng.uniform(0.5, 0.6), rng.uniform(0.12, 0.2)
    body = (np.abs(u) < half) & (v > -0.75) & (v < 0.75 + rim * np.sqrt(np.clip(1 - (u / half) ** 2, 0, 1)))
    opening = (u / half) ** 2 + ((v + 0.75) / rim) ** 2 < 1
    loop = np.hypot((u - half) / 0.85, v)
    handle = (loop < 0.46) & (loop > 0.27) & (u >= half)
    across = np.clip(u / half, -1, 1)
    x, _, z = sheet.lamp
    lit = 0.35 + 0.65 * np.clip(across * x + np.sqrt(1 - across**2) * z, 0, 1)
    lit = np.where(opening, 0.45 - 0.15 * across, lit)
    main = _hue(rng, 0, 360, (0.05, 0.55))
    stripe = (np.abs(v - rng.uniform(-0.3, 0.4)) < rng.uniform(0.08, 0.2)) & ~opening
    tint = np.where(stripe[..., None], main * np.exp(rng.normal(0, 0.25, 3)).astype(np.float32), main)
    return body | opening | handle, tint * (lit + 0.2 * lit**25)[..., None]


# How far each turns at most to either side, radians.
_KINDS: dict[str, tuple[Callable[[_Sheet], _Drawn], float]] = {
    "ball": (_ball, np.pi),
    "orange": (_orange, np.pi),
    "ring": (_ring, np.pi),
    "bolt": (_bolt, np.pi),
    "leaf": (_leaf, np.pi),
    "mug": (_mug, 0.5),
}
# Above COCO's own ids (1..90), so that neither is taken for the other.
CATEGORIES: dict[int, str] = {101 + i: name for i, name in enumerate(_KINDS)}


def composed_scene(seed: int, number: int, side: int = 160) -> ComposedScene:
    """The scene of a seed and a number.

    Args:
        seed: from 0; the same arguments give the same scene.
        number: 0..99999.
        side: height and width, 64..2048 pixels.
    """
    _check(number + 1, seed, side)
    rng = np.random.default_rng([0xC0111, seed, number])
    fine = side * _FINE
    canvas = cv2.resize(_ground(rng, side), (fine, fine), interpolation=cv2.INTER_CUBIC)
    canvas = np.maximum(canvas, 0.004)
    index = np.zeros((fine, fine), np.uint8)
    turn = rng.uniform(0, 2 * np.pi)
    lamp = np.array([0.7 * np.cos(turn), 0.7 * np.sin(turn), 0.71])
    whole: list[int] = []
    kinds: list[int] = []
    for _ in range(int(rng.integers(2, 7))):
        kind = int(rng.integers(len(_KINDS)))
        for _attempt in range(8):
            placed = _place(rng, kind, lamp, canvas, index, whole)
            if placed is not None:
                whole.append(placed)
                kinds.append(kind)
                break
    picture = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    labels = _settled(index, side, len(kinds))
    key = np.clip(rng.normal(-1.4, 0.35), -2.3, -0.8)
    picture = picture * np.exp(key) / float(picture.mean())
    # A camera's shoulder: lights roll off instead of clipping hard.
    picture = np.where(picture > 0.8, 0.8 + 0.2 * np.tanh((picture - 0.8) / 0.2), picture)
    return ComposedScene(render(picture), labels, tuple(101 + kind for kind in kinds))


def _ground(rng: np.random.Generator, side: int) -> np.ndarray:
    """What the objects lie before: a lab scene out of focus, or a surface with grain: ``float32``, linear."""
    if rng.random() < 0.5:
        kind = str(rng.choice(["leaves", "landscape"]))
        photograph = linearise(lab_scene(int(rng.integers(2**31)), side, kind))
        return cv2.GaussianBlur(photograph, (0, 0), side / 160 * rng.uniform(2.0, 6.0)) + np.float32(0.01)
    total = np.zeros((side, side), np.float32)
    slope, stretch = rng.uniform(0.3, 1.1), float(rng.choice([1.0, 1.0, 5.0]))
    cells = 2
    while cells <= side:
        grid = rng.standard_normal((cells + 1, max(2, round((cells + 1) / stretch))), dtype=np.float32)
        total += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC) * np.float32(cells**-slope)
        cells *= 2
    total /= max(float(total.std()), 1e-6)
    colour = _hue(rng, 0, 360, (0.03, 0.45)) * np.float32(0.5)
    result: np.ndarray = (colour * np.exp(rng.uniform(0.08, 0.25) * total)[..., None]).astype(np.float32)
    return result


def _place(
    rng: np.random.Generator, kind: int, lamp: np.ndarray, canvas: np.ndarray, index: np.ndarray, whole: list[int]
) -> int | None:
    """Draw one more object in front, unless it would hide too much of another; its fine pixels, or None."""
    fine = canvas.shape[0]
    draw, most = list(_KINDS.values())[kind]
    radius = fine * np.exp(rng.uniform(np.log(0.065), np.log(0.17)))
    cx, cy = rng.uniform(0.08, 0.92, 2) * fine
    turn = rng.uniform(-most, most)
    reach = int(1.25 * radius) + 2
    x0, y0 = max(int(cx) - reach, 0), max(int(cy) - reach, 0)
    x1, y1 = min(int(cx) + reach, fine), min(int(cy) + reach, fine)
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    dx, dy = (x - cx) / radius, (y - cy) / radius
    c, s = np.cos(turn), np.sin(turn)
    here = (float(c * lamp[0] + s * lamp[1]), float(-s * lamp[0] + c * lamp[1]), float(lamp[2]))
    inside, colour = draw(_Sheet(rng, c * dx + s * dy, -s * dx + c * dy, here))
    part = index[y0:y1, x0:x1]
    covered = np.bincount(part[inside], minlength=len(whole) + 1)
    seen = np.bincount(index.ravel(), minlength=len(whole) + 1)
    left = (seen - covered)[1:]
    pixels = int(inside.sum())
    if pixels < _LEAST_PIXELS * _FINE**2 or any(left < np.maximum(np.array(whole) * _LEAST_VISIBLE, 4 * _LEAST_PIXELS)):
        return None
    ground = canvas[y0:y1, x0:x1]
    drop = np.exp(-(((dx + 0.35 * lamp[0]) ** 2 + (dy + 0.35 * lamp[1]) ** 2) / 0.8))
    ground *= (1 - rng.uniform(0.05, 0.3) * drop)[..., None]
    around = float((ground[inside] @ LUMINANCE).mean())
    contrast = rng.choice([-1, 1]) * rng.uniform(0.08, 0.75)
    level = around * np.exp(contrast) / float((colour[inside] @ LUMINANCE).mean())
    ground[inside] = colour[inside] * np.float32(level)
    part[inside] = len(whole) + 1
    return pixels


def _settled(index: np.ndarray, side: int, objects: int) -> np.ndarray:
    """The label that covers most of each pixel."""
    shares = [
        cv2.resize((index == i).astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        for i in range(objects + 1)
    ]
    result: np.ndarray = np.argmax(np.stack(shares), 0).astype(np.uint8)
    return result


def scene_annotations(scene: ComposedScene) -> list[dict[str, Any]]:
    """The objects of a scene as COCO's annotations, without ids: box and area of what is seen, and its mask as RLE."""
    from pycocotools import mask as rle

    found = []
    for i, category in enumerate(scene.category_ids, 1):
        mask = scene.labels == i
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, top = int(columns[0]), int(rows[0])
        encoded = rle.encode(np.asfortranarray(mask, np.uint8))
        found.append(
            {
                "category_id": category,
                "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")},
            }
        )
    return found


def make_composed_set(
    folder: Path, *, images: int, seed: int = 0, side: int = 160, progress: Progress | None = None
) -> Path:
    """Write a COCO-format data set: ``images/NUMBER.png`` and, last of all, ``instances.json``.

    The same arguments give the same bytes; another seed gives other scenes and other image ids. Every file appears
    whole or not at all; when the set is complete the same call does nothing.

    Args:
        folder: where to write; made if missing.
        images: number of images, 1..100000.
        seed: from 0.
        side: height and width of the images, 64..2048, even.
        progress: called with (images done, images in all).

    Returns:
        ``instances.json``.

    Raises:
        SceneError: an argument is out of range, or the folder holds something else.
    """
    _check(images, seed, side)
    folder = Path(folder)
    arguments = {"composed_version": _VERSION, "images": images, "seed": seed, "side": side}
    with claimed_folder(folder, arguments), AtOnce(fitting(_BYTES * side**2)) as pool:
        path = folder / ANNOTATIONS
        if path.exists():
            return path
        (folder / IMAGES).mkdir(exist_ok=True)
        entries: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []

        def written(path: Path, scene: ComposedScene) -> list[dict[str, Any]]:
            write_png(path, scene.picture)
            return scene_annotations(scene)

        names = [f"{number:06d}.png" for number in range(images)]
        made = pool.results(
            Scene(partial(composed_scene, seed, number, side), [partial(written, folder / IMAGES / name)])
            for number, name in enumerate(names)
        )
        for number, (name, found) in enumerate(zip(names, made, strict=True)):
            identity = seed * _IMAGES_PER_SEED + number + 1
            entries.append({"id": identity, "file_name": name, "width": side, "height": side})
            for entry in found:
                annotations.append({"id": len(annotations) + 1, "image_id": identity, **entry})
            if progress:
                progress(number + 1, images)
        data = {
            "info": {"description": f"composed scenes, seed {seed}"},
            "licenses": [],
            "categories": [{"id": number, "name": name} for number, name in CATEGORIES.items()],
            "images": entries,
            "annotations": annotations,
        }
        write_bytes(path, (json.dumps(data) + "\n").encode())
        return path


def _check(images: int, seed: int, side: int) -> None:
    if not 1 <= images <= _IMAGES_PER_SEED:
        raise SceneError(f"images must be within 1..{_IMAGES_PER_SEED}, not {images}")
    if seed < 0:
        raise SceneError(f"seeds start at 0, not {seed}")
    if side % 2 or not _SMALLEST_SIDE <= side <= _LARGEST_SIDE:
        raise SceneError(f"side {side} must be even and within {_SMALLEST_SIDE}..{_LARGEST_SIDE}")
