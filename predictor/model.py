"""The attention-aware parameter prediction network (section 4.2, figure 2).

Prediction path: the RAW split into red, green and blue planes passes five encoders (3×3 convolution, ReLU, 2×2
max-pool, channels doubling) and a 1×1×N convolution, which gives a map of local predictions g_i(R_j) a parameter.

Multi-attention path: one channel of every encoder (F1..F5) is brought to the size of F3 (max-pool down, interpolation
up), concatenated, down-sampled twice and passed through 3×3 and 1×1×N convolutions, which gives the weights c_i(R_j).

Weighted pooling (equation 6): ``p_i = Σ_j c_i(R_j) g_i(R_j)``. The paper does not say how c is normalised; here it is a
softmax over the regions, so that each map is a distribution, and p_i passes a sigmoid into [0, 1].

On top of a rule (``on_top``) the network learns a difference instead: ``p = clip(start + STEP · p_i, 0, 1)``, where
start is what the rule gives for the very RAW. Its last layers begin at zero, so that the untrained network is the rule.

The variants of the paper's ablations (table 3, figure 5c) are settings of :class:`PredictorConfig`. What section 5.5
leaves open, and how it is filled here:

* ``none``: the prediction path alone. The local predictions are pooled by their mean.
* ``single``: "the same attention map is used for all parameters". The attention path stays as it is, with all levels,
  but its last convolution gives one channel: the variants then differ in nothing but the number of maps.
* ``self``: "combining the prediction path with self-attention". One layer of scaled dot-product attention with
  :data:`HEADS` heads among the regions of the deepest features, added to them (residual), then the mean; no code of
  position (the mean does not know it either), no feed-forward part.
* ``multi`` with fewer or more encoders: one level a encoder, all brought to the size of F3, and halved until they have
  the size of the prediction path's output (three encoders: not at all; six: three times).
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drivers.parameters import MOST_PARAMETERS
from drivers.weights import whole_number
from predictor.moves import STEP

ENCODERS = 5
HEADS = 4
LARGEST = 2.5
"""Deviations that a statistic counts for at most: a RAW unlike all others must not lead far away."""
Attention = Literal["multi", "single", "self", "none"]


@dataclass(frozen=True)
class PredictorConfig:
    """Sizes of the network.

    Attributes:
        parameters: N.
        width: channels of the first encoder; 32 gives the paper's 129.39 GFLOP at 2048×1536 and N = 32.
        metadata: length of the metadata vector, 0 for the paper's image-only form.
        windows: whether three further channels hold windows at full resolution, see :mod:`predictor.view`.
        statistics: length of the vector of the RAW's statistics, which follows the metadata; 0 for none.
        attention_width: channels of the attention path's 3×3 convolution.
        attention: the paper's, or one of its ablations; see this module's docstring.
        encoders: 3 to 6; the paper's network has 5.
        on_top: whether it learns a difference to a start that it is given for each RAW.

    Raises:
        ValueError: an unknown kind of attention, or a size that is out of range.
    """

    parameters: int
    width: int = 32
    metadata: int = 0
    attention_width: int = 32
    attention: Attention = "multi"
    encoders: int = ENCODERS
    on_top: bool = False
    statistics: int = 0
    windows: bool = False

    def __post_init__(self) -> None:
        if self.attention not in get_args(Attention):
            raise ValueError(f"attention {self.attention!r} is not one of {', '.join(get_args(Attention))}")
        whole_number(self.parameters, "the number of parameters", 1, MOST_PARAMETERS)
        whole_number(self.width, "width", 1, 1024)
        whole_number(self.metadata, "the number of metadata", 0, 1024)
        whole_number(self.statistics, "the number of statistics", 0, 1024)
        whole_number(self.attention_width, "attention width", 1, 1024)
        if type(self.encoders) is not int or not 3 <= self.encoders <= 6:
            raise ValueError(f"{self.encoders} encoders; the network has 3 to 6")
        for name in ("on_top", "windows"):
            if type(value := getattr(self, name)) is not bool:
                raise ValueError(f"{name} must be true or false, not {value!r:.40}")

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return 6 if self.windows else 3

    @property
    def told(self) -> int:
        """Length of what is told of a RAW beside its image."""
        return self.metadata + self.statistics

    def to_dict(self) -> dict[str, Any]:
        """The sizes as plain data."""
        return asdict(self)


class Predictor(nn.Module):
    """``P = f_pred(I; W)`` of equation 5, with optional metadata and statistics of the RAW beside the image."""

    statistics_mean: Tensor
    statistics_deviation: Tensor

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        channels = [config.channels] + [config.width * 2**i for i in range(config.encoders)]
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True))
            for a, b in itertools.pairwise(channels)
        )
        self.local = nn.Conv2d(channels[-1], config.parameters, 1)
        if config.attention in ("multi", "single"):
            self.levels = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in channels[1:])
            self.attention = nn.Sequential(
                nn.Conv2d(config.encoders, config.attention_width, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(config.attention_width, config.parameters if config.attention == "multi" else 1, 1),
            )
        elif config.attention == "self":
            self.among_regions = nn.MultiheadAttention(channels[-1], HEADS, batch_first=True)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.constant_(module.bias, 0) if module.bias is not None else None
        nn.init.normal_(self.local.weight, std=0.01)
        if config.statistics:
            self.register_buffer("statistics_mean", torch.zeros(config.statistics))
            self.register_buffer("statistics_deviation", torch.ones(config.statistics))
        if config.told:
            self.metadata = nn.Sequential(nn.Linear(config.told, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
            # Scales and shifts the deepest features, so that what an image says can depend on its metadata.
            self.modulate = nn.Linear(64, 2 * channels[-1])
            self.direct = nn.Linear(64 + config.told, config.parameters)
            for layer in (self.modulate, self.direct):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
        if config.on_top:
            for tensor in [*self.local.parameters(), *(self.direct.parameters() if config.told else ())]:
                nn.init.zeros_(tensor)

    @torch.no_grad()
    def start_at(self, logits: Tensor) -> None:
        """Let the untrained network predict ``logits`` ``[N]`` (before the sigmoid) for every RAW."""
        assert self.local.bias is not None
        self.local.bias.copy_(logits)

    @torch.no_grad()
    def standardise(self, statistics: Tensor) -> None:
        """Let the statistics of the training RAWs ``[R, S]`` have mean 0 and deviation 1 where they enter."""
        self.statistics_mean.copy_(statistics.mean(0))
        deviation = statistics.std(0, correction=0)
        self.statistics_deviation.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    @torch.no_grad()
    def hold(self, held: Tensor, logits: Tensor) -> None:
        """Let the parameters marked in ``held`` (``bool [N]``) be ``logits`` for every RAW, whatever was learned."""
        assert self.local.bias is not None
        self.local.weight[held] = 0
        self.local.bias[held] = logits[held]
        if self.config.told:
            self.direct.weight[held] = 0
            self.direct.bias[held] = 0

    @torch.no_grad()
    def scale(self, factors: Tensor) -> None:
        """Let the network predict ``factors`` ``[N]`` times what it does, before the sigmoid or of the differences."""
        for tensor in [*self.local.parameters(), *(self.direct.parameters() if self.config.told else ())]:
            tensor.mul_(factors.view(-1, *[1] * (tensor.ndim - 1)))

    def forward(self, planes: Tensor, metadata: Tensor | None = None, start: Tensor | None = None) -> Tensor:
        """Predict the parameters.

        Args:
            planes: ``float32 [B, 3, H, W]``, red, green, blue planes of the RAW, black 0 and white 1; H, W at least 32.
                With windows at full resolution ``[B, 6, H, W]``.
            metadata: ``float32 [B, M + S]`` where the network has such inputs: the metadata, then the statistics.
            start: ``float32 [B, N]`` in [0, 1] on top of a rule: what it gives for each RAW.

        Returns:
            ``float32 [B, N]`` in [0, 1].

        Raises:
            ValueError: an input is missing.
        """
        if not self.config.on_top:
            return torch.sigmoid(self.logits(planes, metadata))
        if start is None:
            raise ValueError("this predictor needs what its rule gives for each RAW")
        return clipped(start + STEP * self.logits(planes, metadata))

    def logits(self, planes: Tensor, metadata: Tensor | None = None) -> Tensor:
        """The pooled values before the sigmoid, or on top of a rule the differences over :data:`STEP`: ``[B, N]``."""
        local, weights, direct = self.maps(planes, metadata)
        return (local * weights).sum((2, 3)) + direct

    def maps(self, planes: Tensor, metadata: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | float]:
        """Local predictions g and pooling weights c (equations 7, 8), ``[B, N, h, w]`` both, and the metadata term."""
        features, direct = self._features(planes, metadata)
        deepest = features[-1]
        if self.config.attention == "self":
            deepest = deepest + self._among_regions(deepest)[0]
        local = self.local(deepest)
        if self.config.attention in ("self", "none"):
            return local, torch.full_like(local, 1 / local[0, 0].numel()), direct
        return local, self._path(features, local), direct

    def attention_maps(self, planes: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Where the network looks, to be drawn (figure 6): ``[B, N, h, w]``, each map summing to 1.

        With self-attention the pooling is even, and what is drawn is the attention that a region gets from all regions,
        the same for every parameter; in the other variants it is the pooling weights c.
        """
        if self.config.attention != "self":
            return self.maps(planes, metadata)[1]
        deepest = self._features(planes, metadata)[0][-1]
        got = self._among_regions(deepest)[1].mean(1)
        return got.view(-1, 1, *deepest.shape[2:]).expand(-1, self.config.parameters, -1, -1)

    def _encoded(self, planes: Tensor) -> list[Tensor]:
        """The features of every encoder."""
        # Square root: shot noise gets the same size in bright and dark areas.
        x = 2 * planes.clamp_min(0).sqrt() - 1
        features = []
        for encoder in self.encoders:
            x = encoder(x)
            features.append(x)
        return features

    def _features(self, planes: Tensor, metadata: Tensor | None) -> tuple[list[Tensor], Tensor | float]:
        """The features of every encoder, with metadata also the deepest as they modulate it; and their direct term."""
        features = self._encoded(planes)
        if not self.config.told:
            return features, 0.0
        if metadata is None:
            raise ValueError("this predictor needs metadata")
        if self.config.statistics:
            own, statistics = metadata.split([self.config.metadata, self.config.statistics], 1)
            even = (statistics - self.statistics_mean) / self.statistics_deviation
            metadata = torch.cat([own, even.clamp(-LARGEST, LARGEST)], 1)
        code = self.metadata(metadata)
        scale, shift = self.modulate(code)[:, :, None, None].chunk(2, dim=1)
        direct = self.direct(torch.cat([code, metadata], 1))
        return [*features, features[-1] * (1 + scale) + shift], direct

    def _path(self, features: list[Tensor], local: Tensor) -> Tensor:
        """The attention path's weights, ``[B, N, h, w]``."""
        size = features[2].shape[-2:]
        levels = []
        for i, squeeze in enumerate(self.levels):
            level = squeeze(features[i])
            if i < 2:
                level = F.adaptive_max_pool2d(level, size)
            elif i > 2:
                level = F.interpolate(level, size=size, mode="bilinear", align_corners=False)
            levels.append(level)
        stacked = torch.cat(levels, 1)
        for _ in range(self.config.encoders - 3):
            stacked = F.max_pool2d(stacked, 2, ceil_mode=True)
        scores: Tensor = self.attention(stacked)
        return scores.flatten(2).softmax(2).view_as(scores).expand_as(local)

    def _among_regions(self, deepest: Tensor) -> tuple[Tensor, Tensor]:
        """What self-attention adds to the deepest features ``[B, C, h, w]``, and its weights ``[B, hw, hw]``."""
        regions = deepest.flatten(2).transpose(1, 2)
        told, weights = self.among_regions(regions, regions, regions)
        return told.transpose(1, 2).reshape(deepest.shape), weights


