from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sim20_jobs import PIPELINE, RAWS, SPACE, assert_right, captures_of, make_jobs, make_raw
from zmq_peer import Parts, StartPeer, honest, started_peers

from drivers.device import Capture, Failure, FrameFailedError
from drivers.errors import DeviceError, DeviceUnreachableError, ParameterError, ProtocolError
from drivers.protocol import wire
from drivers.protocol.protocol_client import MAX_REBOOTS
from drivers.protocol.zmq_device import ZmqDevice, open_device
from drivers.registry import open_device as open_url
from sim.firmware.registers import Firmware
from sim.isp.pipeline import Pipeline


@pytest.fixture
def peer() -> Iterator[StartPeer]:
    with started_peers() as start:
        yield start


def tampered(change: Callable[[wire.Frame], list[Parts]], times: float = 1) -> Callable[[wire.Message], list[Parts]]:
    """Honest, except for the first frames, which go through ``change``."""
    device = Firmware(PIPELINE)
    count = itertools.count()

    def rule(message: wire.Message) -> list[Parts]:
        answer = device.handle(message)
        if isinstance(answer, wire.Frame) and next(count) < times:
            return change(answer)
        return [wire.encode(answer)]

    return rule


class Server:
    """The emulated device as a process of its own."""

    def __init__(self, port: int = 0) -> None:
        code = f"from sim.firmware.zmq_server import serve; serve('sim20', '127.0.0.1:{port}')"
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.url = self.line.split()[3]
        self.port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(port: int = 0) -> Server:
        servers.append(Server(port))
        return servers[-1]

    yield start
    for s in servers:
        s.kill()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


# ---- the way it should go ------------------------------------------------------------------------------------------


def test_a_device_says_who_it_is(peer: StartPeer) -> None:
    firmware = Firmware(PIPELINE, model="m", version="2", serial="s7", boot_id="b")
    with open_url(peer(honest(firmware)).url, 10) as device:
        info = device.info()
    assert (info.model, info.firmware, info.serial, info.boot_id) == ("m", "2", "s7", "b")
    assert info.space.hash == SPACE.hash
    assert info.max_in_flight == 8


def test_many_frames_come_in_order_and_several_are_in_flight(
    peer: StartPeer,
) -> None:
    jobs = make_jobs(20)
    held: list[Parts] = []
    device = Firmware(PIPELINE, max_in_flight=4)

    def rule(message: wire.Message) -> list[Parts]:
        answer = wire.encode(device.handle(message))
        if not isinstance(message, wire.Process):
            return [answer]
        held.append(answer)
        if len(held) < 4:  # a client with fewer than four in flight would wait for ever
            return []
        out = held[::-1]
        held.clear()
        return out

    with open_device(peer(rule).url, 20) as d:
        captures = captures_of(d.process_many(iter(jobs)))
        assert d.counts == {}
    assert_right(jobs, captures)
    assert sorted(c.frame for c in captures) == list(range(1, 21))


def test_jobs_are_drawn_as_the_device_takes_them(peer: StartPeer) -> None:
    drawn = itertools.count()
    with open_device(peer(honest()).url, 20) as device:
        captures = device.process_many((next(drawn), job)[1] for job in itertools.cycle(make_jobs(4)))
        next(captures)
        assert next(drawn) <= device.info().max_in_flight
        captures.close()  # type: ignore[attr-defined]


def test_one_frame(peer: StartPeer) -> None:
    (job,) = make_jobs(1)
    with open_device(peer(honest()).url, 10) as device:
        capture = device.process(*job)
    assert_right([job], [capture])
    assert 0 < capture.device_s <= capture.total_s


def test_no_jobs_no_captures(peer: StartPeer) -> None:
    with open_device(peer(honest()).url, 10) as device:
        assert list(device.process_many([])) == []


