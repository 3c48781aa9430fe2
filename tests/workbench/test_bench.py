"""The bench: reads the data set first, asks once, yields only what is committed, and loses nothing on the way out."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_isp import SPACE, FakeIsp, make_raw, make_set

from drivers.errors import DeviceError, DeviceUnreachableError, ParameterError
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.splits import Split
from workbench.collect import keeping
from workbench.collect.bench import BATCH, READ_AHEAD, Bench
from workbench.collect.keeping import Outcome
from workbench.errors import DatasetError
from workbench.lab.dataset import Dataset, RawRecord


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[Dataset]:
    with Dataset.open(tmp_path / "lab", create=True) as dataset:
        for i in range(3):
            dataset.add_raw(make_raw(i), scene=f"s{i}", split=Split.TRAIN, name=f"{i}.npz")
        yield dataset


def make_jobs(dataset: Dataset, count: int) -> list[tuple[RawRecord, ParameterSet]]:
    raws = dataset.raws()
    return [(raws[i % 3], make_set(i)) for i in range(count)]


def keys(jobs: list[tuple[RawRecord, ParameterSet]]) -> list[tuple[str, str]]:
    return [(raw.hash, parameters.hash) for raw, parameters in jobs]


def test_captures_come_in_the_order_of_jobs_and_are_asked_once(dataset: Dataset) -> None:
    jobs = make_jobs(dataset, 150)
    device = FakeIsp()
    bench = Bench(dataset, device, purpose="collect")
    records = list(bench.capture_many(jobs))
    assert [(r.raw_hash, r.parameters_hash) for r in records] == keys(jobs) == device.asked
    assert (bench.asked, bench.reused) == (150, 0)
    mixed = [*jobs[100:], *make_jobs(dataset, 200)[150:], *jobs[:20]]
    again = list(bench.capture_many(mixed))
    assert [(r.raw_hash, r.parameters_hash) for r in again] == keys(mixed)
    assert (bench.asked, bench.reused) == (200, 70)
    assert bench.capture(*jobs[7]) == records[7]
    assert len(device.asked) == 200


def test_equal_jobs_ask_once(dataset: Dataset) -> None:
    jobs = make_jobs(dataset, 5)
    device = FakeIsp()
    bench = Bench(dataset, device, purpose="tune")
    stream = [jobs[i] for i in (0, 1, 0, 0, 2, 1)] * 40
    records = list(bench.capture_many(stream))
    assert [(r.raw_hash, r.parameters_hash) for r in records] == keys(stream)
    assert len(device.asked) == bench.asked == 3
    assert bench.reused == 237


def test_what_is_yielded_is_on_the_disk(dataset: Dataset) -> None:
    bench = Bench(dataset, FakeIsp(), purpose="collect")
    with Dataset.open(dataset.lab) as other:
        for record in bench.capture_many(make_jobs(dataset, 130)):
            key = record.raw_hash, record.parameters_hash
            assert other.find(record.device_identity, [key])[key] == record


def test_jobs_are_read_ahead_within_bounds(dataset: Dataset) -> None:
    drawn = 0

    def endless(period: int) -> Iterator[tuple[RawRecord, ParameterSet]]:
        nonlocal drawn
        for job in itertools.cycle(make_jobs(dataset, period)):
            drawn += 1
            yield job

    bench = Bench(dataset, FakeIsp(), purpose="collect")
    for _ in range(2):  # new captures first, then all of them from the data set
        drawn = 0
        for given, _ in enumerate(itertools.islice(bench.capture_many(endless(1500)), 1500), 1):
            assert drawn - given <= READ_AHEAD + BATCH
    assert bench.asked == 1500


def test_device_that_goes_away_keeps_what_came(dataset: Dataset) -> None:
    jobs = make_jobs(dataset, 200)
    received: list[Outcome] = []
    with pytest.raises(DeviceUnreachableError):
        received.extend(Bench(dataset, FakeIsp(answers=101), purpose="collect").capture_many(jobs))
    assert len(received) == len(dataset.captures()) == 101
    device = FakeIsp()
    assert len(list(Bench(dataset, device, purpose="collect").capture_many(jobs))) == 200
    assert len(device.asked) == 99


def test_interrupt_keeps_what_came(dataset: Dataset) -> None:
    class Interrupted(FakeIsp):
        def process(self, raw, parameters):  # type: ignore[no-untyped-def]
            if len(self.asked) == 30:
                raise KeyboardInterrupt
            return super().process(raw, parameters)

    with pytest.raises(KeyboardInterrupt):
        list(Bench(dataset, Interrupted(), purpose="collect").capture_many(make_jobs(dataset, 200)))
    assert len(dataset.captures()) == 30


def test_consumer_that_stops_keeps_what_came(dataset: Dataset) -> None:
    device = FakeIsp()
    stream = Bench(dataset, device, purpose="collect").capture_many(make_jobs(dataset, 300))
    list(itertools.islice(stream, 10))
    stream.close()  # type: ignore[attr-defined]
    assert len(device.asked) == len(dataset.captures()) >= 10


def test_slow_device_commits_every_capture(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    device = FakeIsp()
    for given, _ in enumerate(Bench(dataset, device, purpose="collect").capture_many(make_jobs(dataset, 20)), 1):
        assert len(device.asked) == given == len(dataset.captures())


def test_the_device_goes_on_while_a_batch_is_kept(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    gone_on = threading.Event()
    seen = []

    class Watched(FakeIsp):
        def process(self, raw, parameters):  # type: ignore[no-untyped-def]
            if len(self.asked) == BATCH + BATCH // 2:
                gone_on.set()
            return super().process(raw, parameters)

    add = dataset.add_captures

    def slowly(*args: Any, **options: Any) -> Any:
        seen.append(gone_on.wait(60))
        return add(*args, **options)

    monkeypatch.setattr(dataset, "add_captures", slowly)
    monkeypatch.setattr(keeping, "BATCH_S", 1e9)
    jobs = make_jobs(dataset, 2 * BATCH)
    records = list(Bench(dataset, Watched(), purpose="collect").capture_many(jobs))
    assert [(r.raw_hash, r.parameters_hash) for r in records] == keys(jobs)
    assert seen == [True, True]


def test_failed_commit_is_not_tried_again(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def refuse(*_: object, **__: object) -> None:
        calls.append(1)
        raise DatasetError("disk is full")

    monkeypatch.setattr(dataset, "add_captures", refuse)
    with pytest.raises(DatasetError, match="disk is full"):
        list(Bench(dataset, FakeIsp(), purpose="collect").capture_many(make_jobs(dataset, BATCH)))
    assert calls == [1]


def test_answer_to_nothing_is_refused(dataset: Dataset) -> None:
    class Confused(FakeIsp):
        def process_many(self, jobs):  # type: ignore[no-untyped-def]
            for raw, _ in jobs:
                yield self.process(raw, make_set(999))

    with pytest.raises(DeviceError, match="answers a request that nobody made"):
        list(Bench(dataset, Confused(), purpose="collect").capture_many(make_jobs(dataset, 3)))
    assert dataset.captures() == []


def test_bench_can_be_asked_while_it_streams(dataset: Dataset) -> None:
    jobs = make_jobs(dataset, 100)
    bench = Bench(dataset, FakeIsp(), purpose="collect")
    seen = [bench.capture(*job).id == record.id for job, record in zip(jobs, bench.capture_many(jobs), strict=True)]
    assert all(seen)
    assert len(seen) == len(dataset.captures()) == 100


def test_parameters_of_another_space(dataset: Dataset) -> None:
    bench = Bench(dataset, FakeIsp(), purpose="collect")
    raw = dataset.raws()[0]
    renamed = ParameterSpace.from_dict({**SPACE.to_dict(), "name": "same registers"})
    assert bench.capture(raw, renamed.defaults).codes == bench.capture(raw, SPACE.defaults).codes
    other = ParameterSpace(name="other", parameters=SPACE.parameters[:2])
    with pytest.raises(ParameterError, match="do not match tiny"):
        bench.capture(raw, other.defaults)


def test_raws_beyond_the_memory_are_read_again(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.collect.bench.RAW_CACHE_BYTES", make_raw(0).mosaic.nbytes)
    loads: list[str] = []
    load = RawRecord.load

    def counted(self: RawRecord):  # type: ignore[no-untyped-def]
        loads.append(self.name)
        return load(self)

    monkeypatch.setattr(RawRecord, "load", counted)
    bench = Bench(dataset, FakeIsp(), purpose="collect")
    jobs = make_jobs(dataset, 6)
    assert len(list(bench.capture_many([*jobs, (jobs[-1][0], make_set(50))]))) == 7
    assert len(loads) == 6
