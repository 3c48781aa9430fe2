"""Agents of the kit: what they answer, what they make of an engineer's faults, and that they need next to nothing."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from servers import in_thread

from drivers.agent import Agent, Parameter, PictureOutput, Register, choice, continuous, integer, png, switch
from drivers.agent.kit import MOST_LATE
from drivers.agent.own_parameters import in_registers
from drivers.device import FrameFailedError
from drivers.errors import DeviceError, DeviceUnreachableError, ParameterError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSpace, parameters_hash
from drivers.protocol import wire
from drivers.protocol.zmq_keys import new_keys
from drivers.registry import open_device

ROOT = Path(__file__).resolve().parents[2]
RAW = RawFrame(np.arange(24, dtype=np.uint16).reshape(4, 6), "GRBG", (1.0, 2.0, 3.0, 4.0), 1023, iso=200.0)
PARAMETERS = (
    continuous("gamma", 1, 4, step=1 / 256, block="tone"),
    integer("radius", -3, 4),
    choice("mode", ["a", "b"]),
    switch("flip", default=True),
)
Serving = Callable[..., str]


def agent(function: Callable[..., Any] | None = None, **options: Any) -> Agent:
    made = Agent(model="own", firmware="1", parameters=PARAMETERS, **options)
    if function is not None:
        made.process(function)
    return made


def grey(level: int) -> np.ndarray:
    return np.full((4, 6, 3), level, np.uint8)


def asked(device: Any, **values: Any) -> wire.Message:
    """The answer to a frame with these native values."""
    codes = device.space.parse(values, partial=True)
    registers = [(p.register.address, c) for p, c in zip(device.space.parameters, codes.codes, strict=True)]
    answer: wire.Message = device.handle(wire.process_request(7, RAW, registers))
    return answer


def frame(device: Any, **values: Any) -> wire.Frame:
    answer = asked(device, **values)
    assert isinstance(answer, wire.Frame), answer
    return answer


def failure(device: Any) -> str:
    answer = asked(device)
    assert isinstance(answer, wire.Error), answer
    assert (answer.id, answer.code) == (7, "failed")
    assert answer.text.isprintable()
    return answer.text


def level(answer: wire.Frame) -> int:
    return int(wire.picture(answer, PictureOutput(), RAW.width, RAW.height).pixels[0, 0, 0])


@pytest.fixture
def serving() -> Iterator[Serving]:
    with ExitStack() as servers:
        yield lambda served, url="zmq://127.0.0.1:0": servers.enter_context(in_thread(served.serve, url))


# ---- parameters ------------------------------------------------------------------------------------------------------


def test_parameters_have_defaults_and_registers() -> None:
    space = ParameterSpace("own", in_registers(PARAMETERS))
    assert [p.default for p in space.parameters] == [2.5, 0, "a", True]
    registers = [p.register for p in space.parameters]
    assert [r.address for r in registers if r] == [0, 4, 8, 12]
    assert [r.signed for r in registers if r] == [False, True, False, False]
    assert continuous("g", 0.5, 8, step=1 / 256, scale="log").default == 2


def test_registers_that_are_named_stay_and_the_others_lie_behind_them() -> None:
    named = continuous("gain", 0, 1, step=1 / 256, register=Register(address=0x101, width=16))
    placed = in_registers([switch("first"), named, switch("second")])
    assert [p.register.address for p in placed if p.register] == [0x104, 0x101, 0x108]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: continuous("Gamma", 1, 4, step=0.1), "name 'Gamma'"),
        (lambda: continuous("gamma", 4, 1, step=0.1), "low 4.0 must be below high 1.0"),
        (lambda: continuous("gamma", 1, 4, step=0), "step 0.0 must be above 0"),
        (lambda: continuous("gamma", "1", 4, step=1), "low '1' is not a finite number"),  # type: ignore[arg-type]
        (lambda: continuous("gamma", 1, 4, step=0.1, default=9), "gamma: 9 is outside 1..4"),
        (lambda: continuous("gamma", 1, 4, step=0.1, scale="cubic"), "scale 'cubic' is not linear or log"),  # type: ignore[arg-type]
        (lambda: continuous("gamma", 1, 4, step=0.1, role="green"), "role 'green' is not"),  # type: ignore[arg-type]
        (lambda: continuous("gamma", 1, 4, step=0.1, block="Tone\n"), "block 'Tone"),
        (lambda: choice("mode", []), "at least two choices"),
        (lambda: choice("mode", ["a", "b"], default="c"), "'c' is not one of a | b"),
        (lambda: choice("mode", "ab c", default="a"), "at least two choices"),
        (lambda: in_registers([continuous("wide", 0, 1, step=1e-12)]), "more than 32 bits"),
        (lambda: Agent(model="", firmware="1", parameters=PARAMETERS), "model ''"),
        (lambda: Agent(model="own", firmware="1\n", parameters=PARAMETERS), "firmware"),
        (lambda: Agent(model="own", firmware="1", parameters=[*PARAMETERS, switch("flip")]), "named twice: flip"),
        (lambda: Agent(model="own", firmware="1", parameters=[]), "1..1024 parameters, not 0"),
        (lambda: Agent(model="own", firmware="1", parameters=PARAMETERS, settle=-1), "settle -1"),
        (lambda: Agent(model="own", firmware="1", parameters=PARAMETERS, max_payload=4), "max_payload 4 is not"),
        (lambda: Agent(model="own", firmware="1", parameters=PARAMETERS, max_in_flight=65), "in 1..64"),
        (lambda: Agent(model="own", firmware="1", parameters=[choice("c", ["a", "b\x07"])]), "c: its unit, descr"),
    ],
)
def test_what_cannot_be_a_parameter_is_one_line(make: Callable[[], Parameter], told: str) -> None:
    with pytest.raises(ParameterError) as caught:
        make()
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- the function ----------------------------------------------------------------------------------------------------


def test_the_function_gets_raw_metadata_and_native_values() -> None:
    seen: list[Any] = []

    def process(mosaic: np.ndarray, metadata: dict[str, Any], values: dict[str, Any]) -> np.ndarray:
        seen.append((mosaic.copy(), dict(metadata), dict(values)))
        metadata.clear()
        values.clear()
        return grey(5)

    device = agent(process).device()
    made = frame(device, gamma=2.2, radius=-2, mode="b", flip=False)
    again = frame(device, gamma=2.2, radius=-2, mode="b", flip=False)
    for mosaic, metadata, values in seen:
        np.testing.assert_array_equal(mosaic, RAW.mosaic)
        assert metadata == RAW.metadata
        assert values == {"gamma": 563 / 256, "radius": -2, "mode": "b", "flip": False}
    assert (made.raw_hash, made.media_type, made.frame, again.frame) == (RAW.hash, "image/png", 1, 2)
    assert made.parameters_hash == parameters_hash({"gamma": 563, "radius": -2, "mode": 1, "flip": 0})
    assert level(made) == 5


def test_a_file_goes_out_as_it_is() -> None:
    for suffix, media_type in ((".png", "image/png"), (".jpg", "image/jpeg")):
        data = bytes(cv2.imencode(suffix, grey(9))[1])
        for given_as in (data, bytearray(data), memoryview(data)):
            made = frame(agent(lambda *_, file=given_as: file).device())
            assert (bytes(made.payload), made.media_type) == (data, media_type)


def test_pixels_may_lie_in_any_order_in_memory() -> None:
    pixels = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)[::-1, :, ::-1]
    made = frame(agent(lambda *_: pixels).device())
    np.testing.assert_array_equal(wire.picture(made, PictureOutput(), RAW.width, RAW.height).pixels, pixels)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (None, "process returned NoneType; return uint8 [4, 6, 3]"),
        (np.zeros((4, 6, 3)), "process returned float64 [4, 6, 3]; return uint8 [4, 6, 3]"),
        (np.zeros((6, 4, 3), np.uint8), "process returned uint8 [6, 4, 3]"),
        (np.zeros((4, 6), np.uint8), "process returned uint8 [4, 6]"),
        (b"", "process returned 0 bytes that are no picture: it is empty"),
        (b"GIF89a..", "process returned 8 bytes that are no picture"),
        (bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1]), "a PNG of 4×4 pixels, 8 bits a channel"),
        (bytes(cv2.imencode(".png", np.zeros((4, 6, 3), np.uint16))[1]), "a PNG of 6×4 pixels, 16 bits a channel"),
    ],
)
def test_what_is_no_picture_of_the_raw_is_a_failed_frame(
    made: Any, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def process(*_: Any) -> Any:
        return made

    assert told in failure(agent(process).device())
    assert told in capsys.readouterr().err


def test_an_error_of_the_function_fails_the_frame_and_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    faults = deque([KeyError("white"), ValueError("two\nlines"), MemoryError(), RecursionError("deep"), None])

    def process(*_: Any) -> np.ndarray:
        if fault := faults.popleft():
            raise fault
        return grey(1)

    device = agent(process).device()
    assert [failure(device) for _ in range(4)] == [
        "the ISP failed: KeyError: 'white'",
        "the ISP failed: ValueError: two lines",
        "the ISP failed: MemoryError",
        "the ISP failed: RecursionError: deep",
    ]
    told = capsys.readouterr().err
    assert told.count("Traceback (most recent call last)") == 4
    assert "in process" in told
    assert frame(device).frame == 5


def test_an_agent_needs_one_function() -> None:
    with pytest.raises(DeviceError, match=r"@agent\.process or @agent\.capture"):
        agent().device()
    both = agent(lambda *_: grey(1))
    both.capture(lambda _: (RAW.mosaic, RAW.metadata, grey(1)))
    with pytest.raises(DeviceError, match=r"@agent\.process or @agent\.capture"):
        both.device()


# ---- hardware --------------------------------------------------------------------------------------------------------


class Hardware:
    """Latches so many frames late, and mixes each output with the one before."""

    def __init__(self, late: int, mixed: float = 0.0) -> None:
        self.pipeline: deque[dict[str, Any]] = deque([dict.fromkeys(("radius",), 0)] * late, late)
        self.in_force: dict[str, Any] = {"gamma": 2.5, "radius": 0, "mode": "a", "flip": True}
        self.mixed, self.output, self.frames = mixed, 0.0, 0

    def process(self, mosaic: np.ndarray, metadata: dict[str, Any], values: dict[str, Any]) -> np.ndarray:
        self.frames += 1
        self.pipeline.append(values)
        self.in_force = {**self.in_force, **self.pipeline[0]}
        self.output += (1 - self.mixed) * (100 + 10 * self.in_force["radius"] - self.output)
        return grey(round(self.output))


def test_a_frame_is_made_again_until_its_codes_are_in_force() -> None:
    hardware = Hardware(late=4)
    own = agent(hardware.process)
    own.read_back(lambda: hardware.in_force)
    device = own.device()
    made = [frame(device, radius=radius) for radius in (3, 3, -1)]
    assert [level(m) for m in made] == [130, 130, 90]
    assert [dict(m.registers)[4] for m in made] == [3, 3, -1]
    assert [m.frame for m in made] == [1, 2, 3]
    assert hardware.frames == 4 + 1 + 4


def test_codes_that_never_come_into_force_are_told_as_they_are() -> None:
    hardware = Hardware(late=2)
    own = agent(hardware.process)
    own.read_back(lambda: {**hardware.in_force, "gamma": 1.0})
    device = own.device()
    made = frame(device, gamma=3.0, radius=2)
    assert dict(made.registers)[0] == 256
    assert hardware.frames == 1 + MOST_LATE
    active = device.handle(wire.Read(1, "active"))
    assert isinstance(active, wire.RegisterValues)
    assert active.parameters_hash == made.parameters_hash != parameters_hash({})


def test_a_read_back_that_is_not_whole_fails_the_frame() -> None:
    own = agent(lambda *_: grey(1))
    own.read_back(lambda: {"gamma": 2.5})
    assert "missing parameters for own: radius, mode, flip" in failure(own.device())


def test_frames_that_settle_are_made_inside() -> None:
    hardware = Hardware(late=1, mixed=0.5)
    device = agent(hardware.process, settle=12).device()
    assert [level(frame(device, radius=radius)) for radius in (4, -2)] == [140, 80]
    assert hardware.frames == 2 * 13


def test_without_an_echo_nothing_claims_what_was_in_force() -> None:
    device = agent(lambda *_: grey(1), echo=False).device()
    info = device.handle(wire.Hello(1))
    assert isinstance(info, wire.Info)
    assert not info.echo
    made = frame(device, radius=2)
    assert (made.parameters_hash, made.registers) == ("", ())


def test_a_frame_begins_before_the_answer_before_it_is_taken() -> None:
    begun, threads = [threading.Event() for _ in range(4)], set()

    def process(mosaic: Any, metadata: Any, values: Any) -> np.ndarray:
        threads.add(threading.current_thread())
        begun[values["radius"]].set()
        return grey(values["radius"])

    device = agent(process, overlap=True).device()

    def request(radius: int) -> wire.Process:
        codes = device.space.parse({"radius": radius}, partial=True).codes
        registers = [(p.register.address, c) for p, c in zip(device.space.parameters, codes, strict=True) if p.register]
        return wire.process_request(radius + 1, RAW, registers)

    answers = device.frames(request(radius) for radius in range(4))
    first = next(answer for answer in answers if answer is not None)
    assert begun[1].wait(20)
    made = [first, *answers, *device.frames(iter([request(0)]))]
    assert [(m.id, level(m)) for m in made if isinstance(m, wire.Frame)] == [(1, 0), (2, 1), (3, 2), (4, 3), (1, 0)]
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_what_ends_a_program_ends_it_from_the_thread_of_the_frames_too() -> None:
    def process(mosaic: Any, metadata: Any, values: Any) -> np.ndarray:
        raise SystemExit("no sensor")

    device = agent(process, overlap=True).device()
    with pytest.raises(SystemExit, match="no sensor"):
        list(device.frames(iter([wire.process_request(1, RAW, [])])))


def test_a_live_agent_gives_the_raw_with_its_picture() -> None:
    own = agent()
    own.capture(lambda values: (RAW.mosaic, {"cfa": "GRBG", "black_level": [1, 2, 3, 4], "white_level": 1023}, grey(3)))
    device = own.device()
    answer = wire.decode(wire.encode(device.handle(wire.CaptureRequest(9, ((4, -2),)))))
    assert isinstance(answer, wire.Frame)
    assert wire.raw_frame(answer).hash == answer.raw_hash
    np.testing.assert_array_equal(wire.raw_frame(answer).mosaic, RAW.mosaic)
    assert dict(answer.registers)[4] == -2
    refusal = asked(device)
    assert isinstance(refusal, wire.Error)
    assert refusal.code == "unsupported"


def test_a_camera_may_fill_its_buffer_anew_before_a_photograph_has_gone_out() -> None:
    buffer = RAW.mosaic.copy()
    own = agent()
    own.capture(lambda values: (buffer, RAW.metadata, grey(3)))
    answer = own.device().handle(wire.CaptureRequest(9, ()))
    assert isinstance(answer, wire.Frame)
    buffer[:] = 0
    np.testing.assert_array_equal(wire.raw_frame(answer).mosaic, RAW.mosaic)


@pytest.mark.parametrize(
    ("taken", "told"),
    [
        (grey(1), "returned uint8 [4, 6, 3]; return mosaic, metadata and picture"),
        ((RAW.mosaic, {}, grey(1)), "bad RAW metadata"),
        ((RAW.mosaic, RAW.metadata | {"ISO": 100}, grey(1)), "RAW metadata: unknown key 'ISO'; did you mean 'iso'?"),
        ((RAW.mosaic.astype(float), RAW.metadata, grey(1)), "mosaic must be uint16"),
        ((RAW.mosaic, RAW.metadata, None), "returned NoneType"),
    ],
)
def test_a_photograph_that_is_none_is_a_failed_frame(taken: Any, told: str) -> None:
    own = agent()
    own.capture(lambda values: taken)
    answer = own.device().handle(wire.CaptureRequest(9, ()))
    assert isinstance(answer, wire.Error)
    assert answer.code == "failed"
    assert told in answer.text


# ---- pictures and links ----------------------------------------------------------------------------------------------


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_pixels_come_out_of_the_png_as_they_went_in(pixels: np.ndarray) -> None:
    decoded = cv2.imdecode(np.frombuffer(png.encode(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    np.testing.assert_array_equal(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), pixels)


@pytest.mark.parametrize("url", ["zmq://127.0.0.1:0", "serial:socket://127.0.0.1:0", "serial:pty"])
def test_the_bench_drives_it(serving: Serving, url: str) -> None:
    if url == "serial:pty" and not hasattr(os, "openpty"):
        pytest.skip("this system has no pseudo terminals")

    def process(mosaic: np.ndarray, metadata: dict[str, Any], values: dict[str, Any]) -> np.ndarray:
        if values["radius"] == 4:
            raise ValueError("too wide")
        return grey(100 + 10 * values["radius"])

    with open_device(serving(agent(process), url), 30) as opened:
        assert (opened.info().model, opened.info().firmware) == ("own", "1")
        space = opened.info().space
        for radius in (-1, 2):
            capture = opened.process(RAW, space.parse({"radius": radius}, partial=True))
            assert capture.rgb.pixels[0, 0].tolist() == [100 + 10 * radius] * 3
        with pytest.raises(FrameFailedError, match="the ISP failed: ValueError: too wide"):
            opened.process(RAW, space.parse({"radius": 4}, partial=True))
        assert opened.process(RAW, space.defaults).frame == 4


def test_its_link_is_encrypted_with_keys(serving: Serving, tmp_path: Path) -> None:
    for name in ("device", "bench"):
        new_keys(tmp_path, name)
    url = serving(agent(lambda *_: grey(3)), f"zmq://127.0.0.1:0?keys={tmp_path}")
    with open_device(f"{url}?keys={tmp_path}", 20) as opened:
        assert opened.process(RAW, opened.info().space.defaults).rgb.pixels[0, 0, 0] == 3
    with pytest.raises(DeviceUnreachableError):
        open_device(url, 0.5)


def test_pixels_go_through_a_folder(serving: Serving, tmp_path: Path) -> None:
    url = serving(agent(lambda *_: grey(3)), f"serial:socket://127.0.0.1:0?pixels=folder:{tmp_path}")
    with open_device(f"{url}?pixels=folder:{tmp_path}", 20) as opened:
        assert opened.process(RAW, opened.info().space.defaults).rgb.pixels[0, 0, 0] == 3
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_ones_own_is_served_when_it_is_said() -> None:
    urls: list[str] = []
    stop = threading.Event()
    stop.set()
    for url in ("zmq://0.0.0.0:0?plain=1", "serial:socket://0.0.0.0:0?plain=1"):
        agent(lambda *_: grey(3)).serve(url, ready=urls.append, stop=stop)
    assert [url.rpartition(":")[0] for url in urls] == ["zmq://0.0.0.0", "serial:socket://0.0.0.0"]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo terminals")
def test_it_serves_a_port_of_its_own(serving: Serving) -> None:
    """The other end of the board's port is a terminal too."""
    import tty

    board, cable = os.openpty()
    bench, other = os.openpty()
    for end in (cable, other):
        tty.setraw(end)
    stop = threading.Event()

    def carry() -> None:
        while not stop.is_set():
            for source in select.select([board, bench], [], [], 0.05)[0]:
                os.write(bench if source == board else board, os.read(source, 4096))

    relay = threading.Thread(target=carry)
    relay.start()
    try:
        serving(agent(lambda *_: grey(7)), f"serial://{os.ttyname(cable)}?baud=1000000")
        with open_device(f"serial://{os.ttyname(other)}?baud=1000000", 30) as opened:
            assert opened.process(RAW, opened.info().space.defaults).rgb.pixels[0, 0, 0] == 7
    finally:
        stop.set()
        relay.join(10)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("zmq://0.0.0.0:0", r"0\.0\.0\.0 is not loopback.*\?keys=FOLDER.*\?plain=1"),
        ("serial:socket://0.0.0.0:0", r"0\.0\.0\.0 is not loopback.*\?plain=1"),
        ("zmq://127.0.0.1", "does not listen on 'zmq://127.0.0.1'; give it zmq://HOST:PORT"),
        ("tcp://127.0.0.1:5", "does not listen on"),
        ("zmq://127.0.0.1:0?baud=9600", "unknown option 'baud'"),
        ("serial:", "does not listen on"),
        ("serial:///dev/none-such?baud=115200", "no such port"),
        ("serial:socket://127.0.0.1:0?pixels=zmq://127.0.0.1:5", "an agent has no second channel"),
        ("serial:socket://127.0.0.1:0?pixels=folder:/none-such", "no folder for pixels"),
        ("zmq://127.0.0.1:0?keys=/none-such", "no such key"),
    ],
)
def test_where_it_cannot_listen_is_one_line(url: str, told: str) -> None:
    with pytest.raises(SystemExit) as caught:
        agent(lambda *_: grey(1)).serve(url)
    assert isinstance(caught.value.code, str)
    assert caught.value.code.startswith("error: ")
    assert "\n" not in caught.value.code
    assert re.search(told, caught.value.code)


