from __future__ import annotations

import contextlib
import os
import queue
import random
import select
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serial.rfc2217
from sim20_jobs import PIPELINE, SPACE, assert_right, captures_of, make_jobs, make_raw

from drivers.device import Capture, Failure
from drivers.errors import DeviceChangedError, DeviceError, DeviceUnreachableError, ProtocolError
from drivers.frames import RawFrame
from drivers.protocol import serial_framing, wire
from drivers.protocol.serial_device import SerialDevice, open_device, parse
from drivers.registers import HasRegisters
from drivers.registry import open_device as open_url
from sim.firmware.faults import Fault, Faults
from sim.firmware.registers import Firmware, emulated
from sim.firmware.serial_server import serve_firmware

TCP = "socket://127.0.0.1:0"
needs_pty = pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo terminals")


class Served:
    """An emulated device on a line, in a thread."""

    def __init__(
        self, where: str, firmware: Firmware | None = None, faults: Faults | None = None, pixels: Path | None = None
    ) -> None:
        ready: queue.Queue[str] = queue.Queue()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=serve_firmware,
            args=(firmware or Firmware(PIPELINE), where, ready.put),
            kwargs={"stop": self._stop, "faults": faults, "pixels": pixels},
        )
        self._thread.start()
        self.url = ready.get(timeout=20)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(20)


Serve = Callable[..., Served]


@pytest.fixture
def served() -> Iterator[Serve]:
    devices: list[Served] = []

    def start(where: str = TCP, *args: Any, **options: Any) -> Served:
        devices.append(Served(where, *args, **options))
        return devices[-1]

    yield start
    for device in devices:
        device.close()


class Cable:
    """A TCP port before another one; every piece of bytes on its way goes through ``spoil``."""

    def __init__(self, url: str, spoil: Callable[[bytes], bytes]) -> None:
        self._target = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._spoil = spoil
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.url = f"serial:socket://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target, 10)
                far.settimeout(None)
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._carry, args=pair))
                    self._threads[-1].start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2048):
                sink.sendall(self._spoil(data))
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def cable() -> Iterator[Callable[[str, Callable[[bytes], bytes]], Cable]]:
    cables: list[Cable] = []

    def lay(url: str, spoil: Callable[[bytes], bytes]) -> Cable:
        cables.append(Cable(url, spoil))
        return cables[-1]

    yield lay
    for c in cables:
        c.close()


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """A pseudo terminal that nobody serves: its other end, and its name."""
    import tty

    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


# ---- URLs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "port", "baud", "compress"),
    [
        ("serial:///dev/ttyUSB0?baud=921600", "/dev/ttyUSB0", 921600, True),
        ("serial:/dev/ttyUSB0", "/dev/ttyUSB0", 115200, True),
        ("serial:COM3?baud=9600&compress=0", "COM3", 9600, False),
        ("serial:socket://127.0.0.1:7000", "socket://127.0.0.1:7000", 115200, True),
        ("serial:socket://[::1]:7000?settle=3", "socket://[::1]:7000", 115200, True),
        ("serial:socket://192.0.2.7:7000?plain=1", "socket://192.0.2.7:7000", 115200, True),
        (
            "serial:rfc2217://localhost:2217?ign_set_control=1&baud=19200",
            "rfc2217://localhost:2217?ign_set_control=1",
            19200,
            True,
        ),
    ],
)
def test_urls(url: str, port: str, baud: int, compress: bool) -> None:
    address = parse(url)
    assert (address.port, address.baud, address.compress) == (port, baud, compress)


def test_how_fast_a_line_is() -> None:
    assert parse("serial:socket://127.0.0.1:7000").bytes_per_s == float("inf")
    assert parse("serial:socket://127.0.0.1:7000?baud=9600").bytes_per_s == 960
    assert parse("serial:COM3").bytes_per_s == 11520


def test_the_second_channel_gets_the_settle_count() -> None:
    assert parse("serial:COM3?pixels=zmq://h:1&settle=3").pixels == "zmq://h:1?settle=3"
    assert parse("serial:COM3?pixels=zmq://h:1?keys=k&settle=3").pixels == "zmq://h:1?keys=k&settle=3"
    assert parse("serial:COM3?settle=3").pixels == ""


