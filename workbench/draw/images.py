"""Pictures of a report as data URIs: crops of the device's own captures, and attention maps over RAWs."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from drivers.errors import FrameError
from drivers.frames import RawFrame

# Side of the crops that are shown; a smaller frame is shown whole.
CROP_SIDE = 256


@dataclass(frozen=True)
class Window:
    """A window of an image: rows ``top…``, columns ``left…``, at most ``height`` × ``width`` pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: np.ndarray) -> np.ndarray:
        """The window's pixels of ``[H, W, 3]``."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]

    def covers(self, image: np.ndarray) -> bool:
        """Whether the whole of ``[H, W, 3]`` lies within the window."""
        return bool(image.shape[0] <= self.height and image.shape[1] <= self.width)


def data_uri(encoded: bytes, media_type: str) -> str:
    """The bytes of an image as a ``data:`` URI."""
    return f"data:{media_type};base64,{base64.b64encode(encoded).decode('ascii')}"


def picture(image: np.ndarray, *, quality: int | None = None) -> str:
    """``uint8 [H, W, 3]`` sRGB as a data URI: PNG, or JPEG 4:4:4 of a quality.

    Raises:
        FrameError: OpenCV could not encode it.
    """
    bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    if quality is None:
        ok, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    else:
        sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        ok, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling])
    if not ok:
        raise FrameError(f"a picture of {image.shape[1]}×{image.shape[0]} pixels could not be encoded")
    return data_uri(data.tobytes(), "image/png" if quality is None else "image/jpeg")


def detailed_window(reference: np.ndarray, side: int = CROP_SIDE) -> Window:
    """The window with the most detail (mean gradient) of ``uint8 [H, W, 3]``; the whole image where it is small."""
    height, width = reference.shape[:2]
    tall, wide = min(side, height), min(side, width)
    if (tall, wide) == (height, width):
        return Window(0, 0, height, width)
    grey = cv2.cvtColor(reference, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    # One saturated edge must not decide alone.
    total = cv2.integral(np.minimum(gradient, 100))
    step = max(1, side // 8)
    rows, columns = np.arange(0, height - tall + 1, step), np.arange(0, width - wide + 1, step)
    sums = (
        total[np.ix_(rows + tall, columns + wide)]
        - total[np.ix_(rows, columns + wide)]
        - total[np.ix_(rows + tall, columns)]
        + total[np.ix_(rows, columns)]
    )
    y, x = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return Window(int(rows[y]), int(columns[x]), tall, wide)


def raw_preview(raw: RawFrame, longest: int = 320) -> np.ndarray:
    """A RAW to look at, grey-world balance and gamma 2.2, no device involved: ``uint8 [h, w, 3]``."""
    planes = raw.planes()
    step = max(1, -(-max(planes.shape[1:]) // longest))
    image = np.clip(planes[:, ::step, ::step].transpose(1, 2, 0), 0, None)
    image = image * (image.mean() / np.maximum(image.mean(axis=(0, 1)), 1e-6))
    image = np.clip(image / max(float(np.percentile(image, 99)), 1e-6), 0, 1) ** (1 / 2.2)
    return np.asarray(np.rint(image * 255), np.uint8)


def attention_overlay(
    preview: np.ndarray, weights: np.ndarray, bright: float | None = None
) -> tuple[np.ndarray, float]:
    """An attention map over a grey picture of its RAW (figure 6).

    Args:
        preview: ``uint8 [h, w, 3]``.
        weights: ``float [h', w']``, summing to 1.
        bright: how many times an even map is drawn brightest, the same for maps to be compared; by default the map's
            own brightest place.

    Returns:
        ``uint8 [h, w, 3]``, and how many times an even map the brightest place got.
    """
    from matplotlib import colormaps

    height, width = preview.shape[:2]
    relative = weights.astype(np.float32) * weights.size
    most = float(relative.max())
    # A few cells smoothed over a picture would look like far more than the network knows.
    how = cv2.INTER_LINEAR if min(weights.shape) >= 6 else cv2.INTER_NEAREST
    smooth = cv2.resize(relative, (width, height), interpolation=how)
    # An even map is dark all over: below twice the even weight nothing is stretched to look like a finding.
    colour = colormaps["inferno"](np.clip(smooth / max(2.0, bright or most), 0, 1))[..., :3]
    grey = preview.mean(axis=2, keepdims=True) / 255
    return np.rint(255 * (0.4 * grey + 0.6 * colour)).clip(0, 255).astype(np.uint8), most
