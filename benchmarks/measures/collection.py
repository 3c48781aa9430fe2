"""Collecting: the rate beside the device's own and beside bare pyzmq, memory, and how soon a known folder is ready."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from drivers.raw.raw_files import save_npz
from drivers.splits import Split
from measures import frames
from measures.boards import UNCOUNTED, bare_rate, board
from measures.clocks import spent, workbench
from measures.size import Size
from measures.table import Bar, Row, cpu_and_wall
from workbench.collect import campaign
from workbench.collect.bench import Bench
from workbench.collect.designs import Design
from workbench.collect.raw_folder import read_raw_folder
from workbench.collect.raw_import import import_raws
from workbench.lab.dataset import Dataset, FailureRecord
from workbench.lab.devices import open_devices

NAMES = {"sim20": "`sim20`", "echo": "a device", "echo-none": "one that holds no RAW,"}
RAWS = 6
FEWEST = 16


def rows(size: Size, folder: Path) -> Iterator[Row]:
    yield from rates(size, folder)
    yield from memory(size, folder)
    yield from ready(size, folder)


def rates(size: Size, folder: Path) -> Iterator[Row]:
    """Captures a second."""
    for pixels in (frames.SMALL, frames.HD):
        what = f"collecting {pixels[0]}×{pixels[1]}"
        raws = make_raws(folder / f"raws-{pixels[0]}", pixels)
        kinds = ("sim20",) if pixels == frames.SMALL else ("echo", "echo-none")
        for kind, ms in itertools.product(kinds, (5, 20, 50)):
            count = max(int(size.seconds * 1000 / ms), FEWEST)
            pairs, cpu, waited = list[tuple[float, float]](), list[float](), list[float]()
            for turn in range(size.process_times):
                with board(kind, pixels, ms, count // 4) as device:
                    cpu.append(collected(device.url, raws, folder / f"{kind}-{pixels[0]}-{ms}-{turn}", count))
                pairs.append((device.rate, device.alone))
                waited.append(device.waited)
            named = f"{what}, {NAMES[kind]} taking {ms} ms a frame"
            yield _rate(named, pairs, "the device alone", 0.95)
            yield Row(f"{named}: the device waiting for a request", "% of the time", waited)
            yield Row(f"{named}: the bench's own CPU", "ms a frame", cpu)
        for kind, words in (("echo", "a device that echoes"), ("echo-none", "one that holds no RAW and echoes")):
            pairs = []
            for turn in range(size.process_times):
                with board(kind, pixels, 0, FEWEST) as device:
                    count = max(int(size.seconds * device.alone / 2), FEWEST)
                    collected(device.url, raws, folder / f"{kind}-{pixels[0]}-{turn}", count)
                with board("bare", pixels) as bare:
                    pairs.append((device.rate, bare_rate(bare.url, pixels, count, pixels=kind == "echo-none")))
            yield _rate(f"{what}, {words}", pairs, "bare pyzmq, the same bytes", 0.7)


def _rate(measure: str, pairs: Sequence[tuple[float, float]], beside: str, least: float) -> Row:
    """Frames a second, each with what is beside it, and the least ratio that they must show."""
    ours, others = zip(*pairs, strict=True)
    return Row(measure, "frames/s", ours, beside, others, Bar(least, "ratio"), more_is_better=True)


def collected(url: str, raws: Path, lab: Path, captures: int) -> float:
    """Make captures in a campaign that is under way; gives this process's CPU for each, in ms."""
    with open_devices([url], lab) as device, Dataset.open(lab, create=True) as dataset:
        records = [r for r in import_raws(dataset, read_raw_folder(raws)) if r.split != Split.TEST]
        space, count = device.info().space, UNCOUNTED + captures
        jobs = campaign.plan(space, records, design=Design.SOBOL, captures=count, seed=0)
        bench = Bench(dataset, device, purpose=campaign.PURPOSE)
        begin = 0.0
        for part in (jobs[:UNCOUNTED], jobs[UNCOUNTED:]):
            begin = time.process_time()
            for outcome in bench.capture_many(part):
                if isinstance(outcome, FailureRecord):
                    raise RuntimeError(f"{url}: {outcome.reason}")
        cpu = time.process_time() - begin
        if mended := {kind: n for counts in device.counts_by_unit().values() for kind, n in counts.items() if n}:
            raise RuntimeError(f"{url}: mended {mended}")
        return 1000 * cpu / captures


def memory(size: Size, folder: Path) -> Iterator[Row]:
    """Peak memory of ``workbench collect``, and what it spends on a frame of 12 megapixels."""
    raws, lab = make_raws(folder / "raws-12mp", frames.MP12, 3), str(folder / "lab-12mp")
    few, many = size.captures
    with board("echo", frames.MP12, 0, 2) as device:
        first, second = (
            workbench("collect", "--raws", str(raws), "--device", device.url, "--lab", lab, "--captures", str(captures))
            for captures in (few, many)
        )
    yield Row(
        f"`workbench collect`, 12-MP frames, peak memory after {many:,} captures",
        "MB",
        [second.peak_mb],
        f"after {few:,}",
        [first.peak_mb],
        Bar(600),
    )
    yield Row(
        "`workbench collect`, 12-MP frames, the bench's own CPU", "ms a frame", [1000 * second.cpu / (many - few)]
    )


def ready(size: Size, folder: Path) -> Iterator[Row]:
    """How soon a folder of RAWs that was read before is ready."""
    pixels = (64, 64)
    raws = make_raws(folder / "raws-known", pixels, size.known_raws)
    with Dataset.open(folder / "lab-known", create=True) as dataset:
        first = spent(lambda: import_raws(dataset, read_raw_folder(raws)))
    again = []
    for _ in range(size.process_times):
        with Dataset.open(folder / "lab-known", create=True) as dataset:
            again.append(spent(lambda: import_raws(dataset, read_raw_folder(raws))))
    what = f"`collect` ready on {size.known_raws:,} known RAWs"
    yield from cpu_and_wall(what, again, "the first time", [first] * len(again), bar=Bar(2.0))


def make_raws(folder: Path, pixels: tuple[int, int], count: int = RAWS) -> Path:
    """A folder of different RAWs."""
    folder.mkdir(exist_ok=True)
    for i in range(count):
        save_npz(folder / f"{i:05}.npz", frames.raw(pixels, i))
    return folder
