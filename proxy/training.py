"""Fits the proxy to captures of a device (equation 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from drivers import ranks
from drivers.weights import mixed_precision, training_device
from proxy.crops import CropSet
from proxy.model import ProxyConfig
from proxy.networks import Network, network_for
from proxy.plain import PlainProxy


@dataclass(frozen=True)
class ProxyRecipe:
    """How to fit a proxy.

    Attributes:
        name: ``fast``, or ``paper``: the plain UNet (:mod:`proxy.plain`) and the mean squared error.
        base_steps: steps for the base alone, on many tiny crops; ``paper`` has no base, and takes none.
        steps: steps for the whole network.
        batch: crops a step; ``crop``: their side in pixels.
        learning_rate: peak of the one-cycle schedule.
        width: channels of the first level.
        seed: seed of weights, batches and crops.
        mixed: mixed precision (bfloat16), on a GPU.
    """

    name: Literal["fast", "paper"] = "fast"
    base_steps: int = 1600
    steps: int = 400
    batch: int = 24
    crop: int = 64
    learning_rate: float = 3e-3
    width: int = 24
    seed: int = 0
    mixed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data."""
        return asdict(self)


def paper_recipe() -> ProxyRecipe:
    """The paper's proxy, which says nothing of its training: as many steps and crops as the recipe ``fast``."""
    return ProxyRecipe("paper", base_steps=0, steps=2000, learning_rate=1e-3)


@dataclass(frozen=True)
class ProxyStep:
    """Where training stands: step of ``steps``, phase (``base`` or ``whole``), running log of the squared error."""

    step: int
    steps: int
    phase: str
    loss: float


def log_mse(output: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of the log mean squared error: the mean PSNR, up to a constant."""
    mse = (output - target).square().mean((1, 2, 3))
    return (mse + 1e-4).log().mean()


def fit(
    crops: CropSet,
    recipe: ProxyRecipe,
    *,
    on_step: Callable[[ProxyStep], None] = lambda step: None,
    evaluate: Callable[[Network], None] | None = None,
    evaluate_every: int = 500,
) -> Network:
    """Fit a proxy to crops of captures.

    Args:
        crops: the training captures.
        recipe: steps, sizes and seed.
        on_step: called after every step (progress, loss curve).
        evaluate: called with the network every ``evaluate_every`` steps of the second phase.

    Returns:
        The network in evaluation mode, its weights frozen.
    """
    device = training_device()
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    form: Literal["base", "plain"] = "plain" if recipe.name == "paper" else "base"
    network = network_for(ProxyConfig(crops.parameters.shape[1], recipe.width, form=form)).to(device)
    total = recipe.base_steps + recipe.steps
    smooth = None
    phases = (
        ("base", recipe.base_steps, 128, 24, 2 * recipe.learning_rate),
        ("whole", recipe.steps, recipe.batch, recipe.crop, recipe.learning_rate),
    )
    done = 0
    for phase, steps, batch, size, rate in phases:
        if not steps:
            continue
        groups, rates = _rates(network, phase, rate)
        optimiser = torch.optim.AdamW(groups, lr=rate, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps, pct_start=0.15)
        network.train()
        for step in range(1, steps + 1):
            raw, parameters, target = crops.draw(batch, size, generator)
            own = ranks.share(batch)
            share, target = (own.stop - own.start) / batch, target[own].to(device)
            with mixed_precision(device, recipe.mixed):
                output = network(raw[own].to(device), parameters[own].to(device), residual=phase == "whole")
            output = output.float()
            error = share * log_mse(output, target)
            # Equation 3's norm is read as the squared error; its logarithm weighs every capture alike.
            loss = error if form == "base" else share * F.mse_loss(output, target)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            ranks.add_gradients(network)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            done += 1
            (value,) = ranks.add_up(float(error.detach()))
            smooth = value if smooth is None else 0.98 * smooth + 0.02 * value
            on_step(ProxyStep(done, total, phase, smooth))
            if evaluate and phase == "whole" and step % evaluate_every == 0:
                network.eval()
                evaluate(network)
                network.train()
    return freeze(network.cpu())


def _rates(network: Network, phase: str, rate: float) -> tuple[list[dict[str, Any]], list[float]]:
    """The weights that a phase trains, in groups, and each group's peak of the learning rate."""
    if isinstance(network, PlainProxy):
        return [{"params": list(network.parameters())}], [rate]
    slow = [*network.embed.parameters(), *network.straight.parameters(), *network.base.parameters()]
    if phase == "base":
        return [{"params": slow}], [rate]
    fast = [*network.down.parameters(), *network.up.parameters(), *network.last.parameters()]
    # A fitted base must not be shaken by the residual's first, wild steps.
    return [{"params": slow}, {"params": fast}], [0.15 * rate, rate]


def freeze(network: Network) -> Network:
    """The network in evaluation mode with frozen weights (equation 4 trains through it, never it)."""
    network.eval()
    for weight in network.parameters():
        weight.requires_grad_(False)
    return network


@torch.no_grad()
def imitate(network: Network, crops: CropSet, batch: int = 64) -> Tensor:
    """The proxy's outputs for all crops: ``float32 [M, 3, h, w]`` in [0, 1]."""
    parts = [
        network(crops.raw[slice(i, i + batch)], crops.parameters[i : i + batch]) for i in range(0, len(crops), batch)
    ]
    return torch.cat(parts).clamp(0, 1)


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB of each image: ``[M]`` from ``float [M, 3, h, w]`` in [0, 1], both rounded to 8 bits."""
    difference = (output * 255).round() - (target * 255).round()
    return 10 * torch.log10(255.0**2 / difference.square().mean((1, 2, 3)).clamp_min(1e-3))
