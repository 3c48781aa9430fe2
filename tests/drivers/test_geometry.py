"""Pictures that are cropped, scaled and turned, brought onto the RAW: against OpenCV and a reading pixel by pixel."""

from __future__ import annotations

from typing import Any

import cv2
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.agent import PictureOutput
from drivers.errors import FrameError
from drivers.geometry import Geometry
from drivers.protocol.frame_fields import take_told, told_map

# What turns a picture that lies as the RAW so that Exif's flag turns it back.
TURNED: dict[int, list[Any]] = {
    1: [],
    2: [lambda p: cv2.flip(p, 1)],
    3: [lambda p: cv2.rotate(p, cv2.ROTATE_180)],
    4: [lambda p: cv2.flip(p, 0)],
    5: [cv2.transpose],
    6: [lambda p: cv2.rotate(p, cv2.ROTATE_90_COUNTERCLOCKWISE)],
    7: [lambda p: cv2.rotate(p, cv2.ROTATE_180), cv2.transpose],
    8: [lambda p: cv2.rotate(p, cv2.ROTATE_90_CLOCKWISE)],
}


def one_value(given: np.ndarray, y: int, x: int, ratio: float) -> float:
    """Of a picture made ``ratio`` times as large, at one place: linear between centres, or the mean over the area."""
    height, width = given.shape

    def weights(at: int, side: int) -> dict[int, float]:
        if ratio >= 1:
            centre = min(max((at + 0.5) / ratio - 0.5, 0), side - 1)
            low = int(centre)
            return {low: 1 - (centre - low), min(low + 1, side - 1): centre - low} if centre > low else {low: 1.0}
        first, last = at / ratio, (at + 1) / ratio
        parts = {i: min(i + 1, last) - max(i, first) for i in range(int(first), min(int(np.ceil(last)), side))}
        return {i: part * ratio for i, part in parts.items()}

    return sum(float(given[j, i]) * v * w for j, v in weights(y, height).items() for i, w in weights(x, width).items())


@st.composite
def geometries(draw: st.DrawFn) -> tuple[Geometry, int, int]:
    n, d = draw(st.sampled_from([(1, 1), (1, 2), (1, 3), (2, 3), (2, 1), (3, 2), (3, 1)]))
    width, height = 6 * draw(st.integers(4, 8)), 6 * draw(st.integers(4, 8))
    before = draw(st.tuples(*(st.integers(0, side // 16) for side in (width, height))))
    after = [(-b) % d for b in before]  # so that what is left is a multiple
    if any(a > side // 16 for a, side in zip(after, (width, height), strict=True)):
        before, after = (0, 0), [0, 0]
    return (
        Geometry(crop=(*before, after[0], after[1]), scale=(n, d), orientation=draw(st.integers(1, 8))),
        width,
        height,
    )


@settings(max_examples=60, deadline=None)
@given(geometries(), st.integers(0, 99))
def test_a_picture_is_brought_onto_the_raw_pixel_by_pixel(made: tuple[Geometry, int, int], seed: int) -> None:
    geometry, width, height = made
    assert geometry.refusal(width, height) is None
    left, top, right, bottom = geometry.crop
    n, d = geometry.scale
    shown = (height - top - bottom) * n // d, (width - left - right) * n // d
    lying = np.random.default_rng(seed).integers(0, 256, (*shown, 3), dtype=np.uint8)
    given = lying
    for step in TURNED[geometry.orientation]:
        given = step(given)
    assert geometry.picture_size(width, height) == (given.shape[1], given.shape[0])
    pixels = geometry.onto_raw(given, width, height)
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8
    for y, x in np.random.default_rng(seed).integers(0, (height, width), (20, 2)):
        row, column = (
            int(np.clip(at, 0, most - 1))
            for at, most in ((y - top, height - top - bottom), (x - left, width - left - right))
        )
        expected = [one_value(lying[:, :, c], row, column, d / n) for c in range(3)]
        assert np.abs(pixels[y, x] - np.array(expected)).max() <= (0 if n == d else 1)


def test_what_cannot_be_brought_onto_the_raw_is_one_line() -> None:
    assert Geometry(crop=(2, 2, 2, 2)).refusal(32, 32) is None
    text = str(Geometry(crop=(0, 64, 0, 64)).refusal(640, 480))
    assert "leaves out 0 + 0 columns and 64 + 64 rows, more than a 16th at an end" in text
    assert "64×64 pixels times 2/3 are no whole number" in str(Geometry(scale=(2, 3)).refusal(64, 64))
    half = PictureOutput("nv12", matrix="bt709", range="full", scale=(1, 2))
    assert "has 33×32 pixels then, and nv12 has even sides" in str(half.refusal(66, 64))


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"crop": (0, 0)}, r"crop \(0, 0\) is not 4 whole numbers in 0..32768"),
        ({"crop": (0, 0, 0, -1)}, r"crop \(0, 0, 0, -1\) is not 4 whole numbers"),
        ({"scale": (0, 1)}, r"scale \(0, 1\) is not 2 whole numbers in 1..64"),
        ({"scale": (1, 1.5)}, r"scale \(1, 1.5\) is not 2"),
        ({"orientation": 9}, "orientation 9 is not one of Exif's 1 to 8"),
        ({"orientation": True}, "orientation True is not"),
    ],
)
def test_what_no_geometry_is(told: dict[str, Any], text: str) -> None:
    with pytest.raises(FrameError, match=text):
        PictureOutput(**told)


def test_it_travels_in_info() -> None:
    output = PictureOutput("rgb", crop=(4, 2, 4, 2), scale=(1, 2), orientation=6)
    assert told_map(output) == {"format": "rgb", "crop": [4, 2, 4, 2], "scale": [1, 2], "orientation": 6}
    data = msgpack.unpackb(msgpack.packb({"output": {**told_map(output), "later": 1}}))
    assert take_told(PictureOutput, data, "output") == output
