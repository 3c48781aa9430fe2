from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from gain_gamma import BLACK, WHITE, raw_of, scene

from drivers import kept_arrays
from drivers.errors import FrameError
from drivers.frames import RawFrame
from proxy.crops import CropBuilder, CropSet, raw_batch
from proxy.model import THUMBNAIL


def place_raw(height: int, width: int) -> tuple[RawFrame, np.ndarray]:
    """A RAW and an output that tell their own place: DN = 100·row + column, red = row, green = column."""
    rows, columns = np.mgrid[:height, :width]
    raw = RawFrame((100 * rows + columns).astype(np.uint16), "GBRG", (0, 0, 0, 0), 65535)
    return raw, np.stack([rows, columns, np.zeros_like(rows)], 2).astype(np.uint8)


def origin(mosaic: torch.Tensor) -> tuple[int, int]:
    return divmod(round(float(mosaic[0, 0, 0]) * 65535), 100)


def assert_is_cut_from(mosaic: torch.Tensor, output: torch.Tensor, raw: RawFrame, pixels: np.ndarray) -> None:
    """Same place in both, at even offsets, pixel for pixel."""
    top, left = origin(mosaic)
    height, width = mosaic.shape[1:]
    assert top % 2 == left % 2 == 0
    np.testing.assert_array_equal(mosaic[0].numpy(), raw.normalised()[top : top + height, left : left + width])
    cut = pixels[top : top + height, left : left + width]
    np.testing.assert_array_equal(np.rint(output.numpy()).astype(np.uint8), cut.transpose(2, 0, 1))


def test_whole_frames_stay_whole() -> None:
    raw, pixels = place_raw(20, 30)
    builder = CropBuilder(size=32)
    builder.add(raw, np.array([0.25, 1.0]), pixels)
    crops = builder.build()
    assert len(crops) == 1
    assert_is_cut_from(crops.raw.mosaic[0], crops.output[0], raw, pixels)
    assert crops.raw.mosaic.shape == (1, 1, 20, 30)
    assert crops.raw.colours.tolist() == [[1, 2, 0, 1]]
    assert crops.parameters.tolist() == [[0.25, 1.0]]
    assert crops.raw_hashes == [raw.hash]


def test_large_frames_are_cut_at_even_places_all_over() -> None:
    raw, pixels = place_raw(60, 90)
    builder = CropBuilder(size=16, crops_per_capture=4, seed=3)
    for i in range(15):
        builder.add(raw, np.array([i / 20]), pixels)
    crops = builder.build()
    assert crops.output.shape == (60, 3, 16, 16)
    places = set()
    for mosaic, output in zip(crops.raw.mosaic, crops.output, strict=True):
        assert_is_cut_from(mosaic, output, raw, pixels)
        places.add(origin(mosaic))
    assert len(places) > 30
    assert {i: crops.parameters[:, 0].tolist().count(pytest.approx(i / 20)) for i in range(15)} == dict.fromkeys(
        range(15), 4
    )


def test_one_side_larger_than_the_crop() -> None:
    raw, pixels = place_raw(8, 40)
    builder = CropBuilder(size=16)
    builder.add(raw, np.zeros(1), pixels)
    crops = builder.build()
    assert crops.output.shape == (4, 3, 8, 16)
    for mosaic, output in zip(crops.raw.mosaic, crops.output, strict=True):
        assert_is_cut_from(mosaic, output, raw, pixels)


def test_the_smallest_frame_decides() -> None:
    builder = CropBuilder(size=16)
    for size in ((60, 90), (10, 12), (12, 10)):
        raw, pixels = place_raw(*size)
        builder.add(raw, np.zeros(1), pixels)
    crops = builder.build()
    assert crops.output.shape == (6, 3, 10, 10)
    for mosaic, output, name in zip(crops.raw.mosaic, crops.output, crops.raw_hashes, strict=True):
        source = next(pair for pair in (place_raw(*s) for s in ((60, 90), (10, 12), (12, 10))) if pair[0].hash == name)
        assert_is_cut_from(mosaic, output, *source)


