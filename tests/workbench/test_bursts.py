"""Bursts: an agent whose noise filter remembers the frames before, from simulated scenes into the data set."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import in_thread

from drivers.agent import Agent, RawInput, continuous
from drivers.agent.device_side import DeviceSide
from drivers.agent.listening import open_link
from drivers.agent.serving import serve_link
from drivers.device import Capture, FrameFailedError
from drivers.errors import DeviceError, FrameError
from drivers.frames import RawFrame
from drivers.pool import DevicePool
from drivers.protocol import wire
from drivers.protocol.protocol_device import ProtocolDevice
from drivers.raw.raw_files import load_raw, save_npz
from drivers.registry import open_device
from sim.scenes.scene_set import make_scene_set
from workbench.check import conformance
from workbench.collect.collector import collect
from workbench.lab.dataset import Dataset

FRAMES = 3
BURSTS = RawInput(frames=FRAMES)


def burst(seed: int) -> RawFrame:
    frames = np.random.default_rng(seed).integers(64, 1000, (FRAMES, 32, 32), dtype=np.uint16)
    return RawFrame(frames[-1], "RGGB", (64.0,) * 4, 1023, source=f"{seed}.npz", earlier=frames[:-1])


def filtered(raw: RawFrame, keep: float) -> np.ndarray:
    """What the agent must make of a burst: each frame mixed with what came of those before."""
    mixed, *frames = [frame.mosaic.astype(float) for frame in raw.burst]
    for frame in frames:
        mixed = keep * mixed + (1 - keep) * frame
    grey: np.ndarray = np.rint(mixed / 4.1).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def temporal(*, live: bool = False, raw_input: RawInput = BURSTS) -> DeviceSide:
    """An ISP with a recursive temporal filter."""
    keep = continuous("keep", 0, 0.75, step=1 / 64)
    agent = Agent(model="temporal", firmware="1", parameters=[keep], raw_input=raw_input)
    seen: list[np.ndarray] = []
    photographs = iter(burst(5).burst)

    @agent.begin_burst
    def forget() -> None:
        seen.clear()

    def process(mosaic: np.ndarray, metadata: Any, values: Any) -> np.ndarray:
        mixed = mosaic.astype(float)
        if seen:
            mixed = values["keep"] * seen[-1] + (1 - values["keep"]) * mixed
        seen.append(mixed)
        return np.repeat(np.rint(mixed / 4.1).astype(np.uint8)[:, :, None], 3, axis=2)

    def capture(values: Any) -> tuple[np.ndarray, Any, np.ndarray]:
        raw = next(photographs)
        return raw.mosaic, raw.metadata, process(raw.mosaic, raw.metadata, values)

    if live:
        agent.capture(capture)
    else:
        agent.process(process)
    return agent.device()


def served(device: DeviceSide) -> AbstractContextManager[str]:
    return in_thread(serve_link, device, lambda: open_link("zmq://127.0.0.1:0", device.max_payload))


def test_the_last_frame_of_a_burst_is_kept_and_nothing_of_the_burst_before() -> None:
    with served(temporal()) as url, open_device(url) as device:
        assert device.info().input.frames == FRAMES
        sets = [device.info().space.parse({"keep": keep}) for keep in (0.5, 0.25)]
        jobs = [(burst(i), sets[i % 2]) for i in (1, 2, 1)]
        captures = list(device.process_many(jobs))
        for (raw, parameters), capture in zip(jobs, captures, strict=True):
            assert isinstance(capture, Capture)
            assert capture.raw_hash == raw.hash
            np.testing.assert_array_equal(capture.rgb.pixels, filtered(raw, float(parameters.values["keep"])))
        with pytest.raises(FrameFailedError, match=r"it has 1 frame, the device filters over bursts of 3"):
            device.process(burst(1).single, sets[0])


def test_a_frame_that_comes_between_begins_the_burst_again(monkeypatch: pytest.MonkeyPatch) -> None:
    side = temporal()
    honest, others = side.handle, list[wire.Message]()

    def handle(message: wire.Message) -> wire.Message:
        if isinstance(message, wire.Process) and message.follows and not others:
            others.append(honest(dataclasses.replace(message, id=1, follows=0)))
        return honest(message)

    monkeypatch.setattr(side, "handle", handle)
    with served(side) as url, open_device(url) as device:
        capture = device.process(burst(3), device.info().space.parse({"keep": 0.5}))
        assert device.counts["unsettled"] == 1
    assert isinstance(others[0], wire.Frame)
    np.testing.assert_array_equal(capture.rgb.pixels, filtered(burst(3), 0.5))


def test_a_live_device_photographs_a_burst() -> None:
    with served(temporal(live=True)) as url, open_device(url) as device:
        raw, capture = device.capture(device.info().space.parse({"keep": 0.5}))
    assert raw.hash == capture.raw_hash == burst(5).hash
    np.testing.assert_array_equal(capture.rgb.pixels, filtered(burst(5), 0.5))


def test_it_keeps_the_protocol_and_stands_in_pools() -> None:
    with served(temporal()) as url, served(temporal()) as other:
        with open_device(url) as device:
            assert isinstance(device, ProtocolDevice)
            peer = conformance.Peer(device.open_link, 60.0)
            try:
                assert [(r.title, r.reason) for r in conformance.check(peer) if r.outcome == "fail"] == []
            finally:
                peer.close()
        with DevicePool([url, other]) as pool:
            assert pool.process(burst(1), pool.info().space.defaults).raw_hash == burst(1).hash


def test_simulated_bursts_are_collected(tmp_path: Path) -> None:
    folder, lab = tmp_path / "raws", tmp_path / "lab"
    files = make_scene_set(folder, raws_per_photograph=0, lab_scenes=3, raws_per_scene=1, size=(32, 32), frames=FRAMES)
    raw = load_raw(files[0])
    assert raw.earlier is not None
    assert raw.earlier.shape == (2, 32, 32)
    assert all(0 < np.abs(raw.mosaic.astype(int) - frame).mean() < 200 for frame in raw.earlier)
    (folder / "scenes.csv").write_text("\n".join(["file,split", *(f"{f.name},train" for f in files)]), encoding="utf-8")
    with served(temporal()) as url:
        assert collect(lab, url, 6, raws=folder).captured == 6
        save_npz(folder / files[0].name, raw.single)
        with pytest.raises(DeviceError, match=r"does not take 1 of 3 RAWs, .*: it has 1 frame, the device"):
            collect(tmp_path / "other", url, 6, raws=folder)
    with Dataset.open(lab) as dataset:
        stored = next(r for r in dataset.raws() if r.name == files[0].name)
        assert stored.load().hash == raw.hash != raw.single.hash


def test_each_picture_of_a_burst_counts_where_the_device_says_so(tmp_path: Path) -> None:
    made = {"raws_per_photograph": 0, "lab_scenes": 2, "raws_per_scene": 1, "size": (32, 32), "frames": FRAMES}
    whole = make_scene_set(tmp_path / "whole", **made)  # type: ignore[arg-type]
    folder = tmp_path / "raws"
    files = make_scene_set(folder, **made, each_frame=True)  # type: ignore[arg-type]
    assert len(files) == FRAMES * len(whole)
    bursts = [load_raw(f) for f in files]
    for i, file in enumerate(whole):
        for frame in range(1, FRAMES + 1):
            own = bursts[FRAMES * i + frame - 1]
            assert own.hash == load_raw(file).until(frame).hash
            assert len(own.burst) == frame
    (folder / "scenes.csv").write_text("\n".join(["file,split", *(f"{f.name},train" for f in files)]), encoding="utf-8")
    with served(temporal(raw_input=RawInput(frames=FRAMES, counts="each"))) as url:
        assert collect(tmp_path / "lab", url, 6, raws=folder).captured == 6
        with open_device(url) as device:
            half = device.info().space.parse({"keep": 0.5})
            for raw in bursts[:FRAMES]:
                pixels = device.process(raw, half).rgb.pixels
                np.testing.assert_array_equal(pixels, filtered(raw, 0.5))
            longer = dataclasses.replace(bursts[2], earlier=np.repeat(bursts[2].mosaic[None], FRAMES, axis=0))
            with pytest.raises(FrameFailedError, match=r"it has 4 frames, the device filters over bursts of 3 at most"):
                device.process(longer, half)
    with pytest.raises(FrameError, match=r"counts 'each' of 1 frames is not last, or each of several"):
        RawInput(counts="each")


def test_what_is_no_burst_is_one_line() -> None:
    with pytest.raises(FrameError, match="earlier frames must be uint16"):
        dataclasses.replace(burst(1), earlier=np.zeros((2, 4, 4), np.uint16))
    with pytest.raises(FrameError, match=r"frames 65 is not a whole number in 1..64"):
        RawInput(frames=65)
    agent = Agent(model="m", firmware="1", parameters=[continuous("gain", 1, 2, step=1 / 16)], raw_input=BURSTS)
    agent.process(lambda mosaic, metadata, values: mosaic)
    with pytest.raises(DeviceError, match=r"frames above 1 in raw_input and @agent.begin_burst need each other"):
        agent.device()