def test_a_closed_generator_leaves_the_device_usable(
    peer: StartPeer,
) -> None:
    jobs = make_jobs(12)
    with open_device(peer(honest()).url, 10) as device:
        captures = device.process_many(jobs)
        first = next(captures)
        captures.close()  # type: ignore[attr-defined]
        again = list(device.process_many(jobs[:3]))
        assert device.counts["stale"] == 7
    assert_right(jobs[:1], [first])
    assert_right(jobs[:3], again)


def test_registers_are_written_to_the_shadow_bank_and_read_back(
    peer: StartPeer,
) -> None:
    name = SPACE.names[0]
    default = SPACE.defaults.codes[0]
    other = SPACE[name].low_code if default != SPACE[name].low_code else SPACE[name].high_code
    with open_device(peer(honest()).url, 10) as device:
        assert device.write_registers({name: other}) == {name: other}
        assert device.read_registers("shadow")[name] == other
        assert device.read_registers()[name] == default
        with pytest.raises(ParameterError, match="unknown parameter"):
            device.write_registers({"nonsense": 1})
        with pytest.raises(ParameterError, match=name):
            device.write_registers({name: SPACE[name].high_code + 1})


# ---- the ways it goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "zmq:",
        "zmq://",
        "zmq://host",
        "zmq://:5",
        "zmq://h:0",
        "zmq://h:99999",
        "zmq://h:1/x",
        "zmq://[::1",
        "tcp://h:1",
    ],
)
def test_malformed_urls_are_refused(url: str) -> None:
    with pytest.raises(DeviceError, match=r"zmq://HOST:PORT"):
        open_device(url, 1)


def test_nobody_there() -> None:
    port = free_port()
    with pytest.raises(DeviceUnreachableError) as refused:
        open_device(f"zmq://127.0.0.1:{port}", 0.3)
    text = str(refused.value)
    assert f"zmq://127.0.0.1:{port}: no answer in 0.3 s" in text
    assert f"workbench sim serve --zmq 127.0.0.1:{port}" in text


def test_something_else_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(DeviceUnreachableError):
        open_device(f"zmq://127.0.0.1:{listener.getsockname()[1]}", 0.3)


def test_something_else_there_that_speaks_zeromq(peer: StartPeer) -> None:
    with pytest.raises(ProtocolError, match="does not speak the protocol"):
        open_device(peer(lambda m: [[b"what?"]]).url, 0.3)


def test_a_line_with_echo_is_told(peer: StartPeer) -> None:
    with pytest.raises(ProtocolError, match=r"answered with Hello, .* switch the line's echo off"):
        open_device(peer(lambda m: [wire.encode(m)]).url, 1)


def test_another_protocol_version(peer: StartPeer) -> None:
    with pytest.raises(DeviceError, match="version"):
        open_device(peer(lambda m: [wire.encode(wire.Error(m.id, "version", "this side speaks 9"))]).url, 1)


def other_parameters(frame: wire.Frame) -> wire.Frame:
    return replace(frame, parameters_hash="00" * 32)


def other_raw(frame: wire.Frame) -> wire.Frame:
    return replace(frame, raw_hash="00" * 32)


def other_codes(frame: wire.Frame) -> wire.Frame:
    (address, code), *rest = frame.registers
    return replace(frame, registers=((address, code + 1), *rest))


def other_pixels(frame: wire.Frame) -> wire.Frame:
    return replace(frame, payload=bytes(frame.payload)[:-1] + b"\x00")


def fewer_pixels(frame: wire.Frame) -> wire.Frame:
    return replace(frame, payload=bytes(frame.payload)[:-9])


def cut_on_the_way(frame: wire.Frame) -> Parts:
    header, payload = wire.encode(frame)
    return [header, bytes(payload)[:-9]]


def as_parts(change: Callable[[wire.Frame], wire.Frame | Parts]) -> Callable[[wire.Frame], list[Parts]]:
    def changed(frame: wire.Frame) -> list[Parts]:
        result = change(frame)
        return [wire.encode(result) if isinstance(result, wire.Frame) else result]

    return changed


