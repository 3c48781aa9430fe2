"""Captures as a notebook sees them: one by one, and as a table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fake_isp import SPACE, FakeIsp, make_raw, make_set

from drivers.device import Capture, DeviceInfo
from drivers.parameters import ParameterSpace
from drivers.splits import Split
from workbench.lab.captures import Captures, PandasMissingError
from workbench.lab.dataset import Dataset

OTHER = ParameterSpace.from_dict(
    {
        "name": "odd",
        "parameters": [{"name": "frame", "block": "b", "kind": "integer", "low": 0, "high": 9, "default": 7}],
    }
)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Four captures of two RAWs by one device, and one by a device of other parameters."""
    isp = FakeIsp()
    with Dataset.open(tmp_path / "lab", create=True) as dataset:
        for i, split in enumerate((Split.TRAIN, Split.TEST)):
            dataset.add_raw(make_raw(i), scene=f"s{i}", split=split, name=f"{i}.npz")
        made = [isp.process(make_raw(i % 2), make_set(i)) for i in range(4)]
        dataset.add_captures(isp.info(), made, purpose="collect")
        info = DeviceInfo("odd", "1", "", "boot", OTHER)
        codes = {"frame": OTHER.defaults.codes[0]}
        odd = Capture(make_raw(0).hash, OTHER.defaults, codes, made[0].rgb, "boot", 5, 0.25, 0.5)
        dataset.add_captures(info, [odd], purpose="tune")
    return tmp_path / "lab"


def captures(lab: Path, **conditions: str) -> Captures:
    with Dataset.open(lab) as dataset:
        return Captures.of(dataset, **conditions)  # type: ignore[arg-type]


def test_captures_are_what_the_data_set_holds(lab: Path) -> None:
    found = captures(lab)
    with Dataset.open(lab) as dataset:
        assert list(found) == dataset.captures()
    assert len(found) == 5
    assert repr(found) == "<5 captures of 2 devices>"
    first, *_ = found
    assert found.raw(first).load().hash == make_raw(0).hash
    assert found.parameters(first) == make_set(0)
    assert first.rgb().encoded == FakeIsp().process(make_raw(0), make_set(0)).rgb.encoded


def test_conditions(lab: Path) -> None:
    assert len(captures(lab, purpose="tune")) == 1
    assert {c.raw_hash for c in captures(lab, split=Split.TEST)} == {make_raw(1).hash}
    identity = FakeIsp().info().identity
    assert len(captures(lab, device_identity=identity)) == 4


def test_a_table_has_a_row_for_each(lab: Path) -> None:
    pandas = pytest.importorskip("pandas")
    found = captures(lab)
    frame = found.to_frame()
    assert list(frame.index) == [c.id for c in found]
    assert list(frame["raw"]) == ["0.npz", "1.npz", "0.npz", "1.npz", "0.npz"]
    assert set(zip(frame["scene"], frame["split"], strict=True)) == {("s0", "train"), ("s1", "test")}
    for capture, (_, row) in zip(list(found)[:4], frame.iterrows(), strict=False):
        assert {name: row[name] for name in SPACE.names} == found.parameters(capture).values
        assert (row["output"], row["raw_hash"]) == (capture.output_hash, capture.raw_hash)
    last = frame.iloc[-1]
    assert (last["frame"], last["parameter.frame"]) == (5, 7)
    assert pandas.isna(last["gain"])
    assert frame["parameter.frame"].isna().sum() == 4


def test_an_empty_table(lab: Path) -> None:
    pytest.importorskip("pandas")
    frame = captures(lab, purpose="nothing").to_frame()
    assert (len(frame), frame.index.name) == (0, "id")


def test_without_pandas_the_next_step_is_named(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PandasMissingError, match=r"needs pandas, which is not here; run pip install pandas$"):
        captures(lab).to_frame()
