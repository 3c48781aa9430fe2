from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.scenes import lab_scenes
from sim.scenes.lab_scenes import LAB_SCENE_KINDS, lab_scene


@pytest.mark.parametrize("kind", LAB_SCENE_KINDS)
def test_every_kind_is_a_picture_and_repeats(kind: Any) -> None:
    picture = lab_scene(5, 128, kind)
    assert picture.shape == (128, 128, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 10
    assert np.array_equal(picture, lab_scene(5, 128, kind))
    assert not np.array_equal(picture, lab_scene(6, 128, kind))


def test_pictures_are_as_bright_and_colourful_as_photographs() -> None:
    pictures = [lab_scene(seed, 96) for seed in range(60)]
    means = np.array([p.mean() / 255 for p in pictures])
    assert 0.35 < means.mean() < 0.5
    assert 0.08 < means.std() < 0.2
    blown = np.array([(p.min(axis=2) >= 254).mean() for p in pictures])
    assert blown.mean() < 0.1
    # Few pixels are neon: strong and bright at once. Photographs are nearly neutral in the mean.
    neon = np.array([((p.max(axis=2) > 230) & (p.min(axis=2) < 20)).mean() for p in pictures])
    assert neon.mean() < 0.02
    colour = np.mean([p.reshape(-1, 3).mean(axis=0) for p in pictures], axis=0)
    assert colour.max() / colour.min() < 1.3


@pytest.mark.parametrize("kind", LAB_SCENE_KINDS)
@pytest.mark.parametrize("strip", [6, 50, 1000])
def test_a_picture_is_the_same_in_strips_of_any_height(kind: Any, strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [lab_scene(seed, 160, kind) for seed in range(3)]
    monkeypatch.setattr(lab_scenes, "_STRIP", strip)
    for seed, picture in enumerate(expected):
        np.testing.assert_array_equal(lab_scene(seed, 160, kind), picture)
