"""What a predictor on a GPU makes of a mosaic, on the CPU: the same as where numpy makes the planes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from pretended_gpu import GPU, pretended_gpu
from toy_task import SPACE

from drivers.frames import RawFrame
from predictor.files import LoadedPredictor
from predictor.gpu import GpuPredictor, NoGpuError, on_gpu, warmed
from predictor.metadata import LENGTH
from predictor.model import Predictor, PredictorConfig
from predictor.raw_features import STATISTICS


def a_predictor(longest: int = 2048, *, told: bool = False, mirrored: bool = False) -> LoadedPredictor:
    torch.manual_seed(0)
    config = PredictorConfig(
        len(SPACE), 4, LENGTH if told else 0, windows=told, statistics=STATISTICS if told else 0, encoders=3
    )
    return LoadedPredictor(Predictor(config).eval(), SPACE, longest, "a device", mirrored)


def a_raw(height: int, width: int, cfa: str = "RGGB", dtype_max: int = 65535) -> RawFrame:
    mosaic = np.random.default_rng(height).integers(0, dtype_max, (height, width), dtype=np.uint16)
    return RawFrame(mosaic, cfa, (240, 256, 260, 250), 65535, iso=400.0, exposure_s=0.01, as_shot_wb=(2, 1, 1.5))


def moved_to_torch(loaded: LoadedPredictor) -> GpuPredictor:
    own = {field.name: getattr(loaded, field.name) for field in dataclasses.fields(loaded)}
    return GpuPredictor(**own)


@pytest.mark.parametrize("cfa", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_every_cfa_order(cfa: str) -> None:
    loaded, raw = a_predictor(), a_raw(70, 90, cfa)
    assert torch.allclose(moved_to_torch(loaded)._pooled(raw), loaded._pooled(raw), atol=1e-4)


@pytest.mark.parametrize("size", [(300, 422), (222, 162), (40, 1000)])
def test_averaged_with_windows_statistics_metadata_and_mirror_images(size: tuple[int, int]) -> None:
    loaded, raw = a_predictor(64, told=True, mirrored=True), a_raw(*size)
    assert loaded.view.factor(raw.height // 2, raw.width // 2) > 1
    assert torch.allclose(moved_to_torch(loaded)._pooled(raw), loaded._pooled(raw), atol=1e-4)
    assert moved_to_torch(loaded).predict([raw]) == loaded.predict([raw])


def test_nothing_is_left_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    loaded, raw = a_predictor(64, told=True, mirrored=True), a_raw(300, 422)
    expected = loaded._pooled(raw)
    with pretended_gpu():
        on_cpu = moved_to_torch(loaded)
        on_cpu.network.to(GPU)
        assert torch.allclose(dataclasses.replace(on_cpu, device=GPU)._pooled(raw), expected, atol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_machine_without_a_gpu_is_told() -> None:
    with pytest.raises(NoGpuError, match="no GPU on this machine; leave --gpu out"):
        on_gpu(a_predictor())


def test_what_torch_cannot_compile_is_one_line() -> None:
    def no_compiler(graph: object, inputs: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    compiled = torch.compile(torch.nn.Linear(2, 2), backend=no_compiler)
    with pytest.raises(NoGpuError, match=r"cannot compile .*Failed to find C compiler.*install a C compiler") as found:
        warmed(compiled, [torch.zeros(1, 2)])
    assert "\n" not in str(found.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_on_a_gpu_compiled() -> None:
    loaded, raw = a_predictor(), a_raw(300, 422)
    expected = loaded._pooled(raw)
    gpu = on_gpu(loaded)
    for _ in range(3):  # recorded, then replayed
        assert torch.allclose(gpu._pooled(raw), expected, atol=0.02)
