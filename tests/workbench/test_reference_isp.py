"""References rendered by another ISP: `sim scenes --reference-isp`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from small_isp import SPACE, SmallIsp, render
from typer.testing import CliRunner

from drivers.device import Capture, DeviceInfo, Failure, FrameFailedError
from drivers.errors import DeviceError, ParameterError, WorkbenchError
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import ParameterSet
from drivers.raw.raw_files import load_raw
from drivers.registry import open_device
from sim.scenes.photographs import SceneError
from sim.scenes.scene_set import make_scene_set
from workbench.cli import _every_command
from workbench.collect.raw_folder import read_raw_folder
from workbench.collect.reference_isp import ReferenceIsp, load_settings, one_set
from workbench.collect.references import read_reference
from workbench.commands import register
from workbench.errors import RunError
from workbench.rules.balance import with_as_shot
from workbench.rules.industry import IndustryTable

SMALL: dict[str, Any] = {"lab_scenes": 3, "raws_per_scene": 2, "raws_per_photograph": 0, "size": (32, 48)}
APP = typer.Typer(rich_markup_mode=None)
APP.callback()(_every_command)
register(APP)
SCENES = "sim scenes raws --lab-scenes 2 --raws-per-scene 2 --raws-per-photograph 0 --size 48x32"
TABLE = """
[[knot]]
iso = 100
[knot.noise]
blur = 0
[knot.gain]
exposure = 1

