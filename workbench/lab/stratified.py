"""A fixed choice of RAWs, spread evenly over ISO and over scenes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from workbench.lab.dataset import RawRecord


def stratified(raws: Sequence[RawRecord], count: int, seed: int, *, taken: Sequence[RawRecord] = ()) -> list[RawRecord]:
    """A fixed choice of ``count`` RAWs spread evenly over ISO and over scenes.

    The RAWs are put in order of ISO and cut into ``count`` equal runs; from each run one is drawn whose scene has been
    used least.

    Args:
        raws: what to choose from; all are returned where there are no more than ``count``.
        count: how many.
        seed: the same seed and RAWs give the same choice.
        taken: RAWs chosen already: they are not chosen again, and their scenes count as used.
    """
    used = Counter(r.scene for r in taken)
    out = {r.hash for r in taken}
    rest = [r for r in raws if r.hash not in out]
    if len(rest) <= count:
        return rest
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rest))
    ranked = sorted(order, key=lambda i: rest[i].iso or 0.0)
    chosen = []
    for run in np.array_split(np.array(ranked), count):
        raw = min((rest[i] for i in run), key=lambda r: used[r.scene])
        used[raw.scene] += 1
        chosen.append(raw)
    return chosen
