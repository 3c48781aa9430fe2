"""A predictor on a GPU: the mosaic travels as it is, two bytes a pixel, and all that the network sees is made there.

The first frame of a size is compiled (``torch.compile``), which takes a minute or so; later ones replay its CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

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
    """Torch finds no GPU, or none that it can compile for."""


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
    def _from_mosaic(self) -> Callable[..., Tensor]:
        seen = _FromMosaic(self.network, self.view, MIRRORS if self.mirrored else MIRRORS[:1])
        return _Replayed(torch.compile(seen, dynamic=False)) if self.compiled else seen

    def _pooled(self, raw: RawFrame) -> Tensor:
        config, view, bayer = self.network.config, self.view, raw.bayer
        order = sorted(range(4), key=lambda place: "RGB".index(bayer.cfa[place]))
        black = np.array(bayer.black_level, dtype=np.float32)[order]
        size = raw.height // 2, raw.width // 2
        factor = view.factor(*size)
        given = (
            bayer.mosaic.view(np.int16),
            np.array(order),
            black,
            np.float32(bayer.white_level) - black,
            told_of(raw, metadata=bool(config.metadata), statistics=bool(config.statistics)),
            *(places(whole, factor, -(-whole // factor)) for whole in size),
        )
        logits: Tensor = self._from_mosaic(*map(self._sent, given))
        return logits.float().cpu()

    def _sent(self, values: np.ndarray) -> Tensor:
        """A copy on the device, by way of page-locked memory, which a GPU reads several times as fast."""
        tensor = torch.from_numpy(values.copy())
        return tensor if self.device.type == "cpu" else tensor.pin_memory().to(self.device, non_blocking=True)


class _Replayed:
    """A module on a GPU, in float16 where that is safe, as CUDA graphs: one for each set of its inputs' sizes.

    Captured by hand, since the frames come from another thread than the one that loaded the network, in which
    ``torch.compile`` itself does not replay its graphs.
    """

    def __init__(self, module: Callable[..., Tensor]) -> None:
        self._module = module
        self._graphs: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}

    def __call__(self, *given: Tensor) -> Tensor:
        """What the module gives."""
        sizes = tuple(tensor.shape for tensor in given)
        if sizes not in self._graphs:
            self._graphs[sizes] = self._captured([tensor.clone() for tensor in given])
        graph, inputs, result = self._graphs[sizes]
        for into, tensor in zip(inputs, given, strict=True):
            into.copy_(tensor)
        graph.replay()
        return result

    def _captured(self, inputs: list[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        # A cache of cast weights would be let go of after the capture, which replays read.
        half = torch.autocast("cuda", torch.float16, cache_enabled=False)
        with torch.no_grad(), half, torch.cuda.stream(stream):
            warmed(self._module, inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), half, torch.cuda.graph(graph):
            result = self._module(*inputs)
        return graph, inputs, result


def warmed(module: Callable[..., Tensor], inputs: list[Tensor]) -> None:
    """Have a compiled module compiled, and its memory and libraries set up.

    Raises:
        NoGpuError: torch cannot compile it here.
    """
    # Its import takes seconds, and it is there where something was compiled.
    from torch._dynamo.exc import TorchDynamoException

    try:
        for _ in range(3):
            module(*inputs)
    except TorchDynamoException as error:
        told = " ".join(str(error).split()[:24]) or type(error).__name__
        raise NoGpuError(
            f"torch cannot compile the network for this GPU ({told:.200}); install a C compiler, such as gcc, or leave "
            "--gpu out"
        ) from error


class _FromMosaic(nn.Module):
    """From a mosaic to the network's logits: what :class:`predictor.view.View` makes on the CPU, in torch."""

    def __init__(self, network: Predictor, view: View, mirrors: tuple[list[int], ...]) -> None:
        super().__init__()
        self.network = network
        self.view = view
        self.mirrors = mirrors

    def forward(
        self,
        mosaic: Tensor,
        order: Tensor,
        black: Tensor,
        span: Tensor,
        told: Tensor,
        rows: Tensor,
        columns: Tensor,
    ) -> Tensor:
        """The logits ``float [N]``.

        Args:
            mosaic: ``int16 [H, W]``, the bits of the uint16 DN.
            order: ``int64 [4]``, the cell's places as red, green, green, blue; ``black``, ``span``: ``float32 [4]``
                in that order, the black level and white less black.
            told: ``float32 [M + S]``, empty where the network is told nothing beside the image.
            rows, columns: ``int64``, where the windows of full resolution lie, see :func:`predictor.view.places`.
        """
        h, w = mosaic.shape[0] // 2, mosaic.shape[1] // 2
        cells = mosaic[: 2 * h, : 2 * w].view(h, 2, w, 2).permute(1, 3, 0, 2).reshape(4, h, w)
        dn = (cells[order].to(torch.int32) & 0xFFFF).float()
        red, green, second, blue = (dn - black[:, None, None]) / span[:, None, None]
        seen = self._seen(torch.stack([red, (green + second) / 2, blue]), rows, columns)
        metadata = told[None] if len(told) else None
        return torch.stack([self.network.logits(seen.flip(axes), metadata)[0] for axes in self.mirrors]).mean(0)

    def _seen(self, planes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        factor = self.view.factor(*planes.shape[1:])
        made = F.avg_pool2d(planes, factor, ceil_mode=True) if factor > 1 else planes
        if self.view.windows:
            made = torch.cat([made, planes[:, rows[:, None], columns]])
        below, right = (max(LEAST - side, 0) for side in made.shape[1:])
        return F.pad(made[None], (0, right, 0, below), mode="replicate").contiguous(memory_format=torch.channels_last)
