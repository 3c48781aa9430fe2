from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from toy_task import SPACE

from drivers.frames import RawFrame
from predictor.files import load_predictor, save_predictor
from predictor.model import Predictor, PredictorConfig
from predictor.training import fast_recipe, paper_recipe
from predictor.view import CELL, INPUT_SIDE, LEAST, View, seen, view_for

FAST, PAPER = fast_recipe().view, paper_recipe().view


def planes_of(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 0.3, (3, rows, columns)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 200), columns=st.integers(1, 200), longest=st.sampled_from([32, 40, 64]))
def test_planes_are_averaged_as_torch_does(rows: int, columns: int, longest: int) -> None:
    planes, view = planes_of(rows, columns), View(longest)
    made = view.of(planes)
    assert made.dtype == np.float32
    assert made.shape == (3, *view.size(rows, columns))
    wanted = F.avg_pool2d(torch.from_numpy(planes), view.factor(rows, columns), ceil_mode=True)
    h, w = wanted.shape[1:]
    np.testing.assert_allclose(made[:, :h, :w], wanted.numpy(), atol=2e-6)
    assert (made[:, h:] == made[:, h - 1 : h]).all()
    assert (made[:, :, w:] == made[:, :, w - 1 : w]).all()


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(2, 300), columns=st.integers(2, 300), factor=st.integers(1, 9))
def test_windows_hold_the_very_pixels_of_their_cells_place(rows: int, columns: int, factor: int) -> None:
    ramp = np.stack([*np.mgrid[:rows, :columns], np.zeros((rows, columns))]).astype(np.float32)
    made = seen(ramp, factor, windows=True)
    assert made.shape == (6, *(max(-(-side // factor), LEAST) for side in (rows, columns)))
    for axis, size in enumerate((rows, columns)):
        count = -(-size // factor)
        places = made[3 + axis, :count, 0] if axis == 0 else made[4, 0, :count]
        for first in range(0, count, CELL):
            cell = places[first : first + CELL]
            assert (np.diff(cell) == 1).all()
            begin, end = first * factor, min((first + CELL) * factor, size)
            assert begin <= cell[0] <= cell[-1] < end
            assert abs((cell[0] + cell[-1] + 1) - (begin + end)) <= factor + 1


def test_a_whole_raw_is_its_own_windows() -> None:
    planes = planes_of(64, 48)
    made = seen(planes, 1, windows=True)
    np.testing.assert_array_equal(made[:3], planes)
    np.testing.assert_array_equal(made[3:], planes)


@pytest.mark.parametrize("axis", [1, 2])
def test_what_is_seen_of_the_mirror_image_is_mirrored(axis: int) -> None:
    planes = planes_of(384, 512)
    made = FAST.of(np.flip(planes, axis))
    np.testing.assert_allclose(made, np.flip(FAST.of(planes), axis), atol=1e-6)


def test_noise_of_a_large_raw_is_seen_in_its_windows_alone() -> None:
    random = np.random.default_rng(0)
    spread = []
    for sigma in (20, 80):
        mosaic = (2000 + sigma * random.standard_normal((1024, 1536))).astype(np.uint16)
        made = FAST.of(RawFrame(mosaic, "RGGB", (0.0,) * 4, 4000).planes())
        spread.append([made[0].std(), made[3].std()])
    assert spread[1][0] < spread[0][1]
    assert spread[1][1] / spread[0][1] == pytest.approx(4, rel=0.1)


def test_small_raws_are_seen_whole_by_either_recipe() -> None:
    assert view_for(FAST, [(128, 128), (256, 192)]) == View()
    assert view_for(FAST, [(128, 128), (384, 512)]) == FAST
    assert view_for(PAPER, [(128, 128)]) == View(2048)


def test_the_papers_input_of_12_megapixels() -> None:
    assert view_for(PAPER, [(3072, 4096)]) == PAPER
    assert PAPER.size(1536, 2048) == (1536, 2048)
    assert PAPER.factor(3072, 4096) == 2
    assert not PAPER.windows
    assert View().size(1536, 2048) == (384, INPUT_SIDE)


@pytest.mark.parametrize(("windows", "mirrored"), [(True, True), (False, False)])
def test_the_cost_that_is_told_is_spent(tmp_path: Path, windows: bool, mirrored: bool) -> None:
    save_predictor(
        tmp_path,
        Predictor(PredictorConfig(len(SPACE), 8, windows=windows)),
        SPACE,
        "isp/1/abc",
        longest=128,
        mirrored=mirrored,
    )
    loaded = load_predictor(tmp_path)
    raw = RawFrame(np.full((600, 800), 500, np.uint16), "RGGB", (0.0,) * 4, 1023)
    with FlopCounterMode(display=False) as spent:
        loaded.predict([raw])
    told = loaded.gflop(*loaded.view.size(300, 400))
    assert loaded.view.size(300, 400) == (75, 100)
    assert spent.get_total_flops() / 1e9 == pytest.approx(told, rel=0.02)
