"""Paired comparisons with bootstrap intervals, resampled by scene.

Several RAWs of one scene are not independent, so whole scenes (clusters) are drawn with replacement. Methods are
compared on the same RAWs (paired). With fewer than :data:`MIN_CLUSTERS` scenes no interval is given: even if all of
five scenes agree, a two-sided sign test gives p = 2·2⁻⁵ = 0.06, so nothing can be shown at 95 %, while a percentile
bootstrap would claim it.

The interval is about the mean, which a few scenes can make alone; Wilcoxon's signed-rank test on the scenes' means asks
whether most scenes go that way. :func:`compare` says better or worse only where both do.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from workbench.lab.results import Model

MIN_CLUSTERS = 6
RESAMPLES = 10_000
SIGNIFICANT = 0.05
EXACT = 13
"""Scenes up to which Wilcoxon's test tries every choice of signs, with ties and zeros too."""
Verdict = Literal["better", "worse", "not shown"]


class Interval(Model):
    """An estimate and its 95 % interval.

    Attributes:
        estimate: the figure on the data as they are; None where it is not defined.
        low, high: ends of the interval; None where it cannot be given.
        clusters: number of scenes.
        samples: number of RAWs.
    """

    estimate: float | None
    low: float | None
    high: float | None
    clusters: int
    samples: int

    @property
    def side(self) -> Verdict:
        """``better`` if the whole interval is above 0, ``worse`` if it is below, else ``not shown``."""
        if self.low is None or self.high is None:
            return "not shown"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not shown"

    def text(self, form: str = "+.2f", scale: float = 1.0) -> str:
        """The interval for people: ``+1.50 [+1.00, +2.00]``."""
        if self.estimate is None:
            return "not defined"
        estimate = format(self.estimate * scale, form)
        if self.low is None or self.high is None:
            return f"{estimate} [no interval]"
        return f"{estimate} [{self.low * scale:{form}}, {self.high * scale:{form}}]"


class Comparison(Interval):
    """The mean paired difference of a method to another on the same RAWs with its interval; above 0 is better.

    Attributes:
        verdict: ``better`` or ``worse`` where the interval lies on that side of 0 and Wilcoxon's test agrees.
        reason: why the verdict is what it is, without figures of the interval: a part of a sentence.
        p_value: two-sided, of Wilcoxon's signed-rank test on the scenes' means; None with too few scenes, and of a
            metric that a single RAW does not have, where the interval alone decides.
        worse_share: of the RAWs, 0 to 1; None of such a metric.
        fifth_percentile: of the differences over the RAWs; None of such a metric.
    """

    verdict: Verdict
    reason: str = ""
    p_value: float | None = None
    worse_share: float | None = None
    fifth_percentile: float | None = None

    @property
    def brief(self) -> str:
        """What a cell of a table has room for: Wilcoxon's p where a difference is shown, else the reason."""
        return (
            self.reason if self.p_value is None or self.verdict == "not shown" else f"Wilcoxon {p_text(self.p_value)}"
        )

    def words(self, unit: str = "dB") -> str:
        """The verdict as a sentence with its evidence, as a careful person would sign it."""
        unit = f" {unit}" if unit else ""
        ends = "" if self.low is None or self.high is None else f" [{self.low:+.2f}, {self.high:+.2f}]"
        said = f"{self.verdict.capitalize()}: {self.estimate:+.2f}{ends}{unit} on average; {self.reason}"
        if self.worse_share is None or self.fifth_percentile is None:
            return f"{said}."
        tail = f"{self.worse_share:.0%} of {self.samples} RAWs got worse, 5th percentile {self.fifth_percentile:+.2f}"
        return f"{said}; {tail}{unit}."


def _verdict(interval: Interval, p_value: float | None) -> Verdict:
    agrees = p_value is not None and p_value < SIGNIFICANT
    return interval.side if agrees else "not shown"


