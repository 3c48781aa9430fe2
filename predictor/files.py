"""A predictor on disk, and a loaded one that predicts for RAW frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drivers.frames import MAX_SIDE, RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.weights import described, load_weights, network_of, save_weights, whole_number
from predictor.metadata import LENGTH
from predictor.model import Predictor, PredictorConfig, gflop
from predictor.moves import MIRRORS, STEP
from predictor.raw_features import STATISTICS, told_of
from predictor.view import INPUT_SIDE, View


def input_planes(raw: RawFrame, view: View = View()) -> Tensor:  # noqa: B008 (frozen)
    """What the network sees of a RAW: ``float32 [3 or 6, h, w]``; see :class:`predictor.view.View`."""
    return torch.from_numpy(view.of(raw.planes()))


@dataclass
class LoadedPredictor:
    """A trained predictor with the parameter space of its device.

    ``mirrored``: it predicts from the mean over the RAW's mirror images (before the sigmoid, or of the differences).
    """

    network: Predictor
    space: ParameterSpace
    longest: int
    device_identity: str
    mirrored: bool = False

    @property
    def metadata(self) -> bool:
        """Whether ISO, exposure and as-shot white balance are inputs."""
        return bool(self.network.config.metadata)

    @property
    def view(self) -> View:
        """What the network sees of a RAW."""
        config = self.network.config
        return View(self.longest, config.windows, bool(config.statistics))

    def _inputs(self, raw: RawFrame) -> tuple[Tensor, Tensor | None]:
        config = self.network.config
        planes = input_planes(raw, self.view)[None]
        if not config.told:
            return planes, None
        told = told_of(raw, metadata=bool(config.metadata), statistics=bool(config.statistics))
        return planes, torch.from_numpy(told)[None]

    @property
    def on_top(self) -> bool:
        """Whether it predicts differences to what a rule gives for each RAW."""
        return self.network.config.on_top

    @torch.no_grad()
    def predict(self, raws: Sequence[RawFrame]) -> list[ParameterSet]:
        """The parameters for each RAW (equation 5), quantised as the device would.

        Raises:
            ValueError: it predicts on top of a rule, see :meth:`moves`.
        """
        if self.on_top:
            raise ValueError("this predictor gives differences to a rule")
        return [self.space.from_unit(torch.sigmoid(self._pooled(raw)).numpy()) for raw in raws]

    @torch.no_grad()
    def moves(self, raw: RawFrame) -> np.ndarray:
        """On top of a rule: how far it moves each normalised parameter of a RAW from what the rule gives.

        Returns:
            ``float64 [N]``; :func:`predictor.moves.moved` applies it.

        Raises:
            ValueError: it is not on top of a rule.
        """
        if not self.on_top:
            raise ValueError("this predictor gives parameters, no differences")
        return STEP * self._pooled(raw).double().numpy()

    def _pooled(self, raw: RawFrame) -> Tensor:
        planes, metadata = self._inputs(raw)
        mirrors = MIRRORS if self.mirrored else MIRRORS[:1]
        return torch.stack([self.network.logits(planes.flip(axes), metadata) for axes in mirrors]).mean(0)[0]

    @torch.no_grad()
    def attention(self, raw: RawFrame) -> np.ndarray:
        """Attention maps of one RAW: ``float32 [N, h, w]``, each summing to 1; c_i(R_j) in the paper's network."""
        return self.network.attention_maps(*self._inputs(raw))[0].numpy()

    def gflop(self, height: int, width: int) -> float:
        """Cost in GFLOP of one prediction for planes of that size (half of the mosaic's), mirror images included."""
        return gflop(self.network.config, height, width) * (len(MIRRORS) if self.mirrored else 1)


def save_predictor(
    folder: Path,
    network: Predictor,
    space: ParameterSpace,
    device_identity: str,
    longest: int = INPUT_SIDE,
    *,
    mirrored: bool = False,
) -> Path:
    """Write the predictor into a run's folder; see :class:`LoadedPredictor`."""
    description = {
        "config": network.config.to_dict(),
        "space": space.to_dict(),
        "device": device_identity,
        "longest": longest,
        "mirrored": mirrored,
    }
    return save_weights(folder, "predictor", network.state_dict(), description)


def load_predictor(folder: Path) -> LoadedPredictor:
    """The predictor of a run's folder.

    Raises:
        WeightsError: missing, damaged, or not a predictor.
    """
    tensors, description = load_weights(folder, "predictor")
    with described(folder, "predictor", "train"):
        config = PredictorConfig(**description["config"])
        space = ParameterSpace.from_dict(description["space"])
        if config.parameters != len(space):
            raise ValueError(f"it predicts {config.parameters} parameters, its device has {len(space)}")
        if config.metadata not in (0, LENGTH):
            raise ValueError(f"it takes {config.metadata} metadata, a RAW has {LENGTH}")
        if config.statistics not in (0, STATISTICS):
            raise ValueError(f"it takes {config.statistics} statistics, a RAW has {STATISTICS}")
        longest = whole_number(description["longest"], "the longest side", 32, MAX_SIDE)
        identity = str(description["device"])
        mirrored = bool(description["mirrored"])
        network = network_of(lambda: Predictor(config), tensors)
    return LoadedPredictor(network.eval(), space, longest, identity, mirrored)
