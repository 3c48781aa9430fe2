"""Trains the predictor through a frozen proxy with the loss of a task (equation 4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from drivers import ranks
from drivers.errors import WorkbenchError
from drivers.next_ahead import Ahead
from drivers.parameters import ParameterSpace
from drivers.weights import mixed_precision, training_device
from predictor.averaging import Average
from predictor.model import ENCODERS, Attention, Predictor, PredictorConfig
from predictor.state import Curve, State, keep, resume
from predictor.view import INPUT_SIDE, View

_KEEP_S = 30.0
FAST_SIDE, PAPER_SIDE = 128, 2048
"""Longer side of what the networks of the two recipes see at most."""


class TrainingError(WorkbenchError):
    """A training that cannot go on."""


@dataclass
class Example:
    """B examples: what the predictor sees, what the proxy sees, and what the task's loss compares with.

    Attributes:
        planes: ``float32 [B, 3 or 6, H, W]``, see :mod:`predictor.view`; ``metadata``: ``float32 [B, M + S]``, the
            statistics after it where there are; a network without metadata is told the last S alone.
        raw: the proxy's own input, passed on untouched.
        target: the task's own target, passed on untouched.
        start: ``float32 [B, N]`` in [0, 1] on top of a rule: what it gives for each RAW.
    """

    planes: Tensor
    metadata: Tensor
    raw: Any
    target: Any
    start: Tensor | None = None


class TrainingData(Protocol):
    """Where examples come from."""

    def draw(self, batch: int, generator: torch.Generator) -> Sequence[Example]:
        """A random batch for training, in parts of one image size; their gradients are added up.

        Called in a thread of its own, while :meth:`held_out` may be under way.
        """

    def held_out(self) -> Iterator[Example]:
        """The validation split, always the same."""

    def __len__(self) -> int: ...


Render = Callable[[Any, Tensor, bool], Tensor]
Loss = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How to train a predictor.

    Attributes:
        name: ``paper`` or ``fast``.
        optimiser: ``rmsprop`` (the paper's) or ``adamw``.
        learning_rate: the first; ``last_learning_rate``: after ``drop_at`` of the steps (``paper``), or the end of a
            cosine (``fast``).
        steps: optimiser steps, or 0 to count ``epochs``; ``batch``: RAWs a step.
        width: channels of the first encoder.
        metadata: whether ISO, exposure and white balance are inputs.
        coarse: share of the steps, from the start, that go through the proxy's cheap part alone.
        seed: seed of weights and batches.
        attention, encoders: the paper's network or one of its ablations, see :mod:`predictor.model`.
        longest, windows, statistics: what the network sees and is told of a RAW, see :class:`predictor.view.View`.
        mixed: mixed precision (bfloat16), on a GPU.
    """

    name: Literal["paper", "fast"] = "fast"
    optimiser: Literal["rmsprop", "adamw"] = "adamw"
    learning_rate: float = 1.5e-3
    last_learning_rate: float = 1e-5
    drop_at: float = 0.5
    steps: int = 600
    epochs: int = 0
    batch: int = 32
    width: int = 16
    metadata: bool = True
    coarse: float = 0.8
    seed: int = 0
    attention: Attention = "multi"
    encoders: int = ENCODERS
    longest: int = INPUT_SIDE
    windows: bool = False
    statistics: bool = False
    mixed: bool = False

    @property
    def view(self) -> View:
        """What the network sees where a RAW of the training is too large to be seen as it is."""
        return View(self.longest, self.windows, self.statistics)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data."""
        return asdict(self)


def fast_recipe(seed: int = 0) -> Recipe:
    """Minutes on a CPU at any size: of large RAWs a thumbnail, windows and statistics of full resolution."""
    return Recipe(seed=seed, longest=FAST_SIDE, windows=True, statistics=True)


def paper_recipe(seed: int = 0) -> Recipe:
    """Section 5.1: RMSprop, 1e-4 and 1e-6 after 200 of 400 epochs, image only, first encoder of 32 channels.

    The network sees 12 megapixels as planes of 2048×1536.
    """
    return Recipe("paper", "rmsprop", 1e-4, 1e-6, 0.5, 0, 400, 8, 32, False, 0.0, seed, longest=PAPER_SIDE)


class Fitted(NamedTuple):
    """A trained network.

    Attributes:
        network: with the weights of the smallest held-out loss, in evaluation mode.
        held_out: that loss; infinite where there was nothing to measure on.
        curve: of the whole training, of what was done before a stop too.
        averaged: whether these weights are the average over the last steps.
        of_start: on top of a rule the held-out loss of the untrained network, which is the rule; else None.
    """

    network: Predictor
    held_out: float
    curve: Curve
    averaged: bool
    of_start: float | None


@dataclass(frozen=True)
class TrainingStep:
    """Where training stands: step of ``steps``, running loss, and the held-out loss where it was just measured.

    ``waited``: seconds in which the step stood still until its batch was there.
    """

    step: int
    steps: int
    loss: float
    held_out: float | None = None
    waited: float = 0.0


class Quantiser:
    """Rounds normalised parameters as the device will, letting gradients pass straight through.

    Without it the proxy is asked about values between two choices, which no device has.
    """

    def __init__(self, space: ParameterSpace) -> None:
        self._space = space
        self._whole = bool(space.relations or space.not_searched)
        self._discrete = torch.tensor([p.discrete and p.scale == "linear" for p in space.parameters])
        self._levels = torch.tensor([float(p.levels) for p in space.parameters])

    def __call__(self, parameters: Tensor) -> Tensor:
        """``[B, N]`` → ``[B, N]`` with the discrete parameters at their bin's centre, and constraints kept."""
        if self._whole:
            rows = parameters.detach().cpu().double().numpy()
            legal = torch.as_tensor(np.stack([self._space.from_unit(row).unit for row in rows]))
            return parameters + (legal.to(parameters) - parameters).detach()
        levels = self._levels.to(parameters.device)
        index = torch.minimum((parameters * levels).floor(), levels - 1)
        rounded = torch.where(self._discrete.to(parameters.device), (index + 0.5) / levels, parameters)
        return parameters + (rounded - parameters).detach()


