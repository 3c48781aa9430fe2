"""A toy task: the best parameters of a picture are its mean colour, and a metadata value tells the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from drivers.parameters import ParameterSpace
from predictor.training import Example

LENGTH = 2


def _number(name: str) -> dict[str, Any]:
    return {"name": name, "block": "a", "kind": "continuous", "low": 0, "high": 1, "step": 1 / 1024, "default": 0.5}


SPACE = ParameterSpace.from_dict(
    {
        "name": "toy",
        "parameters": [
            _number("red"),
            _number("hidden"),
            {"name": "mode", "block": "a", "kind": "choice", "choices": ["a", "b", "c"], "default": "a"},
        ],
    }
)


def examples(count: int, generator: torch.Generator) -> Example:
    """The target is ``[B, 2]``: the mean of the red plane, and half the first metadata value."""
    level = torch.rand(count, 1, 1, 1, generator=generator)
    planes = (level * (0.8 + 0.4 * torch.rand(count, 3, 32, 32, generator=generator))).clamp(0, 1)
    metadata = torch.rand(count, LENGTH, generator=generator)
    return Example(planes, metadata, planes, torch.stack([planes[:, 0].mean((1, 2)), metadata[:, 0]], 1))


class ToyData:
    """Endless examples; the held-out ones are two batches of different size."""

    def draw(self, batch: int, generator: torch.Generator) -> list[Example]:
        return [examples(batch, generator)]

    def held_out(self) -> Iterator[Example]:
        generator = torch.Generator().manual_seed(99)
        yield examples(24, generator)
        yield examples(8, generator)

    def __len__(self) -> int:
        return 16


def render(raw: Tensor, parameters: Tensor, whole: bool) -> Tensor:
    return parameters


def loss(parameters: Tensor, target: Tensor) -> Tensor:
    return (parameters[:, :2] - target.to(parameters.device)).square().mean()
