"""The bench: captures are the currency. Reads the data set first, asks the device for the rest, stores, then yields.

Every output is decoded and compared with its RAW's size before it is stored. A frame that the device refused, or whose
output is no picture of the RAW, is stored as a failure with its reason, takes the capture's place in what is yielded,
and is not asked for again.

What is asked is claimed first: a capture that another process is at, on this host or another, is waited for and read.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cachetools import LRUCache, cached

from drivers import stopping
from drivers.device import Capture, Device, Failure
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from workbench.collect import faults
from workbench.collect.failures import FailureTally, described, reason_text
from workbench.collect.keeping import Outcome, judged, kept
from workbench.lab.dataset import CaptureRecord, Dataset, FailureRecord, RawRecord
from workbench.lab.dataset.claims import Claims

BATCH = 64
READ_AHEAD = 512
CLAIMED_S = 1.0
"""As many jobs are claimed at once, up to ``BATCH``, as the device takes in this many seconds."""
FIRST = 8
LOOK_S, GLANCE_S, LOOK = 0.25, 1.0, 256
"""Seconds between two looks at what others are at, while they are waited for and while there is work of one's own; and
how much of it is claimed at once."""
PATIENCE_S = 600.0
"""After so many seconds in which others came to nothing the device is asked for what they claimed."""
RAW_CACHE_BYTES = 128 * 2**20

Key = tuple[str, str]
Request = tuple[RawFrame, ParameterSet]


@dataclass
class _Slot:
    """One job in its place; ``record`` is there once it is committed."""

    record: Outcome | None = None


@dataclass
class _Asked:
    """What the device is asked, and every slot that waits for it."""

    raw: RawRecord
    parameters: ParameterSet
    slots: list[_Slot]


class Bench:
    """Captures from a data set and a device together.

    Attributes:
        info: the device.
        asked: captures that the device made; ``reused``: jobs answered without asking the device.
        tally: the frames asked now, and why those failed that did.
    """

    def __init__(self, dataset: Dataset, device: Device, *, purpose: str, patience: int = 1) -> None:
        """``patience`` of :class:`~workbench.collect.failures.FailureTally`: how many frames may fail together."""
        self.dataset = dataset
        self.device = device
        self.purpose = purpose
        self.info = device.info()
        self.asked = 0
        self.reused = 0
        self.tally = FailureTally(patience)
        self.claims = Claims(dataset.database, self.info, device.url, purpose)
        # A RAW that is larger than the memory for all of them is kept alone.
        most = RAW_CACHE_BYTES
        raws = LRUCache[str, RawFrame](most, getsizeof=lambda frame: min(frame.mosaic.nbytes, most))
        self._load = cached(raws, key=lambda raw: raw.hash)(_load)

    def capture(self, raw: RawRecord, parameters: ParameterSet) -> CaptureRecord:
        """One capture, committed.

        Raises:
            DeviceError: the frame failed; and as of :meth:`capture_many`.
            DatasetError: see :meth:`capture_many`.
        """
        (outcome,) = self.capture_many([(raw, parameters)])
        if isinstance(outcome, FailureRecord):
            raise DeviceError(
                f"{self.device.url}: {described(raw.name, parameters)}: {reason_text(outcome.code, outcome.reason)}"
            )
        return outcome

    def capture_many(
        self, jobs: Iterable[tuple[RawRecord, ParameterSet]], *, in_order: bool = True
    ) -> Iterator[Outcome]:
        """What many jobs came to, captures and failures, in the order of the jobs; what is yielded is committed.

        Without ``in_order`` those that other processes are at come when these have made them.

        Jobs are drawn up to ``READ_AHEAD`` ahead of what is yielded. New captures are committed when ``BATCH`` have
        come, or when one comes ``BATCH_S`` seconds or more after the last commit. Equal jobs ask the device once.
        Whatever ends the stream early (an error, Ctrl-C, a consumer that stops), what came is committed first. A job
        that failed before, now or in an earlier run, is answered with that failure: the device is not asked again.

        Raises:
            TooManyFailuresError: too many frames failed, see :mod:`workbench.collect.failures`.
            DeviceError: the device went away.
            ParameterError: a parameter set does not fit the device.
            DatasetError: the captures could not be stored.
        """
        yield from _Stream(self, in_order).run(jobs)

    def fitted(self, parameters: ParameterSet) -> ParameterSet:
        """The set in the device's own space.

        Raises:
            ParameterError: the device has other parameters, or a code is out of its range.
        """
        return self.info.space.take(parameters)

    def load(self, raw: RawRecord) -> RawFrame:
        """The frame of a RAW, from memory where it was used lately."""
        return self._load(raw)


def _load(raw: RawRecord) -> RawFrame:
    return raw.load()


class _Stream:
    """The state of one :meth:`Bench.capture_many`."""

    def __init__(self, bench: Bench, in_order: bool) -> None:
        self.bench = bench
        self.in_order = in_order
        self.pending: deque[_Slot] = deque()
        self.waiting: dict[Key, _Asked] = {}
        self.others: dict[Key, _Asked] = {}
        """What other processes are at."""
        self.looked = self.heard = time.monotonic()

    def run(self, jobs: Iterable[tuple[RawRecord, ParameterSet]]) -> Iterator[Outcome]:
        source = self.requests(jobs)
        try:
            for first in source:
                if first is not None:
                    # A job that only the device can answer: keep it busy from here on until the read-ahead is full.
                    yield from self.ask(itertools.chain([first], _until_none(source)))
                yield from self.ready()
            yield from self.ready()
        finally:
            self.bench.claims.release()

    def requests(self, jobs: Iterable[tuple[RawRecord, ParameterSet]]) -> Iterator[Request | None]:
        """What the device has to be asked; None where what is ready must be taken before more is read."""
        source, size = iter(jobs), FIRST
        while (chunk := list(itertools.islice(source, size))) or self.others:
            if not chunk or len(self.pending) > READ_AHEAD - BATCH:
                yield None
            begin = time.monotonic()
            wait = bool(self.others) and (not chunk or len(self.pending) > READ_AHEAD - BATCH)
            for raw, parameters in itertools.chain(self.look_at_others(wait), self.look_up(chunk)):
                yield self.bench.load(raw), parameters
            took = time.monotonic() - begin
            size = min(2 * size, BATCH) if took < CLAIMED_S / 2 else max(size // 2, 1) if took > CLAIMED_S else size

    def look_up(self, jobs: list[tuple[RawRecord, ParameterSet]]) -> list[tuple[RawRecord, ParameterSet]]:
        """Queue a slot for every job; gives the jobs that nobody has asked yet."""
        keyed = [((raw.hash, parameters.hash), raw, parameters) for raw, parameters in jobs]
        keys = [key for key, _, _ in keyed if key not in self.waiting and key not in self.others]
        mine, found = self.claimed(list(dict.fromkeys(keys)))
        new = []
        for key, raw, parameters in keyed:
            slot = _Slot(found.get(key))
            at = self.waiting.get(key) or self.others.get(key)
            if slot.record is None and at is None:
                asked = _Asked(raw, self.bench.fitted(parameters), [slot])
                if key in mine:
                    self.waiting[key] = asked
                    new.append((raw, asked.parameters))
                else:
                    self.heard = self.heard if self.others else time.monotonic()
                    self.others[key] = asked
            else:
                self.bench.reused += 1
                faults.count(reused=1)
                if at is not None:
                    at.slots.append(slot)
            if self.in_order or key not in self.others:
                self.pending.append(slot)
        return new

    def found(self, keys: list[Key]) -> dict[Key, Outcome]:
        """What is in the data set."""
        return self.bench.dataset.outcomes(self.bench.info.identity, keys)

    def claimed(self, keys: list[Key]) -> tuple[set[Key], dict[Key, Outcome]]:
        """Which of these are to be asked of the device, and what the data set has; others are at the rest."""
        claims = self.bench.claims
        if not claims.alone:
            held = claims.held()
            return self.claim([key for key in keys if key not in held])
        # Nothing is written where all is known.
        found = self.found(keys)
        missing = [key for key in keys if key not in found]
        if not missing:
            return set(), found
        mine = claims.take(missing)
        if claims.alone:
            return mine, found
        again = self.found(missing)
        claims.done(mine & again.keys())
        return mine - again.keys(), found | again

    def claim(self, keys: list[Key], *, whoever_has_them: bool = False) -> tuple[set[Key], dict[Key, Outcome]]:
        """As :meth:`claimed`, where others are at work: what was made is looked for once it is nobody else's."""
        if not keys:
            return set(), {}
        mine = self.bench.claims.take(keys, whoever_has_them=whoever_has_them)
        found = self.found(list(mine))
        self.bench.claims.done(found)
        return mine - found.keys(), found

    def look_at_others(self, wait: bool) -> Iterator[tuple[RawRecord, ParameterSet]]:
        """Take what others have made by now; gives the jobs that they let go of, or did not live to make."""
        while self.others and (wait or time.monotonic() - self.looked > GLANCE_S):
            self.bench.claims.renew(let_go=True)  # else two would wait for what both have made
            impatient = time.monotonic() - self.heard > PATIENCE_S
            held = set() if impatient else self.bench.claims.held()
            free = [key for key in self.others if key not in held][:LOOK]
            # Most were made by whoever had claimed them: only what is left is to be claimed.
            found = self.found(free)
            left = [key for key in free if key not in found]
            mine, made = self.claim(left, whoever_has_them=impatient)
            found |= made
            self.looked = time.monotonic()
            for key, record in found.items():
                asked = self.others.pop(key)
                for slot in asked.slots:
                    slot.record = record
                    self.bench.reused += 1
                    faults.count(reused=1)
                    if not self.in_order:
                        self.pending.append(slot)
            new = {key: self.others.pop(key) for key in mine}
            for key, asked in new.items():
                self.waiting[key] = asked
                if not self.in_order:
                    self.pending += asked.slots
                yield asked.raw, asked.parameters
            if found or mine:
                self.heard = self.looked
                return
            if not wait:
                return
            stopping.check()
            time.sleep(LOOK_S)

    def ask(self, requests: Iterator[Request]) -> Iterator[Outcome]:
        device = self.bench.device
        return kept(
            device.url,
            device.process_many(requests),
            self.accepted,
            judge=_judged,
            keep=self.store,
            take=self.take,
            ready=self.ready,
            tally=self.bench.tally,
            batch=BATCH,
        )

    def accepted(self, answer: Capture | Failure) -> tuple[Capture | Failure, RawRecord]:
        """The answer, and the RAW that it must be of.

        Raises:
            DeviceError: nobody asked for it.
        """
        asked = self.waiting.get((answer.raw_hash, answer.parameters.hash))
        if asked is None:
            what = f"frame {answer.frame}" if isinstance(answer, Capture) else f"the failure {answer.reason!r}"
            raise DeviceError(f"{self.bench.device.url}: {what} answers a request that nobody made")
        self.bench.claims.renew()
        return answer, asked.raw

    def store(self, answers: list[tuple[Capture | Failure, RawRecord]]) -> list[Outcome]:
        """Keep answers durably; touches nothing but the data set."""
        bench, records = self.bench, list[Outcome]()
        if captures := [a for a, _ in answers if isinstance(a, Capture)]:
            records += bench.dataset.add_captures(bench.info, captures, purpose=bench.purpose)
        if failures := [a for a, _ in answers if isinstance(a, Failure)]:
            records += bench.dataset.add_failures(bench.info, failures, purpose=bench.purpose)
        return records

    def take(self, records: list[Outcome]) -> None:
        """Put what was kept into the slots that wait for it."""
        bench = self.bench
        failed = sum(isinstance(record, FailureRecord) for record in records)
        bench.asked += len(records) - failed
        faults.count(asked=len(records) - failed, failed=failed)
        for record in records:
            asked = self.waiting.pop((record.raw_hash, record.parameters_hash), None)
            if asked is None:  # answered twice
                continue
            if isinstance(record, FailureRecord):
                bench.tally.add(record.code, record.reason, described(asked.raw.name, asked.parameters))
            else:
                bench.tally.made()
            for slot in asked.slots:
                slot.record = record
        bench.claims.done((record.raw_hash, record.parameters_hash) for record in records)

    def ready(self) -> Iterator[Outcome]:
        while self.pending and (record := self.pending[0].record) is not None:
            self.pending.popleft()
            yield record


def _judged(answered: tuple[Capture | Failure, RawRecord]) -> tuple[Capture | Failure, RawRecord]:
    answer, raw = answered
    return judged(answer, raw.width, raw.height), raw


def _until_none(source: Iterator[Request | None]) -> Iterator[Request]:
    for request in source:
        if request is None:
            return
        yield request
