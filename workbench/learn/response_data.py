"""Training material of a predictor that learns through a response: RAWs as the network sees them, and their codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from drivers.frames import RawFrame
from predictor.files import input_planes
from predictor.raw_features import STATISTICS
from predictor.training import Example
from predictor.view import View
from workbench.console.progress import each
from workbench.lab.dataset import RawRecord

HELD_OUT_BATCH = 32


class Codes:
    """What the response needs of B RAWs: ``codes`` ``[B, C]``, and ``starts`` ``[B, N]``, from where moves count."""

    def __init__(self, codes: Tensor, starts: Tensor) -> None:
        self.codes, self.starts = codes, starts

    def to(self, device: torch.device | str) -> Codes:
        """The same on a torch device."""
        return Codes(self.codes.to(device), self.starts.to(device))


class ResponseData:
    """Examples of RAWs of one split each, with the RAWs' statistics; training examples are mirrored at random.

    Attributes:
        statistics: ``float32 [R, S]`` of the training RAWs; None where they are not told.

    Args:
        training, held_out: RAWs with their :func:`~predictor.raw_features.raw_features` ``[R, F]``, their codes
            ``[R, C]``, the sets that the response's moves are from, ``[R, N]``, and what the rule gives, ``[R, N]``.
        view: what the network sees of a RAW, and whether it is told the statistics.
        metadata: whether it is told the metadata.
    """

    def __init__(
        self,
        training: tuple[Sequence[RawRecord], np.ndarray, Tensor, Tensor, Tensor],
        held_out: tuple[Sequence[RawRecord], np.ndarray, Tensor, Tensor, Tensor],
        *,
        view: View,
        metadata: bool,
    ) -> None:
        self._training = _Items(*training, view, metadata)
        self._held_out = _Items(*held_out, view, metadata)
        self.statistics = self._training.told[:, -STATISTICS:] if view.statistics else None

    def __len__(self) -> int:
        return len(self._training)

    def draw(self, batch: int, generator: torch.Generator) -> list[Example]:
        """A random batch of RAWs of one size."""
        first = int(torch.randint(len(self), (1,), generator=generator))
        bucket = self._training.bucket_of(first)
        places = [bucket[i] for i in torch.randint(len(bucket), (batch,), generator=generator).tolist()]
        example = self._training.example(places)
        for axis in (3, 2):
            if torch.rand(1, generator=generator) < 0.5:
                example.planes = example.planes.flip(axis)
        return [example]

    def held_out(self) -> Iterator[Example]:
        """The validation split, in batches of one size."""
        for bucket in self._held_out.buckets.values():
            for begin in range(0, len(bucket), HELD_OUT_BATCH):
                yield self._held_out.example(bucket[begin : begin + HELD_OUT_BATCH])


class _Items:
    def __init__(
        self,
        raws: Sequence[RawRecord],
        features: np.ndarray,
        codes: Tensor,
        starts: Tensor,
        of_rule: Tensor,
        view: View,
        metadata: bool,
    ) -> None:
        self._codes, self._starts, self._of_rule = codes, starts, of_rule
        # Half precision: thousands of RAWs are kept, and noise hides what it rounds away.
        self._planes: list[Tensor] = []
        statistics, own = np.split(features, [STATISTICS], axis=1)
        told = [part for part, is_told in ((own, metadata), (statistics, view.statistics)) if is_told]
        self.told = torch.from_numpy(np.concatenate([features[:, :0], *told], 1))
        self.buckets: dict[tuple[int, ...], list[int]] = {}
        for place, raw in enumerate(each("read RAWs", raws)):
            frame: RawFrame = raw.load()
            planes = input_planes(frame, view).half()
            self._planes.append(planes)
            self.buckets.setdefault(tuple(planes.shape), []).append(place)

    def __len__(self) -> int:
        return len(self._planes)

    def bucket_of(self, place: int) -> list[int]:
        return self.buckets[tuple(self._planes[place].shape)]

    def example(self, places: Sequence[int]) -> Example:
        planes = torch.stack([self._planes[i] for i in places]).float()
        told = self.told[list(places)]
        codes = Codes(self._codes[list(places)], self._starts[list(places)])
        return Example(planes, told, codes, None, self._of_rule[list(places)])
