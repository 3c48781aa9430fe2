"""RAWs that a device holds: their pixels travel once, both ends reckon alike, and nothing is lost where they do not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import in_thread
from sim20_jobs import PIPELINE, RAWS, SPACE, assert_right, captures_of, make_jobs
from zmq_peer import Parts, Peer, StartPeer, honest, started_peers

from drivers.errors import DeviceError
from drivers.protocol import wire
from drivers.protocol.held_raws import HeldRaws
from drivers.protocol.zmq_device import open_device
from drivers.registers import RegisterMap
from drivers.registry import open_device as open_url
from sim.firmware.registers import Firmware
from sim.firmware.serial_server import serve_firmware as serve_serial

SIZE = RAWS[0].mosaic.nbytes


@pytest.fixture
def peer() -> Iterator[StartPeer]:
    with started_peers() as start:
        yield start


def with_pixels(p: Peer) -> list[bool]:
    return [len(m.payload) > 0 for m in p.seen if isinstance(m, wire.Process)]


def test_the_pixels_of_a_raw_travel_once(peer: StartPeer) -> None:
    jobs = make_jobs(20)
    p = peer(honest())
    with open_device(p.url, 10) as device:
        captures = captures_of(device.process_many(jobs))
        captures += captures_of(device.process_many(jobs[:6]))
        assert device.counts == {}
    assert_right(jobs + jobs[:6], captures)
    assert with_pixels(p) == [True] * len(RAWS) + [False] * (26 - len(RAWS))


@pytest.mark.parametrize("room", range(6))
def test_both_ends_agree_what_the_device_holds(peer: StartPeer, room: int) -> None:
    """Whatever the order of the RAWs and the room for them: none that was let go is asked for without pixels."""
    sets = [parameters for _, parameters in make_jobs(40)]
    order = [(3 * n * n + n // 7) % len(RAWS) for n in range(40)]
    jobs = [(RAWS[n], parameters) for n, parameters in zip(order, sets, strict=True)]
    missed: list[str] = []
    device = Firmware(PIPELINE, holds=room * SIZE + SIZE // 2)

    def rule(message: wire.Message) -> list[Parts]:
        answer = device.handle(message)
        if isinstance(answer, wire.Error):
            missed.append(answer.text)
        return [wire.encode(answer)]

    p = peer(rule)
    with open_device(p.url, 10) as d:
        assert_right(jobs, d.process_many(jobs))
    assert not missed
    sent = with_pixels(p)
    assert len(sent) == len(jobs)
    assert sum(sent) == (len(jobs) if room == 0 else len(RAWS) if room >= len(RAWS) else sum(sent))
    assert not 0 < room < len(RAWS) or len(RAWS) < sum(sent) < len(jobs)


@given(st.integers(0, 100), st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 60)), max_size=30))
def test_what_is_held_is_what_was_asked_for_last_within_the_bound(most: int, asked: list[tuple[str, int]]) -> None:
    held, sizes, order = HeldRaws[str](most), dict[str, int](), list[str]()
    for name, size in asked:
        if held.asked(name) is None:
            held.keep(name, size, name)
            sizes[name] = size
        order = [*(n for n in order if n != name), name]
        there = [n for n in reversed(order) if n in held._held]
        assert sum(sizes[n] for n in there) <= most
        assert (name in there) is (sizes[name] <= most)
    held.clear()
    assert all(held.asked(name) is None for name in "abcdef")


def test_a_device_that_forgets_is_sent_the_pixels_again(peer: StartPeer) -> None:
    jobs = make_jobs(16)
    device = Firmware(PIPELINE)
    forgets = itertools.cycle([False, False, False, False, True])
    forgotten: list[int] = []

    def rule(message: wire.Message) -> list[Parts]:
        if isinstance(message, wire.Process) and not message.payload and next(forgets):
            device._held.clear()
            forgotten.append(message.id)
        return [wire.encode(device.handle(message))]

    with open_device(peer(rule).url, 10) as d:
        assert_right(jobs, d.process_many(jobs))
        assert d.counts == {}
    assert forgotten


def test_a_request_without_pixels_that_is_lost_is_sent_again_with_them(peer: StartPeer) -> None:
    jobs = make_jobs(12)
    device = Firmware(PIPELINE)
    lost: list[int] = []

    def rule(message: wire.Message) -> list[Parts]:
        if isinstance(message, wire.Process) and not message.payload and not lost:
            lost.append(message.id)
            device._held.clear()
            return []
        return [wire.encode(device.handle(message))]

    p = peer(rule)
    with open_device(p.url, 3) as d:
        assert_right(jobs, d.process_many(jobs))
        assert d.counts["resent"] > 0
    assert [bool(m.payload) for m in p.seen if isinstance(m, wire.Process) and m.id == lost[0]] == [False, True]


def test_a_device_that_never_has_a_raw_ends_the_job(peer: StartPeer) -> None:
    device = Firmware(PIPELINE)

    def rule(message: wire.Message) -> list[Parts]:
        if isinstance(message, wire.Process):
            return [wire.encode(wire.Error(message.id, "no_raw", "never heard of it"))]
        return [wire.encode(device.handle(message))]

    with open_device(peer(rule).url, 10) as d, pytest.raises(DeviceError, match=r"refused 5 times: never heard of it"):
        d.process(*make_jobs(1)[0])


def test_a_device_that_restarts_holds_nothing(peer: StartPeer) -> None:
    jobs = make_jobs(24)
    device = Firmware(PIPELINE)
    asked = itertools.count(1)

    def rule(message: wire.Message) -> list[Parts]:
        if isinstance(message, wire.Process) and next(asked) % 20 == 0:
            device.reboot()
        return [wire.encode(device.handle(message))]

    with open_device(peer(rule).url, 10) as d:
        assert_right(jobs, d.process_many(jobs))
        assert d.counts["reboots"] > 0


def test_two_clients_share_what_is_held(peer: StartPeer) -> None:
    """Each reckons with all of it, and is told where the other's RAWs have taken the room."""
    p = peer(honest(Firmware(PIPELINE, holds=2 * SIZE)))
    jobs = make_jobs(12)
    one, other = [j for j in jobs if j[0] in RAWS[:2]], [j for j in jobs if j[0] in RAWS[2:]]
    with open_device(p.url, 10) as a, open_device(p.url, 10) as b:
        for mine, yours in zip(one, other, strict=True):
            assert_right([mine], [a.process(*mine)])
            assert_right([yours], [b.process(*yours)])
        assert a.counts == b.counts == {}


