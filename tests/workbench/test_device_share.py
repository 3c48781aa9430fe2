"""A device of one host given to benches on others: the same device, the same captures, the same proofs."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_isp import SPACE, FakeIsp, make_raw, make_set, picture
from servers import in_thread
from typer.testing import CliRunner

from drivers.agent import Agent, integer, sharing
from drivers.agent.listening import open_link
from drivers.agent.serving import serve_link
from drivers.agent.sharing import SharedDevice
from drivers.device import Capture, Device, Failure
from drivers.errors import DeviceError, DeviceUnreachableError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.protocol.protocol_device import ProtocolDevice
from drivers.protocol.zmq_keys import new_keys
from drivers.registry import open_device
from drivers.vectors import Statistic
from sim.firmware.registers import emulated
from sim.firmware.serial_server import serve_firmware
from workbench.check import conformance
from workbench.commands import device

RUN = CliRunner()
RAW = RawFrame(np.arange(64, 64 + 48, dtype=np.uint16).reshape(6, 8), "RGGB", (64.0,) * 4, 1023, iso=100.0)
Share = Callable[[Device], str]
PROGRAM = r"""
import pathlib, sys
raw, output, width, height, level = sys.argv[1:]
dn = pathlib.Path(raw).read_bytes()
pixels = b"".join(bytes([dn[i], dn[i + 1], int(level)]) for i in range(0, len(dn), 2))
pathlib.Path(output).write_bytes(b"P6 %s %s 255\n" % (width.encode(), height.encode()) + pixels)
"""
RECIPE = """
model = "own program"
command = ["PYTHON", "-S", "{recipe}/isp.py", "{raw}", "{output}", "{width}", "{height}", "{level}"]
raw = "u16"
[output]
file = "out.ppm"
kind = "ppm"
[[parameters]]
name = "level"
block = "tone"
kind = "integer"
low = 0
high = 255
default = 9
"""


@pytest.fixture
def share() -> Iterator[Share]:
    def run(inner: Device, ready: Callable[[str], None], stop: threading.Event) -> None:
        with inner:
            shared = SharedDevice(inner, stop)
            serve_link(shared, lambda: open_link("zmq://127.0.0.1:0", shared.max_payload), ready, stop)

    with ExitStack() as servers:
        yield lambda inner: servers.enter_context(in_thread(run, inner))


@pytest.fixture
def serial_line() -> Iterator[str]:
    with in_thread(serve_firmware, emulated("sim20"), "socket://127.0.0.1:0") as url:
        yield url


def failed_requirements(url: str) -> list[str]:
    with open_device(url, 30.0) as opened:
        assert isinstance(opened, ProtocolDevice)
        with closing(conformance.Peer(opened.open_link, 30.0)) as peer:
            results = list(conformance.check(peer))
    assert len(results) > 70
    return [f"{r.title}: {r.reason}" for r in results if r.outcome == "fail"]


def assert_same(direct: Device, shared: Device, raw: RawFrame) -> None:
    """Who they are, and what they make."""
    one, other = direct.info(), shared.info()
    assert (other.model, other.firmware, other.space.hash) == (one.model, one.firmware, one.space.hash)
    assert (other.identity, other.input, other.live) == (one.identity, one.input, one.live)
    for unit in (0.25, 0.75):
        parameters = one.space.from_unit(np.full(len(one.space), unit))
        a, b = (d.process(raw, d.info().space.from_codes(parameters.by_name)) for d in (direct, shared))
        assert (a.raw_hash, a.parameters_in_force, a.rgb.hash) == (b.raw_hash, b.parameters_in_force, b.rgb.hash)


def test_a_shared_serial_device_passes_the_check_and_is_the_same_device(share: Share, serial_line: str) -> None:
    url = share(open_device(serial_line))
    assert failed_requirements(url) == []
    with open_device("sim:sim20") as direct, open_device(url) as shared:
        assert shared.info().serial == "emulated"
        assert_same(direct, shared, RAW)


def test_the_statistics_of_a_frame_come_over_the_share(share: Share) -> None:
    own = Agent(model="own", firmware="1", parameters=[integer("level", 0, 255)], statistics=[Statistic(name="mean")])

    @own.process
    def process(mosaic: np.ndarray, metadata: dict[str, Any], values: dict[str, Any]) -> Any:
        grey = (mosaic // 256 + values["level"]).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2), {"mean": values["level"] + 0.5}

    def serve(ready: Callable[[str], None], stop: threading.Event) -> None:
        own.serve("zmq://127.0.0.1:0", ready=ready, stop=stop)

    with in_thread(serve) as url:
        shared_url = share(open_device(url))
        assert failed_requirements(shared_url) == []
        with open_device(shared_url) as shared:
            info = shared.info()
            assert [s.name for s in info.space.statistics] == ["mean"]
            assert shared.process(RAW, info.space.defaults.replace(level=7)).statistics == {"mean": 7.5}


def test_a_shared_program_passes_the_check_over_an_encrypted_link_and_is_the_same_device(tmp_path: Path) -> None:
    (tmp_path / "isp.py").write_text(PROGRAM)
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("PYTHON", sys.executable))
    for name in ("device", "bench"):
        new_keys(tmp_path / "keys", name)
    inner = f"command:{tmp_path / 'recipe.toml'}"
    words = [sys.executable, "-m", "workbench.cli", "device", "share", inner, "--zmq", "127.0.0.1:0"]
    with subprocess.Popen(
        [*words, "--keys", str(tmp_path / "keys"), "--lab", str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().partition(" at ")[2].split()[0] + f"?keys={tmp_path / 'keys'}"
            assert failed_requirements(url) == []
            with open_device(inner) as direct, open_device(url) as shared:
                assert shared.info().serial.startswith("on ")
                assert_same(direct, shared, RAW)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0


class OverNight(FakeIsp):
    """Refuses a set, is unplugged for a while and comes back with another boot, as told by ``acts``: one a frame."""

    def __init__(self, acts: Iterable[str]) -> None:
        super().__init__()
        self.acts = iter(acts)
        self.boot = 1

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        act = next(self.acts, "")
        if act == "gone":
            raise DeviceUnreachableError("fake: no answer in 30 s")
        if act == "changed":
            raise DeviceError("fake: the device now says firmware 2, was 1")
        self.boot += act == "boot"
        made: dict[str, Any] = vars(super().process(raw, parameters))
        return Capture(**{**made, "boot_id": f"boot-{self.boot}"})


def jobs(count: int) -> list[tuple[RawFrame, ParameterSet]]:
    return [(make_raw(i % 3), make_set(i)) for i in range(count)]


def captures(shared: Device, count: int) -> list[Capture | Failure]:
    """Of jobs in the shared device's own space."""
    space = shared.info().space
    assert space.hash == SPACE.hash
    return list(shared.process_many((raw, space.from_codes(s.by_name)) for raw, s in jobs(count)))


