"""The export's table keeps its own columns, whatever a device calls its parameters."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from fake_isp import FakeIsp, make_raw

from drivers.device import Capture, DeviceInfo
from drivers.frames import RgbFrame
from drivers.parameters import ParameterSpace
from drivers.splits import Split
from workbench.lab.dataset import Dataset
from workbench.lab.dataset.export import export


@pytest.mark.parametrize("name", ["id", "output", "frame", "device_s", "parameters_hash", "raw", "gain"])
def test_a_parameter_called_as_a_column_stands_beside_it(tmp_path: Path, name: str) -> None:
    own = {"name": name, "block": "b", "kind": "integer", "low": 0, "high": 9, "default": 7}
    space = ParameterSpace.from_dict({"name": "odd", "parameters": [own]})
    info = DeviceInfo("odd", "1", "", "boot", space)
    raw = make_raw(0)
    output = RgbFrame(FakeIsp().process(raw, FakeIsp().info().space.defaults).rgb.encoded, "image/png")
    made = Capture(raw.hash, space.defaults, {name: space.defaults.codes[0]}, output, "boot", 5, 0.25, 0.5)
    with Dataset.open(tmp_path / "lab", create=True) as dataset:
        dataset.add_raw(raw, scene="s", split=Split.TRAIN, name="r.npz")
        dataset.add_captures(info, [made], purpose="collect")
        export(dataset, tmp_path / "out")
    with (tmp_path / "out" / "captures.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    column = name if name == "gain" else f"parameter.{name}"
    assert row[column] == "7"
    assert (row["id"], row["frame"], row["device_s"]) == ("1", "5", "0.25")
    assert (tmp_path / "out" / row["output"]).is_file()


@pytest.mark.parametrize("sign", ["\x1b[31m", "\n", "\u202e", "\x9b1m"])
def test_names_that_a_terminal_would_act_on_are_written_out(tmp_path: Path, sign: str) -> None:
    with Dataset.open(tmp_path / "lab", create=True) as dataset:
        dataset.add_raw(make_raw(0), scene=f"s{sign}", split=Split.TRAIN, name=f"r{sign}.npz")
        export(dataset, tmp_path / "out")
    with (tmp_path / "out" / "raws.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert all(text.isprintable() for text in row.values())
    assert row["name"] == f"r{ascii(sign)[1:-1]}.npz"
    assert (tmp_path / "out" / row["file"]).is_file()
