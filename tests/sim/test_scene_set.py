from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from other_programs import locked_by_another
from typer.testing import CliRunner

from drivers import stopping
from drivers.raw.raw_files import load_raw
from drivers.splits import Split
from sim.scenes import at_once, scene_set
from sim.scenes.lab_scenes import lab_scene
from sim.scenes.photographs import (
    SceneError,
    crop,
    deal_splits,
    folder_photographs,
    read_photograph,
    sample_photographs,
)
from sim.scenes.scene_set import make_scene_set
from workbench.collect.raw_folder import read_raw_folder
from workbench.commands.sim_scenes import scenes
from workbench.errors import StoppedError

SMALL: dict[str, Any] = {"lab_scenes": 3, "raws_per_scene": 2, "raws_per_photograph": 1, "size": (48, 64)}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "trip").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "trip/a.png", "trip/c.JPEG", "A B.png"):
        small = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
        image = cv2.resize(small, (150, 100), interpolation=cv2.INTER_CUBIC)
        (folder / name).write_bytes(cv2.imencode(Path(name).suffix, image)[1].tobytes())
    (folder / "notes.txt").write_text("no photograph")
    return folder


def test_a_set_holds_raws_references_and_the_table(tmp_path: Path) -> None:
    seen = []
    paths = make_scene_set(tmp_path / "raws", **SMALL, progress=lambda done, total: seen.append((done, total)))
    entries = read_raw_folder(tmp_path / "raws")
    assert [e.path for e in entries] == paths
    assert len(entries) == 3 * 2 + len(sample_photographs())
    assert seen == [(i + 1, len(entries)) for i in range(len(entries))]
    assert {e.split for e in entries if not e.scene.startswith("lab_")} == {"train", "validation", "test"}
    for entry in entries:
        raw = load_raw(entry.path)
        assert (raw.height, raw.width, raw.cfa) == (48, 64, "RGGB")
        assert raw.iso is not None
        assert raw.as_shot_wb is not None
        reference = cv2.imread(str(entry.reference), cv2.IMREAD_COLOR)
        assert reference is not None
        assert reference.shape == (48, 64, 3)
        # The reference shows the RAW's scene: their green planes go together.
        green = raw.planes()[1].ravel()
        wanted = cv2.resize(reference, (32, 24), interpolation=cv2.INTER_AREA)[..., 1].ravel()
        assert np.corrcoef(np.sqrt(np.maximum(green, 0)), wanted)[0, 1] > 0.25
    assert not list((tmp_path / "raws").glob("*.partial"))


def test_raws_of_a_scene_are_under_different_lights_by_one_camera(tmp_path: Path) -> None:
    paths = make_scene_set(tmp_path / "raws", lab_scenes=1, raws_per_scene=6, raws_per_photograph=0, size=(32, 32))
    raws = [load_raw(p) for p in paths]
    assert len({r.as_shot_wb for r in raws}) == 6
    assert len({r.colour_matrix for r in raws}) == 1
    assert len({r.black_level for r in raws}) == 1