def test_a_port_that_is_taken_is_one_line(serving: Serving) -> None:
    taken = serving(agent(lambda *_: grey(1)))
    with pytest.raises(SystemExit, match=r"error: cannot listen on 127\.0\.0\.1"):
        agent(lambda *_: grey(1)).serve(taken)


# ---- a board ---------------------------------------------------------------------------------------------------------

BOARD = """
import sys

class Board:
    '''A board has the standard library, the packages that are named, and this repository's drivers.'''

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "drivers", *sys.argv[2].split(",")}:
            raise ImportError(f"a board has no {name}")
        return None

sys.meta_path.insert(0, Board())

import signal
import numpy as np
from drivers.agent import Agent, choice, continuous, integer, switch

parameters = [continuous("gamma", 1, 4, step=1 / 256), integer("n", 1, 3), choice("c", ["a", "b"]), switch("s")]
agent = Agent(model="board", firmware="1", parameters=parameters)

@agent.process
def process(mosaic, metadata, values):
    if values["s"]:
        raise ValueError("switched on")
    if values["n"] == 1:  # Ctrl-C twice, while a frame is being made
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    return np.full((*mosaic.shape, 3), values["n"], np.uint8)

agent.serve(sys.argv[1])
"""


def started(url: str, packages: str, code: str = BOARD) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, url, packages],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize(
    ("url", "packages"),
    [("zmq://127.0.0.1:0", "zmq,msgpack,numpy"), ("serial:socket://127.0.0.1:0", "zmq,msgpack,numpy,cobs")],
)
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_board_needs_next_to_nothing_and_ctrl_c_ends_it(url: str, packages: str) -> None:
    with started(url, packages) as board:
        try:
            assert board.stdout is not None
            words = board.stdout.readline().split()
            assert words[:3] == ["serving", "board", "at"], board.communicate(timeout=10)
            with open_device(words[3], 30) as opened:
                space = opened.info().space
                assert opened.process(RAW, space.parse({"n": 3}, partial=True)).rgb.pixels[0, 0, 0] == 3
                with pytest.raises(FrameFailedError, match="switched on"):
                    opened.process(RAW, space.parse({"s": True}, partial=True))
                assert opened.process(RAW, space.defaults).rgb.pixels[0, 0, 0] == 2
            board.send_signal(signal.SIGINT)
            rest, errors = board.communicate(timeout=20)
        finally:
            board.kill()
    assert (board.returncode, rest) == (0, "")
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("ValueError: switched on")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_second_ctrl_c_does_not_wait_for_the_frame() -> None:
    with started("zmq://127.0.0.1:0", "zmq,msgpack,numpy") as board:
        try:
            assert board.stdout is not None
            url = board.stdout.readline().split()[3]
            with open_device(url, 1) as opened, pytest.raises(DeviceUnreachableError):
                opened.process(RAW, opened.info().space.parse({"n": 1}, partial=True))
            rest, errors = board.communicate(timeout=20)
        finally:
            board.kill()
    assert (board.returncode, rest, errors) == (130, "", "")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_nor_for_one_that_is_made_in_a_thread_of_its_own() -> None:
    begin = BOARD.index("        signal.raise_signal")
    end = BOARD.index("    return np.full")
    code = BOARD[:begin] + "        print('making', flush=True)\n        sys.stdin.read()\n" + BOARD[end:]
    code = code.replace("parameters=parameters", "parameters=parameters, overlap=True")
    with started("zmq://127.0.0.1:0", "zmq,msgpack,numpy", code) as board:
        try:
            assert board.stdout is not None
            url = board.stdout.readline().split()[3]
            with open_device(url, 1) as opened, pytest.raises(DeviceUnreachableError):
                opened.process(RAW, opened.info().space.parse({"n": 1}, partial=True))
            assert board.stdout.readline() == "making\n"
            # Two that come together count as one, and a third may find the program at its end.
            for _ in range(200):
                board.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    board.wait(0.1)
                    break
        finally:
            board.kill()
    assert board.returncode in (130, -signal.SIGINT)
