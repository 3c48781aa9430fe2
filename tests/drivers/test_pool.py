"""Pools of emulated boards, each behind a real ZeroMQ server."""

from __future__ import annotations

import itertools
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from sim20_jobs import PIPELINE, RAWS, SPACE, assert_right, make_jobs

from drivers import pool as pools
from drivers.device import Capture, Failure, FrameFailedError
from drivers.errors import DeviceError, DeviceUnreachableError, ParameterError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.pool import AHEAD, DevicePool, open_devices
from sim.firmware.registers import Firmware
from sim.firmware.zmq_server import serve_firmware

SIDE = 32  # the pool's own check RAW has 64
BAD = RawFrame(np.full((SIDE, SIDE), 77, np.uint16), "RGGB", (64.0,) * 4, 1023)


def take(captures: Iterable[Capture | Failure], got: list[Capture | Failure], until: int | None = None) -> None:
    """Like ``list``, but keeps what came before an error."""
    for capture in captures:
        got.append(capture)
        if len(got) == until:
            return


class Isp:
    """The emulated ISP; ``rule`` may wait, fail or change the output of every frame that is no check."""

    space = SPACE

    def __init__(self, rule: Callable[[RawFrame, bytes], bytes], checks: Callable[[bytes], bytes] = bytes) -> None:
        self.rule, self.checks = rule, checks

    def process(self, raw: RawFrame, parameters: ParameterSet) -> bytes:
        encoded = PIPELINE.process(raw, parameters)
        return self.rule(raw, encoded) if raw.height == SIDE else self.checks(encoded)


def honest(_raw: RawFrame, encoded: bytes) -> bytes:
    return encoded


class Board:
    """A board in a thread of this process, behind a socket."""

    def __init__(self, isp: Isp, serial: str, port: int = 0, version: str = "1", **options: Any) -> None:
        self.firmware = Firmware(isp, model="m", version=version, serial=serial, **options)
        self.stop = threading.Event()
        urls: queue.Queue[str] = queue.Queue()
        self.thread = threading.Thread(
            target=serve_firmware,
            args=(self.firmware, f"127.0.0.1:{port}", urls.put),
            kwargs={"stop": self.stop},
            daemon=True,
        )
        self.thread.start()
        self.url = urls.get(timeout=10)
        self.port = int(self.url.rpartition(":")[2])

    def end(self) -> None:
        self.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def board() -> Iterator[Callable[..., Board]]:
    boards: list[Board] = []
    serials = itertools.count(1)

    def start(rule: Callable[[RawFrame, bytes], bytes] = honest, **options: Any) -> Board:
        checks = options.pop("checks", bytes)
        boards.append(Board(Isp(rule, checks), options.pop("serial", f"s{next(serials)}"), **options))
        return boards[-1]

    yield start
    for b in boards:
        b.end()


