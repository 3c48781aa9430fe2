"""Where a training stands, and how it is kept on disk so that a stopped one goes on as if it had not been stopped."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drivers import ranks
from drivers.foreign_text import shown
from drivers.weights import WeightsError, load_weights, save_weights
from predictor.averaging import Average
from predictor.model import Predictor

_KIND = "training state"

Curve = list[tuple[int, float, float | None]]
"""Step, running loss and, where it was measured, held-out loss: every ten steps and at every measurement."""


@dataclass
class State:
    """Where a training stands.

    Attributes:
        step: steps done; ``loss``: running, None before the first.
        curve: see :data:`Curve`.
        best: weights of the smallest held-out loss; ``best_loss``: that loss; ``averaged``: whether they are averaged.
        of_start: held-out loss of the untrained network, where that was measured.
    """

    step: int = 0
    loss: float | None = None
    curve: Curve = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    best_loss: float = float("inf")
    averaged: bool = False
    of_start: float | None = None

    def add(self, step: int, loss: float) -> None:
        """Take in a step and its loss."""
        self.step = step
        self.loss = loss if self.loss is None else 0.95 * self.loss + 0.05 * loss

    def offer(self, held_out: float, weights: Mapping[str, Tensor], *, averaged: bool) -> None:
        """Keep the weights where their held-out loss is the smallest so far."""
        if held_out < self.best_loss:
            self.best, self.best_loss = {k: v.detach().cpu().clone() for k, v in weights.items()}, held_out
            self.averaged = averaged


def keep(
    folder: Path,
    recipe: dict[str, Any],
    network: Predictor,
    optimiser: torch.optim.Optimizer,
    drawn: Tensor,
    average: Average | None,
    state: State,
) -> None:
    """Write all that the training needs to go on; ``drawn`` is the generator's state after the last batch used.

    Raises:
        WeightsError: the disk refused it.
    """
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in (state.best or {}).items()}
    tensors |= {f"average.{k}": v for k, v in (average.weights if average else {}).items()}
    for number, slot in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{k}": torch.as_tensor(v) for k, v in slot.items()}
    tensors |= {"generator": drawn, "torch": torch.get_rng_state()}
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "recipe": recipe,
        # JSON has no infinity.
        "best_loss": state.best_loss if state.best is not None else None,
        "averaged": state.averaged,
        "of_start": state.of_start if state.of_start is not None and math.isfinite(state.of_start) else None,
        "smooth": state.loss,
        "step": state.step,
        "curve": state.curve,
    }
    save_weights(folder, _KIND, tensors, told)


def resume(
    folder: Path | None,
    recipe: dict[str, Any],
    network: Predictor,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    average: Average | None,
) -> State | None:
    """The state kept in ``folder``, put in place; None where there is none of this recipe that can be read.

    Raises:
        WeightsError: it is of this recipe and does not fit.
    """
    kept = None
    if folder is not None:
        with contextlib.suppress(WeightsError):
            kept = load_weights(folder, _KIND)
    # The others may be on hosts that do not see the folder.
    kept = ranks.agree(kept)
    if kept is None:
        return None
    tensors, told = kept
    if not isinstance(told, dict) or told.get("recipe") != recipe:
        return None

    def part(name: str) -> dict[str, Tensor]:
        return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}

    try:
        network.load_state_dict(part("network"))
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimiser").items():
            number, _, name = key.partition(".")
            slots.setdefault(int(number), {})[name] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})
        generator.set_state(tensors["generator"])
        torch.set_rng_state(tensors["torch"])
        if average is not None:
            average.resume(part("average"))
        best_loss = float("inf") if told["best_loss"] is None else float(told["best_loss"])
        curve = [(int(step), float(mean), held) for step, mean, held in told["curve"]]
        best, averaged = part("best") or None, bool(told.get("averaged"))
        return State(int(told["step"]), told["smooth"], curve, best, best_loss, averaged, told.get("of_start"))
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise WeightsError(
            f"{folder}: what the training kept does not fit it ({shown(error):.200}); delete it to start anew"
        ) from error
