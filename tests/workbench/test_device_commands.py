from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from servers import in_thread
from typer.testing import CliRunner

from drivers.agent import Agent, Statistic, choice, continuous, table
from drivers.errors import DeviceError, DeviceUnreachableError, ParameterError
from sim.firmware.registers import Firmware
from sim.firmware.zmq_server import serve_firmware
from sim.isp.pipeline import Pipeline
from workbench.commands import device, sim_serve
from workbench.lab.lab_config import LabConfigError

RUN = CliRunner()


@pytest.fixture
def url() -> Iterator[str]:
    firmware = Firmware(Pipeline("sim20"), model="model-x", version="3.1", boot_id="b9")
    with in_thread(serve_firmware, firmware, "127.0.0.1:0") as url:
        yield url


def test_info_as_json(url: str) -> None:
    result = RUN.invoke(device.app, ["info", url, "--json"], catch_exceptions=False)
    told = json.loads(result.stdout)
    assert (told["model"], told["firmware"], told["boot_id"]) == ("model-x", "3.1", "b9")
    assert [p["name"] for p in told["space"]["parameters"]] == Pipeline("sim20").space.names
    assert told["identity"].startswith("model-x/3.1/")
    assert (told["input"]["packing"], told["input"]["max_size"]) == ("u16", [32768, 32768])
    assert (told["output"]["format"], told["output"]["orientation"]) == ("file", 1)


def test_info_for_people(url: str) -> None:
    result = RUN.invoke(device.app, ["info", url], catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for word in (
        "model-x",
        "b9",
        "packing u16; row_multiple 1; cfa RGGB BGGR",
        "format file",
        *Pipeline("sim20").space.names,
    ):
        assert word in result.stdout


def test_get_reads_the_registers(url: str) -> None:
    result = RUN.invoke(device.app, ["get", url, "--json"], catch_exceptions=False)
    told = json.loads(result.stdout)
    space = Pipeline("sim20").space
    assert told["codes"] == space.defaults.by_name
    assert told["values"] == space.defaults.values
    table = RUN.invoke(device.app, ["get", url, "--bank", "shadow"], catch_exceptions=False, env={"COLUMNS": "200"})
    assert "shadow registers" in table.stdout


def test_a_device_without_registers_says_so() -> None:
    with pytest.raises(DeviceError, match="no registers to read back"):
        RUN.invoke(device.app, ["get", "sim:sim20"], catch_exceptions=False)


def test_nobody_there() -> None:
    with pytest.raises(DeviceUnreachableError):
        RUN.invoke(device.app, ["info", "zmq://127.0.0.1:9", "--deadline", "0.2"], catch_exceptions=False)


def test_serve_refuses_the_open_network() -> None:
    app = typer.Typer()
    app.command()(sim_serve.serve)
    with pytest.raises(DeviceError, match="--bind-any"):
        RUN.invoke(app, ["--zmq", "0.0.0.0:0"], catch_exceptions=False)


def test_a_device_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text('[devices]\nbench = "sim:sim20"\n')
    options = ["--lab", str(tmp_path), "--json"]
    result = RUN.invoke(device.app, ["info", "bench", *options], catch_exceptions=False)
    assert json.loads(result.stdout)["model"] == "emulated-isp sim20"
    with pytest.raises(LabConfigError, match=r"'desk': no device of that name in .*lab\.toml \(it names: bench\)"):
        RUN.invoke(device.app, ["info", "desk", *options], catch_exceptions=False)


@pytest.mark.parametrize("error", [ValueError("odd\x1b"), KeyError("x"), RecursionError(), OverflowError("far")])
def test_a_driver_that_fails_as_nobody_foresaw_is_one_device_of_the_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def fail(url: str, deadline_s: float) -> None:
        raise error

    monkeypatch.setattr("drivers.registry.open_device", fail)
    result = RUN.invoke(device.app, ["list", "sim:sim20", "--lab", str(tmp_path), "--json"], catch_exceptions=False)
    (told,) = json.loads(result.stdout)["devices"]
    assert told["reason"].startswith(f"unexpected {type(error).__name__}")


@pytest.fixture
def rich() -> Iterator[str]:
    agent = Agent(
        model="rich",
        firmware="1",
        parameters=[
            choice("denoise", ["off", "bilateral", "wavelet"]),
            continuous("sigma", 0, 4, step=1 / 16, default=1, when=("denoise", ["bilateral", "wavelet"])),
            continuous("low", 0, 1, step=1 / 64, default=0.25),
            continuous("high", 0, 1, step=1 / 64, default=0.75),
            continuous("port", 0, 1, step=1 / 64, default=0.5, searched=False),
            table("nr", [100, 1600], 0, 1, step=1 / 16),
        ],
        constraints=["low < high"],
        statistics=[Statistic(name="mean", unit="DN", description="of green")],
    )
    agent.process(lambda mosaic, metadata, values: (np.zeros((*mosaic.shape, 3), np.uint8), {"mean": 0.0}))
    with in_thread(agent.serve, "zmq://127.0.0.1:0") as url:
        yield url


def test_info_tells_what_holds_of_several_parameters(rich: str) -> None:
    told = RUN.invoke(device.app, ["info", rich], catch_exceptions=False, env={"COLUMNS": "200"}).stdout
    assert "exists where denoise is bilateral or wavelet" in told
    assert "not searched" in told
    assert told.splitlines()[-3:] == [
        "constraint: low < high",
        "table nr: nr_0 nr_1, at ISO 100 1600",
        "statistic mean (DN): of green",
    ]


def test_set_goes_by_what_the_device_holds(rich: str) -> None:
    def codes(*assignments: str) -> dict[str, int]:
        done = RUN.invoke(device.app, ["set", rich, *assignments, "--json"], catch_exceptions=False)
        told: dict[str, int] = json.loads(done.stdout)["codes"]
        return told

    with pytest.raises(ParameterError, match=r"sigma has no effect: .* denoise is off; set denoise=bilateral with it$"):
        codes("sigma=2")
    with pytest.raises(ParameterError, match=r"low < high does not hold: 0\.875 and 0\.75"):
        codes("low=0.875")
    assert codes("denoise=wavelet", "sigma=2") == {"denoise": 2, "sigma": 32}
    assert codes("sigma=3") == {"sigma": 48}
    assert codes("high=1") == {"high": 64}
    assert codes("low=0.875") == {"low": 56}
    assert codes("denoise=off") == {"denoise": 0, "sigma": 16}, "what no longer exists is at its default"
