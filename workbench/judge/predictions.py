"""What predictors give the RAWs that they are judged on."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.parameters import ParameterSet, ParameterSpace
from workbench.judge.measuring import Progress
from workbench.lab.dataset import RawRecord
from workbench.learn.predictors import RunPredictor


def predictions(
    predictors: Sequence[RunPredictor],
    raws: Sequence[RawRecord],
    space: ParameterSpace,
    progress: Progress | None = None,
) -> list[tuple[ParameterSet, ...]]:
    """For each predictor its set for each RAW, in the device's space.

    RAW by RAW, every predictor: large frames would not fit into memory together.
    """
    found: list[list[ParameterSet]] = [[] for _ in predictors]
    for done, raw in enumerate(raws if predictors else (), 1):
        frame = raw.load()
        for predictor, sets in zip(predictors, found, strict=True):
            sets += [space.take(p) for p in predictor.predict([frame])]
        if progress:
            progress("predictions", done, len(raws), "RAW")
    return [tuple(sets) for sets in found]
