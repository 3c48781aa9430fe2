from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from sim_lab import picture

from drivers.cfa import CFA_PATTERNS, CfaPattern
from drivers.frames import RawFrame
from drivers.kept_arrays import KeptArrays
from predictor.files import input_planes
from predictor.metadata import metadata_vector
from predictor.raw_features import raw_statistics
from predictor.training import Example
from predictor.view import View
from proxy.crops import raw_batch
from proxy.model import demosaic_bilinear
from workbench.tasks import viewing_data
from workbench.tasks.viewing_data import WHOLE_SIDE, ViewingData


class Flipped(ViewingData):
    exposure_sigma = balance_sigma = 0.0


def place_pair(height: int, width: int, cfa: CfaPattern = "RGGB") -> tuple[RawFrame, np.ndarray]:
    """A dark RAW and a reference that tell their own place."""
    rows, columns = np.mgrid[:height, :width]
    raw = RawFrame(
        (rows * 10 + columns).astype(np.uint16), cfa, (0,) * 4, 65535, exposure_s=0.02, as_shot_wb=(2.0, 1.0, 1.5)
    )
    return raw, np.stack([rows % 256, columns % 256, (rows // 256) * 16 + columns // 256], 2).astype(np.uint8)


def draws(data: ViewingData, count: int, batch: int = 2) -> list[Example]:
    generator = torch.Generator().manual_seed(0)
    return [data.draw(batch, generator)[0] for _ in range(count)]


def test_shapes() -> None:
    data = ViewingData([picture(i) for i in range(3)], [picture(9)], crop=24)
    (example,) = draws(data, 1, batch=5)
    assert len(data) == 3
    assert example.planes.shape == (5, 3, 32, 32)
    assert example.metadata.shape == (5, 7)
    assert example.raw.mosaic.shape == (5, 1, 24, 24)
    assert example.target.shape == (5, 3, 24, 24)
    assert 0 <= example.target.min() <= example.target.max() <= 1


def test_without_variation_everything_belongs_to_one_raw() -> None:
    pairs = [picture(i) for i in range(4)]
    for example in draws(ViewingData(pairs, [], crop=200, vary=False), 4):
        for k in range(2):
            raw, reference = next(p for p in pairs if torch.equal(input_planes(p[0]), example.planes[k]))
            whole = raw_batch(raw)
            assert torch.equal(example.raw.mosaic[k], whole.mosaic[0])
            assert torch.equal(example.raw.colours[k], whole.colours[0])
            assert torch.equal(example.raw.thumbnail[k], whole.thumbnail[0])
            assert torch.equal(example.metadata[k], torch.from_numpy(metadata_vector(raw)))
            np.testing.assert_array_equal((example.target[k] * 255).round().byte().permute(1, 2, 0).numpy(), reference)


@pytest.mark.parametrize("cfa", CFA_PATTERNS)
def test_flips_keep_image_raw_and_reference_together(cfa: str) -> None:
    random = np.random.default_rng(0)
    raw = RawFrame(random.integers(0, 900, (64, 64), dtype=np.uint16), cfa, (0,) * 4, 1023)
    reference = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = raw_batch(raw)
    image = demosaic_bilinear(whole.mosaic, whole.colours)[0]
    target = torch.from_numpy(reference).permute(2, 0, 1) / 255
    seen = set()
    for example in draws(Flipped([(raw, reference)], [], crop=64), 24, batch=1):
        axes = next(
            a for a in ((), (1,), (2,), (1, 2)) if torch.equal(example.target[0], target.flip(a) if a else target)
        )
        seen.add(axes)
        assert torch.equal(example.planes[0], input_planes(raw).flip(axes) if axes else input_planes(raw))
        assert torch.equal(example.raw.thumbnail[0], whole.thumbnail[0].flip(axes) if axes else whole.thumbnail[0])
        flipped = demosaic_bilinear(example.raw.mosaic, example.raw.colours)[0]
        torch.testing.assert_close(flipped, image.flip(axes) if axes else image, atol=1e-5, rtol=1e-4)
    assert len(seen) == 4


def test_exposure_and_light_change_mosaic_planes_and_metadata_alike() -> None:
    class Varied(ViewingData):
        exposure_sigma, balance_sigma = 0.5, 0.3

    raw, reference = picture(3)
    # Dark enough that nothing saturates.
    raw = replace(raw, mosaic=(64 + (raw.mosaic.astype(int) - 64) // 20).astype(np.uint16))
    factors = []
    for example in draws(Varied([(raw, reference)], [], crop=64), 6, batch=4):
        for k in range(4):
            factor = example.planes[k].mean((1, 2)) / input_planes(raw).mean((1, 2))
            factors.append(factor)
            red, green, blue = factor.tolist()
            means = []
            for colour in range(3):
                at = [divmod(i, 2) for i in range(4) if example.raw.colours[k, i] == colour]
                means.append(torch.stack([example.raw.mosaic[k, 0, y::2, x::2].mean() for y, x in at]).mean())
            torch.testing.assert_close(torch.stack(means) / raw_batch(raw).mosaic.new_tensor(_means(raw)), factor)
            torch.testing.assert_close(
                example.raw.thumbnail[k].mean((1, 2)) / raw_batch(raw).thumbnail[0].mean((1, 2)), factor
            )
            # The camera of a longer exposure and a redder light would have written this.
            said = replace(raw, exposure_s=0.01 * green, as_shot_wb=(2 * green / red, 1.0, 1.5 * green / blue))
            np.testing.assert_allclose(example.metadata[k].numpy(), metadata_vector(said), atol=1e-4)
    spread = torch.stack(factors).log2().std(0)
    assert (spread > 0.2).all()


def _means(raw: RawFrame) -> list[float]:
    return [float(plane.mean()) for plane in raw.planes()]


def test_unknown_metadata_stay_unknown() -> None:
    raw, reference = picture(0)
    raw = replace(raw, iso=None, exposure_s=None, as_shot_wb=None)
    for example in draws(ViewingData([(raw, reference)], [], crop=16), 4):
        assert not example.metadata.any()


def test_variation_does_not_change_the_material() -> None:
    data = ViewingData([picture(0)], [picture(1)], crop=32)
    before = [(e.planes.clone(), e.raw.mosaic.clone(), e.metadata.clone()) for e in data.held_out()]
    first = draws(data, 3)
    again = draws(data, 3)
    assert all(
        torch.equal(a.planes, b.planes) and torch.equal(a.target, b.target) for a, b in zip(first, again, strict=True)
    )
    for old, now in zip(before, data.held_out(), strict=True):
        assert torch.equal(old[0], now.planes)
        assert torch.equal(old[1], now.raw.mosaic)
        assert torch.equal(old[2], now.metadata)


def test_large_frames_are_cut_in_phase() -> None:
    raw, reference = place_pair(WHOLE_SIDE + 60, WHOLE_SIDE + 200, "GRBG")
    for example in draws(ViewingData([(raw, reference)], [], crop=32, vary=False), 5, batch=3):
        for k in range(3):
            red, green, more = (example.target[k, :, 0, 0] * 255).round().int().tolist()
            top, left = red + 256 * (more // 16), green + 256 * (more % 16)
            assert top % 2 == left % 2 == 0
            cut = raw.normalised()[top : top + 32, left : left + 32]
            np.testing.assert_array_equal(example.raw.mosaic[k, 0].numpy(), cut)
            # The predictor and the histogram still see the whole frame.
            assert torch.equal(example.planes[k], input_planes(raw))
            assert torch.equal(example.raw.thumbnail[k], raw_batch(raw).thumbnail[0])


def test_a_batch_holds_frames_of_one_size() -> None:
    pairs = [place_pair(64, 64), place_pair(64, 96), place_pair(64, 64, "BGGR"), place_pair(96, 64)]
    sizes = set()
    for example in draws(ViewingData(pairs, [], crop=200), 30, batch=3):
        assert example.target.shape[2:] == example.raw.mosaic.shape[2:]
        sizes.add(tuple(example.target.shape[2:]))
    assert sizes == {(64, 64), (64, 96), (96, 64)}


def test_held_out_examples_are_centre_crops_of_every_raw() -> None:
    pairs = [place_pair(64, 64), place_pair(128, 128), place_pair(64, 64, "BGGR")]
    data = ViewingData([], pairs, crop=20)
    batches = list(data.held_out())
    assert sorted(len(b.planes) for b in batches) == [1, 2]
    for batch in batches:
        assert batch.target.shape[2:] == (40, 40)
        top = int(batch.target[0, 0, 0, 0] * 255 + 0.5)
        assert top == (12 if len(batch.planes) == 2 else 44)


def test_arrays_beyond_the_limit_come_from_a_file_as_they_were() -> None:
    random = np.random.default_rng(0)
    bytes_, floats = random.integers(0, 9, (3, 5, 7), dtype=np.uint8), random.random((2, 40), dtype=np.float32)
    arrays: list[np.ndarray] = [bytes_, floats] * 3
    kept = KeptArrays(limit=500)
    reads = [kept.keep(array.transpose()) for array in arrays]
    for array, read in reversed(list(zip(arrays, reads, strict=True))):
        for _ in range(2):
            assert read().dtype == array.dtype
            np.testing.assert_array_equal(read(), array.transpose())


def test_arrays_of_the_file_are_read_by_several_threads_at_once() -> None:
    kept = KeptArrays(limit=0)
    reads = [kept.keep(np.full(50_000, i, np.uint8)) for i in range(8)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda i: (i % 8, np.unique(reads[i % 8]()).tolist()), range(800)))
    assert all(values == [i] for i, values in found)


def test_of_large_raws_the_predictor_sees_a_view_with_windows_and_statistics() -> None:
    view = View(32, windows=True, statistics=True)
    pairs = [picture(i) for i in range(3)]
    data = ViewingData(pairs, [picture(9)], crop=24, vary=False, view=view)
    assert data.statistics is not None
    assert data.statistics.shape == (3, len(raw_statistics(pairs[0][0])))
    (example,) = draws(data, 1, batch=5)
    for k in range(5):
        raw = next(p[0] for p in pairs if np.array_equal(view.of(p[0].planes()), example.planes[k].numpy()))
        np.testing.assert_array_equal(example.metadata[k, :7].numpy(), metadata_vector(raw))
        np.testing.assert_array_equal(example.metadata[k, 7:].numpy(), raw_statistics(raw))
    (held_out,) = data.held_out()
    assert held_out.planes.shape == example.planes[:1].shape
    varied = draws(ViewingData(pairs, [], crop=24, view=view), 1, batch=5)[0]
    assert varied.planes.shape == example.planes.shape


def test_a_batch_of_large_inputs_goes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [picture(i) for i in range(3)]
    data = ViewingData(pairs, pairs, crop=24, vary=False)
    (whole,) = data.draw(5, torch.Generator().manual_seed(0))
    (whole_held_out,) = data.held_out()
    monkeypatch.setattr(viewing_data, "PART_PIXELS", 2 * whole.planes[0, 0].numel() + 1)
    parts = data.draw(5, torch.Generator().manual_seed(0))
    assert [len(part.planes) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part.planes for part in parts]), whole.planes)
    assert torch.equal(torch.cat([part.planes for part in data.held_out()]), whole_held_out.planes)
