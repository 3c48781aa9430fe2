"""Training material of the predictor for the viewing task: RAWs of the data set with their references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from drivers.frames import RawFrame
from drivers.kept_arrays import KeptArrays
from predictor.metadata import LENGTH
from predictor.raw_features import told_of
from predictor.training import Example
from predictor.view import View
from proxy.crops import concatenate, crop_batch, cut, thumbnail_of
from proxy.model import RawBatch
from workbench.tasks.task import Starts

HELD_OUT_BATCH = 32
PART_PIXELS = 2**21
"""Pixels of the predictor's inputs that pass it at once: a batch of larger ones goes in parts, in bounded memory."""
WHOLE_SIDE = 256
"""Frames up to this side are kept whole for the proxy; of larger ones :data:`CROPS` crops are kept."""
CROPS = 4
# In powers of two. More variety than this costs dearly: how bright a RAW is, and how its colours lean, says what the
# camera's meter and white balance were looking at, and an example moved further no longer says so.
EXPOSURE_SIGMA = 0.05
BALANCE_SIGMA = 0.03


class ViewingData:
    """Examples of the viewing task: the target is the reference's crop, ``float32 [B, 3, h, w]`` in [0, 1].

    RAWs and references are decoded once, one at a time; what steps need of them is kept, beyond a limit in a temporary
    file (:mod:`drivers.kept_arrays`).

    Training examples are varied as a camera would vary them: mirrored, exposed a little more or less, under a slightly
    different illuminant (the metadata follow, with the error that they had).

    Args:
        training: RAW and reference (``uint8 [H, W, 3]``) of the training split.
        held_out: the same of the validation split.
        crop: side of the crops that the loss is measured on, in pixels.
        vary: whether to vary the training examples.
        seed: seed of the fixed crops of large frames and of the held-out crops.
        view: what the predictor sees, and is told.
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
        view: View = View(),  # noqa: B008 (frozen)
        starts: Starts | None = None,
    ) -> None:
        if starts is not None:
            # What the rule gives is of the RAW as it is: under another light it would be something else.
            self.exposure_sigma = self.balance_sigma = 0.0
        self._starts = starts
        random = np.random.default_rng(seed)
        self._crop, self._vary = crop, vary
        kept = KeptArrays()
        self._training = [_Item(raw, reference, view, random, kept) for raw, reference in training]
        self._held_out = sorted(
            (_Item(raw, reference, view, random, kept) for raw, reference in held_out), key=_Item.size
        )
        self.statistics: Tensor | None = None
        if view.statistics:
            self.statistics = torch.stack([item.metadata[LENGTH:] for item in self._training])
        self._buckets: dict[tuple[int, ...], list[int]] = {}
        for i, item in enumerate(self._training):
            self._buckets.setdefault(item.size(), []).append(i)

    def __len__(self) -> int:
        return len(self._training)

    def draw(self, batch: int, generator: torch.Generator) -> list[Example]:
        """A random batch of RAWs of one size, in parts that pass the predictor in bounded memory."""
        first = int(torch.randint(len(self), (1,), generator=generator))
        item = self._training[first]
        bucket = self._buckets[item.size()]
        chosen = [self._training[bucket[i]] for i in torch.randint(len(bucket), (batch,), generator=generator).tolist()]
        return [self._example(part, generator) for part in _parts(chosen, batch)]

    def _example(self, chosen: Sequence[_Item], generator: torch.Generator) -> Example:
        height, width = chosen[0].height, chosen[0].width
        size_y, size_x = min(self._crop, height), min(self._crop, width)
        places = []
        for one in chosen:
            k = int(torch.randint(len(one.crops), (1,), generator=generator))
            top = 2 * int(torch.randint((height - size_y) // 2 + 1, (1,), generator=generator))
            left = 2 * int(torch.randint((width - size_x) // 2 + 1, (1,), generator=generator))
            places.append((k, top, left))
        raw, target = _cut(chosen, places, size_y, size_x)
        planes = torch.stack([one.planes() for one in chosen])
        metadata = torch.stack([one.metadata for one in chosen])
        if self._vary:
            planes, metadata, raw, target = self._varied(planes, metadata, raw, target, generator)
        return Example(planes, metadata, raw, target, self._start(chosen))

    def _start(self, items: Sequence[_Item]) -> Tensor | None:
        return None if self._starts is None else torch.stack([self._starts[item.hash] for item in items])

    def held_out(self) -> Iterator[Example]:
        """Centre crops of the validation split, in batches of one size."""
        for _, same in groupby(self._held_out, key=_Item.size):
            for batch in _parts(list(same), HELD_OUT_BATCH):
                side = 2 * self._crop
                size_y, size_x = min(side, batch[0].height), min(side, batch[0].width)
                top, left = (batch[0].height - size_y) // 4 * 2, (batch[0].width - size_x) // 4 * 2
                raw, target = _cut(batch, [(0, top, left)] * len(batch), size_y, size_x)
                yield Example(
                    torch.stack([item.planes() for item in batch]),
                    torch.stack([item.metadata for item in batch]),
                    raw,
                    target,
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
    planes = (planes * spread.repeat(1, planes.shape[1] // 3, 1, 1)).clamp(max=1)
    at_positions = factor.gather(1, raw.colours).view(-1, 1, 2, 2)
    tiled = at_positions.repeat(1, 1, raw.mosaic.shape[2] // 2, raw.mosaic.shape[3] // 2)
    raw = RawBatch((raw.mosaic * tiled).clamp(max=1), raw.colours, (raw.thumbnail * spread).clamp(max=1), raw.matrix)
    return planes, metadata, raw


def _parts(items: Sequence[_Item], most: int) -> list[Sequence[_Item]]:
    """Items of one size in parts that pass the predictor at once, each of ``most`` at most."""
    if not items:
        return []
    rows, columns = items[0].seen
    most = min(most, max(PART_PIXELS // (rows * columns), 1))
    return [items[start : start + most] for start in range(0, len(items), most)]


class _Item:
    """One RAW: the predictor's input, and what the proxy and the loss need, whole or as a few crops.

    Attributes:
        seen: rows and columns of the predictor's input; ``metadata``: what it is told.
        height, width: of the crops; ``crops``: give a crop's mosaic ``uint16 [height, width]`` and its reference
            ``uint8 [height, width, 3]``.
    """

    def __init__(
        self, raw: RawFrame, reference: np.ndarray, view: View, random: np.random.Generator, kept: KeptArrays
    ) -> None:
        self.hash = raw.hash
        raw = raw.bayer
        planes = raw.planes()
        seen = view.of(planes)
        self.seen: tuple[int, ...] = seen.shape[1:]
        self._planes = kept.keep(seen)
        self.metadata = torch.from_numpy(told_of(raw, metadata=True, statistics=view.statistics))
        self.height, self.width = min(WHOLE_SIDE, raw.height), min(WHOLE_SIDE, raw.width)
        self.crops = []
        for _ in range(1 if (self.height, self.width) == (raw.height, raw.width) else CROPS):
            top = 2 * int(random.integers((raw.height - self.height) // 2 + 1))
            left = 2 * int(random.integers((raw.width - self.width) // 2 + 1))
            place = slice(top, top + self.height), slice(left, left + self.width)
            self.crops.append((kept.keep(raw.mosaic[place]), kept.keep(reference[place])))
        # What a crop needs beside its pixels; the RAW itself is let go.
        self.told = crop_batch(cut(raw, 0, 0, 2, 2), thumbnail_of(planes))
        self.black = np.array(raw.black_level, dtype=np.float32).reshape(1, 2, 1, 2)
        self.white = raw.white_level

    def planes(self) -> Tensor:
        """The predictor's input, ``float32 [C, *seen]``."""
        return torch.from_numpy(self._planes().copy())

    def size(self) -> tuple[int, ...]:
        """Items of one size can share a batch."""
        return (*self.seen, self.height, self.width)


