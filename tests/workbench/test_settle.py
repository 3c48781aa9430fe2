from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from drivers import device_urls
from drivers.device import Capture
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.protocol import wire
from drivers.protocol.zmq_device import ZmqDevice
from sim.firmware.faults import Fault, Faults
from sim.firmware.registers import Firmware, emulated
from sim.isp.pipeline import Pipeline
from workbench.check.settling import UnsettledError, measure
from workbench.commands.device_settle import settle

PIPELINE = Pipeline("sim20")
SPACE = PIPELINE.space
RAWS = [RawFrame(np.full((32, 32), dn, np.uint16), "RGGB", (64.0,) * 4, 1023) for dn in (300, 500, 700)]
SETS = [SPACE.from_unit(np.full(len(SPACE), n / 8)) for n in range(8)]
Serve = Callable[..., str]


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(settle)
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def process_with(firmware: Firmware) -> Callable[[RawFrame, ParameterSet], str]:
    def process(raw: RawFrame, parameters: ParameterSet) -> str:
        registers = [(p.register.address, c) for p, c in zip(SPACE.parameters, parameters.codes, strict=True)]  # type: ignore[union-attr]
        answer = firmware.handle(wire.process_request(1, raw, registers))
        assert isinstance(answer, wire.Frame)
        return answer.output_hash

    return process


# ---- measuring -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latch", [0, 1, 3, 30])
def test_late_codes_are_counted(latch: int) -> None:
    measured = measure(process_with(emulated("sim20", echo=False, latch_frames=latch)), SPACE, limit=40)
    assert measured.frames == (latch,) * 6
    assert measured.count == latch + measured.margin > latch


def test_a_temporal_filter_is_waited_for() -> None:
    process = process_with(emulated("sim20", echo=False, temporal_filter=0.5, latch_frames=2))
    measured = measure(process, SPACE, changes=4)
    # Half of 255 levels a frame is below half a level after nine frames.
    assert all(2 < frames <= 2 + 9 for frames in measured.frames)
    for raw, parameters in zip(RAWS, SETS, strict=False):
        outputs = [process(raw, parameters) for _ in range(measured.count + 5)]
        assert len(set(outputs[measured.count :])) == 1


def test_a_device_that_never_settles_is_an_error() -> None:
    outputs = iter(range(10**6))
    with pytest.raises(UnsettledError, match="still changed after 52 frames"):
        measure(lambda raw, parameters: str(next(outputs)), SPACE, limit=40)


def test_a_device_that_shows_nothing_is_an_error() -> None:
    with pytest.raises(UnsettledError, match="stayed the same over 3 changes"):
        measure(lambda raw, parameters: "grey", SPACE, changes=3, limit=20)


def test_a_raw_of_the_users(serving: Serve) -> None:
    seen = set()

    def process(raw: RawFrame, parameters: ParameterSet) -> str:
        seen.add(raw.hash)
        return f"{raw.hash} {parameters.hash}"

    assert measure(process, SPACE, RAWS[0], limit=15).frames == (0,) * 6
    assert RAWS[0].hash in seen
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("zmq://h:1", "zmq://h:1?settle=4"),
        ("zmq://h:1?settle=9", "zmq://h:1?settle=4"),
        ("serial:///dev/x?baud=9600&settle=1&a=b", "serial:///dev/x?baud=9600&a=b&settle=4"),
    ],
)
def test_the_url_with_its_count(url: str, expected: str) -> None:
    assert device_urls.with_option(url, "settle", 4) == expected


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_the_count_and_the_url(serving: Serve) -> None:
    url = serving(emulated("sim20", echo=False, latch_frames=3))
    told = json.loads(run(url, "--json", "--frames", "20"))
    assert told["frames"] == [3] * 6
    assert (told["margin"], told["settle"], told["echo"]) == (1, 4, False)
    assert told["use"] == f"{url}?settle=4"
    text = run(url, "--frames", "20", "--changes", "2")
    assert f"use: {url}?settle=4\n" in text
    with ZmqDevice(told["use"], 10) as device:
        captures = [c for c in device.process_many(zip(RAWS, SETS, strict=False)) if isinstance(c, Capture)]
    assert [c.rgb.encoded for c in captures] == [PIPELINE.process(r, p) for r, p in zip(RAWS, SETS, strict=False)]


def test_the_command_on_a_tidy_device(serving: Serve) -> None:
    url = serving(emulated("sim20"))
    assert "no settle count is needed" in run(url, "--frames", "13", "--changes", "2")
    assert json.loads(run(url, "--frames", "13", "--changes", "2", "--json"))["use"] == url