def _reason(i: Interval, p_value: float | None) -> str:
    if i.low is None or i.high is None or p_value is None:
        return f"{i.clusters} scenes are too few, {MIN_CLUSTERS} are the least"
    if i.low == i.high == 0:
        return "no RAW differs"
    if i.side == "not shown":
        return f"the 95 % interval holds 0, {i.clusters} scenes"
    tested = f"Wilcoxon {p_text(p_value)}, {i.clusters} scenes"
    if _verdict(i, p_value) == "not shown":
        side = "above" if i.side == "better" else "below"
        return f"the interval lies {side} 0, but few scenes may have made it: {tested}"
    return f"the 95 % interval lies {'above' if i.side == 'better' else 'below'} 0, {tested}"


def p_text(p: float) -> str:
    """A p value for people: ``p = 0.031`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def compare(differences: Sequence[float] | np.ndarray, clusters: Sequence[Hashable], *, seed: int = 0) -> Comparison:
    """Compare two methods by their paired differences, a figure a RAW, above 0 where the first is better.

    Args:
        differences: one a RAW.
        clusters: the scene of each.
        seed: of the bootstrap.

    Raises:
        ValueError: no values, values that are not finite, or lengths that differ.
    """
    values = np.asarray(differences, dtype=float)
    interval = mean_interval(values, clusters, seed=seed)
    sums, counts = _by_cluster(values[None], clusters)
    p_value = None
    if len(counts) >= MIN_CLUSTERS:
        means = sums[0] / counts
        p_value = _signed_rank_p(means)
    return Comparison(
        **dict(interval),
        verdict=_verdict(interval, p_value),
        reason=_reason(interval, p_value),
        p_value=p_value,
        worse_share=float(np.mean(values < 0)),
        fifth_percentile=float(np.percentile(values, 5)),
    )


def _signed_rank_p(means: np.ndarray) -> float:
    """The two-sided p value of Wilcoxon's signed-rank test; values that are 0 are left out, 1 if all are.

    For a few values with ties or zeros scipy tries every choice of signs one by one, up to a second a test; a
    validation's parts take hundreds of tests, and a part that changes nothing on a RAW is a zero.
    """
    # Its import takes a second, and whoever reads results imports this module.
    from scipy.stats import rankdata, wilcoxon

    moved = means[means != 0]
    if not len(moved):
        return 1.0
    if len(means) > EXACT:
        return float(wilcoxon(means).pvalue)
    ranks = rankdata(np.abs(moved))
    # Ranks are multiples of 1/2, so that their sums are exact.
    sums, found = _signs(len(moved)) @ ranks, ranks[moved > 0].sum()
    return min(2 * float(min(np.mean(sums >= found), np.mean(sums <= found))), 1.0)


@lru_cache(maxsize=EXACT)
def _signs(values: int) -> np.ndarray:
    """Every choice of those that are above 0: ``float64 [2**values, values]`` of 0 and 1, to be read only."""
    chosen = (np.arange(2**values)[:, None] >> np.arange(values) & 1).astype(float)
    chosen.flags.writeable = False
    return chosen


def scene_draws(scenes: Sequence[Hashable], *, seed: int = 0) -> np.ndarray:
    """How often each RAW is drawn, ``float64 [RESAMPLES, R]``: whole scenes with replacement."""
    places = {scene: i for i, scene in enumerate(dict.fromkeys(scenes))}
    index = [places[scene] for scene in scenes]
    return _draws(len(places), RESAMPLES, seed)[:, index]


def interval_of_draws(estimate: float, draws: np.ndarray, scenes: Sequence[Hashable]) -> Interval:
    """The interval of a figure that only a whole set of images has, such as mAP.

    Args:
        estimate: the figure of the RAWs as they are.
        draws: ``[RESAMPLES]``, the figure of each draw of :func:`scene_draws`.
        scenes: of the RAWs.
    """
    clusters, low, high = len(set(scenes)), None, None
    if clusters >= MIN_CLUSTERS and np.isfinite(draws).all():
        low, high = _percentiles(draws, 0.95)
    return Interval(estimate=estimate, low=low, high=high, clusters=clusters, samples=len(scenes))


def compare_draws(estimate: float, draws: np.ndarray, scenes: Sequence[Hashable]) -> Comparison:
    """:func:`compare` for a figure that only a whole set of images has: the interval alone decides."""
    interval = interval_of_draws(estimate, draws, scenes)
    reason = _reason(interval, None if interval.low is None else 0.0).partition(", Wilcoxon")[0]
    return Comparison(**dict(interval), verdict=interval.side, reason=reason)


def _by_cluster(values: np.ndarray, clusters: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Sums ``[K, C]`` and counts ``[C]`` by cluster of values ``[K, n]``."""
    if values.shape[1] != len(clusters):
        raise ValueError(f"{values.shape[1]} values but {len(clusters)} cluster labels")
    if not values.shape[1]:
        raise ValueError("no values to compare")
    if not np.all(np.isfinite(values)):
        raise ValueError("values to compare must be finite")
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(c, len(places)) for c in clusters])
    sums = np.stack([np.bincount(index, weights=row, minlength=len(places)) for row in values])
    return sums, np.bincount(index, minlength=len(places)).astype(float)


