from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import in_thread

from drivers.agent.serial_lines import TcpLine
from drivers.agent.serving import QUEUE_FACTOR
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.protocol import wire
from drivers.protocol.byte_streams import ByteStream
from drivers.protocol.serial_device import open_device, open_stream, parse
from drivers.protocol.serial_end import SerialEnd
from drivers.protocol.serial_exchange import exchange
from sim.firmware.faults import Fault, Faults
from sim.firmware.registers import Firmware
from sim.firmware.serial_server import serve_firmware
from sim.isp.pipeline import Pipeline

PIPELINE = Pipeline("sim20")
RAW = RawFrame(np.full((32, 32), 500, np.uint16), "RGGB", (64.0,) * 4, 1023)
TCP = "socket://127.0.0.1:0"
needs_pty = pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo terminals")
LINES = [TCP, pytest.param("pty", marks=needs_pty)]


class HeldIsp:
    """An ISP that takes its time: a frame ends when the test lets it."""

    space = PIPELINE.space

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.frames = 0

    def process(self, raw: RawFrame, parameters: Any) -> bytes:
        self.frames += 1
        self.started.release()
        if not self.may_end.acquire(timeout=20):
            raise ValueError("the test forgot this frame")
        return b"\xff\xd8\xff\xd9"


class Client:
    """One session on a line, message by message."""

    def __init__(self, url: str) -> None:
        self.stream: ByteStream = open_stream(parse(url))
        self.end = SerialEnd(opens=True, max_payload=wire.MAX_OUTPUT)
        self._left = b""

    def open(self) -> Client:
        self._until(lambda: self.end.opened)
        return self

    def write(self) -> None:
        """What can be written now."""
        self._left = exchange(self.stream, self.end, self._left)

    def send(self, parts: list[Any]) -> None:
        """The message, until all of it has arrived."""
        self.end.send(parts)
        self._until(lambda: not self.end.backlog)

    def hear(self) -> wire.Message:
        parts: list[list[wire.Buffer]] = []

        def heard() -> bool:
            message = self.end.receive()
            if message is not None:
                parts.append(message)
            return message is not None

        self._until(heard)
        return wire.decode(parts[0])

    def ask(self, message: wire.Message) -> wire.Message:
        self.send(wire.encode(message))
        return self.hear()

    def _until(self, done: Callable[[], bool]) -> None:
        limit = time.monotonic() + 30
        while not done():
            now = time.monotonic()
            assert now < limit, "the server did not answer"
            assert not self.end.lost, "the session is over"
            self.write()
            if done():
                return
            self.stream.wait(min(self.end.wait_s(now), 0.1), to_write=bool(self._left))


@pytest.fixture
def serving() -> Iterator[Callable[..., str]]:
    with ExitStack() as servers:
        yield lambda firmware, where=TCP, faults=None: servers.enter_context(
            in_thread(serve_firmware, firmware, where, faults=faults)
        )


@pytest.fixture
def client() -> Iterator[Callable[[str], Client]]:
    clients: list[Client] = []

    def connect(url: str) -> Client:
        clients.append(Client(url))
        return clients[-1].open()

    yield connect
    for each in clients:
        each.stream.close()


def request(n: int) -> list[wire.Buffer]:
    return wire.encode(wire.process_request(n, RAW, ()))


