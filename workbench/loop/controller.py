"""What is done with each frame of a stream: its parameters predicted, scene cuts noticed, and the two smoothed."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from workbench.board.frame_predictor import FramePredictor
from workbench.loop.scene_cuts import SceneCuts
from workbench.loop.smoothing import Smoother


@dataclass(frozen=True, eq=False)
class Proposal:
    """The parameters for a frame.

    Attributes:
        raw: the frame.
        parameters: to push; smoothed, in the device's space.
        begun: when the RAW was in memory, ``done``: when the parameters were there, both as of ``time.perf_counter``.
        cut: whether it is the first frame of another scene.
        moved: how far the parameters moved from the frame before, as the mean over parameters of the share of their
            range; moved_predicted: the same as predicted. Both None of the first frame of a scene.
    """

    raw: RawFrame
    parameters: ParameterSet
    begun: float
    done: float
    cut: bool = False
    moved: float | None = None
    moved_predicted: float | None = None


class Controller:
    """A predictor on a stream of frames.

    Args:
        predictor: for the device's parameters.
        space: the device's.
        settle: frames, see :class:`workbench.loop.smoothing.Smoother`.
    """

    def __init__(self, predictor: FramePredictor, space: ParameterSpace, settle: int) -> None:
        self._predictor = predictor
        self._space = space
        self.settle = settle
        self._smoother = Smoother(space, settle)
        self._scene_cuts = SceneCuts()
        self._last: tuple[ParameterSet, ParameterSet] | None = None

    def propose(self, raw: RawFrame) -> Proposal:
        """The parameters for the next frame of the stream."""
        begun = time.perf_counter()
        predicted = self._space.take(self._predictor.predict(raw))
        cut = self._scene_cuts.seen(raw)
        parameters = self._smoother.next(predicted, cut=cut)
        done = time.perf_counter()
        last, self._last = self._last, (parameters, predicted)
        if last is None or cut:
            return Proposal(raw, parameters, begun, done, cut)
        return Proposal(
            raw, parameters, begun, done, cut, _distance(last[0], parameters), _distance(last[1], predicted)
        )


def _distance(one: ParameterSet, other: ParameterSet) -> float:
    return float(np.abs(one.unit - other.unit).mean())
