from __future__ import annotations

import errno
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gain_gamma import SPACE, captures, raw_of, render, scene

from drivers.errors import WorkbenchError
from drivers.weights import FILE_NAME, WeightsError, save_weights
from proxy.crops import CropBuilder, CropSet
from proxy.files import load_proxy, save_proxy
from proxy.model import Proxy, ProxyConfig
from proxy.networks import Network
from proxy.plain import PlainProxy
from proxy.training import ProxyRecipe, ProxyStep, fit, imitate, log_mse, psnr

QUICK = ProxyRecipe(base_steps=3, steps=2, batch=4, crop=16, width=8)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def quality(network: Network) -> float:
    """Mean PSNR over scenes and parameter sets that the fit never saw."""
    held_out = captures(range(100, 108), 6, seed=9)
    return float(psnr(imitate(network, held_out), held_out.output.float() / 255).mean())


def one_crop(rgb: np.ndarray, unit: np.ndarray) -> CropSet:
    builder = CropBuilder()
    builder.add(raw_of(rgb), unit, np.zeros(rgb.shape, np.uint8))
    return builder.build()


def test_a_fit_learns_the_device() -> None:
    crops = captures(range(16), 8)
    recipe = ProxyRecipe(base_steps=20, steps=5, batch=8, crop=16, width=8)
    before = quality(fit(crops, replace(recipe, base_steps=0, steps=0)))
    network = fit(crops, recipe)
    assert quality(network) > before + 5
    # It moves with the gain as the device does: twice the light, a brighter picture.
    rgb = scene(200)
    low, high = (SPACE.parse({"gain": g, "gamma": 0.8, "red_blue": "keep"}) for g in (0.5, 1.0))
    dim, bright = (imitate(network, one_crop(rgb, p.unit)).mean() for p in (low, high))
    truth = (render(rgb, high).mean() - render(rgb, low).mean()) / 255
    assert 0.5 * truth < bright - dim < 1.5 * truth


def test_the_papers_plain_network_learns_the_device_and_comes_back_from_its_file(tmp_path: Path) -> None:
    crops = captures(range(16), 8)
    recipe = ProxyRecipe("paper", base_steps=0, steps=60, batch=8, crop=16, width=8, learning_rate=1e-2)
    before = quality(fit(crops, replace(recipe, steps=0)))
    network = fit(crops, recipe)
    assert isinstance(network, PlainProxy)
    assert quality(network) > before + 5
    save_proxy(tmp_path, network, SPACE, "d")
    again = load_proxy(tmp_path).network
    assert isinstance(again, PlainProxy)
    assert same(again, network)


def test_the_plain_network_sees_colours_and_not_the_order_of_the_cfa() -> None:
    network = PlainProxy(ProxyConfig(len(SPACE), 4, form="plain"))
    crops = captures(range(2), 1)
    one, colours = crops.raw[slice(0, 1)], crops.raw.colours[:1]
    shifted = one.mosaic.view(1, 1, -1, 2, one.mosaic.shape[3]).flip(3).view_as(one.mosaic)
    other = replace(one, mosaic=shifted, colours=colours[:, [2, 3, 0, 1]])
    assert not torch.equal(one.mosaic, other.mosaic)
    seen = [network(raw, torch.full((1, len(SPACE)), 0.5)) for raw in (one, other)]
    # Only the two greens have changed places.
    greens = replace(one, mosaic=one.mosaic.clone())
    cells = greens.mosaic.view(1, 1, one.mosaic.shape[2] // 2, 2, one.mosaic.shape[3] // 2, 2)
    a, b = [divmod(int(k), 2) for k in (colours[0] == 1).nonzero().flatten()]
    cells[:, :, :, a[0], :, a[1]], cells[:, :, :, b[0], :, b[1]] = (
        cells[:, :, :, b[0], :, b[1]].clone(),
        cells[:, :, :, a[0], :, a[1]].clone(),
    )
    assert torch.equal(seen[1], network(greens, torch.full((1, len(SPACE)), 0.5)))


def test_seeds_repeat_exactly() -> None:
    crops = captures(range(4), 3)
    first, again, other = (fit(crops, replace(QUICK, seed=s)) for s in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)


def test_every_step_is_reported_and_the_network_is_frozen() -> None:
    steps: list[ProxyStep] = []
    network = fit(captures(range(4), 3), QUICK, on_step=steps.append)
    assert [s.step for s in steps] == [1, 2, 3, 4, 5]
    assert [s.phase for s in steps] == ["base"] * 3 + ["whole"] * 2
    assert {s.steps for s in steps} == {5}
    assert all(np.isfinite(s.loss) for s in steps)
    assert not network.training
    assert not any(w.requires_grad for w in network.parameters())


@pytest.mark.parametrize(("base_steps", "steps"), [(1, 0), (0, 1), (1, 1)])
def test_the_shortest_fits(base_steps: int, steps: int) -> None:
    network = fit(captures(range(2), 2), replace(QUICK, base_steps=base_steps, steps=steps))
    assert all(torch.isfinite(w).all() for w in network.parameters())


def test_evaluate_is_called_in_the_second_phase() -> None:
    seen: list[bool] = []
    fit(
        captures(range(2), 2),
        replace(QUICK, steps=5),
        evaluate=lambda network: seen.append(network.training),
        evaluate_every=2,
    )
    assert seen == [False, False]


def test_psnr_and_loss() -> None:
    a = torch.zeros(2, 3, 4, 4)
    b = a.clone()
    b[1] += 10 / 255
    values = psnr(b, a)
    assert values[1] == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)
    assert values[0] > 70
    assert log_mse(b, a) == pytest.approx(np.mean(np.log([1e-4, (10 / 255) ** 2 + 1e-4])), abs=1e-4)


