"""Campaigns: what is planned, that it can be extended, and that RAWs are read once."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_isp import SPACE, FakeIsp, make_raw
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.errors import DeviceUnreachableError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSpace
from drivers.raw.raw_files import load_raw, save_npz
from drivers.raw.raw_notes import RawNote
from drivers.splits import Split
from workbench.collect import campaign, raw_import
from workbench.collect.bench import Bench
from workbench.collect.campaign import plan
from workbench.collect.designs import CampaignError, Design
from workbench.collect.raw_folder import read_raw_folder
from workbench.collect.raw_import import import_raws
from workbench.errors import DatasetError, RawFolderError
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.dataset.blobs import BlobStore


def raw_record(i: int) -> RawRecord:
    return RawRecord(
        hash=f"{i * 7919 % 1009:064x}",
        name=f"{i}",
        scene=f"{i}",
        split=Split.TRAIN,
        width=16,
        height=16,
        iso=None,
        exposure_s=None,
        as_shot_wb=None,
        has_reference=False,
        _blob="",
        _reference=None,
        _blobs=BlobStore(Path("unused")),
    )


def pairs(jobs: list[campaign.Job]) -> list[tuple[str, str]]:
    return [(raw.hash, parameters.hash) for raw, parameters in jobs]


@given(
    design=st.sampled_from([Design.SOBOL, Design.AROUND]),
    raws=st.integers(1, 9),
    short=st.integers(1, 60),
    more=st.integers(0, 60),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=25, deadline=None)
def test_longer_plan_begins_with_the_shorter(design: Design, raws: int, short: int, more: int, seed: int) -> None:
    records = [raw_record(i) for i in range(raws)]
    first = pairs(plan(SPACE, records, design=design, captures=short, seed=seed))
    longer = pairs(plan(SPACE, records[::-1], design=design, captures=short + more, seed=seed))
    assert longer[:short] == first
    assert len(set(longer)) == short + more


@pytest.mark.parametrize("design", [d for d in Design if d is not Design.AROUND_RULE])
def test_plan_is_even_and_seeded(design: Design) -> None:
    records = [raw_record(i) for i in range(8)]
    jobs = plan(SPACE, records, design=design, captures=200, seed=1, spread=0.5)
    assert set(Counter(raw.hash for raw, _ in jobs).values()) == {25}
    assert len({parameters.hash for _, parameters in jobs}) == 200
    assert pairs(jobs) == pairs(plan(SPACE, records, design=design, captures=200, seed=1, spread=0.5))
    assert pairs(jobs) != pairs(plan(SPACE, records, design=design, captures=200, seed=2, spread=0.5))


@pytest.mark.parametrize("design", [Design.SOBOL, Design.LHS])
def test_designs_fill_the_space(design: Design) -> None:
    units = np.array([p.unit for _, p in plan(SPACE, [raw_record(0)], design=design, captures=256, seed=0)])
    # Exactly 32 before the values are quantised to the register's steps.
    assert np.abs(np.histogram(units[:, 0], 8, (0, 1))[0] - 32).max() <= 1
    assert Counter(units[:, 3].tolist()) == {0.25: 128, 0.75: 128}


def test_around_stays_near_its_points() -> None:
    points = [SPACE.parse({"gain": 0.5, "level": 10, "mode": "a", "sharp": True}), SPACE.defaults]
    jobs = plan(SPACE, [raw_record(0)], design=Design.AROUND, captures=100, seed=0, around=points, spread=0.05)
    used = set()
    for _, parameters in jobs:
        distances = [np.abs(parameters.unit - p.unit)[:2].max() for p in points]
        nearest = int(np.argmin(distances))
        used.add(nearest)
        assert distances[nearest] <= 0.05 + 0.01
        assert parameters["mode"] == points[nearest]["mode"]
    assert used == {0, 1}


def test_plans_that_cannot_be() -> None:
    with pytest.raises(CampaignError, match="no RAWs"):
        plan(SPACE, [], design=Design.SOBOL, captures=1, seed=0)
    with pytest.raises(CampaignError, match="spread 0 is outside"):
        plan(SPACE, [raw_record(0)], design=Design.AROUND, captures=1, seed=0, spread=0)
    switch = ParameterSpace(name="switch", parameters=SPACE.parameters[3:])
    with pytest.raises(CampaignError, match="gives only 6 different captures"):
        plan(switch, [raw_record(i) for i in range(3)], design=Design.SOBOL, captures=7, seed=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "raws"
    folder.mkdir()
    lines = ["file,scene,split,reference"]
    for i in range(6):
        save_npz(folder / f"{i}.npz", make_raw(i))
        lines.append(f"{i}.npz,s{i // 2},{('train', 'validation', 'test')[i // 2]},s{i // 2}.png")
        cv2.imwrite(str(folder / f"s{i // 2}.png"), np.full((16, 16, 3), i // 2 * 50, np.uint8))
    (folder / "scenes.csv").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("name", ["0.npz", "s0.png"])
def test_a_file_that_is_changed_before_its_raw_is_kept_is_not_taken_for_that_raw(
    folder: Path, tmp_path: Path, name: str
) -> None:
    shutil.copy(folder / "s1.png", tmp_path / "s0.png")
    save_npz(tmp_path / "0.npz", make_raw(44))
    os.utime(folder / name, ns=(1_000, 1_000))  # another time than now, however coarse the clock

    def change(done: int) -> None:
        if done == 2:
            shutil.copy(tmp_path / name, folder / name)

    with Dataset.open(tmp_path / "lab", create=True) as dataset:
        with pytest.raises(DatasetError, match=f"{name}: was changed while it was read; wait until it is whole"):
            import_raws(dataset, read_raw_folder(folder), change)
        assert dataset.raws() == []
        first = import_raws(dataset, read_raw_folder(folder))[0]
        assert first.hash == load_raw(folder / "0.npz").hash
        np.testing.assert_array_equal(first.reference(), cv2.imread(str(folder / "s0.png")))


def test_raws_are_imported_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Dataset.open(tmp_path / "lab", create=True) as dataset:
        records = import_raws(dataset, read_raw_folder(folder))
        assert [(r.name, r.scene, r.split, r.has_reference) for r in records[1:4]] == [
            ("1.npz", "s0", Split.TRAIN, True),
            ("2.npz", "s1", Split.VALIDATION, True),
            ("3.npz", "s1", Split.VALIDATION, True),
        ]
        assert dataset.raws() == records
        decoded: list[str] = []

        def watched(path: Path, notes: list[RawNote] | None = None) -> RawFrame:
            decoded.append(path.name)
            return load_raw(path, notes)

        monkeypatch.setattr(raw_import, "load_raw", watched)
        assert import_raws(dataset, read_raw_folder(folder)) == records
        assert decoded == []
        save_npz(folder / "4.npz", make_raw(44))
        assert import_raws(dataset, read_raw_folder(folder))[4].hash == make_raw(44).hash
        assert decoded == ["4.npz"]
        moved = folder.rename(tmp_path / "moved")
        assert import_raws(dataset, read_raw_folder(moved))[0] == records[0]
        assert len(dataset.raws()) == 7


def test_a_changed_sidecar_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "raws"
    folder.mkdir()
    np.arange(256, dtype="<u2").tofile(folder / "a.raw")
    sidecar = folder / "a.raw.toml"
    text = 'width = 16\nheight = 16\ncontainer = "u16"\nendianness = "little"\nbits = 10\ncfa = "RGGB"\n'
    text += "black_level = 16\nwhite_level = 1023\n"
    sidecar.write_text(text, encoding="utf-8")
    with Dataset.open(tmp_path / "lab", create=True) as dataset:
        records = import_raws(dataset, read_raw_folder(folder))
        sidecar.write_text("# measured\n" + text, encoding="utf-8")
        assert import_raws(dataset, read_raw_folder(folder)) == records
        sidecar.write_text(text.replace("16\nwhite", "64\nwhite"), encoding="utf-8")
        with pytest.raises(RawFolderError, match=r"a\.raw: the RAW file's decoding changed .* new --lab folder"):
            import_raws(dataset, read_raw_folder(folder))
        assert dataset.raws() == records
        sidecar.unlink()
        with pytest.raises(RawFolderError, match=r"needs a sidecar a\.raw\.toml"):
            import_raws(dataset, read_raw_folder(folder))


@pytest.mark.parametrize("name", ["3.npz", "s1.png"])
def test_unreadable_file_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_bytes(b"nothing that can be read")
    with (
        Dataset.open(tmp_path / "lab", create=True) as dataset,
        pytest.raises(RawFolderError, match=name.replace(".", r"\.")),
    ):
        import_raws(dataset, read_raw_folder(folder))


def test_campaign_goes_on_after_the_device_went_away(folder: Path, tmp_path: Path) -> None:
    def go(lab: str, device: FakeIsp) -> str:
        with Dataset.open(tmp_path / lab, create=True) as dataset:
            records = [r for r in import_raws(dataset, read_raw_folder(folder)) if r.split != Split.TEST]
            jobs = plan(SPACE, records, design=Design.SOBOL, captures=150, seed=3)
            bench = Bench(dataset, device, purpose="collect")
            going = campaign.StoredCampaign(bench, jobs)
            result = campaign.run(going)
            assert (result.planned, result.known + result.new, result.captured) == (150, 150, 150)
            assert going.remaining() == []
            return dataset.digest()

    with pytest.raises(DeviceUnreachableError, match="gone; 70 of the 150 captures to make are kept, the same command"):
        go("broken", FakeIsp(answers=70))
    rest = FakeIsp()
    assert go("broken", rest) == go("whole", FakeIsp())
    assert len(rest.asked) == 80
    idle = FakeIsp()
    go("broken", idle)
    assert idle.asked == []
    shutil.rmtree(tmp_path / "broken")


def test_a_scene_named_by_its_file_alone_in_two_folders_is_said(tmp_path: Path) -> None:
    for number, day in enumerate(("day1", "day2", "day1-moved")):
        (tmp_path / day).mkdir()
        save_npz(tmp_path / day / "IMG_1.npz", make_raw(number % 2))
    told = {}
    with Dataset.open(tmp_path / "lab", create=True) as dataset:
        for day in ("day1", "day2", "day1-moved"):
            notes: list[tuple[str, RawNote]] = []
            import_raws(dataset, read_raw_folder(tmp_path / day), notes=notes)
            told[day] = [note.text for _, note in notes if "scene" in note.kind]
    assert told["day1"] == told["day1-moved"] == []
    (note,) = told["day2"]
    assert note.startswith(
        f"its scene IMG_1 is that of other RAWs, in {tmp_path / 'day1'}: they are taken for one scene"
    )
