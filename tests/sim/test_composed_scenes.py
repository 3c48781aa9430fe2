"""Composed scenes: deterministic, their boxes and masks are where the objects are, and `sim coco` takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from drivers.raw.raw_files import load_raw
from sim.scenes.composed_scenes import CATEGORIES, composed_scene, make_composed_set, scene_annotations
from sim.scenes.photographs import SceneError
from workbench.commands.sim import app
from workbench.tasks.coco import decode_mask
from workbench.tasks.coco_file import read_coco

RUN = typer.Typer()
RUN.add_typer(app, name="sim")


def test_a_scene_follows_from_its_seed_and_number() -> None:
    one, same, other = composed_scene(3, 5), composed_scene(3, 5), composed_scene(3, 6)
    assert np.array_equal(one.picture, same.picture)
    assert np.array_equal(one.labels, same.labels)
    assert not np.array_equal(one.picture, other.picture)


@pytest.mark.parametrize("side", [64, 96, 160])
def test_boxes_and_masks_are_what_is_seen(side: int) -> None:
    kinds = set()
    for number in range(12):
        scene = composed_scene(1, number, side)
        assert scene.picture.shape == (side, side, 3)
        assert scene.labels.max() == len(scene.category_ids)
        for i, entry in enumerate(scene_annotations(scene), 1):
            mask = decode_mask(entry["segmentation"], side, side)
            assert np.array_equal(mask, scene.labels == i)
            left, top, width, height = entry["bbox"]
            assert mask[top : top + height, left : left + width].sum() == mask.sum() == entry["area"] > 0
            kinds.add(entry["category_id"])
    assert kinds == set(CATEGORIES)


def test_a_set_is_whole_and_goes_on(tmp_path: Path) -> None:
    path = make_composed_set(tmp_path / "a", images=4, seed=2, side=64)
    again = make_composed_set(tmp_path / "b", images=4, seed=2, side=64)
    assert path.read_bytes() == again.read_bytes()
    data = read_coco(path, tmp_path / "a" / "images")
    assert len(data.images) == 4
    made = path.stat().st_mtime_ns
    make_composed_set(tmp_path / "a", images=4, seed=2, side=64)
    assert path.stat().st_mtime_ns == made
    with pytest.raises(SceneError):
        make_composed_set(tmp_path / "a", images=5, seed=2, side=64)
    # A folder that was left half-way is made whole.
    (tmp_path / "b" / "instances.json").unlink()
    (tmp_path / "b" / "images" / "000002.png").unlink()
    make_composed_set(tmp_path / "b", images=4, seed=2, side=64)
    assert path.read_bytes() == again.read_bytes()
    for name in ("000000.png", "000002.png"):
        assert (tmp_path / "a" / "images" / name).read_bytes() == (tmp_path / "b" / "images" / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"images": 0}, "images"), ({"images": 1, "seed": -1}, "seeds"), ({"images": 1, "side": 65}, "even")],
)
def test_what_cannot_be_made_is_one_clear_line(tmp_path: Path, arguments: dict[Any, Any], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        make_composed_set(tmp_path / "x", **arguments)
    assert not (tmp_path / "x").exists()


def test_sim_coco_makes_raws_of_them_with_their_masks(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        return CliRunner().invoke(RUN, ["sim", *arguments], catch_exceptions=False).stdout

    told = json.loads(run("composed", str(tmp_path / "set"), "--images", "3", "--side", "64", "--seed", "7", "--json"))
    assert told["count"] == 3
    run("coco", str(tmp_path / "raws"), "--test", told["annotations"], told["images"])
    made = read_coco(tmp_path / "raws" / "annotations.json")
    source = read_coco(Path(told["annotations"]))
    for image, original in zip(made.images, source.images, strict=True):
        raw = load_raw(tmp_path / "raws" / image.file)
        assert (raw.width, raw.height) == (image.width, image.height) == (64, 64)
        reference = cv2.imread(tmp_path / "raws" / image.file.replace(".npz", ".reference.png"))
        assert reference is not None
        assert reference.shape == (64, 64, 3)
        for ours, theirs in zip(image.annotations, original.annotations, strict=True):
            assert ours.box == theirs.box
            assert ours.segmentation is not None
            assert theirs.segmentation is not None
            assert np.array_equal(decode_mask(ours.segmentation, 64, 64), decode_mask(theirs.segmentation, 64, 64))
