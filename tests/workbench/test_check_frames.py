"""``device check`` on bursts and on how pictures lie: kit agents that keep what they say, and some that do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
from servers import in_thread

from drivers.agent import Agent, PictureOutput, RawInput, continuous
from drivers.agent.device_side import DeviceSide
from drivers.agent.listening import open_link
from drivers.agent.serving import serve_link
from drivers.orientation import to_sensor
from drivers.protocol import wire
from drivers.protocol.protocol_device import ProtocolDevice
from drivers.registry import open_device
from workbench.check import bursts, conformance, lying
from workbench.check.requirements import Result

GAIN = continuous("gain", 0.25, 1, step=1 / 16, default=0.5)
Process = Callable[[np.ndarray, Any, Any], np.ndarray]


def served(device: DeviceSide, url: str = "zmq://127.0.0.1:0") -> AbstractContextManager[str]:
    return in_thread(serve_link, device, lambda: open_link(url, device.max_payload))


def checked(device: DeviceSide, url: str, *requirements: conformance.Requirement) -> list[Result]:
    """What became of some requirements, of all where none is named."""
    with served(device, url) as own, open_device(own) as opened:
        assert isinstance(opened, ProtocolDevice)
        peer = conformance.Peer(opened.open_link, 60.0, many_clients=url.startswith("zmq"))
        try:
            if not requirements:
                return list(conformance.check(peer))
            peer.learn()
            return [conformance.tried(r.title, r.section, partial(r.run, peer)) for r in requirements]
        finally:
            peer.close()


def cropping(told: PictureOutput, *, done: PictureOutput | None = None, cut: bool = False) -> DeviceSide:
    """An ISP that says that it crops, scales and turns; ``done``: what it does; ``cut``: it cuts and does not scale."""
    agent = Agent(model="cropping", firmware="1", parameters=[GAIN], output=told)
    does = done or told

    @agent.process
    def process(mosaic: np.ndarray, metadata: Any, values: Any) -> np.ndarray:
        height, width = mosaic.shape
        left, top, right, bottom = does.crop
        grey = (
            (mosaic * (values["gain"] / 4)).clip(0, 255).astype(np.uint8)[top : height - bottom, left : width - right]
        )
        n, d = does.scale
        size = grey.shape[1] * n // d, grey.shape[0] * n // d
        scaled: np.ndarray = grey[: size[1], : size[0]] if cut else cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        return np.repeat(to_sensor(scaled, does.orientation)[:, :, None], 3, axis=2)

    return agent.device()


TOLD = PictureOutput(crop=(4, 0, 0, 2), scale=(1, 2), orientation=6)


@pytest.mark.parametrize("url", ["zmq://127.0.0.1:0", "serial:pty"])
def test_an_agent_that_crops_scales_and_turns_passes(url: str) -> None:
    found = checked(cropping(TOLD), url)
    assert [(r.title, r.reason) for r in found if r.outcome == "fail"] == []
    (lies,) = [r for r in found if r.title == lying.REQUIREMENTS[0].title]
    assert lies.outcome == "pass"


@pytest.mark.parametrize(
    ("told", "does", "reason"),
    [
        (TOLD, PictureOutput(crop=(4, 0, 0, 2), scale=(1, 2), orientation=8), "lies as orientation 8 would"),
        (PictureOutput(), PictureOutput(orientation=4), "lies as orientation 4 would"),
        (PictureOutput(crop=(4, 0, 0, 0)), PictureOutput(crop=(0, 0, 4, 0)), "lies as crop 0 0 4 0 would"),
        (PictureOutput(crop=(2, 2, 2, 2)), PictureOutput(crop=(0, 0, 4, 4)), "lies as crop 0 0 4 4 would"),
    ],
)
def test_a_picture_that_lies_otherwise_is_found_out(told: PictureOutput, does: PictureOutput, reason: str) -> None:
    (result,) = checked(cropping(told, done=does), "zmq://127.0.0.1:0", *lying.REQUIREMENTS)
    assert result.outcome == "fail"
    assert reason in result.reason


def test_a_picture_that_was_cut_and_not_scaled_is_found_out() -> None:
    device = cropping(PictureOutput(scale=(1, 2)), cut=True)
    (result,) = checked(device, "zmq://127.0.0.1:0", *lying.REQUIREMENTS)
    assert (result.outcome, "crop 0 0 32 32 unscaled" in result.reason) == ("fail", True)


def test_a_flat_picture_shows_nothing_of_it() -> None:
    agent = Agent(model="flat", firmware="1", parameters=[GAIN])
    agent.process(lambda mosaic, metadata, values: np.full((*mosaic.shape, 3), 128, np.uint8))
    (result,) = checked(agent.device(), "zmq://127.0.0.1:0", *lying.REQUIREMENTS)
    assert (result.outcome, result.reason) == (
        "skipped",
        "with its default parameters the picture shows too little of the chart",
    )


def temporal(*, forgets: bool = True, frames: int = 3) -> DeviceSide:
    """An ISP that mixes each frame with the one before."""
    agent = Agent(model="temporal", firmware="1", parameters=[GAIN], raw_input=RawInput(frames=frames))
    before: list[np.ndarray] = []

    @agent.begin_burst
    def forget() -> None:
        if forgets:
            before.clear()

    @agent.process
    def process(mosaic: np.ndarray, metadata: Any, values: Any) -> np.ndarray:
        mixed = mosaic / 2.0 + before[-1] / 2.0 if before else mosaic.astype(float)
        before.append(mixed)
        return np.repeat((mixed * values["gain"] / 4).clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)

    return agent.device()


@pytest.mark.parametrize("url", ["zmq://127.0.0.1:0", "serial:pty"])
def test_an_agent_of_bursts_passes(url: str) -> None:
    found = checked(temporal(), url)
    assert [(r.title, r.reason) for r in found if r.outcome == "fail"] == []
    titles = {r.title for r in bursts.REQUIREMENTS}
    assert [r.outcome for r in found if r.title in titles] == ["pass", "pass"]


def test_one_that_remembers_the_burst_before_is_found_out() -> None:
    alone, torn = checked(temporal(forgets=False), "zmq://127.0.0.1:0", *bursts.REQUIREMENTS)
    assert (alone.outcome, torn.outcome) == ("fail", "pass")
    assert alone.reason == "another burst between them changed the last output of a burst"


def test_one_that_goes_on_with_a_torn_burst_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    device = temporal()
    honest = device.handle

    def handle(message: wire.Message) -> wire.Message:
        answer = honest(message)
        if isinstance(answer, wire.Error) and answer.code == "burst" and isinstance(message, wire.Process):
            return honest(dataclasses.replace(message, follows=0))
        return answer

    monkeypatch.setattr(device, "handle", handle)
    alone, torn = checked(device, "zmq://127.0.0.1:0", *bursts.REQUIREMENTS)
    assert (alone.outcome, torn.outcome) == ("pass", "fail")
    assert torn.reason == "answered with FRAME; ERROR burst is due"
