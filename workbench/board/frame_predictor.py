"""The predictor of a run for frame after frame: by graphs kept beside it, one for each size of frame, or on a GPU."""

from __future__ import annotations

from dataclasses import replace

from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from workbench.board.kept_graph import kept_graph
from workbench.board.runtime import BoardPredictor
from workbench.lab.runs import RunFolder
from workbench.learn.predictors import RunPredictor

SIZES = 4
"""Sizes of frames that get a graph; to make one takes seconds. Frames of further sizes go through torch."""


class FramePredictor:
    """Predicts what :class:`~workbench.learn.predictors.RunPredictor` does, in a third to two thirds of its time.

    Args:
        run: the ``train`` run; graphs that it lacks are written into its folder.
        loaded: its predictor, for frames that no graph can be had for.
        gpu: predict on the GPU in place of that.

    Raises:
        NoGpuError: ``gpu``, and torch finds none.
    """

    def __init__(self, run: RunFolder, loaded: RunPredictor, *, gpu: bool = False) -> None:
        self._run = run
        self._loaded = loaded
        self._gpu = gpu
        if gpu:
            from predictor.gpu import on_gpu

            self._loaded = replace(loaded, network=on_gpu(loaded.network))
        self._graphs: dict[tuple[int, int], BoardPredictor | None] = {}

    def predict(self, raw: RawFrame) -> ParameterSet:
        """The parameters for a RAW, quantised as the device would."""
        graph = None if self._gpu else self._graph(raw.width, raw.height)
        if graph is None:
            return self._loaded.predict([raw])[0]
        return graph.parameters(raw, self._loaded.start(raw) if graph.on_top else None)

    def _graph(self, width: int, height: int) -> BoardPredictor | None:
        size = width, height
        if size not in self._graphs and len(self._graphs) < SIZES:
            self._graphs[size] = kept_graph(self._run, width, height, self._loaded.base)
        return self._graphs.get(size)
