from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from drivers.device import Capture, Device, Failure
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.protocol import wire
from drivers.protocol.zmq_device import ZmqDevice
from drivers.raw.raw_files import save_npz
from drivers.registry import open_device
from sim.firmware.faults import NAMES, Fault, Faults
from sim.firmware.registers import Firmware, emulated
from sim.isp.pipeline import Pipeline
from workbench.collect.designs import CampaignError, Design
from workbench.collect.live_campaign import plan_live
from workbench.commands.collect import collect
from workbench.lab.dataset import Dataset
from workbench.lab.dataset.verify import verify

PIPELINE = Pipeline("sim20")
SPACE = PIPELINE.space
Serve = Callable[..., str]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Forty RAWs, no two equal."""
    folder = tmp_path / "before the camera"
    folder.mkdir()
    for i in range(40):
        mosaic = np.random.default_rng(i).integers(64, 1023, (32, 32), dtype=np.uint16)
        save_npz(folder / f"{i:02}.npz", RawFrame(mosaic, "RGGB", (64.0,) * 4, 1023, iso=100.0))
    return folder


def photographed(device: Device, sets: list[ParameterSet]) -> list[tuple[RawFrame, Capture]]:
    """Photographs of which none failed."""
    shots = list(device.capture_many(sets))
    assert not any(isinstance(shot, Failure) for shot in shots)
    return [shot for shot in shots if not isinstance(shot, Failure)]


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(collect)
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def assert_right(lab: Path, count: int) -> None:
    """Every capture is what the ISP makes of its own RAW with its own parameters."""
    with Dataset.open(lab) as dataset:
        raws = {raw.hash: raw for raw in dataset.raws()}
        captures = dataset.captures()
        assert len(captures) == len({c.parameters_hash for c in captures}) == count
        for capture in captures:
            parameters = SPACE.from_codes(capture.codes)
            assert capture.rgb().encoded == PIPELINE.process(raws[capture.raw_hash].load(), parameters)
        assert not verify(dataset).problems


def test_a_capture_brings_its_raw(serving: Serve, photographs: Path) -> None:
    with ZmqDevice(serving(emulated("sim20", live=photographs)), 10) as device:
        assert device.info().live
        raw, capture = device.capture(SPACE.defaults)
        other, _ = device.capture(SPACE.defaults)
        assert capture.raw_hash == raw.hash != other.hash
        assert capture.rgb.encoded == PIPELINE.process(raw, SPACE.defaults)
        with pytest.raises(DeviceError, match="photographs what is before it"):
            device.process(raw, SPACE.defaults)


def test_other_devices_take_no_photographs(serving: Serve) -> None:
    for url in (serving(emulated("sim20")), "sim:sim20"):
        with open_device(url, 10) as device, pytest.raises(DeviceError, match="no camera of its own"):
            device.capture(SPACE.defaults)


@pytest.mark.parametrize("name", NAMES)
def test_the_driver_mends_every_fault(serving: Serve, photographs: Path, name: str) -> None:
    faults = Faults({name: Fault(at=frozenset([3, 7]), seconds=0.05)})
    sets = [SPACE.from_unit(np.full(len(SPACE), n / 12)) for n in range(12)]
    with ZmqDevice(serving(emulated("sim20", live=photographs), faults), 3) as device:
        shots = photographed(device, sets)
    assert faults.counts[name] == 2
    assert [c.parameters.hash for _, c in shots] == [p.hash for p in sets]
    assert [c.rgb.encoded for _, c in shots] == [
        PIPELINE.process(raw, p) for (raw, _), p in zip(shots, sets, strict=True)
    ]


@pytest.mark.parametrize("damage", ["metadata", "pixels", "hash", "size"])
def test_a_raw_that_does_not_prove_itself_is_refused(serving: Serve, damage: str) -> None:
    raw = RawFrame(np.full((32, 32), 500, np.uint16), "RGGB", (64.0,) * 4, 1023)
    firmware = Firmware(PIPELINE, camera=lambda: raw)
    honest = firmware.handle

    def handle(message: wire.Message) -> wire.Message:
        answer = honest(message)
        if isinstance(answer, wire.Frame):
            match damage:
                case "metadata":
                    answer = _with(answer, metadata=b"{}")
                case "pixels":
                    answer = _with(answer, raw=b"\x01" + bytes(answer.raw)[1:])
                case "hash":
                    answer = _with(answer, raw_hash="0" * 64)
                case "size":
                    answer = _with(answer, raw=bytes(answer.raw)[:-2])
        return answer

    firmware.handle = handle  # type: ignore[method-assign]
    with ZmqDevice(serving(firmware), 10) as device, pytest.raises(DeviceError, match="refused 5 times"):
        device.capture(SPACE.defaults)


def _with(frame: wire.Frame, **changes: object) -> wire.Frame:
    return dataclasses.replace(frame, **changes)  # type: ignore[arg-type]


def test_collect_stores_the_raw_of_every_capture(serving: Serve, photographs: Path, tmp_path: Path) -> None:
    url, lab = serving(emulated("sim20", live=photographs)), tmp_path / "lab"
    told = json.loads(run("--device", url, "--captures", "12", "--lab", str(lab), "--json"))
    assert (told["captures"], told["new"], told["raws"]) == (12, 12, 12)
    assert run("--device", url, "--captures", "12", "--lab", str(lab)).startswith("complete: 12 of 12")
    told = json.loads(run("--device", url, "--captures", "20", "--lab", str(lab), "--json"))
    assert (told["captures"], told["new"], told["raws"]) == (20, 8, 20)
    assert_right(lab, 20)
    with Dataset.open(lab) as dataset:
        assert {(raw.scene, raw.split) for raw in dataset.raws()} == {("live", "train")}


def test_scenes_and_splits_are_the_users(serving: Serve, photographs: Path, tmp_path: Path) -> None:
    url, lab = serving(emulated("sim20", live=photographs)), tmp_path / "lab"
    common = ("--device", url, "--captures", "4", "--lab", str(lab))
    run(*common)
    run(*common, "--scene", "street", "--split", "validation")
    with Dataset.open(lab) as dataset:
        assert (
            sorted((r.scene, r.split) for r in dataset.raws())
            == [("live", "train")] * 4 + [("street", "validation")] * 4
        )
        assert len(dataset.captures()) == 8


def test_a_campaign_that_broke_off_goes_on(serving: Serve, photographs: Path, tmp_path: Path) -> None:
    firmware, lab = emulated("sim20", live=photographs), tmp_path / "lab"
    honest, left = firmware.handle, iter(range(21))

    def handle(message: wire.Message) -> wire.Message:
        if isinstance(message, wire.CaptureRequest) and next(left, None) is None:
            return wire.Error(message.id, "bad_register", "the shutter is stuck")
        return honest(message)

    firmware.handle = handle  # type: ignore[method-assign]
    url = serving(firmware)
    common = ("--device", url, "--captures", "25", "--lab", str(lab))
    with pytest.raises(DeviceError, match="the shutter is stuck; 21 of the 25 captures to make are kept"):
        run(*common)
    firmware.handle = honest  # type: ignore[method-assign]
    assert json.loads(run(*common, "--json"))["new"] == 4
    assert_right(lab, 25)


def test_a_live_device_takes_no_folder_and_another_needs_one(serving: Serve, photographs: Path, tmp_path: Path) -> None:
    url = serving(emulated("sim20", live=photographs))
    common = ("--captures", "4", "--lab", str(tmp_path / "lab"))
    with pytest.raises(DeviceError, match="leave out --raws"):
        run("--device", url, "--raws", str(photographs), *common)
    app = typer.Typer()
    app.command()(collect)
    result = CliRunner().invoke(app, ["--device", "sim:sim20", *common])
    assert result.exit_code == 2
    assert "--raws" in result.output


def test_the_longer_plan_begins_with_the_shorter() -> None:
    short = plan_live(SPACE, design=Design.SOBOL, captures=10, seed=3)
    long = plan_live(SPACE, design=Design.SOBOL, captures=30, seed=3)
    assert [p.hash for p in short] == [p.hash for p in long[:10]]
    assert len({p.hash for p in long}) == 30
    with pytest.raises(CampaignError, match="design around-rule needs stored RAWs"):
        plan_live(SPACE, design=Design.AROUND_RULE, captures=10, seed=3)


def test_a_live_device_without_an_echo(serving: Serve, photographs: Path) -> None:
    firmware = emulated("sim20", live=photographs, echo=False, latch_frames=2)
    sets = [SPACE.from_unit(np.full(len(SPACE), n / 4)) for n in range(4)]
    with ZmqDevice(f"{serving(firmware)}?settle=2", 10) as device:
        for parameters in sets:
            raw, capture = device.capture(parameters)
            assert capture.rgb.encoded == PIPELINE.process(raw, parameters)


def test_a_stale_photograph_is_not_taken_for_a_new_one(serving: Serve, photographs: Path) -> None:
    """It is whole and agrees with itself, so without an echo only its number tells that it was there before."""
    firmware = emulated("sim20", live=photographs, echo=False)
    sets = [SPACE.from_unit(np.full(len(SPACE), n / 4)) for n in range(4)]
    faults = Faults({"previous": Fault(at=frozenset([2, 4]))})
    with ZmqDevice(f"{serving(firmware, faults)}?settle=0", 10) as device:
        for parameters in sets:
            raw, capture = device.capture(parameters)
            assert capture.rgb.encoded == PIPELINE.process(raw, parameters)
        assert device.counts["unsettled"] == faults.counts["previous"] == 2


def test_the_served_device_is_as_the_options_say() -> None:
    words = ["sim", "serve", "--zmq", "127.0.0.1:0", "--live", "lab", "--no-echo", "--latch-frames", "3"]
    code = "import sys; from workbench.cli import main; sys.exit(main())"
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[3]
            with ZmqDevice(f"{url}?settle=3", 20) as device:
                assert (device.info().live, device.info().echo) == (True, False)
                shots = photographed(device, [SPACE.from_unit(np.full(len(SPACE), 0.3)), SPACE.defaults])
        finally:
            process.kill()
    for raw, capture in shots:
        assert capture.rgb.encoded == PIPELINE.process(raw, capture.parameters)
