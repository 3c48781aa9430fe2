from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zmq
from servers import in_thread
from typer.testing import CliRunner

from drivers.errors import DeviceError, DeviceUnreachableError
from drivers.frames import RawFrame
from drivers.protocol import wire
from drivers.protocol.protocol_device import ProtocolDevice
from drivers.raw.raw_files import save_npz
from drivers.registry import open_device
from sim.firmware.faults import NAMES, SECONDS, Fault, Faults
from sim.firmware.registers import Firmware
from sim.firmware.zmq_server import serve_firmware
from sim.isp.pipeline import Pipeline
from workbench.check import conformance
from workbench.commands import device

RUN = CliRunner()
PIPELINE = Pipeline("sim20")
SPACE = PIPELINE.space
IN_WINDOW = frozenset([25])
FIFTH = frozenset([5])
Serving = Callable[..., str]

RAW = "FRAME names the RAW that was processed"
CODES = "FRAME names the codes in force"
BOOT = "FRAME names the boot"
IN_FLIGHT = "Requests in flight are answered once each, in order"
REPEAT = "A repeated request is answered again"
SAME = "The same RAW and codes give the same output"
LIES = "FRAME's picture lies on the RAW as INFO says"
FOLLOWS_CODES = "FRAME's picture follows the codes"
FOLLOWS_RAW = "FRAME's picture follows the RAW"
HELD = "A RAW that is held gives the same picture without its pixels"
NOT_HELD = "A request without pixels of a RAW that is not held is refused"
BURST = "A burst's last picture depends on that burst alone"
TORN = "A frame that does not follow the last one in its burst is refused"
TIME = "FRAME's device_ns is within the time that the answer took"
RESTART = "The device stays the same and does not restart"
STRAYS = "Nothing comes that was not asked for"
EVERY_FRAME = {
    "Both banks hold the defaults after a start",
    "What was written is in force from the next frame on",
    "Registers that a request does not name keep their codes",
    BOOT,
    RAW,
    CODES,
    "FRAME's parameter hash is that of the codes in force",
    "FRAME's output hash is that of its payload",
    "FRAME's payload is a whole picture of the RAW's size",
    TIME,
    "The frame counter goes up by one",
    SAME,
    IN_FLIGHT,
    "HELLO and READ are answered while frames wait",
    REPEAT,
    LIES,
    FOLLOWS_CODES,
    FOLLOWS_RAW,
    HELD,
    BURST,
    TORN,
    "FRAME tells the statistics that INFO announces",
    "No client gets another's answers",
}
# The fifth frame is the first that is asked for as a proof, the 25th one of those in flight together.
MUST_FAIL = {
    "previous": (Fault(1.0), {RAW, CODES, SAME, REPEAT, BURST}),
    "wrong_hash": (Fault(1.0), {"FRAME's parameter hash is that of the codes in force"}),
    "corrupt": (Fault(1.0), {"FRAME's output hash is that of its payload"}),
    "truncate": (Fault(1.0), {"Both banks hold the defaults after a start"}),
    "drop": (Fault(at=FIFTH), {BOOT}),
    "delay": (Fault(at=IN_WINDOW, seconds=0.3), {IN_FLIGHT}),
    "duplicate": (Fault(1.0), {IN_FLIGHT, STRAYS}),
    "reorder": (Fault(at=IN_WINDOW, seconds=0.3), {IN_FLIGHT}),
    "reboot": (Fault(at=FIFTH), {BOOT, RESTART}),
    "hang": (Fault(at=FIFTH, seconds=60), {BOOT}),
    "disappear": (Fault(at=FIFTH, seconds=0.1), {BOOT}),
}
SILENT = {"drop", "reboot", "hang"}
"""Faults after which an answer is waited for in vain."""


@pytest.fixture
def serving() -> Iterator[Serving]:
    with ExitStack() as servers:
        yield lambda firmware, **options: servers.enter_context(
            in_thread(serve_firmware, firmware, "127.0.0.1:0", **options)
        )


def results(url: str, deadline_s: float = 30.0) -> dict[str, conformance.Result]:
    with open_device(url, deadline_s) as opened:
        assert isinstance(opened, ProtocolDevice)
        peer = conformance.Peer(opened.open_link, deadline_s)
        try:
            return {result.title: result for result in conformance.check(peer)}
        finally:
            peer.close()


def titles(found: dict[str, conformance.Result], outcome: str) -> set[str]:
    return {title for title, result in found.items() if result.outcome == outcome}


