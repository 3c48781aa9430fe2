"""What predictors give is asked RAW by RAW, so that frames of any size fit into memory."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from small_isp import SPACE

from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from workbench.judge.predictions import predictions


class Stored:
    """A RAW on disk, which knows what frames are in memory."""

    def __init__(self, level: int, alive: weakref.WeakSet[RawFrame]) -> None:
        self.level, self.alive = level, alive

    def load(self) -> RawFrame:
        assert len(self.alive) < 2, "more than the frame before is still in memory"
        frame = RawFrame(np.full((4, 4), self.level, np.uint16), "RGGB", (0, 0, 0, 0), 1023)
        self.alive.add(frame)
        return frame


class Follower:
    """Sets the gain by the RAW's level."""

    def __init__(self, share: float) -> None:
        self.share = share

    def predict(self, raws: list[RawFrame]) -> list[ParameterSet]:
        return [SPACE.from_unit(np.full(len(SPACE), self.share * float(raw.mosaic[0, 0]) / 1023)) for raw in raws]


def test_every_predictor_is_asked_about_one_frame_at_a_time_with_progress() -> None:
    alive: weakref.WeakSet[RawFrame] = weakref.WeakSet()
    raws: Any = [Stored(level, alive) for level in (0, 100, 300, 1000)]
    whole, half = Follower(1.0), Follower(0.5)
    told = []
    found = predictions([whole, half], raws, SPACE, lambda *update: told.append(update))  # type: ignore[list-item]
    frames = [raw.load() for raw in raws[:1]]
    assert found[0][0] == whole.predict(frames)[0]
    assert [len(sets) for sets in found] == [4, 4]
    assert found[0][3] != found[1][3] != found[1][2]
    assert told == [("predictions", done, 4, "RAW") for done in (1, 2, 3, 4)]


def test_without_a_predictor_no_raw_is_read() -> None:
    told: list[Any] = []
    raws: Any = [None]  # whose load would be an error
    assert predictions([], raws, SPACE, lambda *update: told.append(update)) == []
    assert told == []