LIES = [other_parameters, other_raw, other_codes, other_pixels, fewer_pixels, cut_on_the_way]


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_without_proof_is_asked_again(peer: StartPeer, lie: Any) -> None:
    jobs = make_jobs(3)
    with open_device(peer(tampered(as_parts(lie))).url, 10) as device:
        captures = captures_of(device.process_many(jobs))
        assert device.counts == {"refused": 1, "resent": 1}
    assert_right(jobs, captures)


@pytest.mark.parametrize("lie", LIES)
def test_answers_that_never_prove_themselves_end_the_job(peer: StartPeer, lie: Any) -> None:
    with open_device(peer(tampered(as_parts(lie), times=99)).url, 10) as device:
        with pytest.raises(DeviceError, match="refused 5 times"):
            device.process(*make_jobs(1)[0])
        assert device.counts["refused"] == 5


def test_a_frame_that_the_device_gives_again_is_refused(peer: StartPeer) -> None:
    """A frame buffer that stands still: its number and pixels stay, the registers and the RAW are those asked for."""
    device, stands = Firmware(PIPELINE), list[wire.Frame]()

    def rule(message: wire.Message) -> list[Parts]:
        answer = device.handle(message)
        if isinstance(answer, wire.Frame) and device.frame >= 3:
            stands.append(answer)
            still = stands[0]
            answer = replace(answer, frame=still.frame, payload=still.payload, output_hash=still.output_hash)
        return [wire.encode(answer)]

    jobs, got = make_jobs(6), list[Capture | Failure]()
    with open_device(peer(rule).url, 10) as d, pytest.raises(DeviceError, match=r"it is frame 3 again, .*device check"):
        got.extend(d.process_many(jobs))
    assert_right(jobs[:3], captures_of(got))


@pytest.mark.parametrize(
    ("codes", "words"), [({"gamma": 512}, "gamma 2, not"), ({"hue_of_nothing": 1}, "not asked for")]
)
def test_registers_that_hold_other_values_are_named(peer: StartPeer, codes: dict[str, int], words: str) -> None:
    at = {p.name: p.register.address for p in PIPELINE.space.parameters if p.register}

    def holds(frame: wire.Frame) -> wire.Frame:
        changed = {at.get(name, 0xFFF0): code for name, code in codes.items()}
        return replace(frame, registers=tuple((dict(frame.registers) | changed).items()))

    words = f"made with other parameters than asked for: .*{words}"
    with (
        open_device(peer(tampered(as_parts(holds), times=99)).url, 10) as device,
        pytest.raises(DeviceError, match=words),
    ):
        device.process(*make_jobs(1)[0])


def test_a_register_that_reads_back_another_value_is_named(peer: StartPeer) -> None:
    device = Firmware(PIPELINE)

    def rule(message: wire.Message) -> list[Parts]:
        answer = device.handle(message)
        if isinstance(answer, wire.RegisterValues):
            answer = replace(answer, registers=tuple((address, 512) for address, _ in answer.registers))
        return [wire.encode(answer)]

    words = r"differ from what was written: gamma 2, not 2\.5$"
    with open_device(peer(rule).url, 10) as d, pytest.raises(DeviceError, match=words):
        d.write_registers({"gamma": 640})


def test_late_and_doubled_answers_are_discarded(peer: StartPeer) -> None:
    jobs = make_jobs(6)
    before: list[Parts] = []
    device = Firmware(PIPELINE)

    def rule(message: wire.Message) -> list[Parts]:
        answer = device.handle(message)
        if not isinstance(answer, wire.Frame):
            return [wire.encode(answer)]
        parts = wire.encode(answer)
        out = [*before, wire.encode(replace(answer, id=answer.id ^ 1 << 50)), parts, parts]
        before[:] = [parts]
        return out

    with open_device(peer(rule).url, 10) as d:
        captures = captures_of(d.process_many(jobs))
        assert d.counts["stale"] >= 6
        assert d.counts["refused"] == 0
    assert_right(jobs, captures)