def test_the_same_arguments_give_the_same_bytes_and_others_do_not(tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {"one": {}, "two": {}, "seed": {"seed": 1}, "camera": {"sensor_seed": 5}}
    for name, change in changes.items():
        make_scene_set(tmp_path / name, **{**SMALL, "raws_per_photograph": 0}, **change)
    one, two, seed, camera = (contents(tmp_path / n) for n in ("one", "two", "seed", "camera"))
    assert one == two
    assert set(one) & set(seed) == {"scenes.csv", "scene_set.json"}
    # Another camera takes the same scenes.
    assert one["lab_000000_000.reference.png"] == camera["lab_000000_000.reference.png"]
    assert one["lab_000000_000.npz"] != camera["lab_000000_000.npz"]


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how many cores there are."""

    def there_are(count: int) -> None:
        monkeypatch.setattr(at_once, "cores", lambda: count)

    return there_are


@pytest.mark.parametrize("change", [{}, {"frames": 3, "each_frame": True, "lab_scenes": 1}], ids=["", "bursts"])
def test_a_set_is_the_same_to_the_byte_on_any_number_of_cores(
    tmp_path: Path, cores: Callable[[int], None], change: dict[str, Any]
) -> None:
    for count in (1, 2, 7):
        cores(count)
        make_scene_set(tmp_path / f"of {count}", **{**SMALL, **change})
    one, *others = (contents(tmp_path / f"of {count}") for count in (1, 2, 7))
    assert all(other == one for other in others)


@pytest.mark.parametrize("count", [1, 4])
def test_a_damaged_photograph_is_told_and_all_before_it_is_made(
    tmp_path: Path, photographs: Path, cores: Callable[[int], None], count: int
) -> None:
    cores(count)
    damaged = photographs / "trip" / "a.png"  # the fourth of five
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    folder, arguments = tmp_path / "raws", {**SMALL, "raws_per_photograph": 2, "photographs": photographs}
    seen: list[int] = []
    with pytest.raises(SceneError, match=r"trip.a\.png: the photograph .* read"):
        make_scene_set(folder, **arguments, progress=lambda done, _: seen.append(done))
    assert seen == [1, 2, 3, 4, 5, 6]
    made = {path.name for path in folder.glob("*.npz")}
    assert {f"{name}_00{i}.npz" for name in ("A_B", "a", "b") for i in range(2)} <= made
    assert not any(name.startswith("trip_a") for name in made)
    assert not list(folder.glob("*.partial")) + list(folder.glob(".*"))
    assert not (folder / "scenes.csv").exists()
    for path in folder.glob("*.npz"):
        load_raw(path)


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
@pytest.mark.parametrize("count", [1, 4])
def test_a_full_disk_is_told_with_the_file_and_leaves_nothing_half_written(
    tmp_path: Path, photographs: Path, cores: Callable[[int], None], count: int
) -> None:
    import resource

    cores(count)
    folder = tmp_path / "raws"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as told:
            make_scene_set(folder, **SMALL, photographs=photographs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert told.value.filename == str(folder / "A_B_000.reference.png")
    assert [path.name for path in folder.iterdir()] == ["scene_set.json"]
    make_scene_set(folder, **SMALL, photographs=photographs)
    assert (folder / "scenes.csv").exists()


def test_ctrl_c_stops_what_is_being_drawn_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()
    app.command()(scenes)
    folder = tmp_path / "raws"
    arguments = [str(folder), "--lab-scenes=3", "--raws-per-photograph=0", "--raws-per-scene=2", "--size=64x32"]
    make_scene_set(tmp_path / "whole", lab_scenes=3, raws_per_photograph=0, raws_per_scene=2, size=(32, 64))

    def endless(number: int, side: int) -> np.ndarray:
        if number == 0:
            return lab_scene(number, side)
        if number == 1:
            signal.raise_signal(signal.SIGINT)
        while True:
            stopping.check()

    monkeypatch.setattr(scene_set, "lab_scene", endless)
    stopped = CliRunner().invoke(app, arguments)
    assert isinstance(stopped.exception, StoppedError)
    assert str(stopped.exception) == "every file written is whole; the same command goes on"
    assert not list(folder.glob("*.partial")) + list(folder.glob(".*"))
    assert not (folder / "scenes.csv").exists()
    monkeypatch.setattr(scene_set, "lab_scene", lab_scene)
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert contents(folder) == contents(tmp_path / "whole")


def test_a_complete_set_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "raws"
    make_scene_set(folder, **SMALL)
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}
    make_scene_set(folder, **SMALL)
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()} == before


def test_two_programs_do_not_make_scenes_in_one_folder_at_once(tmp_path: Path) -> None:
    """Each would find the folder empty, and the set would be a mixture under one of both descriptions."""
    folder = tmp_path / "raws"
    folder.mkdir()
    with locked_by_another(folder), pytest.raises(SceneError, match="another program makes scenes there right now"):
        make_scene_set(folder, **SMALL)
    make_scene_set(folder, **SMALL)
    assert not (folder / ".lock").exists()


class _StopHereError(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 4, 9])
def test_a_stopped_set_goes_on_to_the_very_same_set(tmp_path: Path, stop_at: int) -> None:
    def progress(done: Any, _total: Any) -> None:
        if done == stop_at:
            raise _StopHereError

    make_scene_set(tmp_path / "whole", **SMALL)
    folder = tmp_path / "stopped"
    with pytest.raises(_StopHereError):
        make_scene_set(folder, **SMALL, progress=progress)
    assert not (folder / "scenes.csv").exists()
    (folder / "lab_000000_000.npz.x1.partial").write_bytes(b"half")
    make_scene_set(folder, **SMALL)
    assert contents(folder) == contents(tmp_path / "whole")


def test_a_killed_process_leaves_only_whole_files(tmp_path: Path) -> None:
    make_scene_set(tmp_path / "whole", **SMALL)
    folder = tmp_path / "killed"
    code = (
        "import sys\nfrom pathlib import Path\nfrom sim.scenes.scene_set import make_scene_set\n"
        "def progress(done, total):\n    print(done, flush=True)\n"
        f"make_scene_set(Path(sys.argv[1]), **{SMALL!r}, progress=progress)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "3":
                process.kill()
                break
        process.wait(30)
    for path in folder.glob("*.npz"):
        load_raw(path)
        assert path.with_name(path.stem + ".reference.png").exists()
    make_scene_set(folder, **SMALL)
    assert contents(folder) == contents(tmp_path / "whole")


def test_a_deleted_raw_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "raws"
    make_scene_set(folder, **SMALL)
    before = contents(folder)
    (folder / "lab_000001_001.npz").unlink()
    make_scene_set(folder, **SMALL)
    assert contents(folder) == before


def test_another_set_or_other_files_are_not_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "raws"
    make_scene_set(folder, **SMALL)
    before = contents(folder)
    with pytest.raises(SceneError, match="lab_scenes 3, asked for 4"):
        make_scene_set(folder, **{**SMALL, "lab_scenes": 4})
    with pytest.raises(SceneError, match="camera"):
        make_scene_set(folder, **SMALL, sensor_seed=3)
    assert contents(folder) == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(SceneError, match="not empty"):
        make_scene_set(other, **SMALL)
    assert contents(other) == {"mine.txt": b"mine"}
    (other / "mine.txt").rename(other / "mine.partial")
    with pytest.raises(SceneError, match="not empty"):
        make_scene_set(other, **SMALL)
    assert contents(other) == {"mine.partial": b"mine"}
    (folder / "scene_set.json").write_text("{")
    with pytest.raises(SceneError, match="damaged"):
        make_scene_set(folder, **SMALL)


def test_a_call_that_made_no_raw_binds_nobody(tmp_path: Path) -> None:
    make_scene_set(tmp_path / "wanted", **SMALL)
    folder = tmp_path / "raws"
    folder.mkdir()
    (folder / "scene_set.json").write_text('{"version": 0}')
    (folder / "lab_000000_000.npz.partial").write_bytes(b"half")
    make_scene_set(folder, **SMALL)
    assert contents(folder) == contents(tmp_path / "wanted")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": (47, 64)}, "64×47"),
        ({"size": (8, 64)}, "64×8"),
        ({"raws_per_scene": 0}, "raws_per_scene"),
        ({"lab_scenes": -1}, "-1"),
        ({"lab_scenes": 0, "raws_per_photograph": 0}, "needs lab scenes or photographs"),
        ({"seed": -1}, "-1"),
    ],
)
def test_arguments_out_of_range_are_named_before_anything_is_written(tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(SceneError, match=words):
        make_scene_set(tmp_path / "raws", **{**SMALL, **change})
    assert not (tmp_path / "raws").exists()


def test_a_folder_of_photographs_becomes_scenes(tmp_path: Path, photographs: Path) -> None:
    found = folder_photographs(photographs)
    assert [p.scene for p in found] == ["A_B", "a", "b", "trip_a", "trip_c"]
    assert {p.split for p in found} == {"train", "validation", "test"}
    make_scene_set(tmp_path / "raws", photographs=photographs, **{**SMALL, "raws_per_photograph": 2, "lab_scenes": 1})
    with (tmp_path / "raws" / "scenes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * 2 + 2
    assert {r["split"] for r in rows if r["scene"] == "b"} == {next(p.split for p in found if p.scene == "b")}


def test_changed_photographs_are_noticed(tmp_path: Path, photographs: Path) -> None:
    make_scene_set(tmp_path / "raws", photographs=photographs, **SMALL)
    (photographs / "a.png").write_bytes((photographs / "A B.png").read_bytes())
    with pytest.raises(SceneError, match="photographs"):
        make_scene_set(tmp_path / "raws", photographs=photographs, **SMALL)


def test_names_that_would_be_alike_stay_apart(tmp_path: Path) -> None:
    image = cv2.imencode(".png", np.zeros((80, 80, 3), np.uint8))[1].tobytes()
    (tmp_path / "x").mkdir()
    for name in ("x/1.png", "x_1.png", "x 1.jpg", "q.png", "q.jpg"):
        (tmp_path / name).write_bytes(image)
    names = [p.scene for p in folder_photographs(tmp_path)]
    assert len({n.lower() for n in names}) == 5


def test_dealt_splits_hold_all_splits_and_keep_their_shares() -> None:
    few = deal_splits(["a", "b", "c"])
    assert sorted(few.values()) == ["test", "train", "validation"]
    many = list(deal_splits([f"p{i}" for i in range(100)]).values())
    assert tuple(many.count(split) for split in Split) == (70, 10, 20)


def test_unusable_photographs_are_named(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="nowhere"):
        folder_photographs(tmp_path / "nowhere")
    with pytest.raises(SceneError, match="no photograph"):
        folder_photographs(tmp_path)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no image")
    with pytest.raises(SceneError, match=r"broken\.jpg"):
        read_photograph(broken)
    broken.write_bytes(cv2.imencode(".png", np.zeros((20, 90, 3), np.uint8))[1].tobytes())
    with pytest.raises(SceneError, match="90×20"):
        read_photograph(broken)


def test_the_samples_are_colour_photographs() -> None:
    for photograph in sample_photographs():
        for path in photograph.paths:
            pixels = read_photograph(path)
            assert np.abs(pixels[..., 0].astype(int) - pixels[..., 2]).mean() > 3


def test_crops_cover_a_third_to_all_of_the_photograph() -> None:
    yy, xx = np.mgrid[0:200, 0:300]
    photograph = np.stack([xx * 255 / 299, yy * 255 / 199, 0 * xx], axis=2).astype(np.uint8)
    rng = np.random.default_rng(0)
    crops = [crop(photograph, (64, 64), rng) for _ in range(200)]
    heights = np.array([(int(c[-1, 0, 1]) - int(c[0, 0, 1])) / 255 for c in crops])
    assert 0.3 < heights.min() < 0.5
    assert heights.max() > 0.93
    flipped = [c[0, 0, 0] > c[0, -1, 0] for c in crops]
    assert 60 < sum(flipped) < 140
    assert np.array_equal(crop(photograph, (64, 64), rng, whole=True), crop(photograph, (64, 64), rng, whole=True))


def test_the_command_makes_a_set_and_says_what_it_holds(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(scenes)
    folder = tmp_path / "raws"
    arguments = [str(folder), "--lab-scenes=2", "--raws-per-scene=1", "--raws-per-photograph=1", "--size=64x32"]
    result = CliRunner().invoke(app, [*arguments, "--cfa=GBRG", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["raws"] == 2 + len(sample_photographs()) == sum(s["raws"] for s in told["splits"].values())
    raw = load_raw(read_raw_folder(folder)[0].path)
    assert (raw.width, raw.height, raw.cfa) == (64, 32, "GBRG")
    again = CliRunner().invoke(app, [*arguments, "--cfa=GBRG"])
    assert f"{told['raws']} RAWs" in again.stdout
    assert CliRunner().invoke(app, [*arguments, "--size=64"]).exit_code == 2
    assert isinstance(CliRunner().invoke(app, [*arguments, "--seed=1"]).exception, SceneError)


@pytest.mark.parametrize(("width", "side"), [(140, 280), (200, 300)])
def test_lab_scenes_of_large_frames_are_drawn_no_larger_than_fits_into_memory(
    width: int, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def watched(seed: int, side: int) -> np.ndarray:
        drawn.append(side)
        return np.full((side, side, 3), 90, np.uint8)

    monkeypatch.setattr(scene_set, "lab_scene", watched)
    monkeypatch.setattr(scene_set, "LARGEST_LAB_SIDE", 300)
    own = {**SMALL, "lab_scenes": 1, "raws_per_photograph": 0, "size": (48, width)}
    (first, _) = make_scene_set(tmp_path / "raws", **own)
    assert load_raw(first).width == width
    assert drawn == [side]
    manifest = json.loads((tmp_path / "raws" / "scene_set.json").read_text(encoding="utf-8"))
    assert manifest.get("lab_side") == (300 if width == 200 else None)