[[knot]]
iso = 1600
exposure = 4
blur = 3
"""


def picture(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path))
    assert pixels is not None
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def run(line: str) -> str:
    done = CliRunner().invoke(APP, line.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


class PickyIsp(SmallIsp):
    """Refuses RAWs while it is out of order, or gives pictures of half their size."""

    def __init__(self, refused: set[str], *, halved: bool = False) -> None:
        super().__init__()
        self.refused, self.halved = refused, halved

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        if raw.source in self.refused:
            failure = Failure(raw.hash, parameters, "failed", "the sensor board is hot", "boot-1")
            raise FrameFailedError.of(self.url, failure, raw.source)
        capture = super().process(raw, parameters)
        if not self.halved:
            return capture
        half = RgbFrame.from_pixels(np.ascontiguousarray(capture.rgb.pixels[::2, ::2]))
        return Capture(raw.hash, parameters, parameters.by_name, half, "boot-1", self.asked, 0.001, 0.001)


class LiveIsp(SmallIsp):
    def info(self) -> DeviceInfo:
        return DeviceInfo("small", "1", "unit 1", "boot-1", SPACE, live=True)


def test_the_reference_is_the_devices_picture_of_that_raw_with_its_as_shot_gains(tmp_path: Path) -> None:
    expert = SPACE.parse({"exposure": 2.0, "blur": 0, "curve": "b"}, partial=True)
    paths = make_scene_set(tmp_path / "raws", **SMALL, references=ReferenceIsp(SmallIsp(), one_set(expert)))
    clean = make_scene_set(tmp_path / "clean", **SMALL)
    entries = read_raw_folder(tmp_path / "raws")
    assert [e.path for e in entries] == paths
    for entry, other in zip(entries, clean, strict=True):
        raw = load_raw(entry.path)
        assert entry.reference is not None
        assert np.array_equal(picture(entry.reference), render(raw, with_as_shot(expert, raw)))
        assert entry.path.read_bytes() == other.read_bytes(), "the RAWs are those of the clean set"
        assert read_reference(entry.reference, raw)[0].shape == (32, 48, 3)


def test_what_is_missing_is_rendered_again_and_nothing_else(tmp_path: Path) -> None:
    whole = SmallIsp()
    table = one_set(SPACE.defaults)
    make_scene_set(tmp_path / "raws", **SMALL, references=ReferenceIsp(whole, table))
    before = {p.name: p.read_bytes() for p in (tmp_path / "raws").iterdir()}
    assert whole.asked == 6
    (tmp_path / "raws" / "lab_000001_000.reference.png").unlink()
    (tmp_path / "raws" / "lab_000002_001.npz").unlink()
    again, seen = SmallIsp(), list[tuple[int, int]]()
    make_scene_set(
        tmp_path / "raws", **SMALL, references=ReferenceIsp(again, table), progress=lambda *at: seen.append(at)
    )
    assert again.asked == 1
    assert seen == [(i + 1, 6) for i in range(6)]
    assert {p.name: p.read_bytes() for p in (tmp_path / "raws").iterdir()} == before


def test_a_raw_that_the_device_fails_is_told_in_a_line_and_asked_again(tmp_path: Path) -> None:
    table, folder = one_set(SPACE.defaults), tmp_path / "raws"
    hot = ReferenceIsp(PickyIsp({"lab_000000_001.npz"}), table)
    with pytest.raises(DeviceError, match=r"small:: 1 of 6 references failed .*board is hot.*lab_000000_001") as told:
        make_scene_set(folder, **SMALL, references=hot)
    assert "\n" not in str(told.value)
    assert not (folder / "scenes.csv").exists()
    assert len(list(folder.glob("*.reference.png"))) == 5
    cool = PickyIsp(set())
    assert len(make_scene_set(folder, **SMALL, references=ReferenceIsp(cool, table))) == 6
    assert cool.asked == 1


def test_an_output_of_another_size_is_refused(tmp_path: Path) -> None:
    isp = ReferenceIsp(PickyIsp(set(), halved=True), one_set(SPACE.defaults))
    with pytest.raises(DeviceError, match="no PNG picture of the RAW: it has 24×16 pixels, not 48×32"):
        make_scene_set(tmp_path / "raws", **SMALL, references=isp)
    assert not list((tmp_path / "raws").glob("*.png"))


def test_a_device_that_fails_always_is_asked_no_further(tmp_path: Path) -> None:
    isp = PickyIsp({f"lab_00000{i}_{k:03}.npz" for i in range(4) for k in range(8)})
    sizes = {**SMALL, "lab_scenes": 4, "raws_per_scene": 8}
    with pytest.raises(DeviceError, match="10 of 10 references failed"):
        make_scene_set(tmp_path / "raws", **sizes, references=ReferenceIsp(isp, one_set(SPACE.defaults)))


def test_a_live_device_renders_no_references() -> None:
    with pytest.raises(DeviceError, match="live device takes no stored RAW"):
        ReferenceIsp(LiveIsp(), one_set(SPACE.defaults))


def test_a_folder_of_other_references_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "raws"
    one, other = (ReferenceIsp(SmallIsp(), one_set(SPACE.defaults.replace(exposure=x))) for x in (1, 2))
    make_scene_set(folder, **SMALL, references=one)
    manifest = json.loads((folder / "scene_set.json").read_text())
    assert manifest["reference"]["device"] == SmallIsp().info().identity
    assert manifest["reference"]["knots"][0]["parameters"]["exposure"] == 1
    with pytest.raises(SceneError, match=r"made differently \(reference by small.*, asked for by small"):
        make_scene_set(folder, **SMALL, references=other)
    with pytest.raises(SceneError, match=r"reference by small.*, asked for the clean photographs\)"):
        make_scene_set(folder, **SMALL)
    make_scene_set(tmp_path / "clean", **SMALL)
    with pytest.raises(SceneError, match=r"reference the clean photographs, asked for by small"):
        make_scene_set(tmp_path / "clean", **SMALL, references=one)


def test_settings_may_be_a_table_over_iso(tmp_path: Path) -> None:
    file = tmp_path / "expert.toml"
    file.write_text(TABLE)
    table = load_settings(file, SPACE)
    raw = RawFrame(np.zeros((4, 4), np.uint16), "RGGB", (0,) * 4, 1023, iso=400.0, as_shot_wb=(2.0, 1.0, 1.5))
    chosen = table.parameters_for(raw)
    # Half way between the knots in log ISO; blur is an integer and takes the nearest knot's.
    assert (chosen["red"], chosen["blue"], chosen["exposure"]) == (2.0, 1.5, 2.5)
    assert chosen["blur"] in (0, 3)
    table.save(tmp_path / "table.json")
    assert load_settings(tmp_path / "table.json", SPACE) == table
    file.write_text(SPACE.to_toml(SPACE.defaults))
    assert load_settings(file, SPACE) == one_set(SPACE.defaults)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[knot]]\niso = 0\n", "knot 1: iso 0 is no number above 0"),
        ("[[knot]]\niso = 200\n[[knot]]\niso = 100\n", "knot 2: iso 100 is no number above 0 and the knot before"),
        ("[[knot]]\nexposure = 1\n", "knot 1: iso None"),
        ("[[knot]]\niso = 100\nblurr = 1\n", "knot at ISO 100: unknown parameter 'blurr'"),
        ('white_balance = "flash"\n[[knot]]\niso = 100\n', "white_balance flash is not one of as-shot, grey-world"),
        ("exposure = 1\n[[knot]]\niso = 100\n", r"exposure stands beside \[\[knot\]\]"),
        ("knot = []\n", r"written as \[\[knot\]\]"),
        ("knot = 3\n", r"written as \[\[knot\]\]"),
        ("exposure = \n", "not valid TOML"),
        ("exposure = 99\n", "exposure: 99 is outside"),
    ],
)
def test_wrong_settings_are_told(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "expert.toml"
    file.write_text(text)
    with pytest.raises(ParameterError, match=rf"expert\.toml: .*{told}"):
        load_settings(file, SPACE)


def test_a_table_of_another_device_is_refused(tmp_path: Path) -> None:
    with open_device("sim:sim20") as device:
        space = device.info().space
    IndustryTable(space, (100.0,), (space.defaults,)).save(tmp_path / "table.json")
    with pytest.raises(RunError, match="is a table of sim20, 20 parameters, not of small with 6"):
        load_settings(tmp_path / "table.json", SPACE)
    with pytest.raises(WorkbenchError, match="cannot read the settings"):
        load_settings(tmp_path / "none.toml", SPACE)


def test_the_command_renders_says_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("sim expert sim20 expert.toml")
    asked = f"{SCENES} --reference-isp sim:sim20 --settings expert.toml"
    told = run(asked)
    assert "references by emulated-isp" in told
    again = json.loads(run(f"{asked} --json"))
    assert again["raws"] == 4
    assert again["reference"]["settings"] in told
    for path in sorted(Path("raws").glob("*.reference.png")):
        pixels = picture(path)
        assert 5 < pixels.mean() < 250
    refused = CliRunner().invoke(APP, f"{SCENES} --settings expert.toml".split())
    assert refused.exit_code == 2
    assert json.loads(run(f"{SCENES.replace('raws', 'clean', 1)} --json"))["reference"] is None