def test_the_previous_frame_under_this_ones_id_is_refused(
    peer: StartPeer,
) -> None:
    jobs = make_jobs(4)
    before: list[wire.Frame] = []
    device = Firmware(PIPELINE)

    def rule(message: wire.Message) -> list[Parts]:
        answer = device.handle(message)
        if not isinstance(answer, wire.Frame):
            return [wire.encode(answer)]
        before.append(answer)
        return [wire.encode(replace(before[-2], id=answer.id) if len(before) == 2 else answer)]

    with open_device(peer(rule).url, 10) as d:
        captures = captures_of(d.process_many(jobs))
        assert d.counts["refused"] == 1
    assert_right(jobs, captures)


def test_a_lost_request_is_sent_again(peer: StartPeer) -> None:
    jobs = make_jobs(10)
    lost = itertools.count()
    device = Firmware(PIPELINE)

    def rule(message: wire.Message) -> list[Parts]:
        if isinstance(message, wire.Process) and next(lost) == 4:
            return []
        return [wire.encode(device.handle(message))]

    with open_device(peer(rule).url, 3) as d:
        captures = captures_of(d.process_many(jobs))
        assert d.counts["resent"] >= 1
    assert_right(jobs, captures)


def test_a_hung_device_is_given_up_after_what_arrived_was_yielded(
    peer: StartPeer,
) -> None:
    jobs = make_jobs(6)
    answered = itertools.count()
    device = Firmware(PIPELINE)

    def rule(message: wire.Message) -> list[Parts]:
        if isinstance(message, wire.Process) and next(answered) >= 3:
            return []
        return [wire.encode(device.handle(message))]

    got: list[Capture | Failure] = []
    with open_device(peer(rule).url, 0.6) as d:
        with pytest.raises(DeviceUnreachableError, match=r"no answer in 0\.6 s"):
            got.extend(d.process_many(jobs))
        assert d.counts["resent"] < 20
    assert_right(jobs[:3], got)


def test_a_slow_consumer_is_not_the_devices_fault(
    peer: StartPeer,
) -> None:
    jobs = make_jobs(10)
    with open_device(peer(honest()).url, 0.4) as device:
        captures = device.process_many(jobs)
        got = [next(captures)]
        time.sleep(0.5)  # longer than the deadline, by design
        got += captures
    assert_right(jobs, got)


def test_a_reboot_that_keeps_the_connection(peer: StartPeer) -> None:
    jobs = make_jobs(20)
    devices = [Firmware(PIPELINE, boot_id="first"), Firmware(PIPELINE, boot_id="second")]

    def rule(message: wire.Message) -> list[Parts]:
        return [wire.encode(devices[devices[0].frame >= 5].handle(message))]

    with open_device(peer(rule).url, 10) as d:
        captures = captures_of(d.process_many(jobs))
        assert d.counts["reboots"] == 1
        assert d.info().boot_id == "second"
    assert_right(jobs, captures)
    assert [c.boot_id for c in captures] == ["first"] * 5 + ["second"] * 15


def test_a_device_that_reboots_for_ever_is_given_up(
    peer: StartPeer,
) -> None:
    boots = itertools.count()

    def rule(message: wire.Message) -> list[Parts]:
        return [wire.encode(Firmware(PIPELINE, boot_id=f"boot{next(boots)}").handle(message))]

    again = f"rebooted {MAX_REBOOTS + 1} times"
    with open_device(peer(rule).url, 30) as d, pytest.raises(DeviceError, match=again):
        list(d.process_many(make_jobs(3)))