def test_the_emulator_passes_all(serving: Serving) -> None:
    url = serving(Firmware(PIPELINE))
    told = RUN.invoke(device.app, ["check", url, "--deadline", "30"], catch_exceptions=False)
    *lines, summary = told.stdout.splitlines()
    assert summary == f"{len(lines)} passed, 0 failed, 0 skipped"
    assert [line.split(maxsplit=1)[0] for line in lines] == ["pass"] * len(conformance.requirements())
    assert told.exit_code == 0


def test_requirements_have_titles_of_their_own_and_sections_that_exist() -> None:
    listed = conformance.requirements()
    assert len({r.title for r in listed}) == len(listed)
    assert {int(n) for r in listed for n in r.section.split(", ")} <= set(range(1, 15))


def in_use(serving: Serving, **options: Any) -> tuple[str, tuple[dict[str, int], dict[str, int]]]:
    """A device whose banks hold neither the defaults nor the same, and what they hold."""
    url = serving(Firmware(PIPELINE), **options)
    with open_device(url) as opened:
        assert isinstance(opened, ProtocolDevice)
        latched, waiting = SPACE.from_unit(np.full(len(SPACE), 0.35)), SPACE.from_unit(np.full(len(SPACE), 0.85))
        opened.process(RawFrame(np.full((32, 32), 300, np.uint16), "RGGB", (64.0,) * 4, 1023), latched)
        opened.write_registers(waiting.by_name)
        before = opened.read_registers("active"), opened.read_registers("shadow")
    return url, before


def banks(url: str) -> tuple[dict[str, int], dict[str, int]]:
    with open_device(url) as opened:
        assert isinstance(opened, ProtocolDevice)
        return opened.read_registers("active"), opened.read_registers("shadow")


def test_the_registers_are_put_back(serving: Serving) -> None:
    url, before = in_use(serving)
    assert not titles(results(url), "fail")
    assert banks(url) == before
    assert before[0] != before[1]


@pytest.mark.parametrize("last", [3, 9, 20])
def test_the_registers_are_put_back_after_an_interruption(serving: Serving, last: int) -> None:
    url, before = in_use(serving)
    with open_device(url) as opened:
        assert isinstance(opened, ProtocolDevice)
        peer = conformance.Peer(opened.open_link, 30.0)
        with closing(conformance.check(peer)) as checking:
            assert len(list(itertools.islice(checking, last))) == last
        assert peer.restored
        peer.close()
    assert banks(url) == before


def test_the_registers_are_put_back_after_failures(serving: Serving) -> None:
    url, before = in_use(serving, faults=Faults({"corrupt": Fault(at=frozenset(range(2, 40)))}))
    assert titles(results(url), "fail")
    assert banks(url) == before


class Hot(Firmware):
    """Gives no frame at all."""

    def _process(self, message: wire.Process) -> wire.Frame:
        raise ValueError("too hot")


def test_one_cause_is_told_once(serving: Serving) -> None:
    url = serving(Hot(PIPELINE))
    found = results(url)
    (first,) = (title for title, result in found.items() if result.outcome == "fail" and "too hot" in result.reason)
    assert first == "Both banks hold the defaults after a start"
    alike = {title for title, result in found.items() if result.reason.startswith(f"the same as with {first!r}")}
    assert alike >= EVERY_FRAME - {first, "HELLO and READ are answered while frames wait"}
    told = RUN.invoke(device.app, ["check", url, "--deadline", "30"]).stdout.splitlines()
    assert sum("too hot" in line for line in told) < len(alike) / 2


