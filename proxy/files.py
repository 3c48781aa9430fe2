"""A proxy on disk, and a loaded one that renders whole RAWs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.weights import described, load_weights, network_of, save_weights
from proxy.crops import raw_batch
from proxy.model import ProxyConfig
from proxy.networks import Network, network_for
from proxy.training import freeze


@dataclass
class LoadedProxy:
    """A frozen proxy with the parameter space of the device that it imitates."""

    network: Network
    space: ParameterSpace
    device_identity: str

    @torch.no_grad()
    def render(self, raw: RawFrame, parameters: ParameterSet) -> np.ndarray:
        """What the proxy thinks the device would give: ``uint8 [H, W, 3]``, sRGB."""
        unit = torch.from_numpy(parameters.unit.astype(np.float32))[None]
        output = self.network(raw_batch(raw), unit)[0].clamp(0, 1)
        pixels: np.ndarray = (output.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        return pixels


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
