"""How a task's figures answer to moves of the parameters: learnt from captures, with no image in between.

A proxy renders an image, and what noise reduction or sharpening do to it drowns in what gain and white balance do. A
predictor needs less: how far a RAW's figure rises or falls when its parameters leave what a rule gives. So the gains of
captures *around the rule's answer for each RAW* are regressed on the move and on what the RAW looks like
(:mod:`predictor.raw_features`): a quadratic in the move whose slopes and curvatures lean on the RAW. That is a ridge
regression in closed form, and its gradient leads a predictor as a proxy's does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from drivers.parameters import ParameterSpace
from predictor.model import LARGEST

COMPONENTS = 20
"""Principal components of the RAWs' features that slopes lean on."""
CURVATURES = 8
"""Of them, those that curvatures and choices lean on."""
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_SCALE = 4.0
_FOLDS = 5
_ITERATIONS = 150
_RATE = 0.02
CAUTION = 0.05
"""What a move by the whole spread in one parameter must gain at least, in units of the response."""
_BEYOND = 1.0
"""What a move beyond the spread costs, for the square of as much again as the spread."""


@dataclass(frozen=True)
class Around:
    """M captures around what a rule gives.

    Attributes:
        raw: ``int [M]``, index of each capture's RAW.
        unit: ``float64 [M, N]``, its normalised parameters.
        gain: ``float64 [M]``, what its figure gains over that of the rule's own answer for the RAW; ``[M, K]`` of K
            figures.
    """

    raw: np.ndarray
    unit: np.ndarray
    gain: np.ndarray

    def with_more(self, other: Around) -> Around:
        """These captures and others."""
        pairs = ((self.raw, other.raw), (self.unit, other.unit), (self.gain, other.gain))
        return Around(*(np.concatenate(pair) for pair in pairs))


