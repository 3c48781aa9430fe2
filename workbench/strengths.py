"""Which of a device's parameters figure 5b is about: how strongly noise is reduced, how strongly it sharpens."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from drivers.parameters import Parameter, ParameterSpace

NR_WORDS, SHARPENING_WORDS = ("noise", "denoise", "nr"), ("sharp", "usm", "edge")
_STRENGTH_WORDS = ("strength", "amount", "level", "gain")
_STILL = 1e-3


def strongest(space: ParameterSpace, spreads: np.ndarray, words: Iterable[str]) -> Parameter | None:
    """Of the numbers of the blocks that ``words`` name, the strength that the predictions spread most.

    Args:
        space: the device's parameters.
        spreads: ``float [N]``, how far predictions spread in each.
        words: of the blocks' names, such as :data:`NR_WORDS`.

    Returns:
        The parameter; None where no block is so named.
    """
    own = [
        (spread, p)
        for spread, p in zip(spreads, space.parameters, strict=True)
        if p.kind in ("continuous", "integer") and any(w in p.block.split("_") or p.block.startswith(w) for w in words)
    ]
    # What no prediction moves, such as what the proxy does not follow, would be drawn as one line.
    own = [item for item in own if item[0] > _STILL] or own
    # Thresholds and radii are of the block too, but figure 5b is about how strongly it acts.
    strengths = [item for item in own if any(w in item[1].name.split("_") for w in _STRENGTH_WORDS)]
    return max(strengths or own, key=lambda item: item[0])[1] if own else None