def test_imitate_in_batches_is_the_same() -> None:
    crops = captures(range(3), 3)
    network = fit(crops, QUICK)
    torch.testing.assert_close(imitate(network, crops, batch=2), imitate(network, crops), rtol=1e-4, atol=1e-5)
    assert imitate(network, crops).min() >= 0
    assert imitate(network, crops).max() <= 1


def test_save_and_load(tmp_path: Path) -> None:
    network = fit(captures(range(3), 3), QUICK)
    path = save_proxy(tmp_path, network, SPACE, "model/1/abc")
    assert [p.name for p in tmp_path.iterdir()] == [path.name] == [FILE_NAME]
    loaded = load_proxy(tmp_path)
    assert same(loaded.network, network)
    assert (loaded.space, loaded.device_identity) == (SPACE, "model/1/abc")
    assert not any(w.requires_grad for w in loaded.network.parameters())
    image = loaded.render(raw_of(scene(5, 20, 26), "GBRG"), SPACE.defaults)
    assert (image.shape, image.dtype) == ((20, 26, 3), np.dtype(np.uint8))


def broken(folder: Path) -> str:
    with pytest.raises(WorkbenchError) as error:
        load_proxy(folder)
    text = str(error.value)
    assert "\n" not in text
    assert str(folder) in text
    return text


def test_no_weights_file(tmp_path: Path) -> None:
    assert "no such file" in broken(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "noise", "pickle", "cut", "flipped header"])
def test_a_damaged_file(tmp_path: Path, damage: str) -> None:
    path = save_proxy(tmp_path, Proxy(ProxyConfig(3, 8)), SPACE, "d")
    whole = path.read_bytes()
    content = {
        "empty": b"",
        "noise": bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)),
        "pickle": pickle.dumps({"a": 1}),
        "cut": whole[: len(whole) // 2],
        "flipped header": whole[:9] + b"\xff" + whole[10:],
    }[damage]
    path.write_bytes(content)
    assert "not a weights file" in broken(tmp_path)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (marker,))

    torch.save({"x": Payload()}, tmp_path / FILE_NAME)
    broken(tmp_path)
    assert not marker.exists()


def test_weights_of_another_kind(tmp_path: Path) -> None:
    save_weights(tmp_path, "predictor", {"x": torch.zeros(1)}, {})
    assert "holds a predictor, not a proxy" in broken(tmp_path)


@pytest.mark.parametrize("change", ["config", "space", "device", "width", "levels", "unknown", "all"])
def test_a_description_that_does_not_fit(tmp_path: Path, change: str) -> None:
    network = Proxy(ProxyConfig(3, 8))
    config = network.config.to_dict()
    description = {"config": config, "space": SPACE.to_dict(), "device": "d"}
    if change == "all":
        description = []  # type: ignore[assignment]
    elif change == "width":
        config["width"] = 16
    elif change == "levels":
        config["levels"] = 0
    elif change == "unknown":
        config["depth"] = 4
    else:
        del description[change]
    save_weights(tmp_path, "proxy", network.state_dict(), description)
    with pytest.raises(WeightsError, match="do not fit their description"):
        load_proxy(tmp_path)


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = save_weights(tmp_path, "proxy", {"x": torch.zeros(1)}, {}).read_bytes()

    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(WeightsError, match="No space left"):
        save_weights(tmp_path, "proxy", {"x": torch.ones(1)}, {})
    assert (tmp_path / FILE_NAME).read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1
