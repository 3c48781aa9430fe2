from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from drivers.device import Capture
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.protocol import wire
from drivers.registry import open_device
from sim.firmware.faults import Fault, Faults
from sim.firmware.registers import Firmware
from sim.firmware.serial_server import serve_firmware as serve_serial
from sim.firmware.zmq_server import serve_firmware as serve_zmq
from sim.isp.pipeline import Pipeline

PIPELINE = Pipeline("sim20")
SPACE = PIPELINE.space
RAW = RawFrame(np.random.default_rng(1).integers(64, 1023, (32, 32), np.uint16), "RGGB", (64.0,) * 4, 1023)


class SharedFirmware(Firmware):
    """A firmware for two servers in two threads."""

    def __init__(self, **options: str) -> None:
        self._lock = threading.Lock()
        self.seen: list[tuple[str, str]] = []
        super().__init__(PIPELINE, **options)  # type: ignore[arg-type]

    def handle(self, message: wire.Message) -> wire.Message:
        with self._lock:
            self.seen.append((threading.current_thread().name, type(message).__name__))
            return super().handle(message)


Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(kind: str, firmware: Firmware, faults: Faults | None = None) -> str:
        ready: queue.Queue[str] = queue.Queue()
        target, where = (serve_serial, "socket://127.0.0.1:0") if kind == "serial" else (serve_zmq, "127.0.0.1:0")
        threads.append(
            threading.Thread(
                target=target, args=(firmware, where, ready.put), kwargs={"stop": stop, "faults": faults}, name=kind
            )
        )
        threads[-1].start()
        return ready.get(timeout=20)

    yield start
    stop.set()
    for thread in threads:
        thread.join(20)


def jobs(count: int) -> list[Any]:
    rng = np.random.default_rng(3)
    return [(RAW, SPACE.from_unit(rng.random(len(SPACE)))) for _ in range(count)]


def test_registers_go_over_one_channel_and_frames_over_the_other(serve: Serve) -> None:
    firmware = SharedFirmware()
    url = f"{serve('serial', firmware)}?pixels={serve('zmq', firmware)}"
    name = SPACE.names[0]
    code = SPACE[name].high_code
    with open_device(url, 20) as device:
        assert device.write_registers({name: code}) == {name: code}  # type: ignore[attr-defined]
        assert device.read_registers("shadow")[name] == code  # type: ignore[attr-defined]
        work = jobs(6)
        captures = [c for c in device.process_many(work) if isinstance(c, Capture)]
        assert device.info().boot_id == firmware.boot_id
        codes = work[-1][1].by_name
        assert device.read_registers() == codes  # type: ignore[attr-defined]
    assert [c.rgb.encoded for c in captures] == [PIPELINE.process(*job) for job in work]
    assert {kind for kind, message in firmware.seen if message == "Process"} == {"frames of zmq"}
    assert {kind for kind, message in firmware.seen if message in ("Read", "Write")} == {"serial"}


@pytest.mark.parametrize(
    "other", [{"serial": "two", "boot_id": "b"}, {"boot_id": "c"}, {"version": "2", "boot_id": "b"}]
)
def test_channels_to_different_devices_are_refused(serve: Serve, other: dict[str, str]) -> None:
    url = serve("serial", SharedFirmware(boot_id="b"))
    with pytest.raises(DeviceError, match="its channels reach different devices"):
        open_device(f"{url}?pixels={serve('zmq', SharedFirmware(**other))}", 20)


def test_a_reboot_is_seen_on_both_channels(serve: Serve) -> None:
    firmware = SharedFirmware()
    faults = Faults({"reboot": Fault(at=frozenset({3}))})
    url = f"{serve('serial', firmware)}?pixels={serve('zmq', firmware, faults)}"
    work = jobs(8)
    with open_device(url, 6) as device:
        captures = [c for c in device.process_many(work) if isinstance(c, Capture)]
        assert device.read_registers()  # type: ignore[attr-defined]
    assert [c.rgb.encoded for c in captures] == [PIPELINE.process(*job) for job in work]
    assert len({c.boot_id for c in captures}) == 2


def test_another_device_behind_the_pixels_is_found_out(serve: Serve) -> None:
    firmware, other = SharedFirmware(boot_id="b"), SharedFirmware(boot_id="b")
    url = f"{serve('serial', firmware)}?pixels={serve('zmq', other, Faults({'reboot': Fault(at=frozenset({3}))}))}"
    with open_device(url, 6) as device, pytest.raises(DeviceError, match="different devices"):
        list(device.process_many(jobs(8)))


@pytest.mark.parametrize("pixels", ["x", "serial:COM4", "zmq:"])
def test_what_is_no_second_channel_is_refused(serve: Serve, pixels: str) -> None:
    with pytest.raises(DeviceError, match="is not the URL of a faster channel"):
        open_device(f"serial:COM3?pixels={pixels}", 1)
