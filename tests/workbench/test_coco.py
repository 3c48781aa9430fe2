"""COCO-format data sets: read, moved into RAW frames, simulated, scored; and what is said of those that are broken."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle
from typer.testing import CliRunner, Result

from drivers.raw.raw_files import load_raw
from drivers.splits import Split
from sim.scenes.coco_scenes import AnnotatedPhotograph, make_annotated_raws
from sim.scenes.photographs import SceneError
from workbench.collect.raw_folder import read_raw_folder
from workbench.commands.sim_coco import coco
from workbench.tasks.coco import (
    AnnotatedImage,
    Annotation,
    CocoError,
    coco_dict,
    coco_scores,
    decode_mask,
    encode_mask,
    fit,
    fitted,
    results_of,
    target_of,
)
from workbench.tasks.coco_file import read_coco
from workbench.tasks.detectors import Prediction

CATEGORIES: list[dict[str, Any]] = [{"id": 3, "name": "car"}, {"id": 18, "name": "dog"}]


def photograph(path: Path, width: int, height: int, seed: int = 0) -> None:
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def blob(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[10:30, 20:60] = True
    return mask


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    flat = mask.T.reshape(-1).astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], edges])).tolist()}


def small_set(folder: Path, first_id: int = 7, pictures: int = 1) -> dict[str, Any]:
    """Two images with a polygon, a crowd as run lengths and a box; written as ``set.json`` and ``images/``."""
    photograph(folder / "images/a.png", 101, 80, pictures)
    photograph(folder / "images/sub/b.jpg", 90, 61, pictures + 1)
    data = {
        "info": {},
        "licenses": [{"id": 2, "name": "CC BY 2.0"}],
        "categories": CATEGORIES,
        "images": [
            {"id": first_id + 5, "file_name": "sub/b.jpg", "width": 90, "height": 61},
            {"id": first_id, "file_name": "a.png", "width": 101, "height": 80, "license": 2},
        ],
        "annotations": [
            {
                "id": 0,
                "image_id": first_id,
                "category_id": 18,
                "bbox": [20, 10, 40, 20],
                "area": 800,
                "iscrowd": 0,
                "segmentation": [[20, 10, 60, 10, 60, 30, 20, 30]],
            },
            {
                "id": 1,
                "image_id": first_id,
                "category_id": 3,
                "bbox": [20, 10, 40, 20],
                "area": 800,
                "iscrowd": 1,
                "segmentation": uncompressed(blob(80, 101)),
            },
            {"id": 2, "image_id": first_id + 5, "category_id": 3, "bbox": [80, 50, 10, 11], "area": 110},
        ],
    }
    (folder / "set.json").write_text(json.dumps(data))
    return data


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(coco)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_a_set_is_read(tmp_path: Path) -> None:
    small_set(tmp_path)
    found = read_coco(tmp_path / "set.json", tmp_path / "images")
    assert [(i.id, i.file, i.width, i.height) for i in found.images] == [
        (7, "a.png", 101, 80),
        (12, "sub/b.jpg", 90, 61),
    ]
    assert [a.crowd for a in found.images[0].annotations] == [False, True]
    assert found.images[1].annotations[0].segmentation is None
    assert found.categories[18]["name"] == "dog"
    assert found.images[0].more == {"license": 2}


def test_what_is_written_is_what_was_read(tmp_path: Path) -> None:
    small_set(tmp_path)
    first = read_coco(tmp_path / "set.json")
    (tmp_path / "again.json").write_text(json.dumps(coco_dict(first.images, first.categories, first.licenses)))
    again = read_coco(tmp_path / "again.json")
    assert again.images == first.images
    assert again.categories == first.categories
    assert again.licenses == first.licenses


def change(data: dict[str, Any], what: str) -> None:
    first, second = data["annotations"][0], data["annotations"][1]
    if what == "image":
        first["image_id"] = 99
    elif what == "category":
        first["category_id"] = 1
    elif what == "size":
        second["segmentation"] = uncompressed(blob(101, 80))
    elif what == "pixels":
        second["segmentation"]["counts"][0] += 5
    elif what == "negative":
        second["segmentation"]["counts"][:2] = [-5, 10**9]
    elif what == "string":
        second["segmentation"]["counts"] = "0a~!"
    elif what == "longer":
        mask = rle.encode(np.asfortranarray(blob(160, 101), np.uint8))
        second["segmentation"] = {"size": [80, 101], "counts": mask["counts"].decode()}
    elif what == "polygon":
        first["segmentation"] = [[1, 2, 3, 4]]
    elif what == "box":
        first["bbox"] = [1, 2, -3, 4]
    elif what == "nan":
        first["bbox"] = [1, 2, float("nan"), 4]
    elif what == "key":
        del first["bbox"]
    elif what == "twice":
        data["images"].append(data["images"][0])
    elif what == "file":
        data["images"][0]["file_name"] = "gone.jpg"
    elif what == "id":
        data["images"][0]["id"] = "x7"
    elif what == "type":
        data["annotations"][0] = 5
    elif what == "list":
        del data["images"]
    else:
        del data["annotations"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("image", "annotation 0 is of image 99, which is not in the file"),
        ("category", "annotation 0 is of category 1, which is not in the file's categories"),
        ("size", "annotation 1 of image 7: its mask is 80×101, the image 101×80"),
        ("pixels", "its mask has 8085 pixels, the image 8080"),
        ("negative", "run lengths are damaged"),
        ("string", "run lengths are damaged"),
        ("longer", "its mask has 16160 pixels, the image 8080"),
        ("polygon", "a polygon of 4 numbers"),
        ("box", "is not left, top, width, height"),
        ("nan", "is not left, top, width, height"),
        ("key", "no 'bbox'"),
        ("twice", "image id 12 stands twice"),
        ("file", "image 12 is gone.jpg, not in"),
        ("id", "image id is 'x7'"),
        ("type", "is not in COCO format"),
        ("list", "needs the lists images"),
        ("none", "has no list of annotations"),
    ],
)
def test_a_broken_set_is_one_clear_line(tmp_path: Path, what: str, message: str) -> None:
    data = small_set(tmp_path)
    change(data, what)
    (tmp_path / "set.json").write_text(json.dumps(data))
    with pytest.raises(CocoError) as caught:
        read_coco(tmp_path / "set.json", tmp_path / "images")
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "set.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"images": 1}', "\ud800", "null"])
def test_a_broken_json_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "set.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CocoError) as caught:
        read_coco(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CocoError, match="cannot read the annotations"):
        read_coco(tmp_path / "none.json")


@given(st.binary(max_size=40).map(lambda b: b.decode("latin-1")), st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=150, deadline=None)
def test_no_run_lengths_harm_the_decoder(
    tmp_path_factory: pytest.TempPathFactory, counts: str, height: int, width: int
) -> None:
    path = tmp_path_factory.mktemp("rle") / "set.json"
    entry: dict[str, Any] = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]}
    entry["segmentation"] = {"size": [height, width], "counts": counts or "0"}
    image = {"id": 1, "file_name": "a.png", "width": width, "height": height}
    path.write_text(json.dumps({"images": [image], "categories": CATEGORIES, "annotations": [entry]}))
    try:
        found = read_coco(path)
    except CocoError:
        return
    segmentation = found.images[0].annotations[0].segmentation
    assert segmentation is not None
    assert decode_mask(segmentation, height, width).shape == (height, width)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_mask_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, height: int, width: int, compressed: bool
) -> None:
    path = tmp_path_factory.mktemp("rle") / "set.json"
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    entry: dict[str, Any] = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]}
    entry["segmentation"] = encode_mask(mask) if compressed else uncompressed(mask)
    image = {"id": 1, "file_name": "a.png", "width": width, "height": height}
    path.write_text(json.dumps({"images": [image], "categories": CATEGORIES, "annotations": [entry]}))
    (found,) = read_coco(path).images
    segmentation = found.annotations[0].segmentation
    assert segmentation is not None
    assert np.array_equal(decode_mask(segmentation, height, width), mask)


@given(st.integers(2, 3000), st.integers(2, 3000), st.integers(8, 640))
def test_a_frame_is_even_and_no_larger_than_asked_or_than_the_image(width: int, height: int, longest: int) -> None:
    how = fit(width, height, longest)
    assert all(side % 2 == 0 and side >= 2 for side in how.size)
    assert max(how.size) <= longest
    if max(width, height) <= longest:
        assert how.scale == (1, 1)
        assert max(width - how.size[0], height - how.size[1]) <= 1
    else:
        assert how.crop == (width, height)
        assert abs(how.size[0] - width * longest / max(width, height)) <= 2
        assert abs(how.size[1] - height * longest / max(width, height)) <= 2


def test_boxes_and_masks_move_with_the_picture() -> None:
    mask = blob(120, 200)
    polygon = [[20.0, 10.0, 60.0, 10.0, 60.0, 30.0, 20.0, 30.0]]
    annotations = (
        Annotation(3, (20, 10, 40, 20), 800, False, polygon),
        Annotation(3, (20, 10, 40, 20), 800, True, encode_mask(mask)),
    )
    how = fit(200, 120, 100)
    found = fitted(AnnotatedImage(1, "a.png", 200, 120, annotations), how)
    assert (found.width, found.height) == how.size == (100, 60)
    expected = cv2.resize(mask.astype(np.uint8), (100, 60), interpolation=cv2.INTER_AREA).astype(bool)
    for annotation in found.annotations:
        assert annotation.box == (10, 5, 20, 10)
        assert annotation.area == 200
        assert annotation.segmentation is not None
        assert np.array_equal(decode_mask(annotation.segmentation, 60, 100), expected)


def test_what_a_crop_cuts_is_cut_and_what_it_leaves_nothing_of_is_gone() -> None:
    annotations = (
        Annotation(3, (90, 50, 11, 11), 121),
        Annotation(3, (100.2, 0, 0.8, 5), 4),
        Annotation(3, (5, 5, 0, 0), 0),
    )
    found = fitted(AnnotatedImage(1, "a.png", 101, 61, annotations), fit(101, 61, 320))
    assert [a.box for a in found.annotations] == [(90, 50, 10, 10)]
    assert found.annotations[0].area == pytest.approx(100)


def test_a_target_leaves_out_crowds_and_empty_boxes() -> None:
    polygon = [[20.0, 10.0, 60.0, 10.0, 60.0, 30.0, 20.0, 30.0]]
    annotations = (
        Annotation(18, (20, 10, 40, 20), 800, False, polygon),
        Annotation(3, (1, 2, 3, 4), 12, True),
        Annotation(3, (1, 2, 0, 4), 0),
        Annotation(3, (1, 2, 3, 4), 12),
    )
    image = AnnotatedImage(1, "a.png", 100, 50, annotations)
    boxes = target_of(image)
    assert boxes.boxes.tolist() == [[20, 10, 60, 30], [1, 2, 4, 6]]
    assert boxes.category_ids.tolist() == [18, 3]
    assert boxes.masks is None
    masks = target_of(image, masks=True)
    assert masks.category_ids.tolist() == [18]
    assert masks.masks is not None
    assert np.array_equal(masks.masks[0].numpy(), blob(50, 100))
    empty = target_of(AnnotatedImage(1, "a.png", 100, 50), masks=True)
    assert empty.boxes.shape == (0, 4)
    assert empty.masks is not None
    assert empty.masks.shape == (0, 50, 100)


def test_a_set_becomes_a_raw_folder(tmp_path: Path) -> None:
    small_set(tmp_path)
    small_set(tmp_path / "other", first_id=7, pictures=3)
    arguments: tuple[object, ...] = ("--train", tmp_path / "set.json", tmp_path / "images")
    arguments += ("--longest", 60, "--validation-share", 0)
    arguments += ("--test", tmp_path / "other/set.json", tmp_path / "other/images", "--json")
    result = run(tmp_path / "raws", *arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["splits"] == {"train": 2, "validation": 0, "test": 2}
    assert (told["raws"], told["objects"]) == (4, 6)
    entries = read_raw_folder(tmp_path / "raws")
    annotated = {i.file: i for i in read_coco(tmp_path / "raws/annotations.json", tmp_path / "raws").images}
    assert [(e.path.name, e.split) for e in entries] == [
        ("test_000000000007.npz", "test"),
        ("test_000000000012.npz", "test"),
        ("train_000000000007.npz", "train"),
        ("train_000000000012.npz", "train"),
    ]
    for entry in entries:
        raw, image = load_raw(entry.path), annotated[entry.path.name]
        assert raw.mosaic.shape == (image.height, image.width)
        assert entry.reference is not None
        reference = cv2.imread(str(entry.reference))
        assert reference is not None
        assert reference.shape[:2] == raw.mosaic.shape
        assert raw.iso is not None
        assert 100 <= raw.iso <= 12800
    assert annotated["train_000000000007.npz"].more == {"license": 2, "source_id": 7, "source_file": "a.png"}
    assert len({i.id for i in annotated.values()}) == 4
    before = contents(tmp_path / "raws")
    (tmp_path / "raws/train_000000000012.npz").unlink()
    (tmp_path / "raws/scenes.csv").unlink()
    assert run(tmp_path / "raws", *arguments).exit_code == 0
    assert contents(tmp_path / "raws") == before
    other = run(tmp_path / "raws", *arguments, "--seed", 1)
    assert isinstance(other.exception, SceneError)
    assert "holds scenes made differently (seed 0, asked for 1)" in str(other.exception)
    smaller = run(tmp_path / "raws", *(48 if word == 60 else word for word in arguments))
    assert "holds scenes made differently (annotations, images, splits or sizes)" in str(smaller.exception)


def test_a_photograph_in_the_test_split_and_another_is_refused(tmp_path: Path) -> None:
    small_set(tmp_path)
    small_set(tmp_path / "other", first_id=99, pictures=2)  # its first picture is the other's second, in another format
    photograph(tmp_path / "other/images/sub/b.jpg", 90, 61, 2)
    arguments: tuple[object, ...] = ("--train", tmp_path / "set.json", tmp_path / "images")
    arguments += ("--test", tmp_path / "other/set.json", tmp_path / "other/images")
    result = run(tmp_path / "raws", *arguments)
    assert isinstance(result.exception, SceneError)
    assert re.search(r"b\.jpg: is in split test and, as .*b\.jpg, in split \w+; give every", str(result.exception))
    assert not (tmp_path / "raws").exists()


def test_a_raw_depends_on_its_image_and_the_seed_alone(tmp_path: Path) -> None:
    small_set(tmp_path)
    source = ("--test", tmp_path / "set.json", tmp_path / "images")
    assert run(tmp_path / "both", *source).exit_code == 0
    assert run(tmp_path / "one", *source, "--limit", 1).exit_code == 0
    assert run(tmp_path / "seed", *source, "--limit", 1, "--seed", 3).exit_code == 0
    both, one, seed = (contents(tmp_path / name) for name in ("both", "one", "seed"))
    assert one["test_000000000007.npz"] == both["test_000000000007.npz"]
    assert "test_000000000012.npz" not in one
    assert seed["test_000000000007.npz"] != one["test_000000000007.npz"]


def test_several_raws_of_a_photograph_are_one_scene(tmp_path: Path) -> None:
    small_set(tmp_path)
    source = ("--test", tmp_path / "set.json", tmp_path / "images")
    assert run(tmp_path / "once", *source).exit_code == 0
    told = json.loads(run(tmp_path / "thrice", *source, "--raws-per-photograph", 3, "--json").stdout)
    assert (told["raws"], told["objects"]) == (6, 9)
    entries = read_raw_folder(tmp_path / "thrice")
    of_seven = [e for e in entries if e.scene == "test_000000000007"]
    assert [e.path.name for e in of_seven] == [f"test_000000000007{end}.npz" for end in ("", "_1", "_2")]
    for name, data in contents(tmp_path / "once").items():
        if name.endswith((".npz", ".png")):
            assert contents(tmp_path / "thrice")[name] == data
    assert len({load_raw(e.path).hash for e in of_seven}) == len({load_raw(e.path).as_shot_wb for e in of_seven}) == 3
    images = read_coco(tmp_path / "thrice/annotations.json", tmp_path / "thrice").images
    assert {i.file for i in images} == {e.path.name for e in entries}
    assert len({i.id for i in images}) == 6
    first, second, third = ([a.box for a in i.annotations] for i in images[:3])
    assert first == second == third


def test_the_reference_is_where_the_boxes_say(tmp_path: Path) -> None:
    picture = np.full((120, 200, 3), 60, np.uint8)
    picture[40:90, 50:130] = 230
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), picture)
    entry = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [50, 40, 80, 50], "area": 4000}
    image = {"id": 1, "file_name": "a.png", "width": 200, "height": 120}
    (tmp_path / "set.json").write_text(
        json.dumps({"images": [image], "categories": CATEGORIES, "annotations": [entry]})
    )
    assert run(tmp_path / "raws", "--test", tmp_path / "set.json", tmp_path / "images", "--longest", 100).exit_code == 0
    (found,) = read_coco(tmp_path / "raws/annotations.json").images
    x, y, w, h = (round(v) for v in found.annotations[0].box)
    reference = cv2.imread(str(tmp_path / "raws/test_000000000001.reference.png"))
    assert reference is not None
    assert np.array_equal(np.argwhere(reference[..., 0] > 145)[[0, -1]], [[y, x], [y + h - 1, x + w - 1]])
    # Even pixels of the mosaic are one colour: the object shows in the RAW at the same place.
    red = load_raw(tmp_path / "raws/test_000000000001.npz").mosaic[::2, ::2].astype(float)
    inside = red[y // 2 + 2 : (y + h) // 2 - 2, x // 2 + 2 : (x + w) // 2 - 2]
    assert np.median(inside) > np.median(red[: y // 2 - 2])


def test_part_of_the_training_images_becomes_validation(tmp_path: Path) -> None:
    data: dict[str, Any] = {"images": [], "categories": CATEGORIES, "annotations": []}
    photograph(tmp_path / "images/a.png", 32, 32)
    data["images"] = [{"id": i, "file_name": "a.png", "width": 32, "height": 32} for i in range(30)]
    (tmp_path / "set.json").write_text(json.dumps(data))
    source = ("--train", tmp_path / "set.json", tmp_path / "images", "--json")
    result = run(tmp_path / "raws", *source, "--validation-share", 0.3)
    assert result.exit_code == 0, result.output
    splits = json.loads(result.stdout)["splits"]
    assert splits["train"] + splits["validation"] == 30
    assert 4 <= splits["validation"] <= 15
    given_apart = run(tmp_path / "apart", *source, "--validation", tmp_path / "set.json", tmp_path / "images")
    assert json.loads(given_apart.stdout)["splits"] == {"train": 30, "validation": 30, "test": 0}


def test_a_photograph_stored_on_its_side_is_taken_as_annotated(tmp_path: Path) -> None:
    from PIL import Image

    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :30, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn to the right by 90 degrees
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif, quality=95)
    for name, size in (("stored", (60, 40)), ("upright", (40, 60))):
        one = AnnotatedPhotograph(name, Split.TEST, 1, tmp_path / "a.jpg", size, size, size)
        make_annotated_raws(tmp_path / name, [one], b"{}")
        reference = cv2.imread(str(tmp_path / name / f"{name}.reference.png"))
        assert reference is not None
        assert reference.shape == (size[1], size[0], 3)
        red = reference[..., 2] > 128
        where = red[:, : size[0] // 2 - 4] if name == "stored" else red[: size[1] // 2 - 4]
        assert where.all()


@pytest.mark.parametrize("kind", ["other size", "no image", "too small"])
def test_a_photograph_that_is_not_as_annotated_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    data = small_set(tmp_path)
    messages = {
        "other size": "is 50×50, its annotations say 101×80",
        "no image": "is not a photograph that can be read",
        "too small": "a RAW of 16×14 cannot be made of it",
    }
    if kind == "other size":
        photograph(tmp_path / "images/a.png", 50, 50)
    elif kind == "no image":
        (tmp_path / "images/a.png").write_bytes(b"no image")
    options = ("--longest", 16) if kind == "too small" else ()
    if kind == "too small":
        data["images"][1].update(width=64, height=55)
        data["annotations"][:2] = []
        (tmp_path / "set.json").write_text(json.dumps(data))
    result = run(tmp_path / "raws", "--test", tmp_path / "set.json", tmp_path / "images", *options)
    assert isinstance(result.exception, SceneError)
    assert messages[kind] in str(result.exception)


def test_categories_must_agree_between_the_sets(tmp_path: Path) -> None:
    small_set(tmp_path)
    data = small_set(tmp_path / "other")
    data["categories"][0] = {"id": 3, "name": "tram"}
    (tmp_path / "other/set.json").write_text(json.dumps(data))
    both: tuple[object, ...] = ("--train", tmp_path / "set.json", tmp_path / "images")
    both += ("--test", tmp_path / "other/set.json", tmp_path / "other/images")
    result = run(tmp_path / "raws", *both)
    assert isinstance(result.exception, CocoError)
    assert "category 3 is 'tram', in the other file 'car'" in str(result.exception)
    assert run(tmp_path / "raws").exit_code == 2


def scored_set() -> tuple[dict[str, Any], AnnotatedImage]:
    polygon = [[20.0, 10.0, 60.0, 10.0, 60.0, 30.0, 20.0, 30.0]]
    image = AnnotatedImage(5, "a.png", 100, 50, (Annotation(18, (20, 10, 40, 20), 800, False, polygon),))
    return coco_dict([image], {c["id"]: c for c in CATEGORIES}), image


def prediction(left: float, score: float = 0.9, category: int = 18) -> Prediction:
    mask = torch.zeros(1, 50, 100, dtype=torch.bool)
    mask[:, 10:30, round(left) : round(left) + 40] = True
    box = torch.tensor([[left, 10.0, left + 40, 30.0]])
    return Prediction(box, torch.tensor([score]), torch.tensor([category]), mask)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_scores_are_those_of_the_overlap(kind: Literal["bbox", "segm"]) -> None:
    truth, _ = scored_set()
    assert coco_scores(truth, results_of(5, prediction(20)), kind) == pytest.approx({"map": 1, "map50": 1, "map75": 1})
    # Moved by 10 of 40 pixels: 30 in common of 50, an IoU of 0.6, so 3 of the 10 thresholds.
    moved = coco_scores(truth, results_of(5, prediction(30)), kind)
    assert moved["map50"] == pytest.approx(1)
    assert moved["map75"] == 0
    assert moved["map"] == pytest.approx(0.3)
    # The better score of the wrong place comes first: half the precision.
    two = results_of(5, prediction(20, 0.5)) + results_of(5, prediction(60, 0.9))
    assert coco_scores(truth, two, kind)["map50"] == pytest.approx(0.5)
    assert coco_scores(truth, results_of(5, prediction(20, category=3)), kind)["map50"] == 0


def test_scores_change_nothing_and_say_what_is_missing() -> None:
    truth, _ = scored_set()
    results = results_of(5, prediction(20))
    before = json.dumps([truth, results])
    coco_scores(truth, results)
    assert json.dumps([truth, results]) == before
    assert coco_scores(truth, []) == {"map": 0, "map50": 0, "map75": 0}
    with pytest.raises(CocoError, match="image 6 is not in the data set"):
        coco_scores(truth, results_of(6, prediction(20)))
    with pytest.raises(CocoError, match="nothing to score"):
        coco_scores({**truth, "annotations": []}, results)


@pytest.mark.needs_data
def test_a_real_set_is_read_and_moved(data_dir: Path) -> None:
    folder = data_dir / "coco"
    found = read_coco(folder / "annotations/instances_val2017.json", folder / "val2017")
    assert len(found.images) == 160
    for image in found.images[:20]:
        how = fit(image.width, image.height, 320)
        moved = fitted(image, how)
        assert len(moved.annotations) == len(image.annotations)
        for before, after in zip(image.annotations, moved.annotations, strict=True):
            across, down = how.scale
            x, y, w, h = before.box
            expected = (x * across, y * down, (x + w) * across, (y + h) * down)
            left, top, width, height = after.box
            # COCO's own boxes may reach over the border by a fraction of a pixel.
            assert (left, top, left + width, top + height) == pytest.approx(expected, abs=1)
            assert after.segmentation is not None
            pixels = decode_mask(after.segmentation, moved.height, moved.width)
            if after.area > 400:
                assert pixels.sum() == pytest.approx(after.area, rel=0.15)