def test_many_crops_lie_in_files_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, pixels = place_raw(160, 160)
    crop_bytes = 128 * 128 * (4 + 3)

    def crops(limit: int) -> tuple[CropSet, int]:
        monkeypatch.setattr(kept_arrays, "LIMIT", limit)
        builder = CropBuilder(seed=1)
        tracemalloc.start()
        for i in range(10):
            builder.add(raw, np.array([i / 10]), pixels)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return builder.build(), held

    (in_memory, much), (in_files, little) = crops(2**30), crops(3 * crop_bytes)
    assert much > 40 * crop_bytes
    assert little < 6 * crop_bytes  # the limit, and the RAW's planes
    for one, other in zip(_tensors(in_memory), _tensors(in_files), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    drawn, others = (s.draw(9, 24, torch.Generator().manual_seed(2)) for s in (in_memory, in_files))
    assert torch.equal(drawn[2], others[2])


def _tensors(crops: CropSet) -> list[torch.Tensor]:
    raw = crops.raw
    return [raw.mosaic, raw.colours, raw.thumbnail, raw.matrix, crops.parameters, crops.output]


def test_an_output_of_another_size() -> None:
    raw, pixels = place_raw(16, 20)
    with pytest.raises(FrameError, match="20×16"):
        CropBuilder().add(raw, np.zeros(1), pixels[::2, ::2])


def test_nothing_added() -> None:
    with pytest.raises(ValueError, match="no captures"):
        CropBuilder().build()


def test_the_seed_decides_the_places() -> None:
    def places(seed: int) -> list[tuple[int, int]]:
        builder = CropBuilder(size=8, crops_per_capture=6, seed=seed)
        builder.add(place_raw(60, 60)[0], np.zeros(1), place_raw(60, 60)[1])
        return [origin(m) for m in builder.build().raw.mosaic]

    assert places(1) == places(1)
    assert places(1) != places(2)


@pytest.mark.parametrize("size", [8, 32])
def test_draw_cuts_raw_and_output_alike(size: int) -> None:
    raw, pixels = place_raw(24, 28)
    builder = CropBuilder(size=64)
    for i in range(3):
        builder.add(raw, np.array([i / 4]), pixels)
    batch, parameters, output = builder.build().draw(20, size, torch.Generator().manual_seed(0))
    assert output.shape == (20, 3, min(size, 24), min(size, 28))
    assert parameters.shape == (20, 1)
    for mosaic, target in zip(batch.mosaic, 255 * output, strict=True):
        assert_is_cut_from(mosaic, target, raw, pixels)


def test_select_keeps_what_belongs_together() -> None:
    builder = CropBuilder()
    for i in range(4):
        builder.add(raw_of(scene(i)), np.array([i / 4]), np.full((32, 32, 3), i, np.uint8))
    crops = builder.build().select(torch.tensor([3, 1]))
    assert crops.parameters[:, 0].tolist() == [0.75, 0.25]
    assert crops.output[:, 0, 0, 0].tolist() == [3, 1]
    assert crops.raw_hashes == [raw_of(scene(3)).hash, raw_of(scene(1)).hash]


def test_raw_batch_is_normalised_and_carries_the_matrix() -> None:
    matrix = ((1.5, -0.3, -0.2), (-0.1, 1.4, -0.3), (0.0, -0.5, 1.5))
    batch = raw_batch(raw_of(np.full((8, 8, 3), 0.5), "BGGR", colour_matrix=matrix))
    assert batch.mosaic.mean() == pytest.approx(0.5, abs=1 / (WHITE - BLACK))
    assert batch.thumbnail.shape == (1, 3, THUMBNAIL, THUMBNAIL)
    torch.testing.assert_close(batch.matrix[0], torch.tensor(matrix))
    assert raw_batch(raw_of(np.full((8, 8, 3), 0.5))).matrix[0].tolist() == torch.eye(3).tolist()
