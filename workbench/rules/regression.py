"""A regression from simple figures of a RAW, metadata and statistics of its pixels, to its parameters.

Where it has a white balance, that sets the gains of each RAW, and the regression the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from drivers.errors import ParameterError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.regular_files import read_json
from predictor.metadata import metadata_vector
from workbench.errors import RunError
from workbench.rules.balance import WhiteBalance, balanced, frame_of

if TYPE_CHECKING:
    from workbench.lab.dataset import RawRecord

FEATURES = (
    *("iso", "iso_known", "exposure", "exposure_known", "as_shot_red", "as_shot_blue", "as_shot_known"),
    *("mean_red", "mean_green", "mean_blue", "green_p5", "green_p50", "green_p95", "clipped_share"),
)
REGRESSION = "regression.json"
"""The file's name in a run's folder."""


def features(raw: RawRecord | RawFrame) -> np.ndarray:
    """``float64 [len(FEATURES)]``: the predictor's metadata, log2 of the planes' levels, share of clipped pixels."""
    frame = frame_of(raw)
    planes = frame.planes()
    levels = [*planes.mean(axis=(1, 2)), *np.percentile(planes[1], [5, 50, 95])]
    light = np.log2(np.maximum(levels, 1e-4))
    return np.concatenate([metadata_vector(frame), light, [float((planes.max(axis=0) > 0.98).mean())]])


@dataclass(frozen=True, eq=False)
class Regression:
    """A linear regression to normalised parameters.

    Attributes:
        space: the device's parameters.
        mean, scale: of the features, ``[F]``.
        weights: ``[F, N]``; ``intercept``: ``[N]``, the parameters of a RAW of mean features.
        choices: code of each choice and bool, by name.
        white_balance: what sets the gains; None: the regression does.
    """

    space: ParameterSpace
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    intercept: np.ndarray
    choices: dict[str, int]
    white_balance: WhiteBalance | None = None

    def parameters_for(self, raw: RawRecord | RawFrame) -> ParameterSet:
        """The parameters that a RAW gets, from its metadata and pixels."""
        return balanced(self.at(features(raw)), raw, self.white_balance)

    def at(self, figures: np.ndarray) -> ParameterSet:
        """The parameters of a RAW of these :func:`features`, before white balance sets its gains."""
        unit = self.intercept + (figures - self.mean) / self.scale @ self.weights
        # Before the set is made: what exists under a choice is kept under that choice alone.
        for place, p in enumerate(self.space.parameters):
            unit[place] = p.to_unit(self.choices[p.name]) if p.name in self.choices else unit[place]
        return self.space.from_unit(unit).with_codes(self.choices)

    def within(self, space: ParameterSpace) -> Regression:
        """The same regression in the order of a space that takes the same codes."""
        places = [self.space.names.index(name) for name in space.names]
        return replace(self, space=space, weights=self.weights[:, places], intercept=self.intercept[places])

    def to_dict(self) -> dict[str, Any]:
        """The regression as plain JSON data."""
        arrays = {k: getattr(self, k).tolist() for k in ("mean", "scale", "weights", "intercept")}
        shared = {"format": 1, "space": self.space.to_dict(), "features": list(FEATURES)}
        balance = {"white_balance": self.white_balance} if self.white_balance else {}
        return {**shared, **balance, **arrays, "choices": self.choices}

    def save(self, path: Path) -> None:
        """Write :meth:`to_dict` as JSON."""
        from workbench.lab.runs import write_json

        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path) -> Regression:
        """A regression from its file.

        Raises:
            RunError: the file cannot be read or is not a regression.
        """
        from workbench.lab.run_record import RECORD_BYTES

        try:
            data = read_json(Path(path), RECORD_BYTES)
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: cannot be read as a regression: {error}") from error
        return cls.from_dict(data, path)

    @classmethod
    def from_dict(cls, data: Any, path: Path, space: ParameterSpace | None = None) -> Regression:
        """A regression from plain JSON data; ``path`` is named in errors, ``space`` read from it where not given.

        Raises:
            RunError: the data is no regression.
        """
        try:
            if data["format"] != 1 or tuple(data["features"]) != FEATURES:
                raise RunError(f"{path}: regression of another version of the workbench; tune it again")
            space = space or ParameterSpace.from_dict(data["space"])
            inputs, outputs = len(FEATURES), len(space)
            shapes = {"mean": [inputs], "scale": [inputs], "intercept": [outputs], "weights": [inputs, outputs]}
            arrays = {k: np.array(data[k], dtype=np.float64).reshape(shape) for k, shape in shapes.items()}
            choices = {str(k): int(v) for k, v in data["choices"].items()}
            for name, code in choices.items():
                space[name].from_code(code)
            white_balance = data.get("white_balance")
        except (ValueError, KeyError, TypeError, AttributeError, ParameterError) as error:
            raise RunError(f"{path}: cannot be read as a regression: {error}") from error
        if not all(np.isfinite(a).all() for a in arrays.values()) or (arrays["scale"] <= 0).any():
            raise RunError(f"{path}: holds figures that are not finite, or a scale that is not above 0")
        if white_balance not in (None, *get_args(WhiteBalance)):
            raise RunError(f"{path}: white balance {white_balance!r} is not one of {', '.join(get_args(WhiteBalance))}")
        return cls(space, choices=choices, white_balance=white_balance, **arrays)


def constant(parameters: ParameterSet, white_balance: WhiteBalance | None = None) -> Regression:
    """The regression that gives every RAW the same set, but for the gains that the white balance sets."""
    zero = np.zeros(len(FEATURES))
    weights = np.zeros((len(FEATURES), len(parameters.space)))
    return Regression(parameters.space, zero, zero + 1, weights, parameters.unit, {}, white_balance)
