"""The proxy: a network that imitates an ISP, so that gradients reach its parameters (section 4.1, equation 3).

The plain form (a UNet with the parameters tiled as planes, :mod:`proxy.plain`) learns colour and tone slowly, because a
convolution has to rediscover a product of a pixel and a parameter. This form starts from what every ISP does and learns
the rest:

* **base**: gain and offset, two colour matrices and a tone curve for the whole image, all of them functions of the
  parameters that a small network learns; it knows nothing of a particular device;
* **global branch**: the base applied to a thumbnail of the RAW gives the histogram that histogram operations need, so
  that the proxy can be trained on crops;
* **residual**: a UNet at half resolution, conditioned on the parameters by FiLM, adds what depends on neighbours (noise
  reduction, demosaic, sharpening, compression).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drivers.parameters import MOST_PARAMETERS
from drivers.weights import whole_number

THUMBNAIL = 24
HISTOGRAM_BINS = 32
DARK = 3e-5


@dataclass(frozen=True)
class ProxyConfig:
    """Sizes of the network.

    Attributes:
        parameters: N.
        width: channels of the UNet's first level; each lower level has 1.5 times as many.
        levels: levels of the UNet.
        embedding: length of the parameters' embedding.
        form: ``base``, that of this module, or ``plain``, see :mod:`proxy.plain`.

    Raises:
        ValueError: an unknown form, or a size that is out of range.
    """

    parameters: int
    width: int = 32
    levels: int = 3
    embedding: int = 128
    form: Literal["base", "plain"] = "base"

    def __post_init__(self) -> None:
        if self.form not in ("base", "plain"):
            raise ValueError(f"form {self.form!r:.40} is neither base nor plain")
        whole_number(self.parameters, "the number of parameters", 1, MOST_PARAMETERS)
        whole_number(self.width, "width", 1, 1024)
        whole_number(self.levels, "levels", 1, 8)
        whole_number(self.embedding, "the embedding's length", 1, 65536)

    def to_dict(self) -> dict[str, Any]:
        """The sizes as plain data."""
        return asdict(self)


@dataclass
class RawBatch:
    """What the proxy sees of B RAW crops.

    Attributes:
        mosaic: ``float32 [B, 1, h, w]``, black 0 and white 1, h and w multiples of 2, cut at even offsets.
        colours: ``int64 [B, 4]``, colour index (0 red, 1 green, 2 blue) at the four CFA positions in reading order.
        thumbnail: ``float32 [B, 3, THUMBNAIL, THUMBNAIL]``, the whole RAW's planes on an even grid, with noise.
        matrix: ``float32 [B, 3, 3]``, the RAW's colour matrix (identity where it has none).
    """

    mosaic: Tensor
    colours: Tensor
    thumbnail: Tensor
    matrix: Tensor

    def __getitem__(self, index: Any) -> RawBatch:
        return RawBatch(self.mosaic[index], self.colours[index], self.thumbnail[index], self.matrix[index])

    def to(self, device: torch.device | str) -> RawBatch:
        """The batch on another torch device."""
        return RawBatch(*(t.to(device) for t in (self.mosaic, self.colours, self.thumbnail, self.matrix)))

    def mirrored(self, axis: Literal[2, 3]) -> RawBatch:
        """The mirror image, top to bottom (axis 2) or left to right (3), with the colours of its CFA positions."""
        positions = [2, 3, 0, 1] if axis == 2 else [1, 0, 3, 2]
        return RawBatch(self.mosaic.flip(axis), self.colours[:, positions], self.thumbnail.flip(axis), self.matrix)


def demosaic_bilinear(mosaic: Tensor, colours: Tensor) -> Tensor:
    """Bilinear demosaic of any CFA order by normalised convolution.

    Args:
        mosaic: ``[B, 1, h, w]``.
        colours: ``int64 [B, 4]``, see :class:`RawBatch`.

    Returns:
        ``[B, 3, h, w]`` linear RGB.
    """
    _, _, height, width = mosaic.shape
    one_hot = F.one_hot(colours.view(-1, 2, 2), 3).permute(0, 3, 1, 2).to(mosaic.dtype)
    mask = one_hot.repeat(1, 1, height // 2, width // 2)
    # Greens stand on a quincunx: the mean of a green's own pixel and its diagonal neighbours would blur it.
    sparse = mosaic.new_tensor([[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]])
    dense = mosaic.new_tensor([[0.0, 0.25, 0.0], [0.25, 1.0, 0.25], [0.0, 0.25, 0.0]])
    kernel = torch.stack([sparse, dense, sparse])[:, None]
    return F.conv2d(mosaic * mask, kernel, padding=1, groups=3) / F.conv2d(mask, kernel, padding=1, groups=3)


def _soft_clip(x: Tensor, sharpness: float = 80.0) -> Tensor:
    """Clip to [0, 1] with a rounded upper corner, so that a gradient still says which way saturation lies."""
    return (1 - F.softplus(1 - x, beta=sharpness)).clamp_min(0)


def _rows_of_zero(entries: Tensor) -> Tensor:
    """3×3 matrices whose rows sum to 0, from their six entries off the diagonal ``[B, 6]``."""
    a, b, c, d, e, f = entries.unbind(1)
    return torch.stack([-a - b, a, b, c, -c - d, d, e, f, -e - f], 1).view(-1, 3, 3)


def _blur(x: Tensor, size: int = 3) -> Tensor:
    """A smooth blur: two box filters."""
    for _ in range(2):
        x = F.avg_pool2d(x, size, 1, size // 2, count_include_pad=False)
    return x


def _with_detail(linear: Tensor, bands: Tensor) -> Tensor:
    """Noise reduction and sharpening in their simplest form: a gain on the detail of brightness, in two bands.

    Detail is taken where noise is even (the square root of light). Small detail, mostly noise, has one gain, large
    detail, mostly edges, another.

    Args:
        linear: ``[B, 3, h, w]`` in [0, 1].
        bands: ``[B, 6]``, for the fine and the coarse band: gain of small detail, of large detail, log of the border.
    """
    root = (linear + DARK).sqrt()
    luma = (root * root.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    fine_blur = _blur(luma)
    coarse_blur = _blur(fine_blur, 5)
    change = torch.zeros_like(luma)
    for detail, (small, large, border) in (
        (luma - fine_blur, bands[:, :3, None, None, None].unbind(1)),
        (fine_blur - coarse_blur, bands[:, 3:, None, None, None].unbind(1)),
    ):
        energy = detail * detail
        weight = energy / (energy + (0.03 * torch.exp(border)) ** 2)
        change = change + detail * (small + (large - small) * weight)
    return (root + change).clamp(0, 1).square()


class _Base(nn.Module):
    """Colour and tone of the whole image as functions of the parameters."""

    def __init__(self, embedding: int) -> None:
        super().__init__()
        # Colour noise 1, gains 3, offsets 3, colour matrix (how much of the RAW's own, 6 free entries), detail 3 for
        # each of two bands, gamma, contrast, equalisation, display matrix 6 and offset 3. The rows of both matrices sum
        # to 1 and the three channels share one curve: with more freedom, gains, matrices and curves can stand in for
        # each other, and none is learned.
        self.sizes = [1, 3, 3, 1, 6, 6, 1, 1, 1, 6, 3]
        self.head = nn.Linear(embedding, sum(self.sizes))
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.histogram_limit = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor, thumbnail: Tensor, matrix: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        coefficients = self.head(z).split(self.sizes, dim=1)
        linear = self._gained(x, coefficients)
        tone = self._tone(self._bleached(linear, coefficients), matrix, coefficients, detail=True)
        small = self._tone(self._gained(thumbnail, coefficients), matrix, coefficients, detail=False)
        tone = tone + coefficients[8][:, :, None, None] * (self._equalised(tone, small) - tone)
        display = torch.eye(3, device=x.device) + _rows_of_zero(coefficients[9])
        y = torch.einsum("bij,bjhw->bihw", display, tone) + 0.1 * coefficients[10][:, :, None, None]
        return _soft_clip(y), linear

    @staticmethod
    def _gained(x: Tensor, coefficients: tuple[Tensor, ...]) -> Tensor:
        gain, offset = coefficients[1], coefficients[2]
        return _soft_clip((x + 0.1 * offset[:, :, None, None]) * torch.exp(gain)[:, :, None, None])

    @staticmethod
    def _bleached(x: Tensor, coefficients: tuple[Tensor, ...]) -> Tensor:
        """Colour detail reduced, brightness kept.

        Without this the matrices would learn to bleach colours, which is how a pixel alone can reduce colour noise.
        """
        detail = x - _blur(x)
        brightness = (detail * x.new_tensor([0.25, 0.5, 0.25]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        lost = torch.sigmoid(coefficients[0])[:, :, None, None]
        return (x - lost * (detail - brightness)).clamp(0, 1)

    @staticmethod
    def _tone(linear: Tensor, matrix: Tensor, coefficients: tuple[Tensor, ...], detail: bool) -> Tensor:
        own, free, bands, gamma, contrast = coefficients[3:8]
        eye = torch.eye(3, device=linear.device)
        colour = eye + (0.5 + own[:, :, None]) * (matrix - eye) + _rows_of_zero(free)
        linear = _soft_clip(torch.einsum("bij,bjhw->bihw", colour, linear))
        if detail:
            linear = _with_detail(linear, bands)
        exponent = 0.45 * torch.exp(gamma)[:, :, None, None]
        # The small offset bounds the slope at black; taking it off again keeps black black.
        y = (linear + DARK) ** exponent - DARK**exponent
        smooth = y * y * (3 - 2 * y)
        return y + contrast[:, :, None, None] * (smooth - y)

    def _equalised(self, y: Tensor, thumbnail: Tensor) -> Tensor:
        """``y`` after contrast-limited equalisation with the histogram of the thumbnail's luma."""
        weights = y.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        luma = (thumbnail * weights).sum(1).flatten(1)
        edges = torch.linspace(0, 1, HISTOGRAM_BINS + 1, device=y.device)
        below = torch.sigmoid((edges[None, :, None] - luma[:, None, :]) * 4 * HISTOGRAM_BINS).mean(2)
        share = below.diff(dim=1).clamp_min(0)
        share = share / share.sum(1, keepdim=True).clamp_min(1e-6)
        clipped = torch.minimum(share, self.histogram_limit.exp() / HISTOGRAM_BINS)
        clipped = clipped + (1 - clipped.sum(1, keepdim=True)) / HISTOGRAM_BINS
        cumulative = F.pad(clipped.cumsum(1), (1, 0))
        position = y.clamp(0, 1) * HISTOGRAM_BINS
        lower = position.detach().floor().clamp(max=HISTOGRAM_BINS - 1).long()
        index = lower.flatten(1)
        left = cumulative.gather(1, index).view_as(y)
        right = cumulative.gather(1, index + 1).view_as(y)
        return left + (position - lower) * (right - left)


