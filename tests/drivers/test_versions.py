"""Versions 1 and 2 of the protocol: HELLO and INFO agree on one."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.agent import Agent, continuous
from drivers.protocol import wire


def _agent() -> Agent:
    agent = Agent(model="versions", firmware="1", parameters=[continuous("gain", 1, 4, step=1 / 16)])

    @agent.process
    def process(mosaic: np.ndarray, metadata: Any, values: Any) -> np.ndarray:
        return np.zeros((*mosaic.shape, 3), np.uint8)

    return agent


@given(st.integers(1, wire.MAX_SPEAKS))
def test_a_device_answers_in_the_latest_version_that_both_know(speaks: int) -> None:
    answer = _agent().device().handle(wire.decode(wire.encode(wire.Hello(5, speaks))))
    assert isinstance(answer, wire.Info)
    assert answer.version == min(speaks, wire.LATEST)
    again = wire.decode(wire.encode(answer))
    assert isinstance(again, wire.Info)
    assert (again.version, again.space.to_dict()) == (answer.version, answer.space.to_dict())


def test_a_hello_and_an_info_of_version_1_name_no_version() -> None:
    assert set(msgpack.unpackb(wire.encode(wire.Hello(5))[0])) == {"v", "type", "id"}
    info = _agent().device().handle(wire.Hello(5))
    assert "version" not in msgpack.unpackb(wire.encode(info)[0])


@pytest.mark.parametrize("version", [0, wire.LATEST + 1, -1, "2", None, 2.0, True])
def test_an_info_of_an_unknown_version_is_refused(version: object) -> None:
    header = msgpack.unpackb(wire.encode(_agent().device().handle(wire.Hello(5, 2)))[0])
    with pytest.raises(wire.MessageError, match="version"):
        wire.decode([msgpack.packb({**header, "version": version})])


@pytest.mark.parametrize("speaks", [0, 256, "2", None, 1.5])
def test_a_hello_of_no_version_is_refused(speaks: object) -> None:
    with pytest.raises(wire.MessageError, match="speaks"):
        wire.decode([msgpack.packb({"v": 1, "type": "hello", "id": 5, "speaks": speaks})])
