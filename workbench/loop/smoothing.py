"""Smoothing over time: the parameters of a video follow what is predicted for its frames, and do not flicker.

* **Numbers** go through a filter of first order on their normalised values, which keeps within their range and never
  overshoots. A step is followed to 90 % in ``settle`` frames, the frame of the step counted. The code changes only once
  the filtered value is three quarters of a code away, so that it does not flip between two neighbours.
* **Choices and switches** have no values between. The filter weighs how often each was predicted lately, and another is
  taken once it has three quarters of the weight: 0.6 · ``settle`` frames after a step.
* **A scene cut** is followed at once.
"""

from __future__ import annotations

import numpy as np

from drivers.parameter import Parameter
from drivers.parameters import ParameterSet, ParameterSpace

SETTLE = 10
"""Frames by default."""
REACHED = 0.9
_AWAY = 0.75
_MAJORITY = 0.75


def gain_of(settle: int) -> float:
    """The share of the way to the target that the filter goes with each frame; 1 for a settle count of 0: no filter."""
    return 1.0 if settle == 0 else 1 - (1 - REACHED) ** (1 / settle)


class Smoother:
    """The filter of a video's parameters.

    Args:
        space: of the parameters.
        settle: frames, at least 1, in which 90 % of a step is reached; 0: what is predicted is taken as it is.
    """

    def __init__(self, space: ParameterSpace, settle: int = SETTLE) -> None:
        self._space = space
        self._gain = gain_of(settle)
        self._filtered = np.empty(0)
        self._votes: dict[int, np.ndarray] = {}
        self._codes: list[int] | None = None

    def next(self, predicted: ParameterSet, *, cut: bool = False) -> ParameterSet:
        """The parameters for the next frame.

        Args:
            predicted: for this frame, of the space; ``cut``: it is the first one of another scene.
        """
        if self._codes is None or cut or self._gain == 1:
            self._filtered, self._codes = predicted.unit, list(predicted.codes)
            self._votes = {
                i: np.eye(p.levels)[code - p.low_code]
                for i, (p, code) in enumerate(zip(self._space.parameters, predicted.codes, strict=True))
                if p.kind in ("choice", "bool")
            }
            return predicted
        self._filtered = self._filtered + self._gain * (predicted.unit - self._filtered)
        for i, (p, code) in enumerate(zip(self._space.parameters, predicted.codes, strict=True)):
            if i in self._votes:
                self._votes[i] = self._votes[i] + self._gain * (np.eye(p.levels)[code - p.low_code] - self._votes[i])
                self._codes[i] = _voted(p, self._codes[i], self._votes[i])
            else:
                self._codes[i] = _numbered(p, self._codes[i], float(self._filtered[i]))
        return ParameterSet(self._space, tuple(self._codes))


def _voted(parameter: Parameter, code: int, votes: np.ndarray) -> int:
    """The choice in force, or the one that has the majority now."""
    most = int(votes.argmax())
    return parameter.low_code + most if votes[most] >= _MAJORITY else code


def _numbered(parameter: Parameter, code: int, filtered: float) -> int:
    """The code in force, or the nearest one where the filtered value is far enough from it."""
    here = parameter.to_unit(code)
    towards = code + (1 if filtered > here else -1)
    if not parameter.low_code <= towards <= parameter.high_code:
        return code
    step = abs(parameter.to_unit(towards) - here)
    return code if abs(filtered - here) < _AWAY * step else parameter.from_unit(filtered)