@pytest.mark.parametrize("where", LINES)
def test_the_line_it_prints(serving: Callable[..., str], where: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = serving(Firmware(PIPELINE, boot_id="b7"), where)
    assert capsys.readouterr().out == f"serving sim20 at {url} boot b7\n"
    assert url.startswith("serial:socket://127.0.0.1:" if where == TCP else "serial:///dev/")


@pytest.mark.parametrize("where", LINES)
def test_bad_messages_and_garbage_leave_the_server_alive(
    serving: Callable[..., str], client: Callable[[str], Client], where: str
) -> None:
    c = client(serving(Firmware(PIPELINE), where))
    for parts in ([b"\xc1"], [b"a", b"b"], wire.encode(wire.Error(1, "busy", "x"))):
        c.send(parts)
        assert isinstance(c.hear(), wire.Error)
        c.stream.write(os.urandom(500))
    assert isinstance(c.ask(wire.Hello(2)), wire.Info)


def test_a_message_that_breaks_the_link_ends_its_session_only(
    serving: Callable[..., str], client: Callable[[str], Client]
) -> None:
    url = serving(Firmware(PIPELINE))
    bad = client(url)
    bad.end.send([b"", b""])
    with pytest.raises(AssertionError, match="the session is over"):
        bad.hear()
    assert isinstance(client(url).ask(wire.Hello(2)), wire.Info)


def test_a_payload_beyond_the_bound_is_refused_with_its_id(
    serving: Callable[..., str], client: Callable[[str], Client]
) -> None:
    c = client(serving(Firmware(PIPELINE, max_payload=1024)))
    answer = c.ask(wire.process_request(7, RAW, ()))
    assert isinstance(answer, wire.Error)
    assert (answer.id, answer.code) == (7, "too_large")
    assert isinstance(c.ask(wire.Hello(8)), wire.Info)


def test_short_requests_do_not_wait_for_queued_frames(
    serving: Callable[..., str], client: Callable[[str], Client]
) -> None:
    isp = HeldIsp()
    c = client(serving(Firmware(isp)))
    c.send(request(1))
    assert isp.started.acquire(timeout=20)
    for n in (2, 3):
        c.end.send(request(n))
    c.end.send(wire.encode(wire.Hello(4)))
    isp.may_end.release()
    heard = [c.hear().id]
    # The server takes in bytes between frames, and frame 2 may begin before all have come.
    isp.may_end.release()
    heard += [c.hear().id, c.hear().id]
    isp.may_end.release()
    heard.append(c.hear().id)
    assert heard[0] == 1
    assert heard.index(4) < heard.index(3)
    assert sorted(heard) == [1, 2, 3, 4]


def test_a_full_queue_answers_busy(serving: Callable[..., str], client: Callable[[str], Client]) -> None:
    isp = HeldIsp()
    c = client(serving(Firmware(isp, max_in_flight=1)))
    c.send(request(1))
    assert isp.started.acquire(timeout=20)
    sent = range(1, 4 * QUEUE_FACTOR)
    for n in sent[1:]:
        c.end.send(request(n))
    c.write()
    for _ in sent:
        isp.may_end.release()
    answers = [c.hear() for _ in sent]
    refused = [a for a in answers if isinstance(a, wire.Error)]
    assert {a.id for a in answers} == set(sent)
    assert {a.code for a in refused} == {"busy"}
    assert isp.frames == len(sent) - len(refused)


def test_what_waits_for_a_client_is_forgotten_when_another_comes(
    serving: Callable[..., str], client: Callable[[str], Client]
) -> None:
    isp = HeldIsp()
    url = serving(Firmware(isp))
    first = client(url)
    for n in (1, 2, 3):
        first.end.send(request(n))
    first.write()
    assert isp.started.acquire(timeout=20)
    first.stream.close()
    second = Client(url)
    try:
        second.write()
        isp.may_end.release()
        assert isinstance(second.open().ask(wire.Hello(5)), wire.Info)
        assert isp.frames == 1
        isp.may_end.release()
        answer = second.ask(wire.process_request(6, RAW, ()))
        assert (type(answer), answer.id, isp.frames) == (wire.Frame, 6, 2)
    finally:
        second.stream.close()


@pytest.mark.parametrize("where", LINES)
def test_clients_come_and_go(serving: Callable[..., str], where: str) -> None:
    url = serving(Firmware(PIPELINE), where)
    for n in range(1, 4):
        with open_device(url, 20) as device:
            assert device.process(RAW, PIPELINE.space.defaults).frame == n


def test_a_client_that_never_reads_does_not_stop_the_next_one(
    serving: Callable[..., str], client: Callable[[str], Client]
) -> None:
    url = serving(Firmware(PIPELINE))
    deaf = client(url)
    for n in range(40):
        deaf.end.send(wire.encode(wire.Hello(n)))
        deaf.stream.write(deaf.end.outgoing(time.monotonic()))
    assert isinstance(client(url).ask(wire.Hello(99)), wire.Info)


@needs_pty
def test_a_path_names_the_line_while_it_is_served(tmp_path: Path) -> None:
    path = tmp_path / "isp"
    ready: queue.Queue[str] = queue.Queue()
    stop = threading.Event()
    thread = threading.Thread(
        target=serve_firmware, args=(Firmware(PIPELINE), f"pty:{path}", ready.put), kwargs={"stop": stop}
    )
    thread.start()
    try:
        assert ready.get(timeout=20) == f"serial://{path}"
        assert path.is_symlink()
    finally:
        stop.set()
        thread.join(20)
    assert list(tmp_path.iterdir()) == []


@needs_pty
def test_a_path_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(DeviceError, match=r"notes\.txt.*choose another path"):
        serve_firmware(Firmware(PIPELINE), f"pty:{path}")
    assert path.read_text() == "mine"
    with pytest.raises(DeviceError, match="the link cannot be made"):
        serve_firmware(Firmware(PIPELINE), f"pty:{tmp_path / 'missing' / 'isp'}")


def test_a_system_without_pseudo_terminals_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "openpty", raising=False)
    with pytest.raises(DeviceError, match=r"serve on TCP: socket://127\.0\.0\.1:0"):
        serve_firmware(Firmware(PIPELINE), "pty")