class _Clip(torch.autograd.Function):
    """See :func:`clipped`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        (gradient,) = gradients
        # Descent moves against the gradient.
        further = ((values > 1) & (gradient < 0)) | ((values < 0) & (gradient > 0))
        return gradient.masked_fill(further, 0)


def clipped(values: Tensor) -> Tensor:
    """The values clipped into [0, 1]; the gradient vanishes only where a descent would lead further out."""
    result: Tensor = _Clip.apply(values)  # type: ignore[no-untyped-call]
    return result


def gflop(config: PredictorConfig, height: int, width: int) -> float:
    """Cost of one prediction in 10⁹ floating-point operations (a multiply-add counts as two).

    Args:
        config: the network.
        height: rows of the planes (half the mosaic's); ``width``: columns.
    """
    channels = [config.channels, *(config.width * 2**i for i in range(config.encoders))]
    # Pixels that each encoder sees, and what the last one gives.
    sizes = [(-(-height // 2**i), -(-width // 2**i)) for i in range(config.encoders + 1)]
    areas = [rows * columns for rows, columns in sizes]
    products: int = sum(9 * a * b * area for (a, b), area in zip(itertools.pairwise(channels), areas, strict=False))
    deepest, regions = channels[-1], areas[-1]
    products += deepest * config.parameters * regions
    if config.attention in ("multi", "single"):
        maps = config.parameters if config.attention == "multi" else 1
        products += sum(c * area for c, area in zip(channels[1:], areas[1:], strict=True))
        products += (9 * config.encoders + maps) * config.attention_width * regions
    elif config.attention == "self":
        products += 4 * deepest**2 * regions + 2 * deepest * regions**2
    if told := config.told:
        products += told * 64 + 64 * 64 + 64 * 2 * deepest + (64 + told) * config.parameters
    return 2 * products / 1e9