def test_another_device_in_its_place_is_an_error(peer: StartPeer) -> None:
    devices = [Firmware(PIPELINE, serial="one"), Firmware(PIPELINE, serial="two")]

    def rule(message: wire.Message) -> list[Parts]:
        return [wire.encode(devices[devices[0].frame >= 2].handle(message))]

    with open_device(peer(rule).url, 10) as d:
        got: list[Capture | Failure] = []
        with pytest.raises(DeviceError, match="serial two, was"):
            got.extend(d.process_many(make_jobs(12)))
    assert len(got) == 2


def test_a_busy_device_is_asked_again(peer: StartPeer) -> None:
    jobs = make_jobs(9)
    busy = itertools.cycle([False, True, True])
    device = Firmware(PIPELINE)

    def rule(message: wire.Message) -> list[Parts]:
        if isinstance(message, wire.Process) and next(busy):
            return [wire.encode(wire.Error(message.id, "busy", "later"))]
        return [wire.encode(device.handle(message))]

    with open_device(peer(rule).url, 10) as d:
        captures = captures_of(d.process_many(jobs))
        assert d.counts["busy"] > 0
    assert_right(jobs, captures)


@pytest.mark.parametrize("code", ["failed", "bad_raw", "too_large"])
def test_a_frame_that_the_device_refuses_is_a_failure_in_its_place(peer: StartPeer, code: str) -> None:
    jobs = make_jobs(8)
    count = itertools.count()
    device = Firmware(PIPELINE)

    def rule(message: wire.Message) -> list[Parts]:
        if isinstance(message, wire.Process) and next(count) == 3:
            return [wire.encode(wire.Error(message.id, code, "no power for the ISP"))]
        return [wire.encode(device.handle(message))]

    with open_device(peer(rule).url, 10) as d:
        results = list(d.process_many(jobs))
        boot_id = d.info().boot_id
    failure = results.pop(3)
    assert isinstance(failure, Failure)
    assert (failure.raw_hash, failure.parameters, failure.code) == (jobs[3][0].hash, jobs[3][1], code)
    assert (failure.reason, failure.boot_id) == (
        f"the device refused the frame ({code}): no power for the ISP",
        boot_id,
    )
    assert_right(jobs[:3] + jobs[4:], results)


def test_one_frame_that_failed_names_device_raw_parameters_and_reason(
    peer: StartPeer,
) -> None:
    device = Firmware(PIPELINE)

    def rule(message: wire.Message) -> list[Parts]:
        if isinstance(message, wire.Process):
            return [wire.encode(wire.Error(message.id, "failed", "too hot"))]
        return [wire.encode(device.handle(message))]

    p = peer(rule)
    raw, parameters = make_jobs(1)[0]
    with open_device(p.url, 10) as d, pytest.raises(FrameFailedError) as caught:
        d.process(raw, parameters)
    assert caught.value.failure is not None
    for text in (p.url, raw.source or raw.hash[:12], parameters.hash[:12], "too hot"):
        assert text in str(caught.value)


@pytest.mark.parametrize("code", ["bad_message", "version", "unsupported", "bad_register", "bad_code"])
def test_an_error_that_blames_the_bench_ends_the_campaign_after_those_before_it(peer: StartPeer, code: str) -> None:
    jobs = make_jobs(8)
    count = itertools.count()
    device = Firmware(PIPELINE)

    def rule(message: wire.Message) -> list[Parts]:
        if isinstance(message, wire.Process) and next(count) == 3:
            return [wire.encode(wire.Error(message.id, code, "no such thing"))]
        return [wire.encode(device.handle(message))]

    got: list[Capture | Failure] = []
    with open_device(peer(rule).url, 10) as d:
        with pytest.raises(DeviceError, match=rf"{code}\): no such thing"):
            got.extend(d.process_many(jobs))
        assert_right(jobs[:2], list(d.process_many(jobs[:2])))
    assert_right(jobs[:3], got)


