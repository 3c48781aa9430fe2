"""The emulated ISP of Bayer sensors as a whole: from a RAW and a parameter set to JPEG bytes (paper equation 1)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from drivers.errors import ParameterError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.plain_pictures import PictureOutput
from drivers.raw_input import RawInput
from sim import profiles
from sim.isp.black_level import subtract_black
from sim.isp.colour import matrix_codes, transform_colour
from sim.isp.compression import compress
from sim.isp.defect_correction import correct_defects
from sim.isp.demosaic import demosaic, suppress_false_colour
from sim.isp.formats import align, compand, from_ycc, to_ycc
from sim.isp.noise_reduction import reduce_noise
from sim.isp.sharpening import sharpen
from sim.isp.strips import Strip, each, strips
from sim.isp.tone import adjust_local_contrast, adjust_saturation, apply_curve, equalise, tone_curve
from sim.isp.white_balance import apply_gains
from sim.isp.yuv_noise_reduction import Values, reduce_chroma_noise, reduce_luma_noise

# Bump when the same RAW and codes give another output: captures of different versions are kept apart.
VERSION = "1.0.0"

# What the blocks get where a profile leaves a parameter out.
_NEUTRAL: dict[str, Any] = {
    "black_offset_red": 0,
    "black_offset_blue": 0,
    "green_balance": 1.0,
    "raw_nr_edge": 0.0,
    "false_colour_suppression": 0,
    "hue": 0.0,
    "luma_nr_edge": 0.0,
    "sharpen_overshoot": None,
    "shadow_lift": 0.0,
    "highlight_rolloff": 0.0,
    "local_contrast": 0.0,
    "local_contrast_tiles": "4x4",
}


class Pipeline:
    """The blocks of sim20 or sim32. Deterministic: the same RAW and codes give the same bytes.

    Attributes:
        space: the profile's parameters.
        input: which RAWs it takes; ``output``: what its bytes are.

    Raises:
        ParameterError: no such profile.
    """

    input = RawInput()
    output = PictureOutput()
    around_linear = around_clean = 16
    """Rows above and below that stages (2) to (5), and stage (6), look at, at most."""

    def __init__(self, profile_name: str) -> None:
        self.space: ParameterSpace = profiles.space(profile_name)
        # Strips of large frames have a thread each, and small frames are many.
        cv2.setNumThreads(1)

    def process(self, raw: RawFrame, parameters: ParameterSet) -> bytes:
        """JPEG bytes, of the same size as the mosaic.

        Raises:
            ParameterError: the parameter set belongs to another space.
        """
        rgb = self.develop(raw, parameters)
        return compress(rgb, int(parameters["jpeg_quality"]), bool(parameters["chroma_subsampling"]))

    def develop(self, raw: RawFrame, parameters: ParameterSet) -> np.ndarray:
        """Stages (2) to (7), without the JPEG: ``uint8 [3, H, W]``, sRGB. By strips, the same as of the whole."""
        p = self._settings(raw, parameters)
        clean = self._clean(self._noisy(raw, p), p)
        curve = equalise(self._curve(p), clean[0], p["equalisation"])
        rgb = np.empty(clean.shape, np.uint8)
        found = strips(raw.height, raw.width)

        def to_rgb(strip: Strip) -> None:
            rgb[:, strip.rows] = apply_curve(from_ycc(*clean[:, strip.rows]), curve)

        def saturate(strip: Strip) -> None:
            contrasty[:, strip.rows] = adjust_saturation(contrasty[:, strip.rows], p["saturation"])

        each(to_rgb, found)
        contrasty = adjust_local_contrast(rgb, p["local_contrast"], int(p["local_contrast_tiles"].split("x")[0]))
        each(saturate, found)
        return contrasty

    def _noisy(self, raw: RawFrame, p: dict[str, Any]) -> np.ndarray:
        """Luma and colour differences before stage (6): ``int16 [3, H, W]``, companded 12 bit."""
        result = np.empty((3, raw.height, raw.width), np.int16)

        def work(strip: Strip) -> None:
            linear = self._linear(raw, strip.seen, p)[:, strip.inner]
            result[:, strip.rows] = to_ycc(compand(linear))

        each(work, strips(raw.height, raw.width, self.around_linear))
        return result

    def _clean(self, noisy: np.ndarray, p: dict[str, Any]) -> np.ndarray:
        """Luma and colour differences after stage (6): ``int16 [3, H, W]``."""
        result = np.empty_like(noisy)
        _, height, width = noisy.shape
        found = strips(height, width, self.around_clean)
        least, largest = int(noisy[0].min()), int(noisy[0].max())

        def work(strip: Strip) -> None:
            top, bottom = strip.seen.start, strip.seen.stop
            # A strip that sees the whole picture, of one strip or few rows more, has no rows that do not count.
            values = None if top == 0 and bottom >= height else Values(least, largest, above=top > 0)
            for into, plane in zip(result, self._cleaned(noisy[:, strip.seen], p, values), strict=True):
                into[strip.rows] = plane[strip.inner]

        each(work, found)
        return result

    def linear(self, raw: RawFrame, parameters: ParameterSet) -> np.ndarray:
        """Stages (2) to (5): ``int16 [3, H, W]``, linear sRGB of 14 bit (0..16383)."""
        return self._linear(raw, slice(0, raw.height), self._settings(raw, parameters))

    def _linear(self, raw: RawFrame, rows: slice, p: dict[str, Any]) -> np.ndarray:
        bus = align(raw, rows)
        mosaic = correct_defects(bus.mosaic, p["defect_threshold"])
        mosaic = reduce_noise(mosaic, bus.black, p["raw_nr_strength"], p["raw_nr_edge"])
        mosaic = subtract_black(
            mosaic, bus.cfa, bus.black, bus.white, p["black_offset"], p["black_offset_red"], p["black_offset_blue"]
        )
        mosaic = apply_gains(mosaic, bus.cfa, p["digital_gain"], p["red_gain"], p["blue_gain"], p["green_balance"])
        rgb = suppress_false_colour(demosaic(mosaic, bus.cfa, p["demosaic"]), p["false_colour_suppression"])
        return transform_colour(rgb, matrix_codes(raw.colour_matrix, p["ccm_strength"], p["hue"]))

    def _cleaned(self, ycc: np.ndarray, p: dict[str, Any], values: Values | None) -> tuple[np.ndarray, ...]:
        """Stage (6) of a strip: luma and colour differences, each ``int16 [H, W]``; ``values`` of the whole picture."""
        luma = reduce_luma_noise(ycc[0], p["luma_nr_strength"], p["luma_nr_radius"], p["luma_nr_edge"], values)
        blue_difference, red_difference = (reduce_chroma_noise(plane, p["chroma_nr_strength"]) for plane in ycc[1:])
        luma = sharpen(luma, p["sharpen_amount"], p["sharpen_radius"], p["sharpen_threshold"], p["sharpen_overshoot"])
        return luma, blue_difference, red_difference

    def _curve(self, p: dict[str, Any]) -> np.ndarray:
        return tone_curve(p["gamma"], p["contrast"], p["shadow_lift"], p["highlight_rolloff"])

    def check(self, parameters: ParameterSet) -> None:
        """Nothing, if the parameter set is of this pipeline's space.

        Raises:
            ParameterError: it belongs to another space.
        """
        if parameters.space is not self.space and parameters.space.hash != self.space.hash:
            raise ParameterError(
                f"parameter set of {parameters.space.name} given to {self.space.name}: make it with this device's space"
            )

    def _settings(self, raw: RawFrame, parameters: ParameterSet) -> dict[str, Any]:
        """The blocks' settings by name."""
        self.check(parameters)
        return {**_NEUTRAL, **parameters.values}
