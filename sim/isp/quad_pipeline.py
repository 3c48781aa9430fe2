"""The emulated ISP of Quad Bayer sensors as a whole: from a RAW and a parameter set of sim60 to NV12 bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from drivers.cfa import QUAD_PATTERNS, as_bayer
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.raw_input import RawInput
from sim.isp.band_noise_reduction import edges, reduce_in_bands
from sim.isp.black_level import subtract_black
from sim.isp.colour import matrix_codes, transform_colour
from sim.isp.defect_correction import correct_defects
from sim.isp.demosaic import demosaic, suppress_false_colour
from sim.isp.formats import COMPANDED_WHITE, align
from sim.isp.noise_reduction import reduce_noise
from sim.isp.pipeline import Pipeline
from sim.isp.quad_bayer import binned, enlarged, remosaicked
from sim.isp.sharpening import sharpen
from sim.isp.tone import knot_curve
from sim.isp.video_output import NV12, to_nv12
from sim.isp.white_balance import apply_gains
from sim.isp.yuv_noise_reduction import Values


class QuadPipeline(Pipeline):
    """The blocks of sim60: see :class:`~sim.isp.pipeline.Pipeline`. Tables give the value for the RAW's ISO speed."""

    input = RawInput(cfa=QUAD_PATTERNS, multiple=(4, 4))
    output = NV12
    around_linear, around_clean = 32, 48

    def process(self, raw: RawFrame, parameters: ParameterSet) -> bytes:
        """NV12 bytes, of the same size as the mosaic.

        Raises:
            ParameterError: the parameter set belongs to another space.
        """
        return to_nv12(self.develop(raw, parameters))

    def _linear(self, raw: RawFrame, rows: slice, p: dict[str, Any]) -> np.ndarray:
        bus = align(raw, rows)
        # What looks at neighbours of one colour works on the pixels as they would lie in a Bayer mosaic.
        cfa, mosaic, black = as_bayer(raw.cfa, bus.mosaic, bus.black)
        mosaic = reduce_noise(correct_defects(mosaic, p["defect_threshold"]), black, p["raw_nr"], p["raw_nr_edge"])
        mosaic = subtract_black(
            mosaic, cfa, black, bus.white, p["black_offset"], p["black_offset_red"], p["black_offset_blue"]
        )
        mosaic = apply_gains(mosaic, cfa, p["digital_gain"], p["red_gain"], p["blue_gain"], p["green_balance"])
        quad = as_bayer(raw.cfa, mosaic, black)[1]  # the same exchange puts them back
        whole = p["quad_mode"] == "remosaic"
        bayer = remosaicked(quad, raw.cfa, cfa, p["remosaic_detail"]) if whole else binned(quad)
        rgb = suppress_false_colour(demosaic(bayer, cfa, p["demosaic"]), p["false_colour_suppression"])
        matrix = matrix_codes(tuple(map(tuple, p["ccm"])), 1.0)
        return transform_colour(rgb if whole else enlarged(rgb, p["upscaling"]), matrix)

    def _cleaned(self, ycc: np.ndarray, p: dict[str, Any], values: Values | None) -> tuple[np.ndarray, ...]:
        luma, *differences = ycc
        keep = edges(luma, p["edge_low"], p["edge_high"])
        # Beside a bright edge a band's share may go below black; the blocks behind take 0..4095.
        luma = np.clip(reduce_in_bands(luma, p["luma_nr"] * p["luma_bands"], keep), 0, COMPANDED_WHITE)
        luma = sharpen(luma, p["sharpening"], p["sharpen_radius"], p["sharpen_threshold"], p["sharpen_overshoot"])
        return luma, *(reduce_in_bands(plane, p["chroma_nr"] * p["chroma_bands"]) for plane in differences)

    def _curve(self, p: dict[str, Any]) -> np.ndarray:
        return knot_curve(next(v for v in self.space.vectors if v.name == "tone").knots(), p["tone"])

    def _settings(self, raw: RawFrame, parameters: ParameterSet) -> dict[str, Any]:
        """The parameters, and what the vectors make of them for the RAW's ISO speed, by name."""
        self.check(parameters)
        values = parameters.values
        return {**values, **{v.name: v.value(values, raw.iso) for v in self.space.vectors}}
