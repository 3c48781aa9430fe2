"""Training material of the predictor for the viewing task: RAWs of the data set with their references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from drivers.frames import RawFrame
from predictor.files import INPUT_SIDE, input_planes
from predictor.metadata import metadata_vector
from predictor.training import Example
from proxy.crops import concatenate, raw_batch
from proxy.model import RawBatch
from workbench.tasks.task import Starts

HELD_OUT_BATCH = 32
WHOLE_SIDE = 256
"""Frames up to this side are kept whole for the proxy; of larger ones a few crops are kept."""
# In powers of two. More variety than this costs dearly: how bright a RAW is, and how its colours lean, says what the
# camera's meter and white balance were looking at, and an example moved further no longer says so.
EXPOSURE_SIGMA = 0.05
BALANCE_SIGMA = 0.03


class ViewingData:
    """Examples of the viewing task: the target is the reference's crop, ``float32 [B, 3, h, w]`` in [0, 1].

    Training examples are varied as a camera would vary them: mirrored, exposed a little more or less, under a slightly
    different illuminant (the metadata follow, with the error that they had).

    Args:
        training: RAW and reference (``uint8 [H, W, 3]``) of the training split.
        held_out: the same of the validation split.
        crop: side of the crops that the loss is measured on, in pixels.
        vary: whether to vary the training examples.
        seed: seed of the fixed crops of large frames and of the held-out crops.
        starts: on top of a rule: what it gives for each RAW; mirroring is then all that varies.
    """

    exposure_sigma, balance_sigma = EXPOSURE_SIGMA, BALANCE_SIGMA

    def __init__(
        self,
        training: Iterable[tuple[RawFrame, np.ndarray]],
        held_out: Iterable[tuple[RawFrame, np.ndarray]],
        *,
        crop: int = 64,
        vary: bool = True,
        seed: int = 0,
        longest: int = INPUT_SIDE,
        starts: Starts | None = None,
    ) -> None:
        if starts is not None:
            # What the rule gives is of the RAW as it is: under another light it would be something else.
            self.exposure_sigma = self.balance_sigma = 0.0
        self._starts = starts
        random = np.random.default_rng(seed)
        self._crop, self._vary = crop, vary
        self._training = [_Item(raw, reference, longest, random) for raw, reference in training]
        self._held_out = sorted((_Item(raw, reference, longest, random) for raw, reference in held_out), key=_Item.size)
        self._buckets: dict[tuple[int, ...], list[int]] = {}
        for i, item in enumerate(self._training):
            self._buckets.setdefault(item.size(), []).append(i)

    def __len__(self) -> int:
        return len(self._training)

    def draw(self, batch: int, generator: torch.Generator) -> list[Example]:
        """A random batch of RAWs of one size."""
        first = int(torch.randint(len(self), (1,), generator=generator))
        item = self._training[first]
        bucket = self._buckets[item.size()]
        chosen = [self._training[bucket[i]] for i in torch.randint(len(bucket), (batch,), generator=generator).tolist()]
        height, width = item.reference.shape[2:]
        size_y, size_x = min(self._crop, height), min(self._crop, width)
        crops = []
        for one in chosen:
            k = int(torch.randint(one.reference.shape[0], (1,), generator=generator))
            top = 2 * int(torch.randint((height - size_y) // 2 + 1, (1,), generator=generator))
            left = 2 * int(torch.randint((width - size_x) // 2 + 1, (1,), generator=generator))
            crops.append(one.cut(k, top, left, size_y, size_x))
        raw = concatenate([c[0] for c in crops])
        planes = torch.stack([one.planes for one in chosen])
        metadata = torch.stack([one.metadata for one in chosen])
        target = torch.cat([c[1] for c in crops])
        if self._vary:
            planes, metadata, raw, target = self._varied(planes, metadata, raw, target, generator)
        return [Example(planes, metadata, raw, target, self._start(chosen))]

    def _start(self, items: Sequence[_Item]) -> Tensor | None:
        return None if self._starts is None else torch.stack([self._starts[item.hash] for item in items])

    def held_out(self) -> Iterator[Example]:
        """Centre crops of the validation split, in batches of one size."""
        for _, same in groupby(self._held_out, key=_Item.size):
            items = list(same)
            for start in range(0, len(items), HELD_OUT_BATCH):
                batch = items[start : start + HELD_OUT_BATCH]
                cuts = [item.centre(2 * self._crop) for item in batch]
                yield Example(
                    torch.stack([item.planes for item in batch]),
                    torch.stack([item.metadata for item in batch]),
                    concatenate([c[0] for c in cuts]),
                    torch.cat([c[1] for c in cuts]),
                    self._start(batch),
                )

    def _varied(
        self, planes: Tensor, metadata: Tensor, raw: RawBatch, target: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, RawBatch, Tensor]:
        planes, metadata, raw = light_varied(planes, metadata, raw, generator, self.exposure_sigma, self.balance_sigma)
        axes: tuple[Literal[2, 3], ...] = (3, 2)
        for axis in axes:
            if torch.rand(1, generator=generator) < 0.5:
                planes, target, raw = planes.flip(axis), target.flip(axis), raw.mirrored(axis)
        return planes, metadata, raw, target


def light_varied(
    planes: Tensor,
    metadata: Tensor,
    raw: RawBatch,
    generator: torch.Generator,
    exposure_sigma: float = EXPOSURE_SIGMA,
    balance_sigma: float = BALANCE_SIGMA,
) -> tuple[Tensor, Tensor, RawBatch]:
    """Examples exposed a little more or less, under a slightly different illuminant; the metadata follow."""
    batch = len(planes)
    normal = torch.randn(batch, 3, generator=generator)
    exposure = exposure_sigma * normal[:, :1]
    balance = torch.stack([normal[:, 1], torch.zeros(batch), normal[:, 2]], 1) * balance_sigma
    factor = torch.exp2(exposure + balance)
    metadata = metadata.clone()
    metadata[:, 2] += exposure[:, 0] / 5 * metadata[:, 3]
    metadata[:, 4] -= 2 * balance[:, 0] * metadata[:, 6]
    metadata[:, 5] -= 2 * balance[:, 2] * metadata[:, 6]
    spread = factor[:, :, None, None]
    planes = (planes * spread).clamp(max=1)
    at_positions = factor.gather(1, raw.colours).view(-1, 1, 2, 2)
    tiled = at_positions.repeat(1, 1, raw.mosaic.shape[2] // 2, raw.mosaic.shape[3] // 2)
    raw = RawBatch((raw.mosaic * tiled).clamp(max=1), raw.colours, (raw.thumbnail * spread).clamp(max=1), raw.matrix)
    return planes, metadata, raw


class _Item:
    """One RAW: the predictor's input, and what the proxy and the loss need, whole or as a few crops."""

    def __init__(self, raw: RawFrame, reference: np.ndarray, longest: int, random: np.random.Generator) -> None:
        self.hash = raw.hash
        self.planes = input_planes(raw, longest)
        self.metadata = torch.from_numpy(metadata_vector(raw))
        whole = raw_batch(raw)
        pixels = torch.from_numpy(np.ascontiguousarray(reference)).permute(2, 0, 1)
        height, width = min(WHOLE_SIDE, raw.height), min(WHOLE_SIDE, raw.width)
        count = 1 if (height, width) == (raw.height, raw.width) else 4
        mosaics, references = [], []
        for _ in range(count):
            top = 2 * int(random.integers((raw.height - height) // 2 + 1))
            left = 2 * int(random.integers((raw.width - width) // 2 + 1))
            mosaics.append(whole.mosaic[0, :, top : top + height, left : left + width].clone())
            references.append(pixels[:, top : top + height, left : left + width].clone())
        self.mosaic, self.reference = torch.stack(mosaics), torch.stack(references)
        self.colours, self.matrix = whole.colours, whole.matrix
        self.thumbnail = whole.thumbnail

    def size(self) -> tuple[int, ...]:
        """Items of one size can share a batch."""
        return (*self.planes.shape[1:], *self.reference.shape[2:])

    def centre(self, side: int) -> tuple[RawBatch, Tensor]:
        height, width = self.reference.shape[2:]
        size_y, size_x = min(side, height), min(side, width)
        return self.cut(0, (height - size_y) // 4 * 2, (width - size_x) // 4 * 2, size_y, size_x)

    def cut(self, k: int, top: int, left: int, height: int, width: int) -> tuple[RawBatch, Tensor]:
        window = (slice(k, k + 1), slice(None), slice(top, top + height), slice(left, left + width))
        raw = RawBatch(self.mosaic[window], self.colours, self.thumbnail, self.matrix)
        return raw, self.reference[window].float() / 255