class Smaller(Firmware):
    """Gives a picture of half the RAW's size."""

    def _process(self, message: wire.Process) -> wire.Frame:
        answer = super()._process(message)
        image = cv2.imdecode(np.frombuffer(answer.payload, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        payload = cv2.imencode(".png", image[::2, ::2])[1].tobytes()
        digest = hashlib.sha256(payload).hexdigest()
        return dataclasses.replace(answer, payload=payload, output_hash=digest, media_type="image/png")


def test_an_output_of_another_size_is_found_out(serving: Serving) -> None:
    found = results(serving(Smaller(PIPELINE)))
    assert titles(found, "fail") == {"FRAME's payload is a whole picture of the RAW's size", LIES}


class Deaf(Firmware):
    """Names the codes in force, and gives the first picture of each RAW for ever."""

    def _process(self, message: wire.Process) -> wire.Frame:
        told = super()._process(message)
        first: dict[str, bytes] = self.__dict__.setdefault("first", {})
        payload = first.setdefault(self._key(message), bytes(told.payload))
        return dataclasses.replace(told, payload=payload, output_hash=hashlib.sha256(payload).hexdigest())

    def _key(self, message: wire.Process) -> str:
        return message.raw_hash


class Frozen(Deaf):
    """Gives the first picture for ever."""

    def _key(self, message: wire.Process) -> str:
        return "any"


@pytest.mark.parametrize(("firmware", "failing"), [(Deaf, {FOLLOWS_CODES}), (Frozen, {FOLLOWS_CODES, FOLLOWS_RAW})])
def test_a_picture_that_follows_nothing_is_found_out(
    firmware: type[Firmware], failing: set[str], serving: Serving
) -> None:
    assert titles(results(serving(firmware(PIPELINE))), "fail") - {LIES} == failing


class LastRaw(Firmware):
    """Takes a request without pixels for one of the RAW before it, whichever that was."""

    def _taken(self, message: wire.Process) -> tuple[RawFrame, dict[str, int]]:
        if not message.payload:
            return self.__dict__["last"], self._boundary(message, self._banks.checked(message.registers))
        raw, latched = super()._taken(message)
        self.__dict__["last"] = raw
        return raw, latched


class LetsGo(Firmware):
    """Lets go of a RAW once it has made its frame."""

    def _process(self, message: wire.Process) -> wire.Frame:
        frame = super()._process(message)
        self._held.clear()
        return frame


def test_a_device_that_holds_another_raw_than_it_was_asked_for_is_found_out(serving: Serving) -> None:
    found = results(serving(LastRaw(PIPELINE)))
    assert titles(found, "fail") == {HELD, NOT_HELD}
    assert found[HELD].reason == "test chart, negative: another picture than with the RAW's pixels"


def test_a_device_may_let_go_of_a_raw_at_any_time_and_need_hold_none(serving: Serving) -> None:
    found = results(serving(LetsGo(PIPELINE)))
    assert found[HELD].reason == "the device had let go of the RAW, as it may"
    assert titles(found, "skipped") == {HELD}
    assert titles(found, "fail") == set()
    assert titles(results(serving(Firmware(PIPELINE, holds=0))), "skipped") == {HELD, NOT_HELD}


def test_every_fault_has_its_titles() -> None:
    assert set(MUST_FAIL) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_fault_makes_the_right_requirements_fail(name: str, serving: Serving) -> None:
    fault, expected = MUST_FAIL[name]
    fault = dataclasses.replace(fault, seconds=fault.seconds or SECONDS.get(name, 0.0))
    url = serving(Firmware(PIPELINE), faults=Faults({name: fault}))
    found = results(url, 8.0 if name in SILENT else 30.0)
    # A frame of before may have taken longer than the answer that brings it.
    unsure = {TIME, LIES} if name == "previous" else set()
    assert titles(found, "fail") - unsure == expected
    if name == "hang":
        later = list(found)[list(found).index(BOOT) + 1 :]
        assert titles(found, "skipped") == set(later)
        assert "HELLO" in found[later[0]].reason
    else:
        # One whose pictures differ from one time to the next shows nothing of what it holds.
        alike = titles(found, "skipped") - unsure - ({HELD} if name in ("previous", "corrupt") else set())
        odd = {t: found[t].reason for t in alike if not found[t].reason.startswith("the same as with")}
        assert not odd
        assert alike == (EVERY_FRAME - expected if name == "truncate" else set())


class OneBank(Firmware):
    """Has one bank only: what is written is in force at once."""

    def handle(self, message: wire.Message) -> wire.Message:
        answer = super().handle(message)
        if isinstance(message, wire.Write):
            self._banks.latch()
        return answer


class Forgetful(Firmware):
    """Takes codes that it has checked only one by one: a refused list changes some."""

    def handle(self, message: wire.Message) -> wire.Message:
        if isinstance(message, wire.Write):
            for address, code in message.registers:
                answer = super().handle(wire.Write(message.id, ((address, code),)))
                if isinstance(answer, wire.Error):
                    return answer
        return super().handle(message)


class Believer(Firmware):
    """Does not look at the RAW's hash."""

    def _process(self, message: wire.Process) -> wire.Frame:
        digest = hashlib.sha256(bytes(message.metadata) + bytes(message.payload)).hexdigest()
        return super()._process(dataclasses.replace(message, raw_hash=digest))


@pytest.mark.parametrize(
    ("firmware", "failing"),
    [
        (OneBank, {"WRITE changes the shadow bank and not the active one"}),
        (
            Forgetful,
            {"WRITE with a code out of range changes nothing", "WRITE with an unknown address changes nothing"},
        ),
        (Believer, {"A damaged RAW is refused"}),
    ],
)
def test_a_wrong_firmware_is_found_out(firmware: type[Firmware], failing: set[str], serving: Serving) -> None:
    assert failing <= titles(results(serving(firmware(PIPELINE))), "fail")


def test_a_filter_over_time_is_found_out(serving: Serving) -> None:
    found = results(serving(Firmware(PIPELINE, temporal_filter=0.5)))
    assert titles(found, "fail") == {SAME, REPEAT, BURST}


def test_a_device_without_echo_passes_what_can_be_tried(serving: Serving) -> None:
    found = results(serving(Firmware(PIPELINE, echo=False, temporal_filter=0.5)))
    assert not titles(found, "fail")
    assert titles(found, "skipped") == {
        *(CODES, SAME, HELD, BURST),
        "FRAME's parameter hash is that of the codes in force",
    }


def test_a_live_device_passes_what_can_be_tried(serving: Serving) -> None:
    photograph = RawFrame(np.full((32, 48), 300, np.uint16), "GRBG", (64.0,) * 4, 1023)
    found = results(serving(Firmware(PIPELINE, camera=lambda: photograph)))
    assert not titles(found, "fail")
    assert "A damaged RAW is refused" in titles(found, "skipped")
    assert RAW in titles(found, "pass")


def test_frames_before_the_check_leave_the_defaults_untried(serving: Serving) -> None:
    url = serving(Firmware(PIPELINE))
    assert not titles(results(url), "skipped")
    assert titles(results(url), "skipped") == {"Both banks hold the defaults after a start"}


def test_a_raw_of_ones_own(serving: Serving, tmp_path: Path) -> None:
    raw = RawFrame(np.random.default_rng(1).integers(0, 4096, (24, 40), dtype=np.uint16), "BGGR", (256.0,) * 4, 4095)
    save_npz(tmp_path / "own.npz", raw)
    seen = []

    class Seeing(Firmware):
        def _process(self, message: wire.Process) -> wire.Frame:
            seen.append(message.raw_hash)
            return super()._process(message)

    options = ["--raw", str(tmp_path / "own.npz"), "--deadline", "30"]
    told = RUN.invoke(device.app, ["check", serving(Seeing(PIPELINE)), *options], catch_exceptions=False)
    assert told.exit_code == 0, told.stdout
    assert raw.hash in seen


def test_failures_are_told(serving: Serving) -> None:
    url = serving(Firmware(PIPELINE), faults=Faults({"wrong_hash": Fault(1.0)}))
    told = RUN.invoke(device.app, ["check", url, "--deadline", "30", "--json"])
    assert isinstance(told.exception, DeviceError)
    assert f"1 of {len(conformance.requirements())} requirements" in str(told.exception)
    report = json.loads(told.stdout)
    (failed,) = (r for r in report["requirements"] if r["outcome"] == "fail")
    assert failed["section"] == "4, 6"
    assert "parameters_hash" in failed["reason"]
    assert report["fail"] == 1
    assert report["pass"] == len(report["requirements"]) - 1


def test_nobody_there() -> None:
    told = RUN.invoke(device.app, ["check", "zmq://127.0.0.1:9", "--deadline", "0.3"])
    assert isinstance(told.exception, DeviceUnreachableError)
    assert told.stdout == ""


def test_a_device_that_speaks_no_protocol() -> None:
    told = RUN.invoke(device.app, ["check", "sim:sim20"])
    assert isinstance(told.exception, DeviceError)
    assert "no link of the protocol" in str(told.exception)


@pytest.fixture
def babbler() -> Iterator[str]:
    """Answers every message with bytes that are none."""
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    stop = threading.Event()

    def babble() -> None:
        while not stop.is_set():
            if socket.poll(50):
                socket.send_multipart([socket.recv_multipart()[0], b"\xc1 what?"])

    thread = threading.Thread(target=babble)
    thread.start()
    yield f"zmq://127.0.0.1:{port}"
    stop.set()
    thread.join(10)
    context.destroy(linger=0)


def test_a_peer_that_answers_rubbish(babbler: str) -> None:
    told = RUN.invoke(device.app, ["check", babbler, "--deadline", "1"])
    assert isinstance(told.exception, DeviceError)
    lines = told.stdout.splitlines()
    assert lines[0].startswith("fail     4, 5    HELLO is answered with a complete INFO: ")
    assert {line.split()[0] for line in lines[1:-1]} == {"skipped"}
    assert lines[-1] == f"0 passed, 1 failed, {len(conformance.requirements()) - 1} skipped"
