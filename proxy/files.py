"""A proxy on disk, and a loaded one that renders whole RAWs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.weights import described, load_weights, network_of, save_weights
from proxy.crops import crop_batch, cut, thumbnail_of
from proxy.model import ProxyConfig
from proxy.networks import Network, network_for
from proxy.training import freeze

TILE, MARGIN = 1024, 128
"""Side of what is rendered at a time, in pixels, and what is seen around it and dropped: further off the proxy sees the
RAW's thumbnail alone. A frame of 12 megapixels at once would take some 3 GB."""


@dataclass
class LoadedProxy:
    """A frozen proxy with the parameter space of the device that it imitates."""

    network: Network
    space: ParameterSpace
    device_identity: str

    def render(self, raw: RawFrame, parameters: ParameterSet) -> np.ndarray:
        """What the proxy thinks the device would give: ``uint8 [H, W, 3]``, sRGB."""
        thumbnail = thumbnail_of(raw.planes())
        pixels = np.empty((raw.height, raw.width, 3), np.uint8)
        for top in range(0, raw.height, TILE):
            for left in range(0, raw.width, TILE):
                tile = self._tile(raw, thumbnail, parameters, top, left)
                pixels[top : top + TILE, left : left + TILE] = tile
        return pixels

    def render_centre(self, raw: RawFrame, parameters: ParameterSet) -> np.ndarray:
        """The part of that in :func:`centre`, which costs the same for a RAW of any size."""
        rows, columns = centre(raw.height, raw.width)
        return self._tile(raw, thumbnail_of(raw.planes()), parameters, rows.start, columns.start)

    @torch.no_grad()
    def _tile(self, raw: RawFrame, thumbnail: Tensor, parameters: ParameterSet, top: int, left: int) -> np.ndarray:
        """Up to ``TILE`` rows and columns of the picture from an even place on."""
        unit = torch.from_numpy(parameters.unit.astype(np.float32))[None]
        y, x = max(top - MARGIN, 0), max(left - MARGIN, 0)
        part = cut(raw, y, x, top + TILE + MARGIN - y, left + TILE + MARGIN - x)
        output = self.network(crop_batch(part, thumbnail), unit)[0, :, top - y :, left - x :][:, :TILE, :TILE]
        made: np.ndarray = (output.clamp(0, 1).permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        return made


def centre(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the middle of a frame, at even places, at most ``TILE`` of each: all of a smaller one."""
    top, left = (max(side - TILE, 0) // 4 * 2 for side in (height, width))
    return slice(top, top + TILE), slice(left, left + TILE)


def save_proxy(folder: Path, network: Network, space: ParameterSpace, device_identity: str) -> Path:
    """Write the proxy into a run's folder."""
    description = {"config": network.config.to_dict(), "space": space.to_dict(), "device": device_identity}
    return save_weights(folder, "proxy", network.state_dict(), description)


def load_proxy(folder: Path) -> LoadedProxy:
    """The proxy of a run's folder, frozen.

    Raises:
        WeightsError: missing, damaged, or not a proxy.
    """
    tensors, description = load_weights(folder, "proxy")
    with described(folder, "proxy", "fit-proxy"):
        config = ProxyConfig(**description["config"])
        space = ParameterSpace.from_dict(description["space"])
        if config.parameters != len(space):
            raise ValueError(f"it takes {config.parameters} parameters, its device has {len(space)}")
        identity = str(description["device"])
        network = network_of(lambda: network_for(config), tensors)
    return LoadedProxy(freeze(network), space, identity)