def _cut(
    items: Sequence[_Item], places: Sequence[tuple[int, int, int]], height: int, width: int
) -> tuple[RawBatch, Tensor]:
    """Smaller crops of crops, one of each item, and of the references, ``float32 [B, 3, height, width]`` in [0, 1].

    ``places``: which of the item's crops, and where in it, at even offsets. All at once: one by one, crops of a few
    thousand pixels cost more than the pixels do.
    """
    mosaics, references = [], []
    for item, (k, top, left) in zip(items, places, strict=True):
        mosaic, reference = item.crops[k]
        place = slice(top, top + height), slice(left, left + width)
        mosaics.append(mosaic()[place])
        references.append(reference()[place])
    black = np.stack([item.black for item in items])
    cells = np.stack(mosaics).reshape(len(items), height // 2, 2, width // 2, 2).astype(np.float32)
    cells -= black
    cells /= np.array([item.white for item in items], dtype=np.float32).reshape(-1, 1, 1, 1, 1) - black
    told = concatenate([item.told for item in items])
    pixels = torch.from_numpy(np.stack(references)).permute(0, 3, 1, 2).contiguous()
    mosaic_planes = torch.from_numpy(cells.reshape(len(items), 1, height, width))
    return replace(told, mosaic=mosaic_planes), pixels.float() / 255
