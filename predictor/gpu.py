"""A predictor on a GPU: the mosaic travels as it is, two bytes a pixel, and all that the network sees is made there.

The first frame of a size is compiled (``torch.compile``), which takes a minute or so; later ones replay its CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drivers.errors import WorkbenchError
from drivers.frames import RawFrame
from predictor.files import LoadedPredictor
from predictor.model import Predictor
from predictor.moves import MIRRORS
from predictor.raw_features import told_of
from predictor.view import LEAST, View, places


class NoGpuError(WorkbenchError):
    """Torch finds no GPU."""


def on_gpu(loaded: LoadedPredictor) -> GpuPredictor:
    """The predictor on this machine's GPU, in float16 where that is safe.

    Raises:
        NoGpuError: torch finds none.
    """
    if not torch.cuda.is_available():
        raise NoGpuError("torch finds no GPU on this machine; leave --gpu out")
    return GpuPredictor(
        loaded.network.cuda().to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        loaded.space,
        loaded.longest,
        loaded.device_identity,
        loaded.mirrored,
        device=torch.device("cuda"),
        compiled=True,
    )


@dataclass
class GpuPredictor(LoadedPredictor):
    """See :class:`predictor.files.LoadedPredictor`; ``compiled``: by ``torch.compile``, with CUDA graphs."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    compiled: bool = False

    @cached_property
    def _from_mosaic(self) -> Any:
        seen = _FromMosaic(self.network, self.view, MIRRORS if self.mirrored else MIRRORS[:1])
        return torch.compile(seen, mode="reduce-overhead", dynamic=False) if self.compiled else seen

    def _pooled(self, raw: RawFrame) -> Tensor:
        config, bayer = self.network.config, raw.bayer
        order = sorted(range(4), key=lambda place: "RGB".index(bayer.cfa[place]))
        black = np.array(bayer.black_level, dtype=np.float32)[order]
        told = told_of(raw, metadata=bool(config.metadata), statistics=bool(config.statistics))
        given = (bayer.mosaic.view(np.int16), np.array(order), black, np.float32(bayer.white_level) - black, told)
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            logits: Tensor = self._from_mosaic(*map(self._sent, given))
        return logits.float().cpu()

    def _sent(self, values: np.ndarray) -> Tensor:
        """A copy on the device, by way of page-locked memory, which a GPU reads several times as fast."""
        tensor = torch.from_numpy(values.copy())
        return tensor if self.device.type == "cpu" else tensor.pin_memory().to(self.device, non_blocking=True)


class _FromMosaic(nn.Module):
    """From a mosaic to the network's logits: what :class:`predictor.view.View` makes on the CPU, in torch."""

    def __init__(self, network: Predictor, view: View, mirrors: tuple[list[int], ...]) -> None:
        super().__init__()
        self.network = network
        self.view = view
        self.mirrors = mirrors

    def forward(self, mosaic: Tensor, order: Tensor, black: Tensor, span: Tensor, told: Tensor) -> Tensor:
        """The logits ``float [N]``.

        Args:
            mosaic: ``int16 [H, W]``, the bits of the uint16 DN.
            order: ``int64 [4]``, the cell's places as red, green, green, blue; ``black``, ``span``: ``float32 [4]``
                in that order, the black level and white less black.
            told: ``float32 [M + S]``, empty where the network is told nothing beside the image.
        """
        h, w = mosaic.shape[0] // 2, mosaic.shape[1] // 2
        cells = mosaic[: 2 * h, : 2 * w].view(h, 2, w, 2).permute(1, 3, 0, 2).reshape(4, h, w)
        dn = (cells[order].to(torch.int32) & 0xFFFF).float()
        red, green, second, blue = (dn - black[:, None, None]) / span[:, None, None]
        seen = self._seen(torch.stack([red, (green + second) / 2, blue]))
        metadata = told[None] if len(told) else None
        return torch.stack([self.network.logits(seen.flip(axes), metadata)[0] for axes in self.mirrors]).mean(0)

    def _seen(self, planes: Tensor) -> Tensor:
        size = planes.shape[1:]
        factor = self.view.factor(*size)
        made = F.avg_pool2d(planes, factor, ceil_mode=True) if factor > 1 else planes
        if self.view.windows:
            rows, columns = (
                torch.from_numpy(places(whole, factor, count)).to(planes.device)
                for whole, count in zip(size, made.shape[1:], strict=True)
            )
            made = torch.cat([made, planes[:, rows[:, None], columns]])
        below, right = (max(LEAST - side, 0) for side in made.shape[1:])
        return F.pad(made[None], (0, right, 0, below), mode="replicate").contiguous(memory_format=torch.channels_last)
