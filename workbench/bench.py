"""The bench: captures are the currency. Reads the data set first, asks the device for the rest, stores, then yields."""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict, deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

from drivers.device import Capture, Device, Failure, FrameFailedError
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from workbench.dataset import CaptureRecord, Dataset, RawRecord

BATCH = 64
BATCH_S = 0.5
READ_AHEAD = 512
RAW_CACHE_BYTES = 256 * 2**20

Key = tuple[str, str]
Request = tuple[RawFrame, ParameterSet]


@dataclass
class _Slot:
    """One job in its place; ``record`` is there once it is committed."""

    record: CaptureRecord | None = None


class Bench:
    """Captures from a data set and a device together.

    Attributes:
        info: the device.
        asked: captures that the device made; ``reused``: jobs answered without asking the device.
    """

    def __init__(self, dataset: Dataset, device: Device, *, purpose: str) -> None:
        self.dataset = dataset
        self.device = device
        self.purpose = purpose
        self.info = device.info()
        self.asked = 0
        self.reused = 0
        self._raws: OrderedDict[str, RawFrame] = OrderedDict()
        self._raw_bytes = 0

    def capture(self, raw: RawRecord, parameters: ParameterSet) -> CaptureRecord:
        """One capture, committed.

        Raises:
            DeviceError, DatasetError: see :meth:`capture_many`.
        """
        return next(iter(list(self.capture_many([(raw, parameters)]))))

    def capture_many(self, jobs: Iterable[tuple[RawRecord, ParameterSet]]) -> Iterator[CaptureRecord]:
        """Captures of many jobs, in their order; what is yielded is committed.

        Jobs are drawn up to ``READ_AHEAD`` ahead of what is yielded. New captures are committed when ``BATCH`` have
        come, or when one comes ``BATCH_S`` seconds or more after the last commit. Equal jobs ask the device once.
        Whatever ends the stream early (an error, Ctrl-C, a consumer that stops), what came is committed first.

        Raises:
            DeviceError: the device refused or went away.
            ParameterError: a parameter set does not fit the device.
            DatasetError: the captures could not be stored.
        """
        yield from _Stream(self).run(jobs)

    def fitted(self, parameters: ParameterSet) -> ParameterSet:
        """The set in the device's own space.

        Raises:
            ParameterError: the device has other parameters, or a code is out of its range.
        """
        space = self.info.space
        if parameters.space is space or parameters.space.hash == space.hash:
            return parameters
        return space.from_codes(dict(zip(parameters.space.names, parameters.codes, strict=True)))

    def load(self, raw: RawRecord) -> RawFrame:
        """The frame of a RAW, from memory where it was used lately."""
        frame = self._raws.get(raw.hash)
        if frame is not None:
            self._raws.move_to_end(raw.hash)
            return frame
        frame = raw.load()
        self._raws[raw.hash] = frame
        self._raw_bytes += frame.mosaic.nbytes
        while self._raw_bytes > RAW_CACHE_BYTES and len(self._raws) > 1:
            self._raw_bytes -= self._raws.popitem(last=False)[1].mosaic.nbytes
        return frame


class _Stream:
    """The state of one :meth:`Bench.capture_many`."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.pending: deque[_Slot] = deque()
        self.waiting: dict[Key, list[_Slot]] = {}

    def run(self, jobs: Iterable[tuple[RawRecord, ParameterSet]]) -> Iterator[CaptureRecord]:
        source = self.requests(jobs)
        for first in source:
            if first is not None:
                # A job that only the device can answer: keep it busy from here on until the read-ahead is full.
                yield from self.ask(itertools.chain([first], _until_none(source)))
            yield from self.ready()
        yield from self.ready()

    def requests(self, jobs: Iterable[tuple[RawRecord, ParameterSet]]) -> Iterator[Request | None]:
        """What the device has to be asked; None where what is ready must be taken before more is read."""
        source = iter(jobs)
        while chunk := list(itertools.islice(source, BATCH)):
            if len(self.pending) > READ_AHEAD - BATCH:
                yield None
            for raw, parameters in self.look_up(chunk):
                yield self.bench.load(raw), parameters

    def look_up(self, jobs: list[tuple[RawRecord, ParameterSet]]) -> list[tuple[RawRecord, ParameterSet]]:
        """Queue a slot for every job; gives the jobs that nobody has asked yet."""
        keyed = [((raw.hash, parameters.hash), raw, parameters) for raw, parameters in jobs]
        keys = [key for key, _, _ in keyed if key not in self.waiting]
        found = self.bench.dataset.find(self.bench.info.identity, keys)
        new = []
        for key, raw, parameters in keyed:
            slot = _Slot(found.get(key))
            self.pending.append(slot)
            if slot.record is not None:
                self.bench.reused += 1
            elif key in self.waiting:
                self.bench.reused += 1
                self.waiting[key].append(slot)
            else:
                self.waiting[key] = [slot]
                new.append((raw, self.bench.fitted(parameters)))
        return new

    def ask(self, requests: Iterator[Request]) -> Iterator[CaptureRecord]:
        batch: list[Capture] = []
        last = time.monotonic()
        stream = self.bench.device.process_many(requests)
        try:
            for capture in stream:
                if isinstance(capture, Failure):
                    raise FrameFailedError.of(self.bench.device.url, capture)
                batch.append(capture)
                if len(batch) >= BATCH or time.monotonic() - last >= BATCH_S:
                    self.commit(batch)
                    last = time.monotonic()
                    yield from self.ready()
        except Exception:
            self.commit(batch)
            yield from self.ready()
            raise
        finally:
            self.commit(batch)
            if isinstance(stream, Generator):
                stream.close()

    def commit(self, batch: list[Capture]) -> None:
        # Emptied first: a batch that could not be stored is not tried again on the way out.
        captures = list(batch)
        batch.clear()
        if not captures:
            return
        for capture in captures:
            if (capture.raw_hash, capture.parameters.hash) not in self.waiting:
                raise DeviceError(f"{self.bench.device.url}: frame {capture.frame} answers a request that nobody made")
        for record in self.bench.dataset.add_captures(self.bench.info, captures, purpose=self.bench.purpose):
            self.bench.asked += 1
            for slot in self.waiting.pop((record.raw_hash, record.parameters_hash)):
                slot.record = record

    def ready(self) -> Iterator[CaptureRecord]:
        while self.pending and (record := self.pending[0].record) is not None:
            self.pending.popleft()
            yield record


def _until_none(source: Iterator[Request | None]) -> Iterator[Request]:
    for request in source:
        if request is None:
            return
        yield request