class Said:
    """The lines that a pool says; waits for one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._queue: queue.Queue[str] = queue.Queue()

    def __call__(self, line: str) -> None:
        assert "\n" not in line
        self.lines.append(line)
        self._queue.put(line)

    def wait_for(self, text: str) -> str:
        while True:
            line = self._queue.get(timeout=60)
            if text in line:
                return line


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "RETRY_S", 0.1)


def once_each(boards: int) -> Callable[[RawFrame, bytes], bytes]:
    """Every board's first frame waits for the others' first one: all have to take part."""
    barrier = threading.Barrier(boards)
    met = threading.Event()

    def rule(_raw: RawFrame, encoded: bytes) -> bytes:
        if not met.is_set():
            barrier.wait(60)
            met.set()
        return encoded

    return rule


# ---- the way it should go ------------------------------------------------------------------------------------------


def test_captures_come_in_order_from_all_boards(board: Callable[..., Board]) -> None:
    rule = once_each(2)
    one, other = board(rule), board(rule)
    jobs = make_jobs(60)
    with DevicePool([one.url, other.url], 60) as pool:
        captures = list(pool.process_many(jobs))
        info = pool.info()
    assert_right(jobs, captures)
    assert {(c.serial, c.boot_id) for c in captures} == {("s1", one.firmware.boot_id), ("s2", other.firmware.boot_id)}
    assert (info.serial, info.max_in_flight) == ("s1, s2", 16)
    assert info.identity == f"m/1/{SPACE.hash[:12]}"
    assert one.firmware.frame + other.firmware.frame == 60 + 4  # and two to check each board


def test_few_jobs_are_shared_out(board: Callable[..., Board]) -> None:
    rule = once_each(2)
    with DevicePool([board(rule).url, board(rule).url], 60) as pool:
        assert {c.serial for c in pool.process_many(make_jobs(2))} == {"s1", "s2"}


def test_jobs_are_drawn_a_bounded_number_ahead_and_a_closed_stream_leaves_the_pool_usable(
    board: Callable[..., Board],
) -> None:
    drawn = 0

    def source() -> Iterator[tuple[RawFrame, ParameterSet]]:
        nonlocal drawn
        assert threading.current_thread() is threading.main_thread()
        for job in itertools.cycle(make_jobs(4)):
            drawn += 1
            yield job

    with DevicePool([board().url, board().url], 60) as pool:
        stream = pool.process_many(source())
        five = list(itertools.islice(stream, 5))
        stream.close()  # type: ignore[attr-defined]
        assert_right(make_jobs(4) + make_jobs(1), five)
        assert 5 <= drawn <= 5 + 2 * AHEAD
        assert list(pool.process_many([])) == []
        (job,) = make_jobs(1)
        assert_right([job], [pool.process(*job)])


def test_raws_ahead_are_bounded_in_bytes(board: Callable[..., Board], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "BYTES_AHEAD", 3 * RAWS[0].mosaic.nbytes)
    may = threading.Event()

    def rule(_raw: RawFrame, encoded: bytes) -> bytes:
        assert may.wait(60)
        return encoded

    drawn: queue.Queue[int] = queue.Queue()
    jobs = make_jobs(30)

    def source() -> Iterator[tuple[RawFrame, ParameterSet]]:
        for n, job in enumerate(jobs):
            drawn.put(n)
            yield job

    with DevicePool([board(rule).url, board(rule).url], 60) as pool:
        captures: list[Capture | Failure] = []
        consumer = threading.Thread(target=lambda: captures.extend(pool.process_many(source())))
        consumer.start()
        assert [drawn.get(timeout=60) for _ in range(6)] == list(range(6))
        assert drawn.empty()  # nothing was done yet, and six fill the room of two boards
        may.set()
        consumer.join(60)
    assert_right(jobs, captures)


def test_one_url_is_no_pool(board: Callable[..., Board]) -> None:
    one = board()
    with open_devices([one.url], 60) as device:
        assert not isinstance(device, DevicePool)
        assert device.url == one.url
    with open_devices([one.url, board().url], 60) as device:
        assert isinstance(device, DevicePool)


def test_a_closed_pool_says_so(board: Callable[..., Board]) -> None:
    pool = DevicePool([board().url], 60)
    pool.close()
    pool.close()
    with pytest.raises(DeviceError, match="closed"):
        pool.process(*make_jobs(1)[0])


# ---- boards that fail ----------------------------------------------------------------------------------------------


class Process:
    """The emulated device as a process of its own."""

    def __init__(self, port: int = 0) -> None:
        code = f"from sim.firmware.zmq_server import serve; serve('sim20', '127.0.0.1:{port}', frame_ms=10)"
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[3]
        self.port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_a_killed_board_costs_no_frame_and_takes_work_again(quick: None) -> None:
    said = Said()
    steady, victim = Process(), Process()
    again = None
    try:
        with DevicePool([steady.url, victim.url], 2, say=said) as pool:
            jobs = make_jobs(120)
            captures: list[Capture | Failure] = []
            stream = pool.process_many(jobs)
            take(stream, captures, until=20)
            victim.kill()
            take(stream, captures)
            assert_right(jobs, captures)
            assert len({c.boot_id for c in captures}) == 2
            line = said.wait_for("quarantined")
            assert line.startswith(f"device {victim.url} is quarantined: no answer in ")
            assert "unfinished frames go to the other devices" in line
            again = Process(victim.port)
            assert said.wait_for("is back").startswith(f"device {victim.url} is back (boot ")
            for _ in range(50):
                boots = {c.boot_id for c in pool.process_many(make_jobs(16))}
                if len(boots) == 2:
                    break
            assert len(boots) == 2
    finally:
        for process in (steady, victim, again):
            if process is not None:
                process.kill()


def test_all_boards_gone_is_one_error(board: Callable[..., Board], quick: None) -> None:
    boards = [board(), board()]
    said = Said()
    got: list[Capture | Failure] = []
    with DevicePool([b.url for b in boards], 1, say=said) as pool:
        stream = pool.process_many(itertools.cycle(make_jobs(4)))
        take(stream, got, until=5)
        for b in boards:
            b.end()
        with pytest.raises(DeviceUnreachableError) as caught:
            take(stream, got)
    assert len(got) >= 5
    text = str(caught.value)
    assert "\n" not in text
    assert all(b.url in text for b in boards)
    assert sum("quarantined" in line for line in said.lines) >= 2


def test_a_board_that_is_missing_from_the_start_is_quarantined(board: Callable[..., Board]) -> None:
    said = Said()
    jobs = make_jobs(10)
    with DevicePool([board().url, "zmq://127.0.0.1:9"], 0.5, say=said) as pool:
        assert_right(jobs, list(pool.process_many(jobs)))
    assert said.lines[0].startswith("device zmq://127.0.0.1:9 is quarantined: no answer in 0.5 s")


def test_no_board_answers() -> None:
    with pytest.raises(DeviceUnreachableError, match=r"none of the 2 devices answers: .*:9: no answer.*:11: no answer"):
        DevicePool(["zmq://127.0.0.1:9", "zmq://127.0.0.1:11"], 0.3, say=Said())


def test_a_malformed_url_is_no_quarantine(board: Callable[..., Board]) -> None:
    with pytest.raises(DeviceError, match="no driver"):
        DevicePool([board().url, "nothing:"], 30)


def broken(_raw: RawFrame, _encoded: bytes) -> bytes:
    raise ValueError("overheated")


def test_a_board_that_fails_every_frame_is_quarantined(board: Callable[..., Board]) -> None:
    rule = once_each(2)
    said = Said()
    jobs = make_jobs(40)

    def fails(raw: RawFrame, encoded: bytes) -> bytes:
        return broken(raw, rule(raw, encoded))

    with DevicePool([board(rule).url, board(fails).url], 60, say=said) as pool:
        captures = list(pool.process_many(jobs))
        assert_right(jobs, captures)
        assert {c.serial for c in captures} == {"s1"}
        assert "overheated" in said.wait_for("failed a frame")
        assert "frames that another device made" in said.wait_for("is quarantined: refused")


def test_one_board_in_use_gives_its_refusals_at_once(board: Callable[..., Board]) -> None:
    with DevicePool([board(bad_raw_fails).url, "zmq://127.0.0.1:9"], 0.5, say=Said()) as pool:
        good = make_jobs(3)
        results = list(pool.process_many([good[0], (BAD, SPACE.defaults), *good[1:]]))
        assert isinstance(results.pop(1), Failure)
        assert_right(good, results)


def test_what_was_mended_is_counted_by_board(board: Callable[..., Board]) -> None:
    slow, other = board(), board()
    with DevicePool([slow.url, other.url, "zmq://127.0.0.1:9"], 60, say=Said()) as pool:
        pool._boards[0].device.counts["resent"] += 2  # type: ignore[union-attr]
        pool._boards[1].past["reboots"] += 1
        assert pool.counts == {"resent": 2, "reboots": 1}
        assert pool.counts_by_unit() == {"s1": {"resent": 2}, "s2": {"reboots": 1}, "zmq://127.0.0.1:9": {}}


def bad_raw_fails(raw: RawFrame, encoded: bytes) -> bytes:
    if raw.hash == BAD.hash:
        raise ValueError("cannot take this one")
    return encoded


def test_a_frame_that_two_boards_refuse_is_a_failure_and_leaves_them_in_use(board: Callable[..., Board]) -> None:
    said = Said()
    with DevicePool([board(bad_raw_fails).url, board(bad_raw_fails).url], 60, say=said) as pool:
        jobs = make_jobs(20)
        results = list(pool.process_many([*jobs, (BAD, SPACE.defaults), *jobs]))
        failure = results.pop(len(jobs))
        assert isinstance(failure, Failure)
        assert (failure.code, failure.raw_hash) == ("failed", BAD.hash)
        assert "cannot take this one" in failure.reason
        assert failure.serial in ("s1", "s2")
        assert_right([*jobs, *jobs], results)
        with pytest.raises(FrameFailedError, match="cannot take this one"):
            pool.process(BAD, SPACE.defaults)
    assert not any("quarantined" in line for line in said.lines)


def test_a_wrong_parameter_set_is_no_fault_of_the_boards(board: Callable[..., Board]) -> None:
    other = ParameterSpace.from_dict(
        {"name": "o", "parameters": [{"name": "x", "block": "b", "kind": "bool", "default": True}]}
    )
    said = Said()
    with DevicePool([board().url, board().url], 60, say=said) as pool:
        jobs = make_jobs(5)
        captures: list[Capture | Failure] = []
        with pytest.raises(ParameterError, match="the device has sim20"):
            take(pool.process_many([*jobs, (RAWS[0], other.defaults), *jobs]), captures)
        assert_right(jobs, captures)
        assert_right(jobs, list(pool.process_many(jobs)))
    assert said.lines == []


def test_an_error_of_the_source_is_the_callers(board: Callable[..., Board]) -> None:
    def source() -> Iterator[tuple[RawFrame, ParameterSet]]:
        yield from make_jobs(3)
        raise KeyboardInterrupt

    with DevicePool([board().url, board().url], 60) as pool:
        with pytest.raises(KeyboardInterrupt):
            list(pool.process_many(source()))
        assert len(list(pool.process_many(make_jobs(3)))) == 3


# ---- boards that differ --------------------------------------------------------------------------------------------


def brighter(encoded: bytes) -> bytes:
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".png", np.minimum(np.asarray(image), 250) + np.uint8(5))[1].tobytes()


def test_boards_with_other_outputs_are_refused(board: Callable[..., Board]) -> None:
    one, other = board(), board(checks=brighter)
    with pytest.raises(DeviceError, match="different outputs of the same RAW with the default parameters") as caught:
        DevicePool([one.url, other.url], 60)
    assert one.url in str(caught.value)
    assert other.url in str(caught.value)
    with pytest.raises(DeviceError, match="5 levels of 255 apart, 4 are allowed"):
        DevicePool([one.url, other.url], 60, tolerance=4)
    with DevicePool([one.url, other.url], 60, tolerance=5) as pool:
        assert len(list(pool.process_many(make_jobs(4)))) == 4


def test_boards_of_other_firmware_are_refused(board: Callable[..., Board]) -> None:
    one, other = board(), board(version="2")
    with pytest.raises(DeviceError, match="the same model, firmware and parameters") as caught:
        DevicePool([one.url, other.url], 60)
    for text in (one.url, other.url, "m/1/", "m/2/"):
        assert text in str(caught.value)


def test_a_live_board_is_no_part_of_a_pool(board: Callable[..., Board]) -> None:
    one, live = board(), board(camera=lambda: RAWS[0])
    with pytest.raises(DeviceError, match="a live device cannot be checked against others") as caught:
        DevicePool([one.url, live.url], 60)
    assert live.url in str(caught.value)


def test_a_board_that_comes_back_different_stays_out(board: Callable[..., Board], quick: None) -> None:
    said = Said()
    one, other = board(), board()
    with DevicePool([one.url, other.url], 1, say=said) as pool:
        other.end()
        jobs = make_jobs(30)
        assert_right(jobs, list(pool.process_many(jobs)))
        said.wait_for("quarantined: no answer")
        board(checks=brighter, port=other.port)
        said.wait_for("different outputs")
        captures = list(pool.process_many(jobs))
        assert_right(jobs, captures)
        assert {c.serial for c in captures} == {"s1"}


# ---- Ctrl-C --------------------------------------------------------------------------------------------------------

STOPPED = """
import sys
from drivers.pool import DevicePool
import test_pool

with DevicePool(sys.argv[1:], 3600) as pool:
    for capture in pool.process_many(test_pool.make_jobs(30)):
        print(capture.frame, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_does_not_wait_for_hung_boards(board: Callable[..., Board]) -> None:
    may = threading.Event()
    taken = threading.Semaphore(0)

    def hangs(_raw: RawFrame, encoded: bytes) -> bytes:
        taken.release()
        assert may.wait(120)
        return encoded

    boards = [board(hangs), board(hangs)]
    code = f"import sys; sys.path[:0] = {sys.path!r}\n" + STOPPED
    with subprocess.Popen(
        [sys.executable, "-c", code, *(b.url for b in boards)], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            for _ in boards:
                assert taken.acquire(timeout=60)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)  # each board has an hour to answer
        finally:
            may.set()
            process.kill()
    assert "KeyboardInterrupt" in err
    assert "Fatal" not in err