@pytest.mark.parametrize("where", ["", "pty:", "/dev/ttyS0", "socket://", "socket://127.0.0.1", "zmq://127.0.0.1:1"])
def test_malformed_lines_are_refused(where: str) -> None:
    with pytest.raises(DeviceError, match="is not pty, pty:PATH or socket://HOST:PORT"):
        serve_firmware(Firmware(PIPELINE), where)


@pytest.mark.parametrize("where", ["socket://0.0.0.0:0", "socket://lab-pc:5000", "socket://[::]:0"])
def test_only_loopback_unless_told(where: str) -> None:
    with pytest.raises(DeviceError, match="--bind-any"):
        serve_firmware(Firmware(PIPELINE), where)


def test_a_taken_port_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DeviceError, match=f"cannot listen on 127.0.0.1:{port}"):
            serve_firmware(Firmware(PIPELINE), f"socket://127.0.0.1:{port}")


@pytest.mark.parametrize("where", LINES)
def test_faults_on_order_and_their_count(serving: Callable[..., str], where: str) -> None:
    faults = Faults({"drop": Fault(at=frozenset({2})), "corrupt": Fault(at=frozenset({3}))})
    with open_device(serving(Firmware(PIPELINE), where, faults), 3) as device:
        captures = [device.process(RAW, PIPELINE.space.defaults) for _ in range(3)]
    assert len({c.rgb.hash for c in captures}) == 1
    assert faults.counts == {"drop": 1, "corrupt": 1}
    assert device.counts["refused"] == 1


def test_a_port_taken_while_it_was_given_up_is_waited_for() -> None:
    line = TcpLine("127.0.0.1", 0)
    address = ("127.0.0.1", int(line.url.rpartition(":")[2]))
    try:
        line.unplug()
        with socket.create_server(address):
            assert line.stream(0.01) is None
        assert line.stream(0.01) is None
        with socket.create_connection(address, 20):
            assert line.stream(20) is not None
    finally:
        line.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal to send to one process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "workbench.cli", "sim", "serve", "--serial", "pty"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        assert p.stdout is not None
        line = p.stdout.readline()
        assert line.startswith("serving sim20 at serial:///dev/"), line
        with open_device(line.split()[3], 20) as device:
            assert device.info().model == "emulated-isp sim20"
        p.send_signal(number)
        out, err = p.communicate(timeout=60)
    assert (p.returncode, out, err) == (0, "", "")
