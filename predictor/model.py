"""The attention-aware parameter prediction network (section 4.2, figure 2).

Prediction path: the RAW split into red, green and blue planes passes five encoders (3×3 convolution, ReLU, 2×2
max-pool, channels doubling) and a 1×1×N convolution, which gives a map of local predictions g_i(R_j) a parameter.

Multi-attention path: one channel of every encoder (F1..F5) is brought to the size of F3 (max-pool down, interpolation
up), concatenated, down-sampled twice and passed through 3×3 and 1×1×N convolutions, which gives the weights c_i(R_j).

Weighted pooling (equation 6): ``p_i = Σ_j c_i(R_j) g_i(R_j)``. The paper does not say how c is normalised; here it is a
softmax over the regions, so that each map is a distribution, and p_i passes a sigmoid into [0, 1].
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ENCODERS = 5


@dataclass(frozen=True)
class PredictorConfig:
    """Sizes of the network.

    Attributes:
        parameters: N.
        width: channels of the first encoder; 32 gives the paper's 129.39 GFLOP at 2048×1536 and N = 32.
        metadata: length of the metadata vector, 0 for the paper's image-only form.
        attention_width: channels of the attention path's 3×3 convolution.
    """

    parameters: int
    width: int = 32
    metadata: int = 0
    attention_width: int = 32

    def to_dict(self) -> dict[str, Any]:
        """The sizes as plain data."""
        return asdict(self)


class Predictor(nn.Module):
    """``P = f_pred(I; W)`` of equation 5, with optional metadata of the RAW beside the image."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        channels = [3] + [config.width * 2**i for i in range(ENCODERS)]
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True))
            for a, b in itertools.pairwise(channels)
        )
        self.local = nn.Conv2d(channels[-1], config.parameters, 1)
        self.levels = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in channels[1:])
        self.attention = nn.Sequential(
            nn.Conv2d(ENCODERS, config.attention_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(config.attention_width, config.parameters, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.constant_(module.bias, 0) if module.bias is not None else None
        nn.init.normal_(self.local.weight, std=0.01)
        if config.metadata:
            self.metadata = nn.Sequential(nn.Linear(config.metadata, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
            # Scales and shifts the deepest features, so that what an image says can depend on its metadata.
            self.modulate = nn.Linear(64, 2 * channels[-1])
            self.direct = nn.Linear(64 + config.metadata, config.parameters)
            for layer in (self.modulate, self.direct):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def start_at(self, logits: Tensor) -> None:
        """Let the untrained network predict ``logits`` ``[N]`` (before the sigmoid) for every RAW."""
        assert self.local.bias is not None
        self.local.bias.copy_(logits)

    @torch.no_grad()
    def hold(self, held: Tensor, logits: Tensor) -> None:
        """Let the parameters marked in ``held`` (``bool [N]``) be ``logits`` for every RAW, whatever was learned."""
        assert self.local.bias is not None
        self.local.weight[held] = 0
        self.local.bias[held] = logits[held]
        if self.config.metadata:
            self.direct.weight[held] = 0
            self.direct.bias[held] = 0

    def forward(self, planes: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Predict the parameters.

        Args:
            planes: ``float32 [B, 3, H, W]``, red, green, blue planes of the RAW, black 0 and white 1; H, W at least 32.
            metadata: ``float32 [B, M]`` where the network has metadata inputs.

        Returns:
            ``float32 [B, N]`` in (0, 1).
        """
        return torch.sigmoid(self.logits(planes, metadata))

    def logits(self, planes: Tensor, metadata: Tensor | None = None) -> Tensor:
        """The pooled values before the sigmoid, ``float32 [B, N]``."""
        local, weights, direct = self.maps(planes, metadata)
        return (local * weights).sum((2, 3)) + direct

    def maps(self, planes: Tensor, metadata: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | float]:
        """Local predictions g and attention c (equations 7, 8), ``[B, N, h, w]`` both, and the metadata term."""
        # Square root: shot noise gets the same size in bright and dark areas.
        x = 2 * planes.clamp_min(0).sqrt() - 1
        features = []
        for encoder in self.encoders:
            x = encoder(x)
            features.append(x)
        direct: Tensor | float = 0.0
        deepest = features[-1]
        if self.config.metadata:
            if metadata is None:
                raise ValueError("this predictor needs metadata")
            code = self.metadata(metadata)
            scale, shift = self.modulate(code)[:, :, None, None].chunk(2, dim=1)
            deepest = deepest * (1 + scale) + shift
            direct = self.direct(torch.cat([code, metadata], 1))
        local = self.local(deepest)
        size = features[2].shape[-2:]
        levels = []
        for i, (feature, squeeze) in enumerate(zip(features, self.levels, strict=True)):
            level = squeeze(feature)
            if i < 2:
                level = F.adaptive_max_pool2d(level, size)
            elif i > 2:
                level = F.interpolate(level, size=size, mode="bilinear", align_corners=False)
            levels.append(level)
        stacked = torch.cat(levels, 1)
        for _ in range(2):
            stacked = F.max_pool2d(stacked, 2, ceil_mode=True)
        scores = self.attention(stacked)
        weights = scores.flatten(2).softmax(2).view_as(scores)
        return local, weights, direct


def gflop(config: PredictorConfig, height: int, width: int) -> float:
    """Cost of one prediction in 10⁹ floating-point operations (a multiply-add counts as two).

    Args:
        config: the network.
        height: rows of the planes (half the mosaic's); ``width``: columns.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = Predictor(config)
        planes = torch.empty(1, 3, height, width)
        metadata = torch.empty(1, config.metadata) if config.metadata else None
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(planes, metadata)
    return counter.get_total_flops() / 1e9
