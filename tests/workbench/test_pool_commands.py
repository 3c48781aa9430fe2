"""Commands with several devices, ``workbench device list`` and ``workbench device set``."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from serial.tools import list_ports
from sim_lab import make_lab, picture
from typer.testing import CliRunner, Result

from drivers.errors import DeviceError, ParameterError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.raw.raw_files import save_npz
from sim.firmware.registers import Firmware
from sim.isp.pipeline import VERSION, Pipeline
from workbench.commands import collect, device, tune, validate

RUN = CliRunner()
PIPELINE = Pipeline("sim20")
MODEL = "emulated-isp sim20"


class Isp:
    """The emulated ISP; calls ``before`` at each frame."""

    space = PIPELINE.space

    def __init__(self, before: Callable[[RawFrame], None]) -> None:
        self.before = before

    def process(self, raw: RawFrame, parameters: ParameterSet) -> bytes:
        self.before(raw)
        return PIPELINE.process(raw, parameters)


@pytest.fixture
def two(serving: Callable[[Firmware], str]) -> list[str]:
    """Two boards whose first frames wait for each other: both must take part."""
    barrier, met = threading.Barrier(2), threading.Event()

    def meet(raw: RawFrame) -> None:
        if raw.iso != 100 and not met.is_set():  # the check RAW of a pool has ISO 100
            barrier.wait(60)
            met.set()

    return [serving(Firmware(Isp(meet), model=MODEL, version=VERSION, serial=serial)) for serial in ("left", "right")]


@pytest.fixture
def raws(tmp_path: Path) -> Path:
    folder = tmp_path / "raws"
    folder.mkdir()
    for i in range(1, 5):
        save_npz(folder / f"{i}.npz", picture(i)[0])
    return folder


def run(command: Callable[..., None], *arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(command)
    result = RUN.invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_two_boards_collect_the_same_data_set_as_one(two: list[str], raws: Path, tmp_path: Path) -> None:
    common = ("--raws", raws, "--captures", "60", "--json")
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "lab.toml").write_text(f'[devices]\nleft = "{two[0]}"\n')
    pooled = run(collect.collect, "--device", "left", "--device", two[1], *common, "--lab", tmp_path / "pool")
    alone = run(collect.collect, "--device", "sim:sim20", *common, "--lab", tmp_path / "alone")
    of_pool, of_one = (json.loads(result.stdout) for result in (pooled, alone))
    assert of_pool["new"] == of_one["new"] == 60
    assert (of_pool["digest"], of_pool["device"]) == (of_one["digest"], of_one["device"])
    with sqlite3.connect(tmp_path / "pool" / "dataset.sqlite") as database:
        made_by = {tuple(row) for row in database.execute("SELECT DISTINCT serial, boot_id FROM captures")}
    database.close()
    assert {serial for serial, _ in made_by} == {"left", "right"}
    assert len(made_by) == 2


def test_tune_and_validate_take_several_devices(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", 0, train=3, validation=1, test=2)
    devices = ("--device", "sim:sim20", "--device", "sim:sim20", "--lab", lab)
    tuned = run(tune.tune, *devices, "--captures", "8", "--raws-per-trial", "2", "--json")
    assert json.loads(tuned.stdout)["captures"] >= 8
    validated = run(validate.validate, *devices, "--oracle-captures", "0", "--json")
    results = json.loads(validated.stdout)
    assert (results["raws"], results["device"]["serial"]) == (2, "in-process")
    assert len(results["device"]["boot_id"].split(", ")) == 2


def test_boards_that_differ_are_refused_before_anything_is_kept(
    serving: Callable[[Firmware], str], raws: Path, tmp_path: Path
) -> None:
    one, other = (serving(Firmware(PIPELINE, model=MODEL, version=version)) for version in ("1", "2"))
    with pytest.raises(DeviceError, match="need the same model, firmware and parameters") as caught:
        run(collect.collect, "--device", one, "--device", other, "--raws", raws, "--captures", "9", "--lab", tmp_path)
    assert one in str(caught.value)
    assert other in str(caught.value)
    assert not (tmp_path / "dataset.sqlite").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_two_ctrl_c_stop_a_collection_on_hung_boards(
    serving: Callable[[Firmware], str], raws: Path, tmp_path: Path
) -> None:
    may, taken = threading.Event(), threading.Semaphore(0)

    def hang(raw: RawFrame) -> None:
        if raw.iso != 100:
            taken.release()
            assert may.wait(600)

    urls = [serving(Firmware(Isp(hang), model=MODEL, version=VERSION)) for _ in range(2)]
    # Nothing but the second Ctrl-C ends it before the test's own deadline, however slow the machine is.
    patient = "from workbench.console import interrupt; interrupt.PATIENCE_S = 600; import workbench.cli as c; c.main()"
    command = [sys.executable, "-c", patient, "collect", "--raws", str(raws), "--captures", "50"]
    command += [word for url in urls for word in ("--device", f"{url}?deadline=600")]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            for _ in urls:
                assert taken.acquire(timeout=100)
            assert process.stderr is not None
            process.send_signal(signal.SIGINT)
            for line in process.stderr:
                if line.startswith("stopping"):
                    break
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=100)
        finally:
            may.set()
            process.kill()
    assert process.returncode == 130
    assert err.startswith("stopped: every reported capture is kept")
    assert len(err.splitlines()) == 1


# ---- workbench device list, workbench device set -------------------------------------------------------------------


def test_list_as_json(serving: Callable[[Firmware], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = SimpleNamespace(device="/dev/ttyUSB7", description="a cable", hwid="USB 1:2")
    monkeypatch.setattr(list_ports, "comports", lambda: [port])
    url = serving(Firmware(PIPELINE, model="m", version="3", serial="s", boot_id="b"))
    (tmp_path / "lab.toml").write_text('[devices]\ngone = "zmq://127.0.0.1:9"\n')
    arguments = ["list", url, "sim:sim20", "nothing:", "--lab", str(tmp_path), "--deadline", "0.5", "--json"]
    told = json.loads(RUN.invoke(device.app, arguments, catch_exceptions=False).stdout)
    assert told["serial_ports"] == [{"port": "/dev/ttyUSB7", "description": "a cable", "hardware": "USB 1:2"}]
    assert told["drivers"]["zmq"] == "drivers.protocol.zmq_device:open_device"
    gone, served, sim, nothing = told["devices"]
    assert (gone["name"], gone["url"], gone["reachable"]) == ("gone", "zmq://127.0.0.1:9", False)
    assert gone["reason"].startswith("no answer in 0.5 s")
    assert served == {
        "name": url,
        "url": url,
        "reachable": True,
        "reason": None,
        "model": "m",
        "firmware": "3",
        "serial": "s",
        "boot_id": "b",
    }
    assert (sim["reachable"], sim["model"]) == (True, MODEL)
    assert "no driver" in nothing["reason"]


def test_list_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_ports, "comports", list)
    monkeypatch.chdir(tmp_path)
    shown = RUN.invoke(device.app, ["list"], catch_exceptions=False).stdout
    assert "serial ports: none" in shown
    assert "sim.device:open_device" in shown
    assert "no devices asked for" in shown
    monkeypatch.setitem(sys.modules, "serial.tools", None)
    shown = RUN.invoke(device.app, ["list", "sim:sim20", "nix"], catch_exceptions=False).stdout
    assert "pyserial is not installed" in shown
    assert f"  sim:sim20  {MODEL}, firmware {VERSION}, serial in-process, boot " in shown
    assert "  nix  not reachable: device URL 'nix': no driver" in shown


@pytest.fixture
def firmware() -> Firmware:
    return Firmware(PIPELINE, model=MODEL, version=VERSION)


def test_set_writes_and_reads_back(serving: Callable[[Firmware], str], firmware: Firmware) -> None:
    url = serving(firmware)
    arguments = ["set", url, "gamma=2.1", "demosaic=bilinear", "luma_nr_radius=2"]
    told = json.loads(RUN.invoke(device.app, [*arguments, "--json"], catch_exceptions=False).stdout)
    space = PIPELINE.space
    assert set(told["values"]) == set(told["codes"]) == {"gamma", "demosaic", "luma_nr_radius"}
    assert (told["values"]["demosaic"], told["values"]["luma_nr_radius"]) == ("bilinear", 2)
    assert told["values"]["gamma"] == pytest.approx(2.1, abs=0.01)
    read = json.loads(RUN.invoke(device.app, ["get", url, "--bank", "shadow", "--json"]).stdout)
    assert read["codes"] == space.defaults.by_name | told["codes"]
    shown = RUN.invoke(device.app, arguments, catch_exceptions=False, env={"COLUMNS": "200"}).stdout
    assert all(word in shown for word in ("gamma", "bilinear", "in force from the next frame on"))


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("gamma=99", "gamma: 99 is outside"),
        ("gamma=dark", "gamma: 'dark' is not a number"),
        ("demosaic=best", "'best' is not one of"),
        ("luma_nr_radius=1.5", "luma_nr_radius: 1.5 is not a whole number"),
        ("gama=2", "unknown parameter 'gama' for sim20; did you mean 'gamma'"),
    ],
)
def test_set_refuses_before_anything_is_written(
    serving: Callable[[Firmware], str], firmware: Firmware, assignment: str, told: str
) -> None:
    url = serving(firmware)
    with pytest.raises(ParameterError, match=told):
        RUN.invoke(device.app, ["set", url, "contrast=0.2", assignment], catch_exceptions=False)
    read = json.loads(RUN.invoke(device.app, ["get", url, "--bank", "shadow", "--json"]).stdout)
    assert read["values"] == PIPELINE.space.defaults.values


@pytest.mark.parametrize("words", [["gamma"], ["=2"], ["gamma="], ["gamma=2", "gamma=2.2"]])
def test_set_needs_names_and_values(words: list[str]) -> None:
    result = RUN.invoke(device.app, ["set", "sim:sim20", *words])
    assert result.exit_code == 2


def test_set_on_a_device_without_registers() -> None:
    with pytest.raises(DeviceError, match="no registers to write"):
        RUN.invoke(device.app, ["set", "sim:sim20", "gamma=2"], catch_exceptions=False)
