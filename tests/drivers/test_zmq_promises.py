"""What a device said at the start holds, and no answer but a frame keeps the bench waiting."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim20_jobs import PIPELINE, SPACE, assert_right, make_jobs
from zmq_peer import Parts, Peer

from drivers import stopping
from drivers.device import Capture, Failure
from drivers.errors import DeviceChangedError, DeviceUnreachableError
from drivers.parameters import ParameterSpace
from drivers.pool import DevicePool
from drivers.protocol import wire
from drivers.protocol.zmq_device import open_device
from sim.firmware.registers import Firmware

SMALLER = ParameterSpace.from_dict(
    {**SPACE.to_dict(), "parameters": [{**SPACE.to_dict()["parameters"][0], "unit": "x"}]}
)
CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"echo": False}, "echo false, was true"),
    ({"live": True}, "live true, was false"),
    ({"model": "other"}, "model other, was"),
    ({"firmware": "9"}, "firmware 9, was"),
    ({"serial": "two"}, "serial two, was"),
    ({"space": SMALLER}, "parameter space .*, was"),
    ({"max_payload": 4096}, "max_payload 4096, was"),
]


def changing(change: dict[str, Any], *, boot: str, frames: int = 4) -> Callable[[wire.Message], list[Parts]]:
    """Honest for some frames; then INFO says something else, and frames are of ``boot`` and prove what INFO says."""
    device = Firmware(PIPELINE, boot_id="first")

    def rule(message: wire.Message) -> list[Parts]:
        changed = device.frame >= frames
        if isinstance(message, wire.Process) and changed and boot == "first":
            return []  # silence makes the bench ask who is there
        answer = device.handle(message)
        if isinstance(answer, wire.Info) and changed:
            answer = replace(answer, boot_id=boot, **change)
        if isinstance(answer, wire.Frame) and changed:
            answer = replace(answer, boot_id=boot)
            if change.get("echo") is False:
                answer = replace(answer, parameters_hash="", registers=())
        return [wire.encode(answer)]

    return rule


@pytest.mark.parametrize("boot", ["first", "second"])
@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_what_info_said_holds_or_ends_the_campaign(change: Any, words: Any, boot: str) -> None:
    got: list[Capture | Failure] = []
    with (
        closing(Peer(changing(change, boot=boot))) as p,
        open_device(p.url, 1.5) as device,
        pytest.raises(DeviceChangedError, match=words) as caught,
    ):
        got.extend(device.process_many(make_jobs(12)))
    assert len(got) <= 4
    assert_right(make_jobs(12)[: len(got)], got)
    assert ("after a reboot" if boot == "second" else "without a reboot") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fewer_requests_in_flight_after_a_reboot_are_kept_to() -> None:
    with closing(Peer(changing({"max_in_flight": 1}, boot="second"))) as p, open_device(p.url, 10) as device:
        jobs = make_jobs(12)
        assert_right(jobs, list(device.process_many(jobs)))
        assert device.info().max_in_flight == 1


def test_a_board_that_says_something_else_leaves_the_pool_and_costs_no_frame() -> None:
    said: list[str] = []
    steady = Firmware(PIPELINE, boot_id="steady")
    with (
        closing(Peer(lambda m: [wire.encode(steady.handle(m))])) as one,
        closing(Peer(changing({"echo": False}, boot="second", frames=6))) as other,
        DevicePool([one.url, other.url], 10, say=said.append) as pool,
    ):
        jobs = make_jobs(40)
        captures = list(pool.process_many(jobs))
    assert_right(jobs, captures)
    assert {c.boot_id for c in captures} <= {"steady", "first"}
    assert any("quarantined" in line and "echo false, was true" in line for line in said)


# ---- what comes instead of a frame ---------------------------------------------------------------------------------


def busy(message: wire.Message) -> list[Parts]:
    return [wire.encode(wire.Error(message.id, "busy", "wait"))]


def stale(_message: wire.Message) -> list[Parts]:
    return [wire.encode(wire.Error(7, "failed", "late"))] * 3


def garbage(_message: wire.Message) -> list[Parts]:
    return [[b"\xc1 no message"]] * 3


def infos(message: wire.Message) -> list[Parts]:
    return [wire.encode(Firmware(PIPELINE).handle(wire.Hello(message.id + 1)))] * 3


def damaged(message: wire.Message) -> list[Parts]:
    return [wire.encode(wire.RegisterValues(message.id, "b", "active", (), "00" * 32))]


class Chatter(Peer):
    """Honest about who it is; answers frames with ``instead``, and goes on with it without being asked."""

    def __init__(self, instead: Callable[[wire.Message], list[Parts]], frames: int = 0) -> None:
        self.device = Firmware(PIPELINE)

        def rule(message: wire.Message) -> list[Parts]:
            if isinstance(message, wire.Process) and self.device.frame >= frames:
                return instead(message)
            return [wire.encode(self.device.handle(message))]

        super().__init__(rule)


@pytest.mark.parametrize(
    ("instead", "words"),
    [
        (busy, r"no frame in .* × busy.*deadline="),
        (stale, r"answers to nothing that was asked"),
        (garbage, r"no answer in .* × what is no message"),
        (infos, r"answers to nothing that was asked"),
        (damaged, r"answers to nothing that was asked"),
    ],
)
def test_only_a_frame_stops_the_clock(instead: Any, words: str) -> None:
    with (
        closing(Chatter(instead)) as p,
        open_device(p.url, 0.6) as device,
        pytest.raises(DeviceUnreachableError, match=words),
    ):
        device.process(*make_jobs(1)[0])


def test_a_busy_board_is_set_aside_and_the_others_do_its_work() -> None:
    said: list[str] = []
    with (
        closing(Chatter(busy, frames=10**6)) as good,
        closing(Chatter(busy, frames=4)) as one,
        DevicePool([good.url, one.url], 0.8, say=said.append) as pool,
    ):
        jobs = make_jobs(30)
        assert_right(jobs, list(pool.process_many(jobs)))
        assert pool.counts["busy"] > 0
    assert any(line.startswith(f"device {one.url} is quarantined") and "busy" in line for line in said)


class StopAskedError(Exception):
    pass


@pytest.mark.parametrize("instead", [busy, stale, garbage, lambda _: []])
def test_a_wait_notices_that_the_user_asked_to_stop(instead: Any) -> None:
    asked = itertools.count()

    def stop() -> None:
        if next(asked) > 3:
            raise StopAskedError

    with (
        closing(Chatter(instead)) as p,
        open_device(p.url, 3600) as device,
        stopping.checked(stop),
        pytest.raises(StopAskedError),
    ):
        device.process(*make_jobs(1)[0])


def test_a_pool_that_waits_notices_it_too_and_closes_at_once() -> None:
    with closing(Chatter(busy, frames=2)) as p, DevicePool([p.url], 3600, say=lambda _: None) as pool:

        def stop() -> None:
            if p.processed():
                raise StopAskedError

        with stopping.checked(stop), pytest.raises(StopAskedError):
            pool.process(*make_jobs(1)[0])
        pool.close()
        assert not any(thread.is_alive() for thread in pool._threads)


# ---- what no integer, and no terminal, can hold --------------------------------------------------------------------


@pytest.mark.parametrize("key", ["frame", "device_ns"])
@pytest.mark.parametrize("value", [2**63, 2**64 - 1, -1, 1e300, float("inf"), float("nan"), "7", True])
def test_numbers_that_no_data_base_holds_are_refused(key: str, value: Any) -> None:
    frame = wire.Frame(7, "b", 1, "00" * 32, "00" * 32, (), "image/png", "00" * 32, 1, b"x")
    head, payload = wire.encode(frame)
    header = msgpack.unpackb(head)
    assert wire.decode([msgpack.packb({**header, key: 2**63 - 1}), payload])
    with pytest.raises(wire.MessageError, match=key):
        wire.decode([msgpack.packb({**header, key: value}), payload])


UNPRINTABLE = st.sampled_from(["\x1b]0;x\x07", "\x1b[31m", "\n", "\r", "\x00", "\x9b2J", "\u202e", "\u2028", "\x7f"])


@given(UNPRINTABLE, st.sampled_from(["name", "unit", "choices", "default", "key", "description", "parameter"]))
def test_no_text_of_a_space_holds_what_a_terminal_acts_on(odd: str, where: str) -> None:
    (head,) = wire.encode(Firmware(PIPELINE).handle(wire.Hello(7)))
    header = msgpack.unpackb(head)
    space = header["space"]
    first = next(p for p in space["parameters"] if p["kind"] == "choice")
    if where == "name":
        space["name"] += odd
    elif where == "choices":
        first["choices"][0] += odd
    elif where == "key":
        first[f"x{odd}"] = 1
    elif where == "parameter":
        first["name"] += odd
    else:
        first[where] = f"a{odd}b"
    if where == "description" and odd == "\n":
        wire.decode([msgpack.packb(header)])  # lines of a description are lines
        return
    with pytest.raises(wire.MessageError) as caught:
        wire.decode([msgpack.packb(header)])
    assert str(caught.value).isprintable()
