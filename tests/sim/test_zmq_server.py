from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.agent.serving import QUEUE_FACTOR, FrameQueue
from drivers.device import Capture
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.protocol import wire
from drivers.protocol.zmq_device import open_device
from sim.firmware.registers import Firmware
from sim.firmware.zmq_server import parse_endpoint, serve_firmware
from sim.isp.pipeline import Pipeline

PIPELINE = Pipeline("sim20")
RAW = RawFrame(np.full((32, 32), 500, np.uint16), "RGGB", (64.0,) * 4, 1023)


class HeldIsp:
    """An ISP that takes its time: a frame ends when the test lets it."""

    space = PIPELINE.space

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.frames = 0

    def process(self, raw: RawFrame, parameters: ParameterSet) -> bytes:
        self.frames += 1
        self.started.release()
        if not self.may_end.acquire(timeout=20):
            raise ValueError("the test forgot this frame")
        return b"\xff\xd8\xff\xd9"


@pytest.fixture
def client() -> Iterator[Callable[[str], zmq.Socket[bytes]]]:
    context = zmq.Context()

    def connect(url: str) -> zmq.Socket[bytes]:
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.RCVTIMEO, 60_000)
        dealer.connect(url.replace("zmq:", "tcp:"))
        return dealer

    yield connect
    context.destroy(linger=0)


def hear(dealer: zmq.Socket[bytes]) -> wire.Message:
    return wire.decode(dealer.recv_multipart())


def ask(dealer: zmq.Socket[bytes], message: wire.Message) -> wire.Message:
    dealer.send_multipart(wire.encode(message))
    return hear(dealer)


def test_the_line_it_prints(serving: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    url = serving(Firmware(PIPELINE, boot_id="b7"))
    assert capsys.readouterr().out == f"serving sim20 at {url} boot b7\n"
    assert url.startswith("zmq://127.0.0.1:")


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"\xc1"],
        [b"a", b"b", b"c", b"d"],
        [b"\xdd\xff\xff\xff\xff"],
        [*wire.encode(wire.Hello(1)), b"surplus"],
        wire.encode(wire.Error(1, "busy", "x")),
    ],
)
def test_bad_messages_are_answered_and_the_server_lives(
    serving: Callable[..., str], client: Callable[[str], zmq.Socket[bytes]], parts: list[bytes]
) -> None:
    dealer = client(serving(Firmware(PIPELINE)))
    dealer.send_multipart(parts)
    assert isinstance(hear(dealer), wire.Error)
    assert isinstance(ask(dealer, wire.Hello(2)), wire.Info)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(parts=st.lists(st.binary(max_size=60), min_size=1, max_size=4))
def test_any_message_is_answered(lasting_client: zmq.Socket[bytes], parts: list[bytes]) -> None:
    lasting_client.send_multipart(parts)
    assert isinstance(hear(lasting_client), wire.Error)