class _Film(nn.Module):
    """Two 3×3 convolutions whose features are scaled and shifted by the parameters' embedding."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * outputs)
        nn.init.normal_(self.film.weight, std=0.02)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        scale, shift = self.film(z)[:, :, None, None].chunk(2, dim=1)
        x = F.leaky_relu(self.first(x) * (1 + scale) + shift, 0.1)
        return F.leaky_relu(self.second(x), 0.1)


class Proxy(nn.Module):
    """``f_PROXY(I, P; W)`` of equation 3."""

    def __init__(self, config: ProxyConfig) -> None:
        super().__init__()
        self.config = config
        statistics = 3 * 5
        self.embed = nn.Sequential(
            nn.Linear(config.parameters + statistics, config.embedding),
            nn.SiLU(),
            nn.Linear(config.embedding, config.embedding),
            nn.SiLU(),
            nn.Linear(config.embedding, config.embedding),
        )
        # A straight path beside the layers: many coefficients are nearly linear in one parameter.
        self.straight = nn.Linear(config.parameters, config.embedding)
        self.base = _Base(config.embedding)
        widths = [int(config.width * 1.5**i) for i in range(config.levels)]
        self.down = nn.ModuleList(
            _Film(24 if i == 0 else widths[i - 1], w, config.embedding) for i, w in enumerate(widths)
        )
        self.up = nn.ModuleList(
            _Film(widths[i] + widths[i - 1], widths[i - 1], config.embedding) for i in range(config.levels - 1, 0, -1)
        )
        self.last = nn.Conv2d(widths[0], 12, 3, padding=1)
        for weight in self.last.parameters():
            nn.init.zeros_(weight)

    def forward(self, raw: RawBatch, parameters: Tensor, residual: bool = True) -> Tensor:
        """Imitate the device.

        Args:
            raw: B crops.
            parameters: ``float32 [B, N]`` in [0, 1].
            residual: False gives the base alone (used to fit it first).

        Returns:
            sRGB ``float32 [B, 3, h, w]``, nominally in [0, 1]; not clipped, so that gradients survive.
        """
        x = demosaic_bilinear(raw.mosaic, raw.colours)
        z = self.embedding(raw, parameters)
        y: Tensor
        y, linear = self.base(x, raw.thumbnail, raw.matrix, z)
        if not residual:
            return y
        features = torch.cat([F.pixel_unshuffle(y, 2), F.pixel_unshuffle(linear.clamp(0, 1.2).add(1e-3).sqrt(), 2)], 1)
        return y + F.pixel_shuffle(self._unet(features, z), 2)

    def embedding(self, raw: RawBatch, parameters: Tensor) -> Tensor:
        """Embedding of parameters and of the RAW's global statistics: ``[B, embedding]``."""
        flat = raw.thumbnail.flatten(2).clamp_min(1e-4).log2()
        statistics = torch.cat(
            [flat.mean(2), flat.std(2), flat.amin(2), flat.amax(2), raw.thumbnail.flatten(2).mean(2)], 1
        )
        centred = 2 * parameters - 1
        code: Tensor = self.embed(torch.cat([centred, 0.2 * statistics], 1)) + self.straight(centred)
        return code

    def _unet(self, x: Tensor, z: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        multiple = 2 ** (self.config.levels - 1)
        x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        skips: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if i else x, z)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), skips.pop()], 1), z)
        residual: Tensor = self.last(x)[:, :, :height, :width]
        return residual
