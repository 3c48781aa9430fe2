"""A proxy renders a large RAW tile by tile, and gives what it gives of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drivers.frames import RawFrame
from drivers.registry import open_device
from proxy import files
from proxy.files import LoadedProxy
from proxy.model import ProxyConfig
from proxy.networks import network_for


@pytest.mark.parametrize("form", ["base", "plain"])
def test_tiles_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    with open_device("sim:sim20") as device:
        space = device.info().space
    mosaic = np.random.default_rng(0).integers(64, 4000, (60, 420), dtype=np.uint16)
    raw = RawFrame(mosaic, "RGGB", (64.0,) * 4, 4095)
    torch.manual_seed(0)
    network = network_for(ProxyConfig(len(space), 8, form=form)).eval()  # type: ignore[arg-type]
    for weight in network.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.05)
    proxy = LoadedProxy(network, space, "isp")
    whole = proxy.render(raw, space.defaults)
    monkeypatch.setattr(files, "TILE", 40)
    differences = np.abs(proxy.render(raw, space.defaults).astype(int) - whole)
    assert differences.max() <= 1  # a rounding here and there: sums have another order
    assert (differences > 0).mean() < 0.001
    middle = proxy.render_centre(raw, space.defaults).astype(int)
    assert files.centre(60, 420) == (slice(10, 50), slice(190, 230))
    assert middle.shape == (40, 40, 3)
    assert np.abs(middle - whole[files.centre(60, 420)]).max() <= 1
    assert whole.shape == (60, 420, 3)
    assert whole.std() > 1