@pytest.fixture
def lasting_client(serving: Callable[..., str], client: Callable[[str], zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    return client(serving(Firmware(PIPELINE)))


def test_a_message_beyond_the_bound_is_dropped_and_the_server_lives(
    serving: Callable[..., str], client: Callable[[str], zmq.Socket[bytes]]
) -> None:
    url = serving(Firmware(PIPELINE, max_payload=2 * wire.MAX_HEADER))
    client(url).send(b"\x00" * (2 * wire.MAX_HEADER + 1))
    dealer = client(url)
    dealer.send(b"\x00" * (wire.MAX_HEADER + 1))
    assert isinstance(hear(dealer), wire.Error)


def test_short_requests_do_not_wait_for_queued_frames(
    serving: Callable[..., str], client: Callable[[str], zmq.Socket[bytes]]
) -> None:
    isp = HeldIsp()
    dealer = client(serving(Firmware(isp)))
    frames = [1, 2, 3, 4, 5, 6]
    for n in frames:
        dealer.send_multipart(wire.encode(wire.process_request(n, RAW, ())))
    assert isp.started.acquire(timeout=10)
    dealer.send_multipart(wire.encode(wire.Hello(7)))
    heard: list[int] = []
    # ZeroMQ does not tell when a message has reached the peer: a few frames may pass before this one is there.
    while 7 not in heard:
        isp.may_end.release()
        heard.append(hear(dealer).id)
    assert heard[-1] == 7
    assert len(heard) < len(frames)
    for _ in frames:
        isp.may_end.release()
    assert [n for n in heard if n != 7] + [hear(dealer).id for _ in range(1 + len(frames) - len(heard))] == frames


def test_a_waiting_request_is_taken_once_and_the_queue_is_bounded() -> None:
    waiting = FrameQueue(limit=4)
    request = [wire.process_request(n, RAW, ()) for n in range(5)]
    assert all(waiting.push(b"peer", request[n]) for n in (0, 1, 2, 3, 0, 3))
    assert len(waiting) == 4
    assert not waiting.push(b"peer", request[4])
    assert [waiting.pop() for _ in range(4)] == [(b"peer", request[n]) for n in range(4)]
    assert waiting.push(b"peer", request[0])  # in work: taken once all the same
    assert len(waiting) == 0
    waiting.done(b"peer", request[0])
    assert waiting.push(b"peer", request[0])
    assert waiting.push(b"other", request[0])
    assert len(waiting) == 2


def test_a_full_queue_answers_busy(serving: Callable[..., str], client: Callable[[str], zmq.Socket[bytes]]) -> None:
    isp = HeldIsp()
    dealer = client(serving(Firmware(isp, max_in_flight=1)))
    sent = range(10 * QUEUE_FACTOR)
    for n in sent:
        dealer.send_multipart(wire.encode(wire.process_request(n, RAW, ())))
    answers: list[Any] = []
    while not any(isinstance(a, wire.Error) for a in answers):
        isp.may_end.release()
        answers.append(hear(dealer))
    for _ in sent:
        isp.may_end.release()
    answers += [hear(dealer) for _ in range(len(sent) - len(answers))]
    refused = [a for a in answers if isinstance(a, wire.Error)]
    assert {a.id for a in answers} == set(sent)
    assert {a.code for a in refused} == {"busy"}
    assert isp.frames == len(sent) - len(refused)


def test_two_clients_share_the_device(serving: Callable[..., str]) -> None:
    url = serving(Firmware(PIPELINE))
    with open_device(url, 20) as one, open_device(url, 20) as other:
        first = one.process_many([(RAW, PIPELINE.space.defaults)] * 10)
        second = other.process_many([(RAW, PIPELINE.space.defaults)] * 10)
        captures = [c for pair in zip(first, second, strict=True) for c in pair if isinstance(c, Capture)]
    assert {c.rgb.hash for c in captures} == {captures[0].rgb.hash}
    assert sorted(c.frame for c in captures) == list(range(1, 21))


@pytest.mark.parametrize("endpoint", ["0.0.0.0:5555", "192.168.1.4:1", "[::]:5", "lab-pc:5555", "*:5"])
def test_only_loopback_unless_told(endpoint: str) -> None:
    with pytest.raises(DeviceError, match="--bind-any"):
        parse_endpoint(endpoint)
    host, port = parse_endpoint(endpoint, bind_any=True)
    assert host
    assert port


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "ipc://x:1", ":5", "a:1/b"])
def test_malformed_endpoints_are_refused(endpoint: str) -> None:
    with pytest.raises(DeviceError, match="is not HOST:PORT"):
        parse_endpoint(endpoint)


def test_loopback_endpoints() -> None:
    assert parse_endpoint("zmq://127.0.0.1:5") == ("127.0.0.1", 5)
    assert parse_endpoint("localhost:0") == ("127.0.0.1", 0)
    assert parse_endpoint("[::1]:7") == ("::1", 7)


def test_a_taken_port_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DeviceError, match=f"cannot listen on 127.0.0.1:{port}.*another port"):
            serve_firmware(Firmware(PIPELINE), f"127.0.0.1:{port}")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal to send to one process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_the_process_cleanly(number: signal.Signals) -> None:
    code = "from sim.firmware.zmq_server import serve; serve('sim20', '127.0.0.1:0')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        assert p.stdout is not None
        assert p.stdout.readline().startswith("serving sim20 at zmq://127.0.0.1:")
        p.send_signal(number)
        out, err = p.communicate(timeout=20)
    assert (p.returncode, out, err) == (0, "", "")
