"""The emulated ISP beside LibRaw, both with a JPEG at the end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from drivers.raw.dng import dng_bytes
from measures import frames
from measures.clocks import in_pairs
from measures.size import Size
from measures.table import Bar, Row, cpu_and_wall
from sim.isp.pipeline import Pipeline


def rows(size: Size, folder: Path) -> Iterator[Row]:
    for pixels, times in ((frames.HD, 2 * size.times), (frames.MP12, size.process_times)):
        yield from beside_libraw(pixels, times)


def beside_libraw(size: tuple[int, int], times: int) -> Iterator[Row]:
    """A frame of so many columns and rows."""
    import cv2
    import rawpy

    raw = frames.raw(size)
    file = dng_bytes(raw)
    pipeline = Pipeline("sim20")

    def libraw() -> None:
        with rawpy.imread(io.BytesIO(file)) as opened:
            pixels = opened.postprocess()
        cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])

    ours, other = in_pairs(lambda: pipeline.process(raw, pipeline.space.defaults), libraw, times)
    what = f"emulated `sim20`, {size[0]}×{size[1]}, default set"
    yield from cpu_and_wall(what, ours, "LibRaw's default and a JPEG", other, bar=Bar(1.0, "ratio"), bar_on="cpu")
