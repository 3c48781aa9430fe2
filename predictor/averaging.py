"""The running average of a network's weights over the last half of its training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from predictor.model import Predictor

# Of all steps: how far back the average reaches. The first steps are averaged evenly, so that none counts for long.
HORIZON = 0.1


class Average:
    """An exponential moving average of the weights, begun after half of the steps.

    Args:
        network: whose weights are averaged, on its device.
        steps: of the whole training.
    """

    def __init__(self, network: Predictor, steps: int) -> None:
        self._network, self._first, self._horizon = network, steps // 2 + 1, max(HORIZON * steps, 1.0)
        self.weights: dict[str, Tensor] = {}

    def begun(self, step: int) -> bool:
        """Whether there is an average after a step that is another than the weights themselves."""
        return step > self._first

    @torch.no_grad()
    def add(self, step: int) -> None:
        """Take in the weights after a step."""
        if step < self._first:
            return
        share = max(1 / (step - self._first + 1), 1 / self._horizon)
        for name, tensor in self._network.state_dict().items():
            known = self.weights.get(name)
            self.weights[name] = tensor.clone() if known is None else known.lerp_(tensor, share)

    def resume(self, weights: dict[str, Tensor]) -> None:
        """Go on from :attr:`weights` that were kept."""
        device = next(self._network.parameters()).device
        self.weights = {name: tensor.to(device) for name, tensor in weights.items()}

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The network with the averaged weights; with its own again afterwards."""
        own = {name: tensor.clone() for name, tensor in self._network.state_dict().items()}
        self._network.load_state_dict(self.weights)
        try:
            yield
        finally:
            self._network.load_state_dict(own)
