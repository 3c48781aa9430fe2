"""A device over a real link that says in INFO that its RAWs come packed and its pictures go without a file."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from drivers.agent import Agent, PictureOutput, RawInput, continuous
from drivers.device import Failure
from drivers.frames import RawFrame
from drivers.protocol.protocol_device import ProtocolDevice
from drivers.registry import open_device
from workbench.check import conformance

MOSAIC = (np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 7) % 1024
RAW = RawFrame(MOSAIC, "RGGB", (64.0,) * 4, 1023)
OUTPUT = PictureOutput("nv12", matrix="bt601", range="full", row_multiple=128)


def grey(mosaic: np.ndarray, metadata: Any, values: Any) -> bytes:
    """The mosaic's upper bits as luma, no colour, in rows of 128 bytes."""
    luma = np.pad((mosaic * values["gain"] / 8).astype(np.uint8), ((0, 0), (0, 64)))
    return luma.tobytes() + bytes([128]) * (128 * 32)


@contextmanager
def served(function: Callable[..., Any]) -> Iterator[str]:
    agent = Agent(
        model="told",
        firmware="1",
        parameters=[continuous("gain", 1, 2, step=1 / 16)],
        raw_input=RawInput("raw10", 128),
        output=OUTPUT,
    )
    agent.process(function)
    stop, urls = threading.Event(), queue.Queue[str]()
    thread = threading.Thread(target=agent.serve, args=("zmq://127.0.0.1:0",), kwargs={"ready": urls.put, "stop": stop})
    thread.start()
    try:
        yield urls.get(timeout=60)
    finally:
        stop.set()
        thread.join(60)


def test_a_capture_is_kept_as_a_png_under_the_raws_own_hash() -> None:
    with served(grey) as url, open_device(url) as device:
        info = device.info()
        assert (info.input, info.output) == (RawInput("raw10", 128), OUTPUT)
        capture = device.process(RAW, info.space.defaults)
    assert capture.raw_hash == RAW.hash
    assert capture.rgb.media_type == "image/png"
    gain = float(info.space.defaults.values["gain"])
    expected = np.asarray(MOSAIC * gain / 8).astype(np.uint8)
    np.testing.assert_array_equal(capture.rgb.pixels, np.repeat(expected[:, :, None], 3, 2))


def test_a_raw_of_too_many_bits_is_a_failure_and_the_rest_goes_on() -> None:
    deep = RawFrame(MOSAIC, "RGGB", (64.0,) * 4, 4095)
    with served(grey) as url, open_device(url) as device:
        defaults = device.info().space.defaults
        bad, good = device.process_many([(deep, defaults), (RAW, defaults)])
    assert isinstance(bad, Failure)
    assert (bad.code, bad.raw_hash) == ("bad_raw", deep.hash)
    assert "it has values up to 4095, the device takes raw10, up to 1023" in bad.reason
    assert not isinstance(good, Failure)


def test_it_keeps_the_protocol() -> None:
    with served(grey) as url, open_device(url) as device:
        assert isinstance(device, ProtocolDevice)
        peer = conformance.Peer(device.open_link, 60.0)
        try:
            results = list(conformance.check(peer))
        finally:
            peer.close()
    assert [(r.title, r.reason) for r in results if r.outcome == "fail"] == []
