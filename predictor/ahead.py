"""Batches that are drawn while the step before them computes, so that a step hardly waits for its data."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from predictor.training import Example, TrainingData


class DrawnAhead:
    """The batches of a training, each drawn in a thread while the one before is used, and no other than drawn in turn.

    One batch more than the one in use lies in memory. Leaving the context waits for a draw that has begun.

    Args:
        data: what is drawn from; while it is drawn from, its held-out examples may be read.
        batch: RAWs a step.
        generator: of the draws; nobody else may use it meanwhile.
        count: of the batches.

    Attributes:
        state: the generator's, after the draw of the batch that was taken last: with it a training goes on.
    """

    def __init__(self, data: TrainingData, batch: int, generator: torch.Generator, count: int) -> None:
        self._data, self._batch, self._generator, self._left = data, batch, generator, count
        self._thread = ThreadPoolExecutor(1, "draw", torch.set_num_threads, (1,))
        self._next: Future[Sequence[Example]] | None = None
        self.state: Tensor = generator.get_state()
        self._begin()

    def __enter__(self) -> DrawnAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def take(self) -> Sequence[Example]:
        """The next batch.

        Raises:
            Exception: what drawing it raised.
        """
        assert self._next is not None, "more batches were asked for than were to be drawn"
        taken = self._next.result()
        self.state = self._generator.get_state()
        self._begin()
        return taken

    def _begin(self) -> None:
        self._next = self._thread.submit(self._data.draw, self._batch, self._generator) if self._left > 0 else None
        self._left -= 1