class Response:
    """Gain of a move for a RAW; see the module's text.

    Args:
        space: the device's parameters.
        features: ``float [R, F]``, :func:`predictor.raw_features.raw_features` of the RAWs it is fitted on.
    """

    def __init__(self, space: ParameterSpace, features: np.ndarray) -> None:
        self._space = space
        self._mean, deviation = features.mean(0), features.std(0)
        self._deviation = np.where(deviation > 1e-6, deviation, 1.0)
        clipped = self._standardised(features)
        _, sizes, axes = np.linalg.svd(clipped - clipped.mean(0), full_matrices=False)
        count = min(COMPONENTS, int((sizes > 1e-6 * max(sizes[0], 1e-9)).sum()))
        self._axes = axes[:count].T / np.maximum(sizes[:count] / np.sqrt(len(features)), 1e-6)
        self._choices = [(i, p.levels) for i, p in enumerate(space.parameters) if p.kind in ("choice", "bool")]
        of_choice = {i for i, _ in self._choices}
        self._numbers = [i for i in range(len(space)) if i not in of_choice]
        self._pairs = torch.triu_indices(len(self._numbers), len(self._numbers))
        self._weights = torch.zeros(0)
        self.penalty = 0.0
        self.explained = float("nan")

    def code(self, features: np.ndarray) -> Tensor:
        """What the response knows of RAWs: ``float [R, F]`` → ``float32 [R, C]``."""
        parts = np.clip(self._standardised(features) @ self._axes, -LARGEST, LARGEST)
        return torch.as_tensor(np.concatenate([np.ones((len(parts), 1)), parts], 1), dtype=torch.float32)

    def fit(self, codes: Tensor, starts: Tensor, around: Around) -> None:
        """Fit the weights; the ridge's penalty is the one of the smallest error on RAWs left out.

        Args:
            codes: ``[R, C]`` of :meth:`code`; ``starts``: ``[R, N]``, what the rule gives.
            around: the captures.
        """
        raw = torch.as_tensor(around.raw)
        unit = torch.as_tensor(around.unit, dtype=torch.float32)
        design = self._design(codes[raw], starts[raw], unit).double().numpy()
        # Where parameters are many, the design is wider than the captures are: what is solved then has their number.
        ridge = _of_captures if len(design) < design.shape[1] else _of_terms
        error, weights = ridge(design, around.gain, around.raw % _FOLDS)
        best = min((error(penalty), penalty) for penalty in PENALTIES)
        self.penalty = best[1]
        self.explained = 1 - best[0] / max(float(((around.gain - around.gain.mean()) ** 2).sum()), 1e-12)
        self._weights = torch.as_tensor(weights(self.penalty), dtype=torch.float32)

    def __call__(self, codes: Tensor, starts: Tensor, units: Tensor) -> Tensor:
        """The gain of parameters over what the rule gives, ``[B]``; differentiable in ``units``."""
        return self._design(codes, starts, units) @ self._weights.to(units.device)

    def best_moves(self, codes: Tensor, starts: Tensor, spread: float, free: Tensor) -> Tensor:
        """The move of each RAW that promises the largest gain; see :data:`CAUTION`.

        Args:
            codes, starts: of R RAWs.
            spread: largest move of a parameter, where captures were made.
            free: ``bool [N]``, the parameters that may move.

        Returns:
            ``float32 [R, N]``, within ``spread`` and the parameters' ranges; choices keep to one bin.
        """
        choice = torch.zeros(len(self._space), dtype=torch.bool)
        choice[[place for place, _ in self._choices]] = True
        moving = free & ~choice
        units = starts.clone()
        for _ in range(2):
            units = self._climb(codes, starts, units, spread, moving)
            for place, levels in self._choices:
                if free[place]:
                    units = self._choose(codes, starts, units, spread, place, levels)
        return units - starts

    def promise(self, codes: Tensor, starts: Tensor, units: Tensor, spread: float) -> Tensor:
        """The gain ``[B]`` of moves within ``spread``, less the price of caution; beyond it nothing was captured.

        So what lies further out promises what the border does, and costs something.
        """
        moves = units - starts
        within = moves.clamp(-spread, spread)
        numbers, beyond = ((part / spread)[:, self._numbers] for part in (within, moves - within))
        trusted = units.clone()
        trusted[:, self._numbers] = (starts + within)[:, self._numbers]
        price = CAUTION * numbers.square().sum(1) + _BEYOND * beyond.square().sum(1)
        return self(codes, starts, trusted) - price

    @torch.no_grad()
    def _climb(self, codes: Tensor, starts: Tensor, units: Tensor, spread: float, moving: Tensor) -> Tensor:
        """The numbers that may move, taken upward along :meth:`promise` by Adam; the choices stay."""
        numbers = torch.tensor(self._numbers)[moving[self._numbers]]
        slopes_at = self._slopes(codes, starts, units, spread)
        low, high = (starts - spread).clamp_min(0), (starts + spread).clamp_max(1)
        result, first, second = units.clone(), torch.zeros(len(units), len(numbers)), torch.zeros(1)
        for done in range(1, _ITERATIONS + 1):
            slope = slopes_at(result)[:, moving[self._numbers]]
            first, second = torch.lerp(slope, first, 0.9), torch.lerp(slope.square(), second, 0.999)
            step = first / (1 - 0.9**done) / ((second / (1 - 0.999**done)).sqrt() + 1e-8)
            result[:, numbers] = (result[:, numbers] + _RATE * step).clamp(low[:, numbers], high[:, numbers])
        return result

    def _slopes(self, codes: Tensor, starts: Tensor, units: Tensor, spread: float) -> Callable[[Tensor], Tensor]:
        """The gradient of :meth:`promise` in the numbers, ``[B, numbers]``, within the spread and with these choices.

        The quadratic is put together once for each RAW: a climb asks for its slope many times.
        """
        count, few = len(self._numbers), codes[:, :CURVATURES]
        sizes = [count * codes.shape[1], count * few.shape[1], self._pairs.shape[1], count]
        along, squares, pairs, size, *choices = self._weights.split([*sizes, len(self._weights) - sum(sizes)])
        slope = codes @ along.view(count, -1).T
        if self._choices:
            chosen = self._chosen(units) - self._chosen(starts)
            slope = slope + 0.4 * chosen @ choices[0][chosen.shape[1] * few.shape[1] :].view(-1, count)
        both = torch.zeros(count, count)
        both[self._pairs[0], self._pairs[1]] = 1.5 * pairs
        both = both + both.T
        bend = 6 * few @ squares.view(count, -1).T - 2 * CAUTION / (_SCALE * spread) ** 2

        def at(units: Tensor) -> Tensor:
            move = _SCALE * (units - starts)[:, self._numbers]
            result: Tensor = _SCALE * (slope + move @ both + bend * move + 2 * size * move.sign())
            return result

        return at

    @torch.no_grad()
    def _choose(self, codes: Tensor, starts: Tensor, units: Tensor, spread: float, place: int, levels: int) -> Tensor:
        best, found = self.promise(codes, starts, units, spread), units
        for level in range(levels):
            other = units.clone()
            other[:, place] = (level + 0.5) / levels
            promise = self.promise(codes, starts, other, spread)
            # Another choice must be worth it, as any move.
            better = promise > best + CAUTION
            found, best = torch.where(better[:, None], other, found), torch.where(better, promise, best)
        return found

    def _standardised(self, features: np.ndarray) -> np.ndarray:
        result: np.ndarray = np.clip((features - self._mean) / self._deviation, -LARGEST, LARGEST)
        return result

    def _chosen(self, units: Tensor) -> Tensor:
        """The choices, ``[B, levels of all]``: 1 for the one that is taken, and between two bins' centres a blend."""
        hot = []
        for place, levels in self._choices:
            centres = torch.arange(levels, device=units.device) + 0.5
            position = (units[:, place, None] * levels).clamp(0.5, levels - 0.5)
            hot.append((1 - (position - centres).abs()).clamp_min(0))
        return torch.cat(hot, 1)

    def _design(self, codes: Tensor, starts: Tensor, units: Tensor) -> Tensor:
        """``[B, D]``: products of the move, its square and its size with the code, and of pairs of moves."""
        move = _SCALE * (units - starts)[:, self._numbers]
        few = codes[:, :CURVATURES]
        columns = [
            _products(move, codes),
            3 * _products(move.square(), few),
            1.5 * move[:, self._pairs[0]] * move[:, self._pairs[1]],
            2 * move.abs(),
        ]
        if self._choices:
            chosen = self._chosen(units) - self._chosen(starts)
            columns += [_products(chosen, few), 0.4 * _products(chosen, move)]
        return torch.cat(columns, 1)