def test_the_command_on_a_device_that_never_settles(serving: Serve) -> None:
    url = serving(emulated("sim20", echo=False, temporal_filter=0.99))
    with pytest.raises(DeviceError, match=f"{url}: the output still changed") as error:
        run(url, "--frames", "15")
    assert "\n" not in str(error.value)


def test_the_command_on_a_live_device(serving: Serve) -> None:
    url = serving(Firmware(PIPELINE, camera=lambda: RAWS[0]))
    with pytest.raises(DeviceError, match="a live device is given no RAW"):
        run(url)


# ---- captures with a settle count ------------------------------------------------------------------------------------


def test_without_a_count_the_device_is_refused_with_the_way_out(serving: Serve) -> None:
    url = serving(emulated("sim20", echo=False))
    with ZmqDevice(url, 10) as device:
        assert not device.info().echo
        with pytest.raises(DeviceError, match=f"workbench device settle {url}"):
            device.process(RAWS[0], SETS[0])


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "10001", "9" * 5000])
def test_odd_counts_are_refused(text: str) -> None:
    with pytest.raises(DeviceError, match="is not a number of frames in 0"):
        ZmqDevice(f"zmq://127.0.0.1:9?settle={text}")


def test_too_low_a_count_gives_other_pixels(serving: Serve) -> None:
    """What the count is for: nothing else tells that these codes were not in force."""
    url = serving(emulated("sim20", echo=False, latch_frames=2))
    with ZmqDevice(f"{url}?settle=1", 10) as device:
        capture = device.process(RAWS[0], SETS[7])
    assert capture.rgb.encoded == PIPELINE.process(RAWS[0], SPACE.defaults)


def test_an_echo_device_may_have_a_count_too(serving: Serve) -> None:
    firmware = emulated("sim20", temporal_filter=0.3)
    with ZmqDevice(f"{serving(firmware)}?settle=8", 10) as device:
        captures = [device.process(raw, parameters) for raw, parameters in zip(RAWS, SETS, strict=False)]
    assert [c.rgb.encoded for c in captures] == [PIPELINE.process(r, p) for r, p in zip(RAWS, SETS, strict=False)]
    assert [c.frame for c in captures] == [9, 18, 27]


@pytest.mark.parametrize("name", ["drop", "reorder", "duplicate", "previous", "reboot", "corrupt", "disappear"])
def test_the_right_frame_under_faults(serving: Serve, name: str) -> None:
    faults = Faults({name: Fault(at=frozenset([2, 9, 14]), seconds=0.05)})
    url = serving(emulated("sim20", echo=False, latch_frames=2), faults)
    jobs = [(RAWS[n % 3], SETS[n]) for n in range(8)]
    with ZmqDevice(f"{url}?settle=2", 2) as device:
        captures = [c for c in device.process_many(jobs) if isinstance(c, Capture)]
    assert faults.counts[name] == 3
    assert [c.rgb.encoded for c in captures] == [PIPELINE.process(raw, p) for raw, p in jobs]


def test_another_client_between_is_noticed(serving: Serve) -> None:
    """Its frame latches other codes: the sequence is begun again."""
    firmware = emulated("sim20", echo=False, latch_frames=2)
    honest, intrusions = firmware.handle, iter([True, False, False, True])

    def handle(message: wire.Message) -> wire.Message:
        answer = honest(message)
        if isinstance(answer, wire.Frame) and next(intrusions, False):
            honest(wire.process_request(99, RAWS[1], ()))
        return answer

    firmware.handle = handle  # type: ignore[method-assign]
    with ZmqDevice(f"{serving(firmware)}?settle=3", 10) as device:
        capture = device.process(RAWS[0], SETS[3])
        assert device.counts["unsettled"] == 1
    assert capture.rgb.encoded == PIPELINE.process(RAWS[0], SETS[3])


def test_registers_that_do_not_stay_are_an_error(serving: Serve) -> None:
    firmware = emulated("sim20", echo=False)
    honest = firmware.handle

    defaults = [(p.register.address, c) for p, c in zip(SPACE.parameters, SPACE.defaults.codes, strict=True)]  # type: ignore[union-attr]

    def handle(message: wire.Message) -> wire.Message:
        answer = honest(message)
        if isinstance(message, wire.Process):
            honest(wire.process_request(99, RAWS[0], defaults))
        return answer

    firmware.handle = handle  # type: ignore[method-assign]
    url = serving(firmware)
    with ZmqDevice(f"{url}?settle=0", 10) as device, pytest.raises(DeviceError, match="other registers were read back"):
        device.process(RAWS[0], SETS[5])
