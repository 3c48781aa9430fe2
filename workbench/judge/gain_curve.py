"""A saturating curve of gain against captures, with all that its few points leave open.

What is missing falls as a power of the material, gain(c) = G − B · c^−k, which saturates at G. Two or three budgets do
not tell k, so every k from slow (0.1, nearly a straight line in log captures) to fast (1) is drawn as often as it fits,
and points are drawn within their intervals; the range over all draws is the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.judge.plan_results import Expected, ValidatedBudget

POWERS = np.linspace(0.1, 1.0, 10)
DISTINCT = 1.25
"""Budgets nearer to each other than by this factor say nothing of a curve."""
_DRAWS = 2000
_LEAST_ERROR = 1e-3
_TO_SIGMA = 2 * 1.959964


def distinct_budgets(points: Sequence[ValidatedBudget]) -> int:
    """How many budgets the points are at, those that are too near to each other taken for one."""
    count, last = 0, 0.0
    for captures in sorted(p.captures for p in points):
        if captures > DISTINCT * last:
            count, last = count + 1, float(captures)
    return count


def between_runs(points: Sequence[ValidatedBudget]) -> float | None:
    """Standard deviation of the gain between runs of one budget; None where no budget has two."""
    by_budget: dict[int, list[float]] = {}
    for point in points:
        by_budget.setdefault(point.captures, []).append(point.gain)
    several = [gains for gains in by_budget.values() if len(gains) > 1]
    if not several:
        return None
    squares = sum(float(np.sum((np.array(gains) - np.mean(gains)) ** 2)) for gains in several)
    return float(np.sqrt(squares / sum(len(gains) - 1 for gains in several)))


def expected_gains(points: Sequence[ValidatedBudget], budgets: Sequence[int], seed: int = 0) -> list[Expected]:
    """The gain to expect at some budgets.

    Args:
        points: of two distinct budgets at least, see :func:`distinct_budgets`.
        budgets: captures, each at least 1.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    captures = np.array([p.captures for p in points], dtype=np.float64)
    smallest, largest = captures.min(), captures.max()
    error = np.array([(p.high - p.low) / _TO_SIGMA for p in points])
    error = np.sqrt(np.maximum(error, _LEAST_ERROR) ** 2 + (between_runs(points) or 0.0) ** 2)
    gains = np.array([p.gain for p in points]) + error * random.standard_normal((_DRAWS, len(points)))
    asked = np.array(budgets, dtype=np.float64)
    fits = [_fit((captures / smallest) ** -k, gains, error, (asked / smallest) ** -k) for k in POWERS]
    misfit = np.array([f[0] for f in fits])  # [powers, draws]
    likely = np.exp(-0.5 * (misfit - misfit.min(axis=0)))
    cumulative = np.cumsum(likely / likely.sum(axis=0), axis=0)
    which = np.argmax(cumulative >= random.random(_DRAWS), axis=0)
    curves = np.array([f[1] for f in fits])[which, np.arange(_DRAWS)]  # [draws, budgets]
    low, middle, high = np.percentile(curves, [2.5, 50, 97.5], axis=0)
    return [
        Expected(gain=float(m), low=float(a), high=float(b), beyond=float(c / largest))
        for m, a, b, c in zip(middle, low, high, asked, strict=True)
    ]


def _fit(x: np.ndarray, gains: np.ndarray, error: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares of ``G − B · x`` with B ≥ 0 to each draw of the gains ``[draws, points]``.

    Returns:
        The misfit (chi squared) ``[draws]``, and the curve at ``at`` ``[draws, budgets]``.
    """
    weight = error**-2 / np.sum(error**-2)
    centre, middle = np.sum(weight * x), gains @ weight
    fall = -((gains - middle[:, None]) @ (weight * (x - centre))) / np.sum(weight * (x - centre) ** 2)
    fall = np.maximum(fall, 0.0)  # more captures do no harm
    misfit = np.sum(((gains - middle[:, None] + fall[:, None] * (x - centre)) / error) ** 2, axis=1)
    return misfit, middle[:, None] - fall[:, None] * (at - centre)
