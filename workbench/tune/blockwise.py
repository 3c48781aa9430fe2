"""One block of the device after another, in the order of its parameters, with CMA-ES in each.

It is what an engineer does who tunes a pipeline stage by stage: no block is visited again once the next one has begun.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drivers.parameters import ParameterSet
from workbench.tune.proposals import CmaEsProposer, Values

_IDLE_BATCHES = 5


class BlockwiseProposer:
    """CMA-ES in one block at a time, from the best set so far; the trials are shared by the number of parameters.

    What is left of the trials where a block ran out of sets goes to the blocks after it; should all of them run out,
    they are gone through again.
    """

    def __init__(self, start: ParameterSet, free: Sequence[str], seed: int, trials: int, sigma: float) -> None:
        self._best, self._best_value = start, -np.inf
        blocks = [[n for n in names if n in set(free)] for names in start.space.blocks.values()]
        self._blocks = [names for names in blocks if names]
        self._seed, self._sigma, self._trials = seed, sigma, trials
        self._seen: set[str] = set()
        self._index, self._left, self._idle, self._rounds, self._cut = -1, 0, 0, 0, False
        self._inner: CmaEsProposer | None = None

    def _next_block(self) -> CmaEsProposer:
        self._index += 1
        if self._index == len(self._blocks):
            self._index, self._rounds = 0, self._rounds + 1
        names = self._blocks[self._index]
        to_come = sum(len(b) for b in self._blocks[self._index :])
        left = max(self._trials - len(self._seen), 1)
        self._left, self._idle = max(round(left * len(names) / to_come), 1), 0
        inner = CmaEsProposer(self._best, names, self._seed + 100 * self._index + self._rounds, self._sigma)
        inner.tell([self._best], [(self._best_value,)])
        return inner

    def ask(self) -> list[ParameterSet]:
        """One population of the search in the block, as much of it as the block's share allows."""
        if self._inner is None:
            self._inner = self._next_block()
        population = self._inner.ask()
        self._cut = len(population) > self._left
        return population[: self._left]

    def tell(self, batch: Sequence[ParameterSet], values: Sequence[Values]) -> None:
        """The values of the population."""
        new = {p.hash for p in batch} - self._seen
        self._seen |= new
        for parameters, (value, *_) in zip(batch, values, strict=True):
            if value > self._best_value:
                self._best, self._best_value = parameters, value
        if self._inner is None:
            return
        self._left -= len(new)
        self._idle = 0 if new else self._idle + 1
        if self._cut or self._left <= 0 or self._idle >= _IDLE_BATCHES:
            self._inner = None
        else:
            self._inner.tell(batch, values)

    @property
    def centre(self) -> None:
        """The blocks have no centre together."""
        return None