def fit(
    data: TrainingData,
    space: ParameterSpace,
    render: Render,
    loss: Loss,
    recipe: Recipe,
    *,
    metadata_length: int,
    start: np.ndarray | None,
    statistics: Tensor | None = None,
    windows: bool = False,
    begun: Predictor | None = None,
    held: Sequence[str] = (),
    on_step: Callable[[TrainingStep], None] = lambda step: None,
    evaluations: int = 6,
    checkpoint: Path | None = None,
) -> Fitted:
    """Train a predictor.

    Recipe ``fast`` averages the weights over the last half of the steps; where they are measured, the average is
    measured too, and the better of both counts. On top of a rule the untrained network counts as well.

    Args:
        data: examples of the training split, and the held-out ones that choose the best weights.
        space: the device's parameters.
        render: the frozen proxy, ``(raw, parameters [B, N], whole) -> sRGB [B, 3, h, w]``; with ``whole`` False its
            cheap part alone is enough.
        loss: the task's loss, ``(sRGB, target) -> scalar``.
        recipe: optimiser, steps, sizes, seed.
        metadata_length: length of the metadata vectors of ``data``.
        start: ``[N]`` in [0, 1], what the untrained network predicts for every RAW (the default parameters, say); None:
            each example brings its own, to which a difference is learnt.
        statistics: ``[R, S]`` of the training RAWs, where those of its RAWs follow the metadata in every example.
        windows: whether the planes of ``data`` have the three channels of windows.
        begun: a network with these inputs and sizes, from whose weights training goes on; None: from random ones.
        held: names of parameters that stay at ``start``: those in which the proxy does not follow the device, so that
            its gradients would lead nowhere.
        on_step: called after every step.
        evaluations: how often the held-out loss is measured.
        checkpoint: folder in which training keeps its state every half minute and at every measurement, and from which
            it goes on where it was stopped; None keeps nothing.

    Raises:
        TrainingError: the loss is no longer finite.
        WeightsError: the state cannot be written.
    """
    device = training_device()
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    config = PredictorConfig(
        len(space),
        recipe.width,
        metadata_length if recipe.metadata else 0,
        attention=recipe.attention,
        encoders=recipe.encoders,
        on_top=start is None,
        statistics=0 if statistics is None else statistics.shape[1],
        windows=windows,
    )
    network = Predictor(config)
    if begun is not None:
        network.load_state_dict(begun.state_dict())
    elif statistics is not None:
        network.standardise(statistics)
    logits = torch.zeros(len(space))
    if start is not None:
        logits = torch.logit(torch.as_tensor(start, dtype=torch.float32).clamp(0.02, 0.98))
        network.start_at(logits)
    still = torch.tensor([name in held for name in space.names])
    network.hold(still, logits)
    network, still, logits = network.to(device), still.to(device), logits.to(device)
    steps = recipe.steps or recipe.epochs * max(len(data) // recipe.batch, 1)
    quantise = Quantiser(space)
    kind = torch.optim.RMSprop if recipe.optimiser == "rmsprop" else torch.optim.AdamW
    optimiser: torch.optim.Optimizer = kind(network.parameters(), lr=recipe.learning_rate)
    average = Average(network, steps) if recipe.name == "fast" else None
    state = resume(checkpoint, recipe.to_dict(), network, optimiser, generator, average) or State()
    if start is None and state.step == 0:
        # The rule itself is not given up for weights that are worse.
        state.of_start = evaluate(network, data, render, loss, quantise)
        state.offer(state.of_start, network.state_dict(), averaged=False)
    saved = time.monotonic()
    every = max(steps // evaluations, 1)
    with closing(Ahead(_batches(data, recipe.batch, generator, steps - state.step))) as batches:
        for step in range(state.step + 1, steps + 1):
            for group in optimiser.param_groups:
                group["lr"] = _rate(recipe, step, steps)
            asked = time.monotonic()
            parts, drawn_state = next(batches)
            waited = time.monotonic() - asked
            whole = step > recipe.coarse * steps
            drawn, mean = sum(len(part.planes) for part in parts), 0.0
            optimiser.zero_grad(set_to_none=True)
            for part in _shares(parts):
                with mixed_precision(device, recipe.mixed):
                    parameters = network(part.planes.to(device), _told(part, config, device), _on(part.start, device))
                    parameters = torch.where(still, parameters.detach(), parameters)
                    output = render(part.raw.to(device), quantise(parameters.float()), whole)
                value = loss(output.float(), part.target)
                value = value * (len(part.planes) / drawn)
                value.backward()
                mean += float(value.detach())
            (mean,) = ranks.add_up(mean)
            if not np.isfinite(mean):
                raise TrainingError(
                    f"step {step}: the loss is {mean}; train with another --seed, and where that "
                    "fails too look for what the loss cannot take: a detector, a reference, annotations"
                )
            ranks.add_gradients(network)
            if recipe.name == "fast":
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            if average is not None:
                average.add(step)
            state.add(step, mean)
            held_out = None
            if step % every == 0 or step == steps:
                network.hold(still, logits)
                held_out = evaluate(network, data, render, loss, quantise)
                state.offer(held_out, network.state_dict(), averaged=False)
                if average is not None and average.begun(step):
                    with average.in_place():
                        network.hold(still, logits)
                        of_average = evaluate(network, data, render, loss, quantise)
                        state.offer(of_average, network.state_dict(), averaged=True)
                    held_out = min(held_out, of_average)
            assert state.loss is not None
            if step % 10 == 0 or held_out is not None:
                state.curve.append((step, state.loss, held_out))
            if checkpoint is not None and (held_out is not None or time.monotonic() - saved > _KEEP_S):
                keep(checkpoint, recipe.to_dict(), network, optimiser, drawn_state, average, state)
                saved = time.monotonic()
            on_step(TrainingStep(step, steps, state.loss, held_out, waited))
    if state.best is not None:
        network.load_state_dict(state.best)
    return Fitted(network.cpu().eval(), state.best_loss, state.curve, state.averaged, state.of_start)


def _batches(
    data: TrainingData, batch: int, generator: torch.Generator, count: int
) -> Iterator[tuple[Sequence[Example], Tensor]]:
    """So many batches, each with the generator's state after it: with that a stopped training goes on.

    Drawn in a thread of their own, while the steps have the processor's cores.
    """
    torch.set_num_threads(1)
    for _ in range(count):
        yield data.draw(batch, generator), generator.get_state()


def _shares(parts: Sequence[Example]) -> list[Example]:
    """What this process takes of a batch: some of its parts whole, or where there are fewer than processes a slice.

    Raises:
        TrainingError: there is not one example for every process.
    """
    count = ranks.world()
    if count == 1:
        return list(parts)
    if len(parts) >= count:
        return list(parts[ranks.rank() :: count])
    drawn = sum(len(part.planes) for part in parts)
    if drawn < count or not all(isinstance(part.target, Tensor) for part in parts):
        raise TrainingError(
            f"a batch of {drawn} RAWs in {len(parts)} parts for {count} processes: there is not one for each; train "
            "with a larger --batch or with fewer processes"
        )
    mine, first, taken = ranks.share(drawn), 0, []
    for part in parts:
        own = slice(max(mine.start - first, 0), max(min(mine.stop - first, len(part.planes)), 0))
        first += len(part.planes)
        if own.start < own.stop:
            start = None if part.start is None else part.start[own]
            taken.append(Example(part.planes[own], part.metadata[own], part.raw[own], part.target[own], start))
    return taken


def _told(example: Example, config: PredictorConfig, device: torch.device) -> Tensor | None:
    return example.metadata[:, -config.told :].to(device) if config.told else None


def _on(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)


def _rate(recipe: Recipe, step: int, steps: int) -> float:
    if recipe.name == "paper":
        return recipe.learning_rate if step <= recipe.drop_at * steps else recipe.last_learning_rate
    warm = min(step / max(0.05 * steps, 1), 1)
    cosine = 0.5 * (1 + np.cos(np.pi * step / steps))
    return float(warm * (recipe.last_learning_rate + cosine * (recipe.learning_rate - recipe.last_learning_rate)))


@torch.no_grad()
def evaluate(network: Predictor, data: TrainingData, render: Render, loss: Loss, quantise: Quantiser) -> float:
    """Mean loss over the held-out examples; infinite where there are none to measure."""
    network.eval()
    losses, count = 0.0, 0
    device = next(network.parameters()).device
    for number, example in enumerate(data.held_out()):
        if number % ranks.world() != ranks.rank():
            continue
        told = _told(example, network.config, device)
        parameters = network(example.planes.to(device), told, _on(example.start, device))
        value = loss(render(example.raw.to(device), quantise(parameters), True), example.target)
        losses += float(value) * len(example.planes)
        count += len(example.planes)
    network.train()
    losses, measured = ranks.add_up(losses, count)
    return losses / measured if measured else float("inf")