def test_what_the_device_cannot_take_is_not_sent(peer: StartPeer) -> None:
    p = peer(honest(Firmware(PIPELINE, max_payload=2 * 32 * 32)))
    other = Pipeline("sim32").space.defaults
    with open_device(p.url, 10) as device:
        with pytest.raises(DeviceError, match="the device takes 2048"):
            device.process(make_raw(1, 64), SPACE.defaults)
        with pytest.raises(ParameterError, match="sim32"):
            device.process(RAWS[0], other)
    assert p.processed() == []


def test_a_job_that_cannot_be_sent_ends_the_campaign_after_those_before_it(
    peer: StartPeer,
) -> None:
    jobs = make_jobs(4)
    got: list[Capture | Failure] = []
    with open_device(peer(honest()).url, 10) as device, pytest.raises(ParameterError, match="sim32"):
        got.extend(device.process_many([*jobs[:3], (RAWS[0], Pipeline("sim32").space.defaults), jobs[3]]))
    assert_right(jobs[:3], got)


def test_a_closed_device_says_so(peer: StartPeer) -> None:
    device = open_device(peer(honest()).url, 10)
    device.close()
    device.close()
    with pytest.raises(DeviceError, match="is closed"):
        device.process(*make_jobs(1)[0])


# ---- with a real server process ------------------------------------------------------------------------------------


def test_a_killed_and_restarted_server_costs_no_frame(server: Callable[..., Server]) -> None:
    jobs = make_jobs(60)
    first = server()
    got: list[Capture | Failure] = []
    with open_device(first.url, 30) as device:
        assert isinstance(device, ZmqDevice)
        for capture in device.process_many(jobs):
            got.append(capture)
            if len(got) in (10, 35):
                first.kill()
                first = server(first.port)
        assert device.counts["reboots"] == 2
    assert_right(jobs, got)
    assert len({c.boot_id for c in got}) == 3


def test_a_server_gone_for_good_is_reported_after_what_arrived(server: Callable[..., Server]) -> None:
    jobs = make_jobs(60)
    emulated = server()
    got: list[Capture | Failure] = []
    with open_device(emulated.url, 1.0) as device:
        captures = device.process_many(jobs)
        got.extend(itertools.islice(captures, 10))
        emulated.kill()
        with pytest.raises(DeviceUnreachableError, match=r"no answer in 1\.0 s"):
            got.extend(captures)
    assert_right(jobs[: len(got)], got)
    assert 10 <= len(got) < 60


def test_a_device_that_comes_back_between_campaigns_is_found(server: Callable[..., Server]) -> None:
    jobs = make_jobs(2)
    emulated = server()
    with open_device(emulated.url, 20) as device:
        captures = captures_of(device.process_many(jobs))
        emulated.kill()
        server(emulated.port)
        captures += captures_of(device.process_many(jobs))
        assert set(device.read_registers()) == set(SPACE.names)
    assert_right(jobs * 2, captures)


def test_a_lost_question_is_asked_again(peer: StartPeer) -> None:
    """The first frame and the HELLO that asks after it are lost; the next HELLO is not."""
    device = Firmware(PIPELINE)
    seen: list[wire.Message] = []

    def rule(message: wire.Message) -> list[Parts]:
        seen.append(message)
        kinds = [type(m) for m in seen]
        lost = kinds == [wire.Hello, wire.Process] or kinds == [wire.Hello, wire.Process, wire.Hello]
        return [] if lost else [wire.encode(device.handle(message))]

    jobs = make_jobs(1)
    with open_device(peer(rule).url, 6) as isp:
        assert_right(jobs, list(isp.process_many(jobs)))


def test_a_lost_read_back_is_asked_again(peer: StartPeer) -> None:
    device = Firmware(PIPELINE)
    reads: list[wire.Message] = []

    def rule(message: wire.Message) -> list[Parts]:
        if isinstance(message, wire.Read):
            reads.append(message)
        return [] if len(reads) == 1 else [wire.encode(device.handle(message))]

    with open_device(peer(rule).url, 3) as isp:
        assert isp.read_registers() == SPACE.defaults.by_name
    assert len(reads) == 2
