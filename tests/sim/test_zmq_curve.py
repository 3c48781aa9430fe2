"""Encrypted links over real sockets: who may come in, who may not, and what each side says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from servers import in_thread

from drivers.errors import DeviceError, DeviceUnreachableError
from drivers.frames import RawFrame
from drivers.protocol.zmq_device import open_device
from drivers.protocol.zmq_keys import client_keys, device_keys, new_keys
from sim.firmware.registers import Firmware
from sim.firmware.zmq_server import parse_endpoint, serve_firmware
from sim.isp.pipeline import Pipeline

PIPELINE = Pipeline("sim20")
RAW = RawFrame(np.full((32, 32), 500, np.uint16), "RGGB", (64.0,) * 4, 1023)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("device", "bench", "spare"):
        new_keys(tmp_path / "keys", name)
    return tmp_path / "keys"


@pytest.fixture
def serving(folder: Path) -> Iterator[Callable[[], str]]:
    with ExitStack() as servers:
        yield lambda: servers.enter_context(
            in_thread(serve_firmware, Firmware(PIPELINE), "127.0.0.1:0", keys=device_keys(folder))
        )


@pytest.mark.parametrize("client", ["", "&client=spare"])
def test_a_known_client_works_as_without_keys(serving: Callable[[], str], folder: Path, client: str) -> None:
    with open_device(f"{serving()}?keys={folder}{client}", 20) as device:
        capture = device.process(RAW, device.info().space.defaults)
        assert capture.rgb.encoded == PIPELINE.process(RAW, PIPELINE.space.defaults)


def test_an_unknown_client_is_refused_and_named(
    serving: Callable[[], str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = serving()
    other = tmp_path / "other"
    new_keys(other, "bench")
    (other / "device.key").write_bytes((folder / "device.key").read_bytes())
    with pytest.raises(DeviceUnreachableError, match="does it know this key"):
        open_device(f"{url}?keys={other}", 1.5)
    with open_device(f"{url}?keys={folder}", 20) as device:
        assert device.info().model
    said = capsys.readouterr().out
    assert f"refused a client: its public key {client_keys(other).public.decode()}" in said
    assert client_keys(folder).public.decode() not in said
    assert client_keys(other).secret.decode() not in said


def test_a_client_without_keys_gets_no_answer(serving: Callable[[], str]) -> None:
    with pytest.raises(DeviceUnreachableError):
        open_device(serving(), 1.5)


def test_a_client_does_not_talk_to_another_device(serving: Callable[[], str], folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    new_keys(other, "device")
    for name in ("bench.key", "bench.key_secret"):
        (other / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(DeviceUnreachableError):
        open_device(f"{serving()}?keys={other}", 1.5)


def test_another_machine_needs_keys_or_the_word_that_it_is_safe(folder: Path) -> None:
    with pytest.raises(DeviceError, match=r"192\.0\.2\.1 is another machine and the link would not be encrypted"):
        open_device("zmq://192.0.2.1:5555", 1)
    for options in ("plain=1", f"keys={folder}"):
        with pytest.raises(DeviceUnreachableError):
            open_device(f"zmq://192.0.2.1:5555?{options}", 0.3)


def test_missing_keys_and_unknown_options_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"bench\.key_secret: no such key; make keys with `workbench keys new"):
        open_device(f"zmq://127.0.0.1:1?keys={tmp_path}", 1)
    with pytest.raises(DeviceError, match="unknown option 'key'; known are keys"):
        open_device("zmq://127.0.0.1:1?key=a", 1)


def test_with_keys_the_device_may_listen_anywhere() -> None:
    assert parse_endpoint("0.0.0.0:5", bind_any=True) == ("0.0.0.0", 5)
    with pytest.raises(DeviceError, match="give it --keys"):
        parse_endpoint("0.0.0.0:5")
