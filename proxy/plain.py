"""The plain proxy of the recipe ``paper``: a UNet that takes the parameters as planes beside the RAW (section 4.1).

The paper takes its proxy from Tseng et al. 2019 and says no more of it than that it is fully convolutional and takes
the RAW and the parameters. Here: the colour planes of the CFA at half resolution, square-rooted, and one even plane
a parameter; levels of two 3×3 convolutions; four output pixels a CFA cell. Nothing in it knows what an ISP does: it is
what the other form is measured against.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxy.model import ProxyConfig, RawBatch

_SLOPE = 0.1


class _Block(nn.Sequential):
    """Two 3×3 convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.LeakyReLU(_SLOPE),
        )


class PlainProxy(nn.Module):
    """``f_PROXY(I, P; W)`` of equation 3 with no part of its own for colour and tone."""

    def __init__(self, config: ProxyConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * 2**i for i in range(config.levels)]
        inputs = [4 + config.parameters, *widths[:-1]]
        self.down = nn.ModuleList(_Block(a, b) for a, b in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(_Block(widths[i] + widths[i - 1], widths[i - 1]) for i in range(len(widths) - 1, 0, -1))
        self.last = nn.Conv2d(widths[0], 12, 1)

    def forward(self, raw: RawBatch, parameters: Tensor, residual: bool = True) -> Tensor:
        """Imitate the device.

        Args:
            raw: B crops.
            parameters: ``float32 [B, N]`` in [0, 1].
            residual: it has no cheaper part: the whole is rendered either way.

        Returns:
            sRGB ``float32 [B, 3, h, w]``, nominally in [0, 1]; not clipped, so that gradients survive.
        """
        cells = F.pixel_unshuffle(raw.mosaic, 2)
        # Red, the two greens, blue, whatever the CFA's order.
        order = raw.colours.argsort(dim=1, stable=True)[:, :, None, None].expand_as(cells)
        planes = 2 * cells.gather(1, order).clamp_min(0).sqrt() - 1
        told = (2 * parameters - 1)[:, :, None, None].expand(-1, -1, *planes.shape[2:])
        x = torch.cat([planes, told], 1)
        height, width = x.shape[-2:]
        multiple = 2 ** (self.config.levels - 1)
        x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        skips: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), skips.pop()], 1))
        return F.pixel_shuffle(self.last(x)[:, :, :height, :width], 2)
