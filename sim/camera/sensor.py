"""The sensor: a clean sRGB photograph becomes the RAW frame that a camera would have taken of that scene.

Unprocessing after Brooks et al. 2019 ("Unprocessing Images for Learned Raw Denoising"): the photograph's tone curve,
gamma, colour matrix, white balance and gain are undone, in this order; the result is exposed, mosaicked, and given the
shot and read noise of the ISO speed, the black level, the bit depth and the defects of the sensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from drivers import stopping
from drivers.cfa import CFA_PATTERNS, QUAD_PATTERNS, tile_side
from drivers.colour import XYZ_FROM_SRGB
from drivers.errors import FrameError
from sim.camera.illuminants import Illuminant, illuminant

DEFAULT_SENSOR_SEED = 20
BASE_ISO = 100.0
MAX_ISO = 12800.0
SHOT_AT_BASE_ISO = 1e-4
GAMMA = 2.2

# XYZ → camera RGB of four well-known cameras, as their makers and DNG files publish them.
_XYZ_TO_CAMERA = np.array(
    [
        [[0.6347, -0.0479, -0.0972], [-0.8297, 1.5954, 0.2480], [-0.1968, 0.2131, 0.7649]],
        [[0.8139, -0.2171, -0.0663], [-0.8747, 1.6541, 0.2295], [-0.1925, 0.2008, 0.8093]],
        [[0.5271, -0.0712, -0.0347], [-0.6153, 1.3653, 0.2763], [-0.1601, 0.2366, 0.7242]],
        [[0.8380, -0.2630, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
    ]
)
_CALIBRATION_MIRED = 1e6 / 5000
_PRESERVED = 0.9
"""Mean linear sRGB value above which the photograph shows something as blown out."""
_STRIP = 1 << 16
"""Pixels of a picture that are worked on at a time."""


def smoothstep(x: np.ndarray) -> np.ndarray:
    """The global tone curve 3x² − 2x³ on values in [0, 1]."""
    result: np.ndarray = x * x * (3 - 2 * x)
    return result


def inverse_smoothstep(y: np.ndarray) -> np.ndarray:
    """What :func:`smoothstep` undoes: 0.5 − sin(asin(1 − 2y) / 3), values in [0, 1]."""
    result: np.ndarray = 0.5 - np.sin(np.arcsin(1 - 2 * y) / 3)
    return result


_LINEAR = (inverse_smoothstep(np.arange(256) / 255.0) ** GAMMA).astype(np.float32)


def linearise(photograph: np.ndarray) -> np.ndarray:
    """Linear sRGB light of a photograph: tone curve and gamma undone.

    Args:
        photograph: ``uint8 [..., 3]``, sRGB.

    Returns:
        ``float32 [..., 3]`` in [0, 1].
    """
    # The same values, three times as fast; it takes pictures alone.
    result: np.ndarray = cv2.LUT(photograph, _LINEAR) if photograph.ndim == 3 else _LINEAR[photograph]
    return result


def strips(photograph: np.ndarray) -> Iterator[slice]:
    """Rows of a picture, ``[H, W, 3]``, so few at a time that what is made of them stays in the processor's cache.

    Every strip begins with a tile of the CFA and is a safe point, see :mod:`drivers.stopping`.
    """
    height, width = photograph.shape[:2]
    step = max(_STRIP // width // 4, 1) * 4
    for first in range(0, height, step):
        stopping.check()
        yield slice(first, min(first + step, height))


def render(linear: np.ndarray) -> np.ndarray:
    """A photograph of linear sRGB light: gamma and tone curve applied; the inverse of :func:`linearise`.

    Args:
        linear: float ``[..., 3]``; clipped to [0, 1].

    Returns:
        ``uint8 [..., 3]``, sRGB.
    """
    curved = smoothstep(np.clip(linear, 0, 1) ** (1 / GAMMA))
    result: np.ndarray = np.clip(np.rint(curved * 255), 0, 255).astype(np.uint8)
    return result


def _row_normalised(matrix: np.ndarray) -> np.ndarray:
    result: np.ndarray = matrix / matrix.sum(axis=1, keepdims=True)
    return result


@dataclass(frozen=True)
class Sensor:
    """One camera's sensor. The seed fixes what makes it this camera: colour, read noise, defects.

    Attributes:
        seed: another seed is another camera.
        cfa: letters of the tile that repeats, in reading order: Bayer or Quad Bayer.
        bits: bit depth of the analogue-to-digital converter, 8..16.
        black_fraction: black level as a part of full scale.
        defect_share: part of the pixels that are hot or dead.

    Raises:
        FrameError: the CFA pattern or the bit depth is not one that exists.
    """

    seed: int = DEFAULT_SENSOR_SEED
    cfa: str = "RGGB"
    bits: int = 12
    black_fraction: float = 1 / 16
    defect_share: float = 3e-4

    def __post_init__(self) -> None:
        if self.cfa not in (known := (*CFA_PATTERNS, *QUAD_PATTERNS)):
            raise FrameError(f"sensor: CFA pattern {self.cfa!r} is not one of {', '.join(known)}")
        if not 8 <= self.bits <= 16:
            raise FrameError(f"sensor: bit depth {self.bits} is not within 8..16")

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([0x5E2502, self.seed, purpose])

    @property
    def white_level(self) -> int:
        """DN at which the sensor saturates."""
        return (1 << self.bits) - 1

    @cached_property
    def black_level(self) -> tuple[float, float, float, float]:
        """DN of black at the four CFA positions (of Quad Bayer: the four filters): almost but not quite the same."""
        spread = 2.0 ** (self.bits - 12)
        offsets = np.rint(self._rng(0).uniform(-3, 3, 4) * spread)
        a, b, c, d = (float(v) for v in np.rint((1 << self.bits) * self.black_fraction) + offsets)
        return a, b, c, d

    @cached_property
    def xyz_to_camera(self) -> np.ndarray:
        """``float64 [3, 3]``: CIE XYZ → camera RGB before white balance; a random convex mix of four real cameras."""
        weights = self._rng(1).dirichlet(np.ones(len(_XYZ_TO_CAMERA)))
        return np.tensordot(weights, _XYZ_TO_CAMERA, axes=1)

    @cached_property
    def colour_matrix(self) -> tuple[tuple[float, float, float], ...]:
        """The calibrated matrix that the RAW's metadata carry: camera RGB after white balance → linear sRGB.

        Rows sum to 1, so grey stays grey. Calibrated in daylight; see :meth:`true_colour_matrix`.
        """
        matrix = np.linalg.inv(_row_normalised(self.xyz_to_camera @ XYZ_FROM_SRGB))
        return tuple((float(r), float(g), float(b)) for r, g, b in np.round(_row_normalised(matrix), 6))

    def true_colour_matrix(self, light: Illuminant) -> np.ndarray:
        """What the calibrated matrix should have been under a light: ``float64 [3, 3]``, rows summing to 1.

        It moves with the light's temperature, and more where the spectrum is spiky, as filters are not linear
        combinations of the eye's curves. The camera does not know it.
        """
        rng = self._rng(2)
        warm, spiky = (rng.normal(0, s, (3, 3)) for s in (0.035, 0.035))
        shift = (light.mired - _CALIBRATION_MIRED) / 150 * warm + light.spikes * spiky
        shift -= shift.mean(axis=1, keepdims=True)
        return np.array(self.colour_matrix) + shift

    def wb_gains(self, light: Illuminant) -> tuple[float, float, float]:
        """The gains (red, green, blue) that make a grey under this light grey; green is 1.

        Physical: the light's white point seen through the camera's matrix. About 1.1..2.6 for red and 1.2..3.5 for
        blue, one rising as the other falls along the colour temperatures.
        """
        red, green, blue = self.xyz_to_camera @ light.xyz
        return float(green / red), 1.0, float(green / blue)

    @cached_property
    def daylight_gains(self) -> tuple[float, float, float]:
        """The gains for daylight of 5500 K."""
        return self.wb_gains(illuminant("daylight", 5500))

    @cached_property
    def _read_spread(self) -> float:
        return float(self._rng(3).normal(0, 0.26))

    def noise(self, iso: float) -> tuple[float, float]:
        """Shot and read noise at an ISO speed: the variance of a pixel of value x (black 0, white 1) is shot·x + read.

        Shot noise is proportional to ISO (10⁻⁴ at ISO 100, 0.0128 at ISO 12800); read noise follows Brooks' relation
        ln read = 2.18 ln shot + 1.20, moved by a spread of this camera.
        """
        shot = SHOT_AT_BASE_ISO * iso / BASE_ISO
        return shot, float(np.exp(2.18 * np.log(shot) + 1.20 + self._read_spread))

    def scene_light(self, photograph: np.ndarray, light: Illuminant, scale: float) -> np.ndarray:
        """The noiseless light on the photosites in units of saturation: ``float32 [H, W, 3]``, camera RGB, ≥ 0.

        Colour matrix, white-balance gains and exposure are undone. The gains leave what the photograph shows as blown
        out at saturation (Brooks: highlights above 0.9 are preserved), so that it can be white again.

        Args:
            photograph: ``uint8 [H, W, 3]``, sRGB, the clean rendition of the scene.
            light: the light on the scene.
            scale: exposure scale: the RAW value of green for a linear sRGB value of 1; 1/scale is the digital gain
                that the ISP will need.
        """
        linear = linearise(photograph)
        to_camera = np.linalg.inv(self.true_colour_matrix(light)).astype(np.float32)
        result: np.ndarray = linear @ to_camera.T
        np.maximum(result, 0, out=result)
        inverse = (np.float32(scale) / np.array(self.wb_gains(light))).astype(np.float32)
        # NumPy goes over planes many times as fast as over the three values of each pixel.
        mean = linear[..., 0] + linear[..., 1]
        mean += linear[..., 2]
        mean /= 3
        bright = np.nonzero(mean > _PRESERVED)
        blown = np.clip((mean[bright] - _PRESERVED) / 0.1, 0, 1)[:, None] ** 2
        highlights = result[bright] * np.maximum(blown + (1 - blown) * inverse, inverse)
        for channel in range(3):
            result[..., channel] *= inverse[channel]
        result[bright] = highlights
        return result

    def expose(
        self, photograph: np.ndarray, light: Illuminant, scale: float, iso: float, rng: np.random.Generator
    ) -> np.ndarray:
        """The mosaic of a photograph's scene: ``uint16 [H, W]`` in DN.

        Args:
            photograph: ``uint8 [H, W, 3]``, sRGB; both sides multiples of the CFA's tile.
            light: the light on the scene.
            scale: exposure scale (see :meth:`scene_light`).
            iso: ISO speed; sets the noise.
            rng: draws the noise.

        Raises:
            FrameError: the photograph is of another type or shape, or has sides that are no multiples of the tile.
        """
        if photograph.dtype != np.uint8 or photograph.ndim != 3 or photograph.shape[2] != 3:
            raise FrameError(f"photograph must be uint8 [H, W, 3], not {photograph.dtype} {list(photograph.shape)}")
        height, width = photograph.shape[:2]
        side = tile_side(self.cfa)
        if height % side or width % side:
            wanted = "even" if side == 2 else f"multiples of {side}"
            raise FrameError(f"photograph of {width}×{height} cannot be mosaicked: both sides must be {wanted}")
        shot, read = self.noise(iso)
        hot, level = _defects(self.seed, height, width, self.defect_share)
        mosaic = np.empty((height, width), np.uint16)
        for rows in strips(photograph):
            light_on = self.scene_light(photograph[rows], light, scale)
            value = np.empty(light_on.shape[:2], np.float32)
            black = np.empty_like(value)
            for i, colour in enumerate(self.cfa):
                y, x = divmod(i, side)
                value[y::side, x::side] = light_on[y::side, x::side, "RGB".index(colour)]
                # Of a tile of 4×4 each filter has 2×2 pixels.
                black[y::side, x::side] = self.black_level[2 * (2 * y // side) + 2 * x // side]
            np.minimum(value, 1, out=value)
            deviation = shot * value
            deviation += read
            np.sqrt(deviation, out=deviation)
            deviation *= rng.standard_normal(value.shape, dtype=np.float32)
            value += deviation
            first, last = np.searchsorted(hot, (rows.start * width, rows.stop * width))
            flat, here, more = value.reshape(-1), hot[first:last] - rows.start * width, level[first:last]
            flat[here] = np.where(more < 0, 0, flat[here] + more)
            # In DN.
            value *= self.white_level - black
            value += black
            np.rint(value, out=value)
            mosaic[rows] = np.clip(value, 0, self.white_level, out=value)
        return mosaic


@lru_cache(maxsize=16)
def _defects(seed: int, height: int, width: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the defects are (flat indices, rising) and what they add in units of saturation; −1 marks a dead pixel."""
    rng = np.random.default_rng([0xDEFEC7, seed, height, width])
    count = round(share * height * width)
    where = rng.choice(height * width, count, replace=False)
    level = np.where(rng.random(count) < 0.3, -1.0, rng.uniform(0.1, 1.0, count))
    order = np.argsort(where)
    return where[order], level[order].astype(np.float32)
