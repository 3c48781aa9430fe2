"""How much is measured: the whole bench takes about ten minutes, the quick one about one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Counts of one form of the bench.

    Attributes:
        times: samples of each figure; ``process_times``: of whole processes.
        seconds: about how long one rate is measured.
        rows: captures of the large data set, compared with one of 1,000.
        known_raws: RAWs of the folder that was read before.
        captures: of 12 megapixels, of the shorter and of the longer collection.
        steps: of a training; the first two do not count.
        frames: of a loop, after those that do not count.
    """

    times: int
    process_times: int
    seconds: float
    rows: int
    known_raws: int
    captures: tuple[int, int]
    steps: int
    frames: int


FULL = Size(
    times=5, process_times=3, seconds=3.0, rows=100_000, known_raws=2640, captures=(100, 500), steps=8, frames=32
)
QUICK = Size(times=2, process_times=1, seconds=1.0, rows=10_000, known_raws=200, captures=(16, 32), steps=3, frames=8)
