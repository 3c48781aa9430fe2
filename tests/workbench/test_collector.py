"""Collecting from Python: one function, one result, for stored RAWs and live devices alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from fake_isp import FakeIsp, make_raw

from drivers import registry
from drivers.parameters import ParameterSet
from drivers.raw.raw_files import save_npz
from drivers.splits import Split
from sim.firmware.registers import emulated
from workbench.collect.collector import RawsNeededError, collect
from workbench.collect.designs import CampaignError, Design
from workbench.collect.failures import TooManyFailuresError
from workbench.errors import RawFolderError
from workbench.lab.dataset import Dataset


@pytest.fixture
def raws(tmp_path: Path) -> Path:
    folder = tmp_path / "raws"
    folder.mkdir()
    for i in range(4):
        save_npz(folder / f"{i}.npz", make_raw(i))
    (folder / "scenes.csv").write_text("file,split\n0.npz,train\n1.npz,train\n2.npz,validation\n3.npz,test\n")
    return folder


def test_a_folder_of_raws(raws: Path, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    first = collect(lab, "sim:sim20", 10, raws=raws)
    assert (first.planned, first.known, first.new, first.new_failed) == (10, 0, 10, 0)
    assert (first.captured, first.failed, first.raws, first.notes) == (10, 0, 4, ())
    longer = collect(lab, ["sim:sim20"], 14, raws=raws)
    assert (longer.planned, longer.known, longer.new, longer.captured) == (14, 10, 4, 14)
    with Dataset.open(lab) as dataset:
        assert (longer.digest, longer.lab) == (dataset.digest(), lab)
        assert {c.device_identity for c in dataset.captures()} == {longer.device}
        test = {raw.hash for raw in dataset.raws(Split.TEST)}
        assert len(test) == 1
        assert not test & {c.raw_hash for c in dataset.captures()}
    with pytest.raises(FrozenInstanceError):
        longer.new = 3  # type: ignore[misc]


def test_raws_of_the_test_split_alone_are_kept_for_validation(raws: Path, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    (raws / "scenes.csv").write_text("file,split\n2.npz,test\n3.npz,test\n")
    with pytest.raises(CampaignError, match=r"raws: no capture is .* all 2 are; they are in the data set now"):
        collect(lab, "sim:sim20", 10, raws=raws)
    with Dataset.open(lab) as dataset:
        assert len(dataset.raws(Split.TEST)) == 2


def test_raws_in_a_folder_of_the_folder_are_named(raws: Path, tmp_path: Path) -> None:
    with pytest.raises(RawFolderError, match=r"holds no RAW file .*, but .*raws does: give that"):
        collect(tmp_path / "lab", "sim:sim20", 10, raws=raws.parent)
    assert not (tmp_path / "lab").exists()


def test_around_sets_of_the_device_as_around_files_of_them(
    raws: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = FakeIsp()
    monkeypatch.setattr(registry, "open_device", lambda url, deadline_s=30.0: device)
    space = device.info().space
    point = space.defaults.replace(gain=2.0)
    (tmp_path / "point.toml").write_text(space.to_toml(point))
    givens: list[Path | ParameterSet] = [point, tmp_path / "point.toml"]
    digests = {
        collect(
            tmp_path / f"lab{place}", "fake:", 12, raws=raws, design=Design.AROUND, around=[given], spread=0.05
        ).digest
        for place, given in enumerate(givens)
    }
    assert len(digests) == 1


def test_a_live_device(serving: Callable[..., str], raws: Path, tmp_path: Path) -> None:
    url = serving(emulated("sim20", live=raws))
    result = collect(tmp_path / "lab", url, 5, scene="street", split=Split.VALIDATION)
    assert (result.planned, result.new, result.captured, result.device_url) == (5, 5, 5, url)
    again = collect(tmp_path / "lab", url, 5, scene="street", split=Split.VALIDATION)
    assert (again.known, again.new, again.captured) == (5, 0, 5)


def test_a_device_that_is_not_live_needs_raws(tmp_path: Path) -> None:
    with pytest.raises(RawsNeededError, match="give it --raws"):
        collect(tmp_path / "lab", "sim:sim20", 4)
    assert not (tmp_path / "lab").exists()


def test_a_result_tells_that_too_much_failed(raws: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_raw: object, parameters: ParameterSet) -> str:
        return "" if parameters["mode"] == "a" else "no such mode"

    monkeypatch.setattr(registry, "open_device", lambda url, deadline_s=30.0: FakeIsp(refuses=refuses))
    result = collect(tmp_path / "lab", "fake:", 9, raws=raws)
    assert result.failed == result.new_failed > result.captured > 0
    with pytest.raises(TooManyFailuresError, match=r"failed: no such mode .* lets the same command try them again"):
        result.check()
