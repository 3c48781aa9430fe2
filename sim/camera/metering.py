"""The camera around the sensor: its meter, its exposure program and its automatic white balance, with their errors.

What the metadata of a RAW give away. The exposure scale (how far the RAW is from the rendition that the reference
shows) and the true white balance are never written. Written are:

* ``iso`` and ``exposure_s``: exact, as in a real file. They tell the exposure only together with the scene's
  illuminance, which spreads over several stops within every family of lights; so they tell how noisy the RAW is and how
  dim the light was, not how bright the reference is. They give away two habits: in dim light the program holds the ISO
  speed down at the cost of a darker RAW, and at its end (longest time, highest ISO) the RAW is darker still. Dark
  pictures are also a little likelier at dusk, bright ones in daylight.
* ``as_shot_wb``: the camera's estimate. It errs along the colour temperatures and a little in tint, at times grossly,
  and leaves a part of a tungsten cast, as cameras do; the reference is neutral.

The exposure itself can be told from the pixels in part: the meter brings a scene only part of the way to mid-grey, so a
darker RAW is, in the mean, a darker scene. What nobody can tell is the meter's error: it hides the needed gain by about
meter_error_ev / (1 − metering) stops.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivers.colour import LUMINANCE
from drivers.frames import RawFrame
from sim.camera.illuminants import Illuminant, draw_illuminant
from sim.camera.sensor import BASE_ISO, MAX_ISO, Sensor, linearise, strips
from sim.camera.sums import summed

# Lux on the scene × seconds × ISO → RAW value of a linear sRGB value of 1: lens f/4 with 90 % transmission, and the
# saturation-based ISO speed (78 lux seconds over ISO saturate).
_SCALE_PER_LUX_SECOND_ISO = 0.9 / (4 * 4.0**2) / 78


@dataclass(frozen=True)
class Shot:
    """A RAW and the truth about it that no metadata hold; for tests and analysis, never written to a file.

    Attributes:
        raw: the frame.
        light: the light on the scene.
        scale: exposure scale; 1/scale is the digital gain that the ISP needs.
        wb_gains: the gains (red, green, blue) that make grey grey.
    """

    raw: RawFrame
    light: Illuminant
    scale: float
    wb_gains: tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """A sensor with a meter, an exposure program and an automatic white balance.

    Attributes:
        sensor: what takes the picture.
        target: mean RAW value to which the meter would bring a scene of mean ``target``, part of saturation.
        metering: how much of the way to ``target`` the meter brings a scene, 0 (not at all) to 1 (all of it): the
            metered mean becomes target · (mean/target)^(1 − metering), so photographs meant to be dark stay darker.
        meter_error_ev: standard deviation of the meter's error, stops.
        longest_s: longest exposure time; beyond it the ISO speed rises.
        dim_light_ev: stops by which the program exposes less for every stop of ISO beyond 400, to hold the noise down.
        awb_error: standard deviation of the white balance's log gains along the colour temperatures and across them.
        awb_outliers: share of RAWs whose white balance errs three times as much.
        tungsten_left: lowest and highest part of a tungsten cast that the camera leaves in.
    """

    sensor: Sensor
    target: float = 0.065
    metering: float = 0.5
    meter_error_ev: float = 0.12
    longest_s: float = 1 / 30
    dim_light_ev: float = 0.2
    awb_error: tuple[float, float] = (0.08, 0.03)
    awb_outliers: float = 0.08
    tungsten_left: tuple[float, float] = (0.20, 0.30)

    def meter(self, photograph: np.ndarray) -> float:
        """The exposure scale that the meter asks for, before its error.

        Args:
            photograph: ``uint8 [H, W, 3]``, sRGB; its linear light is the scene.

        Returns:
            RAW value of a linear sRGB value of 1. At most as high as to clip about 2 % of the scene.
        """
        height, width = photograph.shape[:2]
        luminance = np.empty((height, width), np.float32)
        for rows in strips(photograph):
            luminance[rows] = linearise(photograph[rows]) @ LUMINANCE
        y = np.exp(-0.5 * (np.linspace(-1, 1, height) / 0.6) ** 2)
        x = np.exp(-0.5 * (np.linspace(-1, 1, width) / 0.6) ** 2)
        y, x = y / y.sum(), x / x.sum()

        def weighted(start: int, stop: int) -> np.ndarray:
            top, bottom = start // width, -(-stop // width)
            weights = 0.5 / luminance.size + 0.5 * np.outer(y[top:bottom], x)
            return (luminance[top:bottom] * weights).reshape(-1)[start - top * width : stop - top * width]

        mean = max(float(summed(weighted, 0, luminance.size)), 1e-3)
        scale = (self.target / mean) ** self.metering
        bright = float(np.partition(luminance.ravel(), -1 - luminance.size // 50)[-1 - luminance.size // 50])
        result: float = min(scale, 1.0 / max(bright, 0.05))
        return result

    def program(self, scale: float, lux: float) -> tuple[float, float, float]:
        """Exposure time and ISO speed for an exposure scale, and the scale that they really give.

        The time rises to ``longest_s`` at ISO 100, then the ISO speed in third stops to 12800, ever more reluctantly
        beyond 400, then the RAW stays dark.

        Args:
            scale: the scale asked for.
            lux: illuminance on the scene.

        Returns:
            seconds, ISO speed, scale (at most the one asked for).
        """
        exposure = scale / (_SCALE_PER_LUX_SECOND_ISO * lux)
        exposure *= 2.0 ** (-self.dim_light_ev * max(np.log2(exposure / self.longest_s / 400), 0))
        thirds = int(np.ceil(3 * np.log2(max(exposure / self.longest_s / BASE_ISO, 1)) - 1e-9))
        iso = min(BASE_ISO * 2 ** (thirds / 3), MAX_ISO)
        seconds = min(exposure / iso, self.longest_s)
        return seconds, iso, seconds * iso * _SCALE_PER_LUX_SECOND_ISO * lux

    def auto_white_balance(self, light: Illuminant, rng: np.random.Generator) -> tuple[float, float, float]:
        """The gains (red, green, blue) that the camera writes for a light: the right ones, its habit and its error."""
        right = np.log(np.array(self.sensor.wb_gains(light)))[[0, 2]]
        daylight = np.log(np.array(self.sensor.daylight_gains))[[0, 2]]
        # Cameras leave a part of the warmth below about 3600 K; the part fades in from there to 3000 K.
        warm = float(np.clip((light.mired - 1e6 / 3600) / (1e6 / 3000 - 1e6 / 3600), 0, 1))
        left = warm * rng.uniform(*self.tungsten_left)
        along = np.array([1.0, -1.0]) / np.sqrt(2)
        across = np.array([1.0, 1.0]) / np.sqrt(2)
        size = 3.0 if rng.random() < self.awb_outliers else 1.0
        error = size * (rng.normal(0, self.awb_error[0]) * along + rng.normal(0, self.awb_error[1]) * across)
        red, blue = np.exp(right + left * (daylight - right) + error)
        return round(float(red), 4), 1.0, round(float(blue), 4)

    def shoot(
        self,
        photograph: np.ndarray,
        rng: np.random.Generator,
        light: Illuminant | None = None,
        name: str = "",
        frames: int = 1,
    ) -> Shot:
        """Take the scene that a photograph shows.

        Args:
            photograph: ``uint8 [H, W, 3]``, sRGB, both sides even; the clean rendition, and so the reference.
            rng: draws the light, the errors and the noise; the same state gives the same RAW.
            light: the light on the scene, or None for a random one that suits the picture's brightness.
            name: becomes the frame's ``source``.
            frames: of the burst: the same light on the same photosites, each frame with noise of its own.

        Raises:
            FrameError: the photograph is of another type or shape, or has an odd side.
        """
        light = light or draw_illuminant(rng, _brightness(photograph))
        asked = self.meter(photograph) * 2.0 ** rng.normal(0, self.meter_error_ev)
        seconds, iso, scale = self.program(asked, light.lux)
        as_shot = self.auto_white_balance(light, rng)
        mosaic, *earlier = (self.sensor.expose(photograph, light, scale, iso, rng) for _ in range(frames))
        raw = RawFrame(
            mosaic=mosaic,
            cfa=self.sensor.cfa,
            black_level=self.sensor.black_level,
            white_level=self.sensor.white_level,
            iso=float(round(iso)),
            exposure_s=float(f"{seconds:.4g}"),
            as_shot_wb=as_shot,
            colour_matrix=self.sensor.colour_matrix,
            source=name,
            earlier=np.stack(earlier) if earlier else None,
        )
        return Shot(raw, light, scale, self.sensor.wb_gains(light))


def _brightness(photograph: np.ndarray) -> float:
    """The mean of its linear light."""
    levels = photograph.reshape(-1, 1, 1)
    total = summed(lambda start, stop: linearise(levels[start:stop]), 0, len(levels))
    return float(total / len(levels))
