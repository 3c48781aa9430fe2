"""The predictor of a ``train`` run, whole: the network, the rule that it is on top of, and how far it is followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from drivers.device import DeviceInfo
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.weights import WeightsError
from predictor.moves import moved
from workbench.errors import RunError
from workbench.lab.runs import RunFolder
from workbench.learn.base_rule import BaseRule, kept_base
from workbench.learn.own_weights import check_own

if TYPE_CHECKING:
    from predictor.files import LoadedPredictor
    from workbench.lab.dataset import RawRecord


@dataclass(frozen=True)
class RunPredictor:
    """A predictor that predicts for RAW frames.

    Attributes:
        network: as it was loaded.
        base: the rule that it is on top of; None of the older form, which is on top of none.
        follow: how far it is followed, a factor in [0, 1] by block; 1 where it does not say.
    """

    network: LoadedPredictor
    base: BaseRule | None = None
    follow: Mapping[str, float] = field(default_factory=dict)

    @property
    def space(self) -> ParameterSpace:
        """The device's parameters."""
        return self.network.space

    @property
    def device_identity(self) -> str:
        """The device that it was trained for."""
        return self.network.device_identity

    @property
    def metadata(self) -> bool:
        """Whether ISO, exposure and as-shot white balance are inputs of the network."""
        return self.network.metadata

    def predict(self, raws: Sequence[RawFrame]) -> list[ParameterSet]:
        """The parameters for each RAW, quantised as the device would."""
        if self.base is None:
            return self.network.predict(raws)
        factors = self.factors(self.follow)
        return [moved(self.start(raw), factors * self.network.moves(raw)) for raw in raws]

    def start(self, raw: RawFrame | RawRecord) -> ParameterSet:
        """What the rule gives for a RAW.

        Raises:
            ValueError: it is on top of none.
        """
        if self.base is None:
            raise ValueError("this predictor is on top of no rule")
        return self.space.take(self.base.of.parameters_for(raw))

    def factors(self, follow: Mapping[str, float]) -> np.ndarray:
        """A factor for each parameter, ``float64 [N]``, of factors by block."""
        return np.array([follow.get(p.block, 1.0) for p in self.space.parameters])

    def attention(self, raw: RawFrame) -> np.ndarray:
        """See :meth:`predictor.files.LoadedPredictor.attention`."""
        return self.network.attention(raw)


def open_predictor(run: RunFolder) -> RunPredictor:
    """The predictor of a ``train`` run.

    Raises:
        WeightsError: the weights are missing, damaged, or of another predictor than the record says.
        RunError: the rule that it is on top of is missing or damaged.
    """
    from predictor.files import load_predictor

    network, base = load_predictor(run.path), kept_base(run)
    check_own(run)
    if network.on_top is not (base is not None):
        what = "on top of a rule, of which its record says nothing" if base is None else "on top of no rule"
        raise WeightsError(f"{run.path}: its weights predict {what}; put the run's files back")
    if base is None:
        return RunPredictor(network)
    if base[0].of.space.hash != network.space.hash:
        raise WeightsError(f"{run.path}: its rule is of another device than its weights; put the run's files back")
    return RunPredictor(network, *base)


def check_space(run: RunFolder, space: ParameterSpace, info: DeviceInfo) -> None:
    """See that a run's parameters are the device's.

    Raises:
        RunError: they are not.
    """
    if space.hash != info.space.hash:
        raise RunError(
            f"run {run.name}: its parameter space ({space.name}, {len(space)} parameters) is not that of the device "
            f"{info.identity} ({len(info.space)} parameters); choose a run made on this device"
        )
