"""Training material of the proxy: crops of captures, as tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.kept_arrays import KeptArrays, room
from proxy.model import THUMBNAIL, RawBatch

_COLOUR = {"R": 0, "G": 1, "B": 2}


@dataclass
class CropSet:
    """M crops of captures, all of one size.

    Attributes:
        raw: what the proxy sees.
        parameters: ``float32 [M, N]`` in [0, 1].
        output: ``uint8 [M, 3, h, w]``, the device's output.
        raw_hashes: the RAW that each crop was cut from.
    """

    raw: RawBatch
    parameters: Tensor
    output: Tensor
    raw_hashes: list[str]

    def __len__(self) -> int:
        return len(self.parameters)

    def select(self, index: Tensor) -> CropSet:
        """The crops at those places."""
        return CropSet(
            self.raw[index], self.parameters[index], self.output[index], [self.raw_hashes[i] for i in index.tolist()]
        )

    def draw(self, batch: int, size: int, generator: torch.Generator) -> tuple[RawBatch, Tensor, Tensor]:
        """A random batch of smaller crops, cut at even offsets so that the CFA keeps its phase.

        Returns:
            RAW crops, parameters ``[batch, N]`` and outputs ``float32 [batch, 3, size, size]`` in [0, 1].
        """
        index = torch.randint(len(self), (batch,), generator=generator)
        height, width = self.output.shape[-2:]
        size_y, size_x = min(size, height), min(size, width)
        tops = 2 * torch.randint((height - size_y) // 2 + 1, (batch,), generator=generator)
        lefts = 2 * torch.randint((width - size_x) // 2 + 1, (batch,), generator=generator)
        places = list(zip(index.tolist(), tops.tolist(), lefts.tolist(), strict=True))
        mosaic = torch.stack([self.raw.mosaic[i, :, t : t + size_y, s : s + size_x] for i, t, s in places])
        output = torch.stack([self.output[i, :, t : t + size_y, s : s + size_x] for i, t, s in places])
        raw = RawBatch(mosaic, self.raw.colours[index], self.raw.thumbnail[index], self.raw.matrix[index])
        return raw, self.parameters[index], output.float() / 255


def raw_batch(raw: RawFrame) -> RawBatch:
    """One whole RAW as a batch of 1."""
    return crop_batch(raw, thumbnail_of(raw.planes()))


def thumbnail_of(planes: np.ndarray) -> Tensor:
    """The thumbnail of a :class:`~proxy.model.RawBatch` of one RAW, from its planes ``float32 [3, h, w]``."""
    return F.interpolate(torch.from_numpy(planes)[None], size=(THUMBNAIL, THUMBNAIL), mode="nearest")


def crop_batch(raw: RawFrame, thumbnail: Tensor) -> RawBatch:
    """A RAW, or a crop of one that was cut at even offsets, as a batch of 1.

    Args:
        raw: the crop.
        thumbnail: of the whole RAW, see :func:`thumbnail_of`.
    """
    matrix = np.eye(3) if raw.colour_matrix is None else np.asarray(raw.colour_matrix)
    return RawBatch(
        mosaic=torch.from_numpy(raw.normalised())[None, None],
        colours=torch.tensor([[_COLOUR[c] for c in raw.bayer.cfa]]),
        thumbnail=thumbnail,
        matrix=torch.from_numpy(matrix.astype(np.float32))[None],
    )


def cut(raw: RawFrame, top: int, left: int, height: int, width: int) -> RawFrame:
    """A crop of a RAW at even offsets, a copy: the RAW need not stay in memory for it."""
    return replace(raw, mosaic=raw.mosaic[top : top + height, left : left + width].copy())


def concatenate(batches: list[RawBatch]) -> RawBatch:
    """Several batches of one crop size as one."""
    return RawBatch(
        *(torch.cat([getattr(b, name) for b in batches]) for name in ("mosaic", "colours", "thumbnail", "matrix"))
    )


@dataclass
class _Part:
    """A crop: its pixels, and what of its RAW is the same for all crops of it; ``told`` has no mosaic of its own."""

    mosaic: Callable[[], np.ndarray]
    output: Callable[[], np.ndarray]
    told: RawBatch
    parameters: np.ndarray
    raw_hash: str


class CropBuilder:
    """Collects crops of captures of any size into one :class:`CropSet`.

    Their pixels lie in memory up to a limit, and beyond it in temporary files (:mod:`drivers.kept_arrays`).

    Args:
        size: longest side of a crop; smaller frames are kept whole, larger ones are cut at random even offsets.
        crops_per_capture: crops cut from a frame larger than ``size``.
        seed: seed of the offsets.
    """

    def __init__(self, size: int = 128, crops_per_capture: int = 4, seed: int = 0) -> None:
        self._size = size
        self._crops = crops_per_capture
        self._random = np.random.default_rng(seed)
        # Captures of one RAW come together.
        self._last: tuple[str, RawBatch] | None = None
        self._parts: list[_Part] = []
        self._kept = KeptArrays()

    def add(self, raw: RawFrame, parameters: np.ndarray, output: np.ndarray) -> None:
        """Add one capture: RAW, ``[N]`` in [0, 1], ``uint8 [H, W, 3]``.

        Raises:
            FrameError: the output is not of the RAW's size.
        """
        if output.shape[:2] != (raw.height, raw.width):
            raise FrameError(
                f"RAW {raw.source or raw.hash[:12]}: the device's output is {output.shape[1]}×{output.shape[0]}, "
                f"the RAW {raw.width}×{raw.height}; the proxy needs a device that keeps the size"
            )
        if self._last is None or self._last[0] != raw.hash:
            told = crop_batch(cut(raw.bayer, 0, 0, 2, 2), thumbnail_of(raw.planes()))
            self._last = (raw.hash, told)
        raw_hash, told = self._last
        raw = raw.bayer
        height, width = min(self._size, raw.height), min(self._size, raw.width)
        one = height == raw.height and width == raw.width
        for _ in range(1 if one else self._crops):
            top = 2 * int(self._random.integers((raw.height - height) // 2 + 1))
            left = 2 * int(self._random.integers((raw.width - width) // 2 + 1))
            mosaic = cut(raw, top, left, height, width).normalised()
            seen = output[top : top + height, left : left + width].transpose(2, 0, 1)
            self._parts.append(_Part(self._kept.keep(mosaic), self._kept.keep(seen), told, parameters, raw_hash))

    def build(self) -> CropSet:
        """All crops; frames smaller than the others decide the common size.

        Raises:
            ValueError: nothing was added.
        """
        if not self._parts:
            raise ValueError("no captures to build crops from")
        count = len(self._parts)
        shapes = [p.mosaic().shape for p in self._parts]
        height, width = (min(sides) for sides in zip(*shapes, strict=True))
        mosaic, output = room((count, 1, height, width), np.float32), room((count, 3, height, width), np.uint8)
        for i, part in enumerate(self._parts):
            mosaic[i, 0] = part.mosaic()[:height, :width]
            output[i] = part.output()[:, :height, :width]
        told = concatenate([p.told for p in self._parts])
        return CropSet(
            replace(told, mosaic=torch.from_numpy(mosaic)),
            torch.from_numpy(np.stack([p.parameters for p in self._parts]).astype(np.float32)),
            torch.from_numpy(output),
            [p.raw_hash for p in self._parts],
        )