def test_a_device_that_holds_none_always_gets_the_pixels(peer: StartPeer) -> None:
    p = peer(honest(Firmware(PIPELINE, holds=0)))
    jobs = make_jobs(8)
    with open_device(p.url, 10) as device:
        assert_right(jobs, device.process_many(jobs))
    assert all(with_pixels(p))


@pytest.mark.parametrize(("holds", "code"), [(0, "bad_raw"), (1 << 20, "no_raw")])
def test_a_raw_that_is_not_held_is_refused_without_a_trace(holds: int, code: str) -> None:
    ((raw, parameters),) = make_jobs(1)
    device = Firmware(PIPELINE, holds=holds)
    registers = RegisterMap(SPACE).words(parameters.by_name).items()
    answer = device.handle(replace(wire.process_request(1, raw, registers), payload=b""))
    assert isinstance(answer, wire.Error)
    assert answer.code == code
    shadow = device.handle(wire.Read(2, "shadow"))
    assert isinstance(shadow, wire.RegisterValues)
    assert shadow.parameters_hash == SPACE.defaults.hash
    assert device.frame == 0


def test_a_client_of_version_1_hears_nothing_of_it() -> None:
    device = Firmware(PIPELINE)
    first, second = device.handle(wire.Hello(1)), device.handle(wire.Hello(1, 2))
    assert isinstance(first, wire.Info)
    assert isinstance(second, wire.Info)
    assert (first.holds, second.holds) == (0, 64 << 20)
    told = wire.decode(wire.encode(second))
    assert isinstance(told, wire.Info)
    assert told.holds == 64 << 20


class Counting(Firmware):
    """Knows how many pixels came with each request."""

    def __init__(self) -> None:
        super().__init__(PIPELINE)
        self.came: list[int] = []

    def handle(self, message: wire.Message) -> wire.Message:
        if isinstance(message, wire.Process):
            self.came.append(len(message.payload))
        return super().handle(message)


def test_over_a_serial_line_too(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        firmware, jobs = Counting(), make_jobs(10)
        with in_thread(serve_serial, firmware, "socket://127.0.0.1:0", pixels=folder) as url:
            whole = url if folder is None else f"{url}?pixels=folder:{folder}"
            with open_url(whole, 20) as device:
                assert_right(jobs, device.process_many(jobs))
        assert firmware.came == [SIZE] * len(RAWS) + [0] * (len(jobs) - len(RAWS))
    assert not list(tmp_path.iterdir())
