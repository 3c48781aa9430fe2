"""Storing and finding captures in a large data set and in a small one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from drivers.device import Capture, DeviceInfo
from drivers.frames import RgbFrame
from drivers.parameters import ParameterSpace
from drivers.registry import open_device
from drivers.splits import Split
from measures import frames
from measures.clocks import Spent, in_pairs
from measures.size import Size
from measures.table import Bar, Row, cpu_and_wall
from workbench.lab.dataset import Dataset
from workbench.lab.dataset.rows import add
from workbench.lab.dataset.schema import CaptureRow, ParameterSetRow

FEW = 1000
BATCH = 64
"""Captures in one commit, as the bench makes them."""
_AT_ONCE = 5000


def rows(size: Size, folder: Path) -> Iterator[Row]:
    with open_device("sim:sim20") as device:
        info = device.info()
    with Dataset.open(folder / "small", create=True) as small, Dataset.open(folder / "large", create=True) as large:
        known = [filled(dataset, info, count) for dataset, count in ((small, FEW), (large, size.rows))]
        random = np.random.default_rng(1)

        def stored(dataset: Dataset, raws: Sequence[str]) -> None:
            dataset.add_captures(info, made(info, raws, random), purpose="bench")

        pair = in_pairs(lambda: stored(large, known[1]), lambda: stored(small, known[0]), 2 * size.times)
        yield from _per_capture(f"a capture stored at {size.rows:,} rows", pair, Bar(1.1, "ratio"))
        keys = [[(raws[i % len(raws)], _hash(i)) for i in range(BATCH)] for raws in known]

        def found(dataset: Dataset, wanted: list[tuple[str, str]]) -> None:
            assert len(dataset.find(info.identity, wanted)) == BATCH

        pair = in_pairs(lambda: found(large, keys[1]), lambda: found(small, keys[0]), 4 * size.times)
        yield from _per_capture(f"a capture found among {size.rows:,} rows", pair, Bar(1.1, "ratio"))


def filled(dataset: Dataset, info: DeviceInfo, count: int) -> list[str]:
    """Hashes of the data set's RAWs, of which it gets so many captures, all with one output, by SQL."""
    raws = [
        dataset.add_raw(frames.raw((64, 64), i), scene=f"s{i}", split=Split.TRAIN, name=f"{i}.npz").hash
        for i in range(8)
    ]
    (first,) = dataset.add_captures(info, made(info, raws[:1], np.random.default_rng(0), 1), purpose="bench")
    codes = info.space.defaults.by_name
    with dataset.database.writing() as connection:
        for start in range(0, count, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, count))
            add(connection, ParameterSetRow, [{"hash": _hash(i), "codes": codes} for i in numbers])
            captures = [
                {
                    "raw": raws[i % len(raws)],
                    "device": info.identity,
                    "parameters": _hash(i),
                    "repeat": 0,
                    "output": first.output_hash,
                    "read_back": codes,
                    "serial": "1",
                    "boot_id": "boot",
                    "frame": i,
                    "device_s": 0.01,
                    "total_s": 0.02,
                    "purpose": "bench",
                    "created": first.created,
                    "workbench": "bench",
                }
                for i in numbers
            ]
            add(connection, CaptureRow, captures)
    return raws


def made(info: DeviceInfo, raws: Sequence[str], random: np.random.Generator, count: int = BATCH) -> list[Capture]:
    """Captures that no data set has yet, each with an output of its own."""
    space: ParameterSpace = info.space
    captures = []
    for i in range(count):
        parameters = space.from_unit(random.random(len(space)))
        picture = frames.remarked(frames.jpeg(frames.SMALL), parameters.hash.encode())
        captures.append(
            Capture(raws[i % len(raws)], parameters, parameters.by_name, RgbFrame(picture), "boot", i, 0.01, 0.02)
        )
    return captures


def _hash(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def _per_capture(what: str, pair: tuple[list[Spent], list[Spent]], bar: Bar) -> list[Row]:
    # The disk's flushes are in the wall clock, with the load of all others; the bar is of the bench's own work.
    return cpu_and_wall(what, *[pair[0], f"at {FEW:,}", pair[1]], bar=bar, bar_on="cpu", scale=1000 / BATCH, unit="ms")
