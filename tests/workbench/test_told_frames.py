"""A device over a real link that says in INFO that its RAWs come packed and its pictures go without a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from servers import in_thread
from small_isp import SmallIsp, make_lab

from drivers.agent import Agent, PictureOutput, RawInput, continuous
from drivers.device import DeviceInfo, Failure
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.pool import DevicePool
from drivers.protocol import wire
from drivers.protocol.protocol_device import ProtocolDevice
from drivers.raw.raw_files import save_npz
from drivers.registry import open_device
from sim.firmware.registers import emulated
from workbench.check import conformance, refused_raws
from workbench.check.requirements import NotMetError
from workbench.collect.collector import collect
from workbench.collect.taking import make_sure_all_taken
from workbench.judge.methods import ValidationSettings
from workbench.judge.planning import measure_frames
from workbench.judge.validation import validate
from workbench.lab.dataset import Dataset
from workbench.tune.fixed import tune_run
from workbench.tune.tuner import TuneSettings

MOSAIC = (np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 7) % 1024
RAW = RawFrame(MOSAIC, "RGGB", (64.0,) * 4, 1023)
PACKED = RawInput("raw10", 128)
CHOOSY = RawInput("raw12", 1, ("BGGR", "GBRG"), 8, min_size=(80, 66), max_size=(120, 100), multiple=(16, 6))
OUTPUT = PictureOutput("nv12", matrix="bt601", range="full", row_multiple=128)


def grey(mosaic: np.ndarray, metadata: Any, values: Any) -> bytes:
    """The mosaic's upper bits as luma, no colour, in rows of 128 bytes."""
    height, width = mosaic.shape
    luma: np.ndarray = np.pad((mosaic * values["gain"] / 8).astype(np.uint8), ((0, 0), (0, 128 - width)))
    chroma: bytes = bytes([128]) * (128 * height // 2)
    return bytes(luma) + chroma


@contextmanager
def served(function: Callable[..., Any], raw_input: RawInput = PACKED, output: PictureOutput = OUTPUT) -> Iterator[str]:
    agent = Agent(
        model="told",
        firmware="1",
        parameters=[continuous("gain", 1, 2, step=1 / 16)],
        raw_input=raw_input,
        output=output,
    )
    agent.process(function)
    with in_thread(agent.serve, "zmq://127.0.0.1:0") as url:
        yield url


def test_a_capture_is_kept_as_a_png_under_the_raws_own_hash() -> None:
    with served(grey) as url, open_device(url) as device:
        info = device.info()
        assert (info.input, info.output) == (PACKED, OUTPUT)
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
    assert "it has values up to 4095, the device takes 10 bits, up to 1023" in bad.reason
    assert not isinstance(good, Failure)


@pytest.mark.parametrize("raw_input", [PACKED, CHOOSY], ids=["packed", "choosy"])
def test_it_keeps_the_protocol(raw_input: RawInput) -> None:
    with served(grey, raw_input) as url, open_device(url) as device:
        assert isinstance(device, ProtocolDevice)
        peer = conformance.Peer(device.open_link, 60.0)
        try:
            results = list(conformance.check(peer))
        finally:
            peer.close()
    assert [(r.title, r.reason) for r in results if r.outcome == "fail"] == []


def test_a_device_that_takes_what_its_info_rules_out_is_told(
    serving: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    firmware = emulated("sim20")
    honest = firmware.handle

    def handle(message: wire.Message) -> wire.Message:
        answer = honest(message)
        return dataclasses.replace(answer, input=RawInput(cfa=("RGGB",))) if isinstance(answer, wire.Info) else answer

    monkeypatch.setattr(firmware, "handle", handle)
    with open_device(serving(firmware)) as device:
        assert isinstance(device, ProtocolDevice)
        peer = conformance.Peer(device.open_link, 60.0)
        try:
            peer.learn()
            (tried,) = [r for r in refused_raws.REQUIREMENTS if r.title == "A RAW that INFO rules out is refused"]
            with pytest.raises(NotMetError, match=r"its CFA is BGGR, the device takes RGGB: answered with FRAME"):
                tried.run(peer)
        finally:
            peer.close()


def test_the_check_says_that_a_raw_of_ones_own_does_not_fit() -> None:
    with served(grey, CHOOSY) as url, open_device(url) as device:
        assert isinstance(device, ProtocolDevice)
        peer = conformance.Peer(device.open_link, 60.0, RAW)
        try:
            with pytest.raises(NotMetError, match=r"it has 64×64 pixels, the device takes 80×66 at least, as INFO"):
                peer.learn()
        finally:
            peer.close()


def test_collect_refuses_before_the_first_frame(tmp_path: Path) -> None:
    frames = []

    def process(*given: Any) -> bytes:
        frames.append(given)
        return grey(*given)

    (tmp_path / "raws").mkdir()
    save_npz(tmp_path / "raws" / "a.npz", RAW)
    save_npz(tmp_path / "raws" / "b.npz", RawFrame(MOSAIC, "BGGR", (64.0,) * 4, 1023))
    with (
        served(process, RawInput(cfa=("BGGR",))) as url,
        pytest.raises(DeviceError) as caught,
    ):
        collect(tmp_path / "lab", url, 4, raws=tmp_path / "raws")
    text = str(caught.value)
    assert "does not take 1 of 2 RAWs, such as a.npz: its CFA is RGGB, the device takes BGGR; leave them out" in text
    assert "\n" not in text
    assert frames == []


class ChoosyIsp(SmallIsp):
    def info(self) -> DeviceInfo:
        return dataclasses.replace(super().info(), input=RawInput(max_size=(2, 2)))


def test_tune_and_validate_refuse_before_the_first_frame(tmp_path: Path) -> None:
    make_lab(tmp_path)
    device = ChoosyIsp()
    with Dataset.open(tmp_path) as dataset:
        with pytest.raises(DeviceError, match=r"does not take 12 of 12 RAWs.*the device takes 2×2 at most"):
            tune_run(tmp_path, dataset, device, TuneSettings("random", 20, 4))
        with pytest.raises(DeviceError, match=r"does not take 8 of 8 RAWs.*the device takes 2×2 at most"):
            validate(tmp_path, dataset, device, ValidationSettings())
        with pytest.raises(DeviceError, match=r"does not take \d+ of \d+ RAWs.*the device takes 2×2 at most"):
            measure_frames(dataset, device)
    assert device.asked == 0


def test_what_one_board_of_a_pool_does_not_take_is_refused_and_the_board_named(tmp_path: Path) -> None:
    make_lab(tmp_path)
    with (
        served(grey, RawInput()) as one,
        served(grey, RawInput(min_size=(64, 64))) as other,
        Dataset.open(tmp_path) as dataset,
        DevicePool([one, other]) as pool,
        pytest.raises(DeviceError) as caught,
    ):
        measure_frames(dataset, pool)
    assert "it has 32×32 pixels, the device takes 64×64 at least (of " + other + "); leave them" in str(caught.value)


def test_boards_that_take_no_full_range_are_compared_with_what_they_take() -> None:
    with (
        served(grey, RawInput("raw10", max_size=(48, 32))) as one,
        served(grey, RawInput("raw10", max_size=(48, 32))) as other,
        served(grey, RawInput("raw10", max_size=(32, 32))) as smaller,
    ):
        with DevicePool([one, other]) as pool:
            assert [info.input.max_size for info in pool.units().values()] == [(48, 32)] * 2
        with pytest.raises(DeviceError, match="take RAWs of different sizes, CFA or bits"):
            DevicePool([one, smaller])


TURNED = PictureOutput(crop=(2, 0, 2, 4), scale=(1, 2), orientation=6)


def turned(mosaic: np.ndarray, metadata: Any, values: Any) -> np.ndarray:
    """A file's pixels: the mosaic's upper bits with the gain, cut, halved, and turned to the left."""
    cut = (mosaic * values["gain"] / 8).astype(np.uint8)[:-4, 2:-2]
    small = cv2.resize(cut, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.repeat(np.rot90(small)[:, :, None], 3, axis=2)


def test_a_turned_picture_is_kept_where_boxes_of_the_raw_lie(tmp_path: Path) -> None:
    dark = np.zeros((64, 128), np.uint16)
    dark[20:40, 90:110] = 800
    raw = RawFrame(dark, "RGGB", (0.0,) * 4, 1023, source="square.npz")
    with served(turned, RawInput(), TURNED) as url, open_device(url) as device:
        assert device.info().output == TURNED
        kept = device.process(raw, device.info().space.defaults).rgb
        small = RawFrame(MOSAIC[:62], "RGGB", (64.0,) * 4, 1023, source="small.npz")
        with pytest.raises(DeviceError, match=r"leaves out 2 \+ 2 columns and 0 \+ 4 rows, more than a 16th"):
            make_sure_all_taken(device, [lambda: raw, lambda: small])
    assert kept.media_type == "image/png"
    kept.check(128, 64)
    rows, columns = np.nonzero(kept.pixels[:, :, 1] > 50)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (20, 40, 90, 110)


def test_an_agent_whose_pictures_are_turned_keeps_the_protocol() -> None:
    with served(turned, RawInput(min_size=(96, 96)), TURNED) as url, open_device(url) as device:
        assert isinstance(device, ProtocolDevice)
        peer = conformance.Peer(device.open_link, 60.0)
        try:
            results = list(conformance.check(peer))
        finally:
            peer.close()
    assert [(r.title, r.reason) for r in results if r.outcome == "fail"] == []
