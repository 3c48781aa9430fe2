"""From a profile's name to its pipeline."""

from __future__ import annotations

from sim.isp.pipeline import Pipeline
from sim.isp.quad_pipeline import QuadPipeline


def open_pipeline(profile: str) -> Pipeline:
    """The emulated ISP of a profile.

    Raises:
        ParameterError: no such profile.
    """
    return QuadPipeline(profile) if profile == "sim60" else Pipeline(profile)