@lru_cache(maxsize=2)
def _draws(clusters: int, resamples: int, seed: int) -> np.ndarray:
    """How often each cluster is drawn: ``[resamples, clusters]``, to be read only."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(float)
    drawn.flags.writeable = False
    return drawn


def mean_interval(
    values: Sequence[float] | np.ndarray,
    clusters: Sequence[Hashable],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Mean of values (or of paired differences) with a percentile interval, clusters drawn with replacement.

    Args:
        values: one figure a RAW.
        clusters: the scene of each.
        resamples: number of bootstrap draws.
        seed: of the draws.
        confidence: of the interval.

    Raises:
        ValueError: no values, values that are not finite, or lengths that differ.
    """
    sums, counts = _by_cluster(np.asarray(values, dtype=float)[None], clusters)
    n_clusters, n = len(counts), len(clusters)
    estimate = float(sums.sum() / n)
    if n_clusters < MIN_CLUSTERS:
        return Interval(estimate=estimate, low=None, high=None, clusters=n_clusters, samples=n)
    weights = _draws(n_clusters, resamples, seed)
    low, high = _percentiles((weights @ sums[0]) / (weights @ counts), confidence)
    return Interval(estimate=estimate, low=low, high=high, clusters=n_clusters, samples=n)


def ratio_interval(
    numerator: Sequence[float] | np.ndarray,
    denominator: Sequence[float] | np.ndarray,
    clusters: Sequence[Hashable],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Ratio of two means over the same RAWs, as the gap closed: mean(predicted − fixed) / mean(oracle − fixed).

    Where the denominator is not above 0 there is no gap to close: the estimate is None. Where it is not above 0 in some
    draws, the ratio has no bounds and no interval is given.

    Raises:
        ValueError: no values, values that are not finite, or lengths that differ.
    """
    both = np.stack([np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)])
    sums, counts = _by_cluster(both, clusters)
    n_clusters, n = len(counts), len(clusters)
    top, bottom = sums.sum(axis=1)
    if bottom <= 0:
        return Interval(estimate=None, low=None, high=None, clusters=n_clusters, samples=n)
    estimate = float(top / bottom)
    if n_clusters < MIN_CLUSTERS:
        return Interval(estimate=estimate, low=None, high=None, clusters=n_clusters, samples=n)
    weights = _draws(n_clusters, resamples, seed)
    tops, bottoms = weights @ sums[0], weights @ sums[1]
    if np.any(bottoms <= 0):
        return Interval(estimate=estimate, low=None, high=None, clusters=n_clusters, samples=n)
    low, high = _percentiles(tops / bottoms, confidence)
    return Interval(estimate=estimate, low=low, high=high, clusters=n_clusters, samples=n)


def _percentiles(draws: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)