def _products(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, :, None] * b[:, None]).flatten(1)


_Ridge = tuple[Callable[[float], float], Callable[[float], np.ndarray]]
"""Of a penalty: the squared error on RAWs left out, and the weights."""


def _of_terms(design: np.ndarray, gain: np.ndarray, fold: np.ndarray) -> _Ridge:
    """The ridge by its normal equations, as large as the design is wide."""
    grams = [(design[fold == k].T @ design[fold == k], design[fold == k].T @ gain[fold == k]) for k in range(_FOLDS)]
    gram, product = sum(g for g, _ in grams), sum(p for _, p in grams)
    eye = np.eye(design.shape[1])

    def error(penalty: float) -> float:
        errors = [
            ((design[fold == k] @ np.linalg.solve(gram - g + penalty * eye, product - p) - gain[fold == k]) ** 2).sum()
            for k, (g, p) in enumerate(grams)
        ]
        return float(sum(errors))

    return error, lambda penalty: np.linalg.solve(gram + penalty * eye, product)


def _of_captures(design: np.ndarray, gain: np.ndarray, fold: np.ndarray) -> _Ridge:
    """The same ridge by what captures have in common with each other, as large as they are many."""
    kernel = design @ design.T

    def among(penalty: float, there: np.ndarray) -> np.ndarray:
        shared = kernel[np.ix_(there, there)]
        found: np.ndarray = np.linalg.solve(shared + penalty * np.eye(len(shared)), gain[there])
        return found

    def error(penalty: float) -> float:
        errors = [
            ((kernel[np.ix_(fold == k, fold != k)] @ among(penalty, fold != k) - gain[fold == k]) ** 2).sum()
            for k in range(_FOLDS)
        ]
        return float(sum(errors))

    return error, lambda penalty: design.T @ among(penalty, np.ones(len(gain), dtype=bool))