def test_frames_that_fail_are_failures_and_the_others_come_in_their_order(share: Share) -> None:
    wrong = make_set(7).hash
    inner = FakeIsp(refuses=lambda raw, parameters: "too dark" if parameters.hash == wrong else "")
    with open_device(share(inner)) as shared:
        results = captures(shared, 20)
    failed = results.pop(7)
    assert isinstance(failed, Failure)
    assert failed.code == "failed"
    assert failed.reason.endswith("too dark")
    expected = [picture(*job) for i, job in enumerate(jobs(20)) if i != 7]
    assert [r.rgb.encoded for r in results if isinstance(r, Capture)] == expected


def test_a_device_that_is_unplugged_or_restarted_costs_time_and_no_frame(share: Share) -> None:
    inner = OverNight(["", "gone", "gone", "", "", "boot", ""])
    with open_device(share(inner)) as shared:
        before = shared.info().boot_id
        results = captures(shared, 20)
        assert [r.rgb.encoded for r in results if isinstance(r, Capture)] == [picture(*job) for job in jobs(20)]
        assert shared.info().boot_id != before
        assert shared.counts["busy"] > 0
        assert shared.counts["reboots"] == 1


def test_why_a_share_has_no_frames_reaches_the_bench(share: Share) -> None:
    url = share(OverNight(["", *["gone"] * 1000]))
    told = r"no frame in .* × busy \(it said: the device shared is not reached: fake: no answer in 30 s\)"
    with open_device(url, 1.0) as shared, pytest.raises(DeviceUnreachableError, match=told):
        captures(shared, 3)


def until_unreachable(ask: Callable[[], Any]) -> str:
    """What a bench is told once the share has noticed."""
    while True:
        try:
            ask()
        except DeviceUnreachableError as error:
            return str(error)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP here")
def test_who_a_device_is_that_is_gone_is_not_told(share: Share, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "ASKED_S", 0.3)
    words = [sys.executable, "-m", "workbench.cli", "sim", "serve", "--serial", "socket://127.0.0.1:0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            inner = process.stdout.readline().partition(" at ")[2].split()[0]
            url = share(open_device(inner, 10.0))
            with open_device(url) as shared:
                before = shared.info()
                os.kill(process.pid, signal.SIGSTOP)
                assert "it said: the device shared is not reached: serial:" in until_unreachable(
                    lambda: shared.ask_info(1.0)
                )
                os.kill(process.pid, signal.SIGCONT)
                assert shared.ask_info(30.0) == before
            process.kill()
            process.wait()
            assert "it said: the device shared is not reached: serial:" in until_unreachable(
                lambda: open_device(url, 1.5).close()
            )
        finally:
            process.kill()


def test_another_device_than_before_ends_the_share_with_its_line() -> None:
    inner, stop, urls, ended = OverNight(["", "changed"]), threading.Event(), queue.Queue[str](), queue.Queue[str]()

    def run() -> None:
        shared = SharedDevice(inner, stop)
        with pytest.raises(DeviceError) as caught:
            serve_link(shared, lambda: open_link("zmq://127.0.0.1:0", shared.max_payload), urls.put, stop)
        ended.put(str(caught.value))

    thread = threading.Thread(target=run)
    thread.start()
    with open_device(urls.get(timeout=20), 1.0) as shared, pytest.raises(DeviceUnreachableError):
        captures(shared, 3)
    assert ended.get(timeout=20) == "fake: the device now says firmware 2, was 1"
    thread.join(20)


def test_what_is_not_shared_is_said_in_a_line(serial_line: str) -> None:
    beyond = RUN.invoke(device.app, ["share", "sim:sim20", "--zmq", "0.0.0.0:0"])
    assert "0.0.0.0 is not loopback" in str(beyond.exception)
    assert "keys=FOLDER" in str(beyond.exception)
    inner = FakeIsp()
    told = inner.info()
    object.__setattr__(told, "echo", False)
    inner.info = lambda: told  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match=r"do not prove their parameters; measure its settle count"):
        SharedDevice(inner, threading.Event())