@pytest.mark.parametrize(
    "url",
    [
        "serial:",
        "serial://",
        "serial://host",
        "serial:http://h:1",
        "serial:socket://h",
        "serial:socket://127.0.0.1:0",
        "serial:socket://127.0.0.1:1/x",
        "serial:socket://127.0.0.1:99999",
        "serial:COM3?baud",
        "usb:COM3",
    ],
)
def test_malformed_urls_are_refused(url: str) -> None:
    with pytest.raises(DeviceError, match="is not serial:PORT"):
        parse(url)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("speed=9600", "unknown option 'speed'"),
        ("baud=fast", "baud=fast"),
        ("baud=0", "baud=0"),
        ("baud=1000000000000", "baud=1000000000000"),
        ("baud=²", "baud=²"),
        ("compress=2", "compress=2"),
        ("ign_set_control=1", "unknown option"),
        ("settle=", "option 'settle' has no value"),
    ],
)
def test_odd_options_are_refused(query: str, problem: str) -> None:
    with pytest.raises(DeviceError, match=problem):
        parse(f"serial:COM3?{query}")


@pytest.mark.parametrize("form", ["socket", "rfc2217"])
def test_another_machine_is_reached_in_the_clear_only_when_told(form: str) -> None:
    with pytest.raises(DeviceError, match="plain=1"):
        parse(f"serial:{form}://192.0.2.7:7000")


# ---- the way it should go ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "options"),
    [
        pytest.param("pty", "?baud=921600", marks=needs_pty),
        pytest.param("pty", "?compress=0", marks=needs_pty),
        (TCP, ""),
        (TCP, "?compress=0"),
    ],
)
def test_the_same_pixels_as_in_this_process(served: Serve, where: str, options: str) -> None:
    jobs = [*make_jobs(6), (make_raw(9, 256), SPACE.defaults)]
    device = served(where, emulated("sim20"))
    with open_url(device.url + options, 30) as over_serial, open_url("sim:sim20", 30) as here:
        assert over_serial.info().identity == here.info().identity
        captures = captures_of(over_serial.process_many(jobs))
        assert isinstance(over_serial, SerialDevice)
        assert over_serial.counts == {}
        expected = captures_of(here.process_many(jobs))
    assert [c.rgb.hash for c in captures] == [c.rgb.hash for c in expected]
    assert_right(jobs, captures)


@needs_pty
def test_registers_are_written_to_the_shadow_bank_and_read_back(served: Serve) -> None:
    name = SPACE.names[0]
    default = SPACE.defaults.codes[0]
    other = SPACE[name].low_code if default != SPACE[name].low_code else SPACE[name].high_code
    firmware = Firmware(PIPELINE, model="m", version="2", serial="s7", boot_id="b")
    with open_device(served("pty", firmware).url, 20) as device:
        info = device.info()
        assert (info.model, info.firmware, info.serial, info.boot_id) == ("m", "2", "s7", "b")
        assert isinstance(device, HasRegisters)
        assert device.write_registers({name: other}) == {name: other}
        assert device.read_registers("shadow")[name] == other
        assert device.read_registers()[name] == default


def test_compression_is_left_out_where_one_end_has_none(served: Serve) -> None:
    (raw, parameters) = (RawFrame(np.full((64, 64), 100, np.uint16), "RGGB", (64.0,) * 4, 1023), SPACE.defaults)
    sizes = {}
    device = served()
    for compress in (0, 1):
        cable_bytes: list[int] = []

        def count(data: bytes, seen: list[int] = cable_bytes) -> bytes:
            seen.append(len(data))
            return data

        cable = Cable(device.url, count)
        try:
            with open_device(f"{cable.url}?compress={compress}", 20) as opened:
                assert_right([(raw, parameters)], [opened.process(raw, parameters)])
        finally:
            cable.close()
        sizes[compress] = sum(cable_bytes)
    assert sizes[1] < sizes[0] - 5000


def test_a_closed_device_says_so(served: Serve) -> None:
    device = open_device(served().url, 20)
    device.close()
    device.close()
    with pytest.raises(DeviceError, match="is closed"):
        device.process(*make_jobs(1)[0])


