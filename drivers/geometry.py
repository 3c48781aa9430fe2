"""How a device's picture lies on its RAW, and the picture brought onto the RAW's pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivers.errors import FrameError
from drivers.orientation import ORIENTATIONS, UPRIGHT, upright

MOST_SCALE = 64
MOST_LEFT_OUT = 16
"""A crop leaves out a side's length divided by this at most, at each end."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What is done to a picture of the RAW's size, in this order; by default nothing.

    Attributes:
        crop: RAW pixels left out at the left, top, right and bottom.
        scale: two whole numbers, numerator and denominator, by which both sides are then multiplied.
        orientation: as in Exif, how what is given has to be turned to lie as the RAW does.
    """

    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    scale: tuple[int, int] = (1, 1)
    orientation: int = UPRIGHT

    def __post_init__(self) -> None:
        for name, count, low, high in (("crop", 4, 0, 32768), ("scale", 2, 1, MOST_SCALE)):
            told = getattr(self, name)
            numbers = isinstance(told, tuple) and len(told) == count and all(type(n) is int for n in told)
            if not numbers or not all(low <= n <= high for n in told):
                raise FrameError(f"{name} {told!r:.60} is not {count} whole numbers in {low}..{high}")
        if type(self.orientation) is not int or self.orientation not in ORIENTATIONS:
            raise FrameError(f"orientation {self.orientation!r:.40} is not one of Exif's 1 to 8")

    @property
    def lies_as_raw(self) -> bool:
        """Whether the picture has the RAW's pixels as they are."""
        return self.crop == (0, 0, 0, 0) and self.scale[0] == self.scale[1] and self.orientation == UPRIGHT

    def picture_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the picture of a RAW, as it comes."""
        left, top, right, bottom = self.crop
        n, d = self.scale
        across, down = (width - left - right) * n // d, (height - top - bottom) * n // d
        return (down, across) if self.orientation >= 5 else (across, down)

    def refusal(self, width: int, height: int) -> str | None:
        """Why the picture of a RAW of this size cannot be brought onto it, as the end of a line, or None."""
        left, top, right, bottom = self.crop
        n, d = self.scale
        for side, before, after in ((width, left, right), (height, top, bottom)):
            if max(before, after) * MOST_LEFT_OUT > side:
                return (
                    f"of its {width}×{height} pixels the device's picture leaves out {left} + {right} columns and "
                    f"{top} + {bottom} rows, more than a {MOST_LEFT_OUT}th at an end: cut the RAW to what is shown"
                )
            if (side - before - after) * n % d:
                return f"its {width}×{height} pixels times {n}/{d} are no whole number for the device's picture"
        return None

    def onto_raw(self, pixels: np.ndarray, width: int, height: int) -> np.ndarray:
        """The picture on the RAW's pixels.

        It is turned back, then scaled: made larger linearly between the centres of pixels, made smaller by the mean
        over each pixel's area. What the crop left out has the nearest pixel that was given.

        Args:
            pixels: ``uint8 [H', W', C]`` of :meth:`picture_size`.
            width, height: of the RAW, one without a :meth:`refusal`.

        Returns:
            ``uint8 [height, width, C]``.
        """
        if self.lies_as_raw:
            return pixels
        import cv2

        left, top, right, bottom = self.crop
        turned = upright(pixels, self.orientation)
        size = width - left - right, height - top - bottom
        if (turned.shape[1], turned.shape[0]) != size:
            smaller = self.scale[0] > self.scale[1]
            turned = cv2.resize(turned, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        return np.pad(turned, ((top, bottom), (left, right), (0, 0)), mode="edge")