# ---- the ways it goes wrong ----------------------------------------------------------------------------------------


def flips(rng: random.Random, data: bytes) -> bytes:
    spoiled = bytearray(data)
    spoiled[rng.randrange(len(spoiled))] ^= 1 << rng.randrange(8)
    return bytes(spoiled)


def loses(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randrange(1, 40) :]


def adds(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + rng.randbytes(rng.randrange(1, 3000)) + data[start:]


@pytest.mark.parametrize("spoil", [flips, loses, adds])
def test_a_bad_cable_costs_time_and_nothing_else(
    served: Serve, cable: Callable[[str, Callable[[bytes], bytes]], Cable], spoil: Any
) -> None:
    jobs = make_jobs(12)
    rng = random.Random(1)

    def sometimes(data: bytes) -> bytes:
        return spoil(rng, data) if data and rng.random() < 0.2 else data

    bad = cable(served().url, sometimes)
    with open_device(bad.url, 60) as device:
        captures = captures_of(device.process_many(jobs))
    assert_right(jobs, captures)


def test_a_cable_that_breaks_again_and_again(
    served: Serve, cable: Callable[[str, Callable[[bytes], bytes]], Cable]
) -> None:
    jobs = make_jobs(12)
    pieces = iter(range(1, 10**9))

    def tears(data: bytes) -> bytes:
        # In the end it holds: where pieces are small, a frame is more than 25 of them, and would never come through.
        if (piece := next(pieces)) % 25 == 0 and piece <= 500:
            raise OSError("torn")
        return data

    torn = cable(served().url, tears)
    with open_device(torn.url, 60) as device:
        captures = captures_of(device.process_many(jobs))
        assert device.counts["reconnects"] >= 1
    assert_right(jobs, captures)


@needs_pty
def test_a_port_that_vanishes_and_comes_back_with_another_boot(served: Serve, tmp_path: Path) -> None:
    jobs = make_jobs(20)
    path = tmp_path / "isp"
    first = served(f"pty:{path}")
    assert first.url == f"serial://{path}"
    got: list[Capture | Failure] = []
    with open_device(first.url, 60) as device:
        for capture in device.process_many(jobs):
            got.append(capture)
            if len(got) == 5:
                first.close()
                assert not path.exists()
                served(f"pty:{path}")
        assert device.counts["reboots"] == 1
        assert device.counts["reconnects"] >= 1
    assert_right(jobs, got)
    assert len({c.boot_id for c in got}) == 2


@needs_pty
def test_a_port_gone_for_good_is_named_after_what_arrived(served: Serve, tmp_path: Path) -> None:
    jobs = make_jobs(40)
    first = served(f"pty:{tmp_path / 'isp'}")
    got: list[Capture | Failure] = []
    with open_device(first.url, 1.0) as device:
        captures = device.process_many(jobs)
        got.append(next(captures))
        first.close()
        with pytest.raises(DeviceUnreachableError, match="no such port"):
            got.extend(captures)
    assert_right(jobs[: len(got)], got)


def test_a_reboot_behind_an_open_port(served: Serve) -> None:
    jobs = make_jobs(12)
    with open_device(served(faults=Faults({"reboot": Fault(at=frozenset({4, 9}))})).url, 60) as device:
        captures = captures_of(device.process_many(jobs))
        assert device.counts["reboots"] == 2
    assert_right(jobs, captures)
    assert len({c.boot_id for c in captures}) == 3


@pytest.mark.parametrize("where", [TCP, pytest.param("pty", marks=needs_pty), pytest.param("path", marks=needs_pty)])
def test_every_fault_on_order(served: Serve, tmp_path: Path, where: str) -> None:
    jobs = make_jobs(30)
    at = ("drop", "duplicate", "corrupt", "truncate", "previous", "wrong_hash", "reorder", "delay", "disappear", "hang")
    plan = {name: Fault(at=frozenset({2 + 2 * n}), seconds=0.05) for n, name in enumerate(at)}
    faults = Faults(plan)
    device = served(f"pty:{tmp_path / 'isp'}" if where == "path" else where, faults=faults)
    with open_device(device.url, 6) as opened:
        captures = captures_of(opened.process_many(jobs))
    assert_right(jobs, captures)
    assert set(faults.counts) == set(at)


@needs_pty
def test_a_port_in_use_and_a_port_that_is_not_there(served: Serve, tmp_path: Path) -> None:
    device = served("pty")
    with open_device(device.url, 20), pytest.raises(DeviceError, match="another program uses the port"):
        open_device(device.url, 20)
    with pytest.raises(DeviceError, match="there is no such port"):
        open_device(f"serial://{tmp_path}/none", 20)
    (tmp_path / "file").write_text("no port")
    with pytest.raises(DeviceError, match=r"serial:///.*/file: .*\? `workbench device list`"):
        open_device(f"serial://{tmp_path}/file", 20)


def test_a_tcp_port_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(DeviceUnreachableError, match=f"socket://127.0.0.1:{port}: .*refused"):
        open_device(f"serial:socket://127.0.0.1:{port}", 5)


@needs_pty
def test_nobody_at_the_other_end(terminal: tuple[int, str]) -> None:
    with pytest.raises(DeviceUnreachableError, match="workbench sim serve --serial pty"):
        open_device(f"serial://{terminal[1]}", 0.5)


@contextlib.contextmanager
def meanwhile(step: Callable[[], object]) -> Iterator[None]:
    """In a thread, again and again until the block ends; a step waits for a moment at most."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            step()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


@needs_pty
def test_a_line_that_gives_back_what_is_sent_is_told(terminal: tuple[int, str]) -> None:
    master, name = terminal

    def echo() -> None:
        if select.select([master], [], [], 0.05)[0]:
            os.write(master, os.read(master, 4096))

    with meanwhile(echo), pytest.raises(DeviceUnreachableError, match="what is sent comes back"):
        open_device(f"serial://{name}", 1.0)


@needs_pty
def test_noise_looks_like_a_wrong_baud_rate(terminal: tuple[int, str]) -> None:
    master, name = terminal
    os.set_blocking(master, False)
    quiet = threading.Event()

    def babble() -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(master, b"\x00\x9e\x06\xfe\x78\x00")
        quiet.wait(0.01)

    with meanwhile(babble), pytest.raises(DeviceUnreachableError, match="is the baud rate right"):
        open_device(f"serial://{name}", 1.0)


def test_a_device_of_another_link_version() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                reader = serial_framing.FrameReader()
                frames: list[serial_framing.LinkFrame] = []
                while not frames:
                    frames = reader.feed(connection.recv(4096))
                body = b"\x02\x00\x10\x00\x04"
                connection.sendall(serial_framing.encode_frame(serial_framing.OPENED, frames[0].session, body))
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ProtocolError, match="version 2"):
            open_device(f"serial:socket://127.0.0.1:{listener.getsockname()[1]}", 20)
        thread.join(10)


def test_a_peer_that_stops_draining_ends_at_the_deadline(
    served: Serve, cable: Callable[[str, Callable[[bytes], bytes]], Cable]
) -> None:
    raw = make_raw(5, 1024)
    release = threading.Event()
    carried = iter(range(10**9))

    def blocks(data: bytes) -> bytes:
        if next(carried) > 20:
            release.wait(60)
        return data

    stuck = cable(served().url, blocks)
    try:
        with open_device(f"{stuck.url}?compress=0", 2.0) as device:
            with pytest.raises(DeviceUnreachableError, match=r"no answer in 2\.\d s"):
                list(device.process_many([(raw, SPACE.defaults)] * 4))
            assert isinstance(device, HasRegisters)
            with pytest.raises(DeviceUnreachableError, match=r"no answer in 2\.\d s"):
                device.read_registers()
    finally:
        release.set()


# ---- pixels in a folder --------------------------------------------------------------------------------------------


def test_pixels_go_through_a_folder_and_not_over_the_line(
    served: Serve, cable: Callable[[str, Callable[[bytes], bytes]], Cable], tmp_path: Path
) -> None:
    jobs = [(make_raw(n, 256), SPACE.defaults) for n in range(3)]
    carried: list[int] = []

    def count(data: bytes) -> bytes:
        carried.append(len(data))
        return data

    line = cable(served(pixels=tmp_path).url, count)
    with open_device(f"{line.url}?pixels=folder:{tmp_path}", 20) as device:
        captures = captures_of(device.process_many(jobs))
        assert device.counts == {}
    assert_right(jobs, captures)
    assert sum(carried) < 20000
    assert not list(tmp_path.iterdir())


def test_damaged_and_missing_files_are_asked_for_again(served: Serve, tmp_path: Path) -> None:
    jobs = make_jobs(6)
    plan = {"corrupt": Fault(at=frozenset({1, 3})), "reboot": Fault(at=frozenset({5}))}
    device = served(faults=Faults(plan), pixels=tmp_path)
    with open_device(f"{device.url}?pixels=folder:{tmp_path}", 20) as opened:
        captures = captures_of(opened.process_many(jobs))
        assert opened.counts["refused"] == 2
    assert_right(jobs, captures)
    device.close()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(served: Serve, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no folder for pixels"):
        open_device(f"{served().url}?pixels=folder:{tmp_path / 'none'}", 20)


# ---- RFC 2217 ------------------------------------------------------------------------------------------------------


class PlainPort(serial.Serial):  # type: ignore[misc]
    """A pseudo terminal has no modem lines to ask for."""

    cts = dsr = ri = cd = dtr = rts = break_condition = False


class PortServer:
    """A serial port on the network: RFC 2217 on one side, a local port on the other, for one client."""

    def __init__(self, port: serial.Serial) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self.url = f"serial:rfc2217://127.0.0.1:{self._listener.getsockname()[1]}"

    def write(self, data: bytes) -> None:
        with self._lock:
            self._client.sendall(data)

    def _serve(self) -> None:
        self._client, _ = self._listener.accept()
        self._client.settimeout(0.01)
        manager = serial.rfc2217.PortManager(self._port, self)
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                data = self._client.recv(4096)
                if not data:
                    return
                self._port.write(b"".join(manager.filter(data)))
            if waiting := self._port.in_waiting:
                self.write(b"".join(manager.escape(self._port.read(waiting))))

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self._client.close()
        self._listener.close()


@needs_pty
@pytest.mark.filterwarnings("ignore:set.* is deprecated:DeprecationWarning:serial")
def test_a_port_on_the_network(served: Serve) -> None:
    jobs = make_jobs(3)
    with PlainPort(served("pty").url.removeprefix("serial://"), timeout=0) as port:
        server = PortServer(port)
        try:
            with open_device(f"{server.url}?baud=115200&ign_set_control=1", 30) as device:
                captures = captures_of(device.process_many(jobs))
        finally:
            server.close()
    assert_right(jobs, captures)


class Busy(Firmware):
    """Never takes a frame."""

    def handle(self, message: wire.Message) -> wire.Message:
        if isinstance(message, wire.Process):
            return wire.Error(message.id, "busy", "wait")
        return super().handle(message)


def test_a_line_whose_device_is_busy_for_ever_ends_at_the_deadline(served: Serve) -> None:
    device = served(TCP, Busy(PIPELINE))
    with open_device(device.url, 1.0) as opened, pytest.raises(DeviceUnreachableError, match=r"no frame in .* × busy"):
        opened.process(make_raw(1), SPACE.defaults)


class Changing(Firmware):
    """Restarts as a device that proves nothing, after three frames."""

    def handle(self, message: wire.Message) -> wire.Message:
        answer = super().handle(message)
        if self.frame < 4:
            return answer
        if isinstance(answer, wire.Info):
            return replace(answer, boot_id="second", echo=False)
        if isinstance(answer, wire.Frame):
            return replace(answer, boot_id="second", parameters_hash="", registers=())
        return answer


def test_what_info_said_holds_over_a_line_too(served: Serve) -> None:
    got: list[Capture | Failure] = []
    with (
        open_device(served(TCP, Changing(PIPELINE)).url, 20) as opened,
        pytest.raises(DeviceChangedError, match="after a reboot the device now says echo false, was true"),
    ):
        got.extend(opened.process_many(make_jobs(8)))
    assert_right(make_jobs(8)[:3], got)
